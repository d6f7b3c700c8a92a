"""From an action and what was observed to the exact requests, their inverse and the checks. Pure.

A change is planned once, when it is proposed, and approved as planned. Planning refuses with `Impossible` when a precondition does
not hold, instead of leaving it to the cluster to find out. Everything is a merge patch of the difference, a delete or an eviction, so
what a person reads is what is sent; nothing here writes a field that the action does not name. How each family does it is in
`guardrails.changes`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from guardrails.action import (
    Action,
    Cordon,
    DeleteClaim,
    DeleteFailedPods,
    DeletePod,
    Drain,
    EditConfigMapKey,
    EvictPod,
    ExpandVolume,
    SetMigProfile,
    SetResources,
    Taint,
    Uncordon,
    Untaint,
    check_target,
)
from guardrails.changes import configuration, nodes, pods, rollout, scaling, storage
from guardrails.changes.plan import Change, Family
from guardrails.errors import Impossible
from guardrails.manifest import controller, fingerprint, merge_difference, selector
from guardrails.port import Observed
from guardrails.verification import Query
from guardrails.vocabulary import Resume, Scale, SetReplicaBounds, Suspend

__all__ = ["Change", "controller", "fingerprint", "merge_difference", "needs", "observed_fields", "plan_change", "selector"]


def needs(action: Action, target_object: dict[str, Any]) -> tuple[Query, ...]:
    """What planning must see besides the target itself."""
    return _family(action, target_object).needs(action, target_object)


def plan_change(action: Action, observed: Observed, *, now: datetime) -> Change:
    """The change that the action means for this object. Raises InvalidAction for a wrong kind, Impossible for a failed precondition."""
    check_target(action, observed.target)
    if observed.object.get("metadata", {}).get("deletionTimestamp"):
        raise Impossible(f"{observed.target} is being deleted already.")
    return _family(action, observed.object).plan(action, observed, now)


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    """The fields that the argument for an action rests on: what must not change between approval and execution."""
    return _family(action, raw).observed_fields(action, raw)


def _family(action: Action, raw: dict[str, Any]) -> Family:
    if isinstance(action, Cordon | Uncordon | Drain | Taint | Untaint | SetMigProfile):
        return nodes
    if isinstance(action, DeletePod | EvictPod | DeleteFailedPods) or (isinstance(action, SetResources) and raw.get("kind") == "Pod"):
        return pods
    if isinstance(action, Scale | SetReplicaBounds | Suspend | Resume):
        return scaling
    if isinstance(action, ExpandVolume | DeleteClaim):
        return storage
    return configuration if isinstance(action, EditConfigMapKey) else rollout
