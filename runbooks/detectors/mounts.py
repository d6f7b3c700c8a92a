"""Volumes that are bound and still do not reach their container, or fail under it: attach, mount, permission, space, read-only.

A missing ConfigMap or Secret also shows as FailedMount; that is the configuration family's, and left to it.
Limits: space is not measured; events, attachments and logs tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from cluster.facts.container import Container, ContainerStatus
from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.facts.storage import CSIDriver, PersistentVolume, PersistentVolumeClaim, VolumeAttachment
from cluster.facts.workload import Deployment
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite

ATTACH_PATIENCE = timedelta(minutes=2)
_MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedMountOnFilesystemMismatch")
_DRIVER_MISSING = re.compile(r"driver name (?P<driver>\S+) not found in the list of registered CSI drivers")
_VOLUME = re.compile(r'for volume "(?P<name>[^"]+)"')
_CONFIGURATION = re.compile(r'(?i)(?:configmap|secret)s? "[^"]+" not found|references non-existent|object "[^"]+" not registered')
_DENIED = re.compile(r"(?i)permission denied|access denied by server|operation not permitted|mount\.nfs: access denied")
_TIMED_OUT = re.compile(r"^Unable to attach or mount volumes|timed out waiting for the condition$")
_FULL = re.compile(r"(?i)no space left on device|disk quota exceeded|\bENOSPC\b|could not extend file .*: No space")
_READ_ONLY = re.compile(r"(?i)read-only file ?system|\bEROFS\b")
_REFUSED = re.compile(r"(?i)(?:permission denied|EACCES)")
_PATH = re.compile(r"(/[\w.@-]+(?:/[\w.@-]+)*)")


def mount_failing(world: World) -> Iterable[Finding]:
    """What the kubelet and the attach controller say of the volumes of pods that do not start."""
    for pod in world.unready_pods():
        if pod.deleting or not pod.spec.volumes:
            continue
        events = [event for event in world.events(pod.ref, *_MOUNT_EVENTS) if not _CONFIGURATION.search(event.text)]
        telling = [event for event in events if not _TIMED_OUT.search(event.text)]
        if telling:
            yield _mount(world, pod, telling[-1])


def _mount(world: World, pod: Pod, event: Event) -> Finding:
    owner = world.top_owner(pod.ref)
    proof = cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)
    named = _VOLUME.search(event.text)
    claim = _claim_of(world, pod, named["name"] if named else "")
    driver = _DRIVER_MISSING.search(event.text)
    where = f"on node {pod.spec.node_name}" if pod.spec.node_name else "on its node"

    def found(code: str, subject: ObjectRef, text: str, certainty: Certainty = Certainty.PROVEN, *more: Evidence) -> Finding:
        return Finding(code, subject, certainty, (proof, *more), text, affects=(pod.ref, owner), since=event.first_seen)

    if driver is not None:
        text = f"CSI driver {driver['driver']} is not registered {where}, so {pod.ref} cannot mount its volume: no node plugin runs there."
        return found("storage.csi-driver-missing", ObjectRef(CSIDriver.kind, None, driver["driver"]), text)
    if "Multi-Attach error" in event.text:
        return _multi_attach(world, pod, claim, found)
    if "hostPath type check failed" in event.text:
        text = f"{owner} mounts a host path that does not have the required type {where}: {event.text[:200]}"
        return found("storage.host-path-missing", owner, text)
    if _DENIED.search(event.text):
        return found("storage.mount-permission", claim or owner, f"The volume of {pod.ref} may not be mounted: {event.text[:240]}")
    if event.reason == "FailedAttachVolume" or "AttachVolume" in event.text:
        return found("storage.attach-failed", claim or owner, f"The volume of {pod.ref} cannot be attached {where}: {event.text[:240]}")
    return found("storage.mount-failed", claim or owner, f"The volume of {pod.ref} cannot be mounted {where}: {event.text[:240]}")


def _multi_attach(world: World, pod: Pod, claim: ObjectRef | None, found: Callable[..., Finding]) -> Finding:
    """A volume for one node held on another: by the workload's own old pod (its strategy), or by somebody else's."""
    owner = world.top_owner(pod.ref)
    names = _claim_names(pod)
    holders = [
        other
        for other in world.pods_in(pod.namespace)
        if other.ref.key != pod.ref.key
        and names & _claim_names(other)
        and not other.finished
        and other.spec.node_name != pod.spec.node_name
    ]
    own = [other for other in holders if world.top_owner(other.ref).same(owner)]
    held = f", held by {holders[0].ref} on node {holders[0].spec.node_name}" if holders else ""
    text = f"The volume of {pod.ref} is attached to another node{held}."
    deployment = world.find(owner)
    if own and isinstance(deployment, Deployment):
        replicas = deployment.spec.replicas
        text += (
            f" All {replicas} replicas of {owner} share this one volume, which only one node may use."
            if replicas > 1
            else f" {owner} starts its new pod before it stops the old one, which a ReadWriteOnce volume does not allow."
        )
        return found("storage.multi-attach", owner, text)
    return found("storage.multi-attach", claim or owner, text)


def _claim_names(pod: Pod) -> frozenset[str]:
    return frozenset(volume.persistent_volume_claim.claim_name for volume in pod.spec.volumes or () if volume.persistent_volume_claim)


def _claim_of(world: World, pod: Pod, volume: str) -> ObjectRef | None:
    """The claim behind a volume that the kubelet names by its pod volume or by its PersistentVolume."""
    bound = world.get(PersistentVolume, None, volume)
    if bound is not None and bound.spec.claim_ref is not None:
        return ObjectRef(PersistentVolumeClaim.kind, bound.spec.claim_ref.namespace, bound.spec.claim_ref.name)
    for item in pod.spec.volumes or ():
        if item.persistent_volume_claim is None:
            continue
        claim = world.get(PersistentVolumeClaim, pod.namespace, item.persistent_volume_claim.claim_name)
        if item.name == volume or (claim is not None and claim.spec.volume_name == volume):
            return ObjectRef(PersistentVolumeClaim.kind, pod.namespace, item.persistent_volume_claim.claim_name)
    return None


def volume_trouble_in_log(world: World) -> Iterable[Finding]:
    """Containers that fail while their log says that their disk is full, read-only or not theirs to write."""
    for pod in world.pods_not_ready():
        for status in pod.all_statuses:
            container = pod.container(status.name)
            if container is not None and _failing(status) and _writable_mounts(pod, container):
                yield from _from_log(world, pod, container)


def _failing(status: ContainerStatus) -> bool:
    ended = status.state.terminated or status.last_state.terminated
    return not status.ready and (status.state.waiting is not None or ended is not None) and (ended is None or ended.exit_code != 0)


def _writable_mounts(pod: Pod, container: Container) -> dict[str, str]:
    """Mount path -> volume name of the mounts that hold data."""
    data = {
        volume.name
        for volume in pod.spec.volumes or ()
        if volume.persistent_volume_claim or volume.ephemeral or volume.empty_dir or volume.host_path or volume.nfs
    }
    return {mount.mount_path.rstrip("/"): mount.name for mount in container.volume_mounts or () if mount.name in data}


def _from_log(world: World, pod: Pod, container: Container) -> Iterator[Finding]:
    reference = ContainerRef(pod.namespace or "", pod.name, container.name)
    for previous in (False, True):
        reading = world.logs.get((reference, previous))
        for line in reversed(reading.value.lines if reading else ()):
            for pattern, code, what in (
                (_FULL, "full", "is full"),
                (_READ_ONLY, "read-only", "is read-only"),
                (_REFUSED, "permission", "may not be written"),
            ):
                if pattern.search(line):
                    finding = _log_finding(world, pod, container, line, code, what)
                    if finding is not None:
                        yield finding
                        return


def _log_finding(world: World, pod: Pod, container: Container, line: str, trouble: str, what: str) -> Finding | None:
    mounts = _writable_mounts(pod, container)
    paths = [path for path in _PATH.findall(line) if any(path == mount or path.startswith(f"{mount}/") for mount in mounts)]
    owner = world.top_owner(pod.ref)
    if not paths and (trouble != "full"):
        return None
    mount = max((item for item in mounts if paths and (paths[0] == item or paths[0].startswith(f"{item}/"))), key=len, default="")
    volume = next((item for item in pod.spec.volumes or () if item.name == mounts.get(mount)), None)
    claim = volume.persistent_volume_claim.claim_name if volume and volume.persistent_volume_claim else None
    subject = ObjectRef(PersistentVolumeClaim.kind, pod.namespace, claim) if claim else owner
    where = f"{mount} (volume {mounts[mount]})" if mount else "a disk"
    code = {
        "full": "storage.volume-full" if claim else "storage.disk-full",
        "read-only": "storage.read-only",
        "permission": "storage.mount-permission",
    }[trouble]
    by_manifest = [item for item in container.volume_mounts or () if item.mount_path.rstrip("/") == mount and item.read_only]
    if trouble == "permission" or by_manifest:
        subject = owner
    evidence = [cite(Source.LOG, pod.ref, container.name, line)]
    if trouble == "permission":
        user = (container.security_context and container.security_context.run_as_user) or (
            pod.spec.security_context and pod.spec.security_context.run_as_user
        )
        group = pod.spec.security_context.fs_group if pod.spec.security_context else None
        evidence.append(cite(Source.FIELD, pod.ref, "spec.securityContext", f"runAsUser {user}, fsGroup {group}"))
        what += f" by the container's user (runAsUser {user}, fsGroup {group})"
    if by_manifest:
        evidence.append(cite(Source.FIELD, pod.ref, "spec.containers[].volumeMounts[].readOnly", f"{mount} readOnly: true"))
    text = f"Container {container.name} of {pod.ref} fails because {where} {what}: {line.strip()[:200]}"
    want = (LogWant(ContainerRef(pod.namespace or "", pod.name, container.name), previous=True),)
    return Finding(code, subject, Certainty.LIKELY, tuple(evidence), text, affects=(pod.ref, owner), wants=want)


def attachment_failing(world: World) -> Iterable[Finding]:
    """VolumeAttachments that the driver refuses, for pods that wait."""
    for attachment in world.all(VolumeAttachment):
        error = attachment.status.attach_error
        if attachment.status.attached or error is None or not error.message:
            continue
        if attachment.created and world.now - attachment.created < ATTACH_PATIENCE:
            continue
        name = attachment.spec.source.persistent_volume_name or ""
        bound = world.get(PersistentVolume, None, name)
        holder = bound.spec.claim_ref if bound else None
        subject = (
            ObjectRef(PersistentVolumeClaim.kind, holder.namespace, holder.name) if holder else ObjectRef(PersistentVolume.kind, None, name)
        )
        proof = cite(Source.FIELD, attachment.ref, "status.attachError.message", error.message)
        text = f"{attachment.spec.attacher} cannot attach {name} to node {attachment.spec.node_name}: {error.message[:240]}"
        yield Finding("storage.attach-failed", subject, Certainty.PROVEN, (proof,), text, since=attachment.created)


def resize_failing(world: World) -> Iterable[Finding]:
    """Claims whose expansion was asked for and failed."""
    for claim in world.all(PersistentVolumeClaim):
        broken = next(
            (
                item
                for item in claim.status.conditions or ()
                if item.type in ("ControllerResizeError", "NodeResizeError") and item.status == "True"
            ),
            None,
        )
        events = world.events(claim.ref, "VolumeResizeFailed", "FileSystemResizeFailed")
        capacity = (claim.status.capacity or {}).get("storage")
        wanted = (claim.spec.resources.requests or {}).get("storage")
        if capacity == wanted or (broken is None and not events):
            continue
        why = (broken.message if broken else None) or (events[-1].text if events else "")
        proof = (
            cite(Source.FIELD, claim.ref, "status.conditions", f"{broken.type}: {why}")
            if broken
            else cite(Source.EVENT, claim.ref, events[-1].reason, why, events[-1].last_seen)
        )
        text = f"PersistentVolumeClaim {claim.namespace}/{claim.name} cannot grow from {capacity} to {wanted}: {why[:240]}"
        yield Finding("storage.resize-failed", claim.ref, Certainty.PROVEN, (proof,), text)


DETECTORS: tuple[Detector, ...] = (mount_failing, volume_trouble_in_log, attachment_failing, resize_failing)
