"""The shapes that series have in real monitoring, as samples of a past: levels, ramps, counters, gaps, clocks that are wrong.

Nothing is random: a level waves by a fixed pattern, so that medians and rates are the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

Samples = list[tuple[datetime, float]]
SCRAPE = timedelta(seconds=30)
# Relative deviations of successive samples; their sum is zero.
_WAVE = (0.0, 0.03, -0.02, 0.01, -0.03, 0.02, -0.01)


def moments(end: datetime, minutes: float, every: timedelta = SCRAPE) -> list[datetime]:
    """When a scraper looked, the last time at `end`."""
    count = int(timedelta(minutes=minutes) / every)
    return [end - every * back for back in range(count, -1, -1)]


def level(end: datetime, value: float, minutes: float = 120) -> Samples:
    """A gauge that stays where it is, within three in a hundred."""
    return [(at, value * (1 + _WAVE[index % len(_WAVE)])) for index, at in enumerate(moments(end, minutes))]


def steady(end: datetime, value: float, minutes: float = 120) -> Samples:
    """A gauge that says the same number every time, such as the last error's."""
    return [(at, value) for at in moments(end, minutes)]


def step(end: datetime, before: float, after: float, ago: float, minutes: float = 120) -> Samples:
    """A level that changes `ago` minutes before the end."""
    changed = end - timedelta(minutes=ago)
    return [(at, value) for (at, value) in level(end, before, minutes) if at < changed] + [
        (at, value) for (at, value) in level(end, after, minutes) if at >= changed
    ]


def switched(end: datetime, before: float, after: float, ago: float, minutes: float = 120) -> Samples:
    """A gauge that says one number and, since `ago` minutes before the end, another: a flag, an error's number."""
    changed = end - timedelta(minutes=ago)
    return [(at, before if at < changed else after) for at in moments(end, minutes)]


def ramp(end: datetime, first: float, last: float, minutes: float = 120) -> Samples:
    """A gauge that changes at one pace, then stands."""
    when = moments(end, minutes)
    turn = len(when) * 3 // 4
    return [(at, first + (last - first) * min(index / turn, 1.0)) for index, at in enumerate(when)]


def counter(rates: Iterable[tuple[datetime, float]], start: float = 0.0, resets: Sequence[datetime] = ()) -> Samples:
    """A counter that grows by a rate per second; at each reset the process starts again from zero."""
    total, samples, last = start, Samples(), None
    pending = sorted(resets)
    for at, rate in rates:
        if pending and at >= pending[0]:
            del pending[0]
            total = 0.0
        elif last is not None:
            total += rate * (at - last).total_seconds()
        samples.append((at, total))
        last = at
    return samples


def without(samples: Samples, ago: float, minutes: float) -> Samples:
    """The same with a gap that begins `ago` minutes before the end: the target was not reached."""
    start = samples[-1][0] - timedelta(minutes=ago)
    return [(at, value) for at, value in samples if not start <= at < start + timedelta(minutes=minutes)]


def skewed(samples: Samples, seconds: float) -> Samples:
    """The same by a clock that is ahead by so much, or behind."""
    return [(at + timedelta(seconds=seconds), value) for at, value in samples]
