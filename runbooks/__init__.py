"""What we know: detectors, causes, plans, remedies and the runbook pages. Pure functions over facts; no I/O but its own data files."""
