"""Rollouts that go wrong or stand still, and update strategies that leave old pods behind.

A failed revision says when and what changed; why its pods fail is for the detectors that look at them.
Limits: only a revision whose ReplicaSet or ControllerRevision still exists can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.facts.event import CustomObject
from cluster.facts.meta import condition
from cluster.facts.workload import DaemonSet, Deployment, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.conditions import cite_condition
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.revisions import Rollout, failing, pods_of_revision, rollout_of

CHANGES_SHOWN = 6
_STRATEGIES = frozenset(
    {"RollingUpdate", "OnDelete", "Recreate", "InPlaceIfPossible", "InPlaceOnly", "RollingRecreate", "BlueGreen", "Canary"}
)

Revised = Deployment | StatefulSet | DaemonSet


def bad_revision(world: World) -> Iterator[Finding]:
    """A rollout whose new pods fail while the earlier revision ran, or still runs: what changed is the first suspect."""
    revised: tuple[Revised, ...] = (*world.all(Deployment), *world.all(StatefulSet), *world.all(DaemonSet))
    for workload in revised:
        if _satisfied(workload):
            continue
        rollout = rollout_of(world, workload.ref)
        if rollout is None or not rollout.changes:
            continue
        current, earlier = pods_of_revision(world, rollout)
        broken = [(pod, why) for pod in current if (why := failing(pod, world.now)) is not None]
        if not broken or any(pod.ready for pod in current):
            continue
        still = [pod for pod in earlier if pod.ready]
        shown = "; ".join(str(change) for change in rollout.changes[:CHANGES_SHOWN])
        yield Finding(
            "rollout.bad-revision",
            workload.ref,
            Certainty.LIKELY,
            (
                *_revision_evidence(rollout),
                *(cite(Source.FIELD, pod.ref, "status", why) for pod, why in broken[:3]),
                *(cite(Source.FIELD, pod.ref, "status.conditions[Ready]", "True (earlier revision)") for pod in still[:2]),
            ),
            f"Revision {rollout.revision} of {workload.kind} {workload.namespace}/{workload.name} fails in all of its {len(current)} pod(s)"
            f"{f' while {len(still)} of the earlier revision are ready' if still else ''}. Against revision {rollout.previous_revision} "
            f"it changes {shown}.",
            affects=tuple(pod.ref for pod in current),
            since=rollout.at,
        )


def _revision_evidence(rollout: Rollout) -> Iterator[Evidence]:
    for change in rollout.changes[:CHANGES_SHOWN]:
        yield cite(Source.FIELD, rollout.current, f"spec.template.{change.path}", f"{change.before} -> {change.after}", rollout.at)


def _satisfied(workload: Revised) -> bool:
    """Whether every pod it wants is of the current revision and ready: the cheap look before any diff."""
    match workload:
        case Deployment():
            # The old pods count as available too: a rollout is over when none are left (K deployment/progress.go).
            counts = workload.status
            surplus = counts.replicas > workload.spec.replicas
            return not surplus and min(counts.updated_replicas, counts.available_replicas) >= workload.spec.replicas
        case StatefulSet():
            return min(workload.status.ready_replicas, workload.status.updated_replicas) >= workload.spec.replicas
        case DaemonSet():
            return workload.status.number_ready >= workload.status.desired_number_scheduled


def deadline_exceeded(world: World) -> Iterator[Finding]:
    """A Deployment whose controller says that the rollout made no progress in time."""
    for deployment in world.all(Deployment):
        progressing = condition(deployment.status.conditions, "Progressing")
        if progressing is None or progressing.status != "False":
            continue
        code = "rollout.deadline-exceeded" if progressing.reason == "ProgressDeadlineExceeded" else "rollout.create-error"
        rollout = rollout_of(world, deployment.ref)
        yield Finding(
            code,
            deployment.ref,
            Certainty.PROVEN,
            (cite_condition(deployment.ref, progressing), *(_revision_evidence(rollout) if rollout else ())),
            f"The rollout of Deployment {deployment.namespace}/{deployment.name} does not progress: "
            f"{progressing.message or progressing.reason} (deadline {deployment.spec.progress_deadline_seconds} s, "
            f"{deployment.status.updated_replicas} of {deployment.spec.replicas} pods updated).",
            since=progressing.last_update_time or progressing.last_transition_time,
        )


def paused(world: World) -> Iterator[Finding]:
    """A paused Deployment whose latest template was never rolled out."""
    for deployment in world.all(Deployment):
        if not deployment.spec.paused or deployment.spec.replicas <= 0:
            continue
        newest = max(
            (item for item in world.owned_by(deployment.ref) if isinstance(item, ReplicaSet)),
            key=lambda item: item.revision or 0,
            default=None,
        )
        behind = deployment.status.updated_replicas < deployment.spec.replicas or (
            newest is not None and newest.template.spec != deployment.template.spec
        )
        if behind:
            yield Finding(
                "rollout.paused",
                deployment.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, deployment.ref, "spec.paused", "true"),
                    cite(Source.FIELD, deployment.ref, "status.updatedReplicas", deployment.status.updated_replicas),
                ),
                f"Deployment {deployment.namespace}/{deployment.name} is paused with {deployment.status.updated_replicas} of "
                f"{deployment.spec.replicas} pods on its current template: changes to it have no effect until it is resumed.",
            )


def surge_deadlock(world: World) -> Iterator[Finding]:
    """A rolling update that may neither remove an old pod nor place a new one."""
    for deployment in world.all(Deployment):
        if _satisfied(deployment) or deployment.spec.strategy.type not in (None, "RollingUpdate"):
            continue
        rollout = rollout_of(world, deployment.ref)
        if rollout is None:
            continue
        current, earlier = pods_of_revision(world, rollout)
        waiting = [pod for pod in current if (found := pod.condition("PodScheduled")) is not None and found.reason == "Unschedulable"]
        if not waiting or len(waiting) != len(current) or not earlier or not all(pod.ready for pod in earlier):
            continue
        rolling = deployment.spec.strategy.rolling_update
        given = rolling.max_unavailable if rolling else None
        limit = "25%" if given is None else given
        allowed = _share(limit, deployment.spec.replicas)
        if allowed > 0 or len(earlier) < deployment.spec.replicas:
            continue
        scheduled = waiting[0].condition("PodScheduled")
        yield Finding(
            "rollout.surge-deadlock",
            deployment.ref,
            Certainty.LIKELY,
            (
                cite(
                    Source.FIELD,
                    deployment.ref,
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    f"{limit or '25%'} of {deployment.spec.replicas} rounds down to 0",
                ),
                cite(Source.FIELD, waiting[0].ref, "status.conditions[PodScheduled]", scheduled.message if scheduled else "Unschedulable"),
            ),
            f"The rollout of Deployment {deployment.namespace}/{deployment.name} is deadlocked: its {len(waiting)} new pod(s) find no "
            f"node while {len(earlier)} old pod(s) hold the resources, and maxUnavailable {limit} of {deployment.spec.replicas} "
            "rounds down to 0, so none of them may go first.",
            affects=tuple(pod.ref for pod in waiting),
            since=rollout.at,
        )


def _share(value: int | str, replicas: int) -> int:
    """maxUnavailable in pods: percentages round down (K deployment util, ResolveFenceposts)."""
    if isinstance(value, int):
        return value
    digits = value.rstrip("%")
    return int(digits) * replicas // 100 if value.endswith("%") and digits.isdigit() else 0


def update_strategy(world: World) -> Iterator[Finding]:
    """Pods that keep an old revision because the update strategy does not replace them."""
    for workload in world.all(StatefulSet):
        status, strategy = workload.status, workload.spec.update_strategy
        partition = strategy.rolling_update.partition if strategy.rolling_update else None
        differs = bool(status.current_revision and status.update_revision and status.current_revision != status.update_revision)
        held = strategy.type == "OnDelete" or bool(partition)
        if differs and held and status.updated_replicas < workload.spec.replicas and status.ready_replicas >= workload.spec.replicas:
            how = "OnDelete" if strategy.type == "OnDelete" else f"partition {partition}"
            yield _held(workload.ref, how, status.updated_replicas, workload.spec.replicas)
    for daemon in world.all(DaemonSet):
        wanted, updated = daemon.status.desired_number_scheduled, daemon.status.updated_number_scheduled
        if daemon.spec.update_strategy.type == "OnDelete" and updated < wanted and daemon.status.observed_generation:
            yield _held(daemon.ref, "OnDelete", updated, wanted)
    yield from _unknown_strategies(world)


def _held(ref: ObjectRef, how: str, updated: int, wanted: int) -> Finding:
    return Finding(
        "workload.update-held",
        ref,
        Certainty.LIKELY,
        (cite(Source.FIELD, ref, "spec.updateStrategy", how), cite(Source.FIELD, ref, "status", f"{updated} of {wanted} pods updated")),
        f"{ref.kind} {ref.namespace}/{ref.name} keeps {wanted - updated} of {wanted} pods on an old revision: its update strategy ({how}) "
        "does not replace them.",
    )


def _unknown_strategies(world: World) -> Iterator[Finding]:
    """A custom resource whose update strategy is a word that no controller knows."""
    for facts in world.facts.values():
        for item in facts:
            if not isinstance(item, CustomObject) or not isinstance(item.spec, dict):
                continue
            for path, value in _strings(item.spec, "spec", 0):
                if path.lower().endswith("updatestrategy") and value not in _STRATEGIES:
                    yield Finding(
                        "workload.update-strategy-unknown",
                        item.ref,
                        Certainty.LIKELY,
                        (cite(Source.FIELD, item.ref, path, value),),
                        f"{item.ref.kind} {item.namespace}/{item.name} asks for the update strategy {value!r} at {path}, "
                        "which no workload controller knows; its operator cannot reconcile it.",
                    )


def _strings(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield (path, value)
    elif isinstance(value, dict) and depth < 4:
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}", depth + 1)


DETECTORS: tuple[Detector, ...] = (bad_revision, deadline_exceeded, paused, surge_deadlock, update_strategy)
