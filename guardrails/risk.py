"""What is at stake, read from typed fields of the objects. Pure: no counters, no clock, no opinion.

The policy reads these numbers; this module sets none of its limits.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from guardrails.action import Action, Cordon, DeletePod, RolloutRestart, RolloutUndo, Scale
from guardrails.change import controller
from guardrails.facts import Replicas
from guardrails.port import Observed

# Extended resources that stand for an accelerator, by vendor's device plugin.
_ACCELERATORS = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/", "habana.ai/gaudi", "google.com/tpu", "aws.amazon.com/neuron")
_MIG = "nvidia.com/mig-"
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
_GITOPS_LABELS = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name", "argocd.argoproj.io/instance")
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class Risk(Struct, frozen=True):
    """Numbers and marks of one change."""

    pods_affected: int = 0
    gpus: int = 0
    uses_gpu: bool = False
    pool: str = ""
    pool_disrupted: int = 0
    control_plane: bool = False
    controlled: bool = False
    replicas: Replicas | None = None


def assess(action: Action, observed: Observed) -> Risk:
    """What an action on this object puts at stake."""
    raw = observed.object
    metadata, spec = raw.get("metadata", {}), raw.get("spec", {})
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if raw.get("kind") == "Node":
        pool = pool_of(labels)
        others = (n for n in observed.related if n.get("kind") == "Node" and n.get("metadata", {}).get("uid") != metadata.get("uid"))
        disrupted = sum(
            1 for n in others if pool and pool_of(n["metadata"].get("labels") or {}) == pool and n.get("spec", {}).get("unschedulable")
        )
        gpus = accelerators(raw.get("status", {}).get("capacity") or {})
        return Risk(
            gpus=gpus if isinstance(action, Cordon) else 0,
            uses_gpu=gpus > 0,
            pool=pool,
            pool_disrupted=disrupted,
            control_plane=any(label in labels for label in _CONTROL_PLANE),
        )
    template = raw if raw.get("kind") == "Pod" else spec.get("template") or {}
    per_pod = sum(accelerators((c.get("resources") or {}).get("limits") or {}) for c in template.get("spec", {}).get("containers") or ())
    claims = bool(template.get("spec", {}).get("resourceClaims"))
    now = _replicas(raw)
    replicas = Replicas(now, action.replicas) if isinstance(action, Scale) else None
    if isinstance(action, RolloutUndo | RolloutRestart):
        affected = now
    elif isinstance(action, DeletePod):
        affected = 1
    else:
        affected = abs(replicas.before - replicas.after) if replicas else 0
    gitops = any(a in annotations for a in _GITOPS_ANNOTATIONS) or any(label in labels for label in _GITOPS_LABELS)
    return Risk(
        pods_affected=affected,
        gpus=per_pod * affected,
        uses_gpu=per_pod > 0 or claims,
        controlled=gitops or (raw.get("kind") != "Pod" and controller(raw) is not None),
        replicas=replicas,
    )


def pool_of(labels: dict[str, str]) -> str:
    """The node group a node belongs to, empty when no known label names one."""
    return next((f"{label}={labels[label]}" for label in _POOLS if labels.get(label)), "")


def accelerators(resources: dict[str, Any]) -> int:
    """How many accelerators a list of resources holds. A MIG slice counts as one: it is held as exclusively."""
    total = 0
    for name, amount in resources.items():
        if (name.startswith(_ACCELERATORS) or name.startswith(_MIG)) and str(amount).isdigit():
            total += int(amount)
    return total


def _replicas(raw: dict[str, Any]) -> int:
    if raw.get("kind") == "DaemonSet":
        return int(raw.get("status", {}).get("desiredNumberScheduled", 0))
    replicas = raw.get("spec", {}).get("replicas")
    return 1 if replicas is None else int(replicas)
