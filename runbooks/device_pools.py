"""The devices that a node can use, as the scheduler's allocator sees them: whole pools of their newest generation, and who holds what.

Ported from `GatherPools` and `AllocatedState` (k8s.io/dynamic-resource-allocation/structured, 1.37), over devices that DeviceTaintRules
have tainted. It chooses nothing: that is `device_allocation`'s work. Devices with compatibility groups, an alpha feature, are taken
for devices without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from msgspec import Struct

from cluster.facts.dra import CounterConsumption, Device, DeviceTaint, DeviceTaintRule, ResourceClaim, ResourceSlice
from cluster.facts.meta import Metadata
from cluster.facts.node import Node
from cluster.facts.pod import NodeSelector
from cluster.quantity import Quantity, parse_quantity
from cluster.world import World
from runbooks.device_taints import TaintRules
from runbooks.scheduling import matches_selector

# (driver, pool, device)
DeviceKey = tuple[str, str, str]
PoolKey = tuple[str, str]
# (counter set, counter) -> amount
Counters = Mapping[tuple[str, str], float]


class Offer(Struct, frozen=True):
    """One published device."""

    key: DeviceKey
    device: Device
    slice: ResourceSlice

    @property
    def driver(self) -> str:
        return self.key[0]


class Pool(Struct, frozen=True):
    """What one node sees of a pool. Of an incomplete or invalid pool no device is given to anybody; `flaw` says why."""

    key: PoolKey
    offers: tuple[Offer, ...]
    incomplete: bool = False
    flaw: str = ""
    counters: Counters = {}

    @property
    def usable(self) -> bool:
        return not self.incomplete and not self.flaw


class View(Struct, frozen=True):
    """What a group of nodes with the same devices can use; `node` stands for them."""

    node: Node
    pools: tuple[Pool, ...]
    nodes: tuple[Node, ...] = ()


class Devices:
    """All pools of a world, and the claims that hold their devices; use it through `world.once(Devices)`."""

    def __init__(self, world: World) -> None:
        self._pools: dict[PoolKey, list[ResourceSlice]] = defaultdict(list)
        self._taints = world.once(TaintRules)
        for item in sorted(self._taints.slices, key=lambda item: item.name):
            self._pools[(item.spec.driver, item.spec.pool.name)].append(item)
        self.newest = {
            key: tuple(item for item in slices if item.spec.pool.generation == max(one.spec.pool.generation for one in slices))
            for key, slices in sorted(self._pools.items())
        }
        self.offers = tuple(offer for slices in self.newest.values() for offer in _offers(slices))
        self.holders: dict[DeviceKey, list[ResourceClaim]] = defaultdict(list)
        self.shared: dict[DeviceKey, dict[str, float]] = {}
        self.sharers: dict[DeviceKey, list[ResourceClaim]] = defaultdict(list)
        self._hold(world.all(ResourceClaim))
        self.nodes = world.all(Node) or _nodes_named(self._pools)
        self._views: dict[str, View] = {}

    def _hold(self, claims: Iterable[ResourceClaim]) -> None:
        for claim in claims:
            admin = {name for request in claim.spec.devices.requests or () for name, item in request.alternatives if item.admin_access}
            for result in (claim.status.allocation.devices.results if claim.status.allocation else None) or ():
                if result.admin_access or result.request in admin:
                    continue
                key = (result.driver, result.pool, result.device)
                if result.share_id is None:
                    self.holders[key].append(claim)
                else:
                    # A share that consumes nothing still makes the device one in use.
                    shares = self.shared.setdefault(key, defaultdict(float))
                    self.sharers[key].append(claim)
                    for name, amount in (result.consumed_capacity or {}).items():
                        shares[name] += number(amount)

    def rule_of(self, taint: DeviceTaint, offer: Offer) -> DeviceTaintRule | None:
        """The rule that gave a device a taint, None where its driver did."""
        return self._taints.rule_of(taint, offer.slice, offer.device)

    def incomplete(self) -> tuple[PoolKey, ...]:
        """Pools of which slices of the newest generation are missing."""
        return tuple(key for key, slices in self.newest.items() if len(slices) < slices[0].spec.pool.resource_slice_count)

    def used_counters(self, slices: Iterable[ResourceSlice]) -> Counters:
        """What the devices that somebody holds consume of a pool's counters."""
        used: dict[tuple[str, str], float] = defaultdict(float)
        for offer in _offers(slices):
            if offer.key in self.holders or offer.key in self.shared:
                for key, value in consumption(offer.device.consumes_counters).items():
                    used[key] += value
        return used

    def view(self, node: Node) -> View:
        """What a node can use."""
        known = self._views.get(node.name)
        if known is None:
            found = (self._pool(key, slices, node) for key, slices in sorted(self._pools.items()))
            known = self._views[node.name] = View(node, tuple(pool for pool in found if pool is not None), (node,))
        return known

    def views(self, nodes: Iterable[Node], names: frozenset[str] | None = None) -> tuple[View, ...]:
        """What these nodes can use, those with the same devices put together: the same but for attributes other than `names`."""
        groups: dict[Hashable, list[View]] = defaultdict(list)
        for node in nodes:
            view = self.view(node)
            groups[tuple(self._likeness(pool, names) for pool in view.pools)].append(view)
        return tuple(View(views[0].node, views[0].pools, tuple(view.node for view in views)) for views in groups.values())

    def _likeness(self, pool: Pool, names: frozenset[str] | None) -> Hashable:
        devices = tuple(
            (
                likeness(offer.device, names),
                offer.device.allow_multiple_allocations,
                offer.key in self.holders,
                tuple(sorted(self.shared[offer.key].items())) if offer.key in self.shared else None,
            )
            for offer in pool.offers
        )
        return pool.key[0], pool.incomplete, pool.flaw, tuple(pool.counters.items()), devices

    def _pool(self, key: PoolKey, slices: list[ResourceSlice], node: Node) -> Pool | None:
        """What the node sees of a pool, None where nothing of it is for this node. Source: `GatherPools`."""
        near = [item for item in slices if _reaches(item, node)]
        if not near:
            return None
        generation = max(item.spec.pool.generation for item in near)
        near = [item for item in near if item.spec.pool.generation == generation]
        whole = near
        if len(near) != near[0].spec.pool.resource_slice_count:
            if any(item.spec.pool.generation > generation for item in slices):
                return None
            whole = [item for item in slices if item.spec.pool.generation == generation]
            if len(whole) != near[0].spec.pool.resource_slice_count:
                return Pool(key, _for_node(near, node), incomplete=True)
        left = {
            (item.name, name): number(counter.value)
            for slice_ in whole
            for item in slice_.spec.shared_counters or ()
            for name, counter in (item.counters or {}).items()
        }
        flaw = _flaw(near, whole, left)
        for consumed, value in self.used_counters(whole).items():
            left[consumed] = left.get(consumed, 0.0) - value
        return Pool(key, _for_node(near, node), flaw=flaw, counters=left)


def number(amount: Quantity | None) -> float:
    return parse_quantity(amount) or 0.0


def likeness(device: Device, names: frozenset[str] | None = None) -> Hashable:
    """What a request can tell devices of one pool apart by; of the attributes, those with one of these short names, None for all."""
    return (
        tuple((name, item) for name, item in (device.attributes or {}).items() if names is None or name.rpartition("/")[2] in names),
        tuple((name, item.value) for name, item in (device.capacity or {}).items()),
        device.taints,
        tuple(consumption(device.consumes_counters).items()),
    )


def consumption(consumes: tuple[CounterConsumption, ...] | None) -> Counters:
    """What a device takes of its pool's counters."""
    taken: dict[tuple[str, str], float] = defaultdict(float)
    for item in consumes or ():
        for name, counter in (item.counters or {}).items():
            taken[(item.counter_set, name)] += number(counter.value)
    return taken


def _offers(slices: Iterable[ResourceSlice]) -> Iterable[Offer]:
    for item in slices:
        for device in item.spec.devices or ():
            yield Offer((item.spec.driver, item.spec.pool.name, device.name), device, item)


def _for_node(slices: Iterable[ResourceSlice], node: Node) -> tuple[Offer, ...]:
    return tuple(
        offer
        for offer in _offers(slices)
        if not offer.slice.spec.per_device_node_selection
        or _matches(node, offer.device.node_name, offer.device.all_nodes, offer.device.node_selector)
    )


def _reaches(item: ResourceSlice, node: Node) -> bool:
    if item.spec.per_device_node_selection:
        return any(_matches(node, device.node_name, device.all_nodes, device.node_selector) for device in item.spec.devices or ())
    return _matches(node, item.spec.node_name, item.spec.all_nodes, item.spec.node_selector)


def _matches(node: Node, name: str | None, everywhere: bool | None, selector: NodeSelector | None) -> bool:
    if name:
        return node.name == name
    return bool(everywhere) or (selector is not None and matches_selector(selector, node))


def _flaw(near: Iterable[ResourceSlice], whole: Iterable[ResourceSlice], counters: Counters) -> str:
    """Why a pool is invalid, "" when it is not."""
    names: set[str] = set()
    for offer in _offers(near):
        if offer.device.name in names:
            return f"two devices are named {offer.device.name}"
        names.add(offer.device.name)
    sets = [item.name for slice_ in whole for item in slice_.spec.shared_counters or ()]
    twice = next((name for name in sets if sets.count(name) > 1), None)
    if twice is not None:
        return f"two counter sets are named {twice}"
    for offer in _offers(whole):
        unknown = next((key for key in consumption(offer.device.consumes_counters) if key not in counters), None)
        if unknown is not None:
            return f"device {offer.device.name} consumes counter {unknown[1]} of {unknown[0]}, which the pool does not have"
    return ""


def _nodes_named(pools: Mapping[PoolKey, Iterable[ResourceSlice]]) -> tuple[Node, ...]:
    """Where no node was read, those that slices name, or one without a name for the slices of all nodes."""
    slices = [item for listed in pools.values() for item in listed]
    named = {item.spec.node_name for item in slices} | {device.node_name for item in slices for device in item.spec.devices or ()}
    names = sorted(name for name in named if name) or [""]
    return tuple(Node(metadata=Metadata(name=name)) for name in names)
