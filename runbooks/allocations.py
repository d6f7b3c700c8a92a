"""Who holds which accelerators by which way: counted by a device plugin (whole, MIG, shared) or allocated to a claim, pod by pod.

Pure over a World. It judges nothing. Limits: which device of several a plugin gave to a pod, only the kubelet's device health tells
(`allocatedResourcesStatus`), where the cluster has it; claims name their devices.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.dra import ResourceClaim, ResourceSlice
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.accelerator import vendor_of_driver, vendors_by_resource
from runbooks.device_taints import TaintRules, fenced
from runbooks.inventory import ANY_NODE, UNSEEN, sharing_of
from runbooks.scheduling import requests_of

PLUGIN = "device plugin"


class Allocation(Struct, frozen=True):
    """What one pod holds of one resource or DRA driver on one node.

    `way` is how it came by it: "device plugin", that with how devices are divided, or the claim. `devices` are names, where anything
    tells; `sick` those that are called unhealthy. Pods that reserve one `claim` share its devices.
    """

    node: str
    resource: str
    pod: ObjectRef
    workload: ObjectRef
    count: int
    way: str
    devices: tuple[str, ...] = ()
    sick: tuple[str, ...] = ()
    claim: ObjectRef | None = None


def allocations(world: World) -> tuple[Allocation, ...]:
    """All allocations of accelerators: those with sick devices first, then by node and pod."""
    found = (*_counted(world), *_claimed(world))
    return tuple(
        sorted(found, key=lambda item: (not item.sick, item.node, item.resource, item.pod.namespace or "", item.pod.name, item.way))
    )


def _counted(world: World) -> Iterator[Allocation]:
    for node in world.all(Node):
        offered = vendors_by_resource(node.status.capacity or {})
        for pod in world.pods_on(node.name) if offered else ():
            if pod.finished:
                continue
            for resource, count in requests_of(pod.spec).items():
                if count and resource in offered and resource not in offered[resource].parts:
                    sharing, _ = sharing_of(node, resource)
                    health = dict(_health(pod, resource))
                    sick = tuple(sorted(name for name, word in health.items() if word == "Unhealthy"))
                    way = f"{PLUGIN}, {sharing}" if sharing else PLUGIN
                    yield Allocation(node.name, resource, pod.ref, world.top_owner(pod.ref), int(count), way, tuple(sorted(health)), sick)


def _health(pod: Pod, resource: str) -> Iterator[tuple[str, str]]:
    """(device, health) as the kubelet heard them from the plugin."""
    for status in pod.all_statuses:
        for allocated in status.allocated_resources_status or ():
            if allocated.name == resource:
                yield from ((item.resource_id, item.health or "") for item in allocated.resources or ())


def _claimed(world: World) -> Iterator[Allocation]:
    nodes = {(item.spec.driver, item.spec.pool.name): item.spec.node_name or ANY_NODE for item in world.all(ResourceSlice)}
    tainted = {
        (item.spec.driver, item.spec.pool.name, device.name)
        for item in world.once(TaintRules).slices
        for device in item.spec.devices or ()
        if fenced(device)
    }
    for claim in world.all(ResourceClaim):
        results = (claim.status.allocation.devices.results or ()) if claim.status.allocation else ()
        pools = dict.fromkeys((item.driver, item.pool) for item in results if vendor_of_driver(item.driver) is not None)
        names = [item.name for item in claim.status.reserved_for or () if item.resource == "pods"]
        pods = [ObjectRef(Pod.kind, claim.namespace, name) for name in names] or [UNSEEN]
        for driver, pool in pools:
            devices = tuple(item.device for item in results if (item.driver, item.pool) == (driver, pool))
            sick = tuple(name for name in devices if (driver, pool, name) in tainted)
            for pod in pods:
                owner = pod if pod == UNSEEN else world.top_owner(pod)
                yield Allocation(
                    nodes.get((driver, pool), ANY_NODE), driver, pod, owner, len(devices), f"claim {claim.name}", devices, sick, claim.ref
                )
