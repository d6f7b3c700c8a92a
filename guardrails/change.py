"""From an action and what was observed to the exact requests, their inverse and the checks. Pure.

A change is planned once, when it is proposed, and approved as planned. Planning refuses with `Impossible` when a precondition does
not hold, instead of leaving it to the cluster to find out. Everything is a merge patch of the difference, so what a person reads is
what is sent; nothing here writes a field that the action does not name.
"""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel, ConfigDict

from guardrails.action import (
    AUTOSCALER,
    CONTROLLER_REVISION,
    DISRUPTION_BUDGET,
    JOB,
    NODE,
    REPLICA_SET,
    TARGET_RESOURCES,
    Action,
    Cordon,
    DeletePod,
    Resource,
    RolloutUndo,
    Scale,
)
from guardrails.request import ApiRequest
from guardrails.verification import Check, Query

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
REVISION = "deployment.kubernetes.io/revision"
HASH_LABEL = "pod-template-hash"

# A pod whose controller is one of these comes back; others are somebody's own bookkeeping.
_RECREATING: dict[str, Resource] = {r.kind: r for r in (*TARGET_RESOURCES.values(), REPLICA_SET, JOB)}


class Change(BaseModel):
    """What an action means for one observed object.

    `observed` holds the fields that the argument rests on; a different value at execution makes the proposal stale.
    `inverse` is empty when nothing can be sent to undo it, then `reversibility` says whether the owner recreates it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: tuple[ApiRequest, ...]
    inverse: tuple[ApiRequest, ...]
    checks: tuple[Check, ...]
    observed: dict[str, Any]
    summary: str
    notes: tuple[str, ...] = ()


def needs(action: Action, target_object: dict[str, Any]) -> tuple[Query, ...]:
    """What planning must see besides the target itself."""
    metadata = target_object.get("metadata", {})
    namespace = metadata.get("namespace")
    if isinstance(action, RolloutUndo):
        history = REPLICA_SET if target_object.get("kind") == "Deployment" else CONTROLLER_REVISION
        return (Query(history, namespace, label_selector=selector(target_object.get("spec", {}).get("selector") or {})),)
    if isinstance(action, Scale):
        return (Query(AUTOSCALER, namespace),)
    if isinstance(action, Cordon):
        return (Query(NODE, field_selector="spec.unschedulable=true"),)
    if isinstance(action, DeletePod):
        budgets = Query(DISRUPTION_BUDGET, namespace)
        owner = controller(target_object)
        resource = _RECREATING.get(owner["kind"]) if owner else None
        return (Query(resource, namespace, owner["name"]), budgets) if owner and resource else (budgets,)
    return ()


def selector(label_selector: dict[str, Any]) -> str:
    """A LabelSelector object in the form of the `labelSelector` query parameter."""
    parts = [f"{key}={value}" for key, value in sorted((label_selector.get("matchLabels") or {}).items())]
    for expression in label_selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(expression.get("values") or ())
        operator = expression["operator"]
        parts.append({"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(operator, f"!{key}"))
    return ",".join(parts)


def controller(raw: dict[str, Any]) -> dict[str, Any] | None:
    """The owner reference of the controller of an object, if it has one."""
    return next((o for o in raw.get("metadata", {}).get("ownerReferences") or () if o.get("controller")), None)


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
