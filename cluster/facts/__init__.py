"""Frozen msgspec Structs: what detectors read of each kind, nothing more."""
