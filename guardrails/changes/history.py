"""The pod templates that a workload keeps, and whether the one that it runs works: what going back rests on.

It reads what the controllers keep and says what that is. Whether to go back, and to which revision, is not decided here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from guardrails.gang import moment
from guardrails.manifest import annotations_of, condition_of, controller, ready_pods, wanted_pods
from guardrails.port import Observed
from guardrails.redact import present
from guardrails.verification import RolloutComplete, judge

REVISION = "deployment.kubernetes.io/revision"
HASH_LABEL = "pod-template-hash"
REVISIONS_SHOWN = 5
IMAGES_SHOWN = 3
IMAGE_LIMIT = 120


class Revision(NamedTuple):
    """One kept template. `made` is when its ReplicaSet or ControllerRevision was created; None where that cannot be read."""

    number: int
    template: dict[str, Any]
    made: datetime | None = None


def history_of(observed: Observed) -> list[Revision]:
    """The ReplicaSets or ControllerRevisions that this workload controls, in no order."""
    found: list[Revision] = []
    for raw in observed.related:
        owner = controller(raw)
        if owner is None or owner.get("uid") != observed.target.uid:
            continue
        made = moment(raw.get("metadata", {}).get("creationTimestamp"))
        if raw.get("kind") == "ReplicaSet":
            number = str(annotations_of(raw).get(REVISION, ""))
            if number.isdigit():
                found.append(Revision(int(number), bare_template(raw.get("spec", {}).get("template") or {}), made))
        elif raw.get("kind") == "ControllerRevision" and isinstance(raw.get("data"), dict):
            template = (raw["data"].get("spec") or {}).get("template")
            if template:
                found.append(Revision(int(raw.get("revision", 0)), bare_template(template), made))
    return found


def bare_template(raw: dict[str, Any]) -> dict[str, Any]:
    """A pod template without what the controllers add to their copy of it: hash label, patch directive, nulls."""
    template: dict[str, Any] = _without_nulls(raw)
    template.pop("$patch", None)
    labels = template.get("metadata", {}).get("labels", {})
    labels.pop(HASH_LABEL, None)
    return template


def healthy(observed: Observed) -> str:
    """How one sees that the template in force works: all pods are of it and ready, and a Deployment is available. Empty when one does not.

    Without pods nothing shows that it works.
    """
    raw = observed.object
    wanted = wanted_pods(raw)
    complete = judge(RolloutComplete(target=observed.target), (raw,)).status == "succeeded"
    available = raw.get("kind") != "Deployment" or condition_of(raw, "Available") == "True"
    return f"{ready_pods(raw)} of {wanted} pods have the present template and are ready" if complete and available and wanted else ""


def choices(revisions: list[Revision], now: datetime) -> str:
    """The newest few revisions with their images and ages, for somebody who has to name one."""
    newest = sorted(revisions, key=lambda revision: revision.number, reverse=True)
    said = [f"{number} ({images(template)}{_age(made, now)})" for number, template, made in newest[:REVISIONS_SHOWN]]
    return ", ".join(said) + (f" and {len(newest) - REVISIONS_SHOWN} older" if len(newest) > REVISIONS_SHOWN else "")


def images(template: dict[str, Any]) -> str:
    """The images of a template's containers, at most three, on one line: an API server lets an image have line breaks."""
    named = (str(container.get("image")) for container in template.get("spec", {}).get("containers") or ())
    found = [present(" ".join(image.split()), IMAGE_LIMIT) for image in named]
    more = f" and {len(found) - IMAGES_SHOWN} more" if len(found) > IMAGES_SHOWN else ""
    return ", ".join(found[:IMAGES_SHOWN]) + more or "no image"


def _age(made: datetime | None, now: datetime) -> str:
    """`, 3 days old`; empty where that is not known."""
    if made is None or made > now:
        return ""
    minutes = int((now - made).total_seconds() // 60)
    number, unit = (minutes // 1440, "day") if minutes >= 2880 else (minutes // 60, "hour") if minutes >= 120 else (minutes, "minute")
    return f", {number} {unit}{'' if number == 1 else 's'} old"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
