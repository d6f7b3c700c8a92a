"""Which scenarios can be set in one cluster at the same time, so that forty of them need minutes and not half an hour.

Two can when neither says that it wants the cluster for itself and they make no namespace and no cluster-wide object of one name. Those
that must age first age together.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from tests.lab import scenario
from tests.lab.scenario import Scenario

SIZE = 28
FILES = ("manifests.yaml", "change.yaml", "repair.yaml")

Batch = tuple[Scenario, ...]


def batches(names: Iterable[str], size: int = SIZE) -> tuple[Batch, ...]:
    """All of the scenarios, each in one batch; the youngest first."""
    made: list[tuple[list[Scenario], set[tuple[str, str]]]] = []
    for scene in sorted(map(scenario.read, names), key=lambda one: (one.expect.age_seconds, one.expect.alone, one.name)):
        claimed = cluster_wide(scene)
        for batch, taken in made:
            if len(batch) < size and not taken & claimed and _companions(batch, scene):
                batch.append(scene)
                taken |= claimed
                break
        else:
            made.append(([scene], claimed))
    return tuple(tuple(batch) for batch, _ in made)


def quick(batch: Sequence[Scenario]) -> bool:
    """Whether a batch may run with every commit: nothing in it has to age."""
    return not any(scene.expect.age_seconds for scene in batch)


def _companions(batch: Sequence[Scenario], scene: Scenario) -> bool:
    first = batch[0].expect
    return not first.alone and not scene.expect.alone and bool(first.age_seconds) == bool(scene.expect.age_seconds)


def cluster_wide(scene: Scenario) -> set[tuple[str, str]]:
    """(kind, name) of the cluster-wide objects that a scenario applies."""
    now = datetime.datetime.now(datetime.UTC)
    applied = (one for file in FILES for one in scene.manifests(file, now))
    return {(one["kind"], one["metadata"]["name"]) for one in applied if "namespace" not in one["metadata"]}
