"""Small worlds that are built to mislead: each is one YAML file with what it is about, what must be said of it, and its objects."""
