"""All changes that were asked for in a time, as an auditor samples them: who asked, who agreed, what was sent, how it ended.

Made from the ledger's entries alone, whose density and signatures `audit.verify` proves, so that no change can be missing. It judges
nothing but the one thing auditors ask first: whether somebody agreed to their own request.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from guardrails.ledger import Entry


class ChangeRecord(Struct, frozen=True):
    """One proposal from its first entry to its last. `audit_ids` are the API server's own ids of the requests that were sent; a
    `rehearsal` was asked of a recording, and nothing of it ever is.
    """

    id: str
    entry: int
    requested_at: str
    cluster: str
    action: str
    target: str
    requester: str
    contributors: tuple[str, ...] = ()
    reason: str = ""
    digest: str = ""
    decision: str = ""
    rules: tuple[str, ...] = ()
    bundle: str = ""
    approvers: tuple[str, ...] = ()
    deniers: tuple[str, ...] = ()
    state: str = "proposed"
    executed_at: str = ""
    executed_by: str = ""
    ended_at: str = ""
    requests_sent: int = 0
    audit_ids: tuple[str, ...] = ()
    own_approval: bool = False
    rehearsal: bool = False


COLUMNS = ChangeRecord.__struct_fields__


class Population:
    """Told entry by entry; `changes` are those asked for since the moment given."""

    def __init__(self, since: datetime | None = None) -> None:
        self._since = since
        self._changes: dict[str, ChangeRecord] = {}

    @property
    def changes(self) -> tuple[ChangeRecord, ...]:
        return tuple(self._changes.values())

    def tell(self, entries: Iterable[Entry]) -> None:
        """Add entries in order."""
        for entry in entries:
            if entry.proposal is None:
                continue
            if entry.type == "proposal.created":
                if self._since is None or datetime.fromisoformat(entry.at) >= self._since:
                    self._changes[entry.proposal] = _begin(entry)
            elif entry.proposal in self._changes:
                self._changes[entry.proposal] = _go_on(self._changes[entry.proposal], entry)


def _begin(entry: Entry) -> ChangeRecord:
    body, target = entry.body, entry.body["target"]
    place = f"{target.get('namespace')}/" if target.get("namespace") else ""
    return ChangeRecord(
        id=entry.proposal or "",
        entry=entry.seq,
        requested_at=entry.at,
        cluster=body["cluster"],
        action=body["action"]["action"],
        target=f"{target.get('kind')} {place}{target.get('name')}",
        requester=body["requester"],
        contributors=tuple(body["contributors"]),
        reason=body["reason"],
    )


def _go_on(change: ChangeRecord, entry: Entry) -> ChangeRecord:
    body = entry.body
    if entry.type == "approval.given":
        who = body["approver"]
        if body["verdict"] != "approve":
            return structs.replace(change, deniers=(*change.deniers, who))
        asked = {name.casefold() for name in (change.requester, *change.contributors)}
        return structs.replace(change, approvers=(*change.approvers, who), own_approval=change.own_approval or who.casefold() in asked)
    if entry.type == "proposal.moved":
        return _moved(change, entry)
    if entry.type in ("change.sent", "rollback.sent"):
        found = body["receipt"].get("audit_id")
        return structs.replace(
            change, requests_sent=change.requests_sent + 1, audit_ids=(*change.audit_ids, found) if found else change.audit_ids
        )
    return change


def _moved(change: ChangeRecord, entry: Entry) -> ChangeRecord:
    body = entry.body
    fields: dict[str, Any] = {"state": body["to"], "ended_at": entry.at}
    if "decision" in body:
        decision = body["decision"]
        fields |= {"decision": decision["effect"], "rules": tuple(decision["rules"]), "bundle": decision["bundle"]}
    if body.get("rehearsal") is True:
        fields["rehearsal"] = True
    if "digest" in body:
        fields["digest"] = body["digest"]
    if body["to"] == "executing":
        fields |= {"executed_at": entry.at, "executed_by": body["by"]}
    return structs.replace(change, **fields)
