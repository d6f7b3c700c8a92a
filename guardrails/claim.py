"""Taking an approved proposal for execution: every check once more, then the claim, in one transaction.

What was true when people agreed need not be true now: the policy, the groups, the object, the clock, the switch, the budget. Whoever
passes holds the proposal by a lease and a fence; whoever does not has changed nothing in any cluster.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import NoReturn

from guardrails.approval import Tally
from guardrails.budget import lock, refuse_when_switched_on, spend, stamp
from guardrails.change import observed_fields
from guardrails.delegation import quorum, witnessed
from guardrails.directory import Person
from guardrails.emergency import current, waived
from guardrails.errors import (
    AlreadyExecuted,
    Conflict,
    Denied,
    DigestMismatch,
    Expired,
    GuardrailsError,
    IllegalTransition,
    NotApproved,
    Stale,
    TargetNotFound,
)
from guardrails.examination import Examination, examine
from guardrails.inquiry import inquire
from guardrails.ledger import Writing
from guardrails.office import Office
from guardrails.policy import Requirement, decide
from guardrails.port import Observed
from guardrails.proposal import RUNNING, Proposal, State
from guardrails.record import Record, approvals_of, load, move, witnessed_approvals

# A process that shows no life for this long is taken for dead; every step and every look at the checks renews it.
LEASE_SECONDS = 60
# A lock outlives its process by this long at most; the end of the proposal lifts it.
LOCK_HOURS = 1
_STAGES = {
    State.EXECUTING: "being executed: its change is under way",
    State.VERIFYING: "executed: its change is made, and whether it worked is being verified",
    State.FAILED: "executed, and did not work: it is about to be undone",
    State.ROLLING_BACK: "executed, and did not work: it is being undone",
}


class Claims:
    """Makes claims over one office."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def make(self, record: Record, digest: str, by: str) -> tuple[Record, Observed]:
        """Claim the proposal: it is `executing` afterwards, and the object is as it was just seen. Raises as `Executor.execute` says."""
        _refuse_state(record, self._office.clock.now())
        check_digest(record, digest)
        refuse_elsewhere(record, self._office)
        await self._refuse_expired(record)
        await refuse_when_switched_on(self._office.store, record.cluster, record.tenant)
        await self._refuse_unapproved(record)
        return await self._claim(record, by)

    async def _refuse_expired(self, record: Record) -> None:
        if self._office.clock.now() >= record.sealed.not_after:
            async with self._office.ledger.transaction() as writing:
                await move(writing, await load(writing.connection, record.id), State.EXPIRED, by="gate", reason="Its time is over.")
            raise Expired(f"{record.id} expired at {record.sealed.not_after.isoformat()}.", next_step="Propose again.")

    async def _refuse_unapproved(self, record: Record) -> None:
        """Before the cluster is asked anything: is there enough approval by the requirement as it stands?"""
        async with self._office.store.read() as connection:
            given = await approvals_of(connection, record.id)
            counted = await quorum(self._office, connection, record, given, _requirement(record))
        _refuse_few(record, counted)

    async def _claim(self, record: Record, by: str) -> tuple[Record, Observed]:
        sealed = record.sealed
        port = self._office.port(record.cluster)
        requester = self._office.directory.find(sealed.requester) or Person(name=sealed.requester)
        try:
            examination = await examine(port, sealed.action, sealed.target, requester, now=record.created_at)
        except TargetNotFound as error:
            return await self._stale(record, str(error))
        other = difference(sealed, examination)
        if other:
            return await self._stale(record, other)
        refusal: GuardrailsError | None = None
        async with self._office.ledger.transaction() as writing:
            current = await load(writing.connection, record.id)
            if (current.state, current.version) != (record.state, record.version):
                raise Conflict(f"{record.id} was changed by somebody else in the meantime.", next_step="Look at it again.")
            given, loans = await witnessed_approvals(writing, record.id), await witnessed(writing)
            requirement, refusal = await self._decide_again(writing, record, examination, requester)
            if refusal is None:
                try:
                    _refuse_few(record, await quorum(self._office, writing.connection, record, given, requirement, loans))
                except NotApproved as error:
                    refusal = error
            if refusal is not None:
                if record.state is State.APPROVED:
                    await move(
                        writing,
                        record,
                        State.PENDING,
                        by="policy",
                        reason=str(refusal),
                        body={"requirement": requirement.model_dump(mode="json")},
                        requirement=requirement.model_dump_json(),
                    )
            else:
                claimed = await self._take(writing, record, requirement, tuple(approval.approver for approval in given), by)
        if refusal is not None:
            raise refusal
        return claimed, examination.observed

    async def _decide_again(
        self, writing: Writing, record: Record, examination: Examination, requester: Person
    ) -> tuple[Requirement, GuardrailsError | None]:
        """(the stricter of the requirement then and now, why it may not run now)."""
        sealed, before = record.sealed, _requirement(record)
        emergency = None
        if record.draft.get("emergency"):
            emergency = await current(writing.connection, requester, record.cluster, writing.now)
        asked = await inquire(self._office, writing.connection, record, sealed.action, examination, requester, emergency=emergency)
        verdict = waived(decide(self._office.bundles.policy, asked), emergency, writing.now)
        if verdict.effect == "deny":
            why = " ".join((verdict.reason, *examination.problems))
            return before, Denied(f"The policy no longer allows {record.id}: {why}")
        return (before.at_least(verdict.requirement) if verdict.effect == "approve" else before), None

    async def _take(self, writing: Writing, record: Record, requirement: Requirement, approvers: tuple[str, ...], by: str) -> Record:
        sealed = record.sealed
        if record.state is State.PENDING:
            record = await move(writing, record, State.APPROVED, by="gate", reason="Enough people agreed.")
        until = writing.now + timedelta(seconds=LEASE_SECONDS)
        await lock(
            writing.connection, f"{sealed.cluster_uid}/{sealed.target.uid}", record.id, until + timedelta(hours=LOCK_HOURS), writing.now
        )
        await spend(writing.connection, record.id, record.cluster, automatic=not requirement.approvals, now=writing.now)
        return await move(
            writing,
            record,
            State.EXECUTING,
            by=by,
            body={
                "digest": record.digest,
                "approvers": list(approvers),
                "requirement": requirement.model_dump(mode="json"),
                "fence": record.fence + 1,
            },
            fence=record.fence + 1,
            lease_until=stamp(until),
            claimed_at=stamp(writing.now),
            requirement=requirement.model_dump_json(),
        )

    async def _stale(self, record: Record, why: str) -> tuple[Record, Observed]:
        if record.state is State.APPROVED:
            async with self._office.ledger.transaction() as writing:
                await move(writing, record, State.STALE, by="gate", reason=why)
        raise Stale(f"{record.id} no longer fits: {why}", next_step="Propose again.")


def lease(now: datetime) -> str:
    """Until when a sign of life at this moment is good, as it is stored."""
    return stamp(now + timedelta(seconds=LEASE_SECONDS))


def lease_is_over(record: Record, now: datetime) -> bool:
    """Whether the process that executes is taken for dead."""
    return record.lease_until is None or now >= record.lease_until


def refuse_while_held(record: Record, now: datetime) -> NoReturn:
    """Raise AlreadyExecuted for a proposal whose process may be alive: how far it is, and from when on it can be taken up."""
    until = record.lease_until or now
    seconds = max(0, math.ceil((until - now).total_seconds()))
    raise AlreadyExecuted(
        f"{record.id} is {_STAGES[record.state]}, by a process that was alive {max(0, LEASE_SECONDS - seconds)} seconds ago.",
        next_step=f"If that process was interrupted, 'smokejumper execute {record.id}' looks what happened and finishes it, from "
        f"{until.strftime('%H:%M:%S')} UTC on (in {seconds} seconds). Nothing is sent twice.",
    )


def check_digest(record: Record, digest: str) -> None:
    """Raise DigestMismatch unless the digest is the proposal's and the stored document still gives it."""
    if digest != record.digest or record.sealed.digest != record.digest:
        raise DigestMismatch(f"The digest of {record.id} is {record.digest}, not {digest[:80]}.", next_step="Look at it again.")


def refuse_elsewhere(record: Record, office: Office) -> None:
    """Raise Stale, and leave the proposal as it is, where a rehearsal meets the live cluster or the reverse. Raises UnknownCluster."""
    rehearsal = record.sealed.rehearsal
    if rehearsal == office.port(record.cluster).rehearsal:
        return
    if rehearsal:
        raise Stale(
            f"{record.id} was proposed on a recording, so it was never tried on the live cluster, which takes nothing of it.",
            next_step=f"Rehearse it: smokejumper execute {record.id} --recording DIR. For the live cluster propose without --recording.",
        )
    raise Stale(
        f"{record.id} was proposed on the live cluster, and a recording shows nothing about it.",
        next_step="Execute it without --recording, or propose on the recording to rehearse it.",
    )


def _requirement(record: Record) -> Requirement:
    """What was agreed, or what has become stricter since."""
    agreed = record.sealed.requirement
    return agreed if record.requirement is None else agreed.at_least(record.requirement)


def moved(sealed: Proposal, observed: Observed) -> str:
    """Which field that the argument rests on has changed; empty when none has."""
    on = observed.target
    if observed.cluster_uid != sealed.cluster_uid:
        return f"{sealed.cluster} is another cluster now."
    if on.uid != sealed.target.uid:
        return f"{sealed.target} was replaced by another object of that name."
    if on.generation != sealed.target.generation:
        return f"{sealed.target} is at generation {on.generation}, not {sealed.target.generation}."
    now = observed_fields(sealed.action, observed.object)
    return next((f"{name} of {sealed.target} changed." for name, value in sealed.change.observed.items() if now.get(name) != value), "")


def difference(sealed: Proposal, examination: Examination) -> str:
    """Why the object, or the plan that follows from it, is no longer what was agreed; empty when it is.

    What was agreed to go and has gone by itself is no difference: nothing is sent that was not agreed.
    """
    other = moved(sealed, examination.observed)
    if other:
        return other
    if examination.change is None:
        return " ".join(examination.problems)
    now, agreed = ({r.digest: r for r in change.requests} for change in (examination.change, sealed.change))
    if set(now) - set(agreed) or any(not agreed[digest].removes for digest in set(agreed) - set(now)):
        return "the same action would now send another request."
    return ""


def _refuse_few(record: Record, counted: Tally) -> None:
    """Raise NotApproved unless enough people agreed."""
    if not counted.enough:
        who = ", ".join(f"{number} more of {group}" for group, number in counted.missing.items())
        void = "".join(f" {name} does not count: {why}." for name, why in counted.void.items())
        raise NotApproved(f"{record.id} needs approval by {who}.{void}", next_step=f"Ask them: smokejumper approve {record.id}")


def _refuse_state(record: Record, now: datetime) -> None:
    """Raise unless the proposal may be executed by its state."""
    if record.state in (State.PENDING, State.APPROVED):
        return
    if record.state in RUNNING:
        refuse_while_held(record, now)
    if record.claimed_at is not None:
        raise AlreadyExecuted(f"{record.id} was executed already: it is {record.state}.", next_step="Propose again if it is still wanted.")
    if record.state is State.EXPIRED:
        raise Expired(f"{record.id} has expired.", next_step="Propose again.")
    if record.state is State.DENIED:
        raise Denied(f"{record.id} was denied: {record.reason}")
    if record.state is State.STALE:
        raise Stale(f"{record.id} is stale: {record.reason}", next_step="Propose again.")
    raise IllegalTransition(f"{record.id} is {record.state} and cannot be executed. {record.reason}".strip())
