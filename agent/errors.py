"""What can go wrong in this room, in words that say what, where and what to do next."""

from __future__ import annotations


class AgentError(Exception):
    """The root of this room's errors."""


class StoreError(AgentError):
    """The store of investigations cannot be used."""


class ModelError(AgentError):
    """The language model gave no usable answer: unreachable, refused, out of budget, or not what was asked for."""
