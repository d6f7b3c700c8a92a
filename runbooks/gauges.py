"""Numbers of its own state that a program prints again and again, where they only ever grow: a backlog, a lag, memory in use.

A program that serves well prints such numbers too, and they rise while it warms up: growth counts when it goes on to the end, no slower
than it began. What a growing number means is for the detectors.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec import Struct

# Fewer samples than these show a moment, not a course.
SAMPLES_LEAST = 20
GROWTH_LEAST = 2.0
# Fewer things than these that wait are soon done. Memory may be told in any unit.
BACKLOG_LEAST = 20.0
_GAUGE = re.compile(
    r"\b(?P<name>(?:consumer[ _-]?|replication[ _-]?)?lag|backlog|queue[ _-]?(?:depth|size|length)|pending[ _-]?messages|"
    r"(?P<memory>(?:heap|memory|mem|rss)(?:[ _-]?(?:used|usage|in[ _]use|size|rss))?))\b"
    r"[\"']?\s*(?:is|at|of)?\s*[:=]?\s*[\"']?(?P<value>\d+(?:\.\d+)?)(?!\d|[.:/-]\d|\s*(?:%|percent|ms\b|s\b|sec))",
    re.IGNORECASE,
)


class Gauge(Struct, frozen=True):
    """A number that kept growing: its name, the medians of the first and of the last quarter of its samples, and the newest line."""

    name: str
    memory: bool
    first: float
    last: float
    samples: int
    text: str


def growing(lines: Sequence[str], shapes: Iterable[Sequence[int]]) -> tuple[Gauge, ...]:
    """The numbers that grow, one for each shape of lines that prints one; `shapes` are the places of lines of one shape."""
    found = []
    for indexes in shapes:
        if len(indexes) < SAMPLES_LEAST or (first := _GAUGE.search(lines[indexes[0]])) is None:
            continue
        values = [float(match["value"]) for index in indexes if (match := _GAUGE.search(lines[index])) is not None]
        course = _quarters(values)
        memory = first["memory"] is not None
        if course is not None and _keeps_growing(course) and (memory or course[-1] - course[0] >= BACKLOG_LEAST):
            found.append(Gauge(first["name"], memory, course[0], course[-1], len(values), lines[indexes[-1]]))
    return tuple(found[:5])


def _quarters(values: list[float]) -> list[float] | None:
    size = len(values) // 4
    if len(values) < SAMPLES_LEAST:
        return None
    return [statistics.median(values[start * size : (start + 1) * size]) for start in range(4)]


def _keeps_growing(course: list[float]) -> bool:
    steps = [after - before for before, after in pairwise(course)]
    return min(steps) > 0 and steps[-1] >= steps[0] / 2 and course[-1] >= GROWTH_LEAST * max(course[0], 1.0)
