"""Cron schedules as the CronJob controller reads them (robfig/cron v3, ParseStandard): five fields or a descriptor.

It only says whether a schedule can be parsed and can ever fire; it computes no times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
# time.ParseDuration of Go: signed decimals with units, at least one.
_DURATION = re.compile(r"^[+]?(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+$")
_ZONE = re.compile(r"^(?:CRON_)?TZ=(\S+)\s+")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def fault_of(schedule: str) -> str | None:
    """What is wrong with a schedule, in words; None when the controller can parse it and some date fits it."""
    text = _ZONE.sub("", schedule.strip())
    if not text:
        return "it is empty"
    if text.startswith("@"):
        return _descriptor_fault(text)
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"it has {len(fields)} field(s) instead of {len(_FIELDS)}"
    values: list[frozenset[int]] = []
    for field, (name, low, high, words) in zip(fields, _FIELDS, strict=True):
        parsed = _parse_field(field, low, high, words)
        if isinstance(parsed, str):
            return f"its {name} {field!r} {parsed}"
        values.append(parsed)
    days, months = values[2], values[3]
    # With a day of week given too, either may match; only a lone impossible date never fires.
    if fields[4] in ("*", "?") and not any(min(days) <= _LONGEST_MONTH.get(month, 31) for month in months):
        return f"no month {fields[3]} has a day {fields[2]}, so it never fires"
    return None


def _descriptor_fault(text: str) -> str | None:
    if text in _DESCRIPTORS:
        return None
    if text.startswith("@every "):
        return None if _DURATION.match(text.removeprefix("@every ").strip()) else "its duration cannot be parsed"
    return f"{text.split()[0]} is no known descriptor"


def _parse_field(field: str, low: int, high: int, words: Mapping[str, int]) -> frozenset[int] | str:
    """The values that a field allows, or what is wrong with it."""
    values: set[int] = set()
    for part in field.split(","):
        parsed = _parse_part(part, low, high, words)
        if isinstance(parsed, str):
            return parsed
        values.update(parsed)
    return frozenset(values)


def _parse_part(part: str, low: int, high: int, words: Mapping[str, int]) -> range | str:
    span, slash, step_text = part.partition("/")
    first, dash, last = span.partition("-")
    if first in ("*", "?") and not dash:
        start, end = low, high
    else:
        numbers = [_number(item, words) for item in (first, last) if item or dash]
        if any(number is None for number in numbers) or not numbers:
            return "is no number, range or name"
        start = numbers[0] or 0
        end = (numbers[1] or 0) if dash else (high if slash else start)
    if slash and not (step_text.isascii() and step_text.isdigit() and int(step_text) > 0):
        return "has a step that is no positive number"
    if start < low or end > high:
        return f"lies outside {low} to {high}"
    if start > end:
        return "begins after its end"
    return range(start, end + 1, int(step_text) if slash else 1)


def _number(text: str, words: Mapping[str, int]) -> int | None:
    return words.get(text.lower(), int(text) if text.isascii() and text.isdigit() else None)
