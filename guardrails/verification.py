"""Typed checks that say whether a change worked, as data, and the pure judgement over raw objects.

A check has three answers. `succeeded` and `failed` are proven by fields; everything else, also "not yet", is `inconclusive`.
Nothing here waits or reads: a port fetches what `queries` names and `judge` decides; the executor does the waiting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from guardrails.action import JOB, POD, REPLICA_SET, TARGET_RESOURCES, Resource, Target

Status = Literal["succeeded", "failed", "inconclusive"]


class Query(Struct, frozen=True):
    """What to read: one object when `name` is set, else the collection in `namespace`. Selectors are of the API's form."""

    resource: Resource
    namespace: str | None = None
    name: str | None = None
    label_selector: str | None = None
    field_selector: str | None = None


class CheckResult(Struct, frozen=True):
    """The answer to one check, with the field values it rests on."""

    status: Status
    detail: str


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 300


class RolloutComplete(_Check):
    """The workload's controller has seen `spec`, all pods are of the current revision and ready.

    `since` is the time of the change (RFC 3339, UTC), set when it is made: an exceeded deadline from before is the old rollout's.
    """

    check: Literal["rollout_complete"] = "rollout_complete"
    target: Target
    since: str | None = None


class ReplicasReady(_Check):
    """The workload has exactly `replicas` ready pods."""

    check: Literal["replicas_ready"] = "replicas_ready"
    target: Target
    replicas: int


class NodeSchedulable(_Check):
    """`spec.unschedulable` of the node is as wanted."""

    check: Literal["node_schedulable"] = "node_schedulable"
    target: Target
    schedulable: bool


class PodReplaced(_Check):
    """The pod of that uid is gone and its controller again has the pods it wants, ready."""

    check: Literal["pod_replaced"] = "pod_replaced"
    target: Target
    owner_kind: str
    owner_name: str


Check = Annotated[RolloutComplete | ReplicasReady | NodeSchedulable | PodReplaced, Field(discriminator="check")]

_OWNERS: dict[str, Resource] = {r.kind: r for r in (*TARGET_RESOURCES.values(), REPLICA_SET, JOB)}


def queries(check: Check) -> tuple[Query, ...]:
    """What a port must read before `judge` can answer: an absent object is simply not among the objects handed over."""
    on = check.target
    first = Query(on.resource, on.namespace, on.name)
    if isinstance(check, PodReplaced):
        owner = _OWNERS.get(check.owner_kind)
        pod = Query(POD, on.namespace, on.name)
        return (pod,) if owner is None else (pod, Query(owner, on.namespace, check.owner_name))
    return (first,)


def judge(check: Check, objects: tuple[dict[str, Any], ...]) -> CheckResult:
    """Decide a check over the raw objects that its queries found."""
    if isinstance(check, PodReplaced):
        return _pod_replaced(check, objects)
    found = _find(objects, check.target.kind, check.target.name)
    if found is None:
        return CheckResult("failed", f"{check.target} is gone")
    if found.get("metadata", {}).get("uid") != check.target.uid:
        return CheckResult("failed", f"{check.target} was replaced by another object of that name")
    if isinstance(check, NodeSchedulable):
        schedulable = not found.get("spec", {}).get("unschedulable", False)
        return CheckResult("succeeded" if schedulable == check.schedulable else "failed", f"unschedulable is {not schedulable}")
    if isinstance(check, ReplicasReady):
        return _replicas_ready(check, found)
    return _rollout_complete(check, found)


def _pod_replaced(check: PodReplaced, objects: tuple[dict[str, Any], ...]) -> CheckResult:
    pod = _find(objects, "Pod", check.target.name)
    if pod is not None and pod.get("metadata", {}).get("uid") == check.target.uid:
        return CheckResult("inconclusive", f"{check.target} still exists")
    owner = _find(objects, check.owner_kind, check.owner_name)
    if owner is None:
        return CheckResult("inconclusive", f"the pod is gone; its owner {check.owner_kind}/{check.owner_name} could not be read")
    ready, wanted = _ready(owner), _wanted(owner)
    text = f"the pod is gone; {check.owner_kind}/{check.owner_name} has {ready} of {wanted} pods ready"
    return CheckResult("succeeded" if ready >= wanted else "inconclusive", text)


def _replicas_ready(check: ReplicasReady, found: dict[str, Any]) -> CheckResult:
    wanted = found.get("spec", {}).get("replicas", 1)
    if wanted != check.replicas:
        return CheckResult("failed", f"spec.replicas is {wanted}, not {check.replicas}")
    status = found.get("status", {})
    current, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    seen = status.get("observedGeneration", 0) >= found.get("metadata", {}).get("generation", 0)
    text = f"{ready} of {check.replicas} replicas ready, {current} exist"
    return CheckResult("succeeded" if seen and current == ready == check.replicas else "inconclusive", text)


def _rollout_complete(check: RolloutComplete, found: dict[str, Any]) -> CheckResult:
    status, wanted = found.get("status", {}), _wanted(found)
    generation, seen = found.get("metadata", {}).get("generation", 0), status.get("observedGeneration", 0)
    if seen < generation:
        return CheckResult("inconclusive", f"the controller has seen generation {seen} of {generation}")
    if found.get("kind") == "DaemonSet":
        updated, total = status.get("updatedNumberScheduled", 0), status.get("desiredNumberScheduled", 0)
    else:
        updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    ready = _ready(found)
    for condition in status.get("conditions") or ():
        exceeded = condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
        if exceeded and (check.since is None or str(condition.get("lastUpdateTime", "")) > check.since):
            return CheckResult("failed", f"ProgressDeadlineExceeded: {updated} updated, {ready} of {wanted} ready")
    done = updated == wanted == total and ready == wanted
    return CheckResult("succeeded" if done else "inconclusive", f"{updated} of {wanted} updated, {ready} ready, {total} exist")


def _wanted(workload: dict[str, Any]) -> int:
    if workload.get("kind") == "DaemonSet":
        return int(workload.get("status", {}).get("desiredNumberScheduled", 0))
    if workload.get("kind") == "Job":
        spec = workload.get("spec", {})
        return min(int(spec.get("parallelism", 1)), int(spec.get("completions") or spec.get("parallelism", 1)))
    replicas = workload.get("spec", {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def _ready(workload: dict[str, Any]) -> int:
    status = workload.get("status", {})
    if workload.get("kind") == "DaemonSet":
        return int(status.get("numberReady", 0))
    if workload.get("kind") == "Job":
        return int(status.get("ready", 0)) + int(status.get("succeeded", 0))
    return int(status.get("readyReplicas", 0))


def _find(objects: tuple[dict[str, Any], ...], kind: str, name: str) -> dict[str, Any] | None:
    return next((o for o in objects if o.get("kind") == kind and o.get("metadata", {}).get("name") == name), None)
