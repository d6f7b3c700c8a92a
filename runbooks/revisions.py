"""What changed between the running revision of a workload and the one before it, field by field, and when.

Data only: it says what differs and which pods belong to which revision; whether the change is to blame is a detector's judgement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.facts.workload import ControllerRevision, DaemonSet, Deployment, PodTemplate, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World

CHANGE_LIMIT = 40
# A pod that neither runs nor says why is given this long before it counts as failing (the default progress deadline).
START_PATIENCE = timedelta(minutes=10)
# Labels that the controllers themselves put on a template; they differ in every revision.
_CONTROLLER_LABELS = frozenset({"pod-template-hash", "controller-revision-hash", "pod-template-generation"})
_NAMED_BY = ("name", "mountPath", "containerPort", "key", "conditionType", "ip")
_STARTING = frozenset({None, "", "PodInitializing", "ContainerCreating"})


class Change(Struct, frozen=True):
    """One field that differs: `path` as in `spec.containers[web].image`; None where the field is absent on that side."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before, after = ("(absent)" if side is None else side for side in (self.before, self.after))
        return f"{self.path}: {before} -> {after}"


class Rollout(Struct, frozen=True):
    """The latest change of a workload's pod template.

    `current` and `previous` are the ReplicaSets (or ControllerRevisions) compared, `at` is when the current one took effect as far as
    events and creation times tell, `changes` the fields that differ (at most CHANGE_LIMIT).
    """

    workload: ObjectRef
    current: ObjectRef
    previous: ObjectRef
    revision: int
    previous_revision: int
    at: datetime | None
    changes: tuple[Change, ...]

    def touching(self, *words: str) -> tuple[Change, ...]:
        """The changes whose path contains one of `words`."""
        return tuple(change for change in self.changes if any(word in change.path for word in words))


def changes(before: PodTemplate, after: PodTemplate) -> tuple[Change, ...]:
    """The fields that differ between two pod templates, in path order. List entries are matched by name, path or port, else by place."""
    left, right = _plain(before), _plain(after)
    return tuple(sorted(_differences("", left, right), key=lambda change: change.path))[:CHANGE_LIMIT]


def rollout_of(world: World, workload: ObjectRef) -> Rollout | None:
    """The latest template change of a Deployment, StatefulSet or DaemonSet; None where only one revision is known."""
    fact = world.find(workload)
    if isinstance(fact, Deployment):
        return _deployment_rollout(world, fact)
    if isinstance(fact, StatefulSet | DaemonSet):
        return _controller_rollout(world, fact)
    return None


def pods_of_revision(world: World, rollout: Rollout) -> tuple[tuple[Pod, ...], tuple[Pod, ...]]:
    """The living pods of the current revision and those of all earlier ones."""
    current: list[Pod] = []
    earlier: list[Pod] = []
    for pod in world.pods_of(rollout.workload):
        if not pod.deleting and not pod.finished:
            (current if _belongs(pod, rollout.current) else earlier).append(pod)
    return tuple(current), tuple(earlier)


def failing(pod: Pod, now: datetime) -> str | None:
    """Why a pod counts as failing, in words; None when it is ready, finished well, or merely still starting."""
    if pod.ready or pod.status.phase == "Succeeded":
        return None
    for status in pod.all_statuses:
        waiting, ended = status.state.waiting, status.state.terminated or status.last_state.terminated
        if waiting is not None and waiting.reason not in _STARTING:
            return f"container {status.name} is waiting: {waiting.reason}"
        if ended is not None and ended.exit_code != 0:
            return f"container {status.name} ended with exit code {ended.exit_code} ({ended.reason or 'no reason given'})"
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.reason != "SchedulingGated":
        return f"it cannot be scheduled: {scheduled.message or scheduled.reason}"
    if pod.status.phase == "Failed":
        return f"it failed: {pod.status.reason or 'no reason given'}"
    if pod.created is not None and now - pod.created > START_PATIENCE:
        return f"it is not ready {_minutes(now - pod.created)} minutes after its creation"
    return None


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)


def _belongs(pod: Pod, revision: ObjectRef) -> bool:
    owner = pod.controller
    if owner is not None and owner.kind == "ReplicaSet":
        return owner.name == revision.name
    stamped = pod.labels.get("controller-revision-hash")
    return stamped is not None and revision.name.endswith(stamped)


def _deployment_rollout(world: World, deployment: Deployment) -> Rollout | None:
    sets = sorted(
        ((item.revision, item) for item in world.owned_by(deployment.ref) if isinstance(item, ReplicaSet) and item.revision is not None),
        key=lambda pair: pair[0],
    )
    if len(sets) < 2:
        return None
    (before_number, before), (after_number, after) = sets[-2], sets[-1]
    scaled = [
        event.first_seen
        for event in world.events(deployment.ref, "ScalingReplicaSet")
        if event.first_seen is not None and f"Scaled up replica set {after.name} " in event.text
    ]
    # A rollback reuses an old ReplicaSet: then the event tells when, not the creation.
    at = max((moment for moment in (after.created, min(scaled, default=None)) if moment is not None), default=None)
    return Rollout(deployment.ref, after.ref, before.ref, after_number, before_number, at, changes(before.template, after.template))


def _controller_rollout(world: World, workload: StatefulSet | DaemonSet) -> Rollout | None:
    revisions = sorted(
        (item for item in world.owned_by(workload.ref) if isinstance(item, ControllerRevision)), key=lambda item: item.revision
    )
    if len(revisions) < 2:
        return None
    before, after = revisions[-2], revisions[-1]
    templates = (_template(before), _template(after))
    if templates[0] is None or templates[1] is None:
        return None
    return Rollout(workload.ref, after.ref, before.ref, after.revision, before.revision, after.created, changes(templates[0], templates[1]))


def _template(revision: ControllerRevision) -> PodTemplate | None:
    """The pod template that a ControllerRevision holds as raw data (`data.spec.template`); None when it holds none that can be read."""
    try:
        return msgspec.convert(revision.data["spec"]["template"], PodTemplate, strict=False)
    except (TypeError, KeyError, msgspec.ValidationError):
        return None


def _plain(template: PodTemplate) -> dict[str, Any]:
    value: dict[str, Any] = _without_nulls(msgspec.to_builtins(template))
    metadata = value.get("metadata") or {}
    labels = {key: item for key, item in (metadata.get("labels") or {}).items() if key not in _CONTROLLER_LABELS}
    return {"metadata": {"labels": labels, "annotations": metadata.get("annotations")}, "spec": value.get("spec")}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := _without_nulls(item)) not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value


def _differences(path: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    left, right = (_keyed(side) if isinstance(side, list) else side for side in (before, after))
    if isinstance(left, Mapping) or isinstance(right, Mapping):
        left = left if isinstance(left, Mapping) else {}
        right = right if isinstance(right, Mapping) else {}
        for key in dict.fromkeys((*left, *right)):
            step = key if key.startswith("[") else f".{key}"
            yield from _differences(f"{path}{step}".lstrip("."), left.get(key), right.get(key))
        return
    yield Change(path, None if before is None else str(before), None if after is None else str(after))


def _keyed(items: list[Any]) -> dict[str, Any]:
    """List entries by what identifies them. The identity is left out of the entry, unless the entry is nothing else."""
    keyed: dict[str, Any] = {}
    for place, item in enumerate(items):
        field = next((field for field in _NAMED_BY if field in item), None) if isinstance(item, dict) else None
        key = f"[{place}]" if field is None else f"[{item[field]}]"
        rest = item if field is None else {name: part for name, part in item.items() if name != field} or item
        # Two entries of one name (a repeated variable) must both stay visible.
        keyed[key if key not in keyed else f"{key[:-1]}#{place}]"] = rest
    return keyed
