"""From an action and what was observed to the exact requests, their inverse and the checks. Pure.

A change is planned once, when it is proposed, and approved as planned. Planning refuses with `Impossible` when a precondition does
not hold, instead of leaving it to the cluster to find out. Everything is a merge patch of the difference, so what a person reads is
what is sent; nothing here writes a field that the action does not name.
"""

from __future__ import annotations

import copy
import hashlib
import json
from datetime import UTC, datetime
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
    RolloutRestart,
    RolloutUndo,
    Scale,
    Target,
    Uncordon,
    check_target,
)
from guardrails.errors import Impossible
from guardrails.port import Observed
from guardrails.request import JSON, MERGE_PATCH, ApiRequest
from guardrails.verification import Check, NodeSchedulable, PodReplaced, Query, ReplicasReady, RolloutComplete

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


def plan_change(action: Action, observed: Observed, *, now: datetime) -> Change:
    """The change that the action means for this object. Raises InvalidAction for a wrong kind, Impossible for a failed precondition."""
    check_target(action, observed.target)
    if observed.object.get("metadata", {}).get("deletionTimestamp"):
        raise Impossible(f"{observed.target} is being deleted already.")
    if isinstance(action, RolloutUndo):
        return _undo(action, observed)
    if isinstance(action, RolloutRestart):
        return _restart(observed, now)
    if isinstance(action, Scale):
        return _scale(action, observed)
    if isinstance(action, DeletePod):
        return _delete_pod(observed)
    return _schedulable(observed, wanted=isinstance(action, Uncordon))


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    """The fields that the argument for an action rests on: what must not change between approval and execution."""
    spec = raw.get("spec", {})
    if isinstance(action, Cordon | Uncordon):
        return {"spec.unschedulable": bool(spec.get("unschedulable", False)), "spec.taints": fingerprint(spec.get("taints") or [])}
    if isinstance(action, DeletePod):
        return {"metadata.ownerReferences": fingerprint(raw.get("metadata", {}).get("ownerReferences") or []), "ready": is_ready(raw)}
    fields = {"spec.template": fingerprint(spec.get("template") or {})}
    return fields | ({"spec.replicas": spec.get("replicas", 1)} if isinstance(action, Scale) else {})


def fingerprint(value: Any) -> str:
    """A short name for a value that is too long to show: sha256 over its canonical form."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod's Ready condition is True."""
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in pod.get("status", {}).get("conditions") or ())


def _patch(on: Target, body: dict[str, Any]) -> ApiRequest:
    return ApiRequest(method="PATCH", path=on.path, content_type=MERGE_PATCH, body=body)


def _rollout_can_move(observed: Observed) -> None:
    spec, on = observed.object.get("spec", {}), observed.target
    if spec.get("paused"):
        raise Impossible(f"{on} is paused, so nothing would roll out.", next_step="Resume it first.")
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        raise Impossible(f"{on} has updateStrategy OnDelete: its pods change only when each is deleted.", next_step="Use delete_pod.")
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if partition:
        raise Impossible(f"{on} has rollingUpdate.partition {partition}: a rollout would reach only some pods.")


def _undo(action: RolloutUndo, observed: Observed) -> Change:
    on = observed.target
    _rollout_can_move(observed)
    current = _template(observed.object.get("spec", {}).get("template") or {})
    history = _history(observed)
    now_at = max((revision for revision, template in history if template == current), default=None)
    if action.to_revision is None:
        earlier = [(r, t) for r, t in history if t != current and (now_at is None or r < now_at)]
        if not earlier:
            raise Impossible(f"{on} has no earlier revision to go back to.", next_step=_unseen(observed))
        revision, wanted = max(earlier, key=lambda item: item[0])
    else:
        revision = action.to_revision
        kept = dict(history)
        if revision not in kept:
            raise Impossible(f"{on} keeps no revision {revision}.", next_step=f"Kept: {sorted(kept) or 'none'}. {_unseen(observed)}")
        wanted = kept[revision]
        if wanted == current:
            raise Impossible(f"{on} has the template of revision {revision} already.")
    forward, back = merge_difference(current, wanted), merge_difference(wanted, current)
    return Change(
        requests=(_patch(on, {"spec": {"template": forward}}),),
        inverse=(_patch(on, {"spec": {"template": back}}),),
        checks=(RolloutComplete(target=on),),
        observed=observed_fields(action, observed.object),
        summary=f"Roll {on} back to revision {revision}" + (f" from {now_at}" if now_at else "") + f": {_fields(forward)}",
        notes=_owner_notes(observed),
    )


def _history(observed: Observed) -> list[tuple[int, dict[str, Any]]]:
    """(revision, template) of the ReplicaSets or ControllerRevisions that this workload controls."""
    found: list[tuple[int, dict[str, Any]]] = []
    for raw in observed.related:
        owner = controller(raw)
        if owner is None or owner.get("uid") != observed.target.uid:
            continue
        if raw.get("kind") == "ReplicaSet":
            revision = str(raw.get("metadata", {}).get("annotations", {}).get(REVISION, ""))
            if revision.isdigit():
                found.append((int(revision), _template(raw.get("spec", {}).get("template") or {})))
        elif raw.get("kind") == "ControllerRevision" and isinstance(raw.get("data"), dict):
            template = (raw["data"].get("spec") or {}).get("template")
            if template:
                found.append((int(raw.get("revision", 0)), _template(template)))
    return found


def _template(raw: dict[str, Any]) -> dict[str, Any]:
    """A pod template without what the controllers add to their copy of it: hash label, patch directive, nulls."""
    template: dict[str, Any] = _without_nulls(raw)
    template.pop("$patch", None)
    labels = template.get("metadata", {}).get("labels", {})
    labels.pop(HASH_LABEL, None)
    return template


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _restart(observed: Observed, now: datetime) -> Change:
    on = observed.target
    _rollout_can_move(observed)
    before = ((observed.object.get("spec", {}).get("template") or {}).get("metadata", {}).get("annotations") or {}).get(RESTARTED_AT)

    def body(value: str | None) -> dict[str, Any]:
        return {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: value}}}}}

    return Change(
        requests=(_patch(on, body(now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))),),
        inverse=(_patch(on, body(before)),),
        checks=(RolloutComplete(target=on),),
        observed=observed_fields(RolloutRestart(), observed.object),
        summary=f"Restart all pods of {on}",
        notes=_owner_notes(observed),
    )


def _scale(action: Scale, observed: Observed) -> Change:
    on = observed.target
    for raw in observed.related:
        reference = raw.get("spec", {}).get("scaleTargetRef", {})
        if raw.get("kind") == "HorizontalPodAutoscaler" and (reference.get("kind"), reference.get("name")) == (on.kind, on.name):
            name = raw.get("metadata", {}).get("name")
            raise Impossible(
                f"HorizontalPodAutoscaler/{name} owns the replicas of {on} and would undo this.", next_step="Change its bounds."
            )
    before = observed.object.get("spec", {}).get("replicas", 1)
    if before == action.replicas:
        raise Impossible(f"{on} has {before} replicas already.")
    return Change(
        requests=(_patch(on, {"spec": {"replicas": action.replicas}}),),
        inverse=(_patch(on, {"spec": {"replicas": before}}),),
        checks=(ReplicasReady(target=on, replicas=action.replicas),),
        observed=observed_fields(action, observed.object),
        summary=f"Scale {on} from {before} to {action.replicas} replicas",
        notes=_owner_notes(observed),
    )


def _schedulable(observed: Observed, *, wanted: bool) -> Change:
    on = observed.target
    schedulable = not observed.object.get("spec", {}).get("unschedulable", False)
    if schedulable == wanted:
        raise Impossible(f"{on} is {'schedulable' if schedulable else 'cordoned'} already.")
    # The API server drops the field when it is false; null removes it in a merge patch.
    closed, opened = {"spec": {"unschedulable": True}}, {"spec": {"unschedulable": None}}
    return Change(
        requests=(_patch(on, opened if wanted else closed),),
        inverse=(_patch(on, closed if wanted else opened),),
        checks=(NodeSchedulable(target=on, schedulable=wanted, timeout_seconds=30),),
        observed=observed_fields(Uncordon() if wanted else Cordon(), observed.object),
        summary=f"{'Let pods onto' if wanted else 'Keep new pods off'} {on}",
    )


def _delete_pod(observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    metadata = raw.get("metadata", {})
    owner = controller(raw)
    if "kubernetes.io/config.mirror" in (metadata.get("annotations") or {}):
        raise Impossible(f"{on} is a static pod: the kubelet runs it whatever the API server says.")
    if owner is None or owner.get("kind") not in _RECREATING:
        named = f"only {owner.get('kind')}/{owner.get('name')}" if owner else "no controller"
        raise Impossible(f"{on} has {named} as its controller: nothing that we know recreates it.")
    parent = next((r for r in observed.related if r.get("metadata", {}).get("uid") == owner.get("uid")), None)
    if parent is None:
        raise Impossible(f"The controller of {on}, {owner['kind']}/{owner['name']}, could not be seen.", next_step=_unseen(observed))
    if is_ready(raw):
        for budget in observed.related:
            if budget.get("kind") == "PodDisruptionBudget" and _budget_forbids(budget, metadata.get("labels") or {}):
                raise Impossible(f"PodDisruptionBudget/{budget['metadata']['name']} allows no disruption of {on} now.")
    volumes = raw.get("spec", {}).get("volumes") or ()
    scratch = [v["name"] for v in volumes if "emptyDir" in v or "ephemeral" in v]
    return Change(
        requests=(ApiRequest(method="DELETE", path=on.path, content_type=JSON, body={"apiVersion": "v1", "kind": "DeleteOptions"}),),
        inverse=(),
        checks=(PodReplaced(target=on, owner_kind=owner["kind"], owner_name=owner["name"]),),
        observed=observed_fields(DeletePod(), raw),
        summary=f"Delete {on}; {owner['kind']}/{owner['name']} recreates it",
        notes=(f"The contents of these volumes are lost: {', '.join(scratch[:10])}.",) if scratch else (),
    )


def _budget_forbids(budget: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = (budget.get("spec", {}).get("selector") or {}).get("matchLabels") or {}
    covers = bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())
    return covers and budget.get("status", {}).get("disruptionsAllowed", 0) <= 0


def _owner_notes(observed: Observed) -> tuple[str, ...]:
    owner = controller(observed.object)
    return (f"{owner.get('kind')}/{owner.get('name')} controls {observed.target} and may revert this.",) if owner else ()


def _unseen(observed: Observed) -> str:
    return f"Could not be read: {'; '.join(observed.missing)[:400]}." if observed.missing else ""


def _fields(patch: dict[str, Any], prefix: str = "") -> str:
    """The leaf paths of a patch, at most eight, for a person's first look."""
    paths: list[str] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        else:
            paths.append(path)

    walk(patch, prefix)
    return ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
