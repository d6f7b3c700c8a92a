"""Ledger entries as OCSF events, class API Activity (6003) of schema 1.8.0, for people who collect such things in one place.

One entry becomes one event; what the schema has no place for is in `unmapped`, so nothing is lost. The ledger itself stays the record:
an event proves nothing, and `metadata.uid` and `metadata.sequence` say which entry to prove.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from guardrails.ledger import Entry

SCHEMA_VERSION = "1.8.0"
CATEGORY_APPLICATION = 6
CLASS_API_ACTIVITY = 6003
_CREATE, _UPDATE, _DELETE, _OTHER = 1, 3, 4, 99
_INFORMATIONAL, _MEDIUM = 1, 3
_UNKNOWN, _SUCCESS, _FAILURE = 0, 1, 2
_ACTIVITIES = {
    "proposal.created": _CREATE,
    "proposal.moved": _UPDATE,
    "change.sent": _UPDATE,
    "rollback.sent": _UPDATE,
    "blob.erased": _DELETE,
}
_BAD_ENDS = frozenset({"failed", "unknown", "inconclusive", "rollback_failed", "denied", "rejected", "stale"})
_OUTCOMES = {"applied": _SUCCESS, "refused": _FAILURE, "conflict": _FAILURE, "gone": _FAILURE}
_ACTOR_FIELDS = ("by", "approver", "requester")


def event(entry: Entry, log: str, version: str) -> dict[str, Any]:
    """One entry as one event. `log` is the ledger's tenant, `version` that of this program; times are milliseconds since 1970."""
    body, activity = entry.body, _ACTIVITIES.get(entry.type, _OTHER)
    receipt = body.get("receipt") or {}
    status = _status(entry)
    document: dict[str, Any] = {
        "activity_id": activity,
        "actor": {"user": {"name": next((str(body[name]) for name in _ACTOR_FIELDS if body.get(name)), "smokejumper")}},
        "api": {"operation": entry.type, "service": {"name": "smokejumper"}},
        "category_uid": CATEGORY_APPLICATION,
        "class_uid": CLASS_API_ACTIVITY,
        "metadata": {
            "log_name": log,
            "product": {"name": "Smokejumper", "vendor_name": "The Smokejumper authors", "version": version},
            "sequence": entry.seq,
            "tenant_uid": log,
            "uid": entry.id,
            "version": SCHEMA_VERSION,
        },
        "severity_id": _MEDIUM if status == _FAILURE else _INFORMATIONAL,
        "src_endpoint": {"svc_name": "smokejumper"},
        "status_id": status,
        "time": int(datetime.fromisoformat(entry.at).timestamp() * 1000),
        "type_uid": CLASS_API_ACTIVITY * 100 + activity,
        "unmapped": body,
    }
    if receipt.get("audit_id"):
        # The Audit-ID of the API server: the same request in its own log.
        document["api"]["request"] = {"uid": receipt["audit_id"]}
    if receipt.get("status"):
        document["api"]["response"] = {"code": receipt["status"]}
    if body.get("reason"):
        document["message"] = str(body["reason"])
    if entry.proposal is not None:
        document["resources"] = [{"type": "proposal", "uid": entry.proposal}, *_target(body)]
    return document


def _status(entry: Entry) -> int:
    if entry.type == "proposal.moved":
        return _FAILURE if entry.body.get("to") in _BAD_ENDS else _SUCCESS
    return _OUTCOMES.get((entry.body.get("receipt") or {}).get("outcome", "applied"), _UNKNOWN)


def _target(body: dict[str, Any]) -> list[dict[str, Any]]:
    target = body.get("target")
    if not isinstance(target, dict):
        return []
    found = {"type": target.get("kind"), "name": target.get("name"), "namespace": target.get("namespace"), "uid": target.get("uid")}
    return [{name: value for name, value in found.items() if value is not None}]
