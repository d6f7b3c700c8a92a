"""Changes of a workload's pod template and of whether it rolls out: undo, restart, pause, resume, image, resources."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from guardrails.action import (
    CONTROLLER_REVISION,
    REPLICA_SET,
    Action,
    RolloutPause,
    RolloutRestart,
    RolloutResume,
    RolloutUndo,
    SetImage,
    SetResources,
)
from guardrails.changes.history import Revision, bare_template, choices, healthy, history_of, images
from guardrails.changes.plan import Change, owner_notes, patch, restart_body, restarted_at, unseen
from guardrails.errors import Impossible
from guardrails.manifest import fingerprint, leaf_paths, merge_difference, selector
from guardrails.port import Observed
from guardrails.quantity import observed_amount
from guardrails.verification import FieldIs, Query, RolloutComplete


def needs(action: Action, raw: dict[str, Any]) -> tuple[Query, ...]:
    if not isinstance(action, RolloutUndo | SetImage):
        return ()
    history = REPLICA_SET if raw.get("kind") == "Deployment" else CONTROLLER_REVISION
    return (Query(history, raw["metadata"].get("namespace"), label_selector=selector(raw.get("spec", {}).get("selector") or {})),)


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    spec = raw.get("spec", {})
    fields: dict[str, Any] = {"spec.template": fingerprint(spec.get("template") or {})}
    return fields | ({"spec.paused": bool(spec.get("paused"))} if isinstance(action, RolloutPause | RolloutResume) else {})


def plan(action: Action, observed: Observed, now: datetime) -> Change:
    if isinstance(action, RolloutUndo):
        return _undo(action, observed, now)
    if isinstance(action, RolloutRestart):
        return _restart(action, observed, now)
    if isinstance(action, SetImage):
        return _set_image(action, observed)
    if isinstance(action, SetResources):
        return _set_resources(action, observed)
    return _pause(action, observed, paused=isinstance(action, RolloutPause))


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


def _undo(action: RolloutUndo, observed: Observed, now: datetime) -> Change:
    on = observed.target
    _rollout_can_move(observed)
    current = bare_template(observed.object.get("spec", {}).get("template") or {})
    history = history_of(observed)
    now_at = max((revision.number for revision in history if revision.template == current), default=None)
    if action.to_revision is None:
        chosen = _earlier(observed, [revision for revision in history if revision.template != current], now_at, now)
    else:
        kept = {revision.number: revision for revision in history}
        if action.to_revision not in kept:
            known = f"Kept: {sorted(kept) or 'none'}. {unseen(observed)}"
            raise Impossible(f"{on} keeps no revision {action.to_revision}.", next_step=known)
        chosen = kept[action.to_revision]
        if chosen.template == current:
            raise Impossible(f"{on} has the template of revision {chosen.number} already.")
    before, after = images(current), images(chosen.template)
    shown = f"{after} again" if before == after else f"{after} instead of {before}"
    summary = f"Roll {on} back to revision {chosen.number}" + (f" from {now_at}" if now_at else "") + f" ({shown})"
    paths = leaf_paths(merge_difference(current, chosen.template))
    return _template_change(action, observed, current, chosen.template, f"{summary}: {paths}")


def _earlier(observed: Observed, others: list[Revision], now_at: int | None, now: datetime) -> Revision:
    """The newest revision before the one in force. Raises Impossible where there is none, and where the one in force works.

    A healthy workload was rolled back or rolled forward already: then the revision before it is the broken one as likely as not.
    """
    on = observed.target
    earlier = [revision for revision in others if now_at is None or revision.number < now_at]
    if not earlier:
        raise Impossible(f"{on} has no earlier revision to go back to.", next_step=unseen(observed))
    works = healthy(observed)
    if works:
        raise Impossible(
            f"{on} is healthy{f' at revision {now_at}' if now_at else ''}: {works}. An earlier revision may be the broken one.",
            next_step=f"Name the one to go back to as to_revision: {choices(others, now)}. {unseen(observed)}".strip(),
        )
    return max(earlier, key=lambda revision: revision.number)


def _template_change(action: Action, observed: Observed, current: dict[str, Any], wanted: dict[str, Any], summary: str) -> Change:
    on = observed.target
    return Change(
        requests=(patch(on, {"spec": {"template": merge_difference(current, wanted)}}),),
        inverse=(patch(on, {"spec": {"template": merge_difference(wanted, current)}}),),
        checks=(RolloutComplete(target=on),),
        observed=observed_fields(action, observed.object),
        summary=summary,
        notes=owner_notes(observed),
    )


def _restart(action: RolloutRestart, observed: Observed, now: datetime) -> Change:
    on = observed.target
    _rollout_can_move(observed)
    return Change(
        requests=(patch(on, restart_body(now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))),),
        inverse=(patch(on, restart_body(restarted_at(observed.object))),),
        checks=(RolloutComplete(target=on),),
        observed=observed_fields(action, observed.object),
        summary=f"Restart all pods of {on}",
        notes=owner_notes(observed),
    )


def _pause(action: Action, observed: Observed, *, paused: bool) -> Change:
    on = observed.target
    if bool(observed.object.get("spec", {}).get("paused")) == paused:
        raise Impossible(f"{on} is {'paused' if paused else 'not paused'} already.")
    # The API server drops the field when it is false; null removes it in a merge patch.
    stopped, moving = {"spec": {"paused": True}}, {"spec": {"paused": None}}
    seen = FieldIs(target=on, path=("spec", "paused"), value=paused or None, timeout_seconds=30)
    return Change(
        requests=(patch(on, stopped if paused else moving),),
        inverse=(patch(on, moving if paused else stopped),),
        checks=(seen,) if paused else (seen, RolloutComplete(target=on)),
        observed=observed_fields(action, observed.object),
        summary=f"{'Pause' if paused else 'Resume'} the rollout of {on}",
        notes=owner_notes(observed),
    )


def container_of(spec: dict[str, Any], name: str, where: str) -> tuple[str, int]:
    """(the list that holds the container of this name, its place in it). Raises Impossible."""
    names: list[str] = []
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            if container.get("name") == name:
                return field, index
            names.append(str(container.get("name")))
    raise Impossible(f"{where} has no container {name}.", next_step=f"It has: {', '.join(names[:20])}.")


def _set_image(action: SetImage, observed: Observed) -> Change:
    on = observed.target
    _rollout_can_move(observed)
    current = bare_template(observed.object.get("spec", {}).get("template") or {})
    field, index = container_of(current.get("spec", {}), action.container, str(on))
    before = current["spec"][field][index].get("image")
    if before == action.image:
        raise Impossible(f"Container {action.container} of {on} has this image already.")
    ran = {
        container.get("image"): number
        for number, template, _ in sorted(history_of(observed), key=lambda revision: revision.number)
        for container in (*(template.get("spec", {}).get("containers") or ()), *(template.get("spec", {}).get("initContainers") or ()))
        if container.get("name") == action.container
    }
    if action.image not in ran:
        known = ", ".join(str(image) for image in list(ran)[-5:] if image != before)
        raise Impossible(
            f"No kept revision of {on} ran {action.image} in container {action.container}.",
            next_step=f"Ran before: {known or 'none'}. {unseen(observed)}".strip(),
        )
    wanted = copy.deepcopy(current)
    wanted["spec"][field][index]["image"] = action.image
    summary = f"Set the image of {action.container} in {on} to {action.image}, which revision {ran[action.image]} ran"
    return _template_change(action, observed, current, wanted, summary)


def with_resources(container: dict[str, Any], action: SetResources, where: str) -> dict[str, Any]:
    """The container with the wanted amounts. Raises Impossible when a request would exceed its limit, or nothing would change."""
    resources = copy.deepcopy(container.get("resources") or {})
    for field, wanted in (("requests", action.requests), ("limits", action.limits)):
        if wanted:
            resources[field] = {**(resources.get(field) or {}), **wanted}
    for name in ("cpu", "memory"):
        least, most = (observed_amount((resources.get(field) or {}).get(name)) for field in ("requests", "limits"))
        if least is not None and most is not None and least > most:
            raise Impossible(f"Container {action.container} of {where} would request more {name} than its limit allows.")
    if resources == (container.get("resources") or {}):
        raise Impossible(f"Container {action.container} of {where} has these resources already.")
    return {**container, "resources": resources}


def _set_resources(action: SetResources, observed: Observed) -> Change:
    on = observed.target
    _rollout_can_move(observed)
    current = bare_template(observed.object.get("spec", {}).get("template") or {})
    field, index = container_of(current.get("spec", {}), action.container, str(on))
    wanted = copy.deepcopy(current)
    wanted["spec"][field][index] = with_resources(current["spec"][field][index], action, str(on))
    amounts = [f"{name} request {value}" for name, value in action.requests.items()]
    amounts += [f"{name} limit {value}" for name, value in action.limits.items()]
    return _template_change(action, observed, current, wanted, f"Set {', '.join(amounts)} for {action.container} in {on}")
