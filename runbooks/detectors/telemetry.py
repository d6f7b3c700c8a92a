"""What monitoring says beside the objects: stopped node services, throttled processors, slow or lossy networks, leaking memory.

Limits: monitoring names metrics as it likes, so a metric is known by the words in its name. Latency spreads to every caller: the finding
goes to the deepest object on the chain of calls, or to the node when everything that is slow shares it.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.telemetry import NodeService
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.measurement import NAME_LABEL, Locator, change_of, growth, is_counter, rates, steady_growth
from runbooks.traffic import Traffic

# 25 % is the threshold of CPUThrottlingHigh (kubernetes-mixin alerts/resource_alerts.libsonnet).
THROTTLED_SHARE = 0.25
NEAR_LIMIT = 0.9
RISE = 3.0
LOSS_SHARE = 0.01
LEAK_GROWTH = 0.5
LEAK_FIT = 0.9
SLOW_SECONDS = 0.2
# A container with less than this gets a millisecond or two of each 100 ms period: nothing but an idle helper lives on that.
STARVING_CORES = 0.02
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
_SERVICES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"kube-?proxy"), "node.kube-proxy-down"),
    (re.compile(r"kubelet"), "node.kubelet-down"),
    (re.compile(r"containerd|cri-?o|docker|cri"), "node.runtime-down"),
    (re.compile(r"scheduler"), "controlplane.scheduler-down"),
    (re.compile(r"etcd"), "controlplane.etcd"),
    (re.compile(r"chrony|ntp|timesyncd"), "node.clock-skew"),
    (re.compile(r"controller-?manager|api-?server"), "controlplane.component-down"),
)


class Signal(Struct, frozen=True):
    """One object that monitoring calls abnormal, in which respect, in words and with its proof. `factor` compares it with before."""

    topic: str
    ref: ObjectRef
    text: str
    evidence: Evidence
    since: datetime | None
    factor: float = 1.0


def node_service_stopped(world: World) -> Iterator[Finding]:
    """A daemon that a node check found not running."""
    for item in world.telemetry.node_services:
        code = next((code for pattern, code in _SERVICES if pattern.search(item.service.lower())), None)
        if item.running is not False or code is None:
            continue
        node = ObjectRef(Node.kind, None, item.node)
        fact = world.find(node)
        pods = world.pods_on(item.node)
        yield Finding(
            code,
            fact.ref if fact is not None else node,
            Certainty.PROVEN,
            (cite(Source.METRIC, node, f"service {item.service}", item.text or "not running"),),
            f"{item.service} does not run on node {item.node}{_quoted(item)}.",
            affects=_reach_of_service(world, code, pods),
        )


def _quoted(item: NodeService) -> str:
    return f": {item.text.splitlines()[0][:120]}" if item.text else ""


def _reach_of_service(world: World, code: str, pods: tuple[Pod, ...]) -> tuple[ObjectRef, ...]:
    if code == "controlplane.scheduler-down":
        return tuple(pod.ref for pod in world.all(Pod) if not pod.spec.node_name and not pod.finished)
    return tuple(dict.fromkeys((*(pod.ref for pod in pods), *(world.top_owner(pod.ref) for pod in pods))))


def processor_throttled(world: World) -> Iterator[Finding]:
    """Containers that are throttled, or that use all of their CPU limit."""
    for ref, signals in _grouped(_signals(world), "cpu").items():
        yield _finding("cpu.throttled", ref, signals, "is short of processor time")


def processor_limit_starves(world: World) -> Iterator[Finding]:
    """A container that fails while its CPU limit leaves it next to nothing to run on."""
    for pod in world.unready_pods():
        if not pod.spec.node_name:
            continue
        for container in pod.spec.containers:
            limit, status = container.resources.limit("cpu"), pod.container_status(container.name)
            if limit is None or not 0 < limit <= STARVING_CORES or status is None or status.ready or not status.restart_count:
                continue
            subject = world.top_owner(pod.ref)
            yield Finding(
                "cpu.limit-starves",
                subject,
                Certainty.LIKELY,
                (
                    cite(Source.FIELD, pod.ref, f"spec.containers[{container.name}].resources.limits.cpu", f"{limit * 1000:.0f}m"),
                    cite(Source.FIELD, pod.ref, f"status.containerStatuses[{container.name}].restartCount", status.restart_count),
                ),
                f"Container {container.name} of {subject.kind} {subject.namespace}/{subject.name} has a CPU limit of {limit * 1000:.0f}m "
                f"({limit * 100:.1f} ms of every 100 ms), is throttled to that, and has restarted {status.restart_count} times.",
                affects=(pod.ref,),
                lacks="a throttling metric",
            )


def network_slow(world: World) -> Iterator[Finding]:
    """Responses or round trips that became much slower, at the deepest object of the call chain or at the node that all share."""
    yield from _network(world, "latency", "network.latency", "answers slowly")


def network_lossy(world: World) -> Iterator[Finding]:
    """Packets that are lost, dropped or sent again."""
    yield from _network(world, "loss", "network.packet-loss", "loses packets")


def _network(world: World, topic: str, code: str, words: str) -> Iterator[Finding]:
    grouped = _grouped(_signals(world), topic)
    if not grouped:
        return
    nodes = {ref: signals for ref, signals in grouped.items() if ref.kind == Node.kind}
    rest = {ref: signals for ref, signals in grouped.items() if ref.kind != Node.kind}
    shared = _shared_node(world, rest)
    for node in sorted(nodes, key=str) or ([shared] if shared is not None else []):
        touched = [item for other, signals in rest.items() if _runs_on(world, other, node.name) for item in signals]
        yield _finding(code, node, [*nodes.get(node, ()), *touched], words, affects=tuple(rest))
    if nodes or shared is not None:
        return
    for ref in _deepest(world, list(rest)):
        others = tuple(other for other in rest if other != ref)
        yield _finding(code, ref, rest[ref], words, affects=others)


def _shared_node(world: World, grouped: dict[ObjectRef, list[Signal]]) -> ObjectRef | None:
    """The one node on which all of several abnormal workloads run, unless the whole cluster is that node."""
    nodes = [{pod.spec.node_name for pod in world.pods_of(ref) if pod.spec.node_name} for ref in grouped]
    common = set.intersection(*nodes) if nodes and all(nodes) else set()
    used = {pod.spec.node_name for pod in world.all(Pod) if pod.spec.node_name}
    if len(grouped) < 3 or len(common) != 1 or len(used) < 2:
        return None
    name = next(iter(common)) or ""
    hosted = {world.top_owner(pod.ref).key for pod in world.pods_on(name)}
    slow = {ref.key for ref in grouped}
    return ObjectRef(Node.kind, None, name) if len(hosted & slow) * 2 >= len(hosted) else None


def _runs_on(world: World, ref: ObjectRef, node: str) -> bool:
    return any(pod.spec.node_name == node for pod in world.pods_of(ref))


def _deepest(world: World, refs: list[ObjectRef]) -> list[ObjectRef]:
    """Those that call none of the others: slowness travels from the callee to its callers."""
    names = {ref.name for ref in refs}
    callees: dict[str, set[str]] = defaultdict(set)
    for edge in world.telemetry.dependencies:
        callees[edge.caller].add(edge.callee)
    traffic = world.once(Traffic)
    for namespace in {ref.namespace for ref in refs}:
        for call in traffic.calls(namespace):
            callees[call.workload.name].add(call.address.host.partition(".")[0])
    deepest = [ref for ref in refs if not (callees.get(ref.name, set()) & names - {ref.name})]
    return sorted(deepest or refs, key=str)


def memory_leaking(world: World) -> Iterator[Finding]:
    """Memory that grows in a straight line."""
    for ref, signals in _grouped(_signals(world), "leak").items():
        yield _finding("memory.leak", ref, signals, "keeps taking more memory")


def budget_exhausted(world: World) -> Iterator[Finding]:
    """File descriptors, ports, threads or connections that are used up."""
    for ref, signals in _grouped(_signals(world), "budget").items():
        yield _finding("resource.exhausted", ref, signals, "has used up a limited resource")


def unreachable(world: World) -> Iterator[Finding]:
    """A Service that a connection test could not reach: a consequence of what is wrong with it."""
    grouped: dict[ObjectRef, list[Evidence]] = defaultdict(list)
    for item in world.telemetry.connectivity:
        if item.reachable is False:
            name, _, rest = item.target.rpartition("/")[2].partition(".")
            namespace = item.target.rpartition("/")[0] or rest.split(".")[0] or None
            services = [
                fact for fact in world.custom("Service") if fact.name == name and (namespace is None or fact.namespace == namespace)
            ]
            if services:
                port = f":{item.port}" if item.port else ""
                grouped[services[0].ref].append(cite(Source.METRIC, services[0].ref, f"connect {item.target}{port}", item.text or "failed"))
    for ref, evidence in grouped.items():
        yield Finding(
            "service.unreachable",
            ref,
            Certainty.PROVEN,
            tuple(evidence[:4]),
            f"A connection test could not reach Service {ref.namespace}/{ref.name} ({len(evidence)} attempt(s) failed).",
        )


def _grouped(signals: Iterable[Signal], topic: str) -> dict[ObjectRef, list[Signal]]:
    grouped: dict[ObjectRef, list[Signal]] = defaultdict(list)
    for signal in signals:
        if signal.topic == topic:
            grouped[signal.ref].append(signal)
    return grouped


def _finding(code: str, ref: ObjectRef, signals: list[Signal], words: str, affects: tuple[ObjectRef, ...] = ()) -> Finding:
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
            yield Signal("cpu", ref, text, cite(Source.METRIC, ref, name, text), None, share)


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


DETECTORS: tuple[Detector, ...] = (
    node_service_stopped,
    processor_throttled,
    processor_limit_starves,
    network_slow,
    network_lossy,
    memory_leaking,
    budget_exhausted,
    unreachable,
)
