"""Typed checks that say whether a change worked, as data, and the pure judgement over raw objects.

A check has three answers. `succeeded` and `failed` are proven by fields; everything else, also "not yet", is `inconclusive`.
Nothing here waits or reads: a port fetches what `queries` names and `judge` decides; the executor does the waiting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from guardrails.manifest import RECREATING, condition_of, ready_pods, wanted_pods
from guardrails.quantity import amount, observed_amount
from guardrails.target import NODE, POD, Resource, Target

Status = Literal["succeeded", "failed", "inconclusive"]
# What the MIG manager answers with on the node itself: pending, then success or failed.
MIG_STATE = "nvidia.com/mig.config.state"


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
    """The pod of that uid is gone and its controller has the pods it wants, ready: all, or as many as `ready_required` before it."""

    check: Literal["pod_replaced"] = "pod_replaced"
    target: Target
    owner_kind: str
    owner_name: str
    ready_required: int | None = None


class FieldIs(_Check):
    """A field of the target has this value; None means that it is absent. For fields that nothing but a writer moves."""

    check: Literal["field_is"] = "field_is"
    target: Target
    path: tuple[str, ...] = Field(strict=False)
    value: str | int | bool | None


class TaintIs(_Check):
    """The node has, or has not, a taint of this key and effect."""

    check: Literal["taint_is"] = "taint_is"
    target: Target
    key: str
    effect: str
    present: bool


class NodeDrained(_Check):
    """None of the pods of these uids is on the node any more, and it is still cordoned."""

    check: Literal["node_drained"] = "node_drained"
    target: Target
    pods: tuple[str, ...] = Field(strict=False)


class PodsGone(_Check):
    """None of the pods of these uids is in the namespace that is the target."""

    check: Literal["pods_gone"] = "pods_gone"
    target: Target
    pods: tuple[str, ...] = Field(strict=False)


class ObjectGone(_Check):
    """The target of that uid does not exist any more."""

    check: Literal["object_gone"] = "object_gone"
    target: Target


class Suspension(_Check):
    """The field says so, and the workload's controller has followed: nothing runs when suspended, no mark of it when resumed."""

    check: Literal["suspension"] = "suspension"
    target: Target
    suspended: bool


class PodResized(_Check):
    """The kubelet has given the container these amounts. `restarts_before` is its restart count then, None when it may restart."""

    check: Literal["pod_resized"] = "pod_resized"
    target: Target
    container: str
    requests: dict[str, str]
    limits: dict[str, str]
    restarts_before: int | None


class VolumeExpanded(_Check):
    """The volume has at least this capacity, file system included."""

    check: Literal["volume_expanded"] = "volume_expanded"
    target: Target
    size: str


class MigConfigured(_Check):
    """The MIG manager reports success for this profile. The change takes its earlier report away, so a report is always a new one."""

    check: Literal["mig_configured"] = "mig_configured"
    target: Target
    profile: str


Check = Annotated[
    RolloutComplete | ReplicasReady | NodeSchedulable | PodReplaced | FieldIs | TaintIs | NodeDrained | PodsGone | ObjectGone
    | Suspension | PodResized | VolumeExpanded | MigConfigured,
    Field(discriminator="check"),
]  # fmt: skip

_SUSPENSION_PATHS: dict[str, tuple[str, ...]] = {
    "Workload": ("spec", "active"),
    "PyTorchJob": ("spec", "runPolicy", "suspend"),
    "MPIJob": ("spec", "runPolicy", "suspend"),
}


def suspension_path(kind: str) -> tuple[str, ...]:
    """The field by which a kind is suspended; of Kueue's Workload it is `active`, which means the opposite."""
    return _SUSPENSION_PATHS.get(kind, ("spec", "suspend"))


def queries(check: Check) -> tuple[Query, ...]:
    """What a port must read before `judge` can answer: an absent object is simply not among the objects handed over."""
    on = check.target
    first = Query(on.resource, on.namespace, on.name)
    if isinstance(check, PodReplaced):
        owner = RECREATING.get(check.owner_kind)
        pod = Query(POD, on.namespace, on.name)
        return (pod,) if owner is None else (pod, Query(owner, on.namespace, check.owner_name))
    if isinstance(check, NodeDrained):
        return (Query(NODE, None, on.name), Query(POD, field_selector=f"spec.nodeName={on.name}"))
    if isinstance(check, PodsGone):
        return (Query(POD, on.name),)
    return (first,)


def judge(check: Check, objects: tuple[dict[str, Any], ...]) -> CheckResult:
    """Decide a check over the raw objects that its queries found."""
    if isinstance(check, PodReplaced):
        return _pod_replaced(check, objects)
    if isinstance(check, PodsGone):
        return _still_there(check.pods, objects)
    found = _find(objects, check.target.kind, check.target.name)
    same = found is not None and found.get("metadata", {}).get("uid") == check.target.uid
    if isinstance(check, ObjectGone):
        return CheckResult("inconclusive" if same else "succeeded", f"{check.target} {'still exists' if same else 'is gone'}")
    if found is None:
        return CheckResult("failed", f"{check.target} is gone")
    if not same:
        return CheckResult("failed", f"{check.target} was replaced by another object of that name")
    if isinstance(check, NodeSchedulable | NodeDrained | TaintIs | MigConfigured):
        return _node(check, found, objects)
    if isinstance(check, ReplicasReady):
        return _replicas_ready(check, found)
    if isinstance(check, RolloutComplete):
        return _rollout_complete(check, found)
    if isinstance(check, FieldIs):
        return _field_is(check, found)
    if isinstance(check, Suspension):
        return _suspension(check, found)
    return _pod_resized(check, found) if isinstance(check, PodResized) else _volume_expanded(check, found)


def _node(
    check: NodeSchedulable | NodeDrained | TaintIs | MigConfigured, found: dict[str, Any], objects: tuple[dict[str, Any], ...]
) -> CheckResult:
    schedulable = not found.get("spec", {}).get("unschedulable", False)
    if isinstance(check, NodeSchedulable):
        return CheckResult("succeeded" if schedulable == check.schedulable else "failed", f"unschedulable is {not schedulable}")
    if isinstance(check, NodeDrained):
        if schedulable:
            return CheckResult("failed", f"{check.target} takes pods again")
        return _still_there(check.pods, objects)
    if isinstance(check, TaintIs):
        taints = found.get("spec", {}).get("taints") or ()
        present = any((t.get("key"), t.get("effect")) == (check.key, check.effect) for t in taints)
        text = f"the taint {check.key}:{check.effect} is {'there' if present else 'not there'}"
        return CheckResult("succeeded" if present == check.present else "failed", text)
    labels = found.get("metadata", {}).get("labels") or {}
    profile, state = labels.get("nvidia.com/mig.config"), labels.get(MIG_STATE, "")
    if profile != check.profile:
        return CheckResult("failed", f"the profile asked for is {profile}, not {check.profile}")
    outcome: Status = "succeeded" if state == "success" else "failed" if state == "failed" else "inconclusive"
    return CheckResult(outcome, f"the MIG manager says {state or 'nothing'}")


def _still_there(uids: tuple[str, ...], objects: tuple[dict[str, Any], ...]) -> CheckResult:
    left = [o["metadata"]["name"] for o in objects if o.get("kind") == "Pod" and o.get("metadata", {}).get("uid") in uids]
    if left:
        return CheckResult("inconclusive", f"{len(left)} of {len(uids)} pods are still there: {', '.join(sorted(left)[:5])}")
    return CheckResult("succeeded", f"all {len(uids)} pods are gone")


def _pod_replaced(check: PodReplaced, objects: tuple[dict[str, Any], ...]) -> CheckResult:
    pod = _find(objects, "Pod", check.target.name)
    if pod is not None and pod.get("metadata", {}).get("uid") == check.target.uid:
        return CheckResult("inconclusive", f"{check.target} still exists")
    owner = _find(objects, check.owner_kind, check.owner_name)
    if owner is None:
        return CheckResult("inconclusive", f"the pod is gone; its owner {check.owner_kind}/{check.owner_name} could not be read")
    ready = ready_pods(owner)
    wanted = wanted_pods(owner) if check.ready_required is None else min(check.ready_required, wanted_pods(owner))
    text = f"the pod is gone; {check.owner_kind}/{check.owner_name} has {ready} of {wanted} pods ready"
    return CheckResult("succeeded" if ready >= wanted else "inconclusive", text)


def _field_is(check: FieldIs, found: dict[str, Any]) -> CheckResult:
    value: Any = found
    for part in check.path:
        value = value.get(part) if isinstance(value, dict) else None
    # A switch that is off may be absent or false, as the API server likes.
    same = value == check.value or (check.value is None and value is False)
    return CheckResult("succeeded" if same else "failed", f"{'.'.join(check.path)} is {'as' if same else 'not as'} wanted")


def _suspension(check: Suspension, found: dict[str, Any]) -> CheckResult:
    kind, status = str(found.get("kind")), found.get("status", {})
    value: Any = found
    path = suspension_path(kind)
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    now = value is False if path[-1] == "active" else value is True
    if now != check.suspended:
        return CheckResult("failed", f"{'.'.join(path)} is not as wanted")
    if kind == "CronJob":
        return CheckResult("succeeded", f"spec.suspend is {str(now).lower()}")
    if kind == "RayJob":
        phase = status.get("jobDeploymentStatus", "")
        followed, said = (phase == "Suspended") == check.suspended, f"jobDeploymentStatus is {phase or 'not set'}"
    elif kind == "Workload":
        admitted = condition_of(found, "Admitted") == "True"
        followed, said = not (check.suspended and admitted), "it holds quota" if admitted else "it holds no quota"
    else:
        mark = condition_of(found, "Suspended") == "True"
        followed, said = mark == check.suspended, f"the condition Suspended is {mark}"
        if kind == "Job" and check.suspended:
            active = int(status.get("active", 0))
            followed, said = followed and active == 0, f"{said}, {active} pods are active"
    return CheckResult("succeeded" if followed else "inconclusive", said)


def _pod_resized(check: PodResized, found: dict[str, Any]) -> CheckResult:
    status = found.get("status", {})
    pending = next((c for c in status.get("conditions") or () if c.get("type") == "PodResizePending" and c.get("status") == "True"), None)
    if pending is not None:
        outcome: Status = "failed" if pending.get("reason") == "Infeasible" else "inconclusive"
        return CheckResult(outcome, f"the kubelet says {pending.get('reason')}: {str(pending.get('message', ''))[:200]}")
    containers = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    running = next((c for c in containers if c.get("name") == check.container), None)
    given = (running or {}).get("resources") or {}
    for field, wanted in (("requests", check.requests), ("limits", check.limits)):
        for name, size in wanted.items():
            if observed_amount((given.get(field) or {}).get(name)) != amount(size):
                return CheckResult("inconclusive", f"the kubelet has not given {name} {field} of {size} yet")
    restarts = int((running or {}).get("restartCount", 0))
    if check.restarts_before is not None and restarts > check.restarts_before:
        return CheckResult("failed", f"the container restarted: {restarts} times, {check.restarts_before} before")
    return CheckResult("succeeded", "the kubelet has given the wanted amounts")


def _volume_expanded(check: VolumeExpanded, found: dict[str, Any]) -> CheckResult:
    status = found.get("status", {})
    infeasible = [name for name, word in (status.get("allocatedResourceStatuses") or {}).items() if str(word).endswith("Infeasible")]
    if infeasible:
        return CheckResult("failed", f"the volume cannot be made that large: {', '.join(infeasible)} is infeasible")
    capacity = (status.get("capacity") or {}).get("storage")
    have, wanted = observed_amount(capacity), amount(check.size)
    if have is not None and wanted is not None and have >= wanted:
        return CheckResult("succeeded", f"the volume has {capacity}")
    waits = " and waits for a pod to mount it" if condition_of(found, "FileSystemResizePending") == "True" else ""
    return CheckResult("inconclusive", f"the volume has {capacity} of {check.size}{waits}")


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
    status, wanted = found.get("status", {}), wanted_pods(found)
    generation, seen = found.get("metadata", {}).get("generation", 0), status.get("observedGeneration", 0)
    if seen < generation:
        return CheckResult("inconclusive", f"the controller has seen generation {seen} of {generation}")
    if found.get("kind") == "DaemonSet":
        updated, total = status.get("updatedNumberScheduled", 0), status.get("desiredNumberScheduled", 0)
    else:
        updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    ready = ready_pods(found)
    for condition in status.get("conditions") or ():
        exceeded = condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
        if exceeded and (check.since is None or str(condition.get("lastUpdateTime", "")) > check.since):
            return CheckResult("failed", f"ProgressDeadlineExceeded: {updated} updated, {ready} of {wanted} ready")
    done = updated == wanted == total and ready == wanted
    return CheckResult("succeeded" if done else "inconclusive", f"{updated} of {wanted} updated, {ready} ready, {total} exist")


def _find(objects: tuple[dict[str, Any], ...], kind: str, name: str) -> dict[str, Any] | None:
    return next((o for o in objects if o.get("kind") == kind and o.get("metadata", {}).get("name") == name), None)
