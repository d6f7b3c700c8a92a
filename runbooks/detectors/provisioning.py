"""Nodes that an autoscaler asked for and did not get: no machines in the zone, a limit, or machines that never become nodes.

Sources: events of cluster-autoscaler and Karpenter, conditions of NodeClaim, NodePool and ProvisioningRequest (failures.md H07 to H11).
That pods wait is no fault of theirs. Limits: what the cloud said stands only in events, which a cluster keeps for an hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from cluster.facts.event import CustomObject, Event, items_of
from cluster.facts.meta import Condition
from cluster.facts.pod import Pod
from cluster.quantity import parse_quantity
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.pending import Group, pending_groups
from runbooks.scheduling import requests_of

RECENT = timedelta(hours=1)
REGISTRATION = timedelta(minutes=15)
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
_NEVER_A_NODE = "capacity.node-provisioning-failed"
# Conditions without which Karpenter makes no node of a pool (karpenter pkg/apis/v1/nodepool_status.go).
_POOL_NEEDS = ("NodeClassReady", "ValidationSucceeded", "NodeRegistrationHealthy")
_REQUEST_FAILED = ("Failed", "CapacityRevoked", "BookingExpired")
_NO_CAPACITY = "CapacityIsNotFound"
_TEXT = 260


def scale_up_failing(world: World) -> Iterable[Finding]:
    """Nodes that an autoscaler asked for and did not get, while pods wait for them."""
    waiting = _waiting(world)
    events = [item for item in world.all(Event) if item.reason in _SCALE_EVENTS and item.last_seen and world.now - item.last_seen < RECENT]
    latest = {(event.subject.key, event.reason): event for event in events}
    for event in latest.values() if waiting else ():
        proof = cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)
        text = f"The autoscaler cannot add nodes ({event.reason}): {event.text[:_TEXT]}"
        yield Finding(_code(f"{event.reason} {event.text}"), event.subject, Certainty.PROVEN, (proof,), text, waiting, event.first_seen)
    for claim in _custom(world, "NodeClaim"):
        stuck = next(
            (item for item in claim.conditions if item.type in ("Launched", "Registered", "Initialized") and item.status != "True"), None
        )
        if stuck is None or not claim.created:
            continue
        code = _code(f"{stuck.reason} {stuck.message}") if stuck.type == "Launched" else _NEVER_A_NODE
        # What the cloud refused outright needs no patience.
        if world.now - claim.created < REGISTRATION and (stuck.status != "False" or code == _NEVER_A_NODE):
            continue
        text = f"NodeClaim {claim.name} has not become a usable node ({stuck.type}: {stuck.reason}): {(stuck.message or '')[:_TEXT]}"
        for_whom = _waiting(world, claim.ref, _mapping(claim.spec), claim.labels)
        yield Finding(code, claim.ref, Certainty.PROVEN, (cite(*_said(claim, stuck)),), text, for_whom, claim.created)


def pool_unusable(world: World) -> Iterator[Finding]:
    """Pools of nodes that Karpenter makes no node of, or that have reached the limit that pods in waiting need."""
    for pool in _custom(world, "NodePool"):
        template = _mapping(_mapping(pool.spec).get("template"))
        labels = {"karpenter.sh/nodepool": pool.name, **_mapping(_mapping(template.get("metadata")).get("labels"))}
        waiting = _waiting(world, pool.ref, _mapping(template.get("spec")), labels)
        if not waiting:
            continue
        pods = [pod for pod in map(world.find, waiting) if isinstance(pod, Pod)]
        wanted = {name for pod in pods for name, amount in requests_of(pod.spec).items() if amount > 0}
        broken = next((item for item in pool.conditions if item.type in _POOL_NEEDS and item.status == "False"), None)
        if broken is not None:
            text = f"NodePool {pool.name} makes no nodes ({broken.type}: {broken.reason}): {(broken.message or '')[:_TEXT]}"
            yield Finding(_NEVER_A_NODE, pool.ref, Certainty.PROVEN, (cite(*_said(pool, broken)),), text, waiting)
            continue
        used, limits = _mapping(_mapping(pool.status).get("resources")), _mapping(_mapping(pool.spec).get("limits"))
        for name in sorted(wanted & limits.keys() & used.keys()):
            most, now = parse_quantity(str(limits[name])), parse_quantity(str(used[name]))
            if most is None or now is None or now < most:
                continue
            evidence = (
                cite(Source.FIELD, pool.ref, f"spec.limits[{name}]", limits[name]),
                cite(Source.FIELD, pool.ref, f"status.resources[{name}]", used[name]),
            )
            text = f"NodePool {pool.name} may have {limits[name]} {name} and has {used[name]}: it adds no node for the pods that wait."
            yield Finding("capacity.pool-limit", pool.ref, Certainty.LIKELY, evidence, text, waiting)
            break


def request_failed(world: World) -> Iterator[Finding]:
    """ProvisioningRequests that the autoscaler could not fulfil: what waits for their capacity does not start."""
    for item in _custom(world, "ProvisioningRequest"):
        failed = next((entry for entry in item.conditions if entry.type in _REQUEST_FAILED and entry.status == "True"), None)
        absent = item.condition("Provisioned")
        if failed is None and absent is not None and absent.status == "False" and absent.reason == _NO_CAPACITY:
            failed = absent
        if failed is None:
            continue
        said = f"{failed.reason}: {failed.message or 'no message'}"
        code = "capacity.stockout" if failed.reason == _NO_CAPACITY else _code(said)
        affects = tuple(dict.fromkeys((world.top_owner(item.ref), *world.owner_chain(item.ref)[1:], *_checks(world, item))))
        text = f"{item.ref} got no capacity, and {affects[0]} waits for it ({failed.type}: {said[:_TEXT]})."
        yield Finding(code, item.ref, Certainty.PROVEN, (cite(*_said(item, failed)),), text, affects, item.created)


def _waiting(
    world: World, on: ObjectRef | None = None, spec: Mapping[str, Any] | None = None, labels: Mapping[str, str] | None = None
) -> tuple[ObjectRef, ...]:
    """The workloads and pods that wait for a node; of a claim or a pool, those that it was made for or could take."""
    groups = world.once(pending_groups)
    if on is not None:
        named = f"{on.kind.lower()}/{on.name}"
        nominated = tuple(group for group in groups if any(named in event.text for event in _nominations(world, group)))
        groups = nominated or tuple(group for group in groups if _takes(spec or {}, labels or {}, group.sample))
    return tuple(ref for group in groups for ref in (group.owner, *group.affected))


def _checks(world: World, request: CustomObject) -> Iterator[ObjectRef]:
    """The admission checks that a request was made for: those of its Workload that have not passed."""
    for owner in world.owner_chain(request.ref)[1:]:
        workload = world.find(owner)
        if isinstance(workload, CustomObject):
            for check in items_of(_mapping(workload.status).get("admissionChecks")):
                if check.get("state") != "Ready":
                    yield ObjectRef("AdmissionCheck", None, str(check.get("name")))


def _nominations(world: World, group: Group) -> Iterator[Event]:
    return (event for pod in group.pods for event in world.events(pod.ref, "Nominated"))


def _takes(spec: Mapping[str, Any], labels: Mapping[str, str], pod: Pod) -> bool:
    """Whether nodes of these requirements and labels have all that a pod selects and the devices that it asks for, as far as is told."""
    allowed = {key: {value} for key, value in labels.items()}
    for item in items_of(spec.get("requirements")):
        if item.get("operator") == "In":
            allowed[str(item.get("key"))] = set(map(str, item.get("values") or ()))
    if any(value not in allowed.get(key, ()) for key, value in (pod.spec.node_selector or {}).items()):
        return False
    asked = _mapping(_mapping(spec.get("resources")).get("requests"))
    devices = {name for name, amount in requests_of(pod.spec).items() if "/" in name and amount > 0}
    return not asked or devices <= asked.keys()


def _said(item: CustomObject, condition: Condition) -> tuple[Source, ObjectRef, str, str]:
    return Source.FIELD, item.ref, f"status.conditions[{condition.type}]", f"{condition.reason}: {condition.message}"


def _code(text: str) -> str:
    if _STOCKOUT.search(text):
        return "capacity.stockout"
    return "capacity.cloud-limit" if _LIMIT.search(text) else _NEVER_A_NODE


def _custom(world: World, kind: str) -> Iterator[CustomObject]:
    return (item for item in world.custom(kind) if isinstance(item, CustomObject) and not item.deleting)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DETECTORS: tuple[Detector, ...] = (scale_up_failing, pool_unusable, request_failed)
