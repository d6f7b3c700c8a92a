"""A new revision that is worse than the one it replaces while both serve: more failures, later or slower answers.

Pods that one Service selects are compared by revision: their failures within one workload or between two, their pace within one. Both
sides must have been measured for a while, because a pod that has just begun proves nothing. Limits: a revision without a predecessor that
still serves has no peer.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.levels import Levels, by_pod

_FAILURES = re.compile(r"request_failures_ratio$")
_SECONDS: tuple[tuple[re.Pattern[str], str, float], ...] = (
    (re.compile(r"time_to_first_token_seconds_p95$"), "s to the first token", 0.5),
    (
        re.compile(r"(?:inter_token_latency|time_per_output_token|mean_time_per_token_duration)(?!.*_(?:sum|count|bucket)$)"),
        "s a token",
        0.02,
    ),
    (re.compile(r"request_duration_seconds_p95$"), "s a request", 0.2),
)
# One request in twenty that fails is a fault whatever the revision before did.
FAILING_SHARE = 0.05
WORSE = 3.0
# A server fills caches and compiles kernels before its numbers say anything.
WARM = timedelta(minutes=10)
# After a day on trial it is no canary: two fleets behind one Service may differ for good.
TRIAL = timedelta(days=1)


class _Side(Struct, frozen=True):
    """The pods of one revision behind one Service. `key` is (owner, revision)."""

    owner: ObjectRef
    revision: str
    pods: tuple[Pod, ...]
    began: datetime


def bad_canary(world: World) -> Iterator[Finding]:
    """Services behind which the newest of two revisions fails or is slow while the older one is neither."""
    if not world.telemetry.series:
        return
    failures = by_pod(world, _FAILURES)
    measured = [(by_pod(world, pattern), unit, least) for pattern, unit, least in _SECONDS]
    told: set[tuple[ObjectRef, str]] = set()
    for service in world.all(Service):
        # Of two that began in the same second the smaller one is the trial.
        sides = sorted(_sides(world, service), key=lambda side: (side.began, -len(side.pods), side.revision))
        if len(sides) < 2 or (sides[-1].owner, sides[-1].revision) in told:
            continue
        new, old = sides[-1], sides[-2]
        if world.now - new.began > TRIAL:
            continue
        # Another workload may be slower by design, on another model of accelerator; that it fails is never meant.
        pace = measured if new.owner.same(old.owner) else []
        worse = _fails(failures, old, new) or next((found for item in pace if (found := _slow(*item, old, new))), None)
        if worse is None:
            continue
        told.add((new.owner, new.revision))
        words, evidence = worse
        which = f"Revision {new.revision} of {new.owner}" if new.owner.same(old.owner) else str(new.owner)
        against = f"revision {old.revision}" if new.owner.same(old.owner) else str(old.owner)
        yield Finding(
            "serving.bad-canary",
            new.owner,
            Certainty.LIKELY,
            (*evidence, cite(Source.FIELD, service.ref, "spec.selector", f"sends requests to both {which} and {against}")),
            f"{which} is worse than {against} behind the same Service {service.namespace}/{service.name}: {words}.",
            affects=tuple(pod.ref for pod in new.pods),
            since=new.began,
        )


def _sides(world: World, service: Service) -> Iterator[_Side]:
    """The revisions behind a Service that have ready pods."""
    grouped: dict[tuple[ObjectRef, str], list[Pod]] = defaultdict(list)
    for pod in world.pods_selected(service.namespace, service.spec.selector or {}):
        if pod.ready and pod.created is not None:
            revision = pod.labels.get("pod-template-hash") or pod.labels.get("controller-revision-hash") or ""
            grouped[world.top_owner(pod.ref), revision].append(pod)
    for (owner, revision), pods in grouped.items():
        yield _Side(owner, revision, tuple(pods), min(pod.created for pod in pods if pod.created is not None))


def _of(levels: Levels, side: _Side) -> list[float]:
    """The levels of the pods that were measured for long enough."""
    found = (levels[pod.ref] for pod in side.pods if pod.ref in levels)
    return [level.value for level in found if level.series.samples[-1].at - level.series.samples[0].at >= WARM]


def _proof(levels: Levels, old: _Side, new: _Side) -> tuple[Evidence, ...]:
    pods = (*new.pods[:2], *old.pods[:2])
    return tuple(levels[pod.ref].evidence for pod in pods if pod.ref in levels)


def _fails(levels: Levels, old: _Side, new: _Side) -> tuple[str, tuple[Evidence, ...]] | None:
    before, now = _of(levels, old), _of(levels, new)
    if not before or not now:
        return None
    earlier, latest = statistics.median(before), statistics.median(now)
    if latest < FAILING_SHARE or latest < WORSE * earlier:
        return None
    return f"{latest:.0%} of its requests fail, {earlier:.0%} there", _proof(levels, old, new)


def _slow(levels: Levels, unit: str, least: float, old: _Side, new: _Side) -> tuple[str, tuple[Evidence, ...]] | None:
    before, now = _of(levels, old), _of(levels, new)
    if not before or not now:
        return None
    earlier, latest = statistics.median(before), statistics.median(now)
    # One slow pod of several is that pod's; a slow revision is slow in all of them.
    if latest < least or min(now) < WORSE * max(before):
        return None
    return f"{latest:.2g} {unit}, {earlier:.2g} there", _proof(levels, old, new)


DETECTORS: tuple[Detector, ...] = (bad_canary,)
