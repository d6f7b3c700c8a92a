"""One key of a ConfigMap, and the restart of the workloads that read it.

The old value is part of what is approved and of its undoing, so values that look like secrets are refused on both sides: what is
approved is kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from guardrails.action import TARGET_RESOURCES, Action, EditConfigMapKey, target
from guardrails.changes.plan import Change, patch, patch_of, restart_body, restarted_at, unseen
from guardrails.errors import Impossible
from guardrails.manifest import uid_of
from guardrails.port import Observed
from guardrails.redact import redact
from guardrails.verification import FieldIs, Query, RolloutComplete
from guardrails.vocabulary import CONFIG_VALUE_MAX


def needs(action: Action, raw: dict[str, Any]) -> tuple[Query, ...]:
    assert isinstance(action, EditConfigMapKey)
    namespace = raw["metadata"].get("namespace")
    split = [name.partition("/") for name in action.restart]
    return tuple(Query(TARGET_RESOURCES[kind], namespace, name) for kind, _, name in split)


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(action, EditConfigMapKey)
    return {f"data[{action.key}]": (raw.get("data") or {}).get(action.key)}


def plan(action: Action, observed: Observed, now: datetime) -> Change:
    assert isinstance(action, EditConfigMapKey)
    on, raw = observed.target, observed.object
    data = raw.get("data") or {}
    if raw.get("immutable"):
        raise Impossible(f"{on} is immutable.", next_step="Its owner makes a new one and points to that.")
    if action.key not in data:
        raise Impossible(f"{on} has no key {action.key}.", next_step=f"It has: {', '.join(sorted(data)[:20]) or 'none'}.")
    before = data[action.key]
    if before == action.value:
        raise Impossible(f"{action.key} of {on} has this value already.")
    if len(before) > CONFIG_VALUE_MAX:
        raise Impossible(f"The present value of {action.key} in {on} is longer than {CONFIG_VALUE_MAX} characters.")
    if redact(before) != before:
        raise Impossible(f"The present value of {action.key} in {on} holds what looks like a secret.", next_step="Edit it by hand.")
    users = [_user(name, observed) for name in action.restart]
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    places = [target(user["kind"], on.namespace, user["metadata"]["name"]) for user in users]
    checks = [
        RolloutComplete(target=place.model_copy(update={"uid": uid_of(user), "generation": user["metadata"].get("generation")}))
        for place, user in zip(places, users, strict=True)
    ]
    restarted = f", then restart {', '.join(action.restart)}" if action.restart else ""
    return Change(
        requests=(
            patch(on, {"data": {action.key: action.value}}),
            *(patch_of(place.resource, user, restart_body(at)) for place, user in zip(places, users, strict=True)),
        ),
        inverse=(
            patch(on, {"data": {action.key: before}}),
            *(patch_of(place.resource, user, restart_body(restarted_at(user))) for place, user in zip(places, users, strict=True)),
        ),
        checks=(FieldIs(target=on, path=("data", action.key), value=action.value, timeout_seconds=30), *checks),
        observed=observed_fields(action, raw),
        summary=f"Set {action.key} of {on}{restarted}",
        notes=() if action.restart else ("Nothing is restarted: who reads it only at its start keeps the old value.",),
    )


def _user(name: str, observed: Observed) -> dict[str, Any]:
    """The workload of that name, which must use the ConfigMap. Raises Impossible."""
    kind, _, wanted = name.partition("/")
    found = next((r for r in observed.related if (r.get("kind"), r["metadata"]["name"]) == (kind, wanted)), None)
    if found is None:
        raise Impossible(f"{name} is not in the namespace of {observed.target}.", next_step=unseen(observed))
    if observed.target.name not in _config_maps(found.get("spec", {}).get("template", {}).get("spec", {})):
        raise Impossible(f"{name} does not use {observed.target}.")
    if found.get("spec", {}).get("paused"):
        raise Impossible(f"{name} is paused, so it would not restart.", next_step="Resume it first.")
    return found


def _config_maps(spec: dict[str, Any]) -> set[str]:
    """Names of the ConfigMaps that a pod of this spec reads."""
    names: set[str] = set()
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        names |= {str(source["configMap"].get("name")) for source in sources if source.get("configMap")}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        names |= {str(source["configMapRef"].get("name")) for source in container.get("envFrom") or () if source.get("configMapRef")}
        values = [variable.get("valueFrom") or {} for variable in container.get("env") or ()]
        names |= {str(value["configMapKeyRef"].get("name")) for value in values if value.get("configMapKeyRef")}
    return names
