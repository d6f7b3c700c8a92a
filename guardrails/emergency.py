"""Breaking the glass: for half an hour one person, proven by their token, needs nobody's approval in one cluster.

It lifts change freezes and approvals and nothing else: what the policy denies stays denied, tenants, protected namespaces and the kill
switch included. It never covers what an agent argues for. Every emergency is an entry of the ledger, and stays open for review until
somebody else has looked at what was done in it. Whose emergency nobody has reviewed within a day leaves the group and declares no other.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.budget import stamp
from guardrails.directory import Directory, Person
from guardrails.errors import Conflict, NotEligible
from guardrails.ledger import Writing
from guardrails.policy import Requirement, Verdict
from guardrails.store import emergencies

GROUP = "break-glass"
LASTS = timedelta(minutes=30)
REVIEW_WITHIN = timedelta(hours=24)
REASON_MIN = 10
REASON_MAX = 500
RULE = "break-glass"


class Emergency(Struct, frozen=True):
    """One emergency. `reviewed_by` is empty until another person has reviewed it."""

    id: str
    person: str
    cluster: str
    reason: str
    at: datetime
    until: datetime
    reviewed_by: str = ""
    review: str = ""

    @property
    def review_due(self) -> datetime:
        return self.at + REVIEW_WITHIN


async def declare(writing: Writing, new: str, *, person: str, groups: tuple[str, ...], cluster: str, reason: str) -> Emergency:
    """Start one. Raises NotEligible for who is not in the group `break-glass`, gives no reason, or has one that nobody reviewed in time."""
    waiting = [one for one in await overdue(writing.connection, writing.now) if one.person.casefold() == person.casefold()]
    if waiting:
        raise NotEligible(
            f"The emergency {waiting[0].id} of {person} should have been reviewed until {waiting[0].review_due.isoformat()}.",
            next_step=f"Somebody else: smokejumper break-glass review {waiting[0].id} --note TEXT",
        )
    if GROUP not in groups:
        raise NotEligible(
            f"{person} is not in the group {GROUP}.", next_step=f"Only its members may: smokejumper people add NAME --group {GROUP}"
        )
    if len(reason.strip()) < REASON_MIN:
        raise NotEligible("An emergency needs a reason that a reviewer understands.", next_step="Say what is happening.")
    emergency = Emergency(new, person, cluster, reason[:REASON_MAX], writing.now, writing.now + LASTS)
    values = {"id": new, "person": person, "cluster": cluster, "reason": emergency.reason}
    await writing.connection.execute(
        insert(emergencies).values(**values, at=stamp(writing.now), until=stamp(emergency.until), reviewed_by="", review="")
    )
    await writing.append("emergency.declared", None, {**values, "until": stamp(emergency.until)})
    return emergency


async def overdue(connection: AsyncConnection, now: datetime) -> tuple[Emergency, ...]:
    """Emergencies that nobody reviewed within a day, oldest first."""
    where = (emergencies.c.reviewed_by == "", emergencies.c.at <= stamp(now - REVIEW_WITHIN))
    rows = (await connection.execute(select(emergencies).where(*where).order_by(emergencies.c.at))).all()
    return tuple(_emergency(row) for row in rows)


async def expel(writing: Writing, directory: Directory) -> tuple[str, ...]:
    """Take whoever has an overdue emergency out of the group, with an entry. Returns their names. Raises BadDirectory.

    The file is written last: if that fails, the entry is not there either.
    """
    directory.refresh()
    expelled: dict[str, tuple[str, ...]] = {}
    for emergency in await overdue(writing.connection, writing.now):
        found = directory.find(emergency.person)
        if found is None or GROUP not in found.groups or found.name in expelled:
            continue
        expelled[found.name] = tuple(group for group in found.groups if group != GROUP)
        body = {"id": emergency.id, "person": found.name, "group": GROUP, "due": stamp(emergency.review_due)}
        await writing.append("emergency.overdue", None, body)
    for name, groups in expelled.items():
        directory.set_groups(name, groups)
    return tuple(expelled)


async def current(connection: AsyncConnection, person: Person, cluster: str, now: datetime) -> Emergency | None:
    """The emergency that a person has declared in a cluster and that is not over; none for who has left the group since."""
    if GROUP not in person.groups:
        return None
    where = (emergencies.c.person == person.name, emergencies.c.cluster == cluster, emergencies.c.until > stamp(now))
    row = (await connection.execute(select(emergencies).where(*where).order_by(emergencies.c.until.desc()).limit(1))).one_or_none()
    return None if row is None else _emergency(row)


async def review(writing: Writing, emergency_id: str, *, by: str, note: str) -> None:
    """Say that what was done in an emergency was looked at. Raises NotEligible for the person's own, Conflict for none to review."""
    row = (await writing.connection.execute(select(emergencies).where(emergencies.c.id == emergency_id))).one_or_none()
    if row is None or row.reviewed_by:
        raise Conflict(f"No emergency {emergency_id[:80]} waits for a review.", next_step="List them: smokejumper break-glass list.")
    if row.person.casefold() == by.casefold():
        raise NotEligible(f"{emergency_id} was declared by {by}.", next_step="Somebody else must review it.")
    await writing.connection.execute(
        update(emergencies).where(emergencies.c.id == emergency_id).values(reviewed_by=by, review=note[:REASON_MAX])
    )
    await writing.append("emergency.reviewed", None, {"id": emergency_id, "by": by, "note": note[:REASON_MAX]})


async def listing(connection: AsyncConnection, limit: int = 100) -> tuple[Emergency, ...]:
    """Emergencies, those that wait for a review first, then newest first, at most `limit`."""
    query = select(emergencies).order_by(emergencies.c.reviewed_by != "", emergencies.c.at.desc()).limit(limit)
    return tuple(_emergency(row) for row in (await connection.execute(query)).all())


def waived(verdict: Verdict, emergency: Emergency | None, now: datetime) -> Verdict:
    """The verdict in an emergency: what needed approval needs none until it is over. Denials stay as they are."""
    if emergency is None or verdict.effect != "approve":
        return verdict
    left = max(1, int((emergency.until - now).total_seconds()))
    requirement = Requirement(approvals={}, assurance=verdict.requirement.assurance, ttl_seconds=min(left, verdict.requirement.ttl_seconds))
    reason = f"Emergency {emergency.id} of {emergency.person}: no approval is needed, and a review follows."
    return verdict.model_copy(update={"requirement": requirement, "rules": (*verdict.rules, RULE), "reason": reason})


def _emergency(row: Row[tuple[str, ...]]) -> Emergency:
    return Emergency(
        row.id,
        row.person,
        row.cluster,
        row.reason,
        datetime.fromisoformat(row.at),
        datetime.fromisoformat(row.until),
        row.reviewed_by,
        row.review,
    )
