"""Standing in for somebody: a person lends what their groups let them approve to one other person, until a day.

What is lent is worth no more than in the giver's hands: it ends when they leave the group, it does not count on what they have asked for
or contributed to, and giver and deputy together are one voice. Nothing that was lent is lent on, and an emergency is nobody's to lend.
A loan counts at execution only if the ledger witnesses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.approval import Approval, Tally, same_person, tally
from guardrails.budget import stamp
from guardrails.directory import Person
from guardrails.emergency import GROUP as EMERGENCY_GROUP
from guardrails.errors import BadLedger, Conflict, NotEligible
from guardrails.ledger import Writing
from guardrails.office import Office
from guardrails.policy import Requirement
from guardrails.record import Record
from guardrails.store import delegations, entries

LONGEST = timedelta(days=14)
REASON_MAX = 500
GIVEN = "delegation.given"
ENDED = "delegation.ended"


class Delegation(Struct, frozen=True):
    """One loan: until then `receiver` may approve what members of these groups may. `ended_by` is empty while nobody has ended it."""

    id: str
    giver: str
    receiver: str
    groups: tuple[str, ...]
    reason: str
    at: datetime
    until: datetime
    ended_by: str = ""


async def delegate(
    writing: Writing, new: str, *, giver: Person, receiver: Person, groups: tuple[str, ...], until: datetime, reason: str
) -> Delegation:
    """Lend. Both people are as the directory has them now. Raises NotEligible."""
    if same_person(giver.name, receiver.name):
        raise NotEligible(f"{giver.name} cannot stand in for themselves.")
    foreign = sorted({*groups} - {*giver.groups} | {*groups} & {EMERGENCY_GROUP})
    if not groups or foreign:
        raise NotEligible(f"{giver.name} cannot lend {', '.join(foreign) or 'nothing'}.", next_step=f"Name some of: {_lendable(giver)}.")
    if not writing.now < until <= writing.now + LONGEST:
        raise NotEligible(f"A loan ends in the future, within {LONGEST.days} days.")
    for other in await current(writing.connection, writing.now):
        if same_person(other.giver, giver.name) and {*other.groups} & {*groups}:
            raise NotEligible(
                f"{other.receiver} stands in for {giver.name} until {other.until.isoformat()}, and one voice has one deputy.",
                next_step=f"End it first: smokejumper people end-delegation {other.id}",
            )
    loan = Delegation(new, giver.name, receiver.name, tuple(sorted({*groups})), reason[:REASON_MAX], writing.now, until)
    seq = await writing.append(GIVEN, None, _body(loan))
    values = {"id": new, "giver": loan.giver, "receiver": loan.receiver, "groups": json.dumps(loan.groups), "reason": loan.reason}
    await writing.connection.execute(insert(delegations).values(**values, at=stamp(loan.at), until=stamp(until), ended_by="", entry=seq))
    return loan


async def end(writing: Writing, delegation_id: str, *, by: str) -> None:
    """End a loan before its day; either of the two may. Raises Conflict when there is none (any more), NotEligible for others."""
    row = (await writing.connection.execute(select(delegations).where(delegations.c.id == delegation_id))).one_or_none()
    if row is None or row.ended_by or row.until <= stamp(writing.now):
        raise Conflict(f"No delegation {delegation_id[:80]} is in force.", next_step="List them: smokejumper people delegations.")
    if not (same_person(by, row.giver) or same_person(by, row.receiver)):
        raise NotEligible(f"Only {row.giver} and {row.receiver} may end {delegation_id}.")
    await writing.connection.execute(update(delegations).where(delegations.c.id == delegation_id).values(ended_by=by))
    await writing.append(ENDED, None, {"id": delegation_id, "by": by})


async def current(connection: AsyncConnection, now: datetime) -> tuple[Delegation, ...]:
    """The loans in force, oldest first."""
    return tuple(_delegation(row) for row in await _in_force(connection, now))


async def listing(connection: AsyncConnection, limit: int = 100) -> tuple[Delegation, ...]:
    """Loans, newest first, at most `limit`, also those that are over."""
    query = select(delegations).order_by(delegations.c.at.desc(), delegations.c.id).limit(limit)
    return tuple(_delegation(row) for row in (await connection.execute(query)).all())


async def witnessed(writing: Writing) -> tuple[Delegation, ...]:
    """The loans in force, each with its entry in the ledger as witness. Raises BadLedger for one that has none, or was ended.

    To be called before anything is appended in this transaction.
    """
    rows = await _in_force(writing.connection, writing.now)
    if not rows:
        return ()
    found = await writing.witness(tuple(row.entry for row in rows))
    ended = select(entries.c.entry).where(entries.c.proposal.is_(None), entries.c.type == ENDED)
    over = {json.loads(text)["body"]["id"] for text in (await writing.connection.execute(ended)).scalars().all()}
    for row in rows:
        entry = found.get(row.entry, {})
        if (entry.get("type"), entry.get("body")) != (GIVEN, _body(_delegation(row))) or row.id in over:
            raise BadLedger(f"The delegation {row.id} is not in the ledger.", next_step="smokejumper audit verify")
    return tuple(_delegation(row) for row in rows)


def with_deputies(
    members: Mapping[str, tuple[str, ...]], loans: tuple[Delegation, ...], *, asked: tuple[str, ...], decided: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """The groups of every person with those they stand in for, on a proposal that these people asked for and these approved.

    `members` are the people and their own groups now.
    """
    standing = dict(members)
    for loan in loans:
        if loan.receiver not in members or any(same_person(loan.giver, name) for name in (*asked, *decided)):
            continue
        lent = tuple(group for group in loan.groups if group in members.get(loan.giver, ()))
        standing[loan.receiver] = tuple(dict.fromkeys((*standing[loan.receiver], *lent)))
    return standing


async def standing(
    office: Office, connection: AsyncConnection, record: Record, given: tuple[Approval, ...], loans: tuple[Delegation, ...] | None = None
) -> dict[str, tuple[str, ...]]:
    """The groups that count on this proposal now, given these approvals. `loans` where they are known already."""
    if loans is None:
        loans = await current(connection, office.clock.now())
    decided = tuple(approval.approver for approval in given if approval.verdict == "approve")
    return with_deputies(office.members(), loans, asked=(record.requester, *record.contributors), decided=decided)


async def quorum(
    office: Office,
    connection: AsyncConnection,
    record: Record,
    given: tuple[Approval, ...],
    requirement: Requirement,
    loans: tuple[Delegation, ...] | None = None,
) -> Tally:
    """How a requirement stands with these approvals, by the groups and loans of now."""
    return tally(
        requirement,
        given,
        await standing(office, connection, record, given, loans),
        digest=record.digest or "",
        requester=record.requester,
        contributors=record.contributors,
    )


async def _in_force(connection: AsyncConnection, now: datetime) -> list[Row[Any]]:
    where = (delegations.c.ended_by == "", delegations.c.until > stamp(now), delegations.c.at <= stamp(now))
    return list((await connection.execute(select(delegations).where(*where).order_by(delegations.c.at, delegations.c.id))).all())


def _body(loan: Delegation) -> dict[str, Any]:
    return {
        "id": loan.id,
        "giver": loan.giver,
        "receiver": loan.receiver,
        "groups": list(loan.groups),
        "until": stamp(loan.until),
        "reason": loan.reason,
    }


def _delegation(row: Row[Any]) -> Delegation:
    return Delegation(
        row.id,
        row.giver,
        row.receiver,
        tuple(json.loads(row.groups)),
        row.reason,
        datetime.fromisoformat(row.at),
        datetime.fromisoformat(row.until),
        row.ended_by,
    )


def _lendable(giver: Person) -> str:
    return ", ".join(group for group in giver.groups if group != EMERGENCY_GROUP) or "none, they are in no group"
