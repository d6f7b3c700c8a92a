"""Trainings and pipelines that their own controller gave up, tied to the worker or step that failed first.

The status of a JobSet, TrainJob, PyTorchJob, MPIJob, RayJob or Workflow says that it failed; why is told by the pod that failed first,
the others are collateral. What that pod said or died of is for other detectors: theirs is the cause, and this is what followed.
Sources: failures.md F15 to F19 and F36. Limits: pods that were cleaned up tell nothing; of a Ray actor's death only the job's word counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cluster.facts.event import CustomObject
from cluster.facts.pod import Pod
from cluster.reference import ContainerRef
from cluster.timestamps import parse_time
from cluster.world import World
from runbooks.detectors.jobs import STALE
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite
from runbooks.scheduling import accelerators_of

# How each kind says that it gave up: a condition by this name.
_BY_CONDITION = ("JobSet", "TrainJob", "PyTorchJob", "MPIJob")
_RAY_FAILED = frozenset({"Failed", "ValidationFailed"})
_TEXT = 240


def training_failed(world: World) -> Iterator[Finding]:
    """Trainings whose controller says that they failed for good."""
    for kind in _BY_CONDITION:
        for item in _custom(world, kind):
            failed = item.condition("Failed")
            if failed is not None and failed.status == "True":
                said = f"{failed.reason or 'Failed'}: {failed.message or 'no message'}"
                at = failed.last_transition_time
                yield _failed(world, item, cite(Source.FIELD, item.ref, "status.conditions[Failed]", said, at), said)
    for item in _custom(world, "RayJob"):
        status = _mapping(item.status)
        if status.get("jobDeploymentStatus") in _RAY_FAILED or status.get("jobStatus") == "FAILED":
            said = f"{status.get('reason') or status.get('jobDeploymentStatus')}: {status.get('message') or 'no message'}"
            at = parse_time(status.get("endTime"))
            yield _failed(world, item, cite(Source.FIELD, item.ref, "status.jobDeploymentStatus", said, at), said)


def _certainty(world: World, at: datetime | None) -> Certainty:
    """What failed long ago is kept, but hardly what is wrong now."""
    return Certainty.POSSIBLE if at is not None and world.now - at > STALE else Certainty.PROVEN


def _failed(world: World, item: CustomObject, said: Evidence, words: str) -> Finding:
    pods = world.pods_of(item.ref)
    bad = sorted((pod for pod in pods if _ended(pod) is not None), key=lambda pod: (str(_ended(pod)), pod.name))
    accelerators = sum(accelerators_of(pod.spec) for pod in pods)
    text = f"{item.ref.kind} {item.namespace}/{item.name} failed ({words[:_TEXT]})."
    wants: tuple[LogWant, ...] = ()
    evidence = [said]
    if bad:
        evidence.append(_exit(bad[0]))
        text += f" Pod {bad[0].name} on node {bad[0].spec.node_name or '?'} failed first, of {len(bad)} that failed."
        wants = (LogWant(ContainerRef(bad[0].namespace or "", bad[0].name, bad[0].spec.containers[0].name)),)
    if accelerators:
        text += f" It held {accelerators:g} accelerator(s)."
    return Finding(
        "training.failed",
        item.ref,
        _certainty(world, said.at),
        tuple(evidence),
        text,
        affects=tuple(pod.ref for pod in pods[:20]),
        since=_ended(bad[0]) if bad else None,
        wants=wants,
        lacks="why its first worker failed",
    )


def _ended(pod: Pod) -> datetime | None:
    """When the first container run of a pod ended badly; the pod's own start where it failed without saying."""
    ends = [
        ended.finished_at
        for status in pod.all_statuses
        for ended in (status.state.terminated, status.last_state.terminated)
        if ended is not None and ended.exit_code and ended.finished_at
    ]
    return min(ends) if ends else (pod.created if pod.status.phase == "Failed" else None)


def _exit(pod: Pod) -> Evidence:
    for status in pod.all_statuses:
        ended = status.state.terminated or status.last_state.terminated
        if ended is not None and ended.exit_code:
            quote = f"exit code {ended.exit_code} {ended.reason or ''}".strip()
            return cite(Source.FIELD, pod.ref, f"status.containerStatuses[{status.name}].state.terminated", quote, ended.finished_at)
    return cite(Source.FIELD, pod.ref, "status.phase", f"{pod.status.phase} {pod.status.reason or ''}".strip())


def ray_cluster_broken(world: World) -> Iterator[Finding]:
    """Ray clusters whose operator cannot make their pods, or whose head does not run."""
    for item in _custom(world, "RayCluster"):
        replica = item.condition("ReplicaFailure")
        if replica is not None and replica.status == "True":
            said = f"{replica.reason}: {replica.message or 'no message'}"
            yield Finding(
                "ray.pods-not-created",
                item.ref,
                Certainty.PROVEN,
                (cite(Source.FIELD, item.ref, "status.conditions[ReplicaFailure]", said),),
                f"RayCluster {item.namespace}/{item.name} lacks pods that its operator could not create ({said[:_TEXT]}).",
                affects=(world.top_owner(item.ref),),
            )


def workflow_failed(world: World) -> Iterator[Finding]:
    """Workflows that failed, by the step that failed first; a step that others wait for explains theirs."""
    for item in _custom(world, "Workflow"):
        status = _mapping(item.status)
        if status.get("phase") not in ("Failed", "Error"):
            continue
        nodes = [node for node in _mapping(status.get("nodes")).values() if isinstance(node, dict)]
        steps = [node for node in nodes if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error")]
        first = min(steps, key=lambda node: (str(node.get("finishedAt") or "9"), str(node.get("displayName"))), default=None)
        why = f"{status['phase']}: {status.get('message') or 'no message'}"
        at = parse_time(status.get("finishedAt"))
        evidence = [cite(Source.FIELD, item.ref, "status.phase", why, at)]
        text = f"Workflow {item.namespace}/{item.name} did not succeed ({why[:_TEXT]})."
        pods: tuple[Pod, ...] = ()
        if first is not None:
            name, said = str(first.get("displayName")), str(first.get("message") or "no message")
            evidence.append(cite(Source.FIELD, item.ref, f"status.nodes[{first.get('id')}].message", f"{name}: {said}"))
            text += f" Step {name} (template {first.get('templateName') or '?'}) failed first: {said[:_TEXT]}."
            pods = tuple(pod for pod in world.pods_of(item.ref) if first.get("id") in (pod.name, pod.annotations.get(_NODE_ID)))
        yield Finding(
            "workflow.step-failed",
            item.ref,
            _certainty(world, at),
            tuple(evidence),
            text,
            affects=tuple(pod.ref for pod in pods),
            wants=tuple(LogWant(ContainerRef(pod.namespace or "", pod.name, pod.spec.containers[-1].name)) for pod in pods[:1]),
            lacks="why the step failed",
        )


# Argo 3.4 and later name pods otherwise than nodes (workflow/common/common.go, AnnotationKeyNodeID).
_NODE_ID = "workflows.argoproj.io/node-id"


def group_recreated(world: World) -> Iterator[Finding]:
    """LeaderWorkerSets that throw whole groups away again and again because one worker fails."""
    for item in _custom(world, "LeaderWorkerSet"):
        events = world.events(item.ref, "RecreateGroup")
        times = sum(event.times for event in events)
        if times < RECREATED_TIMES:
            continue
        last = events[-1]
        yield Finding(
            "training.group-recreated",
            item.ref,
            Certainty.LIKELY,
            (cite(Source.EVENT, item.ref, last.reason, last.text, last.last_seen),),
            f"LeaderWorkerSet {item.namespace}/{item.name} was rebuilt {times} times because one worker fails and takes its group along: "
            f"{last.text[:_TEXT]}",
            affects=tuple(pod.ref for pod in world.pods_of(item.ref)[:20]),
            since=events[0].first_seen,
        )


# failures.md E35: more than two in an hour is one bad node or device that kills the whole group.
RECREATED_TIMES = 3


def _custom(world: World, kind: str) -> Iterator[CustomObject]:
    return (item for item in world.custom(kind) if isinstance(item, CustomObject) and not item.deleting)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DETECTORS: tuple[Detector, ...] = (training_failed, ray_cluster_broken, workflow_failed, group_recreated)
