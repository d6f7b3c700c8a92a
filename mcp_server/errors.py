"""What a tool says instead of an answer: words that a model or a person can act on. Nothing else of this room is raised on purpose."""

from __future__ import annotations


class ToolRefusal(Exception):  # noqa: N818 (it is an answer that a caller acts on, not a failure)
    """A readable answer that something cannot be done: what was wrong, the nearest valid values, what to do next."""
