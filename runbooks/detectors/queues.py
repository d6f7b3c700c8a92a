"""Jobs that a queue holds back, and capacity that the autoscaler cannot get.

A suspended or gated job is no fault of its pods. Waiting for quota is reported as such, with the queue's numbers; that pods of an
admitted workload do not start is left to the pod families. Sources: kueue apis/kueue/v1beta2, cluster-autoscaler, karpenter events.
Limits: of queueing systems Kueue is known, of node autoscalers cluster-autoscaler and Karpenter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

from cluster.facts.event import CustomObject, Event, items_of
from cluster.facts.meta import Condition
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.pending import pending_groups

RECENT = timedelta(hours=1)
REGISTRATION = timedelta(minutes=15)
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
    (re.compile(r"WaitingForQuota|insufficient unused quota|insufficient quota"), "queue.quota-exhausted"),
)
_EVICTIONS = {"Preempted": "queue.preempted", "PodsReadyTimeout": "queue.pods-ready-timeout", "AdmissionCheck": "queue.admission-check"}
_INACTIVE = {
    "FlavorNotFound": "queue.flavor-mismatch",
    "TopologyNotFound": "queue.topology",
    "AdmissionCheckNotFound": "queue.admission-check",
    "AdmissionCheckInactive": "queue.admission-check",
    "Stopped": "queue.stopped",
}
_STOCKOUT = re.compile(
    r"(?i)insufficientinstancecapacity|insufficientcapacity|\bICE\b|stockout|resource_pool_exhausted|out ?of ?resources"
    r"|sku ?not ?available|overconstrained|unfulfillablecapacity|insufficient capacity"
)
_LIMIT = re.compile(r"(?i)quota|limit ?exceeded|maxspotinstancecount|max ?nodes ?total|exceed limits")
_SCALE_EVENTS = (
    "FailedToScaleUpGroup",
    "ScaleUpFailed",
    "ScaleUpTimedOut",
    "MaxNodesTotalReached",
    "InsufficientCapacityError",
    "NodeClassNotReady",
    "FailedConsistencyCheck",
    "NoCompatibleInstanceTypes",
)


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
    if code in ("queue.quota-exhausted", "queue.stopped", "queue.topology") and target:
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
        waiting = tuple(
            world.top_owner(item.ref)
            for item in world.custom("Workload")
            if isinstance(item, CustomObject) and _feeds(world, item, queue.name) and (item.condition("Admitted") is None)
        )
        yield Finding(code, queue.ref, Certainty.PROVEN, (_cited(queue, active),), text, waiting)


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


def scale_up_failing(world: World) -> Iterable[Finding]:
    """Nodes that an autoscaler asked for and did not get, while pods wait for them."""
    waiting = tuple(ref for group in world.once(pending_groups) for ref in (group.owner, *group.affected))
    events = [item for item in world.all(Event) if item.reason in _SCALE_EVENTS and item.last_seen and world.now - item.last_seen < RECENT]
    latest = {(event.subject.key, event.reason): event for event in events}
    for event in latest.values() if waiting else ():
        proof = cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)
        text = f"The autoscaler cannot add nodes ({event.reason}): {event.text[:260]}"
        code = _capacity_code(f"{event.reason} {event.text}")
        yield Finding(code, event.subject, Certainty.PROVEN, (proof,), text, waiting, event.first_seen)
    for claim in world.custom("NodeClaim"):
        if not isinstance(claim, CustomObject):
            continue
        stuck = next(
            (item for item in claim.conditions if item.type in ("Launched", "Registered", "Initialized") and item.status != "True"), None
        )
        if stuck is None or not claim.created or world.now - claim.created < REGISTRATION:
            continue
        code = _capacity_code(f"{stuck.reason} {stuck.message}") if stuck.type == "Launched" else "capacity.node-provisioning-failed"
        text = f"NodeClaim {claim.name} has not become a usable node ({stuck.type}: {stuck.reason}): {(stuck.message or '')[:240]}"
        yield Finding(code, claim.ref, Certainty.PROVEN, (_cited(claim, stuck),), text, waiting, claim.created)


def _capacity_code(text: str) -> str:
    if _STOCKOUT.search(text):
        return "capacity.stockout"
    return "capacity.cloud-limit" if _LIMIT.search(text) else "capacity.node-provisioning-failed"


DETECTORS: tuple[Detector, ...] = (workload_held, queue_inactive, queue_label_missing, scale_up_failing)
