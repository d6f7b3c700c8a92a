"""Changes of how much a workload runs: replicas, an autoscaler's bounds, and whether a batch workload runs at all."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from guardrails.action import AUTOSCALER, DEPLOYMENT, STATEFUL_SET, Action, Scale, SetReplicaBounds, Suspend
from guardrails.changes.plan import Change, owner_notes, patch
from guardrails.errors import Impossible
from guardrails.manifest import condition_of, controller, fingerprint
from guardrails.port import Observed
from guardrails.verification import FieldIs, Query, ReplicasReady, Suspension, suspension_path

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


def needs(action: Action, raw: dict[str, Any]) -> tuple[Query, ...]:
    namespace = raw["metadata"].get("namespace")
    if isinstance(action, SetReplicaBounds):
        scaled = raw.get("spec", {}).get("scaleTargetRef", {})
        resource = next((item for item in (DEPLOYMENT, STATEFUL_SET) if item.kind == scaled.get("kind")), None)
        return (Query(resource, namespace, scaled.get("name")),) if resource is not None else ()
    return (Query(AUTOSCALER, namespace),) if isinstance(action, Scale) else ()


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    spec = raw.get("spec", {})
    if isinstance(action, Scale):
        return {"spec.template": fingerprint(spec.get("template") or {}), "spec.replicas": spec.get("replicas", 1)}
    if isinstance(action, SetReplicaBounds):
        return {"spec.scaleTargetRef": fingerprint(spec.get("scaleTargetRef") or {}), "bounds": list(_bounds_of(raw))}
    return {"suspended": is_suspended(raw)}


def plan(action: Action, observed: Observed, _now: datetime) -> Change:
    if isinstance(action, SetReplicaBounds):
        return _bounds(action, observed)
    return _scale(action, observed) if isinstance(action, Scale) else _suspend(action, observed)


def _scale(action: Scale, observed: Observed) -> Change:
    on = observed.target
    for raw in observed.related:
        reference = raw.get("spec", {}).get("scaleTargetRef", {})
        if raw.get("kind") == "HorizontalPodAutoscaler" and (reference.get("kind"), reference.get("name")) == (on.kind, on.name):
            name = raw.get("metadata", {}).get("name")
            raise Impossible(
                f"HorizontalPodAutoscaler/{name} owns the replicas of {on} and would undo this.",
                next_step="Change its bounds: set_replica_bounds.",
            )
    before = observed.object.get("spec", {}).get("replicas", 1)
    if before == action.replicas:
        raise Impossible(f"{on} has {before} replicas already.")
    return Change(
        requests=(patch(on, {"spec": {"replicas": action.replicas}}),),
        inverse=(patch(on, {"spec": {"replicas": before}}),),
        checks=(ReplicasReady(target=on, replicas=action.replicas),),
        observed=observed_fields(action, observed.object),
        summary=f"Scale {on} from {before} to {action.replicas} replicas",
        notes=owner_notes(observed),
    )


def _bounds_of(raw: dict[str, Any]) -> tuple[int, int]:
    """Least and most replicas; an autoscaler that names no least has one (autoscaling/v2, spec.minReplicas)."""
    spec = raw.get("spec", {})
    least = spec.get("minReplicas")
    return 1 if least is None else int(least), int(spec.get("maxReplicas") or 1)


def _bounds(action: SetReplicaBounds, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    owner = controller(raw)
    if owner is not None:
        raise Impossible(
            f"{owner.get('kind')}/{owner.get('name')} makes {on} and would set its bounds back.",
            next_step=f"Change the bounds in {owner.get('kind')}/{owner.get('name')}.",
        )
    before = _bounds_of(raw)
    after = (action.minimum or before[0], action.maximum or before[1])
    if after == before:
        raise Impossible(f"{on} has these bounds already.")
    if after[0] > after[1]:
        raise Impossible(f"{on} would have a minimum of {after[0]} and a maximum of {after[1]}.", next_step="Name both bounds.")

    def body(bounds: tuple[int, int]) -> dict[str, Any]:
        named = {"minReplicas": (action.minimum, bounds[0]), "maxReplicas": (action.maximum, bounds[1])}
        return {"spec": {name: value for name, (wanted, value) in named.items() if wanted is not None}}

    return Change(
        requests=(patch(on, body(after)),),
        inverse=(patch(on, body(before)),),
        checks=tuple(FieldIs(target=on, path=("spec", name), value=value) for name, value in body(after)["spec"].items()),
        observed=observed_fields(action, raw),
        summary=f"Let {on} choose between {after[0]} and {after[1]} replicas, before {before[0]} and {before[1]}",
        notes=owner_notes(observed),
    )


def is_suspended(raw: dict[str, Any]) -> bool:
    """Whether the workload's own field says that it shall not run."""
    value: Any = raw
    path = suspension_path(str(raw.get("kind")))
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value is False if path[-1] == "active" else value is True


def _suspend(action: Action, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    wanted = isinstance(action, Suspend)
    if is_suspended(raw) == wanted:
        raise Impossible(f"{on} is {'suspended' if wanted else 'not suspended'} already.")
    if on.kind != "CronJob" and (condition_of(raw, "Complete") == "True" or condition_of(raw, "Failed") == "True"):
        raise Impossible(f"{on} has ended.")
    queue = (raw.get("metadata", {}).get("labels") or {}).get(KUEUE_QUEUE)
    if queue and on.kind != "Workload":
        raise Impossible(
            f"{on} is queued in {queue}: Kueue owns this field and would set it back.", next_step="Suspend or resume its Workload."
        )
    path = suspension_path(on.kind)

    def body(suspended: bool) -> dict[str, Any]:
        document: Any = not suspended if path[-1] == "active" else suspended
        for part in reversed(path):
            document = {part: document}
        return dict(document)

    lost = wanted and on.kind != "CronJob"
    return Change(
        requests=(patch(on, body(wanted)),),
        inverse=(patch(on, body(not wanted)),),
        checks=(Suspension(target=on, suspended=wanted),),
        observed=observed_fields(action, raw),
        summary=f"{'Suspend' if wanted else 'Resume'} {on}",
        notes=(*owner_notes(observed), *(("Its pods go; work since their last checkpoint is lost.",) if lost else ())),
    )
