"""What the command line tells people when something is wrong: what, where, and what to do next."""

from __future__ import annotations


class OncallError(Exception):
    """The root of this room's errors; its text is the whole message."""


class SettingsError(OncallError):
    """A setting is missing, misspelt or has a wrong value."""


class UsageError(OncallError):
    """What was asked for cannot be done as asked."""
