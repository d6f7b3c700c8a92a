"""What a tool says instead of an answer: words that a model or a person can act on; and what keeps the HTTP server from serving."""

from __future__ import annotations


class ToolRefusal(Exception):  # noqa: N818 (it is an answer that a caller acts on, not a failure)
    """A readable answer that something cannot be done: what was wrong, the nearest valid values, what to do next."""


class IssuerError(Exception):
    """The issuer of access tokens is configured wrongly or cannot be read, so nobody can be told from anybody."""


class EndpointError(Exception):
    """The HTTP server may not, or cannot, listen as asked."""
