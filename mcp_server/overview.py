"""Many causes on one page: a line for each fault with whom it befalls, before the worst are told in detail.

What a cluster suffers from is read first in breadth: a page that details three of twenty-five causes hides the others. It shortens and
never rewords; which causes are the same fault is `runbooks.faults`' to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from guardrails.redact import present
from mcp_server.result import HARD_BYTES
from runbooks.document import object_document
from runbooks.faults import Fault, faults
from runbooks.finding import Cause


class _Level(Struct, frozen=True):
    """How many objects of a fault are named, with how much of what each says, and how much of the first one's explanation."""

    objects: int
    difference: int
    explanation: int


LEVELS = (_Level(40, 80, 300), _Level(20, 50, 200), _Level(20, 0, 150), _Level(8, 0, 120), _Level(3, 0, 80), _Level(1, 0, 60))


def overview(causes: Sequence[Cause], budget_bytes: int) -> list[dict[str, Any]]:
    """The `faults` member of a document: every fault with its count and the objects that there is room for. Where even one object of each
    is too much, the last faults are left out."""
    found = faults(causes)
    told: list[dict[str, Any]] = []
    for level in LEVELS:
        told = [_document(fault, level) for fault in found]
        if _size(told) <= budget_bytes:
            return told
    used = 0
    for place, fault in enumerate(told):
        used += _size([fault])
        if place and used > budget_bytes:
            return told[:place]
    return told


def named(item: dict[str, Any]) -> str:
    """An object of a document in words, `Pod/ml/serve-0`."""
    return "/".join(part for part in (item["kind"], item["namespace"], item["name"]) if part)


def overview_lines(told: Sequence[dict[str, Any]], total: int) -> list[str]:
    """The same as text, a line for each fault, and how many of all causes are in none of the lines."""
    left = total - sum(fault["count"] for fault in told)
    return [*(_line(fault) for fault in told), *([f"{left} causes of other kinds"] if left > 0 else [])]


def _document(fault: Fault, level: _Level) -> dict[str, Any]:
    first = fault.first
    objects = []
    for cause in fault.causes[: level.objects]:
        differs = _cut(fault.difference(cause), level.difference)
        objects.append({**object_document(cause.object), **({"differs": differs} if differs else {})})
    return {
        "code": first.code,
        "class": first.class_ or None,
        "title": first.title,
        "certainty": first.certainty.word,
        "count": len(fault.causes),
        "objects": objects,
        "explanation": _cut(first.explanation, level.explanation),
    }


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 1]}…" if limit else ""


def _size(told: Sequence[dict[str, Any]]) -> int:
    """What the larger of the two forms takes, as in `mcp_server.diagnosis`."""
    return max(sum(len(line.encode()) + 1 for line in overview_lines(told, 0)), len(msgspec.json.encode(told)) // 2)


def _line(fault: dict[str, Any]) -> str:
    objects = ", ".join(f"{named(item)} ({item['differs']})" if "differs" in item else named(item) for item in fault["objects"])
    left = fault["count"] - len(fault["objects"])
    more = f" and {left} more" if left else ""
    kind = fault["class"] or fault["code"]
    text = f"{fault['count']} x {fault['title']} ({fault['certainty']}; {kind}): {objects}{more}. {fault['explanation']}"
    return present(text, HARD_BYTES).replace("\n", " ")
