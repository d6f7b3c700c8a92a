"""Series for detector tests: levels and steps over the last hour, and a world that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from cluster.reading import Reading, Sample, Series
from cluster.telemetry import Telemetry
from runbooks.finding import Detector, Finding
from tests.runbooks.worlds import NOW, world

START = NOW - timedelta(minutes=60)


def flat(name: str, value: float, /, **labels: str) -> Series:
    """One sample a minute, always the same."""
    return risen(name, value, value, **labels)


def risen(name: str, before: float, now: float, /, **labels: str) -> Series:
    """One sample a minute; the last twenty are at the new level."""
    samples = tuple(Sample(START + timedelta(minutes=at), before if at < 40 else now) for at in range(61))
    return Series({"__name__": name, **labels}, samples)


def grown(name: str, first: float, last: float, /, **labels: str) -> Series:
    """One sample a minute, on a straight line."""
    samples = tuple(Sample(START + timedelta(minutes=at), first + (last - first) * at / 60) for at in range(61))
    return Series({"__name__": name, **labels}, samples)


def findings(detectors: Sequence[Detector], text: str, series: Iterable[Series]) -> list[Finding]:
    """What these detectors find in a world of YAML documents that was measured so."""
    made = world(text).with_telemetry(Reading(Telemetry(series=tuple(series))))
    return [finding for detector in detectors for finding in detector(made)]


def told(detectors: Sequence[Detector], text: str, *series: Series) -> set[tuple[str, str]]:
    """The same as (code, subject)."""
    return {(finding.code, str(finding.subject)) for finding in findings(detectors, text, series)}
