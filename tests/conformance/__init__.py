"""The server against the protocol's own conformance suite and the Inspector's command line."""
