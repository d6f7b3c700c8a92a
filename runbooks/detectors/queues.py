"""Jobs that Kueue holds back, and the queue, flavor, check or job to blame.

A suspended or gated job is no fault of its pods. Waiting for quota is reported as such, with the queue's numbers; that pods of an
admitted workload do not start is left to the pod families. Sources: kueue apis/kueue/v1beta2, pkg/scheduler/flavorassigner.
Limits: who holds the quota that is in use is not told; of gangs of other schedulers tells `gangs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

from cluster.facts.event import CustomObject, items_of
from cluster.facts.meta import Condition
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

RECENT = timedelta(hours=1)
_KUEUE = "kueue.x-k8s.io"
_MISSING_QUEUE = re.compile(r"LocalQueue (?P<name>\S+) doesn't exist")
_STOPPED = re.compile(r"(?P<kind>LocalQueue|ClusterQueue) (?P<name>\S+) is inactive")
# Reasons of QuotaReserved=False; older releases say only Pending, and the message tells.
_WAITING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"LocalQueue \S+ doesn't exist|ClusterQueue \S+ doesn't exist"), "queue.local-queue-missing"),
    (re.compile(r"is inactive|StopPolicy"), "queue.stopped"),
    (re.compile(r"TopologyPlacementFailed|topology \"[^\"]+\" (?:allows|doesn't allow)|no topology domains"), "queue.topology"),
    (re.compile(r"ExceedsMaxQuota|> maximum capacity"), "queue.exceeds-maximum"),
    (re.compile(r"NoMatchingFlavor|untolerated taint|doesn't match node affinity|unavailable in ClusterQueue"), "queue.flavor-mismatch"),
    (re.compile(r"borrowing limit"), "queue.borrowing-limit"),
    (re.compile(r"WaitingForPreemptedWorkloads|Pending the preemption of"), "queue.waits-for-victims"),
    (re.compile(r"WaitingForPodsReady|in PodsReady condition"), "queue.waits-for-others"),
    (re.compile(r"WaitingForQuota|insufficient unused quota|insufficient quota"), "queue.quota-exhausted"),
)
# Where the queue has to change, or has to be waited for, and not the job.
_OF_QUEUE = frozenset({"queue.quota-exhausted", "queue.borrowing-limit", "queue.waits-for-others", "queue.stopped", "queue.topology"})
_EVICTIONS = {"Preempted": "queue.preempted", "PodsReadyTimeout": "queue.pods-ready-timeout", "AdmissionCheck": "queue.admission-check"}
# kueue sets spec.active to false when a workload was put back too often, or ran too long (pkg/workload/evict.go).
_REQUEUED_TOO_OFTEN = re.compile(r"RequeuingLimitExceeded|maximum number of re-?queuing")
_INACTIVE = {
    "FlavorNotFound": "queue.flavor-mismatch",
    "TopologyNotFound": "queue.topology",
    "AdmissionCheckNotFound": "queue.admission-check",
    "AdmissionCheckInactive": "queue.admission-check",
    "Stopped": "queue.stopped",
}
# Events of a Workload that lost its quota to another (kueue pkg/workload/evict.go).
_PREEMPTED = ("Preempted", "EvictedDueToPreempted")
LOOP_TIMES = 3
# What no waiting changes.
_NEVER = frozenset({"queue.exceeds-maximum", "queue.flavor-mismatch", "queue.topology"})


def workload_held(world: World) -> Iterable[Finding]:
    """Kueue workloads that are not admitted, by the reason in their conditions."""
    for item in world.custom("Workload"):
        if isinstance(item, CustomObject) and item.api_version.startswith(_KUEUE) and item.condition("Finished") is None:
            admitted = item.condition("Admitted")
            if admitted is None or admitted.status != "True":
                yield from _held(world, item)


def _held(world: World, item: CustomObject) -> Iterator[Finding]:
    owner = world.top_owner(item.ref)
    since = item.created
    if isinstance(item.spec, dict) and item.spec.get("active") is False:
        yield _deactivated(item, owner)
        return
    evicted, reserved = item.condition("Evicted"), item.condition("QuotaReserved")
    if evicted is not None and evicted.status == "True" and evicted.reason in _EVICTIONS:
        code = _EVICTIONS[evicted.reason]
        text = f"{owner} was evicted from its queue ({evicted.reason}): {(evicted.message or '')[:240]}"
        certainty = Certainty.LIKELY if code == "queue.pods-ready-timeout" else Certainty.PROVEN
        yield Finding(code, owner, certainty, (_cited(item, evicted),), text, (item.ref,), since)
        return
    for check in items_of(item.status.get("admissionChecks") if isinstance(item.status, dict) else None):
        if check.get("state") in ("Retry", "Rejected") or (check.get("state") == "Pending" and reserved and reserved.status == "True"):
            ref = ObjectRef("AdmissionCheck", None, str(check.get("name")))
            proof = cite(
                Source.FIELD, item.ref, "status.admissionChecks", f"{check.get('name')}: {check.get('state')} {check.get('message', '')}"
            )
            text = f"{owner} waits for admission check {ref.name} ({check.get('state')}): {str(check.get('message', ''))[:240]}"
            yield Finding("queue.admission-check", ref, Certainty.PROVEN, (proof,), text, (owner, item.ref), since)
            return
    if reserved is None or reserved.status == "True":
        return
    said = f"{reserved.reason}: {reserved.message}"
    reason = next((code for pattern, code in _WAITING if pattern.search(said)), None)
    if reason is not None:
        subject = _queue_to_blame(world, item, reason, said) or owner
        blamed = world.find(subject)
        if reason == "queue.stopped" and isinstance(blamed, CustomObject):
            active = blamed.condition("Active")
            reason = _INACTIVE.get((active.reason if active else None) or "", reason)
        text = f"{owner} is held by its queue: {(reserved.message or reserved.reason or '')[:280]}"
        yield Finding(reason, subject, Certainty.PROVEN, (_cited(item, reserved),), text, (owner, item.ref), since)


def _deactivated(item: CustomObject, owner: ObjectRef) -> Finding:
    told = next((entry for kind in ("DeactivationTarget", "Evicted") if (entry := item.condition(kind)) is not None), None)
    said = f"{told.reason}: {told.message}" if told is not None else "nobody says why"
    evidence = (cite(Source.FIELD, item.ref, "spec.active", "false"), *((_cited(item, told),) if told is not None else ()))
    code = "queue.requeued-too-often" if _REQUEUED_TOO_OFTEN.search(said) else "queue.deactivated"
    text = f"{owner} is out of its queue until somebody activates its Workload {item.name} again: {said[:240]}"
    return Finding(code, owner, Certainty.PROVEN, evidence, text, (item.ref,), item.created)


def _cited(item: CustomObject, condition: Condition) -> Evidence:
    return cite(Source.FIELD, item.ref, f"status.conditions[{condition.type}]", f"{condition.reason}: {condition.message}")


def _queue_to_blame(world: World, item: CustomObject, code: str, said: str) -> ObjectRef | None:
    """The queue where the queue is at fault, None where the job asks for what no queue gives."""
    name = item.spec.get("queueName") if isinstance(item.spec, dict) else None
    local = next((queue for queue in world.custom("LocalQueue") if queue.namespace == item.namespace and queue.name == name), None)
    target = local.spec.get("clusterQueue") if isinstance(local, CustomObject) and isinstance(local.spec, dict) else None
    stopped = _STOPPED.search(said)
    if code == "queue.stopped" and stopped:
        return ObjectRef(stopped["kind"], item.namespace if stopped["kind"] == "LocalQueue" else None, stopped["name"].rstrip("."))
    if code in _OF_QUEUE and target:
        return ObjectRef("ClusterQueue", None, str(target))
    return None


def queue_inactive(world: World) -> Iterable[Finding]:
    """Cluster queues that admit nothing, whatever waits in them."""
    for queue in world.custom("ClusterQueue"):
        active = queue.condition("Active") if isinstance(queue, CustomObject) else None
        if active is None or active.status == "True" or not isinstance(queue, CustomObject):
            continue
        code = _INACTIVE.get(active.reason or "", "queue.stopped")
        text = f"ClusterQueue {queue.name} admits nothing ({active.reason}): {(active.message or '')[:240]}"
        yield Finding(code, queue.ref, Certainty.PROVEN, (_cited(queue, active),), text, _waiting_in(world, queue.name))


def _waiting_in(world: World, cluster_queue: str) -> tuple[ObjectRef, ...]:
    waiting = (item for item in _workloads(world) if _feeds(world, item, cluster_queue) and not _true(item, "Admitted"))
    return tuple(world.top_owner(item.ref) for item in waiting)


def _feeds(world: World, item: CustomObject, cluster_queue: str) -> bool:
    name = item.spec.get("queueName") if isinstance(item.spec, dict) else None
    return any(
        isinstance(queue, CustomObject) and isinstance(queue.spec, dict) and queue.spec.get("clusterQueue") == cluster_queue
        for queue in world.custom("LocalQueue")
        if queue.namespace == item.namespace and queue.name == name
    )


def queue_label_missing(world: World) -> Iterable[Finding]:
    """Suspended jobs that name a LocalQueue which does not exist, before Kueue has made a Workload for them."""
    for kind in ("Job", "RayJob", "PyTorchJob", "JobSet"):
        for job in world.custom(kind):
            name = job.labels.get(f"{_KUEUE}/queue-name")
            if not name or world.presence("LocalQueue", job.namespace, name) is not Presence.ABSENT:
                continue
            proof = cite(Source.FIELD, job.ref, f"metadata.labels[{_KUEUE}/queue-name]", name)
            absent = cite(Source.ABSENCE, ObjectRef("LocalQueue", job.namespace, name), "", "no such LocalQueue")
            text = f"{job.ref} is submitted to LocalQueue {name}, which does not exist in namespace {job.namespace}."
            yield Finding("queue.local-queue-missing", job.ref, Certainty.PROVEN, (proof, absent), text, since=job.created)


def check_inactive(world: World) -> Iterable[Finding]:
    """Admission checks whose controller does not work: every workload of the queues that ask them waits."""
    for check in world.custom("AdmissionCheck"):
        active = check.condition("Active") if isinstance(check, CustomObject) else None
        if active is None or active.status == "True" or not isinstance(check, CustomObject):
            continue
        queues = [queue for queue in world.custom("ClusterQueue") if isinstance(queue, CustomObject) and check.name in _checks_of(queue)]
        waiting = tuple(ref for queue in queues for ref in _waiting_in(world, queue.name))
        text = f"AdmissionCheck {check.name} is not active ({active.reason}): {(active.message or '')[:240]}"
        affects = (*waiting, *(queue.ref for queue in queues))
        yield Finding("queue.check-inactive", check.ref, Certainty.PROVEN, (_cited(check, active),), text, affects)


def _checks_of(queue: CustomObject) -> set[str]:
    spec = queue.spec if isinstance(queue.spec, dict) else {}
    strategy = spec.get("admissionChecksStrategy")
    rules = items_of(strategy.get("admissionChecks")) if isinstance(strategy, dict) else ()
    return {*map(str, spec.get("admissionChecks") or ()), *(str(rule.get("name")) for rule in rules)}


def head_of_line(world: World) -> Iterable[Finding]:
    """A workload that can never start and stands first in a queue that keeps strict order: all behind it wait for nothing."""
    for queue in world.custom("ClusterQueue"):
        if not isinstance(queue, CustomObject) or not isinstance(queue.spec, dict) or queue.spec.get("queueingStrategy") != "StrictFIFO":
            continue
        pending = sorted(
            (item for item in _workloads(world) if _feeds(world, item, queue.name) and not _true(item, "QuotaReserved")),
            key=lambda item: (-_priority(item), str(item.created), item.name),
        )
        if len(pending) < 2 or (first := _why_waiting(pending[0])) not in _NEVER:
            continue
        reserved = pending[0].condition("QuotaReserved")
        owner, behind = world.top_owner(pending[0].ref), tuple(world.top_owner(item.ref) for item in pending[1:])
        evidence = (
            *((_cited(pending[0], reserved),) if reserved else ()),
            cite(Source.FIELD, queue.ref, "spec.queueingStrategy", "StrictFIFO"),
        )
        text = (
            f"{owner} can never start ({first}) and stands first in ClusterQueue {queue.name}, which keeps strict order: "
            f"{len(behind)} behind it wait for nothing."
        )
        affects = (pending[0].ref, *behind, *(item.ref for item in pending[1:]))
        yield Finding("queue.head-of-line", owner, Certainty.PROVEN, evidence, text, affects, pending[0].created)


def preemption_loop(world: World) -> Iterable[Finding]:
    """Workloads that are admitted and preempted again and again, and lose their work each time."""
    for item in _workloads(world):
        events = [event for event in world.events(item.ref, *_PREEMPTED) if event.last_seen and world.now - event.last_seen < RECENT]
        # One preemption is told by both reasons.
        times = max(sum(event.times for event in events if event.reason == reason) for reason in _PREEMPTED)
        if times < LOOP_TIMES or item.condition("Finished") is not None:
            continue
        owner, last = world.top_owner(item.ref), events[-1]
        proof = cite(Source.EVENT, item.ref, last.reason, last.text, last.last_seen)
        text = f"{owner} was preempted {times} times within the hour and starts anew each time: {last.text[:240]}"
        yield Finding("queue.preemption-loop", owner, Certainty.PROVEN, (proof,), text, (item.ref,), events[0].first_seen)


def _workloads(world: World) -> Iterator[CustomObject]:
    for item in world.custom("Workload"):
        if isinstance(item, CustomObject) and item.api_version.startswith(_KUEUE) and item.condition("Finished") is None:
            yield item


def _true(item: CustomObject, condition: str) -> bool:
    found = item.condition(condition)
    return found is not None and found.status == "True"


def _priority(item: CustomObject) -> int:
    value = item.spec.get("priority") if isinstance(item.spec, dict) else None
    return value if isinstance(value, int) else 0


def _why_waiting(item: CustomObject) -> str:
    reserved = item.condition("QuotaReserved")
    said = f"{reserved.reason}: {reserved.message}" if reserved is not None else ""
    return next((code for pattern, code in _WAITING if pattern.search(said)), "")


DETECTORS: tuple[Detector, ...] = (
    workload_held,
    queue_inactive,
    queue_label_missing,
    check_inactive,
    head_of_line,
    preemption_loop,
)
