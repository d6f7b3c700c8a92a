"""What can go wrong out there, in words that say what, where and what to do next."""

from __future__ import annotations


class ClusterError(Exception):
    """The root of this room's errors."""


class RecordingError(ClusterError):
    """A recording cannot be read."""


class UnreachableClusterError(ClusterError):
    """The API server cannot be reached, or does not accept the credential."""
