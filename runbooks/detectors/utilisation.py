"""What monitoring says of accelerators and model servers: full queues, slow or starved replicas, heat, stragglers, devices held idle.

Replicas of one workload are judged against each other, so that no absolute speed has to be known. Metric names are those of vLLM, SGLang,
TGI and DCGM. Limits: a missing exporter is no idle device; where a metric is absent nothing is said. Errors that devices count are for
`deviceerrors`.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.accelerator import vendor_of
from runbooks.detectors.models import TRAINING, TRAINING_KINDS
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.measurement import NAME_LABEL, Locator, rates
from runbooks.scheduling import requests_of

_RUNNING = re.compile(r"num_requests_running$|num_running_reqs$|batch_current_size$")
_WAITING = re.compile(r"num_requests_waiting$|num_queue_reqs$|tgi_queue_size$|nv_inference_pending_request_count$")
_CACHE = re.compile(r"(?:kv|gpu)_cache_usage_perc$|sglang:token_usage$")
_PREEMPTED = re.compile(r"num_preemptions_(?:rate|total)$|num_retracted_(?:requests_(?:rate|total)|reqs)$")
# Sum, count and buckets of the same are totals since the server began.
_TOKEN_SECONDS = re.compile(r"(?:inter_token_latency|time_per_output_token|mean_time_per_token_duration)(?!.*_(?:sum|count|bucket)$)")
_CLOCK = re.compile(r"DCGM_FI_DEV_SM_CLOCK$")
_TEMPERATURE = re.compile(r"DCGM_FI_DEV_GPU_TEMP$")
_THERMAL_EVENT = re.compile(r"(?:hw|sw)_thermal|hw_slowdown|THERMAL_VIOLATION")
# dcgm-exporter 4: one counter, the event as a label (collector/clock_events_collector.go).
_CLOCK_EVENTS = re.compile(r"DCGM_EXP_CLOCK_(?:EVENTS|THROTTLE_REASONS)_COUNT$")
_THERMAL_ALERT = re.compile(r"thermal|gpu.{0,20}slowdown|gpu.{0,20}temperature", re.IGNORECASE)
_BUSY = re.compile(r"DCGM_FI_DEV_GPU_UTIL$|DCGM_FI_PROF_GR_ENGINE_ACTIVE$")
_RESOLVED = frozenset({"resolved", "inactive", "ok", "normal", "suppressed", "closed"})
# A queue that holds this many requests at every replica is longer than one batch's turn.
QUEUE_LONG = 10.0
# A full cache alone is normal, it keeps prefixes; full and preempting means that requests are computed twice.
CACHE_FULL = 0.95
# Replicas behind one Service differ by chance; this much is not chance.
SLOWER = 3.0
STARVED = 0.1
# Whether the engines of a GPU are busy, as a share where its utilisation is a percentage (DCGM field 1001).
_SHARE = re.compile(r"DCGM_FI_PROF_GR_ENGINE_ACTIVE$")
# NVIDIA data centre GPUs begin to slow down between 83 and 90 °C; a clock below this share of its peers' is held back.
HOT_CELSIUS = 85.0
CLOCK_SHARE = 0.7
IDLE_PERCENT = 5.0
IDLE_FOR = timedelta(hours=1)


class _Level(Struct, frozen=True):
    """The present level of one series: median of its last quarter."""

    ref: ObjectRef
    series: Series
    name: str
    value: float

    @property
    def evidence(self) -> Evidence:
        device = self.series.labels.get("gpu")
        return cite(Source.METRIC, self.ref, f"{self.name}{f' gpu {device}' if device else ''}", f"{self.value:.4g}")


def serving_load(world: World) -> Iterator[Finding]:
    """Model servers whose replicas are all full, of which one is slow, whose cache overflows, or of which some get all requests."""
    if not world.telemetry.series:
        return
    overflowing = dict(_overflowing_caches(world))
    yield from overflowing.values()
    waiting, running = _by_workload(world, _WAITING), _by_workload(world, _RUNNING)
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


def _overflowing_caches(world: World) -> Iterator[tuple[ObjectRef, Finding]]:
    """Workloads of which replicas have a full KV cache and throw out requests that they had begun."""
    preempting = _by_workload(world, _PREEMPTED)
    for workload, levels in _by_workload(world, _CACHE).items():
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
    for workload, levels in _by_workload(world, _TOKEN_SECONDS).items():
        worst = max(levels, key=lambda pod: (levels[pod].value, pod.name))
        others = [level.value for pod, level in levels.items() if pod != worst]
        if not others or levels[worst].value < SLOWER * statistics.median(others) or levels[worst].value <= 0:
            continue
        pod = world.get(Pod, worst.namespace, worst.name)
        where = f" on node {pod.spec.node_name}" if pod is not None and pod.spec.node_name else ""
        yield (
            workload,
            Finding(
                "serving.slow-replica",
                workload,
                Certainty.LIKELY,
                tuple(level.evidence for level in levels.values())[:6],
                f"Replica {worst.name} of {workload}{where} takes {levels[worst].value:.3g} s a token, the other {len(others)} "
                f"{statistics.median(others):.3g} s in the median.",
                affects=(worst,),
            ),
        )


def hot_devices(world: World) -> Iterator[Finding]:
    """GPUs that slow down because they are hot, by their events, their temperature with their clock, or an alert."""
    told: dict[ObjectRef, list[Evidence]] = defaultdict(list)
    levels = list(_levels(world, re.compile(f"{_CLOCK.pattern}|{_TEMPERATURE.pattern}|{_THERMAL_EVENT.pattern}")))
    levels += (level for level in _levels(world, _CLOCK_EVENTS) if _THERMAL_EVENT.search(level.series.labels.get("clock_event", "")))
    clocks = [level.value for level in levels if _CLOCK.search(level.name)]
    usual = statistics.median(clocks) if clocks else 0.0
    slow = {_device(level) for level in levels if _CLOCK.search(level.name) and level.value < CLOCK_SHARE * usual}
    for level in levels:
        hot = _TEMPERATURE.search(level.name) and level.value >= HOT_CELSIUS and (_device(level) in slow or not clocks)
        held = level.value > 0 and (_THERMAL_EVENT.search(level.name) or _CLOCK_EVENTS.search(level.name))
        node = _node_of(world, level.ref)
        if node is not None and (hot or held):
            told[node].append(level.evidence)
    locator = Locator(world)
    for alert in world.telemetry.alerts:
        if alert.state.lower() not in _RESOLVED and _THERMAL_ALERT.search(f"{alert.name} {alert.text}"):
            found = locator.locate({**dict(alert.labels), "subject": alert.subject})
            node = _node_of(world, found) if found is not None else None
            if node is not None:
                told[node].append(cite(Source.ALERT, node, alert.name, alert.text or "firing", alert.since))
    for node, evidence in told.items():
        yield Finding(
            "gpu.thermal-throttle",
            node,
            Certainty.PROVEN if len(evidence) > 1 else Certainty.LIKELY,
            tuple(evidence[:5]),
            f"A GPU of node {node.name} slows down because it is hot: {evidence[0].path} {evidence[0].quote}.",
        )


def stragglers(world: World) -> Iterator[Finding]:
    """Trainings of which one GPU runs at a much lower clock than the others, while all must wait for it."""
    grouped: dict[ObjectRef, list[_Level]] = defaultdict(list)
    for level in _levels(world, _CLOCK):
        pod = world.get(Pod, level.ref.namespace, level.ref.name) if level.ref.kind == Pod.kind else None
        if pod is not None and not pod.finished and (world.top_owner(pod.ref).kind in TRAINING_KINDS or _trains(pod)):
            grouped[world.top_owner(pod.ref)].append(level)
    for workload, levels in grouped.items():
        slowest = min(levels, key=lambda level: (level.value, str(level.ref)))
        usual = statistics.median(level.value for level in levels)
        if len(levels) < 3 or slowest.value >= CLOCK_SHARE * usual:
            continue
        device = slowest.series.labels.get("gpu", "?")
        yield Finding(
            "training.straggler",
            workload,
            Certainty.LIKELY,
            (slowest.evidence, cite(Source.METRIC, workload, slowest.name, f"median of {len(levels)} GPUs: {usual:.4g}")),
            f"{workload} waits for one slow GPU: GPU {device} of {slowest.ref.name} runs at {slowest.value:.0f} MHz, the others at "
            f"{usual:.0f} MHz in the median.",
            affects=(slowest.ref,),
        )


def idle_devices(world: World) -> Iterator[Finding]:
    """Pods that hold GPUs and have not used them for IDLE_FOR."""
    grouped: dict[ObjectRef, list[Series]] = defaultdict(list)
    for level in _levels(world, _BUSY):
        if level.ref.kind == Pod.kind:
            grouped[level.ref].append(level.series)
    for ref, series in grouped.items():
        pod = world.get(Pod, ref.namespace, ref.name)
        devices = sum(amount for name, amount in requests_of(pod.spec).items() if vendor_of(name) is not None) if pod is not None else 0
        samples = [item for one in series for item in one.samples]
        span = max(item.at for item in samples) - min(item.at for item in samples)
        busiest = max(_percent(one, item.value) for one in series for item in one.samples)
        if pod is None or not devices or pod.finished or span < IDLE_FOR or busiest >= IDLE_PERCENT:
            continue
        workload = world.top_owner(ref)
        hours = span.total_seconds() / 3600
        yield Finding(
            "gpu.idle-held",
            workload,
            Certainty.PROVEN,
            (
                cite(
                    Source.METRIC,
                    ref,
                    series[0].labels.get(NAME_LABEL, ""),
                    f"at most {busiest:.3g} % for {hours:.1f} h",
                ),
            ),
            f"{workload} holds {devices:g} GPU(s) and has not used them for {hours:.1f} h.",
            affects=(ref,),
        )


def _percent(series: Series, value: float) -> float:
    return value * 100 if _SHARE.search(series.labels.get(NAME_LABEL, "")) else value


def _levels(world: World, pattern: re.Pattern[str]) -> Iterator[_Level]:
    """The present level of every series whose name fits; of a counter, how much it grows a second."""
    for series in world.telemetry.series:
        name = series.labels.get(NAME_LABEL, "")
        if not pattern.search(name) or not series.samples:
            continue
        ref = world.once(Locator).locate(series.labels)
        samples = rates(series).samples if name.endswith("_total") else series.samples
        if ref is not None and samples:
            last = samples[-max(1, len(samples) // 4) :]
            yield _Level(ref, series, name, statistics.median(item.value for item in last))


def _by_workload(world: World, pattern: re.Pattern[str]) -> dict[ObjectRef, dict[ObjectRef, _Level]]:
    """workload -> pod -> its highest level."""
    grouped: dict[ObjectRef, dict[ObjectRef, _Level]] = defaultdict(dict)
    for level in _levels(world, pattern):
        if level.ref.kind == Pod.kind:
            pods = grouped[world.top_owner(level.ref)]
            if level.ref not in pods or pods[level.ref].value < level.value:
                pods[level.ref] = level
    return grouped


def _device(level: _Level) -> tuple[ObjectRef, str]:
    return level.ref, level.series.labels.get("gpu") or level.series.labels.get("UUID") or ""


def _node_of(world: World, ref: ObjectRef) -> ObjectRef | None:
    if ref.kind == Node.kind:
        return ref
    pod = world.get(Pod, ref.namespace, ref.name) if ref.kind == Pod.kind else None
    return ObjectRef(Node.kind, None, pod.spec.node_name) if pod is not None and pod.spec.node_name else None


def _trains(pod: Pod) -> bool:
    return any(TRAINING.search(" ".join((*(item.command or ()), *(item.args or ())))) for item in pod.spec.containers)


DETECTORS: tuple[Detector, ...] = (serving_load, hot_devices, stragglers, idle_devices)
