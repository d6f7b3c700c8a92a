"""Actions for real: proposed, approved, executed and verified by the command line on the lab's API server."""
