"""Changes of pods: delete or evict one, clear away those that failed for good, and resize one in place."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from guardrails.action import DISRUPTION_BUDGET, POD, Action, DeleteFailedPods, DeletePod, EvictPod, Resource, SetResources, Target
from guardrails.changes.plan import Change, delete, evict, patch, unseen
from guardrails.changes.rollout import container_of, with_resources
from guardrails.errors import Impossible
from guardrails.manifest import (
    MIRROR,
    RECREATING,
    annotations_of,
    budgets_over,
    controller,
    fingerprint,
    is_ready,
    ready_pods,
    scratch_volumes,
    uid_of,
    wanted_pods,
)
from guardrails.port import Observed
from guardrails.verification import PodReplaced, PodResized, PodsGone, Query

NAMES_SHOWN = 5


def needs(action: Action, raw: dict[str, Any]) -> tuple[Query, ...]:
    metadata = raw["metadata"]
    if isinstance(action, DeleteFailedPods):
        return (Query(POD, metadata["name"], field_selector="status.phase=Failed"),)
    if isinstance(action, SetResources):
        return ()
    budgets = Query(DISRUPTION_BUDGET, metadata.get("namespace"))
    owner = controller(raw)
    resource: Resource | None = RECREATING.get(owner["kind"]) if owner else None
    return (Query(resource, metadata.get("namespace"), owner["name"]), budgets) if owner and resource else (budgets,)


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    if isinstance(action, DeleteFailedPods):
        return {"status.phase": raw.get("status", {}).get("phase", "Active")}
    if isinstance(action, SetResources):
        return {"resources": fingerprint([c.get("resources") or {} for c in raw.get("spec", {}).get("containers") or ()])}
    return {"metadata.ownerReferences": fingerprint(raw.get("metadata", {}).get("ownerReferences") or []), "ready": is_ready(raw)}


def plan(action: Action, observed: Observed, _now: datetime) -> Change:
    if isinstance(action, DeleteFailedPods):
        return _delete_failed(action, observed)
    if isinstance(action, SetResources):
        return _resize(action, observed)
    return _remove(action, observed)


def _remove(action: Action, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    metadata = raw.get("metadata", {})
    owner, parent = _recreating_owner(observed)
    if is_ready(raw):
        for budget in budgets_over(raw, observed.related):
            if budget.get("status", {}).get("disruptionsAllowed", 0) <= 0:
                raise Impossible(f"PodDisruptionBudget/{budget['metadata']['name']} allows no disruption of {on} now.")
    scratch = scratch_volumes(raw)
    # A pod that served is replaced when as many serve as before; one that did not, only when all do.
    required = min(wanted_pods(parent), ready_pods(parent)) if is_ready(raw) else None
    evicting = isinstance(action, EvictPod)
    return Change(
        requests=(evict(on.path, on.namespace, metadata["name"]) if evicting else delete(on.path),),
        inverse=(),
        checks=(PodReplaced(target=on, owner_kind=owner["kind"], owner_name=owner["name"], ready_required=required),),
        observed=observed_fields(DeletePod(), raw),
        summary=f"{'Evict' if evicting else 'Delete'} {on}; {owner['kind']}/{owner['name']} recreates it",
        notes=(f"The contents of these volumes are lost: {', '.join(scratch[:10])}.",) if scratch else (),
    )


def _recreating_owner(observed: Observed) -> tuple[dict[str, Any], dict[str, Any]]:
    """(owner reference, owner object) of a pod that comes back. Raises Impossible for one that does not."""
    on, raw = observed.target, observed.object
    owner = controller(raw)
    if MIRROR in annotations_of(raw):
        raise Impossible(f"{on} is a static pod: the kubelet runs it whatever the API server says.")
    if owner is None or owner.get("kind") not in RECREATING:
        named = f"only {owner.get('kind')}/{owner.get('name')}" if owner else "no controller"
        raise Impossible(f"{on} has {named} as its controller: nothing that we know recreates it.")
    parent = next((r for r in observed.related if uid_of(r) == owner.get("uid")), None)
    if parent is None:
        raise Impossible(f"The controller of {on}, {owner['kind']}/{owner['name']}, could not be seen.", next_step=unseen(observed))
    return owner, parent


def failed_pods(action: DeleteFailedPods, observed: Observed) -> list[dict[str, Any]]:
    """The pods that the action would delete, oldest first."""
    chosen = []
    for raw in observed.related:
        status, owner = raw.get("status", {}), controller(raw)
        failed = raw.get("kind") == "Pod" and status.get("phase") == "Failed" and not raw["metadata"].get("deletionTimestamp")
        # A Job's failed pods are its own count and its evidence.
        replaced = owner is not None and owner.get("kind") in RECREATING and owner.get("kind") != "Job"
        if failed and replaced and action.reason in (None, status.get("reason")):
            chosen.append(raw)
    return sorted(chosen, key=lambda raw: (str(raw["metadata"].get("creationTimestamp", "")), raw["metadata"]["name"]))[: action.limit]


def _delete_failed(action: DeleteFailedPods, observed: Observed) -> Change:
    on = observed.target
    chosen = failed_pods(action, observed)
    if not chosen:
        which = f" with reason {action.reason}" if action.reason else ""
        raise Impossible(f"{on} has no failed pods{which} that a controller has replaced.", next_step=unseen(observed))
    names = [raw["metadata"]["name"] for raw in chosen]
    shown = ", ".join(names[:NAMES_SHOWN]) + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")
    return Change(
        requests=tuple(delete(POD.path(on.name, raw["metadata"]["name"]), uid_of(raw)) for raw in chosen),
        inverse=(),
        checks=(PodsGone(target=on, pods=tuple(uid_of(raw) for raw in chosen)),),
        observed=observed_fields(action, observed.object),
        summary=f"Delete {len(chosen)} failed pods of {on}: {shown}",
        notes=("Their logs and exit codes go with them.",),
    )


def _resize(action: SetResources, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    spec, status = raw.get("spec", {}), raw.get("status", {})
    _can_resize(on, raw)
    field, index = container_of(spec, action.container, str(on))
    container = spec[field][index]
    if field == "initContainers" and container.get("restartPolicy") != "Always":
        raise Impossible(f"{action.container} of {on} is an init container, which has run already.")
    wanted = with_resources(container, action, str(on))
    containers = copy.deepcopy(spec[field])
    containers[index] = wanted
    running: dict[str, Any] = next((c for c in status.get("containerStatuses") or () if c.get("name") == action.container), {})
    restarting = [p["resourceName"] for p in container.get("resizePolicy") or () if p.get("restartPolicy") == "RestartContainer"]
    touched = sorted({*action.requests, *action.limits} & set(restarting))
    return Change(
        requests=(patch(on, {"spec": {field: containers}}, "resize"),),
        inverse=(patch(on, {"spec": {field: spec[field]}}, "resize"),),
        checks=(
            PodResized(
                target=on,
                container=action.container,
                requests=action.requests,
                limits=action.limits,
                restarts_before=None if touched else int(running.get("restartCount", 0)),
            ),
        ),
        observed=observed_fields(action, raw),
        summary=f"Resize container {action.container} of {on} in place",
        notes=(f"Its resizePolicy restarts the container for {', '.join(touched)}.",) if touched else (),
    )


def _can_resize(on: Target, raw: dict[str, Any]) -> None:
    if MIRROR in annotations_of(raw):
        raise Impossible(f"{on} is a static pod: the kubelet runs it whatever the API server says.")
    if raw.get("status", {}).get("phase") not in ("Pending", "Running"):
        raise Impossible(f"{on} has ended, so there is nothing to resize.")
    if (raw.get("spec", {}).get("os") or {}).get("name") == "windows":
        raise Impossible(f"{on} runs on Windows, where pods cannot be resized.")
