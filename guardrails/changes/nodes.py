"""Changes of nodes: cordon and uncordon, drain, taints, and the MIG profile of their GPUs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from guardrails.accelerator import pod_accelerators
from guardrails.action import (
    DISRUPTION_BUDGET,
    NODE,
    POD,
    Action,
    Cordon,
    Drain,
    SetMigProfile,
    Taint,
    Uncordon,
    Untaint,
)
from guardrails.changes.plan import Change, evict, patch, unseen
from guardrails.errors import Impossible
from guardrails.manifest import MIRROR, annotations_of, controller, fingerprint, scratch_volumes, uid_of
from guardrails.port import Observed
from guardrails.verification import MIG_STATE, MigConfigured, NodeDrained, NodeSchedulable, Query, TaintIs
from guardrails.vocabulary import CONTROLLERS_TAINTS

DRAIN_PODS_MAX = 250
NAMES_SHOWN = 5
# A drain waits for the pods' own grace after the last eviction.
DRAIN_CHECK_SECONDS = 900
MIG_CHECK_SECONDS = 1_800
MIG_CONFIG = "nvidia.com/mig.config"
MIG_CAPABLE = "nvidia.com/mig.capable"


def needs(action: Action, raw: dict[str, Any]) -> tuple[Query, ...]:
    name = raw["metadata"]["name"]
    pods = Query(POD, field_selector=f"spec.nodeName={name}")
    if isinstance(action, Drain):
        return (Query(NODE), pods, Query(DISRUPTION_BUDGET))
    if isinstance(action, SetMigProfile):
        return (Query(NODE), pods)
    return (Query(NODE),) if isinstance(action, Cordon | Taint) else ()


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    spec, taints = raw.get("spec", {}), _taints(raw)
    if not isinstance(action, Taint | Untaint):
        # Those two send the whole list. For the others it must not matter that the controllers mark a node that flaps, or is cordoned.
        taints = [taint for taint in taints if not str(taint.get("key", "")).startswith(CONTROLLERS_TAINTS)]
    fields = {"spec.unschedulable": bool(spec.get("unschedulable", False)), "spec.taints": fingerprint(taints)}
    if isinstance(action, SetMigProfile):
        fields[f"metadata.labels[{MIG_CONFIG}]"] = (raw["metadata"].get("labels") or {}).get(MIG_CONFIG)
    return fields


def plan(action: Action, observed: Observed, _now: datetime) -> Change:
    if isinstance(action, Drain):
        return _drain(action, observed)
    if isinstance(action, Taint):
        return _taint(action, observed)
    if isinstance(action, Untaint):
        return _untaint(action, observed)
    if isinstance(action, SetMigProfile):
        return _mig(action, observed)
    return _schedulable(action, observed, wanted=isinstance(action, Uncordon))


# The API server drops the field when it is false; null removes it in a merge patch.
_CLOSED: dict[str, Any] = {"spec": {"unschedulable": True}}
_OPENED: dict[str, Any] = {"spec": {"unschedulable": None}}


def _schedulable(action: Action, observed: Observed, *, wanted: bool) -> Change:
    on = observed.target
    schedulable = not observed.object.get("spec", {}).get("unschedulable", False)
    if schedulable == wanted:
        raise Impossible(f"{on} is {'schedulable' if schedulable else 'cordoned'} already.")
    return Change(
        requests=(patch(on, _OPENED if wanted else _CLOSED),),
        inverse=(patch(on, _CLOSED if wanted else _OPENED),),
        checks=(NodeSchedulable(target=on, schedulable=wanted, timeout_seconds=30),),
        observed=observed_fields(action, observed.object),
        summary=f"{'Let pods onto' if wanted else 'Keep new pods off'} {on}",
    )


def drained_pods(observed: Observed) -> list[dict[str, Any]]:
    """The pods that a drain moves: all on the node but those of DaemonSets, static ones, finished ones and ones on their way out."""
    found = []
    for raw in observed.related:
        if raw.get("kind") != "Pod" or raw.get("spec", {}).get("nodeName") != observed.target.name:
            continue
        owner = controller(raw)
        stays = MIRROR in annotations_of(raw) or (owner is not None and owner.get("kind") == "DaemonSet")
        over = raw.get("status", {}).get("phase") in ("Succeeded", "Failed") or raw["metadata"].get("deletionTimestamp")
        if not stays and not over:
            found.append(raw)
    return sorted(found, key=lambda raw: (raw["metadata"]["namespace"], raw["metadata"]["name"]))


def _drain(action: Drain, observed: Observed) -> Change:
    on = observed.target
    if observed.missing:
        raise Impossible(f"What runs on {on} could not be read.", next_step=unseen(observed))
    pods = drained_pods(observed)
    open_to_pods = not observed.object.get("spec", {}).get("unschedulable", False)
    if not pods:
        raise Impossible(f"No pod on {on} would have to move.", next_step="Use cordon." if open_to_pods else "")
    if len(pods) > DRAIN_PODS_MAX:
        raise Impossible(f"{on} runs {len(pods)} pods that would have to move, more than {DRAIN_PODS_MAX}.")
    alone = [raw for raw in pods if controller(raw) is None]
    if alone and not action.unmanaged:
        raise Impossible(f"No controller recreates {_names(alone)}.", next_step="Say unmanaged=true if they may go.")
    scratch = [raw for raw in pods if scratch_volumes(raw)]
    if scratch and not action.local_data:
        raise Impossible(f"Data on this node would be lost with {_names(scratch)}.", next_step="Say local_data=true if it may go.")
    evictions = tuple(evict(POD.path(raw["metadata"]["namespace"], raw["metadata"]["name"]), raw["metadata"]["namespace"],
                            raw["metadata"]["name"], uid_of(raw)) for raw in pods)  # fmt: skip
    notes = ["The node stays cordoned afterwards.", f"Waits up to {action.wait_seconds} s for disruption budgets, then stops."]
    notes += [f"Gone for good: {_names(alone)}."] if alone else []
    notes += [f"Data lost with: {_names(scratch)}."] if scratch else []
    return Change(
        requests=((patch(on, _CLOSED),) if open_to_pods else ()) + evictions,
        inverse=(),
        checks=(NodeDrained(target=on, pods=tuple(uid_of(raw) for raw in pods), timeout_seconds=DRAIN_CHECK_SECONDS),),
        observed=observed_fields(action, observed.object),
        summary=f"Move {len(pods)} pods off {on}: {_names(pods)}",
        notes=tuple(notes),
    )


def _names(pods: list[dict[str, Any]]) -> str:
    names = [f"{raw['metadata']['namespace']}/{raw['metadata']['name']}" for raw in pods]
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")


def _taints(raw: dict[str, Any]) -> list[dict[str, Any]]:
    return list(raw.get("spec", {}).get("taints") or ())


def _taint(action: Taint, observed: Observed) -> Change:
    on, before = observed.target, _taints(observed.object)
    found = next((t for t in before if (t.get("key"), t.get("effect")) == (action.key, action.effect)), None)
    new = {"key": action.key, "effect": action.effect} | ({"value": action.value} if action.value else {})
    if found is not None:
        raise Impossible(f"{on} has the taint {action.key} with effect {action.effect} already.")
    return _tainted(action, observed, before, [*before, new], TaintIs(target=on, key=action.key, effect=action.effect, present=True))


def _untaint(action: Untaint, observed: Observed) -> Change:
    on, before = observed.target, _taints(observed.object)
    after = [t for t in before if (t.get("key"), t.get("effect")) != (action.key, action.effect)]
    if after == before:
        raise Impossible(f"{on} has no taint {action.key} with effect {action.effect}.")
    return _tainted(action, observed, before, after, TaintIs(target=on, key=action.key, effect=action.effect, present=False))


def _tainted(
    action: Taint | Untaint, observed: Observed, before: list[dict[str, Any]], after: list[dict[str, Any]], check: TaintIs
) -> Change:
    on = observed.target
    verb = "Taint" if check.present else "Take a taint off"
    return Change(
        requests=(patch(on, {"spec": {"taints": after or None}}),),
        inverse=(patch(on, {"spec": {"taints": before or None}}),),
        checks=(check.model_copy(update={"timeout_seconds": 30}),),
        observed=observed_fields(action, observed.object),
        summary=f"{verb} {on}: {action.key}:{action.effect}",
    )


def _mig(action: SetMigProfile, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    labels = raw["metadata"].get("labels") or {}
    if labels.get(MIG_CAPABLE) != "true":
        raise Impossible(f"{on} does not say that its GPUs can be partitioned ({MIG_CAPABLE}).")
    before = labels.get(MIG_CONFIG)
    if before == action.profile:
        raise Impossible(f"{on} has the MIG profile {action.profile} already.")
    if not raw.get("spec", {}).get("unschedulable", False):
        raise Impossible(f"{on} takes new pods, which would lose their GPUs.", next_step="Cordon it first.")
    if observed.missing:
        raise Impossible(f"What runs on {on} could not be read.", next_step=unseen(observed))
    using = [pod for pod in drained_pods(observed) if pod_accelerators(pod) or pod.get("spec", {}).get("resourceClaims")]
    if using:
        raise Impossible(f"GPUs of {on} are in use by {_names(using)}.", next_step="Drain it first.")

    def body(profile: str | None) -> dict[str, Any]:
        # Without its report on the profile before, which would be taken for one on this profile until the MIG manager wakes up.
        return {"metadata": {"labels": {MIG_CONFIG: profile, MIG_STATE: None}}}

    return Change(
        requests=(patch(on, body(action.profile)),),
        inverse=(patch(on, body(before)),),
        checks=(MigConfigured(target=on, profile=action.profile, timeout_seconds=MIG_CHECK_SECONDS),),
        observed=observed_fields(action, raw),
        summary=f"Partition the GPUs of {on} as {action.profile}" + (f", now {before}" if before else ""),
    )
