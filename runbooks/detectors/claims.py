"""Device claims (Dynamic Resource Allocation) that nothing satisfies, computed again from claims, classes and published devices.

The scheduler gives one opaque reason for many causes (failures.md D05).
Limits: selectors that cannot be evaluated here are reported as not evaluated, never as unmatched; admin-access claims take no device away
from others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

from cluster.facts.dra import DeviceTaintRule, ResourceClaim, ResourceSlice
from cluster.facts.node import Node
from cluster.facts.pod import PodResourceClaim
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.device_binding import BINDING_TIMEOUT, Binding, bindings, refused, words
from runbooks.device_pools import Devices
from runbooks.device_request import Claimed, Decision, Explanation, Reason, claim_of, explain, pod_claims
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.pending import Group, pending_groups
from runbooks.scheduling import Obstacle

CODES: Mapping[Reason, str] = {
    Reason.CLASS_MISSING: "dra.class-missing",
    Reason.NO_DEVICES: "dra.slice-missing",
    Reason.POOL_UNFINISHED: "dra.pool-incomplete",
    Reason.SELECTOR_ERROR: "dra.no-matching-device",
    Reason.SELECTOR: "dra.no-matching-device",
    Reason.COUNT: "dra.no-matching-device",
    Reason.CAPACITY: "dra.no-matching-device",
    Reason.NODE: "dra.no-matching-device",
    Reason.TAINT: "dra.device-tainted",
    Reason.IN_USE: "dra.devices-in-use",
    Reason.COUNTERS: "dra.counters-exhausted",
    Reason.CONSTRAINT: "dra.constraint-unsatisfiable",
}
# The field of the object in question that shows the reason.
_FIELDS: Mapping[Reason, str] = {
    Reason.POOL_UNFINISHED: "spec.pool",
    Reason.TAINT: "spec.devices[].taints",
    Reason.IN_USE: "status.allocation.devices.results",
    Reason.COUNTERS: "spec.sharedCounters",
    Reason.CAPACITY: "spec.devices[].capacity",
    Reason.CONSTRAINT: "spec.devices[].attributes",
    Reason.SELECTOR: "spec.devices",
    Reason.SELECTOR_ERROR: "spec.devices",
}
# (code, text, *evidence) about the claim at hand.
_Maker = Callable[..., Finding]
_GPU_LABELS = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
# A device is attached within seconds; who waits longer is told so.
BINDING_PATIENCE = timedelta(seconds=60)
_NODE_TROUBLE = re.compile(r"is not registered|DeadlineExceeded|checkpoint|connection refused|no such file")


def unsatisfied_claims(world: World) -> Iterable[Finding]:
    """Pods that wait for devices: the first claim that cannot be seen or used, else why those that are left are not allocated.

    Who is asked about comes first, before the work for all claims of a world is spent.
    """
    groups = (group for group in world.once(pending_groups) if group.sample.spec.resource_claims)
    asked = world.scope.subject.key if world.scope.subject else None
    for group in sorted(groups, key=lambda group: asked not in [ref.key for ref in (group.owner, *group.affected)]):
        yield from _unsatisfied(world, group)


def _unsatisfied(world: World, group: Group) -> Iterator[Finding]:
    for use in group.sample.spec.resource_claims or ():
        finding = next(_unusable(world, group, use), None)
        if finding is not None:
            yield finding
            return
    claims, held = pod_claims(world, group.sample)
    if claims:
        explanation = explain(world, claims, group.sample, held)
        if explanation.decisions and not _about_nodes_only(group, explanation):
            yield _explained(world, group, claims, explanation)


def _about_nodes_only(group: Group, explanation: Explanation) -> bool:
    """Whether the devices are there, and other filters than that of devices keep the pod off their nodes: those are others' findings."""
    said = {item.obstacle for item in group.message.refusals} if group.message else set()
    return explanation.decisions[0].reason is Reason.NODE and Obstacle.DEVICES not in said


def _unusable(world: World, group: Group, use: PodResourceClaim) -> Iterator[Finding]:
    """A claim that does not exist, or that is allocated and of no use to the pod."""
    pod = group.sample
    spec, subject, claim = claim_of(world, pod, use)
    message = group.message.text if group.message else ""
    affects = (*group.affected, group.owner, *((claim.ref,) if claim else ()))

    def found(code: str, text: str, *evidence: Evidence) -> Finding:
        return Finding(code, subject, Certainty.PROVEN, (*evidence, *group.evidence), text, affects, group.since)

    if spec is None:
        missing = any("not found" in event.text for event in world.events(pod.ref, "FailedResourceClaimCreation"))
        missing = missing or f'resourceclaim "{subject.name}" not found' in message
        if missing or world.presence(subject.kind, subject.namespace, subject.name) is Presence.ABSENT:
            text = f"{group.owner} needs {subject}, which does not exist."
            code = "dra.claim-missing" if subject.kind == ResourceClaim.kind else "dra.template-missing"
            yield found(code, text, cite(Source.ABSENCE, subject, "", "no such object"))
    elif claim is not None and claim.status.allocation is not None:
        yield from _held_claim(claim, group, message, found)


def _explained(world: World, group: Group, claims: tuple[Claimed, ...], explanation: Explanation) -> Finding:
    decision = explanation.decisions[0]
    claim = next((item for item in claims if item.name == decision.claim), claims[0])
    also = "".join(f" Then {other.text}" for other in explanation.decisions[1:3])
    bare = tuple(node for node in world.all(Node) if any(node.labels.get(label) == "true" for label in _GPU_LABELS))
    subject, where = claim.ref, ""
    if decision.reason is Reason.NO_DEVICES:
        if len(bare) == 1:
            subject, where = bare[0].ref, f" Node {bare[0].name} has a GPU: the driver's node plugin does not run there."
        else:
            where = " The driver's node plugin is not running."
    elif decision.reason is Reason.TAINT and decision.about is not None:
        subject = decision.about
    elif decision.reason is Reason.POOL_UNFINISHED and decision.about is not None:
        subject = _pool_subject(world, decision.about)
    text = f"{group.owner} waits for {claim.ref}: {decision.text}{where}{also}{nearest_fit(explanation, decision)}"
    generated = (item.ref for use in group.sample.spec.resource_claims or () if (item := claim_of(world, group.sample, use)[2]) is not None)
    affects = (*group.affected, group.owner, *generated)
    proof = (*_evidence(claim, decision), *group.evidence)
    return Finding(CODES[decision.reason], subject, Certainty.PROVEN, proof, text, affects, group.since)


def _evidence(claim: Claimed, decision: Decision) -> Iterator[Evidence]:
    request = decision.request.partition("/")[2]
    match decision.reason:
        case Reason.CLASS_MISSING if decision.about is not None:
            yield cite(Source.ABSENCE, decision.about, "", "no such DeviceClass")
            return
        case Reason.NO_DEVICES:
            absent = ObjectRef("ResourceSlice", None, decision.detail or "*")
            yield cite(Source.ABSENCE, absent, "spec.driver", "no ResourceSlice of this driver")
            return
        case Reason.SELECTOR | Reason.SELECTOR_ERROR:
            yield cite(Source.FIELD, claim.ref, f"devices.requests[{request}].selectors", decision.detail)
        case Reason.CONSTRAINT:
            yield cite(Source.FIELD, claim.ref, "devices.constraints[]", decision.detail)
        case Reason.COUNT:
            yield cite(Source.FIELD, claim.ref, f"devices.requests[{request}].count", decision.text)
        case Reason.NODE if decision.about is not None:
            yield cite(Source.FIELD, decision.about, "", decision.detail)
    if decision.about is not None and decision.reason in _FIELDS:
        whole = decision.reason in (Reason.SELECTOR, Reason.SELECTOR_ERROR, Reason.CONSTRAINT)
        shown = decision.text if whole else decision.detail
        of_rule = decision.about.kind == DeviceTaintRule.kind
        yield cite(Source.FIELD, decision.about, "spec.taint" if of_rule else _FIELDS[decision.reason], shown)


def nearest_fit(explanation: Explanation, decision: Decision) -> str:
    """How far the request comes that decides, where it comes anywhere."""
    funnel = next((item for item in explanation.funnels if item.request == decision.request), None)
    if funnel is None or funnel.best is None or decision.reason is Reason.COUNT:
        return ""
    wanted = f" of the {funnel.wanted} that it wants" if funnel.wanted else ""
    return f" Nearest: node {funnel.best} has {funnel.most}{wanted} that pass every test."


def _held_claim(claim: ResourceClaim, group: Group, message: str, found: _Maker) -> Iterator[Finding]:
    """A claim that is allocated already, and still does not let the pod in."""
    mine = {pod.metadata.uid for pod in group.pods}
    others = [item for item in claim.status.reserved_for or () if item.uid not in mine]
    if not others and "not available on the node" not in message and "in use" not in message:
        return
    holders = ", ".join(f"{item.resource.removesuffix('s')} {item.name}" for item in others[:3]) or "another consumer"
    proof = cite(Source.FIELD, claim.ref, "status.reservedFor", holders)
    yield found("dra.claim-in-use", f"{claim.ref} is allocated and reserved for {holders}; {group.owner} cannot use it too.", proof)


def unbound_devices(world: World) -> Iterable[Finding]:
    """Pods that have devices and a node, and are not bound: a device has failed a condition, or not met one for a minute."""
    for group in world.once(pending_groups):
        if not group.sample.spec.resource_claims:
            continue
        waiting = [(claim, item) for pod in group.pods for claim in pod_claims(world, pod)[1] for item in bindings(claim)]
        failed = [pair for pair in waiting if pair[1].failed]
        late = [pair for pair in waiting if not pair[1].failed and world.now - (pair[1].since or world.now) > BINDING_PATIENCE]
        if failed or late:
            yield _unbound(world, group, failed or late)
        elif not waiting:
            yield from _given_back(world, group)


def _unbound(world: World, group: Group, waiting: list[tuple[ResourceClaim, Binding]]) -> Finding:
    claim, binding = min(waiting, key=lambda pair: (pair[1].since or world.now, pair[0].name))
    said = "; ".join(words(binding))
    field = f"status.devices[{binding.device}].conditions"
    proof = [cite(Source.FIELD, claim.ref, field, said, binding.since)]
    events = world.events(group.sample.ref, "BindingConditionsPending")
    proof += [cite(Source.EVENT, group.sample.ref, event.reason, event.text, event.last_seen) for event in events[-1:]]
    affects = (*group.affected, group.owner, *dict.fromkeys(other.ref for other, _ in waiting if other != claim))
    more = f" ({len(waiting) - 1} more devices of its pods likewise)" if len(waiting) > 1 else ""
    if binding.failed:
        code, text = "dra.binding-failed", f"Device {binding.device} was allocated to {group.owner} and cannot be used: {said}{more}."
    else:
        code = "dra.binding-pending"
        minutes = (world.now - (binding.since or world.now)) / timedelta(minutes=1)
        text = (
            f"{group.owner} has devices and a node, and the scheduler waits for device {binding.device} since {minutes:.0f} min: "
            f"{said}{more}. Whoever attaches devices for the driver has not done so; after "
            f"{BINDING_TIMEOUT / timedelta(minutes=1):.0f} min (its default) the scheduler gives the device back and begins again."
        )
    return Finding(code, claim.ref, Certainty.PROVEN, (*proof, *group.evidence), text, affects, binding.since or group.since)


def _given_back(world: World, group: Group) -> Iterator[Finding]:
    """Devices that the scheduler has given back, by its own words, where nothing else keeps the claims from being allocated again."""
    claims, held = pod_claims(world, group.sample)
    events = [event for event in world.events(group.sample.ref, "FailedScheduling") if refused(event.text) is not None]
    said = refused(events[-1].text) if events else refused(group.message.text) if group.message else None
    if said is None or (claims and explain(world, claims, group.sample, held).decisions):
        return
    proof = (
        tuple(cite(Source.EVENT, group.sample.ref, event.reason, event.text, event.last_seen) for event in events[-1:]) or group.evidence
    )
    uses = group.sample.spec.resource_claims or ()
    named = ObjectRef(ResourceClaim.kind, group.sample.namespace, said.claim) if said.claim else None
    subject = named or claim_of(world, group.sample, uses[0])[1]
    if said.detail:
        code, why = "dra.binding-failed", f"cannot be used ({said.detail})"
    else:
        code, why = "dra.binding-pending", "did not become ready in the time that the scheduler waits for it"
    text = f"A device that was allocated to {group.owner} {why}; the scheduler has given it back and begins again."
    yield Finding(code, subject, Certainty.PROVEN, proof, text, (*group.affected, group.owner), group.since)


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
        subject = node if _NODE_TROUBLE.search(event.text) and pod.spec.node_name else claim_of(world, pod, uses[0])[1]
        proof = cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)
        text = f"The device driver on node {pod.spec.node_name} cannot prepare the devices of {pod.ref}: {event.text[:260]}"
        affects = (pod.ref, world.top_owner(pod.ref))
        yield Finding("dra.prepare-failed", subject, Certainty.PROVEN, (proof,), text, affects, event.first_seen)


def admin_access(world: World) -> Iterable[Finding]:
    """Claims with admin access in a namespace that is not labelled for it: the API server refuses to create them."""
    for pod in world.unready_pods():
        for event in world.events(pod.ref, "FailedResourceClaimCreation"):
            if "admin access" in event.text:
                use = next((item for item in pod.spec.resource_claims or () if item.resource_claim_template_name), None)
                subject = claim_of(world, pod, use)[1] if use else world.top_owner(pod.ref)
                proof = cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)
                text = f"{subject} asks for admin access, and namespace {pod.namespace} is not labelled to allow it: {event.text[:200]}"
                affects = (pod.ref, world.top_owner(pod.ref))
                yield Finding("dra.admin-access", subject, Certainty.PROVEN, (proof,), text, affects, event.first_seen)
                break


def pool_incomplete(world: World) -> Iterable[Finding]:
    """Pools of which not every slice is published: the allocator ignores them."""
    devices = world.once(Devices)
    for driver, pool in devices.incomplete():
        slices = devices.newest[(driver, pool)]
        item = slices[0]
        state = f"{len(slices)} of {item.spec.pool.resource_slice_count} slices of generation {item.spec.pool.generation}"
        text = f"Driver {driver} has published {state} for pool {pool}; the scheduler ignores the pool until it is complete."
        proof = (cite(Source.FIELD, item.ref, "spec.pool", state),)
        yield Finding("dra.pool-incomplete", _pool_subject(world, item.ref), Certainty.LIKELY, proof, text)


def _pool_subject(world: World, slice_: ObjectRef) -> ObjectRef:
    """The node whose driver publishes a pool, or the slice where it belongs to no node."""
    found = world.find(slice_)
    return ObjectRef(Node.kind, None, found.spec.node_name) if isinstance(found, ResourceSlice) and found.spec.node_name else slice_


DETECTORS: tuple[Detector, ...] = (unsatisfied_claims, unbound_devices, prepare_failed, admin_access, pool_incomplete)
