"""Moments in the forms that recordings and monitoring tools write them, and as people read them. Without a zone they are taken as UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

# Digits beyond microseconds are cut: CRI logs and Prometheus write nanoseconds, datetime keeps six digits.
_FRACTION = re.compile(r"(\.\d{6})\d+")
_RANGE = re.compile(r"\s+(?:~|to|-|–|→)\s+")


def parse_time(value: Any) -> datetime | None:
    """RFC 3339, `YYYY-MM-DD HH:MM:SS`, epoch seconds, milli-, micro- or nanoseconds, or the start of a range; None otherwise."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, bool) or value is None:
        return None
    text = _RANGE.split(str(value).strip(), maxsplit=1)[0]
    if re.fullmatch(r"\d{9,19}(?:\.\d+)?", text):
        return _epoch(float(text))
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _epoch(number: float) -> datetime | None:
    # 1e11 seconds is the year 5138, 1e11 milliseconds is 1973: the magnitude tells the unit for every moment since then.
    while number >= 1e11:
        number /= 1000
    try:
        return datetime.fromtimestamp(number, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None


def age(then: datetime | None, now: datetime) -> str:
    """How long ago, in its largest unit: `45s`, `12m`, `7h`, `3d`; `0s` for what a clock that is ahead says of the future, `?` for None."""
    if then is None:
        return "?"
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
