"""Claims in one view: whether each is bound, to what, how large and how full it is, and who mounts it where.

Pure over a World. It judges nothing: why a claim is not bound or a volume cannot be attached is for the detectors. Limits: how full a
volume is, only the kubelet's statistics show (kubelet_volume_stats_*), and only while a pod mounts it.
"""

from __future__ import annotations

import re
from collections import defaultdict

from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim, StorageClass
from cluster.quantity import parse_quantity
from cluster.reference import ObjectRef
from cluster.world import Key, World
from runbooks.measurement import NAME_LABEL

_USED = re.compile(r"^kubelet_volume_stats_used_bytes$")
_CAPACITY = re.compile(r"^kubelet_volume_stats_capacity_bytes$")
_USED_SHARE = re.compile(r"^kubelet_volume_stats_used_ratio$")


class Claim(Struct, frozen=True):
    """One claim. Sizes are in bytes, None where nothing tells; `full` is the used share (0 to 1). `driver` is what serves the volume: its
    CSI driver or kind, "" where no volume is bound. `expandable` is what its class allows. `mounts` are pods and their nodes."""

    ref: ObjectRef
    phase: str
    class_name: str
    modes: tuple[str, ...]
    requested_bytes: float | None
    capacity_bytes: float | None
    full: float | None
    volume: str
    driver: str
    expandable: bool
    mounts: tuple[tuple[ObjectRef, str], ...] = ()


def claims(world: World) -> tuple[Claim, ...]:
    """All claims: the unbound first, then the fullest."""
    mounts: dict[Key, list[tuple[ObjectRef, str]]] = defaultdict(list)
    for pod in world.all(Pod):
        if not pod.finished:
            for name in claims_of(pod):
                mounts[(PersistentVolumeClaim.kind, pod.namespace, name)].append((pod.ref, pod.spec.node_name or ""))
    fullness = _fullness(world)
    found = [
        _claim(world, item, tuple(mounts[item.key]), fullness.get((item.namespace, item.name))) for item in world.all(PersistentVolumeClaim)
    ]
    return tuple(sorted(found, key=lambda item: (item.phase == "Bound", -(item.full or 0.0), item.ref.namespace or "", item.ref.name)))


def claims_of(pod: Pod) -> tuple[str, ...]:
    """The names of the claims that a pod mounts, those made for its ephemeral volumes included."""
    named = (volume.persistent_volume_claim.claim_name for volume in pod.spec.volumes or () if volume.persistent_volume_claim)
    made = (f"{pod.name}-{volume.name}" for volume in pod.spec.volumes or () if volume.ephemeral is not None)
    return (*named, *made)


def _claim(world: World, item: PersistentVolumeClaim, mounts: tuple[tuple[ObjectRef, str], ...], full: float | None) -> Claim:
    name = item.spec.volume_name or ""
    volume = world.get(PersistentVolume, None, name) if name else None
    kind = world.get(StorageClass, None, item.spec.storage_class_name or "")
    return Claim(
        item.ref,
        item.status.phase,
        item.spec.storage_class_name or "",
        item.status.access_modes or item.spec.access_modes or (),
        item.requested_bytes,
        parse_quantity((item.status.capacity or {}).get("storage")),
        full,
        name,
        _driver(volume),
        kind is not None and kind.allow_volume_expansion,
        mounts,
    )


def _driver(volume: PersistentVolume | None) -> str:
    if volume is None:
        return ""
    spec = volume.spec
    if spec.csi is not None:
        return spec.csi.driver
    return next((word for word, there in (("nfs", spec.nfs), ("local", spec.local), ("hostPath", spec.host_path)) if there), "")


def _fullness(world: World) -> dict[tuple[str | None, str], float]:
    """(namespace, claim) -> used share, the latest that was measured."""
    used: dict[tuple[str | None, str], float] = {}
    whole: dict[tuple[str | None, str], float] = {}
    shares: dict[tuple[str | None, str], float] = {}
    for series in world.telemetry.series:
        claim, name = series.labels.get("persistentvolumeclaim"), series.labels.get(NAME_LABEL, "")
        if not claim or not series.samples:
            continue
        where, value = (series.labels.get("namespace"), claim), series.samples[-1].value
        for pattern, values in ((_USED, used), (_CAPACITY, whole), (_USED_SHARE, shares)):
            if pattern.search(name):
                values[where] = value
    return {**{key: value / whole[key] for key, value in used.items() if whole.get(key)}, **shares}
