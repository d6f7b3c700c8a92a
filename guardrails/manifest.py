"""Reading raw Kubernetes objects: owners, selectors, conditions, and merge patches over them. Pure, and of no kind in particular."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from guardrails.target import DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET, Resource

MIRROR = "kubernetes.io/config.mirror"
# A pod whose controller is one of these comes back; others are somebody's own bookkeeping.
RECREATING: dict[str, Resource] = {r.kind: r for r in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET, REPLICA_SET, JOB)}


def controller(raw: dict[str, Any]) -> dict[str, Any] | None:
    """The owner reference of the controller of an object, if it has one."""
    return next((o for o in raw.get("metadata", {}).get("ownerReferences") or () if o.get("controller")), None)


def uid_of(raw: dict[str, Any]) -> str:
    return str(raw.get("metadata", {}).get("uid", ""))


def annotations_of(raw: dict[str, Any]) -> dict[str, str]:
    return raw.get("metadata", {}).get("annotations") or {}


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod's Ready condition is True."""
    return condition_of(pod, "Ready") == "True"


def condition_of(raw: dict[str, Any], kind: str) -> str:
    """The status of a condition, empty when the object has none of that type."""
    return next((str(c.get("status")) for c in raw.get("status", {}).get("conditions") or () if c.get("type") == kind), "")


def selector(label_selector: dict[str, Any]) -> str:
    """A LabelSelector object in the form of the `labelSelector` query parameter."""
    parts = [f"{key}={value}" for key, value in sorted((label_selector.get("matchLabels") or {}).items())]
    for expression in label_selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(expression.get("values") or ())
        operator = expression["operator"]
        parts.append({"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(operator, f"!{key}"))
    return ",".join(parts)


def selects(label_selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector matches. None matches nothing, an empty one everything (apimachinery LabelSelectorAsSelector)."""
    if label_selector is None:
        return False
    if any(labels.get(key) != value for key, value in (label_selector.get("matchLabels") or {}).items()):
        return False
    for expression in label_selector.get("matchExpressions") or ():
        key, values, operator = expression["key"], expression.get("values") or (), expression["operator"]
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(operator, False)
        if not holds:
            return False
    return True


def budgets_over(pod: dict[str, Any], related: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The PodDisruptionBudgets among the objects that cover the pod."""
    metadata = pod.get("metadata", {})
    return [
        budget
        for budget in related
        if budget.get("kind") == "PodDisruptionBudget"
        and budget.get("metadata", {}).get("namespace") == metadata.get("namespace")
        and selects(budget.get("spec", {}).get("selector"), metadata.get("labels") or {})
    ]


def wanted_pods(workload: dict[str, Any]) -> int:
    """How many pods a workload wants to be ready."""
    if workload.get("kind") == "DaemonSet":
        return int(workload.get("status", {}).get("desiredNumberScheduled", 0))
    if workload.get("kind") == "Job":
        spec = workload.get("spec", {})
        return min(int(spec.get("parallelism", 1)), int(spec.get("completions") or spec.get("parallelism", 1)))
    replicas = workload.get("spec", {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def ready_pods(workload: dict[str, Any]) -> int:
    """How many of a workload's pods are ready; of a Job, ready or done."""
    status = workload.get("status", {})
    if workload.get("kind") == "DaemonSet":
        return int(status.get("numberReady", 0))
    if workload.get("kind") == "Job":
        return int(status.get("ready", 0)) + int(status.get("succeeded", 0))
    return int(status.get("readyReplicas", 0))


def scratch_volumes(pod: dict[str, Any]) -> list[str]:
    """Names of the volumes whose contents go with the pod."""
    return [v["name"] for v in pod.get("spec", {}).get("volumes") or () if "emptyDir" in v or "ephemeral" in v]


def fingerprint(value: Any) -> str:
    """A short name for a value that is too long to show: sha256 over its canonical form."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def merge_difference(before: Any, after: Any) -> Any:
    """The RFC 7386 merge patch that turns `before` into `after`. Lists are replaced whole; nulls in `after` count as absent."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return copy.deepcopy(after)
    patch: dict[str, Any] = {key: None for key in before if before[key] is not None and after.get(key) is None}
    for key, value in after.items():
        if value is None or before.get(key) == value:
            continue
        patch[key] = merge_difference(before[key], value) if isinstance(before.get(key), dict) else copy.deepcopy(value)
    return patch


def merged(raw: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The object as the RFC 7386 merge patch leaves it; the object itself stays as it is."""
    after = dict(raw)
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        elif isinstance(value, dict):
            inner = after.get(key)
            after[key] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            after[key] = copy.deepcopy(value)
    return after


def holds(raw: dict[str, Any], patch: dict[str, Any]) -> bool:
    """Whether the object is already as the merge patch would leave it."""
    for key, value in patch.items():
        found = raw.get(key)
        if isinstance(value, dict):
            if not holds(found if isinstance(found, dict) else {}, value):
                return False
        elif found != value:
            return False
    return True


def leaf_paths(patch: dict[str, Any]) -> str:
    """The leaf paths of a patch, at most eight, for a person's first look."""
    paths: list[str] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        else:
            paths.append(path)

    walk(patch, "")
    return ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
