"""Changes of what pods hold: a larger volume, and a device claim that nobody uses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from guardrails.action import POD, Action, ExpandVolume
from guardrails.changes.plan import Change, delete, patch, unseen
from guardrails.errors import Impossible
from guardrails.manifest import annotations_of, controller, fingerprint, uid_of
from guardrails.port import Observed
from guardrails.quantity import amount, observed_amount
from guardrails.target import STORAGE_CLASS
from guardrails.verification import ObjectGone, Query, VolumeExpanded

# Set by the resource claim controller on claims that it made from a template (resource.k8s.io/v1, PodResourceClaimAnnotation).
TEMPLATE_MADE = "resource.kubernetes.io/pod-claim-name"


def needs(action: Action, raw: dict[str, Any]) -> tuple[Query, ...]:
    if isinstance(action, ExpandVolume):
        name = raw.get("spec", {}).get("storageClassName")
        return (Query(STORAGE_CLASS, None, name),) if name else ()
    owner = controller(raw)
    return (Query(POD, raw["metadata"].get("namespace"), owner["name"]),) if owner and owner.get("kind") == "Pod" else ()


def observed_fields(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    if isinstance(action, ExpandVolume):
        return {"spec.resources.requests.storage": _requested(raw), "status.phase": raw.get("status", {}).get("phase")}
    return {"status.reservedFor": fingerprint(raw.get("status", {}).get("reservedFor") or [])}


def plan(action: Action, observed: Observed, _now: datetime) -> Change:
    return _expand(action, observed) if isinstance(action, ExpandVolume) else _delete_claim(action, observed)


def _requested(raw: dict[str, Any]) -> Any:
    return (raw.get("spec", {}).get("resources", {}).get("requests") or {}).get("storage")


def _expand(action: ExpandVolume, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    if raw.get("status", {}).get("phase") != "Bound":
        raise Impossible(f"{on} is not bound, so there is no volume to make larger.")
    before, wanted = observed_amount(_requested(raw)), amount(action.size)
    if before is None or wanted is None:
        raise Impossible(f"The present size of {on}, {_requested(raw)}, cannot be compared with {action.size}.")
    if wanted <= before:
        raise Impossible(f"{on} asks for {_requested(raw)} already, and a volume never shrinks.")
    name = raw.get("spec", {}).get("storageClassName")
    storage_class = next((r for r in observed.related if r.get("kind") == "StorageClass" and r["metadata"]["name"] == name), None)
    if storage_class is None:
        raise Impossible(f"The storage class of {on}, {name or '(none)'}, could not be seen.", next_step=unseen(observed))
    if storage_class.get("allowVolumeExpansion") is not True:
        raise Impossible(f"StorageClass/{name} does not allow expansion.", next_step="Its owner must set allowVolumeExpansion.")
    return Change(
        requests=(patch(on, {"spec": {"resources": {"requests": {"storage": action.size}}}}),),
        inverse=(),
        checks=(VolumeExpanded(target=on, size=action.size, timeout_seconds=900),),
        observed=observed_fields(action, raw),
        summary=f"Expand {on} from {_requested(raw)} to {action.size}",
        notes=("It cannot be made smaller again.",),
    )


def _delete_claim(action: Action, observed: Observed) -> Change:
    on, raw = observed.target, observed.object
    owner = controller(raw)
    if TEMPLATE_MADE not in annotations_of(raw) or owner is None or owner.get("kind") != "Pod":
        raise Impossible(f"{on} was not made from a template for a pod: somebody made it, and only they know what it is for.")
    reserved = raw.get("status", {}).get("reservedFor") or ()
    if reserved:
        names = ", ".join(str(consumer.get("name")) for consumer in reserved[:5])
        raise Impossible(f"{on} is reserved for {names}.", next_step="It goes when they do.")
    pod = next((r for r in observed.related if uid_of(r) == owner.get("uid")), None)
    if pod is None and observed.missing:
        raise Impossible(f"The pod of {on}, {owner.get('name')}, could not be seen.", next_step=unseen(observed))
    if pod is not None and pod.get("status", {}).get("phase") == "Running":
        raise Impossible(f"The pod of {on}, {owner.get('name')}, runs.")
    after = f"its controller makes a new one for Pod/{owner.get('name')}" if pod is not None else "the pod it was for is gone"
    return Change(
        requests=(delete(on.path),),
        inverse=(),
        checks=(ObjectGone(target=on, timeout_seconds=120),),
        observed=observed_fields(action, raw),
        summary=f"Delete {on}, which nobody has reserved; {after}",
    )
