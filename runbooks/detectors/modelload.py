"""How loaded model servers are: full queues and caches, requests refused, one slow or starved replica, one role that holds up the other.

Replicas of one workload are judged against each other, so that no absolute speed has to be known. Metric names are those of vLLM, SGLang,
TGI and Triton. Of a slow replica it is told whether its own device is sick, because a sick device of another replica, which belongs to the
same workload, explains nothing. Limits: where a metric is absent nothing is said; where the time of a request goes is for `modellatency`.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator

from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.adapters import AdapterLoad, adapter_loads
from runbooks.detectors import deviceerrors, throttling
from runbooks.detectors.devices import device_unhealthy
from runbooks.detectors.serving import role_of_pod
from runbooks.finding import Certainty, Detector, Finding
from runbooks.levels import Levels, by_workload, since
from runbooks.measurement import SHORTEST

_RUNNING = re.compile(r"num_requests_running$|num_running_reqs$|batch_current_size$")
_WAITING = re.compile(r"num_requests_waiting$|num_queue_reqs$|tgi_queue_size$|nv_inference_pending_request_count$")
_CACHE = re.compile(r"(?:kv|gpu)_cache_usage_perc$|sglang:token_usage$")
_PREEMPTED = re.compile(r"num_preemptions_(?:rate|total)$|num_retracted_(?:requests_(?:rate|total)|reqs)$")
# Sum, count and buckets of the same are totals since the server began.
_TOKEN_SECONDS = re.compile(r"(?:inter_token_latency|time_per_output_token|mean_time_per_token_duration)(?!.*_(?:sum|count|bucket)$)")
_REFUSED = re.compile(r"vllm:admission_rejections_rate$")
_CORRUPTED = re.compile(r"vllm:corrupted_requests_rate$")
_ASLEEP = re.compile(r"vllm:engine_asleep$")
_SICKNESS: tuple[Detector, ...] = (*deviceerrors.DETECTORS, *throttling.DETECTORS, device_unhealthy)
# A queue that holds this many requests at every replica is longer than one batch's turn.
QUEUE_LONG = 10.0
# A full cache alone is normal, it keeps prefixes; full and preempting means that requests are computed twice.
CACHE_FULL = 0.95
# Replicas behind one Service differ by chance; this much is not chance.
SLOWER = 3.0
STARVED = 0.1


def serving_load(world: World) -> Iterator[Finding]:
    """Model servers whose replicas are all full, of which one is slow, whose cache overflows, which are asked for more adapters than a
    batch holds, or of which some get all requests."""
    if not world.telemetry.series:
        return
    overflowing = dict((*_full_of_adapters(world), *_overflowing_caches(world)))
    yield from overflowing.values()
    waiting, running = by_workload(world, _WAITING), by_workload(world, _RUNNING)
    slow = dict(_slow_replicas(world))
    yield from slow.values()
    for workload, levels in waiting.items():
        busy = running.get(workload, {})
        if workload in slow or workload in overflowing:
            continue
        load = {pod: level.value + (busy[pod].value if pod in busy else 0.0) for pod, level in levels.items()}
        most = max(load, key=lambda pod: (load[pod], pod.name))
        others = [value for pod, value in load.items() if pod != most]
        known = busy.keys() >= levels.keys()
        if known and others and levels[most].value >= QUEUE_LONG and statistics.median(others) <= STARVED * load[most]:
            yield Finding(
                "serving.routing-imbalance",
                workload,
                Certainty.LIKELY,
                tuple(level.evidence for level in levels.values())[:6],
                f"Requests of {workload} pile up at {most.name} ({load[most]:.0f} there, {statistics.median(others):.0f} in the median of "
                f"the other {len(others)} replica(s)): the routing does not spread them.",
                affects=(most,),
            )
        elif all(level.value >= QUEUE_LONG for level in levels.values()):
            total = sum(level.value for level in levels.values())
            yield Finding(
                "serving.saturated",
                workload,
                Certainty.LIKELY,
                tuple(level.evidence for level in levels.values())[:6],
                f"{workload} is saturated: {total:.0f} requests wait at its {len(levels)} replica(s), {QUEUE_LONG:.0f} or more at each.",
                affects=tuple(levels),
            )


def _full_of_adapters(world: World) -> Iterator[tuple[ObjectRef, Finding]]:
    """Workloads at which requests wait for their adapter, because a batch holds as many different ones as it may."""
    grouped: dict[ObjectRef, list[AdapterLoad]] = defaultdict(list)
    for load in world.once(adapter_loads).values():
        grouped[world.top_owner(load.pod)].append(load)
    for workload, loads in grouped.items():
        full = [load for load in loads if load.moments >= SHORTEST and load.full >= load.moments / 2]
        if full:
            worst = max(full, key=lambda load: (load.full / load.moments, len(load.waiting), load.pod.name))
            yield (
                workload,
                Finding(
                    "serving.adapters-full",
                    workload,
                    Certainty.LIKELY,
                    tuple(load.evidence for load in full[:6]),
                    f"Requests of {workload} wait for their adapter at {len(full)} of {len(loads)} replica(s): a batch holds "
                    f"{worst.limit} different one(s), and others are asked for. At {worst.pod.name} now: {worst.text}.",
                    affects=tuple(load.pod for load in full),
                ),
            )


def _overflowing_caches(world: World) -> Iterator[tuple[ObjectRef, Finding]]:
    """Workloads of which replicas have a full KV cache and throw out requests that they had begun."""
    preempting = by_workload(world, _PREEMPTED)
    for workload, levels in by_workload(world, _CACHE).items():
        thrown = preempting.get(workload, {})
        full = {pod: level for pod, level in levels.items() if level.value >= CACHE_FULL and pod in thrown and thrown[pod].value > 0}
        if not full:
            continue
        worst = max(full, key=lambda pod: (thrown[pod].value, pod.name))
        evidence = tuple(item for pod in sorted(full) for item in (full[pod].evidence, thrown[pod].evidence))
        yield (
            workload,
            Finding(
                "serving.cache-overflow",
                workload,
                Certainty.LIKELY,
                evidence[:6],
                f"The KV cache of {len(full)} of {len(levels)} replica(s) of {workload} is full, {full[worst].value:.0%} at {worst.name}, "
                f"and requests that were begun are thrown out and computed again ({thrown[worst].value:.2g} a second there).",
                affects=tuple(sorted(full)),
            ),
        )


def _slow_replicas(world: World) -> Iterator[tuple[ObjectRef, Finding]]:
    for workload, levels in by_workload(world, _TOKEN_SECONDS).items():
        worst = max(levels, key=lambda pod: (levels[pod].value, pod.name))
        others = [level.value for pod, level in levels.items() if pod != worst]
        if not others or levels[worst].value < SLOWER * statistics.median(others) or levels[worst].value <= 0:
            continue
        pod = world.get(Pod, worst.namespace, worst.name)
        where = f" on node {pod.spec.node_name}" if pod is not None and pod.spec.node_name else ""
        sick = world.once(_sick).get(worst)
        device = f" It sits there on a device that is sick: {sick.explanation}" if sick is not None else ""
        change = levels[worst].change
        began = change.since if change is not None and change.factor >= SLOWER / 2 else None
        yield (
            workload,
            Finding(
                "serving.slow-replica" if sick is None else "serving.replica-on-sick-device",
                workload,
                Certainty.LIKELY,
                (*(level.evidence for level in levels.values()),)[:5] + (sick.evidence[:1] if sick is not None else ()),
                f"Replica {worst.name} of {workload}{where} takes {levels[worst].value:.3g} s a token{since(began)}, the other "
                f"{len(others)} {statistics.median(others):.3g} s in the median.{device}",
                affects=(worst,),
                since=began,
            ),
        )


def _sick(world: World) -> dict[ObjectRef, Finding]:
    """By pod, what is wrong with a device that it has."""
    found = (finding for detector in _SICKNESS for finding in detector(world))
    return {ref: finding for finding in found for ref in finding.affects if ref.kind == Pod.kind}


def requests_refused(world: World) -> Iterator[Finding]:
    """Model servers that turn requests away because their queue may grow no further."""
    for workload, levels in by_workload(world, _REFUSED).items():
        refusing = {pod: level for pod, level in levels.items() if level.value > 0}
        if refusing:
            rate = sum(level.value for level in refusing.values())
            yield Finding(
                "serving.rejects",
                workload,
                Certainty.PROVEN,
                tuple(level.evidence for level in refusing.values())[:6],
                f"{len(refusing)} of {len(levels)} replica(s) of {workload} turn requests away ({rate:.2g} a second): their queues are as "
                "long as they may be.",
                affects=tuple(refusing),
            )


def answers_corrupted(world: World) -> Iterator[Finding]:
    """Replicas whose model computes values that are no numbers: the GPU or the quantisation, never the load."""
    for workload, levels in by_workload(world, _CORRUPTED).items():
        for pod, level in levels.items():
            if level.value > 0:
                yield Finding(
                    "serving.corrupts",
                    workload,
                    Certainty.LIKELY,
                    (level.evidence,),
                    f"Replica {pod.name} of {workload} computes values that are no numbers ({level.value:.2g} answers a second), "
                    f"{'as all do' if all(other.value > 0 for other in levels.values()) else 'and the others do not'}.",
                    affects=(pod,),
                )


def servers_asleep(world: World) -> Iterator[Finding]:
    """Model servers of which every replica sleeps while it counts as ready: a request that comes is answered by none."""
    for workload, levels in by_workload(world, _ASLEEP).items():
        pods = [pod for pod in world.pods_of(workload) if pod.ready]
        if pods and all(pod.ref in levels and levels[pod.ref].value >= 1 for pod in pods):
            yield Finding(
                "serving.asleep",
                workload,
                Certainty.PROVEN,
                tuple(level.evidence for level in levels.values())[:6],
                f"All {len(pods)} ready replica(s) of {workload} are put to sleep: they hold their GPUs, count as ready and serve nothing.",
                affects=tuple(pod.ref for pod in pods),
            )


def roles_unbalanced(world: World) -> Iterator[Finding]:
    """Prefill and decode that are told apart, of which one is full at every replica while the other has next to nothing to do."""
    waiting, running = by_workload(world, _WAITING), by_workload(world, _RUNNING)
    sides: dict[tuple[str | None, str], dict[ObjectRef, Levels]] = defaultdict(dict)
    for workload, levels in waiting.items():
        pods = world.pods_of(workload)
        role = role_of_pod(pods[0]) if pods else ""
        if role:
            sides[workload.namespace, role][workload] = levels
    for (namespace, role), workloads in sides.items():
        other = "decode" if role == "prefill" else "prefill"
        against = sides.get((namespace, other), {})
        idle = [workload for workload, levels in against.items() if _rests(levels, running.get(workload, {}))]
        if not against or len(idle) != len(against):
            continue
        for workload, levels in workloads.items():
            if all(level.value >= QUEUE_LONG for level in levels.values()):
                yield Finding(
                    "serving.role-imbalance",
                    workload,
                    Certainty.LIKELY,
                    (*tuple(level.evidence for level in levels.values())[:4], *(level.evidence for level in against[idle[0]].values()))[:6],
                    f"The {role} side {workload} is full at all {len(levels)} replica(s) while the {other} side {idle[0]} has next to "
                    f"nothing to do: {role} has too few replicas for what is asked.",
                    affects=tuple(levels),
                )


def _rests(waiting: Levels, running: Levels) -> bool:
    return bool(running) and all(level.value < 1 for level in waiting.values()) and all(level.value <= 1 for level in running.values())


DETECTORS: tuple[Detector, ...] = (serving_load, requests_refused, answers_corrupted, servers_asleep, roles_unbalanced)
