"""What monitoring calls abnormal, by topic: latency, loss, processor, leaks, budgets; from alerts, series and connection tests alike.

Monitoring names metrics as it likes, so a metric is known by the words in its name. What follows from a signal is for the detectors.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Evidence, Finding, Source, cite
from runbooks.measurement import NAME_LABEL, Locator, change_of, growth, is_counter, rates, steady_growth

# 25 % is the threshold of CPUThrottlingHigh (kubernetes-mixin alerts/resource_alerts.libsonnet).
THROTTLED_SHARE = 0.25
# In half of all periods it is the limit that sets the pace, whether anybody complains or not.
THROTTLED_MUCH = 0.5
NEAR_LIMIT = 0.9
RISE = 3.0
LOSS_SHARE = 0.01
LEAK_GROWTH = 0.5
LEAK_FIT = 0.9
SLOW_SECONDS = 0.2
# Measurements that other detectors judge by their own rules, whatever words their names hold.
_ELSEWHERE = (
    *("DCGM_", "vllm:", "sglang:", "tgi_", "nv_", "llm_d_", "inference_", "picker_", "keda_", "kueue_", "request_failures_"),
    *("kubelet_volume_", "node_mountstats_", "node_disk_"),
)
_RESOLVED = frozenset({"resolved", "inactive", "ok", "normal", "suppressed", "closed"})
_THROTTLE = re.compile(r"throttl", re.IGNORECASE)
# cAdvisor's counters, and the one divided by the other.
_PERIODS = "cfs_periods_total"
_THROTTLED_PERIODS = "cfs_throttled_periods_total"
_THROTTLED_RATIO = "cfs_throttled_periods_ratio"
_CPU = re.compile(r"cpu", re.IGNORECASE)
_PERCENT = re.compile(r"percent|pct|util|ratio", re.IGNORECASE)
_MEMORY = re.compile(r"(mem(ory)?)(?!cache).*?(usage|used|working_set|rss|bytes|util)|(usage|used).*mem", re.IGNORECASE)
_LATENCY = re.compile(r"latency|response_?time|\brtt|_rtt|duration|delay|p(50|90|95|99)\b", re.IGNORECASE)
_LOSS = re.compile(r"loss|drop(ped|s)?(_|$|\b)|retrans", re.IGNORECASE)
_BUDGETS = re.compile(r"open_?fds|file_?desc|conntrack|threads|pids|connections|ports|inodes", re.IGNORECASE)
_ALERTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"thermal|gpu.{0,20}slowdown", re.IGNORECASE), "heat"),
    (_THROTTLE, "cpu"),
    (re.compile(r"packet.?loss|retransmi|packets? dropped", re.IGNORECASE), "loss"),
    (re.compile(r"memory.?leak", re.IGNORECASE), "leak"),
    (re.compile(r"file.?descriptor|ephemeral.?port|conntrack|too many open|exhaust", re.IGNORECASE), "budget"),
    (re.compile(r"latency|delay|slow|\brtt\b|response.?time", re.IGNORECASE), "latency"),
    (re.compile(r"cpu.{0,30}(high|overload|satur|exceed|usage|util|limit)|(high|overload).{0,20}cpu", re.IGNORECASE), "cpu"),
)


class Signal(Struct, frozen=True):
    """One object that monitoring calls abnormal, in which respect, in words and with its proof. `factor` compares it with before; of what
    is `steady` it is the level itself."""

    topic: str
    ref: ObjectRef
    text: str
    evidence: Evidence
    since: datetime | None
    factor: float = 1.0
    steady: bool = False


def grouped(signals: Iterable[Signal], topic: str) -> dict[ObjectRef, list[Signal]]:
    """The signals of one topic by their object."""
    found: dict[ObjectRef, list[Signal]] = defaultdict(list)
    for signal in signals:
        if signal.topic == topic:
            found[signal.ref].append(signal)
    return found


def finding_of(code: str, ref: ObjectRef, signals: list[Signal], words: str, affects: tuple[ObjectRef, ...] = ()) -> Finding:
    """One finding for all signals of an object; proven where sources of two kinds agree."""
    strongest = max(signals, key=lambda signal: (signal.factor, signal.text))
    where = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
    several = len({signal.evidence.source for signal in signals}) > 1
    return Finding(
        code,
        ref,
        Certainty.PROVEN if several else Certainty.LIKELY,
        tuple(signal.evidence for signal in signals[:5]),
        f"{ref.kind} {where} {words}: {strongest.text}.",
        affects=affects,
        since=min((signal.since for signal in signals if signal.since is not None), default=None),
    )


def signals_of(world: World) -> tuple[Signal, ...]:
    """Everything abnormal that monitoring says of an object of this world. Several detectors need it: ask by `world.once`."""
    return tuple(_signals(world))


def _signals(world: World) -> Iterator[Signal]:
    if not (world.telemetry.series or world.telemetry.alerts or world.telemetry.connectivity):
        return
    locator = Locator(world)
    yield from _alert_signals(world, locator)
    yield from _throttle_signals(world, locator)
    for series in world.telemetry.series:
        ref = _workload(world, locator.locate(series.labels))
        if ref is not None:
            yield from _series_signals(world, ref, series)
    for item in world.telemetry.connectivity:
        ref = _workload(world, locator.named(item.target.rpartition("/")[2]))
        if ref is not None and item.latency_seconds is not None and item.latency_seconds >= SLOW_SECONDS:
            text = f"a connection to {item.target} took {item.latency_seconds:.2f} s"
            yield Signal("latency", ref, text, cite(Source.METRIC, ref, f"connect {item.target}", text), None)


def _workload(world: World, ref: ObjectRef | None) -> ObjectRef | None:
    return world.top_owner(ref) if ref is not None and ref.kind == Pod.kind else ref


def _alert_signals(world: World, locator: Locator) -> Iterator[Signal]:
    for alert in world.telemetry.alerts:
        if alert.state.lower() in _RESOLVED:
            continue
        topic = next((topic for pattern, topic in _ALERTS if pattern.search(alert.name) or pattern.search(alert.text)), None)
        ref = locator.locate({**dict(alert.labels), "subject": alert.subject}) if topic is not None else None
        ref = _workload(world, ref)
        if topic is not None and ref is not None:
            text = f"alert {alert.name}{f' ({alert.text[:120]})' if alert.text else ''}"
            yield Signal(
                topic, ref, text, cite(Source.ALERT, ref, alert.name, alert.text or alert.state or "firing", alert.since), alert.since
            )


def _throttle_signals(world: World, locator: Locator) -> Iterator[Signal]:
    """The share of scheduler periods in which a container was throttled, from the two counters of cAdvisor or from their ratio."""
    periods = {_identity(item): item for item in world.telemetry.series if item.labels.get(NAME_LABEL, "").endswith(_PERIODS)}
    for series in world.telemetry.series:
        name = series.labels.get(NAME_LABEL, "")
        if name.endswith(_THROTTLED_RATIO):
            last = series.samples[-max(1, len(series.samples) // 4) :]
            share = statistics.median(item.value for item in last) if last else 0.0
        elif name.endswith(_THROTTLED_PERIODS):
            whole = periods.get(_identity(series))
            total = growth(whole) if whole is not None else 0.0
            share = growth(series) / total if total > 0 else 0.0
        else:
            continue
        ref = _workload(world, locator.locate(series.labels)) if share > THROTTLED_SHARE else None
        if ref is not None:
            text = f"throttled in {share:.0%} of its periods (threshold {THROTTLED_SHARE:.0%})"
            yield Signal("cpu", ref, text, cite(Source.METRIC, ref, name, text), None, share, steady=True)


def _identity(series: Series) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in series.labels.items() if key != NAME_LABEL))


def _series_signals(world: World, ref: ObjectRef, series: Series) -> Iterator[Signal]:
    name = series.labels.get(NAME_LABEL, "")
    if name.startswith(_ELSEWHERE):
        return
    if name.endswith((_THROTTLED_PERIODS, _PERIODS, _THROTTLED_RATIO)):
        return
    topic = _topic(name)
    if topic is None:
        return
    gauge = rates(series) if is_counter(name) else series
    if topic == "leak":
        grown = steady_growth(series) if not is_counter(name) else None
        if grown is not None and grown[0] >= LEAK_GROWTH and grown[1] >= LEAK_FIT:
            text = f"{name} grew by {grown[0]:.0%} in a straight line (fit {grown[1]:.2f})"
            yield Signal(topic, ref, text, cite(Source.METRIC, ref, name, text), series.samples[0].at, grown[0])
        return
    change = change_of(gauge)
    if change is None or not _abnormal(world, ref, topic, name, change.before, change.now):
        return
    text = f"{name} rose from {change.before:.4g} to {change.now:.4g}"
    yield Signal(topic, ref, text, cite(Source.METRIC, ref, name, text, change.since), change.since, change.factor)


def _topic(name: str) -> str | None:
    for topic, pattern in (
        ("cpu", _THROTTLE),
        ("loss", _LOSS),
        ("latency", _LATENCY),
        ("cpu", _CPU),
        ("leak", _MEMORY),
        ("budget", _BUDGETS),
    ):
        if pattern.search(name):
            return topic
    return None


def _abnormal(world: World, ref: ObjectRef, topic: str, name: str, before: float, now: float) -> bool:
    """Whether a level is past the threshold of its topic and well above what it was."""
    risen = now >= RISE * before and now > 0
    match topic:
        case "latency":
            floor = SLOW_SECONDS * 1000 if re.search(r"_ms|millis", name) else SLOW_SECONDS
            return risen and now >= floor
        case "loss":
            return risen and now >= LOSS_SHARE
        case "cpu":
            if _THROTTLE.search(name):
                return now > (THROTTLED_SHARE * 100 if _PERCENT.search(name) and now > 1 else THROTTLED_SHARE) and risen
            if _PERCENT.search(name):
                return now >= (NEAR_LIMIT * 100 if now > 2 else NEAR_LIMIT) and now > 1.5 * before
            limit = _limit_cores(world, ref)
            return limit is not None and now >= NEAR_LIMIT * limit and now > 1.5 * before
        case "budget":
            return _PERCENT.search(name) is not None and now >= (NEAR_LIMIT * 100 if now > 2 else NEAR_LIMIT)
    return False


def _limit_cores(world: World, ref: ObjectRef) -> float | None:
    """The CPU limit of one pod of a workload; None where a container has none."""
    pod = next(iter(world.pods_of(ref)), None)
    limits = [container.resources.limit("cpu") for container in pod.spec.containers] if pod is not None else []
    known = [limit for limit in limits if limit is not None]
    return sum(known) if known and len(known) == len(limits) else None
