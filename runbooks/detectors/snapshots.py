"""Volume snapshots that were not taken: refused by the driver or the controller, or answered by nobody.

A snapshot that is bound and not ready is being copied, which takes as long as the storage needs, and is no fault. One that failed and that
nothing waits for is history once a later one of the same claim was taken, or two nights have passed: then it only lies there. Sources:
external-snapshotter client/apis/volumesnapshot/v1 (`status.error` is cleared when a later try succeeds) and its common controller.
Limits: classes and contents of snapshots are not read; the message of the controller names them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from cluster.facts.event import CustomObject
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim
from cluster.reference import ObjectRef
from cluster.timestamps import parse_time
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Finding, Source, cite

KIND = "VolumeSnapshot"
# The controller binds a snapshot to its content within seconds, before anything is copied.
PATIENCE = timedelta(minutes=5)
# Most snapshots are taken every night: until the next one had its turn, one that failed is news. The controller tries again for as long
# as the object is there, and each try renews the time of its error.
NEWS = timedelta(hours=48)


def snapshot_failed(world: World) -> Iterator[Finding]:
    """VolumeSnapshots whose last try failed, and those that no controller has taken up; apart from them those that are history."""
    for item in world.custom(KIND):
        if not isinstance(item, CustomObject) or item.deleting:
            continue
        status = item.status if isinstance(item.status, dict) else {}
        if status.get("readyToUse") is True:
            continue
        who = f"VolumeSnapshot {item.namespace}/{item.name}"
        affects, error = restorers(world, item), status.get("error")
        past = "" if affects else _history(world, item, parse_time(error.get("time")) if isinstance(error, Mapping) else None)
        code = "storage.snapshot-left" if past else "storage.snapshot-failed"
        if isinstance(error, Mapping) and error.get("message"):
            since = parse_time(error.get("time"))
            proof = cite(Source.FIELD, item.ref, "status.error.message", error["message"], since)
            text = f"{who} could not be taken: {str(error['message'])[:300]}.{_missing_source(world, item)}{past}"
            yield Finding(code, item.ref, Certainty.PROVEN, (proof,), text, affects, since)
        elif not status.get("boundVolumeSnapshotContentName") and item.created and world.now - item.created > PATIENCE:
            minutes = (world.now - item.created).total_seconds() / 60
            proof = cite(Source.FIELD, item.ref, "status.boundVolumeSnapshotContentName", "absent", item.created)
            text = f"{who} was asked for {minutes:.0f} min ago and not taken up: no snapshot controller runs, or none for its class."
            yield Finding(
                code,
                item.ref,
                Certainty.LIKELY,
                (proof,),
                f"{text}{_missing_source(world, item)}{past}",
                affects,
                item.created,
                lacks="the log of the snapshot controller",
            )


def _history(world: World, item: CustomObject, failed: datetime | None) -> str:
    """Why a failure that nothing waits for is no longer of interest, as a sentence; "" while it is."""
    source, asked = _source(item), item.created
    taken = world.once(_last_taken).get(source) if source is not None else None
    if taken is not None and taken.created and asked and taken.created > asked:
        return f" A later one of the same claim, {taken.name}, was taken, and nothing waits for this one."
    last = max((moment for moment in (asked, failed) if moment is not None), default=None)
    if last is None or world.now - last <= NEWS:
        return ""
    return f" That is {(world.now - last).days} days ago, and nothing waits for it."


def _last_taken(world: World) -> dict[ObjectRef, CustomObject]:
    """Of each claim the snapshot that was asked for last of those that were taken."""
    found: dict[ObjectRef, CustomObject] = {}
    for item in world.custom(KIND):
        source = _source(item) if isinstance(item, CustomObject) else None
        if source is None or not isinstance(item, CustomObject) or not item.created:
            continue
        known = found.get(source)
        ready = isinstance(item.status, dict) and item.status.get("readyToUse") is True
        if ready and (known is None or known.created is None or known.created < item.created):
            found[source] = item
    return found


def restorers(world: World, snapshot: CustomObject) -> tuple[ObjectRef, ...]:
    """Claims that are to be filled from the snapshot and are not bound, and the pods that wait for them."""
    found: dict[ObjectRef, None] = {}
    for claim in world.once(_restoring).get((snapshot.namespace, snapshot.name), ()):
        found[claim.ref] = None
        found.update((ref, None) for pod in world.pods_in(claim.namespace) if _mounts(pod, claim) for ref in _chain(world, pod))
    return tuple(found)


def _restoring(world: World) -> dict[tuple[str | None, str], list[PersistentVolumeClaim]]:
    """Claims that are not bound, by the snapshot that they are to be filled from."""
    found: dict[tuple[str | None, str], list[PersistentVolumeClaim]] = defaultdict(list)
    for claim in world.all(PersistentVolumeClaim):
        source = claim.spec.data_source
        if claim.status.phase == "Pending" and isinstance(source, Mapping) and source.get("kind") == KIND:
            found[claim.namespace, str(source.get("name"))].append(claim)
    return found


def _mounts(pod: Pod, claim: PersistentVolumeClaim) -> bool:
    volumes = (volume.persistent_volume_claim for volume in pod.spec.volumes or ())
    return any(used is not None and used.claim_name == claim.name for used in volumes)


def _chain(world: World, pod: Pod) -> tuple[ObjectRef, ...]:
    return (pod.ref, world.top_owner(pod.ref))


def _source(snapshot: CustomObject) -> ObjectRef | None:
    spec: dict[str, Any] = snapshot.spec if isinstance(snapshot.spec, dict) else {}
    source = spec.get("source")
    name = source.get("persistentVolumeClaimName") if isinstance(source, Mapping) else None
    return ObjectRef(PersistentVolumeClaim.kind, snapshot.namespace, str(name)) if name else None


def _missing_source(world: World, snapshot: CustomObject) -> str:
    source = _source(snapshot)
    gone = source is not None and world.presence(source.kind, source.namespace, source.name) is Presence.ABSENT
    return f" The claim that it is of, {source.name}, does not exist." if gone and source is not None else ""


DETECTORS: tuple[Detector, ...] = (snapshot_failed,)
