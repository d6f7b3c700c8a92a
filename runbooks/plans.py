"""What to ask next: the kinds that every investigation reads, and the order in which wanted evidence is worth its price.

It asks nothing itself. A want that many findings share, or that could settle a root cause, comes before one that would only add
detail; replicas of one workload fail alike, so the logs of a few of them stand for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set

from cluster.facts.network import Endpoints, EndpointSlice, Service
from cluster.facts.pod import Pod
from cluster.kinds import CUSTOM_KINDS, KINDS
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.catalogue import Role, code_of
from runbooks.causes import merged
from runbooks.changes import DEPLOYERS
from runbooks.finding import Certainty, Finding, LogWant, MetricWant, ObjectsWant, TelemetryWant, Want
from runbooks.graph import Graph
from runbooks.traffic import is_system

REPLICA_LOGS = 2
FOCUS_LOGS = 24
FOCUS_PODS = 2
LAST_RESORT_WORKLOADS = 40
# Endpoints are deprecated since Kubernetes 1.33 in favour of EndpointSlices and only read where those are missing; what deploys is read
# by whoever asks what changed.
_ON_DEMAND = frozenset({Endpoints.kind, *DEPLOYERS})


def base_wants() -> tuple[Want, ...]:
    """What is read before anything is suspected: the kinds, most telling first, and what monitoring says. An absent kind costs a live
    reader nothing."""
    kinds = tuple(ObjectsWant(kind.name) for kind in (*KINDS, *CUSTOM_KINDS) if kind.name not in _ON_DEMAND)
    return (*kinds, TelemetryWant())


def next_wants(world: World, findings: tuple[Finding, ...], asked: Set[Want], focus: tuple[ObjectRef, ...] = ()) -> tuple[Want, ...]:
    """Everything that findings want and nobody asked yet, best first; at most `REPLICA_LOGS` logs for one container of one workload."""
    near = world.once(Graph).reach(focus) if focus else frozenset()
    scored: dict[Want, list[tuple[object, ...]]] = defaultdict(list)
    for finding in merged(findings):
        for want in finding.wants:
            scored[want].append((finding.subject.key not in near, *_value(finding)))
    ordered = sorted(scored, key=lambda want: (min(scored[want]), -len(scored[want]), _price(want), str(want)))
    return tuple(_without_replicas(world, ordered, asked))


def substitutes(world: World, asked: Set[Want]) -> tuple[Want, ...]:
    """Older kinds that say the same, where the newer ones could not be read."""
    want = ObjectsWant(Endpoints.kind)
    needed = world.all(Service) and not world.all(EndpointSlice) and want not in asked
    return (want,) if needed else ()


def focus_wants(world: World, focus: tuple[ObjectRef, ...], asked: Set[Want]) -> tuple[Want, ...]:
    """Logs of what a question is about: a process that runs and serves wrongly shows it there alone. The worst pods of each object."""
    pods: dict[str, Pod] = {}
    for ref in focus:
        service = world.find(ref)
        if isinstance(service, Service):
            found = world.pods_selected(service.namespace, service.spec.selector or {})
        else:
            found = world.pods_of(world.top_owner(ref))
        pods.update((str(pod.ref), pod) for pod in sorted(found, key=_health)[:FOCUS_PODS])
    return tuple(want for pod in pods.values() for want in _logs(world, pod) if want not in asked)[:FOCUS_LOGS]


def last_resort(world: World, asked: Set[Want]) -> tuple[Want, ...]:
    """When somebody complains and no object shows anything: the log of one pod of each workload, where those are few."""
    chosen: dict[ObjectRef, Pod] = {}
    for pod in sorted(world.all(Pod), key=_health):
        # The platform's own programs are heard when they are asked about, and its control plane by whoever asks about a whole cluster.
        if is_system(pod.namespace) and not world.scope.namespaces and pod.labels.get("tier") != "control-plane":
            continue
        chosen.setdefault(world.top_owner(pod.ref), pod)
    if len(chosen) > LAST_RESORT_WORKLOADS:
        return ()
    wants = (want for _, pod in sorted(chosen.items()) for want in _logs(world, pod))
    return tuple(want for want in wants if want not in asked)


def _health(pod: Pod) -> tuple[object, ...]:
    return (pod.ready, -max((status.restart_count for status in pod.all_statuses), default=0), pod.name)


def _logs(world: World, pod: Pod) -> Iterator[LogWant]:
    """The logs that a pod can have. A status may be older than the log, so a container that waits is asked too, once it has a node.
    A pod that was recorded without its containers has those of its workload's template."""
    if pod.spec.node_name is None and pod.status.phase == "Pending":
        return
    template = getattr(world.find(world.top_owner(pod.ref)), "template", None)
    for container in pod.spec.all_containers or (template.spec.all_containers if template else ()):
        status = pod.container_status(container.name)
        ref = ContainerRef(pod.namespace or "", pod.name, container.name)
        yield LogWant(ref, deep=True)
        if status is not None and status.restart_count:
            yield LogWant(ref, previous=True, deep=True)


def _value(finding: Finding) -> tuple[object, ...]:
    """Smaller is better: what may be a root cause and is not proven yet, by severity and by how specific it is."""
    code = code_of(finding.code)
    return (
        code.role is not Role.CAUSE,
        code.role is Role.ADVISORY,
        finding.certainty is Certainty.PROVEN,
        code.severity != "error",
        -code.weight,
    )


def _price(want: Want) -> int:
    """Objects are one request for many answers; a metric costs its source a query; a log is the longest to read."""
    match want:
        case ObjectsWant():
            return 0
        case MetricWant() | TelemetryWant():
            return 1
        case LogWant():
            return 2


def _without_replicas(world: World, wants: Iterable[Want], asked: Set[Want]) -> Iterable[Want]:
    taken: dict[tuple[object, ...], int] = defaultdict(int)
    for want in asked:
        if isinstance(want, LogWant):
            taken[_workload_log(world, want)] += 1
    for want in wants:
        if want in asked:
            continue
        if isinstance(want, LogWant):
            group = _workload_log(world, want)
            if taken[group] >= REPLICA_LOGS:
                continue
            taken[group] += 1
        yield want


def _workload_log(world: World, want: LogWant) -> tuple[object, ...]:
    one = want.container.pod_ref if want.each else world.top_owner(want.container.pod_ref)
    return (one.key, want.container.container, want.previous)
