"""Queues in one view: how much of each flavor a queue may use, uses, borrows and lends out, and how much waits in it.

Pure over a World of the objects of Kueue (ClusterQueue v1beta1 and v1beta2), Volcano (Queue v1beta1) and KAI (Queue v2).
It judges nothing: why a workload is not admitted is for the detectors. Limits: usage is what the queue's status says, which its
controller writes after the fact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from cluster.facts.event import CustomObject, items_of
from cluster.facts.meta import condition
from cluster.quantity import parse_quantity
from cluster.reference import ObjectRef
from cluster.world import World

CLUSTER_QUEUE, LOCAL_QUEUE, WORKLOAD, SCHEDULER_QUEUE = "ClusterQueue", "LocalQueue", "Workload", "Queue"
KAI_GROUP = "scheduling.run.ai/"
_KAI_UNITS = {"cpu": ("cpu", 1e-3), "memory": ("memory", 1e6), "gpu": ("nvidia.com/gpu", 1.0)}


class Quota(Struct, frozen=True):
    """What one queue has of one resource in one flavor, in the resource's own unit (bytes, cores, devices). `flavor` is "" where a
    queueing system knows none; `borrowing_limit` is None where borrowing has no limit. `used` is None where no status tells."""

    flavor: str
    resource: str
    nominal: float
    used: float | None
    borrowed: float = 0.0
    borrowing_limit: float | None = None

    @property
    def full(self) -> bool:
        """Nothing of the queue's own is left."""
        return self.used is not None and self.used >= self.nominal


class QueueState(Struct, frozen=True):
    """One queue. `inactive` says why it admits nothing, "" when it admits; `feeders` are the LocalQueues that submit to it."""

    ref: ObjectRef
    cohort: str
    pending: int
    admitted: int
    quotas: tuple[Quota, ...]
    inactive: str = ""
    feeders: tuple[ObjectRef, ...] = ()


class Waiting(Struct, frozen=True):
    """A workload in a queue. `owner` is what a person submitted; `says` is the queue's own word for why it is not admitted, "" when it
    is. `queue` is the LocalQueue, `cluster_queue` where it leads, "" where that is not known."""

    workload: ObjectRef
    owner: ObjectRef
    queue: str
    cluster_queue: str
    admitted: bool
    says: str = ""
    wants: tuple[tuple[str, float], ...] = ()


def queues(world: World) -> tuple[QueueState, ...]:
    """All queues: those that admit nothing first, then those with the most waiting."""
    found = (*_cluster_queues(world), *_scheduler_queues(world))
    return tuple(sorted(found, key=lambda item: (not item.inactive, -item.pending, item.ref.name)))


def waiting(world: World) -> tuple[Waiting, ...]:
    """Every unfinished Workload of Kueue, those that are not admitted first."""
    leads = {(queue.namespace, queue.name): str(_spec(queue).get("clusterQueue") or "") for queue in _objects(world, LOCAL_QUEUE)}
    found = []
    for item in _objects(world, WORKLOAD):
        finished, admitted = condition(item.conditions, "Finished"), condition(item.conditions, "Admitted")
        if not item.api_version.startswith("kueue.") or (finished is not None and finished.status == "True"):
            continue
        queue = str(_spec(item).get("queueName") or "")
        inside = admitted is not None and admitted.status == "True"
        target = leads.get((item.namespace, queue), "")
        found.append(Waiting(item.ref, world.top_owner(item.ref), queue, target, inside, "" if inside else _reason(item), _wants(item)))
    return tuple(sorted(found, key=lambda item: (item.admitted, item.workload.namespace or "", item.workload.name)))


def _cluster_queues(world: World) -> Iterator[QueueState]:
    feeders: dict[str, list[ObjectRef]] = {}
    for queue in _objects(world, LOCAL_QUEUE):
        feeders.setdefault(str(_spec(queue).get("clusterQueue") or ""), []).append(queue.ref)
    for item in _objects(world, CLUSTER_QUEUE):
        spec, status = _spec(item), _status(item)
        used = _used(status)
        active = condition(item.conditions, "Active")
        quotas = tuple(
            Quota(
                str(flavor.get("name") or ""),
                str(resource.get("name") or ""),
                _amount(resource.get("nominalQuota")) or 0.0,
                *used.get((str(flavor.get("name")), str(resource.get("name"))), (None, 0.0)),
                _amount(resource.get("borrowingLimit")),
            )
            for group in items_of(spec.get("resourceGroups"))
            for flavor in items_of(group.get("flavors"))
            for resource in items_of(flavor.get("resources"))
        )
        stopped = active is not None and active.status != "True"
        yield QueueState(
            item.ref,
            # v1beta2 renamed `cohort`.
            str(spec.get("cohortName") or spec.get("cohort") or ""),
            _count(status.get("pendingWorkloads")),
            _count(status.get("admittedWorkloads")),
            quotas,
            f"{active.reason}: {active.message}" if stopped and active is not None else "",
            tuple(sorted(feeders.get(item.name, ()))),
        )


def _used(status: Mapping[str, Any]) -> dict[tuple[str, str], tuple[float | None, float]]:
    """(flavor, resource) -> used in all, and how much of that is borrowed."""
    return {
        (str(flavor.get("name")), str(resource.get("name"))): (
            _amount(resource.get("total")) or 0.0,
            _amount(resource.get("borrowed")) or 0.0,
        )
        for flavor in items_of(status.get("flavorsReservation") or status.get("flavorsUsage"))
        for resource in items_of(flavor.get("resources"))
    }


def _scheduler_queues(world: World) -> Iterator[QueueState]:
    """The queues of Volcano and of KAI, which share the name of their kind."""
    for item in _objects(world, SCHEDULER_QUEUE):
        spec, status = _spec(item), _status(item)
        used = status.get("allocated")
        amounts = used if isinstance(used, dict) else {}
        limits = _kai_quota(spec) if item.api_version.startswith(KAI_GROUP) else _volcano_quota(spec)
        quotas = tuple(Quota("", name, limit, _amount(amounts.get(name)) if amounts else None) for name, limit in limits.items())
        state = str(status.get("state") or "Open")
        parent = str(spec.get("parent") or spec.get("parentQueue") or "")
        counts = (_count(status.get("pending")), _count(status.get("running")))
        yield QueueState(item.ref, parent, *counts, quotas, "" if state == "Open" else state)


def _volcano_quota(spec: dict[str, Any]) -> dict[str, float]:
    limits = spec.get("capability") or spec.get("deserved")
    return {str(name): _amount(limit) or 0.0 for name, limit in limits.items()} if isinstance(limits, dict) else {}


def _kai_quota(spec: dict[str, Any]) -> dict[str, float]:
    """Its queues count cores in thousandths, memory in megabytes and devices whole; -1 is no limit (KAI Scheduler, docs/queues)."""
    resources = spec.get("resources")
    found = {}
    for word, (name, unit) in _KAI_UNITS.items():
        part = resources.get(word) if isinstance(resources, dict) else None
        quota = _amount(part.get("quota")) if isinstance(part, dict) else None
        if quota is not None and quota >= 0:
            found[name] = quota * unit
    return found


def _reason(item: CustomObject) -> str:
    for name in ("Evicted", "QuotaReserved", "Admitted"):
        said = condition(item.conditions, name)
        if said is not None and (said.status == "True") is (name == "Evicted"):
            return f"{said.reason or name}: {said.message or ''}".rstrip(": ")
    return "no queue has looked at it"


def _wants(item: CustomObject) -> tuple[tuple[str, float], ...]:
    """What all pods of all pod sets ask for together, as far as their templates say."""
    total: dict[str, float] = {}
    for group in items_of(_spec(item).get("podSets")):
        template = group.get("template")
        spec = template.get("spec") if isinstance(template, dict) else None
        for container in items_of(spec.get("containers") if isinstance(spec, dict) else None):
            resources = container.get("resources")
            asked = (resources.get("requests") or resources.get("limits")) if isinstance(resources, dict) else None
            for name, value in asked.items() if isinstance(asked, dict) else ():
                total[str(name)] = total.get(str(name), 0.0) + (_amount(value) or 0.0) * max(1, _count(group.get("count")))
    return tuple(sorted(total.items()))


def _objects(world: World, kind: str) -> Iterator[CustomObject]:
    return (item for item in world.custom(kind) if isinstance(item, CustomObject))


def _spec(item: CustomObject) -> dict[str, Any]:
    return item.spec if isinstance(item.spec, dict) else {}


def _status(item: CustomObject) -> dict[str, Any]:
    return item.status if isinstance(item.status, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _amount(value: Any) -> float | None:
    return parse_quantity(value) if isinstance(value, str | int | float) else None
