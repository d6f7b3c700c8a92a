"""Why a pod has no node: the one parser of the scheduler's message, and the same questions put to each node again.

The message says which filters refused how many nodes, but stops at the first refusal of each node and, since 1.36, leaves taint
keys out; the evaluation fills in what it hides. Neither decides who is to blame: that is the detectors' work.
Grammar: `FitError.Error()` in kubernetes/pkg/scheduler/framework/types.go. Soft preferences are not evaluated.
"""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from cluster.facts.node import Node, Taint
from cluster.facts.pod import NodeSelector, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Toleration
from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim
from cluster.quantity import parse_quantity
from cluster.world import World
from guardrails.accelerator import vendor_of


class Obstacle(enum.Enum):
    """What keeps a pod off a node, by the filter that refuses it."""

    NODE_NAME = "node name"
    SELECTOR = "node selector or affinity"
    CORDON = "cordoned"
    SICK_NODE = "node not usable"
    TAINT = "taint"
    RESOURCE = "resources"
    HOST_PORT = "host port"
    POD_AFFINITY = "pod affinity"
    ANTI_AFFINITY = "pod anti-affinity"
    SPREAD = "topology spread"
    CLAIM_UNBOUND = "unbound claim"
    CLAIM_MISSING = "missing claim"
    VOLUME_PLACE = "volume elsewhere"
    VOLUME_LIMIT = "volume limit"
    VOLUME_IN_USE = "volume in use"
    DEVICES = "devices"
    OTHER = "other"


# Taints that the cluster itself sets while a node is not fit for work (well_known_taints.go): the node is the fault, not the pod.
SICK_TAINTS = frozenset(
    f"node.kubernetes.io/{name}"
    for name in ("not-ready", "unreachable", "out-of-service", "network-unavailable", "memory-pressure", "disk-pressure", "pid-pressure")
)
CORDON_TAINT = "node.kubernetes.io/unschedulable"
CONTROL_PLANE_TAINTS = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})

_PATTERNS: tuple[tuple[re.Pattern[str], Obstacle], ...] = tuple(
    (re.compile(pattern), obstacle)
    for pattern, obstacle in (
        (r"^Insufficient (?P<detail>\S+)$", Obstacle.RESOURCE),
        (r"^Too many (?P<detail>pods)$", Obstacle.RESOURCE),
        (r"had (?:untolerated )?taint \{(?P<detail>[^}]*)\}", Obstacle.TAINT),
        (r"had (?:untolerated )?taint\(?s\)?", Obstacle.TAINT),
        (r"were unschedulable", Obstacle.CORDON),
        (r"were not ready|were out of disk|had (?:disk|memory|pid) pressure", Obstacle.SICK_NODE),
        (r"(?:requested node name|requested hostname)", Obstacle.NODE_NAME),
        (r"PersistentVolume's node affinity|volume node affinity conflict|no available volume zone", Obstacle.VOLUME_PLACE),
        (r"node affinity|node selector", Obstacle.SELECTOR),
        # Nodes that a PreFilter narrowed away, as for a DaemonSet's pods (`NewPreFilterResult`, scheduler framework).
        (r"didn't satisfy plugin\(s\) \[NodeAffinity\]", Obstacle.SELECTOR),
        (r"free ports", Obstacle.HOST_PORT),
        (r"anti-affinity", Obstacle.ANTI_AFFINITY),
        (r"pod affinity", Obstacle.POD_AFFINITY),
        (r"topology spread", Obstacle.SPREAD),
        (r"unbound immediate PersistentVolumeClaims|find available persistent volumes to bind", Obstacle.CLAIM_UNBOUND),
        (r'persistentvolumeclaim "(?P<detail>[^"]+)" not found', Obstacle.CLAIM_MISSING),
        (r"persistentvolumeclaim|bound to non-existent|ephemeral volume controller|enough free storage", Obstacle.CLAIM_UNBOUND),
        (r"max volume count|number of attachable volumes", Obstacle.VOLUME_LIMIT),
        (r"ReadWriteOncePod access mode already in-use", Obstacle.VOLUME_IN_USE),
        (r"(?i)resource ?claim|allocate all claims|device class|allocate devices|requested devices|\bCEL\b", Obstacle.DEVICES),
        (r"device binding (?:failed|timeout)", Obstacle.DEVICES),
    )
)
_HEAD = re.compile(r"^(?P<fit>\d+)/(?P<total>\d+) nodes are available:?\s*(?P<body>.*)$", re.DOTALL)
_TAIL = re.compile(r"\.?\s*(?:no new claims to deallocate\b|preemption:|Preemption is not helpful|No preemption victims).*$", re.DOTALL)
_CLAUSES = re.compile(r",\s+(?=\d+ )")
_COUNTED = re.compile(r"^(\d+) (.*)$", re.DOTALL)


class Refusal(Struct, frozen=True):
    """One reason of the histogram. `detail` is the resource, the taint `key: value` or the claim that it names, if it names one."""

    nodes: int
    obstacle: Obstacle
    text: str
    detail: str | None = None

    @property
    def taint_key(self) -> str | None:
        return self.detail.split(":", 1)[0].strip() if self.obstacle is Obstacle.TAINT and self.detail else None


class Unschedulable(Struct, frozen=True):
    """A scheduler message taken apart. `total` is None where it counts no nodes; `preemption` is its tail."""

    text: str
    refusals: tuple[Refusal, ...]
    total: int | None = None
    preemption: str = ""

    def of(self, *obstacles: Obstacle) -> tuple[Refusal, ...]:
        return tuple(item for item in self.refusals if item.obstacle in obstacles)


def parse_message(text: str) -> Unschedulable:
    """The text of a FailedScheduling event or of condition PodScheduled=False; every generation since 1.16, and prose without counts."""
    head = _HEAD.match(text.strip())
    body = head["body"] if head else text.strip()
    total = int(head["total"]) if head else None
    if body.startswith("no nodes available"):
        return Unschedulable(text, (), 0)
    tail = _TAIL.search(body)
    preemption = tail[0].lstrip(". ") if tail else ""
    body = (body[: tail.start()] if tail else body).strip().rstrip(".")
    refusals = []
    for part in _CLAUSES.split(body) if body else ():
        counted = _COUNTED.match(part.strip())
        nodes, reason = (int(counted[1]), counted[2]) if counted else (total or 0, part.strip())
        refusals.append(_refusal(nodes, reason))
    return Unschedulable(text, tuple(refusals), total, preemption)


def _refusal(nodes: int, reason: str) -> Refusal:
    for pattern, obstacle in _PATTERNS:
        match = pattern.search(reason)
        if match is None:
            continue
        detail = match.groupdict().get("detail")
        key = (detail or "").split(":", 1)[0].strip()
        if key in SICK_TAINTS:
            obstacle = Obstacle.SICK_NODE
        elif key == CORDON_TAINT:
            obstacle = Obstacle.CORDON
        return Refusal(nodes, obstacle, reason, detail.strip() if detail else None)
    return Refusal(nodes, Obstacle.OTHER, reason)


class Hurdle(Struct, frozen=True):
    """Why one node refuses the pod, found by evaluating it. For a resource, `wanted`, `free` and `size` (allocatable) in base units."""

    obstacle: Obstacle
    detail: str
    wanted: float = 0.0
    free: float = 0.0
    size: float = 0.0


def requests_of(spec: PodSpec) -> dict[str, float]:
    """What the scheduler reserves for a pod: containers and sidecars together, or the largest init container, plus overhead.

    Source: `PodRequests` in k8s.io/component-helpers/resource/helpers.go.
    """
    if not spec.init_containers and not spec.overhead and len(spec.containers) == 1:
        return _requested(spec.containers[0].resources.requests, spec.containers[0].resources.limits)
    total: dict[str, float] = defaultdict(float)
    sidecars: dict[str, float] = defaultdict(float)
    peak: dict[str, float] = defaultdict(float)
    for container in spec.containers:
        for resource, value in _requested(container.resources.requests, container.resources.limits).items():
            total[resource] += value
    for container in spec.init_containers or ():
        for resource, value in _requested(container.resources.requests, container.resources.limits).items():
            if container.is_sidecar:
                sidecars[resource] += value
                peak[resource] = max(peak[resource], sidecars[resource])
            else:
                peak[resource] = max(peak[resource], value + sidecars[resource])
    for resource, value in sidecars.items():
        total[resource] += value
    for resource, value in peak.items():
        total[resource] = max(total[resource], value)
    for resource, value in _requested(spec.overhead, None).items():
        total[resource] += value
    return dict(total)


def _requested(requests: Mapping[str, str | int | float] | None, limits: Mapping[str, str | int | float] | None) -> dict[str, float]:
    merged = {**limits, **requests} if limits and requests else limits or requests or {}
    return {resource: value for resource, quantity in merged.items() if (value := parse_quantity(quantity)) is not None}


def accelerators_of(spec: PodSpec) -> float:
    """How many accelerators a pod asks for, of all vendors."""
    return sum(amount for name, amount in requests_of(spec).items() if vendor_of(name) is not None)


def amount_text(resource: str, value: float) -> str:
    """`5 nvidia.com/gpu`, `2 cpu`, `100 GiB memory`."""
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return f"{value / 2**30:.4g} GiB {resource}"
    return f"{value:.4g} {resource}"


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Source: `ToleratesTaint` in k8s.io/api/core/v1/toleration.go."""
    for item in tolerations:
        if item.effect and item.effect != taint.effect:
            continue
        if item.key and item.key != taint.key:
            continue
        if item.operator == "Exists" and (item.key or not item.value):
            return True
        if item.operator == "Equal" and item.key and (item.value or "") == (taint.value or ""):
            return True
    return False


def matches_selector(selector: NodeSelector | None, node: Node) -> bool:
    """Whether any term matches, as in the API: a term without requirements matches nothing."""
    return selector is None or any(_matches_term(term, node) for term in selector.node_selector_terms)


def _matches_term(term: NodeSelectorTerm, node: Node) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": node.name}
    return all(item.matches(node.labels) for item in term.match_expressions or ()) and all(
        item.matches(fields) for item in term.match_fields or ()
    )


def unmet_labels(spec: PodSpec, node: Node) -> str | None:
    """Which selector or required affinity of the pod the node does not match, in words; None when it matches all."""
    for key, value in (spec.node_selector or {}).items():
        if node.labels.get(key) != value:
            return f"nodeSelector {key}={value}"
    affinity = spec.affinity.node_affinity if spec.affinity else None
    if affinity is not None and not matches_selector(affinity.required, node):
        return f"required node affinity {affinity_text(affinity.required)}"
    return None


def affinity_text(selector: NodeSelector | None) -> str:
    """`zone In [a, b] or zone In [c]`."""
    terms = [
        " and ".join(
            f"{item.key} {item.operator} [{', '.join(item.values or ())}]" if item.values else f"{item.key} {item.operator}"
            for item in (*(term.match_expressions or ()), *(term.match_fields or ()))
        )
        for term in (selector.node_selector_terms if selector else ())
    ]
    return " or ".join(terms)


class Usage:
    """What the pods of one world already take on each node; use it through `world.once(Usage)`. Filled as asked: O(pods) in all."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes = world.all(Node)
        self._taken: dict[str, dict[str, float]] = {}
        self._sizes: dict[str, dict[str, float]] = {}
        self._ports: dict[str, dict[tuple[int, str], Pod]] = {}
        self._places: dict[str, dict[str, str]] = {}
        self._found: dict[tuple[str, str | None, str], dict[str, tuple[Hurdle, ...]]] = {}

    def taken(self, node: str) -> dict[str, float]:
        """Requests by resource of the pods on a node, `pods` included."""
        known = self._taken.get(node)
        if known is None:
            known = self._taken[node] = defaultdict(float)
            for pod in self._running(node):
                known["pods"] += 1
                for resource, value in requests_of(pod.spec).items():
                    known[resource] += value
        return known

    def size(self, node: Node, resource: str) -> float:
        """What the node can hand out in all; 0 for what it does not list."""
        known = self._sizes.get(node.name)
        if known is None:
            known = self._sizes[node.name] = {name: node.allocatable(name) or 0.0 for name in node.status.allocatable or ()}
        return known.get(resource, 0.0)

    def free(self, node: Node, resource: str) -> float:
        return max(0.0, self.size(node, resource) - self.taken(node.name).get(resource, 0.0))

    def hurdles(self, pod: Pod) -> Mapping[str, tuple[Hurdle, ...]]:
        """By node name, everything that keeps the pod off it, in the scheduler's order of filters."""
        known = self._found.get(pod.ref.key)
        if known is None:
            known = self._found[pod.ref.key] = self._evaluate(pod)
        return known

    def _evaluate(self, pod: Pod) -> dict[str, tuple[Hurdle, ...]]:
        wanted = {name: value for name, value in requests_of(pod.spec).items() if value > 0} | {"pods": 1.0}
        rules = pod.spec.affinity.pod_anti_affinity if pod.spec.affinity else None
        occupied = [(term.topology_key, self._occupied(pod, term)) for term in (rules.required if rules else None) or ()]
        volumes = tuple(self._placed_volumes(pod))
        ports = host_ports(pod.spec)
        return {
            node.name: (
                *_state_hurdles(pod.spec, node),
                *self._port_hurdles(ports, node),
                *self._resource_hurdles(wanted, node),
                *_place_hurdles(occupied, node),
                *(
                    Hurdle(Obstacle.VOLUME_PLACE, volume.name)
                    for volume in volumes
                    if volume.spec.node_affinity and not matches_selector(volume.spec.node_affinity.required, node)
                ),
            )
            for node in self.nodes
        }

    def _running(self, node: str) -> Iterable[Pod]:
        return (pod for pod in self.world.pods_on(node) if not pod.finished)

    def _resource_hurdles(self, wanted: Mapping[str, float], node: Node) -> Iterable[Hurdle]:
        if node.status.allocatable is None:
            return
        taken = self.taken(node.name)
        for resource, value in wanted.items():
            if resource == "pods" and "pods" not in node.status.allocatable:
                continue
            size, used = self.size(node, resource), taken.get(resource, 0.0)
            free = max(0.0, size - used)
            # No scheduler admits more than a node has: where the books say so they are wrong, and only the node's size is certain.
            overdrawn = used > size + 1e-9
            if value > (size if overdrawn else free) + 1e-9:
                yield Hurdle(Obstacle.RESOURCE, resource, value, free, size)

    def _port_hurdles(self, wanted: frozenset[tuple[int, str]], node: Node) -> Iterable[Hurdle]:
        if not wanted:
            return
        known = self._ports.get(node.name)
        if known is None:
            known = self._ports[node.name] = {port: pod for pod in self._running(node.name) for port in host_ports(pod.spec)}
        for port, protocol in sorted(wanted & known.keys()):
            holder = known[(port, protocol)]
            yield Hurdle(Obstacle.HOST_PORT, f"{port}/{protocol} is held by Pod {holder.namespace}/{holder.name}")

    def _occupied(self, pod: Pod, term: PodAffinityTerm) -> dict[str, Pod]:
        """The values of the term's topology key where a pod that the term avoids already runs."""
        if term.label_selector is None or term.namespace_selector is not None:
            return {}
        places = self._places.get(term.topology_key)
        if places is None:
            places = {node.name: node.labels[term.topology_key] for node in self.nodes if term.topology_key in node.labels}
            self._places[term.topology_key] = places
        return {
            places[other.spec.node_name]: other
            for namespace in term.namespaces or (pod.namespace,)
            for other in self.world.pods_in(namespace)
            if other.spec.node_name in places and not other.finished and term.label_selector.matches(other.labels)
        }

    def _placed_volumes(self, pod: Pod) -> Iterable[PersistentVolume]:
        for volume in pod.spec.volumes or ():
            if volume.persistent_volume_claim is None:
                continue
            claim = self.world.get(PersistentVolumeClaim, pod.namespace, volume.persistent_volume_claim.claim_name)
            bound = self.world.get(PersistentVolume, None, claim.spec.volume_name) if claim and claim.spec.volume_name else None
            if bound is not None:
                yield bound


def _state_hurdles(spec: PodSpec, node: Node) -> Iterable[Hurdle]:
    if node.spec.unschedulable:
        yield Hurdle(Obstacle.CORDON, "spec.unschedulable")
    sick = not node.ready and node.condition("Ready") is not None
    for taint in node.spec.taints or ():
        if taint.effect not in ("NoSchedule", "NoExecute") or taint.key == CORDON_TAINT or tolerates(spec.tolerations or (), taint):
            continue
        if taint.key in SICK_TAINTS:
            sick = True
        else:
            yield Hurdle(Obstacle.TAINT, str(taint))
    if sick:
        yield Hurdle(Obstacle.SICK_NODE, "Ready is not True")
    unmet = unmet_labels(spec, node)
    if unmet is not None:
        yield Hurdle(Obstacle.SELECTOR, unmet)


def _place_hurdles(occupied: Iterable[tuple[str, Mapping[str, Pod]]], node: Node) -> Iterable[Hurdle]:
    for topology_key, places in occupied:
        other = places.get(node.labels.get(topology_key, ""))
        if other is not None:
            yield Hurdle(Obstacle.ANTI_AFFINITY, f"Pod {other.namespace}/{other.name} is there")


def host_ports(spec: PodSpec) -> frozenset[tuple[int, str]]:
    """(port, protocol) that a pod takes on its node; on the host network every declared port."""
    return frozenset(
        (port.host_port or port.container_port, port.protocol)
        for container in spec.all_containers
        for port in container.ports or ()
        if port.host_port or spec.host_network
    )
