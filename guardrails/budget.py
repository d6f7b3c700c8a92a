"""How much may happen at once: kill switches, rates and locks. All in the caller's transaction, so that racing claims cannot both win.

A switch that cannot be read is on. Rates are facts that the policy judges; this module only counts.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.errors import BudgetSpent, GuardrailsError, KillSwitchOn
from guardrails.ledger import Writing
from guardrails.store import Store, approvals, locks, proposals, spending, switches

GLOBAL = "*"
TENANT = "tenant:"
WINDOW = timedelta(hours=1)
# Six seconds for each: less than anybody needs to read what would change.
APPROVALS_PER_MINUTE = 10


# As it stands in a stored dry run. No text of a cluster can look like it: within a JSON string its quotes are escaped.
REHEARSED = '"rehearsal": true'


class Counters(Struct, frozen=True):
    """What happened in the last hour in a cluster: changes, those without a person, failed verifications of one action.

    `failed_at` is when that action was found not to have worked on one object, `denied_at` when a person refused it there, the last time.
    """

    changes: int
    automatic: int
    failed: int
    failed_at: datetime | None = None
    denied_at: datetime | None = None


def stamp(moment: datetime) -> str:
    """A time as it is stored: sorts as text."""
    return moment.isoformat(timespec="microseconds")


async def count(
    connection: AsyncConnection, cluster: str, action: str, target: dict[str, Any], now: datetime, *, rehearsal: bool = False
) -> Counters:
    """The counters of a cluster, as of now, for this action on this object (a target as JSON).

    A recording has the name of the cluster that it is of: rehearsals count among themselves, and never for what is live.
    """
    since = stamp(now - WINDOW)
    rehearsed = func.coalesce(proposals.c.dry_run, "").contains(REHEARSED)
    world = rehearsed if rehearsal else ~rehearsed
    # Outer: what was spent by a proposal that is not there counts, as live.
    spent = select(func.count(), func.coalesce(func.sum(spending.c.automatic), 0)).outerjoin(
        proposals, proposals.c.id == spending.c.proposal
    )
    spent = spent.where(spending.c.cluster == cluster, spending.c.at > since, world)
    changes, automatic = (await connection.execute(spent)).one()
    alike = (proposals.c.cluster == cluster, proposals.c.action == action, world)
    failed = select(proposals.c.draft, proposals.c.failed_at).where(*alike, proposals.c.failed_at > since)
    failures = (await connection.execute(failed)).all()
    refused = select(proposals.c.draft, proposals.c.updated_at).join(approvals, approvals.c.proposal == proposals.c.id)
    denied = (proposals.c.state == "denied", proposals.c.updated_at > since, approvals.c.approval.contains('"verdict":"deny"'))
    denials = (await connection.execute(refused.where(*alike, *denied))).all()
    return Counters(
        changes,
        automatic,
        len(failures),
        _newest([(row.draft, row.failed_at) for row in failures], target),
        _newest([(row.draft, row.updated_at) for row in denials], target),
    )


def _newest(happened: list[tuple[str, str]], target: dict[str, Any]) -> datetime | None:
    """When it happened last on this object, of pairs of a draft and a time."""
    times = [at for draft, at in happened if place_of(json.loads(draft)["target"]) == place_of(target)]
    return datetime.fromisoformat(max(times)) if times else None


def place_of(target: dict[str, Any]) -> tuple[str, str | None, str]:
    """What a target (as JSON) is called, whatever object has that name."""
    return target["kind"], target.get("namespace"), target["name"]


async def approvals_lately(connection: AsyncConnection, person: str, now: datetime) -> int:
    """How many approvals a person gave in the last minute, at most `APPROVALS_PER_MINUTE`."""
    theirs = (approvals.c.approver == person.casefold(), approvals.c.approval.contains('"verdict":"approve"'))
    query = select(approvals.c.approval).where(*theirs).order_by(approvals.c.entry.desc()).limit(APPROVALS_PER_MINUTE)
    given = (json.loads(text) for text in (await connection.execute(query)).scalars().all())
    since = now - timedelta(minutes=1)
    return sum(datetime.fromisoformat(one["at"]) > since for one in given)


async def spend(connection: AsyncConnection, proposal: str, cluster: str, *, automatic: bool, now: datetime) -> None:
    """Count one change, in the transaction that claims it."""
    await connection.execute(insert(spending).values(proposal=proposal, cluster=cluster, automatic=int(automatic), at=stamp(now)))


async def lock(connection: AsyncConnection, scope: str, proposal: str, until: datetime, now: datetime) -> None:
    """Hold a target for one proposal. Raises BudgetSpent while another proposal holds it."""
    held = (await connection.execute(select(locks).where(locks.c.scope == scope))).one_or_none()
    if held is not None and held.proposal != proposal and held.until > stamp(now):
        raise BudgetSpent(f"Proposal {held.proposal} is changing this object.", next_step="Wait until it has ended.")
    await connection.execute(delete(locks).where(locks.c.scope == scope))
    await connection.execute(insert(locks).values(scope=scope, proposal=proposal, until=stamp(until)))


async def unlock(connection: AsyncConnection, proposal: str) -> None:
    """Let go of whatever the proposal holds."""
    await connection.execute(delete(locks).where(locks.c.proposal == proposal))


async def switch(writing: Writing, scope: str, *, on: bool, reason: str, by: str) -> None:
    """Turn a kill switch: scope `*` for everything, `tenant:NAME`, else the name of a cluster. Leaves an entry."""
    values = {"is_on": int(on), "reason": reason[:500], "by": by, "at": stamp(writing.now)}
    done = await writing.connection.execute(update(switches).where(switches.c.scope == scope).values(**values))
    if not done.rowcount:
        await writing.connection.execute(insert(switches).values(scope=scope, **values))
    await writing.append("switch.on" if on else "switch.off", None, {"scope": scope, "reason": reason[:500], "by": by})


class Switch(Struct, frozen=True):
    """One kill switch as it was turned last."""

    scope: str
    on: bool
    reason: str
    by: str
    at: str

    @property
    def lifted_by(self) -> str:
        """The command that turns it off."""
        kind, _, tenant = self.scope.partition(TENANT)
        narrowed = "" if self.scope == GLOBAL else f" --cluster {self.scope}" if kind else f" --tenant {tenant}"
        return f"smokejumper kill-switch off{narrowed} --reason TEXT"


async def switched_on(connection: AsyncConnection, cluster: str, tenant: str) -> Switch | None:
    """The switch that stops writing to the cluster of this tenant, the widest where there are several, None when none does."""
    query = select(switches).where(switches.c.is_on == 1, switches.c.scope.in_((GLOBAL, f"{TENANT}{tenant}", cluster)))
    found = (await connection.execute(query.order_by(switches.c.scope != GLOBAL, switches.c.scope).limit(1))).one_or_none()
    return None if found is None else Switch(found.scope, True, found.reason, found.by, found.at)


async def all_switches(connection: AsyncConnection) -> tuple[Switch, ...]:
    """Every switch that was ever turned, those that are on first."""
    rows = (await connection.execute(select(switches).order_by(switches.c.is_on.desc(), switches.c.scope))).all()
    return tuple(Switch(row.scope, bool(row.is_on), row.reason, row.by, row.at) for row in rows)


async def refuse_when_switched_on(store: Store, cluster: str, tenant: str) -> None:
    """Raise KillSwitchOn when a switch is on, or when that cannot be known."""
    try:
        async with store.read() as connection:
            found = await switched_on(connection, cluster, tenant)
    except GuardrailsError as error:
        raise KillSwitchOn(f"The kill switch cannot be read, so it counts as on: {error}") from error
    if found is not None:
        what = "everything" if found.scope == GLOBAL else found.scope
        raise KillSwitchOn(
            f"{found.by} switched off {what}: {found.reason}.",
            next_step=f"Writing starts again when somebody turns the kill switch off, with their own token: {found.lifted_by}",
        )
