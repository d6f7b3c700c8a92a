"""What a cause costs while it lasts: the accelerators that do no work because of it, and their price by the hour.

Counted are the sick devices of a node that is the cause, and the devices held by pods of what the cause breaks that are not ready; of a
gang all its pods, because none works without the others. A slow replica works, and is not counted. Prices are the owner's; without them
the devices are all that is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.cost import Share, Tariff, price_of
from runbooks.finding import Cause, Diagnosis, Impact
from runbooks.inventory import Holder, Offer, inventory

GANGS = frozenset({"Job", "JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob", "LeaderWorkerSet", "PodGroup"})


def with_impacts(diagnosis: Diagnosis, world: World, tariff: Tariff) -> Diagnosis:
    """The diagnosis with every cause saying what it costs, where it keeps accelerators from work."""
    if not any(node.status.capacity for node in world.all(Node)):
        return diagnosis
    return replace(diagnosis, causes=tuple(replace(cause, impact=impact(cause, world, tariff)) for cause in diagnosis.causes))


def impact(cause: Cause, world: World, tariff: Tariff) -> Impact | None:
    """What one cause keeps from work; None where that is no accelerator."""
    broken = {ref.key for ref in (cause.object, *(symptom.object for symptom in cause.symptoms))}
    price, total = price_of(tariff.per_device_hour), Share()
    for offer, devices in _stopped(broken, cause.object, world):
        total = total.plus(devices, price(offer))
    if not total.devices:
        return None
    return Impact(round(total.devices, 2), None if total.price is None else round(total.price, 2), tariff.currency)


def _stopped(broken: set[tuple[str, str | None, str]], accused: ObjectRef, world: World) -> Iterator[tuple[Offer, float]]:
    offers = world.once(_devices)
    halted = {
        holder.workload.key
        for offer in offers
        for holder in offer.holders
        if holder.workload.kind in GANGS and _is_broken(holder, broken) and not all(_ready(ref, world) for ref in holder.pods)
    }
    for offer in offers:
        # A sick device of the accused node is counted once, as the node's; its holders' may be among them.
        sick = float(offer.sick) if accused.kind == Node.kind and offer.node == accused.name else 0.0
        if sick:
            yield offer, sick
        for holder in offer.holders:
            if holder.workload.key in halted:
                idle = len(holder.pods)
            elif _is_broken(holder, broken):
                idle = sum(not _ready(ref, world) for ref in holder.pods)
            else:
                continue
            if idle:
                held = holder.count * idle / len(holder.pods)
                counted = min(sick, held)
                sick -= counted
                yield offer, held - counted


def _devices(world: World) -> tuple[Offer, ...]:
    """What nodes offer whole: a part is counted with its device."""
    return tuple(offer for offer in world.once(inventory) if not offer.part)


def _is_broken(holder: Holder, broken: set[tuple[str, str | None, str]]) -> bool:
    return holder.workload.key in broken or any(ref.key in broken for ref in holder.pods)


def _ready(ref: ObjectRef, world: World) -> bool:
    """A pod that was not seen has nothing bad said of it."""
    pod = world.get(Pod, ref.namespace, ref.name)
    return pod is None or pod.ready
