"""One module per command group; what is heavy is imported inside the command that needs it."""
