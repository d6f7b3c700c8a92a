"""Pods without a node, grouped by the workload they belong to, and which single obstacle is to blame for each group.

Scheduling, node and device detectors share this reading, so that a pod waiting for a cordoned node is blamed once. It names no
code and makes no finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Evidence, Source, cite
from runbooks.scheduling import (
    CONTROL_PLANE_TAINTS,
    Hurdle,
    Obstacle,
    Refusal,
    Unschedulable,
    Usage,
    parse_message,
    requests_of,
    unmet_labels,
)

NATIVE_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})
# Failures of the claim or the devices stop the scheduler before it looks at nodes, or at every node alike.
_FIRST = (Obstacle.CLAIM_MISSING, Obstacle.CLAIM_UNBOUND, Obstacle.DEVICES, Obstacle.VOLUME_IN_USE)
_LAST = frozenset({Obstacle.SELECTOR, Obstacle.NODE_NAME, Obstacle.CORDON, Obstacle.SICK_NODE})

_OWN_RULES = frozenset({Obstacle.HOST_PORT, Obstacle.POD_AFFINITY, Obstacle.ANTI_AFFINITY, Obstacle.SPREAD})


class Group(Struct, frozen=True):
    """Pods of one workload that wait for a node for the same reason. `message` is None where no scheduler has spoken."""

    owner: ObjectRef
    pods: tuple[Pod, ...]
    message: Unschedulable | None
    evidence: tuple[Evidence, ...]
    since: datetime | None

    @property
    def sample(self) -> Pod:
        return self.pods[0]

    @property
    def affected(self) -> tuple[ObjectRef, ...]:
        return tuple(pod.ref for pod in self.pods)


class Blame(Struct, frozen=True):
    """The obstacle to remove. `nodes` are those that removing it would open; `hurdles` is the evaluation of every node by name."""

    obstacle: Obstacle
    detail: str | None
    said: bool
    nodes: tuple[Node, ...] = ()
    hurdles: Mapping[str, tuple[Hurdle, ...]] = {}
    refusals: tuple[Refusal, ...] = ()


def pending_groups(world: World) -> tuple[Group, ...]:
    """Every pod that is Pending without a node and not gated, by top owner and message."""
    groups: dict[tuple[object, str], list[tuple[Pod, tuple[Evidence, ...], datetime | None]]] = defaultdict(list)
    for pod in world.unready_pods():
        if pod.spec.node_name or pod.status.phase != "Pending" or pod.deleting or pod.spec.scheduling_gates:
            continue
        text, evidence, since = _words(world, pod)
        groups[(world.top_owner(pod.ref).key, text)].append((pod, evidence, since))
    return tuple(
        Group(
            owner=world.top_owner(members[0][0].ref),
            pods=tuple(pod for pod, _, _ in members),
            message=parse_message(text) if text else None,
            evidence=members[0][1],
            since=min((since for _, _, since in members if since), default=None),
        )
        for (_, text), members in groups.items()
    )


def _words(world: World, pod: Pod) -> tuple[str, tuple[Evidence, ...], datetime | None]:
    """What the scheduler says of the pod: its condition before its events, which expire."""
    for item in pod.status.conditions or ():
        if item.type == "PodScheduled" and item.status == "False" and item.reason in ("Unschedulable", "SchedulerError") and item.message:
            since = item.last_transition_time or pod.created
            cited = cite(Source.FIELD, pod.ref, "status.conditions[PodScheduled].message", item.message, since)
            return item.message, (cited,), since
    said = [event for event in world.events(pod.ref, "FailedScheduling") if event.text]
    if said:
        event = said[-1]
        return event.text, (cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen),), event.first_seen
    return "", (), pod.created


def blame_of(group: Group, usage: Usage) -> Blame | None:
    """Which obstacle keeps the group off every node; None where neither the scheduler nor the nodes tell."""
    hurdles = usage.hurdles(group.sample)
    refusals = group.message.refusals if group.message else ()
    said = {item.obstacle for item in refusals}
    kinds = {name: frozenset(item.obstacle for item in items) for name, items in hurdles.items()}
    if not refusals:
        return _evaluated(usage, hurdles, kinds)

    def lone(obstacle: Obstacle) -> tuple[Node, ...]:
        return tuple(node for node in usage.nodes if kinds[node.name] == {obstacle})

    def chosen(obstacle: Obstacle, detail: str | None = None, nodes: tuple[Node, ...] | None = None) -> Blame:
        opened = lone(obstacle) if nodes is None else nodes
        return Blame(obstacle, detail, obstacle in said, opened, hurdles, tuple(r for r in refusals if r.obstacle is obstacle))

    for obstacle in _FIRST:
        if obstacle in said:
            return chosen(obstacle, next(item.detail for item in refusals if item.obstacle is obstacle))
    # The taint of a sick node is among those that the message counts without their keys.
    hidden = any(item.obstacle is Obstacle.TAINT and item.detail is None for item in refusals)
    for obstacle in (Obstacle.CORDON, Obstacle.SICK_NODE):
        if (obstacle in said or (hidden and obstacle is Obstacle.SICK_NODE)) and lone(obstacle):
            return chosen(obstacle)
    if Obstacle.SELECTOR in said and kinds and all(Obstacle.SELECTOR in found for found in kinds.values()):
        return chosen(Obstacle.SELECTOR)
    rest = [item for item in refusals if item.obstacle not in _LAST and not _control_plane_only(item, hurdles)]
    if not rest:
        return chosen(_fallback(said))
    # Nodes without the taint are open to the pod, and on those it is its own rule that does not hold.
    if any(item.obstacle in _OWN_RULES for item in rest):
        rest = [item for item in rest if item.obstacle is not Obstacle.TAINT]
    obstacles = {item.obstacle for item in rest}
    if obstacles >= {Obstacle.TAINT, Obstacle.RESOURCE}:
        reserved = {node.name for node in usage.nodes if _reserved_for_devices(node, group.sample)}
        obstacle = Obstacle.TAINT if _taint_matters_more(rest, hurdles, kinds, reserved) else Obstacle.RESOURCE
    else:
        obstacle = max(rest, key=lambda item: item.nodes).obstacle
    if obstacle is Obstacle.RESOURCE:
        return chosen(obstacle, _scarcest(rest, hurdles))
    return chosen(obstacle, next((item.detail for item in rest if item.obstacle is obstacle and item.detail), None))


def _fallback(said: set[Obstacle]) -> Obstacle:
    """What to blame when only the usual filters spoke: the pod's own choice of nodes before a node's state."""
    order = (Obstacle.SELECTOR, Obstacle.TAINT, Obstacle.CORDON, Obstacle.SICK_NODE, Obstacle.NODE_NAME)
    return next((item for item in order if item in said), Obstacle.OTHER)


def _control_plane_only(refusal: Refusal, hurdles: Mapping[str, tuple[Hurdle, ...]]) -> bool:
    """Whether the refusal is only that ordinary pods stay off control-plane nodes. From 1.36 the message hides the key."""
    if refusal.obstacle is not Obstacle.TAINT:
        return False
    if refusal.taint_key:
        return refusal.taint_key in CONTROL_PLANE_TAINTS
    keys = {item.detail.split("=")[0].split(":")[0] for found in hurdles.values() for item in found if item.obstacle is Obstacle.TAINT}
    return bool(keys) and keys <= CONTROL_PLANE_TAINTS


def _reserved_for_devices(node: Node, pod: Pod) -> bool:
    """Whether a taint named after a device of the node keeps pods off that do not ask for one: on purpose, and nobody's mistake.

    Source: ExtendedResourceToleration (kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration, "Nodes with special
    hardware").
    """
    devices = {taint.key for taint in node.spec.taints or ()} & set(node.status.capacity or ())
    return bool(devices) and not devices & requests_of(pod.spec).keys()


def _taint_matters_more(
    rest: list[Refusal], hurdles: Mapping[str, tuple[Hurdle, ...]], kinds: Mapping[str, frozenset[Obstacle]], reserved: set[str]
) -> bool:
    """Between a taint on some nodes and too little room on others: the taint only where no open node could ever hold the pod."""
    if not kinds:
        return any(item.obstacle is Obstacle.RESOURCE and item.detail not in NATIVE_RESOURCES for item in rest)
    for name, found in hurdles.items():
        open_node = not kinds[name] & {Obstacle.TAINT, Obstacle.SELECTOR}
        if open_node and all(item.size >= item.wanted for item in found if item.obstacle is Obstacle.RESOURCE):
            return False
    return any(found == {Obstacle.TAINT} and name not in reserved for name, found in kinds.items())


def _scarcest(rest: list[Refusal], hurdles: Mapping[str, tuple[Hurdle, ...]]) -> str | None:
    """The resource that most nodes lack; of several, the one whose request is largest against what a node has."""
    counts: dict[str, int] = defaultdict(int)
    for item in rest:
        if item.obstacle is Obstacle.RESOURCE and item.detail:
            counts[item.detail] += item.nodes

    def pressure(resource: str) -> tuple[int, bool, float, str]:
        short = [item for found in hurdles.values() for item in found if item.detail == resource and item.obstacle is Obstacle.RESOURCE]
        ratio = max((item.wanted / item.size if item.size else float("inf") for item in short), default=0.0)
        return (counts[resource], resource not in NATIVE_RESOURCES, ratio, resource)

    return max(counts, key=pressure, default=None)


def _evaluated(usage: Usage, hurdles: Mapping[str, tuple[Hurdle, ...]], kinds: Mapping[str, frozenset[Obstacle]]) -> Blame | None:
    """Without the scheduler's words: only what holds on every node."""
    if not kinds or any(not found for found in kinds.values()):
        return None
    common = frozenset.intersection(*kinds.values())
    for obstacle in (Obstacle.SELECTOR, Obstacle.RESOURCE, Obstacle.TAINT, Obstacle.CORDON):
        if obstacle in common:
            details = {item.detail for found in hurdles.values() for item in found if item.obstacle is obstacle}
            nodes = tuple(node for node in usage.nodes if kinds[node.name] == {obstacle})
            return Blame(obstacle, min(details) if len(details) == 1 else None, False, nodes, hurdles)
    return None


def waiting_for(world: World, node: Node, resources: Callable[[str], bool]) -> tuple[ObjectRef, ...]:
    """Pods and workloads without a node that ask for such resources and that may stand on this node, by their selectors."""
    found: dict[ObjectRef, None] = {}
    for group in world.once(pending_groups):
        asks = any(amount > 0 and resources(name) for name, amount in requests_of(group.sample.spec).items())
        if asks and unmet_labels(group.sample.spec, node) is None:
            found.update((ref, None) for ref in (group.owner, *group.affected))
    return tuple(found)


def broken_device_nodes(nodes: Iterable[Node], resource: str) -> tuple[Node, ...]:
    """Nodes that have the device in `capacity` and none of it in `allocatable`: registered once, withdrawn by its plugin since."""
    return tuple(node for node in nodes if (node.capacity(resource) or 0) > 0 and (node.allocatable(resource) or 0) == 0)
