"""What monitoring says beside the objects: stopped node services, slow or lossy networks, leaking memory.

Limits: monitoring names metrics as it likes, so a metric is known by the words in its name. Latency spreads to every caller: the finding
goes to the deepest object on the chain of calls, or to the node when everything that is slow shares it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.telemetry import NodeService
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.signals import Signal, finding_of, grouped, signals_of
from runbooks.traffic import Traffic

_SERVICES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"kube-?proxy"), "node.kube-proxy-down"),
    (re.compile(r"kubelet"), "node.kubelet-down"),
    (re.compile(r"containerd|cri-?o|docker|cri"), "node.runtime-down"),
    (re.compile(r"scheduler"), "controlplane.scheduler-down"),
    (re.compile(r"etcd"), "controlplane.etcd"),
    (re.compile(r"chrony|ntp|timesyncd"), "node.clock-skew"),
    (re.compile(r"controller-?manager|api-?server"), "controlplane.component-down"),
)


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


def network_slow(world: World) -> Iterator[Finding]:
    """Responses or round trips that became much slower, at the deepest object of the call chain or at the node that all share."""
    yield from _network(world, "latency", "network.latency", "answers slowly")


def network_lossy(world: World) -> Iterator[Finding]:
    """Packets that are lost, dropped or sent again."""
    yield from _network(world, "loss", "network.packet-loss", "loses packets")


def _network(world: World, topic: str, code: str, words: str) -> Iterator[Finding]:
    found = grouped(world.once(signals_of), topic)
    if not found:
        return
    nodes = {ref: signals for ref, signals in found.items() if ref.kind == Node.kind}
    rest = {ref: signals for ref, signals in found.items() if ref.kind != Node.kind}
    shared = _shared_node(world, rest)
    for node in sorted(nodes, key=str) or ([shared] if shared is not None else []):
        touched = [item for other, signals in rest.items() if _runs_on(world, other, node.name) for item in signals]
        yield finding_of(code, node, [*nodes.get(node, ()), *touched], words, affects=tuple(rest))
    if nodes or shared is not None:
        return
    for ref in _deepest(world, list(rest)):
        others = tuple(other for other in rest if other != ref)
        yield finding_of(code, ref, rest[ref], words, affects=others)


def _shared_node(world: World, slow_ones: dict[ObjectRef, list[Signal]]) -> ObjectRef | None:
    """The one node on which all of several abnormal workloads run, unless the whole cluster is that node."""
    nodes = [{pod.spec.node_name for pod in world.pods_of(ref) if pod.spec.node_name} for ref in slow_ones]
    common = set.intersection(*nodes) if nodes and all(nodes) else set()
    used = {pod.spec.node_name for pod in world.all(Pod) if pod.spec.node_name}
    if len(slow_ones) < 3 or len(common) != 1 or len(used) < 2:
        return None
    name = next(iter(common)) or ""
    hosted = {world.top_owner(pod.ref).key for pod in world.pods_on(name)}
    slow = {ref.key for ref in slow_ones}
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
    for ref, signals in grouped(world.once(signals_of), "leak").items():
        yield finding_of("memory.leak", ref, signals, "keeps taking more memory")


def budget_exhausted(world: World) -> Iterator[Finding]:
    """File descriptors, ports, threads or connections that are used up."""
    for ref, signals in grouped(world.once(signals_of), "budget").items():
        yield finding_of("resource.exhausted", ref, signals, "has used up a limited resource")


def unreachable(world: World) -> Iterator[Finding]:
    """A Service that a connection test could not reach: a consequence of what is wrong with it."""
    failed: dict[ObjectRef, list[Evidence]] = defaultdict(list)
    for item in world.telemetry.connectivity:
        if item.reachable is False:
            name, _, rest = item.target.rpartition("/")[2].partition(".")
            namespace = item.target.rpartition("/")[0] or rest.split(".")[0] or None
            services = [
                fact for fact in world.custom("Service") if fact.name == name and (namespace is None or fact.namespace == namespace)
            ]
            if services:
                port = f":{item.port}" if item.port else ""
                failed[services[0].ref].append(cite(Source.METRIC, services[0].ref, f"connect {item.target}{port}", item.text or "failed"))
    for ref, evidence in failed.items():
        yield Finding(
            "service.unreachable",
            ref,
            Certainty.PROVEN,
            tuple(evidence[:4]),
            f"A connection test could not reach Service {ref.namespace}/{ref.name} ({len(evidence)} attempt(s) failed).",
        )


DETECTORS: tuple[Detector, ...] = (
    node_service_stopped,
    network_slow,
    network_lossy,
    memory_leaking,
    budget_exhausted,
    unreachable,
)
