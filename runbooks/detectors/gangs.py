"""Gangs that the schedulers of batch work do not place: Volcano, KAI, and the Queues that hold them back.

A gang starts whole or not at all, so its PodGroup says what its pods do not: the quota of the queue, a queue that is closed or not there,
or room for some of its pods only. Sources: volcano apis/scheduling/v1beta1 and plugins/{gang,proportion,capacity}, KAI-Scheduler
pkg/apis/scheduling/v2alpha2 and status_updater (failures.md F29, F30). Limits: other schedulers' PodGroups are left to what is said of
their pods; which of Volcano's plugins refused is told only by its events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from cluster.facts.event import CustomObject, items_of
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

_VOLCANO, _KAI = "scheduling.volcano.sh", "scheduling.run.ai"
_WAITING = frozenset({"Pending", "Inqueue", "Unknown"})
_OVER_QUOTA = "queue resource quota insufficient"
_CLOSED = frozenset({"Closed", "Closing"})
_TEXT = 260
# KAI pkg/apis/scheduling/v2alpha2/podgroup_types.go, UnschedulableReason.
_KAI_QUOTA = frozenset({"NonPreemptibleOverQuota", "OverLimit"})
_KAI_NO_QUEUE = "QueueDoesNotExist"


class _Refusal(Struct, frozen=True):
    """Why a scheduler does not place a gang."""

    reason: str
    message: str
    evidence: Evidence


def gang_held(world: World) -> Iterator[Finding]:
    """PodGroups whose scheduler does not place them, by what it says of the reason."""
    for item in world.custom("PodGroup"):
        if not isinstance(item, CustomObject) or item.deleting:
            continue
        queue = ObjectRef("Queue", None, str(_mapping(item.spec).get("queue") or "default"))
        if item.api_version.startswith(_VOLCANO):
            refusal = _by_volcano(world, item)
        elif item.api_version.startswith(_KAI):
            refusal = _by_kai(item)
        else:
            continue
        if refusal is not None:
            yield _held(world, item, queue, refusal)


def _held(world: World, item: CustomObject, queue: ObjectRef, refusal: _Refusal) -> Finding:
    owner = world.top_owner(item.ref)
    found = world.find(queue)
    state = str(_mapping(found.status).get("state", "")) if isinstance(found, CustomObject) else ""
    evidence: tuple[Evidence, ...] = (refusal.evidence,)
    said = f"{refusal.reason}: {refusal.message}"[:_TEXT]
    affects = (item.ref, owner, *(pod.ref for pod in world.pods_of(owner)[:20]))
    if refusal.reason == _KAI_NO_QUEUE or world.presence("Queue", None, queue.name) is Presence.ABSENT:
        evidence = (refusal.evidence, cite(Source.ABSENCE, queue, "", "no such Queue"))
        text = f"{owner} is submitted to Queue {queue.name}, which does not exist ({said})."
        return Finding("queue.local-queue-missing", owner, Certainty.PROVEN, evidence, text, affects, item.created)
    if state in _CLOSED:
        evidence = (cite(Source.FIELD, queue, "status.state", state), refusal.evidence)
        text = f"Queue {queue.name} is {state.lower()} and lets nothing in; {owner} waits in it ({said})."
        return Finding("queue.stopped", queue, Certainty.PROVEN, evidence, text, affects, item.created)
    if refusal.reason in _KAI_QUOTA or _OVER_QUOTA in refusal.message:
        text = f"{owner} is held by Queue {queue.name}, whose quota does not allow it: {said}"
        if isinstance(found, CustomObject):
            spec = _mapping(found.spec)
            limits = spec.get("capability") or spec.get("resources") or spec.get("deserved")
            evidence = (*evidence, *((cite(Source.FIELD, queue, "spec", json.dumps(limits, sort_keys=True)),) if limits else ()))
        return Finding("queue.quota-exhausted", queue, Certainty.PROVEN, evidence, text, affects, item.created)
    least = _mapping(item.spec).get("minMember")
    text = f"{owner} starts only when {least or 'all'} of its pods find a node at once, and they do not: {said}"
    return Finding("queue.gang-does-not-fit", owner, Certainty.PROVEN, evidence, text, affects, item.created)


def _by_volcano(world: World, item: CustomObject) -> _Refusal | None:
    if str(_mapping(item.status).get("phase", "")) not in _WAITING:
        return None
    for event in reversed(world.events(item.ref, "Unschedulable")):
        if _OVER_QUOTA in event.text:
            return _Refusal(event.reason, event.text, cite(Source.EVENT, item.ref, event.reason, event.text, event.last_seen))
    condition = item.condition("Unschedulable")
    if condition is None or condition.status != "True":
        return None
    said = f"{condition.reason}: {condition.message}"
    return _Refusal(
        condition.reason or "Unschedulable", condition.message or "", cite(Source.FIELD, item.ref, "status.conditions[Unschedulable]", said)
    )


def _by_kai(item: CustomObject) -> _Refusal | None:
    """The last of its conditions, one for each pool of nodes; a gang that runs keeps what was said before."""
    if _mapping(item.status).get("phase") == "Running":
        return None
    told = [
        entry
        for entry in items_of(_mapping(item.status).get("schedulingConditions"))
        if (entry.get("type"), entry.get("status")) == ("UnschedulableOnNodePool", "True")
    ]
    if not told:
        return None
    last = told[-1]
    detail = next(iter(items_of(last.get("reasons"))), {})
    reason = str(detail.get("reason") or last.get("reason") or "Unschedulable")
    message = str(detail.get("message") or last.get("message") or "")
    where = f"status.schedulingConditions[{last.get('nodePool') or 'default'}]"
    return _Refusal(reason, message, cite(Source.FIELD, item.ref, where, f"{reason}: {message}"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DETECTORS: tuple[Detector, ...] = (gang_held,)
