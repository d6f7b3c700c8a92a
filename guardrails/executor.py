"""Doing what was agreed: check everything again, claim it, send it once, look whether it worked, undo it if it did not.

The effect happens at most once although processes die: a claim needs the state, a lease and a fence; the request carries the uid and
resourceVersion that were just seen and leaves a receipt on the object; whoever resumes looks for the receipt before doing anything.
What cannot be proven becomes `unknown` and is left to a person. Nothing is retried after an answer that may hide a success.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any, Literal

from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert, update

from guardrails.approval import tally
from guardrails.budget import count, lock, refuse_when_switched_on, spend, stamp, switched_on, unlock
from guardrails.change import observed_fields
from guardrails.directory import Person
from guardrails.errors import (
    AlreadyExecuted,
    Conflict,
    Denied,
    DigestMismatch,
    Expired,
    Forbidden,
    GuardrailsError,
    IllegalTransition,
    KillSwitchOn,
    NotApproved,
    Stale,
    TargetNotFound,
    Unreachable,
)
from guardrails.examination import Examination, examine, facts
from guardrails.grant import Grant
from guardrails.ledger import Writing
from guardrails.office import Office
from guardrails.policy import Requirement, decide
from guardrails.port import ClusterPort, Observed, Receipt
from guardrails.proposal import NEEDS_A_HUMAN, RUNNING, TERMINAL, Proposal, State
from guardrails.record import Record, approvals_of, listing, load, move, touch
from guardrails.request import RECEIPT_ANNOTATION, ApiRequest
from guardrails.store import steps
from guardrails.verification import CheckResult, RolloutComplete

# A process that shows no life for this long is taken for dead; every step and every look at the checks renews it.
LEASE_SECONDS = 60
POLL_SECONDS = 2.0
CONFLICTS_MAX = 3

Purpose = Literal["change", "rollback"]
Seen = Literal["done", "unchanged", "other"]


class Outcome(BaseModel):
    """How an execution stands. `requests` are those of the proposal as sent or, against a recording, as they would be sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    state: State
    detail: str
    requests: tuple[dict[str, Any], ...] = ()
    checks: tuple[dict[str, Any], ...] = ()

    @property
    def needs_a_human(self) -> bool:
        return self.state in NEEDS_A_HUMAN


def _no_step(_step: str) -> None:
    """The default of `on_step`: nobody is watching."""


class Executor:
    """Runs approved proposals. `on_step` is told each step's name before it is taken; tests stop the process there."""

    def __init__(self, office: Office, on_step: Callable[[str], None] = _no_step) -> None:
        self._office = office
        self._on_step = on_step

    async def execute(self, proposal_id: str, digest: str, by: str) -> Outcome:
        """Execute once. Raises, without having written anything: DigestMismatch, NotApproved, Denied, Expired, Stale, AlreadyExecuted,
        KillSwitchOn, BudgetSpent, Conflict (another process was faster), Unreachable, Forbidden, IllegalTransition.
        """
        async with self._office.store.read() as connection:
            record = await load(connection, proposal_id)
        if record.state in RUNNING and self._lease_is_over(record):
            if digest != record.digest:
                raise _digest_mismatch(record, digest)
            return await self._resume(record)
        _refuse_state(record)
        if digest != record.digest or record.sealed.digest != record.digest:
            raise _digest_mismatch(record, digest)
        await self._refuse_expired(record)
        await refuse_when_switched_on(self._office.store, record.cluster)
        await self._refuse_unapproved(record)
        claimed, observed = await self._claim(record, by)
        return await self._change(claimed, observed)

    async def recover(self) -> tuple[Outcome, ...]:
        """Resume every execution whose process is taken for dead."""
        async with self._office.store.read() as connection:
            left = [r for r in await listing(connection, states=tuple(RUNNING), limit=1000) if self._lease_is_over(r)]
        outcomes: list[Outcome] = []
        for record in left:
            try:
                outcomes.append(await self._resume(record))
            except (Conflict, Unreachable, Forbidden, KillSwitchOn) as error:
                outcomes.append(Outcome(id=record.id, state=record.state, detail=f"Not resumed: {error}"))
        return tuple(outcomes)

    # ---- before the claim

    def _lease_is_over(self, record: Record) -> bool:
        return record.lease_until is None or self._office.clock.now() >= record.lease_until

    async def _refuse_expired(self, record: Record) -> None:
        if record.expires_at is not None and self._office.clock.now() >= record.expires_at:
            async with self._office.ledger.transaction() as writing:
                await move(writing, await load(writing.connection, record.id), State.EXPIRED, by="gate", reason="Its time is over.")
            raise Expired(f"{record.id} expired at {record.expires_at.isoformat()}.", next_step="Propose again.")

    async def _refuse_unapproved(self, record: Record) -> None:
        """Before the cluster is asked anything: is there enough approval by the requirement as it stands?"""
        async with self._office.store.read() as connection:
            await self._counted(connection, record, record.requirement or record.sealed.requirement)

    async def _counted(self, connection: Any, record: Record, requirement: Requirement) -> None:
        """Raise NotApproved unless the approvals that count now are enough."""
        counted = tally(
            requirement,
            await approvals_of(connection, record.id),
            self._office.members(),
            digest=record.digest or "",
            requester=record.requester,
            contributors=record.contributors,
        )
        if not counted.enough:
            who = ", ".join(f"{number} more of {group}" for group, number in counted.missing.items())
            void = "".join(f" {name} does not count: {why}." for name, why in counted.void.items())
            raise NotApproved(f"{record.id} needs approval by {who}.{void}", next_step=f"Ask them: smokejumper approve {record.id}")

    # ---- the claim

    async def _claim(self, record: Record, by: str) -> tuple[Record, Observed]:
        sealed = record.sealed
        port = self._office.port(record.cluster)
        requester = self._office.directory.find(record.requester) or Person(name=record.requester)
        try:
            examination = await examine(port, sealed.action, sealed.target, requester, now=record.created_at)
        except TargetNotFound as error:
            return await self._stale(record, str(error))
        difference = _difference(sealed, examination)
        if difference:
            return await self._stale(record, difference)
        refusal: GuardrailsError | None = None
        async with self._office.ledger.transaction() as writing:
            current = await load(writing.connection, record.id)
            if (current.state, current.version) != (record.state, record.version):
                raise Conflict(f"{record.id} was changed by somebody else in the meantime.", next_step="Look at it again.")
            requirement, refusal = await self._decide_again(writing, record, examination, requester)
            if refusal is None:
                try:
                    await self._counted(writing.connection, record, requirement)
                except NotApproved as error:
                    refusal = error
            if refusal is not None:
                if record.state is State.APPROVED:
                    await move(writing, record, State.PENDING, by="policy", reason=str(refusal), requirement=requirement.model_dump_json())
            else:
                claimed = await self._take(writing, record, requirement, by)
        if refusal is not None:
            raise refusal
        self._on_step("claimed")
        return claimed, examination.observed

    async def _decide_again(
        self, writing: Writing, record: Record, examination: Examination, requester: Person
    ) -> tuple[Requirement, GuardrailsError | None]:
        """(the stricter of the requirement then and now, why it may not run now)."""
        sealed, before = record.sealed, record.requirement or record.sealed.requirement
        asked = facts(
            examination,
            sealed.action,
            requester,
            self._office.estate,
            cluster=record.cluster,
            counters=await count(writing.connection, record.cluster, record.action, writing.now),
            tainted=sealed.evidence.tainted,
            killed=await switched_on(writing.connection, record.cluster) is not None,
            now=writing.now,
        )
        verdict = decide(self._office.bundles.policy, asked)
        if verdict.effect == "deny":
            why = " ".join((verdict.reason, *examination.problems))
            return before, Denied(f"The policy no longer allows {record.id}: {why}")
        return (before.at_least(verdict.requirement) if verdict.effect == "approve" else before), None

    async def _take(self, writing: Writing, record: Record, requirement: Requirement, by: str) -> Record:
        sealed = record.sealed
        if record.state is State.PENDING:
            record = await move(writing, record, State.APPROVED, by="gate", reason="Enough people agreed.")
        until = writing.now + timedelta(seconds=LEASE_SECONDS)
        await lock(writing.connection, f"{sealed.cluster_uid}/{sealed.target.uid}", record.id, until + timedelta(hours=1), writing.now)
        await spend(writing.connection, record.id, record.cluster, automatic=not requirement.approvals, now=writing.now)
        given = [approval.approver for approval in await approvals_of(writing.connection, record.id)]
        return await move(
            writing,
            record,
            State.EXECUTING,
            by=by,
            body={
                "digest": record.digest,
                "approvers": given,
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

    # ---- the change

    async def _change(self, record: Record, observed: Observed) -> Outcome:
        """Send the requests of a claimed proposal against the object as just seen."""
        sealed = record.sealed
        for number, request in enumerate(sealed.change.requests):
            try:
                await refuse_when_switched_on(self._office.store, record.cluster)
            except KillSwitchOn as error:
                return await self._nothing_happened(record, str(error))
            record, receipt = await self._send(record, request, observed, number, "change")
            if receipt.outcome == "rehearsed":
                return await self._end(record, State.REHEARSED, f"Rehearsed: {receipt.detail or 'a recording cannot change'}.")
            if receipt.outcome == "unknown":
                return await self._look(record, receipt.detail)
            if receipt.outcome == "gone" and request.method != "DELETE":
                return await self._nothing_happened(record, f"{sealed.target} is gone.")
            if receipt.outcome in ("refused", "conflict"):
                return await self._nothing_happened(record, f"The cluster answered {receipt.status or receipt.outcome}: {receipt.detail}")
        return await self._applied(record)

    async def _send(self, record: Record, request: ApiRequest, observed: Observed, number: int, purpose: Purpose) -> tuple[Record, Receipt]:
        """One request, with up to three fresh looks when the object moved underneath without changing what matters."""
        port = self._office.port(record.cluster)
        receipt = Receipt("conflict", "not sent")
        for _ in range(CONFLICTS_MAX):
            record = await self._intend(record, request, number, purpose)
            grant = _grant(record, purpose)
            self._on_step(f"{purpose}:intended")
            bound = request.bind(receipt=grant.receipt, uid=grant.target_uid, resource_version=_version(observed))
            receipt = await port.apply(grant, bound)
            self._on_step(f"{purpose}:sent")
            if receipt.outcome != "conflict":
                break
            try:
                observed = await port.observe(record.sealed.action, record.sealed.target)
            except TargetNotFound:
                receipt = Receipt("gone", "the object does not exist any more", 404)
                break
            if _receipt_of(observed) == grant.receipt:
                receipt = Receipt("applied", "an earlier attempt had arrived", generation=observed.target.generation)
                break
            if purpose == "change" and _moved(record.sealed, observed):
                receipt = Receipt("conflict", _moved(record.sealed, observed), 409)
                break
        async with self._office.ledger.transaction() as writing:
            where = (steps.c.proposal == record.id, steps.c.fence == record.fence, steps.c.n == _step_number(number, purpose))
            body = to_builtins(receipt)
            await writing.connection.execute(update(steps).where(*where).values(status=receipt.outcome, receipt=json.dumps(body)))
            await writing.append(f"{purpose}.sent", record.id, {"request": request.digest, "fence": record.fence, "receipt": body})
            outcome = record.outcome | {f"{purpose}_generation": receipt.generation}
            record = await touch(writing, record, lease_until=self._lease(writing), outcome=json.dumps(outcome))
        self._on_step(f"{purpose}:recorded")
        return record, receipt

    async def _intend(self, record: Record, request: ApiRequest, number: int, purpose: Purpose) -> Record:
        async with self._office.ledger.transaction() as writing:
            row = {"proposal": record.id, "fence": record.fence, "n": _step_number(number, purpose)}
            where = tuple(steps.c[name] == value for name, value in row.items())
            done = await writing.connection.execute(update(steps).where(*where).values(status="intended", at=stamp(writing.now)))
            if not done.rowcount:
                values = row | {"purpose": purpose, "request_digest": request.digest, "status": "intended", "at": stamp(writing.now)}
                await writing.connection.execute(insert(steps).values(**values))
            return await touch(writing, record, lease_until=self._lease(writing))

    async def _nothing_happened(self, record: Record, why: str) -> Outcome:
        async with self._office.ledger.transaction() as writing:
            failed = await move(writing, record, State.FAILED, by="executor", reason=why)
        return await self._end(failed, State.CLOSED, f"Nothing was changed. {why}")

    async def _look(self, record: Record, why: str) -> Outcome:
        """After an answer that says nothing: what does the object say?"""
        port = self._office.port(record.cluster)
        try:
            seen = await self._seen(port, record)
        except (Unreachable, Forbidden) as error:
            return await self._end(record, State.UNKNOWN, f"{why}; the object cannot be read: {error}")
        if seen == "done":
            return await self._applied(record)
        return await self._end(record, State.UNKNOWN, f"{why}; the object does not show whether it happened.")

    async def _applied(self, record: Record) -> Outcome:
        async with self._office.ledger.transaction() as writing:
            record = await move(
                writing, record, State.VERIFYING, by="executor", reason="The change is made.", lease_until=self._lease(writing)
            )
        self._on_step("verifying")
        return await self._verify(record)

    # ---- verification and rollback

    async def _verify(self, record: Record) -> Outcome:
        port, sealed = self._office.port(record.cluster), record.sealed
        since = (record.claimed_at or record.updated_at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        checks = [c.model_copy(update={"since": since}) if isinstance(c, RolloutComplete) else c for c in sealed.change.checks]
        start = self._office.clock.now()
        limit = timedelta(seconds=max((check.timeout_seconds for check in checks), default=0))
        while True:
            results = [await _check(port, check) for check in checks]
            statuses = {result.status for result in results}
            if "failed" in statuses or statuses <= {"succeeded"} or self._office.clock.now() - start >= limit:
                break
            record = await self._renew(record)
            await self._office.clock.sleep(POLL_SECONDS)
        shown = [
            {"check": check.check, "status": result.status, "detail": result.detail} for check, result in zip(checks, results, strict=True)
        ]
        detail = "; ".join(result.detail for result in results)
        self._on_step("verified")
        if statuses <= {"succeeded"}:
            return await self._end(record, State.SUCCEEDED, detail, shown)
        if "failed" not in statuses:
            return await self._end(record, State.INCONCLUSIVE, f"Not proven within {int(limit.total_seconds())} seconds: {detail}", shown)
        async with self._office.ledger.transaction() as writing:
            outcome = record.outcome | {"checks": shown}
            columns = {"failed_at": stamp(writing.now), "outcome": json.dumps(outcome), "lease_until": self._lease(writing)}
            record = await move(writing, record, State.FAILED, by="executor", reason=detail, body={"checks": shown}, **columns)
        self._on_step("failed")
        return await self._roll_back(record)

    async def _roll_back(self, record: Record) -> Outcome:
        """Send the inverse, once, only over our own change: the object must carry our receipt and our generation."""
        sealed, why = record.sealed, record.reason
        port = self._office.port(record.cluster)
        if not sealed.change.inverse:
            return await self._end(record, State.CLOSED, f"It did not work: {why}. There is no inverse to send.")
        try:
            observed = await port.observe(sealed.action, sealed.target)
        except (TargetNotFound, Unreachable, Forbidden) as error:
            return await self._end(record, State.CLOSED, f"It did not work: {why}. Not rolled back: {error}")
        generation = record.outcome.get("change_generation")
        ours = _receipt_of(observed) == _grant(record, "change").receipt and observed.target.uid == sealed.target.uid
        if not ours or generation is None or observed.target.generation not in (generation, None):
            return await self._end(record, State.CLOSED, f"It did not work: {why}. Not rolled back: somebody has changed the object since.")
        try:
            await refuse_when_switched_on(self._office.store, record.cluster)
        except KillSwitchOn as error:
            return await self._end(record, State.CLOSED, f"It did not work: {why}. Not rolled back: {error}")
        async with self._office.ledger.transaction() as writing:
            record = await move(writing, record, State.ROLLING_BACK, by="executor", reason=why, lease_until=self._lease(writing))
        self._on_step("rolling_back")
        return await self._send_inverse(record, observed)

    async def _send_inverse(self, record: Record, observed: Observed) -> Outcome:
        why = record.reason
        for number, request in enumerate(record.sealed.change.inverse):
            record, receipt = await self._send(record, request, observed, number, "rollback")
            if receipt.outcome != "applied":
                detail = f"It did not work: {why}. The rollback ended with {receipt.outcome}: {receipt.detail}"
                return await self._end(record, State.ROLLBACK_FAILED, detail)
        return await self._end(record, State.ROLLED_BACK, f"It did not work: {why}. It was rolled back.")

    async def _end(self, record: Record, state: State, detail: str, checks: list[dict[str, Any]] | None = None) -> Outcome:
        """The last transition: the outcome is kept, the lock let go."""
        self._on_step(f"ending:{state}")
        shown = checks if checks is not None else record.outcome.get("checks", [])
        async with self._office.ledger.transaction() as writing:
            outcome = record.outcome | {"checks": shown, "detail": detail}
            await move(writing, record, state, by="executor", reason=detail, body={"checks": shown}, outcome=json.dumps(outcome))
            if state in TERMINAL:
                await unlock(writing.connection, record.id)
        self._on_step(f"ended:{state}")
        requests = tuple(request.model_dump(mode="json") for request in record.sealed.change.requests)
        return Outcome(id=record.id, state=state, detail=detail, requests=requests, checks=tuple(shown))

    # ---- recovery

    async def _resume(self, record: Record) -> Outcome:
        """Take over from a process that died: look first, then finish, do again what surely did not happen, or give up as unknown."""
        port = self._office.port(record.cluster)
        async with self._office.ledger.transaction() as writing:
            if not self._lease_is_over(record):
                raise AlreadyExecuted(f"{record.id} is being executed.")
            record = await touch(writing, record, fence=record.fence + 1, lease_until=self._lease(writing))
            await writing.append("execution.resumed", record.id, {"state": record.state.value, "fence": record.fence})
        if record.state is State.VERIFYING:
            return await self._verify(record)
        if record.state is State.FAILED:
            if "checks" in record.outcome:
                return await self._roll_back(record)
            return await self._end(record, State.CLOSED, f"Nothing was changed. {record.reason}")
        if record.state is State.ROLLING_BACK:
            return await self._resume_rollback(record, port)
        seen = await self._seen(port, record)
        if seen == "done":
            return await self._applied(record)
        if seen == "other":
            detail = "The process died, and the object is neither as before nor as after the change."
            return await self._end(record, State.UNKNOWN, detail)
        if record.expires_at is not None and self._office.clock.now() >= record.expires_at:
            return await self._nothing_happened(record, "The process died before the change, and the approval is over.")
        return await self._change(record, await port.observe(record.sealed.action, record.sealed.target))

    async def _resume_rollback(self, record: Record, port: ClusterPort) -> Outcome:
        try:
            observed = await port.observe(record.sealed.action, record.sealed.target)
        except TargetNotFound as error:
            return await self._end(record, State.ROLLBACK_FAILED, str(error))
        if _receipt_of(observed) == _grant(record, "rollback").receipt:
            return await self._end(record, State.ROLLED_BACK, f"It did not work: {record.reason}. It was rolled back.")
        generation = record.outcome.get("change_generation")
        if _receipt_of(observed) != _grant(record, "change").receipt or observed.target.generation not in (generation, None):
            return await self._end(record, State.ROLLBACK_FAILED, "Somebody changed the object before it could be rolled back.")
        return await self._send_inverse(record, observed)

    async def _seen(self, port: ClusterPort, record: Record) -> Seen:
        """What the object says about a change that may or may not have been made."""
        sealed = record.sealed
        deletes = any(request.method == "DELETE" for request in sealed.change.requests)
        try:
            observed = await port.observe(sealed.action, sealed.target)
        except TargetNotFound:
            return "done" if deletes else "other"
        if observed.target.uid != sealed.target.uid:
            return "done" if deletes else "other"
        if deletes and observed.object.get("metadata", {}).get("deletionTimestamp"):
            return "done"
        if _receipt_of(observed) == _grant(record, "change").receipt:
            return "done"
        return "other" if _moved(sealed, observed) else "unchanged"

    async def _renew(self, record: Record) -> Record:
        """Show life when half of the lease is over. Raises Conflict when somebody has taken over."""
        if record.lease_until is not None and self._office.clock.now() + timedelta(seconds=LEASE_SECONDS / 2) < record.lease_until:
            return record
        async with self._office.ledger.transaction() as writing:
            return await touch(writing, record, lease_until=self._lease(writing))

    def _lease(self, writing: Writing) -> str:
        return stamp(writing.now + timedelta(seconds=LEASE_SECONDS))


async def _check(port: ClusterPort, check: Any) -> CheckResult:
    try:
        return await port.check(check)
    except (Unreachable, Forbidden, TargetNotFound) as error:
        return CheckResult("inconclusive", str(error))


def _grant(record: Record, purpose: Purpose) -> Grant:
    """The permission of this claim. It is made from the sealed document alone."""
    sealed = record.sealed
    requests = sealed.change.requests if purpose == "change" else sealed.change.inverse
    return Grant(
        proposal_id=record.id,
        proposal_digest=record.digest or "",
        cluster_uid=sealed.cluster_uid,
        target_uid=sealed.target.uid or "",
        request_digests=tuple(request.digest for request in requests),
        purpose=purpose,
        fence=record.fence,
        not_after=record.lease_until or record.updated_at,
    )


def _difference(sealed: Proposal, examination: Examination) -> str:
    """Why the object, or the plan that follows from it, is no longer what was agreed; empty when it is."""
    moved = _moved(sealed, examination.observed)
    if moved:
        return moved
    if examination.change is None:
        return " ".join(examination.problems)
    if [r.digest for r in examination.change.requests] != [r.digest for r in sealed.change.requests]:
        return "the same action would now send another request."
    return ""


def _moved(sealed: Proposal, observed: Observed) -> str:
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


def _receipt_of(observed: Observed) -> str:
    return str((observed.object.get("metadata", {}).get("annotations") or {}).get(RECEIPT_ANNOTATION, ""))


def _version(observed: Observed) -> str:
    return str(observed.object.get("metadata", {}).get("resourceVersion", ""))


def _step_number(number: int, purpose: Purpose) -> int:
    return number if purpose == "change" else 1000 + number


def _digest_mismatch(record: Record, digest: str) -> DigestMismatch:
    return DigestMismatch(f"The digest of {record.id} is {record.digest}, not {digest[:80]}.", next_step="Look at it again.")


def _refuse_state(record: Record) -> None:
    """Raise unless the proposal may be executed by its state."""
    if record.state in (State.PENDING, State.APPROVED):
        return
    if record.state in RUNNING or record.claimed_at is not None:
        raise AlreadyExecuted(f"{record.id} was executed already: it is {record.state}.", next_step="Propose again if it is still wanted.")
    if record.state is State.EXPIRED:
        raise Expired(f"{record.id} has expired.", next_step="Propose again.")
    if record.state is State.DENIED:
        raise Denied(f"{record.id} was denied: {record.reason}")
    if record.state is State.STALE:
        raise Stale(f"{record.id} is stale: {record.reason}", next_step="Propose again.")
    raise IllegalTransition(f"{record.id} is {record.state} and cannot be executed. {record.reason}".strip())
