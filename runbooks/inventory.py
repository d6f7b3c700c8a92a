"""Accelerators of a cluster in one view: what each node offers, who holds it, what is sick, and what is free but of no use to anybody.

Device plugins (whole devices, MIG slices, shared replicas) and Dynamic Resource Allocation are read alike. Pure over a World; it names
no cause: sickness is what the node or the driver says, and why a free device helps no waiting pod is `runbooks.scheduling`'s evaluation.
Limits: devices that a DRA driver can partition overlap, so how many are free is not said; cores of Neuron devices are pieces of the
devices beside them; what the holder of a device does with it is telemetry's to tell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from cluster.facts.dra import Device, ResourceClaim, ResourceSlice
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.accelerator import Vendor, vendor_of, vendor_of_driver, vendors_by_resource
from runbooks.detectors import accelerators, deviceerrors, devices, gpunodes, throttling, utilisation
from runbooks.device_taints import TaintRules, fenced
from runbooks.devicevendors import vendors_of_finding
from runbooks.pending import Group, pending_groups
from runbooks.scheduling import Hurdle, Obstacle, Usage, amount_text, requests_of

REPLICAS_LABEL = "nvidia.com/gpu.replicas"
SHARING_LABEL = "nvidia.com/gpu.sharing-strategy"
PHYSICAL_LABEL = "nvidia.com/gpu.count"
MIG_STRATEGY_LABEL = "nvidia.com/mig.strategy"
ANY_NODE = "(network)"
# Faults of the hardware, not of its use.
FAULTS = frozenset({"gpu.hardware-fault", "gpu.memory-fault", "gpu.nvlink-fault", "gpu.node-keeps-failing"})
# Whoever holds a claim whose pod was not read.
UNSEEN = ObjectRef("Pod", None, "(not seen)")


class Holder(Struct, frozen=True):
    """Who holds `count` of an offer: the workload that a person would edit, and its pods there. `since` is the oldest pod's start."""

    workload: ObjectRef
    pods: tuple[ObjectRef, ...]
    count: int
    since: datetime | None = None


class Strand(Struct, frozen=True):
    """A workload that waits for such devices and cannot have the free ones here, and everything that keeps it off."""

    workload: ObjectRef
    why: str


class Offer(Struct, frozen=True):
    """What one node offers under one name. `capacity` counts all devices, `usable` those that are not sick.

    `sharing` says how a device is divided, "" when it is not; `physical` is how many devices there are behind shares, when known.
    `closed` says why nothing new may land on the node, "" when it may. `part` marks pieces of devices that another offer counts.
    `overlapping`: the devices are alternative cuts of the same silicon, so what is free cannot be counted.
    """

    node: str
    vendor: str
    resource: str
    model: str
    capacity: int
    usable: int
    holders: tuple[Holder, ...] = ()
    sharing: str = ""
    physical: int | None = None
    closed: str = ""
    strands: tuple[Strand, ...] = ()
    part: bool = False
    overlapping: bool = False

    @property
    def held(self) -> int:
        return sum(holder.count for holder in self.holders)

    @property
    def sick(self) -> int:
        return self.capacity - self.usable

    @property
    def free(self) -> int:
        return 0 if self.overlapping else max(0, self.usable - self.held)

    @property
    def state(self) -> str:
        """`sick` before `closed`, `stranded` and what is free; `partly-free` where some of it is held, `held` where all of it is."""
        if self.sick:
            return "sick"
        if self.free:
            return "closed" if self.closed else "stranded" if self.strands else "partly-free" if self.held else "free"
        return "held"


class Note(Struct, frozen=True):
    """What the device detectors say of a node or of a workload that holds devices there. `vendors` are those whose devices it is about,
    empty where it cannot be told."""

    object: ObjectRef
    code: str
    text: str
    vendors: tuple[str, ...] = ()

    @property
    def suspects(self) -> bool:
        """Whether it makes the devices of its node suspect, although nobody has withdrawn them."""
        return self.code in FAULTS and self.object.kind == Node.kind

    def concerns(self, vendor: str) -> bool:
        """Whether it may be about devices of that vendor."""
        return not self.vendors or vendor in self.vendors


class Total(Struct, frozen=True):
    """The sums over offers, parts aside. `closed` and `stranded` are among the free."""

    capacity: int = 0
    held: int = 0
    free: int = 0
    sick: int = 0
    closed: int = 0
    stranded: int = 0


def inventory(world: World) -> tuple[Offer, ...]:
    """All offers, by node and resource. Sick and stranded ones are found among them by `state`."""
    offers = (*_plugin_offers(world), *_claimed_offers(world))
    return tuple(sorted(offers, key=lambda offer: (offer.node, offer.resource)))


def total(offers: Iterable[Offer]) -> Total:
    """The sums."""
    counted = [offer for offer in offers if not offer.part]
    return Total(
        capacity=sum(offer.capacity for offer in counted),
        held=sum(offer.held for offer in counted),
        free=sum(offer.free for offer in counted),
        sick=sum(offer.sick for offer in counted),
        closed=sum(offer.free for offer in counted if offer.closed),
        stranded=sum(offer.free for offer in counted if not offer.closed and offer.strands),
    )


_NOTING = (devices, deviceerrors, accelerators, gpunodes, throttling, utilisation)


def notes(world: World) -> tuple[Note, ...]:
    """What is wrong with devices, their nodes and their use, as far as this world shows: health agents, XIDs, heat, idleness."""
    found = (finding for module in _NOTING for detector in module.DETECTORS for finding in detector(world))
    return tuple(Note(finding.subject, finding.code, finding.explanation, vendors_of_finding(world, finding)) for finding in found)


def by_workload(offers: Iterable[Offer]) -> tuple[Holder, ...]:
    """Who holds how many in all, most first."""
    pods: dict[ObjectRef, list[ObjectRef]] = defaultdict(list)
    counts: dict[ObjectRef, int] = defaultdict(int)
    starts: dict[ObjectRef, datetime] = {}
    for offer in offers:
        for holder in () if offer.part else offer.holders:
            counts[holder.workload] += holder.count
            pods[holder.workload] += holder.pods
            if holder.since is not None:
                starts[holder.workload] = min(holder.since, starts.get(holder.workload, holder.since))
    found = (Holder(who, tuple(dict.fromkeys(pods[who])), count, starts.get(who)) for who, count in counts.items())
    return tuple(sorted(found, key=lambda holder: (-holder.count, holder.workload.key[1] or "", holder.workload.name)))


def _plugin_offers(world: World) -> Iterator[Offer]:
    waiting = _waiting(world)
    for node in world.all(Node):
        offered = vendors_by_resource(node.status.capacity or {})
        if not offered:
            continue
        users = [(pod, requests_of(pod.spec)) for pod in world.pods_on(node.name) if not pod.finished]
        for resource, vendor in offered.items():
            capacity = int(node.capacity(resource) or 0)
            usable = min(capacity, int(node.allocatable(resource) or 0))
            taken = [((pod,), int(wants[resource])) for pod, wants in users if wants.get(resource)]
            closed = closed_because(node)
            offer = Offer(
                node.name,
                vendor.name,
                resource,
                _model(node, vendor),
                capacity,
                usable,
                _holders(world, taken),
                *sharing_of(node, resource),
                closed=closed,
                part=resource in vendor.parts,
            )
            strands = _strands(world, node, waiting.get(resource, ())) if offer.free and not closed else ()
            yield replace(offer, strands=strands)


def _claimed_offers(world: World) -> Iterator[Offer]:
    """What DRA drivers publish, by node and driver; of a pool only its newest generation counts."""
    newest: dict[tuple[str, str], int] = {}
    for item in world.all(ResourceSlice):
        pool = (item.spec.driver, item.spec.pool.name)
        newest[pool] = max(newest.get(pool, 0), item.spec.pool.generation)
    slices: dict[tuple[str, Vendor, str], list[ResourceSlice]] = defaultdict(list)
    for item in world.once(TaintRules).slices:
        vendor = vendor_of_driver(item.spec.driver)
        if vendor is not None and item.spec.pool.generation == newest[(item.spec.driver, item.spec.pool.name)]:
            slices[(item.spec.node_name or ANY_NODE, vendor, item.spec.driver)].append(item)
    allocated = _allocated(world)
    for (where, vendor, driver), published in slices.items():
        devices = [device for item in published for device in item.spec.devices or ()]
        pools = {item.spec.pool.name for item in published}
        overlapping = any(device.consumes_counters for device in devices)
        # Every counter set is the silicon of one device; its partitions draw on it.
        silicon = sum(len(item.spec.shared_counters or ()) for item in published)
        capacity = silicon if overlapping else len(devices)
        sick = sum(1 for device in devices if fenced(device))
        node = world.get(Node, None, where)
        yield Offer(
            where,
            vendor.name,
            driver,
            next((model for device in devices if (model := _attribute(device, "productName"))), ""),
            capacity,
            max(0, capacity - (0 if overlapping else sick)),
            _holders(world, [item for pool in sorted(pools) for item in allocated.get((driver, pool), ())]),
            sharing="partitionable" if overlapping else "",
            closed=closed_because(node) if node is not None else "",
            overlapping=overlapping,
        )


def _allocated(world: World) -> dict[tuple[str, str], list[tuple[tuple[Pod, ...], int]]]:
    """By driver and pool, the pods of each claim and how many devices it holds there. Pods of a claim share its devices."""
    found: dict[tuple[str, str], list[tuple[tuple[Pod, ...], int]]] = defaultdict(list)
    for claim in world.all(ResourceClaim):
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for result in (claim.status.allocation.devices.results or ()) if claim.status.allocation else ():
            counts[(result.driver, result.pool)] += 1
        names = [item.name for item in claim.status.reserved_for or () if item.resource == "pods"]
        pods = tuple(pod for name in names if (pod := world.get(Pod, claim.namespace, name)) is not None)
        for pool, count in counts.items():
            found[pool].append((pods, count))
    return found


def _holders(world: World, taken: Iterable[tuple[tuple[Pod, ...], int]]) -> tuple[Holder, ...]:
    counts: dict[ObjectRef, int] = defaultdict(int)
    pods: dict[ObjectRef, list[Pod]] = defaultdict(list)
    for members, count in taken:
        # An allocated claim that no pod of this world has reserved is still held.
        workload = world.top_owner(members[0].ref) if members else UNSEEN
        counts[workload] += count
        pods[workload] += members
    return tuple(
        Holder(
            workload,
            tuple(pod.ref for pod in pods[workload]),
            count,
            min((pod.status.start_time for pod in pods[workload] if pod.status.start_time), default=None),
        )
        for workload, count in sorted(counts.items(), key=lambda item: (-item[1], item[0].namespace or "", item[0].name))
    )


def closed_because(node: Node) -> str:
    """Why nothing new may land on a node, "" when something may. Taints that only keep others off its devices close nothing."""
    if node.condition("Ready") is not None and not node.ready:
        return "not ready"
    return "cordoned" if node.spec.unschedulable else ""


def _model(node: Node, vendor: Vendor) -> str:
    return next((node.labels[label] for label in vendor.models if node.labels.get(label)), "")


def sharing_of(node: Node, resource: str) -> tuple[str, int | None]:
    """How NVIDIA's plugin divides devices, and how many there are behind the replicas that it counts."""
    if not resource.startswith("nvidia.com/"):
        return "", None
    if resource.startswith("nvidia.com/mig-") or node.labels.get(MIG_STRATEGY_LABEL) == "single":
        return "MIG", None
    strategy, replicas = node.labels.get(SHARING_LABEL, "none"), node.labels.get(REPLICAS_LABEL, "")
    if strategy == "none" or not replicas.isdigit() or int(replicas) < 2:
        return "", None
    physical = node.labels.get(PHYSICAL_LABEL, "")
    return f"{strategy} x{replicas}", int(physical) if physical.isdigit() else None


def _attribute(device: Device, name: str) -> str:
    """A device's attribute by its name without domain."""
    found = next((value.value for key, value in (device.attributes or {}).items() if key.rpartition("/")[2] == name), None)
    return str(found) if found is not None else ""


def _waiting(world: World) -> dict[str, tuple[Group, ...]]:
    """Workloads without a node, by the accelerators that they ask for."""
    found: dict[str, tuple[Group, ...]] = {}
    for group in world.once(pending_groups):
        for resource, wanted in requests_of(group.sample.spec).items():
            if wanted and vendor_of(resource) is not None:
                found[resource] = (*found.get(resource, ()), group)
    return found


def _strands(world: World, node: Node, waiting: tuple[Group, ...]) -> tuple[Strand, ...]:
    """Why the free devices of a node help nobody who waits; empty when nobody waits, or somebody could have them."""
    usage, strands = world.once(Usage), []
    for group in waiting:
        hurdles = usage.hurdles(group.sample).get(node.name, ())
        if not hurdles:
            return ()
        strands.append(Strand(group.owner, "; ".join(_words(hurdle) for hurdle in hurdles)))
    return tuple(strands)


def _words(hurdle: Hurdle) -> str:
    if hurdle.obstacle is not Obstacle.RESOURCE:
        return f"{hurdle.obstacle.value}: {hurdle.detail}" if hurdle.detail else hurdle.obstacle.value
    return f"wants {amount_text(hurdle.detail, hurdle.wanted)}, {amount_text(hurdle.detail, hurdle.free)} free"
