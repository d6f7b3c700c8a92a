"""Volumes by what is measured of them: full, filling up, without room for more files, on a slow file server.

Claims that do not bind are for `storage`, what keeps a volume from its pod for `mounts`. Sources: kubelet_volume_stats, node-exporter's
mountstats. Limits: the kubelet measures a volume only while a running pod mounts it, and block devices not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim, StorageClass
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.levels import since
from runbooks.measurement import NAME_LABEL, Locator, change_of
from runbooks.volumeclaims import claims_of

_USED = "kubelet_volume_stats_used_ratio"
_FILES = "kubelet_volume_stats_inodes_used_ratio"
_OPERATION = "node_mountstats_nfs_operation_seconds"
# KubePersistentVolumeFillingUp (kubernetes-mixin alerts/storage_alerts.libsonnet): 3 % left, or 15 % and a trend.
FULL = 0.97
FILLING = 0.85
# Four days is the mixin's; an hour of samples carries a trend no further than a night.
HORIZON = timedelta(hours=12)
LEAST_RISE = 0.01
# A file server that answers within milliseconds when it is well; ten times that makes a model load for an hour.
SLOW_SECONDS = 0.1
SLOWER = 3.0


def volumes_full(world: World) -> Iterator[Finding]:
    """Claims whose volume has no room left, for bytes or for files, and those that run full within hours."""
    for series in world.telemetry.series:
        name = series.labels.get(NAME_LABEL, "")
        claim = _claim(world, series) if name in (_USED, _FILES) and series.samples else None
        if claim is None:
            continue
        used, room = series.samples[-1].value, "files" if name == _FILES else "space"
        proof = cite(Source.METRIC, claim.ref, name, f"{used:.3g}", series.samples[-1].at)
        grows = _expandable(world, claim)
        if used >= FULL:
            yield Finding(
                "storage.volume-full",
                claim.ref,
                Certainty.PROVEN,
                (proof,),
                f"The volume of PersistentVolumeClaim {claim.namespace}/{claim.name} is full: {used:.1%} of its {room} is used.{grows}",
                affects=_users(world, claim),
            )
        elif used >= FILLING and (left := _left(series, used)) is not None:
            yield Finding(
                "storage.volume-filling",
                claim.ref,
                Certainty.LIKELY,
                (proof,),
                f"The volume of PersistentVolumeClaim {claim.namespace}/{claim.name} is at {used:.1%} of its {room} and, as it grows now, "
                f"full in {left.total_seconds() / 3600:.1f} h.{grows}",
                affects=_users(world, claim),
            )


def _claim(world: World, series: Series) -> PersistentVolumeClaim | None:
    return world.get(PersistentVolumeClaim, series.labels.get("namespace"), series.labels.get("persistentvolumeclaim", ""))


def _users(world: World, claim: PersistentVolumeClaim) -> tuple[ObjectRef, ...]:
    return tuple(pod.ref for pod in world.pods_in(claim.namespace) if claim.name in claims_of(pod))


def _expandable(world: World, claim: PersistentVolumeClaim) -> str:
    found = world.get(StorageClass, None, claim.spec.storage_class_name or "")
    if found is None:
        return ""
    return f" StorageClass {found.name} {'lets it grow' if found.allow_volume_expansion else 'does not let it grow'}."


def _left(series: Series, used: float) -> timedelta | None:
    """The time until it is full, as it grew over the samples; None when that is far or nowhere."""
    change = change_of(series)
    span = (series.samples[-1].at - series.samples[0].at).total_seconds()
    rise = change.now - change.before if change is not None else 0.0
    if rise < LEAST_RISE or span <= 0:
        return None
    # From the middle of the first quarter to that of the last.
    left = timedelta(seconds=(1.0 - used) / (rise / (0.75 * span)))
    return left if left <= HORIZON else None


def file_server_slow(world: World) -> Iterator[Finding]:
    """File servers whose operations became slow, by the volumes that lie on them."""
    for series in world.telemetry.series:
        if series.labels.get(NAME_LABEL) != _OPERATION:
            continue
        change = change_of(series)
        if change is None or change.now < SLOW_SECONDS or change.now < SLOWER * change.before:
            continue
        export = series.labels.get("export", "")
        volumes = [item for item in world.all(PersistentVolume) if export and _export(item) == export]
        node = world.once(Locator).locate({**series.labels, NAME_LABEL: _OPERATION})
        claims = [item.spec.claim_ref for item in volumes if item.spec.claim_ref is not None]
        found = (world.get(PersistentVolumeClaim, claim.namespace, claim.name) for claim in claims)
        users = tuple(ref for claim in found if claim is not None for ref in (claim.ref, *_users(world, claim)))
        subject = volumes[0].ref if volumes else node
        if subject is None:
            continue
        yield Finding(
            "storage.file-server-slow",
            subject,
            Certainty.LIKELY,
            (cite(Source.METRIC, subject, f"{_OPERATION} {export}", f"{change.before:.3g} s -> {change.now:.3g} s", change.since),),
            f"The file server behind {export or subject} takes {change.now:.2g} s an operation instead of {change.before:.2g} s"
            f"{since(change.since)}, measured on {node or 'a node'}: everything that reads models or data from it waits.",
            affects=users,
            since=change.since,
        )


def _export(volume: PersistentVolume) -> str:
    source = volume.spec.nfs
    return f"{source.get('server')}:{source.get('path')}" if isinstance(source, dict) else ""


DETECTORS: tuple[Detector, ...] = (volumes_full, file_server_slow)
