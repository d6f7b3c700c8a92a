"""Nodes that are not fit for work, and the pods that suffer: readiness, pressure, runtime, clock, kube-proxy, evictions.

The pods on a node are named as affected; a pod of a lost node is never blamed. An eviction that its workload has recovered from is
history and only an advisory. A cordoned node is no fault: scheduling blames it where it keeps a pod waiting.
Limits: what a node does not report itself is known only by its silence and by what its pods suffer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from cluster.facts.meta import Condition
from cluster.facts.node import Lease, Node
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet, Deployment, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.pending import blame_of, pending_groups
from runbooks.scheduling import Obstacle, Usage

# A new node is NotReady until its network plugin has started (failures.md B03).
JOINING = timedelta(minutes=3)
RECENT = timedelta(minutes=30)
# An eviction that its workload has recovered from for longer than this tells nothing about now.
LEFT_OVER = timedelta(hours=6)
# Pods that break a limit of their own this often within this time go on to break it, whatever their controller replaces.
RECURRING_WINDOW = timedelta(hours=2)
RECURRING_TIMES = 2
# K pkg/kubelet/eviction/helpers.go: what a pod is evicted for without any pressure of its node.
_OWN_LIMIT = re.compile(r"exceeds the limit|exceeded its local ephemeral storage limit|exceeds the total limit of containers")
# Lease renewal every 10 s, node-monitor-grace-period 50 s (kubernetes nodelifecycle/config/v1alpha1/defaults.go).
STALE_LEASE = timedelta(seconds=50)
CLOCK_TOLERANCE = timedelta(seconds=60)
PODS_NAMED = 200
_RUNTIME = re.compile(
    r"(?i)container runtime is down|container runtime status check may not have completed|PLEG is not healthy|runtime is unhealthy"
)
_NETWORK = re.compile(r"(?i)network ?plugin|cni|NetworkReady=false|network not ready")
_PRESSURES = {"MemoryPressure": "memory", "DiskPressure": "disk space", "PIDPressure": "process ids"}
# Permanent conditions of node-problem-detector, True = fault (its config/*.json), and what each says of the node.
_PROBLEMS = {
    "KernelDeadlock": ("node.kernel-fault", "its kernel is deadlocked"),
    "ReadonlyFilesystem": ("node.read-only-disk", "its file system is read-only"),
    "XfsShutdown": ("node.read-only-disk", "its XFS file system has shut down"),
    "CperHardwareErrorFatal": ("node.kernel-fault", "its firmware reports a fatal hardware error"),
    "DiskBadBlock": ("node.read-only-disk", "its disk has bad blocks"),
    "FrequentKubeletRestart": ("node.kubelet-down", "its kubelet keeps restarting"),
    "KubeletUnhealthy": ("node.kubelet-down", "its kubelet does not answer its health check"),
    "ContainerRuntimeUnhealthy": ("node.runtime-down", "its container runtime does not answer"),
    "FrequentContainerdRestart": ("node.runtime-down", "containerd keeps restarting"),
    "FrequentDockerRestart": ("node.runtime-down", "docker keeps restarting"),
    "NTPProblem": ("node.clock-skew", "its clock is not synchronised"),
    "FrequentUnregisterNetDevice": ("node.kernel-fault", "its kernel hangs in unregister_netdevice"),
    "NetworkUnavailable": ("node.network-not-ready", "its network is not configured"),
}


def node_not_ready(world: World) -> Iterable[Finding]:
    """Nodes whose Ready condition is not True, told apart by who stopped talking."""
    broken = [node for node in world.all(Node) if (ready := node.condition("Ready")) is not None and ready.status != "True"]
    waiting = _waiting(world) if broken else {}
    for node in broken:
        ready = node.condition("Ready")
        assert ready is not None
        if node.created and world.now - node.created < JOINING and ready.status == "False":
            continue
        since = ready.last_transition_time
        evidence = [cite(Source.FIELD, node.ref, "status.conditions[Ready]", f"{ready.status} {ready.reason}: {ready.message}", since)]
        lease = world.get(Lease, "kube-node-lease", node.name)
        if lease is not None and lease.spec.renew_time and world.now - lease.spec.renew_time > STALE_LEASE:
            renewed = f"renewed {_ago(world.now, lease.spec.renew_time)} ago"
            evidence.append(cite(Source.FIELD, lease.ref, "spec.renewTime", renewed, lease.spec.renew_time))
        code, why = _readiness(world, node, ready)
        pods = [pod for pod in world.pods_on(node.name) if not pod.finished]
        text = f"Node {node.name} is not ready since {_at(since)}: {why}. {len(pods)} pods are on it."
        yield Finding(code, node.ref, Certainty.PROVEN, tuple(evidence), text, _affected(world, pods, waiting.get(node.name, ())), since)


def _readiness(world: World, node: Node, ready: Condition) -> tuple[str, str]:
    message = ready.message or "no message"
    if ready.status == "Unknown":
        # Some agents set a condition once and never again, so only a heartbeat after the silence began shows that one is alive.
        silent = ready.last_transition_time or world.now
        others = [item for item in node.status.conditions or () if item.type not in (*_PRESSURES, "Ready")]
        alive = [item.type for item in others if item.last_heartbeat_time and item.last_heartbeat_time > silent]
        if alive:
            return "node.kubelet-down", f"the kubelet has stopped reporting while {alive[0]} is still being reported from the node"
        return "node.not-ready", f"the kubelet has stopped reporting ({message}); the machine, its network or the kubelet is down"
    if _RUNTIME.search(message):
        return "node.runtime-down", f"the kubelet says: {message[:200]}"
    if _NETWORK.search(message):
        return "node.network-not-ready", f"the kubelet says: {message[:200]}"
    return "node.not-ready", f"the kubelet says: {message[:200]}"


def _waiting(world: World) -> dict[str, tuple[ObjectRef, ...]]:
    """Pods and workloads that wait for a node that is not usable, by node name."""
    usage = world.once(Usage)
    found: dict[str, tuple[ObjectRef, ...]] = {}
    for group in world.once(pending_groups):
        if group.message is None or not group.message.of(Obstacle.SICK_NODE, Obstacle.TAINT):
            continue
        blame = blame_of(group, usage)
        if blame is not None and blame.obstacle is Obstacle.SICK_NODE:
            for node in blame.nodes or usage.nodes:
                found[node.name] = (*found.get(node.name, ()), group.owner, *group.affected)
    return found


def _affected(world: World, pods: Iterable[Pod], more: Iterable[ObjectRef] = ()) -> tuple[ObjectRef, ...]:
    refs = [ref for pod in list(pods)[:PODS_NAMED] for ref in (pod.ref, world.top_owner(pod.ref)) if ref.kind != "DaemonSet"]
    return tuple(dict.fromkeys((*refs, *more)))


def node_pressure(world: World) -> Iterable[Finding]:
    """Pressure conditions of nodes whose kubelet still reports."""
    pressed = [node for node in world.all(Node) if any((item := node.condition(kind)) and item.status == "True" for kind in _PRESSURES)]
    waiting = _waiting(world) if pressed else {}
    for node in world.all(Node):
        for kind, what in _PRESSURES.items():
            found = node.condition(kind)
            if found is None or found.status != "True":
                continue
            since = found.last_transition_time
            evidence = [cite(Source.FIELD, node.ref, f"status.conditions[{kind}]", f"{found.reason}: {found.message}", since)]
            events = world.events(node.ref, "EvictionThresholdMet", "FreeDiskSpaceFailed", "ImageGCFailed", "SystemOOM")[-2:]
            evidence.extend(cite(Source.EVENT, node.ref, event.reason, event.text, event.last_seen) for event in events)
            evicted = [pod for pod in world.pods_on(node.name) if pod.status.reason == "Evicted"]
            affected = _affected(world, evicted, waiting.get(node.name, ()))
            text = f"Node {node.name} is short of {what} since {_at(since)} ({found.message}); {len(evicted)} of its pods were evicted."
            yield Finding("node.pressure", node.ref, Certainty.PROVEN, tuple(evidence), text, affected, since)


def node_problem(world: World) -> Iterable[Finding]:
    """What node-problem-detector says of a node that may still be Ready."""
    for node in world.all(Node):
        for kind, (code, words) in _PROBLEMS.items():
            found = node.condition(kind)
            if found is None or found.status != "True":
                continue
            since = found.last_transition_time
            evidence = (cite(Source.FIELD, node.ref, f"status.conditions[{kind}]", f"{found.reason}: {found.message}", since),)
            troubled = [pod for pod in world.pods_on(node.name) if not pod.finished and not pod.ready]
            text = f"Node {node.name} has a problem: {words} ({found.message or found.reason}), since {_at(since)}."
            yield Finding(code, node.ref, Certainty.PROVEN, evidence, text, _affected(world, troubled), since)


# K net/netfilter/nf_conntrack_core.c; older kernels say ip_conntrack.
_TABLE_FULL = re.compile(r"(?:nf|ip)_conntrack: table full")


def system_out_of_memory(world: World) -> Iterable[Finding]:
    """The kernel killed processes for lack of memory on the whole node, not inside a container's limit."""
    for node in world.all(Node):
        events = [event for event in world.events(node.ref, "SystemOOM") if event.last_seen and world.now - event.last_seen < RECENT]
        if events:
            event = events[-1]
            proof = cite(Source.EVENT, node.ref, event.reason, event.text, event.last_seen)
            text = f"Node {node.name} ran out of memory {sum(item.times for item in events)} times in half an hour: {event.text}."
            yield Finding("node.out-of-memory", node.ref, Certainty.LIKELY, (proof,), text, since=events[0].first_seen)


def connection_table_full(world: World) -> Iterable[Finding]:
    """A node whose kernel drops packets because its table of connections is full, as a node's own monitor reports the kernel's words."""
    for node in world.all(Node):
        events = [
            event
            for event in world.events(node.ref)
            if _TABLE_FULL.search(event.text) and event.last_seen and world.now - event.last_seen < RECENT
        ]
        if events:
            event = events[-1]
            pods = world.pods_on(node.name)
            yield Finding(
                "network.packet-loss",
                node.ref,
                Certainty.PROVEN,
                (cite(Source.EVENT, node.ref, event.reason, event.text, event.last_seen),),
                f"Node {node.name} drops packets of new connections: its kernel's table of connections is full "
                f"({sum(item.times for item in events)} reports): {event.text[:160]}",
                affects=tuple(dict.fromkeys((*(pod.ref for pod in pods), *(world.top_owner(pod.ref) for pod in pods)))),
                since=events[0].first_seen,
            )


def clock_skew(world: World) -> Iterable[Finding]:
    """A node that stamps its lease with another time than its peers, while the control plane still finds it Ready."""
    leases = {
        lease.name: lease.spec.renew_time for lease in world.all(Lease) if lease.namespace == "kube-node-lease" and lease.spec.renew_time
    }
    offsets = {name: renewed - world.now for name, renewed in leases.items()}
    punctual = [name for name, offset in offsets.items() if abs(offset) < CLOCK_TOLERANCE]
    for node in world.all(Node):
        offset = offsets.get(node.name)
        if offset is None or not node.ready or abs(offset) < CLOCK_TOLERANCE * 2 or len(punctual) * 2 < len(offsets):
            continue
        lease = ObjectRef("Lease", "kube-node-lease", node.name)
        seconds = offset.total_seconds()
        proof = cite(Source.FIELD, lease, "spec.renewTime", f"{seconds:+.0f} s against the other nodes", leases[node.name])
        way = "ahead" if seconds > 0 else "behind"
        text = f"The clock of node {node.name} is {abs(seconds):.0f} s {way}: it is Ready, but stamps its lease so."
        yield Finding("node.clock-skew", node.ref, Certainty.LIKELY, (proof,), text)


def kube_proxy_down(world: World) -> Iterable[Finding]:
    """Nodes without a working kube-proxy: Services stop being followed there."""
    for workload in world.all(DaemonSet):
        if workload.labels.get("k8s-app") != "kube-proxy" and workload.name != "kube-proxy":
            continue
        status = workload.status
        ready_on = {pod.spec.node_name for pod in world.pods_of(workload.ref) if pod.ready}
        without = [node for node in world.all(Node) if node.ready and node.name not in ready_on] if world.pods_of(workload.ref) else []
        if status.number_ready >= status.desired_number_scheduled and (status.desired_number_scheduled or not world.all(Node)):
            continue
        # On a node that is lost nothing is ready; that is the node's fault, not kube-proxy's.
        if world.all(Node) and not without and world.pods_of(workload.ref):
            continue
        names = ", ".join(node.name for node in without[:5])
        proof = cite(Source.FIELD, workload.ref, "status", f"{status.number_ready} of {status.desired_number_scheduled} ready")
        missing = f"; not on {names}" if names else ""
        text = f"kube-proxy is ready on {status.number_ready} of {status.desired_number_scheduled} nodes{missing}."
        subject = without[0].ref if len(without) == 1 and len(world.all(Node)) > 1 else workload.ref
        affects = (workload.ref, *(pod.ref for pod in world.pods_of(workload.ref) if not pod.ready))
        yield Finding("node.kube-proxy-down", subject, Certainty.PROVEN, (proof,), text, affects)


def evicted(world: World) -> Iterable[Finding]:
    """Pods that the kubelet evicted or refused, per workload; history where the workload has its pods again, unless they break a limit of
    their own again and again."""
    recurring: Counter[ObjectRef] = Counter()
    for pod in world.pods_not_ready():
        moment = _evicted_at(world, pod) if pod.status.reason == "Evicted" else None
        if moment is not None and _OWN_LIMIT.search(pod.status.message or "") and world.now - moment < RECURRING_WINDOW:
            recurring[world.top_owner(pod.ref)] += 1
    for pod in world.pods_not_ready():
        if pod.status.reason != "Evicted":
            continue
        owner = world.top_owner(pod.ref)
        message = (pod.status.message or "").strip()
        since = _evicted_at(world, pod)
        where = f" from node {pod.spec.node_name}" if pod.spec.node_name else ""
        evidence = (cite(Source.FIELD, pod.ref, "status.reason", f"Evicted: {message or 'no message'}", since),)
        text = f"{pod.ref} was evicted{where}: {message or 'the kubelet gives no reason'}"
        code = "node.evicted-recovered" if _recovered(world, owner) and recurring[owner] < RECURRING_TIMES else "node.evicted"
        moment = since or pod.status.start_time or pod.created
        if code == "node.evicted-recovered" and moment is not None and world.now - moment > LEFT_OVER:
            continue
        yield Finding(code, owner, Certainty.PROVEN, evidence, text, affects=(pod.ref,), since=since)


def _evicted_at(world: World, pod: Pod) -> datetime | None:
    since = next((item.last_transition_time for item in pod.status.conditions or () if item.type == "DisruptionTarget"), None)
    return since or next((event.first_seen for event in world.events(pod.ref, "Evicted")), None)


def _recovered(world: World, owner: ObjectRef) -> bool:
    match world.find(owner):
        case Deployment() | ReplicaSet() | StatefulSet() as fact:
            return fact.status.ready_replicas >= fact.spec.replicas
        case DaemonSet() as fact:
            return fact.status.number_ready >= fact.status.desired_number_scheduled
    return False


_REJECTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^OutOfcpu$"), "scheduling.insufficient-cpu"),
    (re.compile(r"^OutOfmemory$"), "scheduling.insufficient-memory"),
    (re.compile(r"^OutOf.*/"), "scheduling.insufficient-extended-resource"),
    (re.compile(r"^UnexpectedAdmissionError$"), "node.pod-rejected-devices"),
    # A TopologyAffinityError's devices are there, only not beside the CPUs: the node works, and the pod asks for what it cannot give.
    (
        re.compile(r"^(?:OutOf.*|NodeAffinity|NodeShutdown|PodOSNotSupported|SysctlForbidden|AppArmor|TopologyAffinityError|NodePorts)$"),
        "node.pod-rejected",
    ),
)


def rejected(world: World) -> Iterable[Finding]:
    """Pods that a kubelet refused to run. They stay Failed; their controller makes new ones that may fail alike."""
    for pod in world.pods_not_ready():
        reason = pod.status.reason or ""
        if pod.status.phase != "Failed" or not reason:
            continue
        yield from _rejected(world, pod, reason)


def _rejected(world: World, pod: Pod, reason: str) -> Iterator[Finding]:
    owner = world.top_owner(pod.ref)
    code = next((code for pattern, code in _REJECTIONS if pattern.match(reason)), None)
    if code is None or _recovered(world, _maker(world, pod)):
        return
    message = pod.status.message or reason
    device = "devices" in message or re.search(r"Allocate failed|no healthy devices|unregistered device", message)
    if code == "node.pod-rejected-devices" and not device:
        code = "node.pod-rejected"
    subject = ObjectRef("Node", None, pod.spec.node_name) if code == "node.pod-rejected-devices" and pod.spec.node_name else owner
    evidence: tuple[Evidence, ...] = (cite(Source.FIELD, pod.ref, "status.message", f"{reason}: {message}", pod.status.start_time),)
    text = f"The kubelet of node {pod.spec.node_name} refuses {pod.ref}: {message[:240]}"
    yield Finding(code, subject, Certainty.PROVEN, evidence, text, affects=(pod.ref, owner), since=pod.created)


def _maker(world: World, pod: Pod) -> ObjectRef:
    """The ReplicaSet that made a pod: while a new revision is refused, the pods of the old one go on serving. Else the top owner."""
    chain = world.owner_chain(pod.ref)
    made_by = next((ref for ref in chain if ref.kind == ReplicaSet.kind and world.find(ref) is not None), None)
    return made_by or world.top_owner(pod.ref)


def _at(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "an unknown time"


def _ago(now: datetime, moment: datetime) -> str:
    return f"{(now - moment).total_seconds():.0f} s"


DETECTORS: tuple[Detector, ...] = (
    node_not_ready,
    node_pressure,
    node_problem,
    system_out_of_memory,
    connection_table_full,
    clock_skew,
    kube_proxy_down,
    evicted,
    rejected,
)
