"""What every family of changes gives back, and the few pieces that they share."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from guardrails.action import Action, Resource, Target
from guardrails.manifest import controller
from guardrails.port import Observed
from guardrails.request import JSON, MERGE_PATCH, ApiRequest
from guardrails.verification import Check, Query

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class Change(BaseModel):
    """What an action means for one observed object.

    `observed` holds the fields that the argument rests on; a different value at execution makes the proposal stale.
    `inverse` is empty when nothing can be sent to undo it, then `reversibility` says whether the owner recreates it; otherwise it has
    one request for each of `requests`, in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: tuple[ApiRequest, ...]
    inverse: tuple[ApiRequest, ...]
    checks: tuple[Check, ...]
    observed: dict[str, Any]
    summary: str
    notes: tuple[str, ...] = ()


class Family(Protocol):
    """A module of this package. `plan` raises Impossible when a precondition does not hold."""

    def needs(self, action: Action, raw: dict[str, Any]) -> tuple[Query, ...]: ...

    def plan(self, action: Action, observed: Observed, now: datetime) -> Change: ...

    def observed_fields(self, action: Action, raw: dict[str, Any]) -> dict[str, Any]: ...


def patch(on: Target, body: dict[str, Any], subresource: str = "") -> ApiRequest:
    """A merge patch of the target."""
    path = f"{on.path}/{subresource}" if subresource else on.path
    return ApiRequest(method="PATCH", path=path, content_type=MERGE_PATCH, body=body)


def patch_of(resource: Resource, raw: dict[str, Any], body: dict[str, Any]) -> ApiRequest:
    """A merge patch of another object than the target, which must still be the one that was seen."""
    metadata = raw["metadata"]
    path = resource.path(metadata.get("namespace"), metadata["name"])
    return ApiRequest(method="PATCH", path=path, content_type=MERGE_PATCH, body=body, uid=metadata["uid"])


def delete(path: str, uid: str | None = None) -> ApiRequest:
    """A delete of the target, or of another object of this uid."""
    return ApiRequest(method="DELETE", path=path, content_type=JSON, body={"apiVersion": "v1", "kind": "DeleteOptions"}, uid=uid)


def evict(path: str, namespace: str | None, name: str, uid: str | None = None) -> ApiRequest:
    """An eviction of the pod at this path."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    return ApiRequest(method="POST", path=f"{path}/eviction", content_type=JSON, body=body, uid=uid)


def restart_body(value: str | None) -> dict[str, Any]:
    """The patch that kubectl's rollout restart sends."""
    return {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: value}}}}}


def restarted_at(raw: dict[str, Any]) -> str | None:
    """The restart annotation of a workload's template as it is."""
    template = raw.get("spec", {}).get("template") or {}
    found = (template.get("metadata", {}).get("annotations") or {}).get(RESTARTED_AT)
    return None if found is None else str(found)


def owner_notes(observed: Observed) -> tuple[str, ...]:
    owner = controller(observed.object)
    return (f"{owner.get('kind')}/{owner.get('name')} controls {observed.target} and may revert this.",) if owner else ()


def unseen(observed: Observed) -> str:
    return f"Could not be read: {'; '.join(observed.missing)[:400]}." if observed.missing else ""
