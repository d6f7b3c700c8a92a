"""What can go wrong out there, in words that say what, where and what to do next."""

from __future__ import annotations


class ClusterError(Exception):
    """The root of this room's errors."""


class RecordingError(ClusterError):
    """A recording cannot be read or written."""


class UnreachableClusterError(ClusterError):
    """The API server cannot be reached, or does not accept the credential."""


class UnknownContextError(ClusterError):
    """No cluster of that name is configured; the message names the near ones."""


class CredentialError(ClusterError):
    """The configuration names a user from which no credential came out."""


class RefusedReadError(ClusterError):
    """Smokejumper reads no such thing, whatever the permissions say: Secrets, and kinds that no server here serves."""


class MonitoringError(ClusterError):
    """The configuration names a monitoring source that cannot be used."""
