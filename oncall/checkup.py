"""What a check finds: a line with its mark, what it is about, and what to do next. Data only."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Mark(StrEnum):
    """GOOD; MISSING: something works less well without it; EXCESS: more than is needed, so more than should be there;
    BROKEN: nothing works until it is mended.
    """

    GOOD = "ok"
    MISSING = "missing"
    EXCESS = "too much"
    BROKEN = "broken"


class Line(NamedTuple):
    mark: Mark
    what: str
    detail: str = ""
    next_step: str = ""
