"""Claims that do not bind, volumes that are lost, and what keeps a bound volume from its pod.

A claim that waits for its first consumer is healthy. Which node a pod gets is not decided here; that its volume allows none is.
Limits: the storage behind a driver is not asked; claims, volumes, attachments and events tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from cluster.facts.event import Event
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.storage import CSIDriver, PersistentVolume, PersistentVolumeClaim, StorageClass
from cluster.facts.workload import StatefulSet
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.pending import blame_of, pending_groups
from runbooks.scheduling import Obstacle, Usage, affinity_text, matches_selector

# A provisioner that is there answers within this time, most within seconds (external-provisioner default timeout 10 s, retried).
PROVISIONER_PATIENCE = timedelta(minutes=2)
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_CLASS_MISSING = re.compile(r'storageclass\.storage\.k8s\.io "(?P<name>[^"]+)" not found')
# How drivers of block storage refuse a claim for many nodes (aws-ebs, gcp-pd, azuredisk, ceph-csi rbd).
_MODE_REFUSED = re.compile(
    r"(?i)MULTI_NODE_\w+|(?:access|volume) (?:mode|capabilit)\w*[^\n]{0,40}(?:not|un)[ -]?support|unsupported access mode|"
    r"(?:ReadWriteMany|RWX)[^\n]{0,60}(?:not|only)[^\n]{0,20}support"
)
_GIB = 2**30
# (code, text, certainty, *evidence) about the claim at hand.
_Maker = Callable[..., Finding]


def claim_unbound(world: World) -> Iterable[Finding]:
    """Claims that are Pending and should not be, told apart by what the volume controllers and the volumes themselves say."""
    pending = [claim for claim in world.all(PersistentVolumeClaim) if claim.status.phase == "Pending" and not claim.deleting]
    if not pending:
        return
    users = _users(world)
    for claim in pending:
        yield from _unbound(world, claim, users.get((claim.namespace, claim.name), ()))


def _users(world: World) -> dict[tuple[str | None, str], list[Pod]]:
    users: dict[tuple[str | None, str], list[Pod]] = {}
    for pod in world.all(Pod):
        for volume in pod.spec.volumes or ():
            if volume.persistent_volume_claim is not None:
                users.setdefault((pod.namespace, volume.persistent_volume_claim.claim_name), []).append(pod)
            elif volume.ephemeral is not None:
                users.setdefault((pod.namespace, f"{pod.name}-{volume.name}"), []).append(pod)
    return users


def _unbound(world: World, claim: PersistentVolumeClaim, users: Iterable[Pod]) -> Iterator[Finding]:
    pods = tuple(users)
    affects = tuple(dict.fromkeys(ref for pod in pods for ref in (pod.ref, world.top_owner(pod.ref))))
    events = world.events(claim.ref)
    since = claim.created or next((event.first_seen for event in events), None)

    def found(code: str, text: str, certainty: Certainty, *evidence: Evidence) -> Finding:
        phase = cite(Source.FIELD, claim.ref, "status.phase", "Pending", since)
        return Finding(code, claim.ref, certainty, evidence or (phase,), text, affects=affects, since=since)

    name = claim.spec.storage_class_name
    failed = [event for event in events if event.reason == "ProvisioningFailed"]
    class_ = world.get(StorageClass, None, name) if name else _default_class(world)
    missing = next((match for event in failed if (match := _CLASS_MISSING.search(event.text))), None)
    absent = bool(name) and world.presence("StorageClass", None, name or "") is Presence.ABSENT
    static = [volume for volume in world.all(PersistentVolume) if (volume.spec.storage_class_name or "") == (name or "")]

    if claim.spec.volume_name:
        yield from _named_volume(world, claim, found)
        return
    if missing and class_ is None and not static:
        event = next(event for event in failed if _CLASS_MISSING.search(event.text))
        text = f"PersistentVolumeClaim {claim.namespace}/{claim.name} asks for StorageClass {missing['name']}, which does not exist."
        text += _classes(world)
        yield found(
            "storage.class-missing", text, Certainty.PROVEN, cite(Source.EVENT, claim.ref, event.reason, event.text, event.last_seen)
        )
        return
    if static and (class_ is None or class_.provisioner == NO_PROVISIONER):
        yield from _static(claim, static, found)
        return
    if absent:
        text = f"PersistentVolumeClaim {claim.namespace}/{claim.name} asks for StorageClass {name}, which does not exist.{_classes(world)}"
        proof = cite(Source.ABSENCE, ObjectRef("StorageClass", None, name or ""), "", "no such StorageClass")
        yield found("storage.class-missing", text, Certainty.PROVEN, proof)
        return
    if failed:
        event = failed[-1]
        proof = cite(Source.EVENT, claim.ref, event.reason, event.text, event.last_seen)
        if _MODE_REFUSED.search(event.text):
            modes = ", ".join(claim.spec.access_modes or ())
            text = (
                f"PersistentVolumeClaim {claim.namespace}/{claim.name} asks for {modes}, which the driver of StorageClass {name} does not "
            )
            text += f"offer: {event.text[:200]}"
            yield found("storage.claim-access-mode", text, Certainty.PROVEN, proof)
            return
        text = f"PersistentVolumeClaim {claim.namespace}/{claim.name} cannot be provisioned: {event.text[:300]}"
        yield found("storage.provisioning-failed", text, Certainty.PROVEN, proof)
        return
    waiting = [event for event in events if event.reason == "ExternalProvisioning"]
    if waiting:
        yield from _silent_provisioner(world, claim, class_, waiting[-1], found)
        return
    if any(event.reason in ("WaitForFirstConsumer", "WaitForPodScheduled") for event in events) or (
        class_ is not None and class_.volume_binding_mode == "WaitForFirstConsumer"
    ):
        yield from _first_consumer(claim, pods, found)
        return
    binding = [event for event in events if event.reason in ("FailedBinding", "VolumeMismatch")]
    where = f"PersistentVolumeClaim {claim.namespace}/{claim.name}"
    if binding:
        event = binding[-1]
        hint = " No StorageClass is the default." if not name and "StorageClass" in world.read_kinds and class_ is None else ""
        proof = cite(Source.EVENT, claim.ref, event.reason, event.text, event.last_seen)
        yield found("storage.claim-unbound", f"{where} is not bound: {event.text}.{hint}", Certainty.PROVEN, proof)
    elif claim.created is None or world.now - claim.created > PROVISIONER_PATIENCE:
        asked = f" (StorageClass {name})" if name else ""
        yield found("storage.claim-unbound", f"{where}{asked} is Pending and no controller has said why.", Certainty.LIKELY)


def _default_class(world: World) -> StorageClass | None:
    return next((item for item in world.all(StorageClass) if item.is_default), None)


def _classes(world: World) -> str:
    names = sorted(item.name for item in world.all(StorageClass))
    return f" There are: {', '.join(names[:5])}." if names else ""


def _named_volume(world: World, claim: PersistentVolumeClaim, found: _Maker) -> Iterator[Finding]:
    """A claim that names its volume and still waits."""
    name = claim.spec.volume_name or ""
    where = f"PersistentVolumeClaim {claim.namespace}/{claim.name} asks for PersistentVolume {name}"
    proof = cite(Source.FIELD, claim.ref, "spec.volumeName", name)
    volume = world.get(PersistentVolume, None, name)
    if volume is None:
        if world.presence("PersistentVolume", None, name) is Presence.ABSENT:
            yield found("storage.claim-unbound", f"{where}, which does not exist.", Certainty.PROVEN, proof)
        return
    code, why = _mismatch(claim, volume)
    if code:
        yield found(code, f"{where}, but {why}.", Certainty.PROVEN, proof, _volume_evidence(volume))


def _static(claim: PersistentVolumeClaim, volumes: list[PersistentVolume], found: _Maker) -> Iterator[Finding]:
    """A claim that can only bind to a volume that exists: which one comes nearest, and what it lacks."""
    class_ = claim.spec.storage_class_name or "(none)"
    where = f"PersistentVolumeClaim {claim.namespace}/{claim.name} matches no PersistentVolume of class {class_}"
    verdicts = [(_mismatch(claim, volume), volume) for volume in volumes]
    if any(code == "" for (code, _), _ in verdicts):
        return
    order = (
        "storage.claim-access-mode",
        "storage.claim-capacity",
        "storage.claim-selector",
        "storage.volume-taken",
        "storage.claim-unbound",
    )
    (code, why), volume = min(verdicts, key=lambda item: (order.index(item[0][0]), item[1].name))
    yield found(
        code, f"{where}: {volume.name} {why.removeprefix('it ')}.", Certainty.PROVEN, _volume_evidence(volume), _claim_evidence(claim)
    )


def _mismatch(claim: PersistentVolumeClaim, volume: PersistentVolume) -> tuple[str, str]:
    """(code, why) of what keeps the claim from the volume, ("", "") when nothing does. Source: `checkVolumeSatisfyClaim`."""
    holder = volume.spec.claim_ref
    if holder is not None and (holder.name, holder.namespace) != (claim.name, claim.namespace):
        return "storage.volume-taken", f"it is bound to claim {holder.namespace}/{holder.name}"
    if holder is not None and holder.uid and claim.metadata.uid and holder.uid != claim.metadata.uid:
        return "storage.volume-taken", f"it is still reserved for an earlier claim of the same name ({volume.status.phase})"
    if volume.status.phase in ("Released", "Failed"):
        return "storage.volume-taken", f"it is {volume.status.phase}"
    wanted, size = claim.requested_bytes, volume.capacity_bytes
    if (claim.spec.volume_mode or "Filesystem") != (volume.spec.volume_mode or "Filesystem"):
        return "storage.claim-access-mode", f"it has volumeMode {volume.spec.volume_mode}, not {claim.spec.volume_mode}"
    lacking = sorted(set(claim.spec.access_modes or ()) - set(volume.spec.access_modes or ()))
    if lacking:
        return "storage.claim-access-mode", f"it offers {', '.join(volume.spec.access_modes or ())}, not {', '.join(lacking)}"
    if wanted is not None and size is not None and size < wanted:
        return "storage.claim-capacity", f"it has {size / _GIB:.4g} GiB of the {wanted / _GIB:.4g} GiB asked for"
    if claim.spec.selector is not None and not claim.spec.selector.matches(volume.labels):
        return "storage.claim-selector", "it does not carry the labels that the claim selects"
    if (claim.spec.storage_class_name or "") != (volume.spec.storage_class_name or ""):
        has = volume.spec.storage_class_name or "(none)"
        return "storage.claim-unbound", f"it has StorageClass {has}, not {claim.spec.storage_class_name}"
    return "", ""


def _volume_evidence(volume: PersistentVolume) -> Evidence:
    spec = volume.spec
    capacity = (spec.capacity or {}).get("storage")
    text = f"{volume.status.phase}, {capacity}, {', '.join(spec.access_modes or ())}, class {spec.storage_class_name}"
    return cite(Source.FIELD, volume.ref, "spec", text)


def _claim_evidence(claim: PersistentVolumeClaim) -> Evidence:
    size = (claim.spec.resources.requests or {}).get("storage")
    selector = f", selector {dict(claim.spec.selector.match_labels or {})}" if claim.spec.selector else ""
    return cite(Source.FIELD, claim.ref, "spec", f"{size}, {', '.join(claim.spec.access_modes or ())}{selector}")


def _silent_provisioner(
    world: World, claim: PersistentVolumeClaim, class_: StorageClass | None, event: Event, found: _Maker
) -> Iterator[Finding]:
    if event.first_seen and world.now - event.first_seen < PROVISIONER_PATIENCE:
        return
    named = re.search(r"provisioner ['\"]([^'\"]+)['\"]", event.text)
    driver = class_.provisioner if class_ else named[1] if named else "its provisioner"
    proof = cite(Source.EVENT, claim.ref, event.reason, event.text, event.last_seen)
    where = f"PersistentVolumeClaim {claim.namespace}/{claim.name} waits for provisioner {driver}"
    if world.presence(CSIDriver.kind, None, driver) is Presence.ABSENT:
        absent = cite(Source.ABSENCE, ObjectRef("CSIDriver", None, driver), "", "no such CSIDriver")
        text = f"{where}, which is not installed (no CSIDriver of that name)."
        yield found("storage.csi-driver-missing", text, Certainty.LIKELY, proof, absent)
    else:
        yield found("storage.claim-unbound", f"{where}, which has not answered.", Certainty.LIKELY, proof)


def _first_consumer(claim: PersistentVolumeClaim, pods: tuple[Pod, ...], found: _Maker) -> Iterator[Finding]:
    """Waiting for a consumer is healthy; a consumer that bypasses the scheduler never triggers the binding."""
    pinned = [pod for pod in pods if pod.spec.node_name and pod.status.phase == "Pending" and pod.condition("PodScheduled") is None]
    for pod in pinned[:1]:
        proof = cite(Source.FIELD, pod.ref, "spec.nodeName", pod.spec.node_name or "")
        text = (
            f"PersistentVolumeClaim {claim.namespace}/{claim.name} binds when the scheduler places its first pod, but {pod.ref} names its "
            "node itself and never passes the scheduler."
        )
        yield found("storage.claim-unbound", text, Certainty.LIKELY, proof)


def class_of_template_missing(world: World) -> Iterable[Finding]:
    """StatefulSets whose claim templates name a StorageClass that does not exist and that have no claim or pod yet."""
    claims = {(claim.namespace, claim.name) for claim in world.all(PersistentVolumeClaim)}
    for workload in world.all(StatefulSet):
        for template in workload.spec.volume_claim_templates or ():
            name = template.spec.storage_class_name
            if not name or workload.status.ready_replicas or (workload.namespace, f"{template.metadata.name}-{workload.name}-0") in claims:
                continue
            presence = world.presence("StorageClass", None, name)
            if presence is Presence.PRESENT or any((item.spec.storage_class_name or "") == name for item in world.all(PersistentVolume)):
                continue
            proven = presence is Presence.ABSENT
            evidence = (
                cite(Source.FIELD, workload.ref, f"spec.volumeClaimTemplates[{template.metadata.name}].spec.storageClassName", name),
                cite(Source.ABSENCE, ObjectRef("StorageClass", None, name), "", "no such StorageClass is seen"),
            )
            text = f"StatefulSet {workload.namespace}/{workload.name} claims volumes of StorageClass {name}, which does not exist."
            lacks = "" if proven else "the list of StorageClasses"
            certainty = Certainty.PROVEN if proven else Certainty.LIKELY
            yield Finding("storage.class-missing", workload.ref, certainty, evidence, text, since=workload.created, lacks=lacks)
            break


def claim_missing(world: World) -> Iterable[Finding]:
    """Claims that pods mount and that do not exist, by the scheduler's words or by a complete listing."""
    told: dict[tuple[str | None, str], list[Pod]] = {}
    for pod in world.unready_pods():
        if pod.deleting:
            continue
        for volume in pod.spec.volumes or ():
            if volume.persistent_volume_claim is not None:
                name = volume.persistent_volume_claim.claim_name
                if world.get(PersistentVolumeClaim, pod.namespace, name) is None:
                    told.setdefault((pod.namespace, name), []).append(pod)
    for (namespace, name), pods in told.items():
        said = next((item for pod in pods for item in _claim_words(world, pod, name)), None)
        if said is None and world.presence("PersistentVolumeClaim", namespace, name) is not Presence.ABSENT:
            continue
        claim = ObjectRef("PersistentVolumeClaim", namespace, name)
        affects = tuple(dict.fromkeys(ref for pod in pods for ref in (pod.ref, world.top_owner(pod.ref))))
        absent = cite(Source.ABSENCE, claim, "", "no such claim")
        evidence = (
            (said, absent) if said else (cite(Source.FIELD, pods[0].ref, "spec.volumes[].persistentVolumeClaim.claimName", name), absent)
        )
        others = sorted(item.name for item in world.all(PersistentVolumeClaim) if item.namespace == namespace)
        there = f" The namespace has {', '.join(others[:5])}." if others else ""
        text = f"{world.top_owner(pods[0].ref)} mounts PersistentVolumeClaim {namespace}/{name}, which does not exist.{there}"
        since = min((pod.created for pod in pods if pod.created), default=None)
        yield Finding("storage.claim-missing", claim, Certainty.PROVEN, evidence, text, affects=affects, since=since)


def _claim_words(world: World, pod: Pod, name: str) -> Iterator[Evidence]:
    words = f'persistentvolumeclaim "{name}" not found'
    for item in pod.status.conditions or ():
        if words in (item.message or ""):
            yield cite(Source.FIELD, pod.ref, f"status.conditions[{item.type}].message", item.message, item.last_transition_time)
    for event in world.events(pod.ref):
        if words in event.text:
            yield cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)


def volume_failed(world: World) -> Iterable[Finding]:
    """Volumes that failed reclamation, claims that lost their volume, and released volumes that nobody cleans up."""
    for volume in world.all(PersistentVolume):
        phase, holder = volume.status.phase, volume.spec.claim_ref
        why = f": {volume.status.message}" if volume.status.message else ""
        evidence = (cite(Source.FIELD, volume.ref, "status.phase", f"{phase}{why}"),)
        if phase == "Failed":
            yield Finding(
                "storage.volume-failed", volume.ref, Certainty.PROVEN, evidence, f"PersistentVolume {volume.name} has failed{why}."
            )
        elif phase == "Released":
            was = f" by claim {holder.namespace}/{holder.name}" if holder else ""
            policy = volume.spec.persistent_volume_reclaim_policy or "unknown"
            text = f"PersistentVolume {volume.name} was released{was} and stays (reclaim policy {policy})."
            yield Finding("storage.volume-released", volume.ref, Certainty.PROVEN, evidence, text)
    for claim in world.all(PersistentVolumeClaim):
        if claim.status.phase == "Lost":
            proof = cite(Source.FIELD, claim.ref, "status.phase", "Lost")
            text = f"PersistentVolumeClaim {claim.namespace}/{claim.name} has lost its volume {claim.spec.volume_name} and the data on it."
            yield Finding("storage.claim-lost", claim.ref, Certainty.PROVEN, (proof,), text)


def volume_elsewhere(world: World) -> Iterable[Finding]:
    """Bound volumes that no node the pod may use can reach: node affinity or zone of the volume against the pod."""
    groups = [group for group in world.once(pending_groups) if group.message and group.message.of(Obstacle.VOLUME_PLACE)]
    usage = world.once(Usage)
    for group in groups:
        blame = blame_of(group, usage)
        if blame is None or blame.obstacle is not Obstacle.VOLUME_PLACE:
            continue
        for volume in group.sample.spec.volumes or ():
            name = volume.persistent_volume_claim.claim_name if volume.persistent_volume_claim else ""
            claim = world.get(PersistentVolumeClaim, group.sample.namespace, name)
            bound = world.get(PersistentVolume, None, claim.spec.volume_name or "") if claim else None
            if claim is None or (bound is not None and bound.spec.node_affinity is None):
                continue
            affects = (*group.affected, group.owner)
            if bound is None or bound.spec.node_affinity is None:
                text = f"The volume of {claim.ref} is not reachable from any node that {group.owner} may use."
                yield Finding(
                    "storage.volume-elsewhere", claim.ref, Certainty.LIKELY, group.evidence, text, affects=affects, since=group.since
                )
                continue
            reachable = [node.name for node in world.all(Node) if matches_selector(bound.spec.node_affinity.required, node)]
            where = f"only from {', '.join(reachable[:5])}" if reachable else "from no node that exists"
            required = affinity_text(bound.spec.node_affinity.required)
            evidence = (*group.evidence, cite(Source.FIELD, bound.ref, "spec.nodeAffinity.required", required))
            text = f"{bound.ref} can be reached {where} (node affinity {required}), and {group.owner} cannot run there."
            yield Finding("storage.volume-elsewhere", bound.ref, Certainty.PROVEN, evidence, text, affects=affects, since=group.since)


DETECTORS: tuple[Detector, ...] = (claim_unbound, class_of_template_missing, claim_missing, volume_failed, volume_elsewhere)
