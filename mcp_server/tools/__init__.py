"""One module per group of tools."""
