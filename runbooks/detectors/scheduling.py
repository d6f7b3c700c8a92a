"""Pods that get no node: which constraint, whose, with the numbers. It blames one obstacle per workload and refuses to repeat
what a volume, a device or a broken node explains: those pods get a symptom, and the other family names the cause.
Limits: beyond resources, ports, labels, taints, anti-affinity and volumes, the scheduler's message is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec.structs import replace

from cluster.facts.event import Event
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, ObjectsWant, Source, cite
from runbooks.pending import NATIVE_RESOURCES, Blame, Group, blame_of, broken_device_nodes, pending_groups
from runbooks.scheduling import Hurdle, Obstacle, Usage, affinity_text, amount_text, host_ports, requests_of

NODES_NAMED = 5
_RESOURCE_CODES = {"cpu": "scheduling.insufficient-cpu", "memory": "scheduling.insufficient-memory"}
_REFUSED_SCALE_UP: tuple[tuple[str, str], ...] = (
    ("in backoff after failed scale-up", "capacity.scale-up-backoff"),
    ("max node group size reached", "capacity.limit-reached"),
    ("max total nodes in cluster reached", "capacity.limit-reached"),
    ("exceed limits for nodepool", "capacity.limit-reached"),
    ("max cluster cpu limit reached", "capacity.limit-reached"),
    ("max cluster memory limit reached", "capacity.limit-reached"),
)
_PREEMPTOR = re.compile(r"(?i)preempted by (?:a )?pod (\S+)")


def unschedulable(world: World) -> Iterable[Finding]:
    """Every workload whose pods the scheduler refuses, blamed on one obstacle."""
    groups = world.once(pending_groups)
    if not groups:
        return
    usage = world.once(Usage)
    victims = _preempted_owners(world)
    for group in groups:
        blame = blame_of(group, usage)
        if blame is None:
            yield from _untold(world, group)
        elif blame.obstacle is Obstacle.RESOURCE and group.owner.key in victims:
            yield _preempted(group, victims[group.owner.key])
        else:
            yield from _blamed(world, group, blame, usage)


def _finding(group: Group, blame: Blame | None, code: str, explanation: str, subject: ObjectRef | None = None) -> Finding:
    """PROVEN where the scheduler said it, LIKELY where only the evaluation of the nodes does."""
    return Finding(
        code,
        subject or group.owner,
        Certainty.PROVEN if blame is not None and blame.said else Certainty.LIKELY,
        group.evidence or (cite(Source.FIELD, group.sample.ref, "status.phase", "Pending without spec.nodeName"),),
        explanation,
        affects=group.affected if subject is None else (*group.affected, group.owner),
        since=group.since,
    )


def _blamed(world: World, group: Group, blame: Blame, usage: Usage) -> Iterator[Finding]:
    who, spec = _count(group), group.sample.spec
    match blame.obstacle:
        case Obstacle.SELECTOR:
            yield _selector(group, blame, who)
        case Obstacle.TAINT:
            yield _taint(group, blame, who)
        case Obstacle.CORDON:
            yield from _cordon(group, blame, who)
        case Obstacle.RESOURCE:
            yield from _resource(world, group, blame, who, usage)
        case Obstacle.HOST_PORT:
            ports = ", ".join(f"{port}/{protocol}" for port, protocol in sorted(host_ports(spec))) or "its host ports"
            holders = sorted({item.detail for found in blame.hurdles.values() for item in found if item.obstacle is Obstacle.HOST_PORT})
            held = f" ({'; '.join(holders[:3])})" if holders else ""
            finding = _finding(
                group, blame, "scheduling.host-port-conflict", f"{who} asks for host port {ports}, taken on every usable node{held}."
            )
            held_evidence = tuple(cite(Source.FIELD, group.sample.ref, "spec.containers[].ports[].hostPort", text) for text in holders[:2])
            yield replace(finding, evidence=(*finding.evidence, *held_evidence))
        case Obstacle.ANTI_AFFINITY:
            yield _finding(group, blame, "scheduling.pod-anti-affinity", _anti_affinity(world, group, who, usage))
        case Obstacle.POD_AFFINITY:
            text = f"{who} requires to run beside pods that no usable node has (pod affinity)."
            yield _finding(group, blame, "scheduling.pod-affinity", text)
        case Obstacle.SPREAD:
            rules = ", ".join(
                f"{item.topology_key} maxSkew {item.max_skew}"
                for item in spec.topology_spread_constraints or ()
                if item.when_unsatisfiable == "DoNotSchedule"
            )
            text = f"{who} cannot be placed without breaking its topology spread constraints{f' ({rules})' if rules else ''}."
            yield _finding(group, blame, "scheduling.topology-spread", text)
        case Obstacle.SICK_NODE:
            names = _names(blame.nodes)
            text = f"{who} fits only on nodes that are not usable now{f' ({names})' if names else ''}."
            yield _finding(group, blame, "scheduling.waits-for-node", text)
        case Obstacle.CLAIM_MISSING | Obstacle.CLAIM_UNBOUND | Obstacle.VOLUME_IN_USE | Obstacle.VOLUME_PLACE:
            yield _finding(group, blame, "scheduling.waits-for-volume", f"{who} waits for a volume: {_reason(group, blame)}.")
        case Obstacle.DEVICES:
            yield _finding(group, blame, "scheduling.waits-for-devices", f"{who} waits for its device claim: {_reason(group, blame)}.")
        case _:
            yield _finding(group, blame, "scheduling.unschedulable", f"{who} fits no node: {_reason(group, blame)}.")


def _selector(group: Group, blame: Blame, who: str) -> Finding:
    spec = group.sample.spec
    affinity = spec.affinity.node_affinity if spec.affinity else None
    unmet = [item.detail for found in blame.hurdles.values() for item in found if item.obstacle is Obstacle.SELECTOR]
    by_selector = bool(spec.node_selector) and (not unmet or any(text.startswith("nodeSelector") for text in unmet))
    if by_selector or not (affinity and affinity.required):
        wanted = ", ".join(f"{key}={value}" for key, value in (spec.node_selector or {}).items()) or "what it selects"
        where = f"none of {len(blame.hurdles)} nodes has that label" if blame.hurdles else "no node carries it"
        finding = _finding(
            group, blame, "scheduling.node-selector-mismatch", f"{who} requires a node with {wanted} (nodeSelector), but {where}."
        )
        path = "spec.nodeSelector"
    else:
        wanted = affinity_text(affinity.required)
        finding = _finding(
            group,
            blame,
            "scheduling.node-affinity-mismatch",
            f"{who} requires a node where {wanted} (node affinity); no usable node matches.",
        )
        path = "spec.affinity.nodeAffinity"
    return replace(finding, evidence=(*finding.evidence, cite(Source.FIELD, group.sample.ref, path, wanted)))


def _taint(group: Group, blame: Blame, who: str) -> Finding:
    taints: dict[str, list[str]] = {}
    for name, found in blame.hurdles.items():
        for item in found:
            if item.obstacle is Obstacle.TAINT:
                taints.setdefault(item.detail, []).append(name)
    evidence = tuple(
        cite(Source.FIELD, ObjectRef("Node", None, names[0]), "spec.taints", f"{taint} on {len(names)} of {len(blame.hurdles)} nodes")
        for taint, names in list(taints.items())[:3]
    )
    named = ", ".join(taints) or (blame.detail or "").rstrip(": ") or "a taint"
    nodes = sum(item.nodes for item in blame.refusals)
    text = (
        f"{who} does not tolerate taint {named}" + (f" on {nodes} of {group.message.total} nodes" if group.message and nodes else "") + "."
    )
    finding = _finding(group, blame, "scheduling.untolerated-taint", text)
    return replace(finding, evidence=(*finding.evidence, *evidence))


def _cordon(group: Group, blame: Blame, who: str) -> Iterator[Finding]:
    if not blame.nodes:
        yield _finding(group, blame, "scheduling.nodes-cordoned", f"{who} finds the nodes it could use cordoned (unschedulable).")
    for node in blame.nodes[:NODES_NAMED]:
        taint = next((item for item in node.spec.taints or () if item.key == "node.kubernetes.io/unschedulable"), None)
        finding = _finding(
            group,
            blame,
            "scheduling.node-cordoned",
            f"Node {node.name} is cordoned (spec.unschedulable); {who} would fit there and fits nowhere else.",
            subject=node.ref,
        )
        cited = cite(Source.FIELD, node.ref, "spec.unschedulable", "true", taint.time_added if taint else None)
        yield replace(finding, evidence=(cited, *finding.evidence), since=(taint.time_added if taint else None) or group.since)


def _resource(world: World, group: Group, blame: Blame, who: str, usage: Usage) -> Iterator[Finding]:
    resource = blame.detail or "cpu"
    short = [item for found in blame.hurdles.values() for item in found if item.obstacle is Obstacle.RESOURCE and item.detail == resource]
    wanted = requests_of(group.sample.spec).get(resource, 0.0)
    nodes = [node for node in usage.nodes if Obstacle.SELECTOR not in {item.obstacle for item in blame.hurdles.get(node.name, ())}]
    if resource not in NATIVE_RESOURCES and broken_device_nodes(nodes, resource):
        names = _names(broken_device_nodes(nodes, resource))
        yield _finding(group, blame, "scheduling.waits-for-device-plugin", f"{who} asks for {resource}, withdrawn from {names}.")
        return
    refused = _scale_up_refusal(world, group)
    size = max((item.size for item in short), default=0.0)
    if refused is not None and (not short or wanted <= size):
        code, event = refused
        needs = amount_text(resource, wanted)
        text = f"{who} needs {needs} that no node has free, and the autoscaler will not add a node: {event.text[:200]}."
        finding = _finding(group, blame, code, text)
        yield replace(finding, evidence=(*finding.evidence, cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)))
        return
    free = sum(usage.free(node, resource) for node in nodes)
    code = _RESOURCE_CODES.get(resource, "scheduling.insufficient-resource")
    if resource not in NATIVE_RESOURCES:
        code = "scheduling.insufficient-extended-resource"
    text = f"{who} asks for {amount_text(resource, wanted)} and no usable node has that free."
    if short and wanted > size:
        text = f"{who} asks for {amount_text(resource, wanted)}, more than any usable node has (largest {amount_text(resource, size)})."
    elif short and resource not in NATIVE_RESOURCES and wanted <= free:
        code = "gpu.fragmentation"
        largest = max(item.free for item in short)
        text = f"{who} asks for {amount_text(resource, wanted)}; {free:g} are free in all, but at most {largest:g} on one node."
    elif short:
        most = amount_text(resource, max(item.free for item in short))
        text = f"{who} asks for {amount_text(resource, wanted)}; the most free on a usable node is {most}."
    finding = _finding(group, blame, code, text)
    yield replace(finding, evidence=(*finding.evidence, *_request_evidence(group.sample, resource, wanted, short)))


def _request_evidence(pod: Pod, resource: str, wanted: float, short: list[Hurdle]) -> tuple[Evidence, ...]:
    if not wanted:
        return ()
    against = f"; largest node has {amount_text(resource, max(item.size for item in short))}" if short else ""
    return (cite(Source.FIELD, pod.ref, f"spec.containers[].resources.requests[{resource}]", f"{amount_text(resource, wanted)}{against}"),)


def _scale_up_refusal(world: World, group: Group) -> tuple[str, Event] | None:
    """What the cluster autoscaler says of the group. Source: cluster-autoscaler processors/status/eventing_scale_up_processor.go."""
    for pod in group.pods:
        for event in reversed(world.events(pod.ref, "NotTriggerScaleUp", "FailedScheduling")):
            for words, code in _REFUSED_SCALE_UP:
                if words in event.text:
                    return code, event
    return None


def _untold(world: World, group: Group) -> Iterator[Finding]:
    """Pods that neither a scheduler nor the nodes explain: a device request is the usual reason."""
    pod = group.sample
    template = _template_requests(world, group)
    devices = {name: value for name, value in template.items() if "/" in name and value > 0}
    if pod.spec.resource_claims or not devices or pod.status.conditions:
        return
    name, value = next(iter(devices.items()))
    yield Finding(
        "scheduling.insufficient-extended-resource",
        _owner_by_name(world, pod) or group.owner,
        Certainty.LIKELY,
        (
            cite(Source.FIELD, pod.ref, "status.phase", "Pending without spec.nodeName", group.since),
            cite(Source.FIELD, group.owner, f"resources.requests[{name}]", f"{value:g}"),
        ),
        f"{_count(group)} has no node and asks for {amount_text(name, value)}, which no node is seen to offer.",
        affects=group.affected,
        since=group.since,
        wants=(ObjectsWant("Node"), ObjectsWant("Event", pod.namespace)),
        lacks="the scheduler's message or the nodes' allocatable resources",
    )


def _template_requests(world: World, group: Group) -> dict[str, float]:
    asked = requests_of(group.sample.spec)
    if asked:
        return asked
    owner = world.find(_owner_by_name(world, group.sample) or group.owner)
    return requests_of(owner.template.spec) if isinstance(owner, Deployment | StatefulSet | ReplicaSet) else {}


def _preempted_owners(world: World) -> dict[tuple[str, str | None, str], tuple[Evidence, str, datetime | None]]:
    """Workloads that lost a pod to a more important one: owner key -> evidence, the preemptor in words, when."""
    found: dict[tuple[str, str | None, str], tuple[Evidence, str, datetime | None]] = {}
    preempted = [event for event in world.all(Event) if event.reason == "Preempted" and event.subject.kind == "Pod"]
    by_uid = {pod.metadata.uid: pod for pod in world.all(Pod)} if preempted else {}
    for event in preempted:
        victim = world.get(Pod, event.subject.namespace, event.subject.name)
        owner = world.top_owner(victim.ref) if victim else _owner_by_name(world, event.subject)
        match = _PREEMPTOR.search(event.text)
        winner = by_uid.get(match[1].rstrip(".")) if match else None
        words = f"Pod {winner.namespace}/{winner.name} (priority {winner.spec.priority or 0})" if winner else "a pod of higher priority"
        if owner is not None:
            found[owner.key] = (cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen), words, event.first_seen)
    return found


def _preempted(group: Group, loss: tuple[Evidence, str, datetime | None]) -> Finding:
    evidence, winner, since = loss
    own = group.sample.spec.priority_class_name or f"priority {group.sample.spec.priority or 0}"
    text = f"{group.owner} ({own}) was preempted by {winner} and its pod finds no room since."
    return Finding(
        "scheduling.preempted", group.owner, Certainty.PROVEN, (evidence, *group.evidence), text, affects=group.affected, since=since
    )


def _owner_by_name(world: World, pod: Pod | ObjectRef) -> ObjectRef | None:
    """The workload of a pod that carries no owner or is gone, by the names that controllers give (workload-hash-suffix)."""
    parts = pod.name.split("-")
    for kind, cut in (("ReplicaSet", 1), ("StatefulSet", 1), ("Deployment", 2), ("DaemonSet", 1), ("Job", 1)):
        ref = ObjectRef(kind, pod.namespace, "-".join(parts[:-cut]))
        if len(parts) > cut and world.find(ref) is not None:
            return world.top_owner(ref)
    return None


def _anti_affinity(world: World, group: Group, who: str, usage: Usage) -> str:
    owner = world.find(group.owner)
    replicas = owner.spec.replicas if isinstance(owner, Deployment | StatefulSet | ReplicaSet) else None
    rules = group.sample.spec.affinity.pod_anti_affinity if group.sample.spec.affinity else None
    keys = {term.topology_key for term in (rules.required if rules else None) or ()}
    places = {node.labels[key] for node in usage.nodes for key in keys if key in node.labels}
    wants = f"; it wants {replicas} replicas on {len(places)} places" if replicas and places else ""
    where = ", ".join(sorted(keys)) or "a node"
    return f"{who} may not run beside pods that every usable node already has (required anti-affinity on {where}{wants})."


def _reason(group: Group, blame: Blame) -> str:
    texts = [item.text for item in blame.refusals] or ([group.message.text] if group.message else ["no reason given"])
    return "; ".join(texts)[:300]


def _count(group: Group) -> str:
    return f"{group.owner}" if len(group.pods) == 1 else f"{group.owner} ({len(group.pods)} pods)"


def _names(nodes: tuple[Node, ...]) -> str:
    shown = ", ".join(node.name for node in nodes[:NODES_NAMED])
    return f"{shown} and {len(nodes) - NODES_NAMED} more" if len(nodes) > NODES_NAMED else shown


DETECTORS: tuple[Detector, ...] = (unschedulable,)
