"""Device claims (Dynamic Resource Allocation) that nothing satisfies, computed again from claims, classes and published devices.

The scheduler gives one opaque reason for many causes (failures.md D05).
Limits: selectors that cannot be evaluated here are reported as not evaluated, never as unmatched; admin-access claims take no device away
from others.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from cluster.facts.dra import (
    Device,
    DeviceClaim,
    DeviceClass,
    DeviceTaint,
    DeviceToleration,
    ExactRequest,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from cluster.facts.event import items_of
from cluster.facts.node import Node
from cluster.facts.pod import Pod, PodResourceClaim
from cluster.quantity import parse_quantity
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.device_selector import Answer, attributes_named, selects
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.pending import Group, pending_groups

_DRIVER = re.compile(r"device\.driver\s*==\s*[\"']([^\"']+)[\"']")
# (code, text, *evidence) about the claim at hand.
_Maker = Callable[..., Finding]
_GPU_LABELS = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
_NODE_TROUBLE = re.compile(r"is not registered|DeadlineExceeded|checkpoint|connection refused|no such file")


class Offer(Struct, frozen=True):
    """One published device. `key` is (driver, pool, device); `node` is None where any node may use it."""

    key: tuple[str, str, str]
    node: str | None
    device: Device
    slice: ResourceSlice


class Offers:
    """All devices of the newest generation of every pool, and who holds them."""

    def __init__(self, world: World) -> None:
        newest: dict[tuple[str, str], int] = {}
        slices = world.all(ResourceSlice)
        for item in slices:
            pool = (item.spec.driver, item.spec.pool.name)
            newest[pool] = max(newest.get(pool, 0), item.spec.pool.generation)
        self.slices = tuple(item for item in slices if item.spec.pool.generation == newest[(item.spec.driver, item.spec.pool.name)])
        self.all = tuple(
            Offer((item.spec.driver, item.spec.pool.name, device.name), item.spec.node_name, device, item)
            for item in self.slices
            for device in item.spec.devices or ()
        )
        self.holder: dict[tuple[str, str, str], ResourceClaim] = {}
        for claim in world.all(ResourceClaim):
            admin = {request.name for request in claim.spec.devices.requests or () if request.exactly and request.exactly.admin_access}
            for result in (claim.status.allocation.devices.results if claim.status.allocation else None) or ():
                if result.request not in admin:
                    self.holder[(result.driver, result.pool, result.device)] = claim

    def incomplete_pools(self, driver: str) -> tuple[str, ...]:
        counts = Counter(item.spec.pool.name for item in self.slices if item.spec.driver == driver)
        wanted = {item.spec.pool.name: item.spec.pool.resource_slice_count for item in self.slices if item.spec.driver == driver}
        return tuple(sorted(name for name, count in wanted.items() if counts[name] < count))


def unsatisfied_claims(world: World) -> Iterable[Finding]:
    """Pods that wait for devices: per claim the first reason that holds."""
    groups = [group for group in world.once(pending_groups) if group.sample.spec.resource_claims]
    if not groups:
        return
    offers = world.once(Offers)
    for group in groups:
        for use in group.sample.spec.resource_claims or ():
            finding = next(_unsatisfied(world, group, use, offers), None)
            if finding is not None:
                yield finding
                break


def _unsatisfied(world: World, group: Group, use: PodResourceClaim, offers: Offers) -> Iterator[Finding]:
    pod = group.sample
    spec, subject, claim = _claim_of(world, pod, use)
    message = group.message.text if group.message else ""
    affects = (*group.affected, group.owner, *((claim.ref,) if claim else ()))

    def found(code: str, text: str, *evidence: Evidence, about: ObjectRef = subject, certainty: Certainty = Certainty.PROVEN) -> Finding:
        return Finding(code, about, certainty, (*evidence, *group.evidence), text, affects, group.since)

    if spec is None:
        missing = any("not found" in event.text for event in world.events(pod.ref, "FailedResourceClaimCreation"))
        missing = missing or f'resourceclaim "{subject.name}" not found' in message
        if missing or world.presence(subject.kind, subject.namespace, subject.name) is Presence.ABSENT:
            text = f"{group.owner} needs {subject}, which does not exist."
            code = "dra.claim-missing" if subject.kind == ResourceClaim.kind else "dra.template-missing"
            yield found(code, text, cite(Source.ABSENCE, subject, "", "no such object"))
        return
    if claim is not None and claim.status.allocation is not None:
        yield from _held_claim(claim, group, message, found)
        return
    for request in spec.requests or ():
        alternatives = (request.exactly,) if request.exactly else request.first_available or ()
        reasons = [reason for item in alternatives if item for reason in (_refused(world, item, request.name, subject, offers),)]
        if reasons and all(reasons) and reasons[0] is not None:
            code, text, about, evidence, certainty = reasons[0]
            yield found(code, f"{group.owner} waits for {subject}: {text}", *evidence, about=about or subject, certainty=certainty)
            return
    yield from _constrained(world, spec, subject, offers, found)


def _claim_of(world: World, pod: Pod, use: PodResourceClaim) -> tuple[DeviceClaim | None, ObjectRef, ResourceClaim | None]:
    """The claim's content (None when it cannot be seen), the object a person would edit, and the claim object."""
    generated = next((item.resource_claim_name for item in pod.status.resource_claim_statuses or () if item.name == use.name), None)
    name = use.resource_claim_name or generated
    claim = world.get(ResourceClaim, pod.namespace, name) if name else None
    if use.resource_claim_template_name:
        template = world.get(ResourceClaimTemplate, pod.namespace, use.resource_claim_template_name)
        subject = ObjectRef(ResourceClaimTemplate.kind, pod.namespace, use.resource_claim_template_name)
        spec = template.spec.spec.devices if template else claim.spec.devices if claim else None
        return spec, subject, claim
    return (claim.spec.devices if claim else None), ObjectRef(ResourceClaim.kind, pod.namespace, name or use.name), claim


_Reason = tuple[str, str, ObjectRef | None, tuple[Evidence, ...], Certainty]


def _refused(world: World, request: ExactRequest, name: str, subject: ObjectRef, offers: Offers) -> _Reason | None:
    """Why one request cannot be met, None when it can be or when it cannot be told."""
    class_ = world.get(DeviceClass, None, request.device_class_name)
    if class_ is None:
        if world.presence(DeviceClass.kind, None, request.device_class_name) is not Presence.ABSENT:
            return None
        there = ", ".join(sorted(item.name for item in world.all(DeviceClass))) or "none"
        missing = cite(Source.ABSENCE, ObjectRef(DeviceClass.kind, None, request.device_class_name), "", "no such DeviceClass")
        text = f"request {name} names DeviceClass {request.device_class_name}, which does not exist (there are: {there})."
        return "dra.class-missing", text, None, (missing,), Certainty.PROVEN
    expressions = _expressions(class_, request)
    if ResourceSlice.kind not in world.read_kinds and not world.all(ResourceSlice):
        return None
    drivers = tuple(match[1] for text in expressions if (match := _DRIVER.search(text)))
    published = [item for item in offers.all if not drivers or item.key[0] == drivers[0]]
    if not published:
        return _unpublished(world, drivers[0] if drivers else "", name)
    answers = {item.key: _selected(expressions, item) for item in published}
    matching = [item for item in published if answers[item.key] is Answer.YES]
    if not matching:
        return _unmatched(expressions, name, published, set(answers.values()), subject)
    return _exhausted(request, name, matching, offers)


def _expressions(class_: DeviceClass, request: ExactRequest) -> tuple[str, ...]:
    return tuple(item.cel.expression for item in (*(class_.spec.selectors or ()), *(request.selectors or ())) if item.cel)


def _selected(expressions: tuple[str, ...], item: Offer) -> Answer:
    """All selectors together; what is certain (NO) outweighs what is not."""
    answers = {selects(text, item.device, item.key[0]) for text in expressions}
    for answer in (Answer.NO, Answer.MISSING_KEY, Answer.UNKNOWN):
        if answer in answers:
            return answer
    return Answer.YES


def _unpublished(world: World, driver: str, name: str) -> _Reason:
    bare = [node for node in world.all(Node) if any(node.labels.get(label) == "true" for label in _GPU_LABELS)]
    about = bare[0].ref if len(bare) == 1 else None
    where = f" (node {bare[0].name} has a GPU)" if len(bare) == 1 else ""
    absent = cite(Source.ABSENCE, ObjectRef(ResourceSlice.kind, None, driver or "*"), "spec.driver", "no ResourceSlice of this driver")
    who = f"driver {driver}" if driver else "a driver"
    text = f"request {name} needs {who}, and no node publishes devices of it{where}: the driver's node plugin is not running."
    return "dra.slice-missing", text, about, (absent,), Certainty.PROVEN


def _unmatched(expressions: tuple[str, ...], name: str, published: list[Offer], answers: set[Answer], subject: ObjectRef) -> _Reason | None:
    if Answer.UNKNOWN in answers:
        return None
    # The selector to show is the one that fails on most devices; class selectors usually match all.
    failing = max(expressions, key=lambda text: sum(selects(text, item.device, item.key[0]) is not Answer.YES for item in published))
    names = attributes_named(failing)
    have = Counter(_values(item.device, names) for item in published)
    shown = "; ".join(f"{count} × {values}" for values, count in have.most_common(3))
    asked = cite(Source.FIELD, subject, f"devices.requests[{name}].selectors", failing)
    seen = cite(Source.FIELD, published[0].slice.ref, "spec.devices", shown)
    if answers == {Answer.MISSING_KEY}:
        text = f"selector of request {name} ({failing}) asks for an attribute that no device has ({shown})."
    else:
        text = f"none of {len(published)} published devices matches request {name} ({failing}); they have {shown}."
    return "dra.no-matching-device", text, None, (asked, seen), Certainty.PROVEN


def _values(device: Device, names: tuple[str, ...]) -> str:
    found = []
    for key, attribute in (device.attributes or {}).items():
        if key.rpartition("/")[2] in names:
            found.append(f"{key.rpartition('/')[2]}={attribute.value}")
    found.extend(
        f"{key.rpartition('/')[2]}={amount.value}" for key, amount in (device.capacity or {}).items() if key.rpartition("/")[2] in names
    )
    return ", ".join(sorted(found)) or "no such attribute"


def _exhausted(request: ExactRequest, name: str, matching: list[Offer], offers: Offers) -> _Reason | None:
    count = request.count if request.allocation_mode == "ExactCount" else 1
    healthy = [item for item in matching if not _untolerated(item.device, request.tolerations or ())]
    if _most_on_a_node(matching) < count:
        text = f"request {name} asks for {count} devices, and at most {_most_on_a_node(matching)} matching ones are on one node."
        return (
            "dra.no-matching-device",
            text,
            None,
            (cite(Source.FIELD, matching[0].slice.ref, "spec.devices", f"{len(matching)} match"),),
            Certainty.PROVEN,
        )
    if _most_on_a_node(healthy) < count:
        tainted = [item for item in matching if item not in healthy]
        taint = _untolerated(tainted[0].device, request.tolerations or ())[0]
        shown = f"{tainted[0].device.name}: {taint.key}={taint.value or ''}:{taint.effect}"
        text = f"{len(tainted)} of {len(matching)} matching devices have a taint that request {name} does not tolerate ({shown})."
        about = tainted[0].slice.ref
        return "dra.device-tainted", text, about, (cite(Source.FIELD, about, "spec.devices[].taints", shown),), Certainty.PROVEN
    if request.admin_access:
        return None
    free = [item for item in healthy if item.key not in offers.holder]
    if _most_on_a_node(free) < count:
        holders = tuple(dict.fromkeys(offers.holder[item.key].ref for item in healthy if item.key in offers.holder))
        named = ", ".join(str(ref) for ref in holders[:3])
        text = f"{len(healthy)} devices match request {name} and {len(healthy) - len(free)} of them are held by other claims ({named})."
        evidence = (cite(Source.FIELD, holders[0], "status.allocation.devices.results", named),) if holders else ()
        return "dra.devices-in-use", text, None, evidence, Certainty.PROVEN
    if all(_counters_short(item, offers) for item in free):
        shown = f"{free[0].slice.name}: counters of {free[0].device.name} are used up by allocated partitions"
        text = f"devices match request {name}, but the counters that they share with allocated partitions are used up."
        return (
            "dra.counters-exhausted",
            text,
            None,
            (cite(Source.FIELD, free[0].slice.ref, "spec.sharedCounters", shown),),
            Certainty.PROVEN,
        )
    return None


def _most_on_a_node(offers: Iterable[Offer]) -> int:
    counts = Counter(item.node for item in offers)
    shared = counts.pop(None, 0)
    return max(counts.values(), default=0) + shared


def _untolerated(device: Device, tolerations: tuple[DeviceToleration, ...]) -> tuple[DeviceTaint, ...]:
    return tuple(
        taint
        for taint in device.taints or ()
        if taint.effect in ("NoSchedule", "NoExecute")
        and not any(
            (not item.key or item.key == taint.key)
            and (not item.effect or item.effect == taint.effect)
            and (item.operator == "Exists" or (item.value or "") == (taint.value or ""))
            for item in tolerations
        )
    )


def _counters_short(item: Offer, offers: Offers) -> bool:
    """Whether a partition's counters are used up by what is allocated of the same pool. Source: KEP-4815 partitionable devices."""
    wanted = _consumed(item.device)
    if not wanted:
        return False
    left: dict[tuple[str, str], float] = {}
    pool = [other for other in offers.slices if (other.spec.driver, other.spec.pool.name) == item.key[:2]]
    for other in pool:
        for counter_set in items_of(other.spec.shared_counters):
            left.update(((str(counter_set.get("name")), name), value) for name, value in _amounts(counter_set).items())
    for other_offer in offers.all:
        if other_offer.key[:2] == item.key[:2] and other_offer.key in offers.holder:
            for key, value in _consumed(other_offer.device).items():
                left[key] = left.get(key, 0.0) - value
    return any(value > left.get(key, 0.0) for key, value in wanted.items())


def _consumed(device: Device) -> dict[tuple[str, str], float]:
    used: dict[tuple[str, str], float] = defaultdict(float)
    for entry in items_of(device.consumes_counters):
        for name, value in _amounts(entry).items():
            used[(str(entry.get("counterSet")), name)] += value
    return used


def _amounts(entry: dict[str, Any]) -> dict[str, float]:
    """The counters of a counter set by name; what has no amount is left out."""
    counters = entry.get("counters")
    amounts = {name: item.get("value") for name, item in counters.items() if isinstance(item, dict)} if isinstance(counters, dict) else {}
    return {name: number for name, text in amounts.items() if (number := parse_quantity(text)) is not None}


def _constrained(world: World, spec: DeviceClaim, subject: ObjectRef, offers: Offers, found: _Maker) -> Iterator[Finding]:
    """matchAttribute constraints that no node can meet although each request alone could be."""
    requests = {item.name: item.exactly for item in spec.requests or () if item.exactly}
    for constraint in spec.constraints or ():
        attribute = constraint.match_attribute
        if attribute is None:
            continue
        names = constraint.requests or tuple(requests)
        wanted = sum(requests[name].count for name in names if name in requests)
        groups: dict[tuple[str | None, object], set[tuple[str, str, str]]] = defaultdict(set)
        for name in names:
            request = requests.get(name)
            class_ = world.get(DeviceClass, None, request.device_class_name) if request else None
            if request is None or class_ is None:
                return
            expressions = _expressions(class_, request)
            for item in offers.all:
                answer = _selected(expressions, item)
                if answer is Answer.UNKNOWN:
                    return
                value = (item.device.attributes or {}).get(attribute) or (item.device.attributes or {}).get(attribute.rpartition("/")[2])
                if answer is Answer.YES and value is not None and item.key not in offers.holder:
                    groups[(item.node, value.value)].add(item.key)
        best = max((len(keys) for keys in groups.values()), default=0)
        if offers.all and best < wanted:
            text = f"{', '.join(names)} must share {attribute}; {wanted} devices are wanted and at most {best} free ones share a value."
            asked = cite(Source.FIELD, subject, "devices.constraints[].matchAttribute", attribute)
            yield found("dra.constraint-unsatisfiable", f"{subject} cannot be met: {text}", asked)
            return


def _held_claim(claim: ResourceClaim, group: Group, message: str, found: _Maker) -> Iterator[Finding]:
    """A claim that is allocated already, and still does not let the pod in."""
    mine = {pod.metadata.uid for pod in group.pods}
    others = [item for item in claim.status.reserved_for or () if item.uid not in mine]
    if not others and "not available on the node" not in message and "in use" not in message:
        return
    holders = ", ".join(f"{item.resource.removesuffix('s')} {item.name}" for item in others[:3]) or "another consumer"
    proof = cite(Source.FIELD, claim.ref, "status.reservedFor", holders)
    yield found("dra.claim-in-use", f"{claim.ref} is allocated and reserved for {holders}; {group.owner} cannot use it too.", proof)


def prepare_failed(world: World) -> Iterable[Finding]:
    """Devices that were allocated and that the driver on the node cannot prepare."""
    for pod in world.unready_pods():
        if not pod.spec.resource_claims:
            continue
        events = world.events(pod.ref, "FailedPrepareDynamicResources")
        if not events:
            continue
        event = events[-1]
        node = ObjectRef("Node", None, pod.spec.node_name or "")
        uses = pod.spec.resource_claims
        subject = node if _NODE_TROUBLE.search(event.text) and pod.spec.node_name else _claim_of(world, pod, uses[0])[1]
        proof = cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)
        text = f"The device driver on node {pod.spec.node_name} cannot prepare the devices of {pod.ref}: {event.text[:260]}"
        affects = (pod.ref, world.top_owner(pod.ref))
        yield Finding("dra.prepare-failed", subject, Certainty.PROVEN, (proof,), text, affects, event.first_seen)


def admin_access(world: World) -> Iterable[Finding]:
    """Claims with admin access in a namespace that is not labelled for it: the API server refuses to create them."""
    for pod in world.all(Pod):
        for event in world.events(pod.ref, "FailedResourceClaimCreation"):
            if "admin access" in event.text and not pod.finished:
                use = next((item for item in pod.spec.resource_claims or () if item.resource_claim_template_name), None)
                subject = _claim_of(world, pod, use)[1] if use else world.top_owner(pod.ref)
                proof = cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)
                text = f"{subject} asks for admin access, and namespace {pod.namespace} is not labelled to allow it: {event.text[:200]}"
                affects = (pod.ref, world.top_owner(pod.ref))
                yield Finding("dra.admin-access", subject, Certainty.PROVEN, (proof,), text, affects, event.first_seen)
                break


def pool_incomplete(world: World) -> Iterable[Finding]:
    """Pools of which not every slice is published: the allocator ignores them."""
    offers = world.once(Offers)
    for driver in sorted({item.spec.driver for item in offers.slices}):
        for pool in offers.incomplete_pools(driver):
            item = next(slice_ for slice_ in offers.slices if slice_.spec.driver == driver and slice_.spec.pool.name == pool)
            count = sum(slice_.spec.driver == driver and slice_.spec.pool.name == pool for slice_ in offers.slices)
            state = f"{count} of {item.spec.pool.resource_slice_count} slices of generation {item.spec.pool.generation}"
            subject = ObjectRef("Node", None, item.spec.node_name) if item.spec.node_name else item.ref
            text = f"Driver {driver} has published {state} for pool {pool}; the scheduler ignores the pool until it is complete."
            yield Finding("dra.pool-incomplete", subject, Certainty.LIKELY, (cite(Source.FIELD, item.ref, "spec.pool", state),), text)


DETECTORS: tuple[Detector, ...] = (unsatisfied_claims, prepare_failed, admin_access, pool_incomplete)
