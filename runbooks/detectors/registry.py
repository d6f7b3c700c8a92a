"""The tuple of all detectors, and the one function that runs them."""

from __future__ import annotations

from cluster.world import World
from runbooks.finding import Detector, Finding

ALL: tuple[Detector, ...] = ()


def detect(world: World, detectors: tuple[Detector, ...] = ALL) -> tuple[Finding, ...]:
    """Every finding of every detector over one world, in the order of the tuple."""
    return tuple(finding for detector in detectors for finding in detector(world))
