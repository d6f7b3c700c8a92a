"""Proposals as rows: reading them, and the one way their state changes.

A change of state is a compare-and-swap on state and version with its ledger entry in the same transaction. Whoever lost a race, or
whose lease was taken over, gets Conflict and has changed nothing.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.approval import Approval
from guardrails.blob import Attachment
from guardrails.budget import place_of, stamp
from guardrails.canonical import stored
from guardrails.errors import BadLedger, Conflict, UnknownProposal
from guardrails.ledger import Writing
from guardrails.policy import Requirement, Verdict
from guardrails.proposal import OPEN, Proposal, State, check_transition
from guardrails.store import approvals, keys, proposals


class Draft(Struct, frozen=True):
    """What was asked for, before anything looked at the cluster. `action` and `target` are JSON objects.

    `emergency` is the id of the emergency that the requester invoked, empty in ordinary times.
    """

    action: dict[str, Any]
    target: dict[str, Any]
    reason: str
    channel: str
    evidence: dict[str, Any]
    emergency: str = ""


class Record(Struct, frozen=True):
    """One proposal as it stands. `proposal`, `verdict` and `requirement` are None until it was decided."""

    id: str
    tenant: str
    cluster: str
    action: str
    state: State
    version: int
    digest: str | None
    draft: dict[str, Any]
    proposal: Proposal | None
    verdict: Verdict | None
    requirement: Requirement | None
    dry_run: dict[str, Any]
    requester: str
    contributors: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    reason: str
    outcome: dict[str, Any]
    fence: int
    lease_until: datetime | None
    claimed_at: datetime | None

    @property
    def rehearsal(self) -> bool:
        """Whether it was asked of a recording, which no live cluster takes anything of. Known from the first look at its target on."""
        return self.proposal.rehearsal if self.proposal is not None else self.dry_run.get("rehearsal") is True

    @property
    def sealed(self) -> Proposal:
        """The agreed document; only states after `validating` have it."""
        if self.proposal is None:
            raise Conflict(f"{self.id} was never decided.")
        return self.proposal


async def create(
    writing: Writing,
    record_id: str,
    *,
    tenant: str,
    cluster: str,
    action: str,
    draft: Draft,
    who: tuple[str, ...],
    key: str | None,
    attachments: tuple[Attachment, ...] = (),
) -> None:
    """Insert a proposal in its first state. `who` is the requester, then the contributors; attachments are kept as erasable blobs."""
    at = stamp(writing.now)
    body = {
        "action": draft.action,
        "target": draft.target,
        "reason": draft.reason,
        "channel": draft.channel,
        "evidence": draft.evidence,
    }
    if draft.emergency:
        body["emergency"] = draft.emergency
    await writing.connection.execute(
        insert(proposals).values(
            id=record_id,
            tenant=tenant,
            cluster=cluster,
            action=action,
            state=State.PROPOSED.value,
            version=0,
            draft=stored(body),
            requester=who[0],
            contributors=json.dumps(who[1:]),
            created_at=at,
            updated_at=at,
            reason="",
            fence=0,
            key=key,
        )
    )
    entry = {"cluster": cluster, "requester": who[0], "contributors": list(who[1:]), **body}
    await writing.append("proposal.created", record_id, entry, attachments)


async def move(
    writing: Writing, record: Record, after: State, *, by: str, reason: str = "", body: dict[str, Any] | None = None, **columns: Any
) -> Record:
    """Change the state, with an entry. Raises IllegalTransition, or Conflict when the row is no longer as `record` says."""
    check_transition(record.state, after)
    await _swap(writing, record, state=after.value, reason=reason, **columns)
    entry = {"from": record.state.value, "to": after.value, "version": record.version + 1, "by": by, "reason": reason} | (body or {})
    await writing.append("proposal.moved", record.id, entry)
    return await load(writing.connection, record.id)


async def touch(writing: Writing, record: Record, **columns: Any) -> Record:
    """Change columns but not the state, by the same compare-and-swap and without an entry of its own."""
    await _swap(writing, record, **columns)
    return await load(writing.connection, record.id)


async def _swap(writing: Writing, record: Record, **columns: Any) -> None:
    where = (proposals.c.id == record.id, proposals.c.state == record.state.value, proposals.c.version == record.version)
    values = {"version": record.version + 1, "updated_at": stamp(writing.now), **columns}
    done = await writing.connection.execute(update(proposals).where(*where).values(**values))
    if done.rowcount != 1:
        raise Conflict(f"{record.id} was changed by somebody else in the meantime.", next_step="Look at it again.")


async def load(connection: AsyncConnection, record_id: str) -> Record:
    """One proposal. Raises UnknownProposal."""
    row = (await connection.execute(select(proposals).where(proposals.c.id == record_id))).one_or_none()
    if row is None:
        raise UnknownProposal(f"There is no proposal {record_id[:80]}.", next_step="List them: smokejumper proposals list.")
    return _record(row)


async def find_by_key(connection: AsyncConnection, key: str) -> Record | None:
    """The proposal that was asked for under an idempotency key, if any."""
    also = select(keys.c.proposal).where(keys.c.key == key).scalar_subquery()
    row = (await connection.execute(select(proposals).where(or_(proposals.c.key == key, proposals.c.id == also)))).one_or_none()
    return None if row is None else _record(row)


async def remember_key(connection: AsyncConnection, key: str, record_id: str) -> None:
    """Let a further key stand for a proposal that was there already."""
    await connection.execute(insert(keys).values(key=key, proposal=record_id))


async def open_of(connection: AsyncConnection, *, requester: str, cluster: str, action: str, target: dict[str, Any]) -> tuple[Record, ...]:
    """What somebody has asked for that is pending or approved: this kind of action on this object, newest first."""
    where = (
        proposals.c.requester == requester,
        proposals.c.cluster == cluster,
        proposals.c.action == action,
        proposals.c.state.in_([state.value for state in OPEN]),
    )
    query = select(proposals.c.id, proposals.c.draft).where(*where).order_by(proposals.c.created_at.desc(), proposals.c.id)
    found = [row.id for row in (await connection.execute(query)).all() if place_of(json.loads(row.draft)["target"]) == place_of(target)]
    return tuple([await load(connection, one) for one in found])


async def listing(connection: AsyncConnection, *, states: tuple[State, ...] = (), limit: int = 100) -> tuple[Record, ...]:
    """Proposals, newest first, at most `limit`; all states when none is named."""
    query = select(proposals).order_by(proposals.c.created_at.desc(), proposals.c.id).limit(limit)
    if states:
        query = query.where(proposals.c.state.in_([state.value for state in states]))
    return tuple(_record(row) for row in (await connection.execute(query)).all())


async def clusters(connection: AsyncConnection) -> tuple[str, ...]:
    """Every cluster that anything was ever proposed for, by name."""
    return tuple((await connection.execute(select(proposals.c.cluster).distinct().order_by(proposals.c.cluster))).scalars())


async def approvals_of(connection: AsyncConnection, record_id: str) -> tuple[Approval, ...]:
    """The decisions of people on a proposal, in the order they came."""
    query = select(approvals.c.approval).where(approvals.c.proposal == record_id).order_by(approvals.c.entry)
    return tuple(Approval.model_validate_json(text) for text in (await connection.execute(query)).scalars())


async def witnessed_approvals(writing: Writing, record_id: str) -> tuple[Approval, ...]:
    """The decisions of people, each with its entry in the ledger as witness. Raises BadLedger for one that has none.

    To be called before anything is appended in this transaction.
    """
    query = select(approvals.c.approval, approvals.c.entry).where(approvals.c.proposal == record_id).order_by(approvals.c.entry)
    rows = (await writing.connection.execute(query)).all()
    entries = await writing.witness(tuple(row.entry for row in rows))
    given: list[Approval] = []
    for row in rows:
        approval, entry = Approval.model_validate_json(row.approval), entries.get(row.entry, {})
        said = {key: value for key, value in entry.get("body", {}).items() if key != "groups"}
        if entry.get("type") != "approval.given" or entry.get("proposal") != record_id or said != approval.model_dump(mode="json"):
            raise BadLedger(
                f"An approval of {record_id} by {approval.approver} is not in the ledger.", next_step="smokejumper audit verify"
            )
        given.append(approval)
    return tuple(given)


async def add_approval(writing: Writing, approval: Approval, groups: tuple[str, ...]) -> None:
    """Record a decision with its entry; `groups` are those the person was in."""
    body = approval.model_dump(mode="json")
    seq = await writing.append("approval.given", approval.proposal_id, {**body, "groups": list(groups)})
    await writing.connection.execute(
        insert(approvals).values(proposal=approval.proposal_id, approver=approval.approver.casefold(), approval=stored(approval), entry=seq)
    )


def _record(row: Row[Any]) -> Record:
    def when(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(text)

    return Record(
        id=row.id,
        tenant=row.tenant,
        cluster=row.cluster,
        action=row.action,
        state=State(row.state),
        version=row.version,
        digest=row.digest,
        draft=json.loads(row.draft),
        proposal=None if row.document is None else Proposal.model_validate_json(row.document),
        verdict=None if row.verdict is None else Verdict.model_validate_json(row.verdict),
        requirement=None if row.requirement is None else Requirement.model_validate_json(row.requirement),
        dry_run=json.loads(row.dry_run or "{}"),
        requester=row.requester,
        contributors=tuple(json.loads(row.contributors)),
        created_at=datetime.fromisoformat(row.created_at),
        updated_at=datetime.fromisoformat(row.updated_at),
        expires_at=when(row.expires_at),
        reason=row.reason,
        outcome=json.loads(row.outcome or "{}"),
        fence=row.fence,
        lease_until=when(row.lease_until),
        claimed_at=when(row.claimed_at),
    )
