"""The present level of measurements by the pod that they belong to, so that replicas of one workload can be judged against each other.

It knows names of metrics only as patterns that its callers give, and no thresholds.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Evidence, Source, cite
from runbooks.measurement import NAME_LABEL, Change, Locator, change_of, rates

DEVICE_LABELS = ("gpu", "UUID", "device")


class Level(Struct, frozen=True):
    """The present level of one series: median of its last quarter."""

    ref: ObjectRef
    series: Series
    name: str
    value: float

    @property
    def device(self) -> str:
        """The device that it is about, "" where it is about none."""
        return next((self.series.labels[key] for key in DEVICE_LABELS if self.series.labels.get(key)), "")

    @property
    def evidence(self) -> Evidence:
        device = self.device
        return cite(Source.METRIC, self.ref, f"{self.name}{f' gpu {device}' if device else ''}", f"{self.value:.4g}")

    @property
    def change(self) -> Change | None:
        """How it came to this level; None where there are too few samples to tell."""
        return change_of(self.series)


Levels = dict[ObjectRef, Level]


def levels(world: World, pattern: re.Pattern[str]) -> Iterator[Level]:
    """The present level of every series whose name fits; of a counter, how much it grows a second."""
    named = world.once(_by_name)
    for name, series in ((key, item) for key in named if pattern.search(key) for item in named[key]):
        ref = world.once(Locator).locate(series.labels)
        samples = rates(series).samples if name.endswith("_total") else series.samples
        if ref is not None and samples:
            last = samples[-max(1, len(samples) // 4) :]
            yield Level(ref, Series(series.labels, samples), name, statistics.median(item.value for item in last))


def _by_name(world: World) -> dict[str, list[Series]]:
    """Series by the name of their metric: many patterns ask, and a fleet has twenty thousand series of forty names."""
    grouped: dict[str, list[Series]] = defaultdict(list)
    for series in world.telemetry.series:
        if series.samples:
            grouped[series.labels.get(NAME_LABEL, "")].append(series)
    return grouped


def by_pod(world: World, pattern: re.Pattern[str]) -> Levels:
    """pod -> its highest level: of several engines or models in one pod, the worst."""
    found: Levels = {}
    for level in levels(world, pattern):
        if level.ref.kind == Pod.kind and (level.ref not in found or found[level.ref].value < level.value):
            found[level.ref] = level
    return found


def by_workload(world: World, pattern: re.Pattern[str]) -> dict[ObjectRef, Levels]:
    """workload -> pod -> its highest level."""
    grouped: dict[ObjectRef, Levels] = defaultdict(dict)
    for ref, level in by_pod(world, pattern).items():
        grouped[world.top_owner(ref)][ref] = level
    return grouped


def node_of(world: World, ref: ObjectRef) -> ObjectRef | None:
    """The node that an object is, or that a pod runs on."""
    if ref.kind == Node.kind:
        return ref
    pod = world.get(Pod, ref.namespace, ref.name) if ref.kind == Pod.kind else None
    return ObjectRef(Node.kind, None, pod.spec.node_name) if pod is not None and pod.spec.node_name else None


def since(moment: datetime | None) -> str:
    """` since 14:02` for people, "" where nobody knows."""
    return f" since {moment:%H:%M}" if moment is not None else ""
