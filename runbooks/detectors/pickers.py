"""Endpoint pickers that route by what they no longer see, or that leave out a side, by their own measurements.

That a picker does not run is for `serving`. Sources: llm-d router docs/metrics.md, Gateway API inference extension pkg/epp/metrics.
Limits: a picker that is not scraped says nothing; why it cannot read a server is told by its log and by ports and labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.event import CustomObject
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.serving import prefill_side
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.levels import Level, by_workload, levels, since

_STALE = re.compile(r"flow_control_stale_endpoints$")
_READY = re.compile(r"llm_d_epp_ready_endpoints$|inference_pool_ready_pods$")
ERRORS = re.compile(r"llm_d_epp_request_error_rate$|inference_(?:objective|model)_request_error_rate$")
_DECODE_ONLY = re.compile(r"picker_decode_only_ratio$")
_POOL_LABELS = ("name", "inference_pool", "pool")
# Half of the requests without a prefill server, where few had none before, is no routing by length of prompt.
SKIPPED = 0.5
SKIPPED_BEFORE = 0.2


def picker_blind(world: World) -> Iterator[Finding]:
    """Pickers that cannot read the metrics of servers, or know fewer of them than their pool has ready."""
    for workload, found in by_workload(world, _STALE).items():
        stale = sum(level.value for level in found.values())
        if stale >= 1:
            text = f"{workload} cannot read the metrics of {stale:.0f} model server(s) any more and routes as if they were full."
            yield _blind(world, workload, text, tuple(level.evidence for level in found.values()), Certainty.PROVEN)
    told: set[tuple[ObjectRef, ObjectRef]] = set()
    for level in levels(world, _READY):
        pool, known = _pool(world, level), level.series.samples[-1].value
        ready = [pod for pod in pods_of_pool(world, pool) if pod.ready] if pool is not None else []
        owner = world.top_owner(level.ref)
        if pool is None or known >= len(ready) or level.ref.kind != Pod.kind or (owner, pool.ref) in told or _just_grown(level, ready):
            continue
        told.add((owner, pool.ref))
        proof = (level.evidence, cite(Source.FIELD, pool.ref, "spec.selector", f"{len(ready)} pods that it selects are ready"))
        text = f"{owner} knows {known:.0f} of the {len(ready)} ready model servers of InferencePool {pool.namespace}/{pool.name}: "
        yield _blind(world, owner, f"{text}port or selector of the pool do not reach the others.", proof, Certainty.LIKELY, pool.ref)


def _just_grown(level: Level, ready: list[Pod]) -> bool:
    """Whether a server became ready so late that the last two samples need not count it."""
    since = [entry.last_transition_time for pod in ready if (entry := pod.condition("Ready")) is not None and entry.last_transition_time]
    return bool(since) and max(since) >= level.series.samples[-2:][0].at


def _blind(
    world: World, picker: ObjectRef, text: str, evidence: tuple[Evidence, ...], certainty: Certainty, pool: ObjectRef | None = None
) -> Finding:
    pools = (pool,) if pool is not None else tuple(item.ref for item in world.custom("InferencePool") if item.namespace == picker.namespace)
    return Finding("serving.picker-blind", picker, certainty, evidence[:6], text, affects=pools)


def requests_dropped(world: World) -> Iterator[Finding]:
    """Requests that a picker turns away: a consequence of what is wrong with its servers, unless nothing is."""
    for workload, found in by_workload(world, ERRORS).items():
        rate = sum(level.value for level in found.values())
        if rate > 0:
            yield Finding(
                "serving.picker-errors",
                workload,
                Certainty.LIKELY,
                tuple(level.evidence for level in found.values())[:6],
                f"{workload} turns {rate:.2g} requests a second away: it finds no model server that may take them.",
            )


def prefill_skipped(world: World) -> Iterator[Finding]:
    """Pickers that stopped to send prompts to the prefill side: everything still answers, and first tokens take longer."""
    for workload, found in by_workload(world, _DECODE_ONLY).items():
        for level in found.values():
            change = level.change
            if change is None or change.now < SKIPPED or change.before > SKIPPED_BEFORE:
                continue
            # Whoever should have been asked is to blame, where it is known who that is.
            side = prefill_side(world, workload.namespace)
            yield Finding(
                "serving.prefill-skipped",
                side or workload,
                Certainty.LIKELY,
                (level.evidence,),
                f"{workload} sends {change.now:.0%} of the requests to no prefill server, {change.before:.0%} before{since(change.since)}: "
                "the decode side computes prompts itself.",
                affects=(workload,) if side is not None else (),
                since=change.since,
            )


def _pool(world: World, level: Level) -> CustomObject | None:
    names = {level.series.labels[key] for key in _POOL_LABELS if level.series.labels.get(key)}
    pools = (item for item in world.custom("InferencePool") if isinstance(item, CustomObject))
    return next((item for item in pools if item.name in names and item.namespace == level.ref.namespace), None)


def pods_of_pool(world: World, pool: CustomObject) -> tuple[Pod, ...]:
    """The model servers that a pool selects."""
    selector = pool.spec.get("selector") if isinstance(pool.spec, dict) else None
    labels = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
    return world.pods_selected(pool.namespace, {str(key): str(value) for key, value in labels.items()})


DETECTORS: tuple[Detector, ...] = (picker_blind, requests_dropped, prefill_skipped)
