"""What is at stake, read from typed fields of the objects. Pure: no counters, no clock, no opinion.

The policy reads these numbers; this module sets none of its limits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from guardrails.accelerator import accelerators, pod_accelerators
from guardrails.action import (
    Action,
    Cordon,
    DeleteFailedPods,
    DeletePod,
    Drain,
    EditConfigMapKey,
    EvictPod,
    RolloutPause,
    Scale,
    SetMigProfile,
    SetReplicaBounds,
    Suspend,
    Taint,
)
from guardrails.changes.nodes import drained_pods
from guardrails.changes.pods import failed_pods
from guardrails.changes.scaling import KUEUE_QUEUE
from guardrails.facts import UNKNOWN, Replicas
from guardrails.gang import BATCH, gang_of, loses_work, saved, started
from guardrails.manifest import budgets_over, condition_of, controller, is_ready, ready_pods, uid_of, wanted_pods
from guardrails.port import Observed

# Labels by which clouds and autoscalers name a node group.
_POOLS = (
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
    "agentpool",
    "node.cluster.x-k8s.io/deployment-name",
    "nvidia.com/gpu.product",
)
_GITOPS_ANNOTATIONS = ("argocd.argoproj.io/tracking-id",)
_GITOPS_LABELS = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name", "argocd.argoproj.io/instance", KUEUE_QUEUE)
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class Work(Struct, frozen=True):
    """What runs towards an end and would be stopped: so many accelerators, since then."""

    accelerators: int
    since: datetime


class Risk(Struct, frozen=True):
    """Numbers and marks of one change. `UNKNOWN` where a number means nothing for it or cannot be told.

    `pool_disrupted` and `pool_share_percent` count other nodes of the pool that are cordoned or not ready. `serving_after` is how many
    pods of the workload serve right after it, `disruptions_allowed` the least headroom of a budget over the pods concerned,
    `namespaces` where those pods live besides the target's own namespace. `work` is the batch work that stops, `saved_at` when it says
    that it was saved last.
    """

    pods_affected: int = 0
    gpus: int = 0
    uses_gpu: bool = False
    pool: str = ""
    pool_disrupted: int = 0
    pool_share_percent: int = 0
    control_plane: bool = False
    controlled: bool = False
    serving_after: int = UNKNOWN
    disruptions_allowed: int = UNKNOWN
    namespaces: tuple[str, ...] = ()
    replicas: Replicas | None = None
    work: tuple[Work, ...] = ()
    saved_at: datetime | None = None


def assess(action: Action, observed: Observed) -> Risk:
    """What an action on this object puts at stake."""
    if observed.target.kind == "Node":
        return _node(action, observed)
    if isinstance(action, DeleteFailedPods):
        return Risk(pods_affected=len(failed_pods(action, observed)))
    if isinstance(action, EditConfigMapKey):
        return _configuration(observed)
    if isinstance(action, SetReplicaBounds):
        return _bounds(action, observed)
    if observed.target.kind in BATCH:
        return _batch(action, observed.object)
    return _workload(action, observed)


def _node(action: Action, observed: Observed) -> Risk:
    raw = observed.object
    labels = raw["metadata"].get("labels") or {}
    pool, own = pool_of(labels), uid_of(raw)
    others = [n for n in observed.related if n.get("kind") == "Node" and uid_of(n) != own]
    members = [n for n in others if pool and pool_of(n["metadata"].get("labels") or {}) == pool]
    disrupted = sum(_disrupted(n) for n in members)
    gpus = accelerators(raw.get("status", {}).get("capacity") or {})
    moved = drained_pods(observed) if isinstance(action, Drain) else []
    headroom = [budget for pod in moved for budget in _headroom(pod, observed)]
    return Risk(
        pods_affected=len(moved),
        gpus=gpus if isinstance(action, Cordon | Drain | Taint | SetMigProfile) else 0,
        uses_gpu=gpus > 0,
        pool=pool,
        pool_disrupted=disrupted,
        pool_share_percent=100 * disrupted // (len(members) + 1),
        control_plane=any(label in labels for label in _CONTROL_PLANE),
        disruptions_allowed=min(headroom, default=UNKNOWN),
        namespaces=tuple(sorted({pod["metadata"]["namespace"] for pod in moved})),
        work=_work(moved),
    )


def _disrupted(node: dict[str, Any]) -> bool:
    return bool(node.get("spec", {}).get("unschedulable")) or condition_of(node, "Ready") in ("False", "Unknown")


def _headroom(pod: dict[str, Any], observed: Observed) -> list[int]:
    return [int(budget.get("status", {}).get("disruptionsAllowed", 0)) for budget in budgets_over(pod, observed.related)]


def _work(pods: list[dict[str, Any]]) -> tuple[Work, ...]:
    held = ((pod_accelerators(pod), started(pod)) for pod in pods if loses_work(pod))
    return tuple(Work(number, since) for number, since in held if number and since is not None)


def _batch(action: Action, raw: dict[str, Any]) -> Risk:
    """Of a batch workload all its pods go or come together."""
    gang = gang_of(raw)
    stops = isinstance(action, Suspend)
    pods, gpus = gang.pods, gang.accelerators
    if stops and raw.get("kind") == "Job":
        # Those that have finished are not stopped any more.
        running = min(pods, int(raw.get("status", {}).get("active", 0)))
        pods, gpus = running, gpus // pods * running if pods else 0
    since = started(raw) if stops else None
    return Risk(
        pods_affected=pods,
        gpus=gpus,
        uses_gpu=gang.uses_accelerators,
        controlled=_controlled(raw),
        work=(Work(gpus, since),) if gpus and since is not None else (),
        saved_at=saved(raw) if stops else None,
    )


def _configuration(observed: Observed) -> Risk:
    restarted = [raw for raw in observed.related if raw.get("kind") in ("Deployment", "StatefulSet", "DaemonSet")]
    per_pod = [(wanted_pods(raw), pod_accelerators(raw.get("spec", {}).get("template") or {})) for raw in restarted]
    return Risk(
        pods_affected=sum(pods for pods, _ in per_pod),
        gpus=sum(pods * gpus for pods, gpus in per_pod),
        uses_gpu=any(gpus for _, gpus in per_pod),
        controlled=_controlled(observed.object) or any(_controlled(raw) for raw in restarted),
    )


def _bounds(action: SetReplicaBounds, observed: Observed) -> Risk:
    """The pods that must go or come for the workload to be within the new bounds; what it may newly grow to stands in `replicas`.

    The devices are those of all pods that the change makes, or lets be made that nothing let before.
    """
    raw = observed.object
    current = int(raw.get("status", {}).get("currentReplicas", 0))
    allowed = int(raw.get("spec", {}).get("maxReplicas") or 1)
    maximum = action.maximum or allowed
    forced = min(max(current, action.minimum or 0), maximum)
    most = maximum if maximum > allowed else forced
    scaled = next(iter(observed.related), {})
    per_pod = pod_accelerators(scaled.get("spec", {}).get("template") or {})
    return Risk(
        pods_affected=abs(forced - current),
        gpus=per_pod * max(abs(forced - current), most - current),
        uses_gpu=per_pod > 0,
        controlled=_controlled(raw),
        serving_after=min(current, maximum) if current else UNKNOWN,
        replicas=Replicas(current, most),
    )


def _workload(action: Action, observed: Observed) -> Risk:
    raw = observed.object
    spec = raw.get("spec", {})
    one_pod = raw.get("kind") == "Pod"
    template = raw if one_pod else spec.get("template") or {}
    per_pod = pod_accelerators(template)
    replicas = Replicas(wanted_pods(raw), action.replicas) if isinstance(action, Scale) else None
    affected = abs(replicas.before - replicas.after) if replicas else _affected(action, raw)
    return Risk(
        pods_affected=affected,
        gpus=per_pod * affected,
        uses_gpu=per_pod > 0 or bool(template.get("spec", {}).get("resourceClaims")) or raw.get("kind") == "ResourceClaim",
        controlled=_controlled(raw),
        serving_after=_serving_after(action, observed),
        disruptions_allowed=min(_headroom(raw, observed), default=UNKNOWN) if one_pod else UNKNOWN,
        replicas=replicas,
        work=_work([raw]) if isinstance(action, DeletePod | EvictPod) else (),
        saved_at=saved(raw) if one_pod else None,
    )


def _affected(action: Action, raw: dict[str, Any]) -> int:
    """How many pods restart or go away."""
    kind = raw.get("kind")
    if kind == "Pod":
        return 1
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        return 0 if isinstance(action, RolloutPause) else wanted_pods(raw)
    return 0


def _serving_after(action: Action, observed: Observed) -> int:
    """Pods of the workload that still serve right after it; UNKNOWN when none does before it."""
    raw = observed.object
    if isinstance(action, DeletePod | EvictPod):
        owner = controller(raw)
        parent = next((r for r in observed.related if owner and uid_of(r) == owner.get("uid")), None)
        ready = 0 if parent is None or parent.get("kind") == "Job" else ready_pods(parent)
        return ready - int(is_ready(raw)) if ready else UNKNOWN
    if raw.get("kind") not in ("Deployment", "StatefulSet"):
        return UNKNOWN
    ready = ready_pods(raw)
    if not ready:
        return UNKNOWN
    if isinstance(action, Scale):
        return min(ready, action.replicas)
    if raw.get("spec", {}).get("strategy", {}).get("type") == "Recreate" and _affected(action, raw):
        return 0
    return UNKNOWN


def _controlled(raw: dict[str, Any]) -> bool:
    """Whether an operator, a parent workload, a queue or GitOps owns the object and may revert a change of it."""
    if raw.get("kind") in ("Pod", "ResourceClaim"):
        return False
    metadata = raw.get("metadata", {})
    labels, marks = metadata.get("labels") or {}, metadata.get("annotations") or {}
    gitops = any(a in marks for a in _GITOPS_ANNOTATIONS) or any(label in labels for label in _GITOPS_LABELS)
    return gitops or controller(raw) is not None


def pool_of(labels: dict[str, str]) -> str:
    """The node group a node belongs to, empty when no known label names one."""
    return next((f"{label}={labels[label]}" for label in _POOLS if labels.get(label)), "")
