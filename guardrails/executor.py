"""Doing what was agreed: check everything again, claim it, send it once, look whether it worked, undo it if it did not.

The effect happens at most once although processes die: a claim needs the state, a lease and a fence; the request carries the uid and
resourceVersion that were just seen and leaves a receipt on the object; whoever resumes looks for the receipt before doing anything.
What cannot be proven becomes `unknown` and is left to a person. Nothing is retried after an answer that may hide a success. A change
of several requests goes through them in order, asks the kill switch before each, and its steps are the journal of how far it came.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert, select, update

from guardrails.budget import refuse_when_switched_on, stamp, unlock
from guardrails.claim import LEASE_SECONDS, Claims, check_digest, lease, lease_is_over, moved, refuse_elsewhere, refuse_while_held
from guardrails.errors import (
    Conflict,
    Forbidden,
    KillSwitchOn,
    Stale,
    TargetNotFound,
    UnknownCluster,
    Unreachable,
)
from guardrails.journal import Purpose, grant_of, is_done, is_ours, progress, step_number, undoable
from guardrails.office import Office
from guardrails.port import ClusterPort, Observed, Receipt
from guardrails.proposal import NEEDS_A_HUMAN, RUNNING, TERMINAL, State
from guardrails.record import Record, listing, load, move, touch
from guardrails.request import ApiRequest
from guardrails.store import steps
from guardrails.verification import CheckResult, RolloutComplete
from guardrails.view import shown_requests

POLL_SECONDS = 2.0
TOO_MANY_REQUESTS = 429
REHEARSED_BREAK = "\n\n"
CONFLICTS_MAX = 3


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
        self._claims = Claims(office)
        self._on_step = on_step

    async def execute(self, proposal_id: str, digest: str, by: str) -> Outcome:
        """Execute once. Raises, without having written anything: DigestMismatch, NotApproved, Denied, Expired, Stale, AlreadyExecuted,
        KillSwitchOn, BudgetSpent, Conflict (another process was faster), Unreachable, Forbidden, IllegalTransition.
        """
        async with self._office.store.read() as connection:
            record = await load(connection, proposal_id)
        if record.state in RUNNING and lease_is_over(record, self._office.clock.now()):
            check_digest(record, digest)
            return await self._resume(record)
        claimed, observed = await self._claims.make(record, digest, by)
        self._on_step("claimed")
        return await self._change(claimed, observed)

    async def recover(self) -> tuple[Outcome, ...]:
        """Resume every execution whose process is taken for dead."""
        async with self._office.store.read() as connection:
            left = [r for r in await listing(connection, states=tuple(RUNNING), limit=1000) if lease_is_over(r, self._office.clock.now())]
        outcomes: list[Outcome] = []
        for record in left:
            try:
                outcomes.append(await self._resume(record))
            except (Conflict, Unreachable, Forbidden, KillSwitchOn, Stale, UnknownCluster) as error:
                outcomes.append(Outcome(id=record.id, state=record.state, detail=f"Not resumed: {error}"))
        return tuple(outcomes)

    # ---- the change

    async def _change(self, record: Record, observed: Observed, done: frozenset[int] = frozenset()) -> Outcome:
        """Send those requests of a claimed proposal that are not done, against the objects as just seen.

        What a disruption budget refuses is tried again until the action's patience ends.
        """
        sealed = record.sealed
        left = [(n, request) for n, request in enumerate(sealed.change.requests) if n not in done]
        deadline = self._office.clock.now() + timedelta(seconds=sealed.action.patience_seconds)
        rehearsed: list[str] = []
        while left:
            refused: list[tuple[int, ApiRequest]] = []
            for number, request in left:
                try:
                    await refuse_when_switched_on(self._office.store, record.cluster, record.tenant)
                except KillSwitchOn as error:
                    return await self._stop(record, str(error))
                record, receipt = await self._send(record, request, observed, number, "change")
                if receipt.outcome == "rehearsed":
                    rehearsed.append(receipt.detail or "a recording cannot change")
                elif receipt.outcome == "unknown":
                    return await self._look(record, number, receipt.detail)
                elif receipt.status == TOO_MANY_REQUESTS and sealed.action.patience_seconds:
                    refused.append((number, request))
                    why = receipt.detail
                elif receipt.outcome == "gone" and not request.removes:
                    return await self._stop(record, f"{sealed.target if request.uid is None else request.path} is gone.")
                elif receipt.outcome in ("refused", "conflict"):
                    return await self._stop(record, f"The cluster answered {receipt.status or receipt.outcome}: {receipt.detail}")
            left = refused
            if left:
                if self._office.clock.now() >= deadline:
                    return await self._stop(record, f"{len(left)} pods are held by a disruption budget: {why}")
                record = await self._renew(record)
                await self._office.clock.sleep(POLL_SECONDS)
        if rehearsed:
            return await self._end(record, State.REHEARSED, f"Rehearsed: {REHEARSED_BREAK.join(rehearsed)}")
        return await self._applied(record)

    async def _send(self, record: Record, request: ApiRequest, observed: Observed, number: int, purpose: Purpose) -> tuple[Record, Receipt]:
        """One request, with up to three fresh looks when the object moved underneath without changing what matters."""
        port, sealed = self._office.port(record.cluster), record.sealed
        receipt = Receipt("conflict", "not sent")
        for _ in range(CONFLICTS_MAX):
            record = await self._intend(record, request, number, purpose)
            grant = grant_of(record, purpose)
            self._on_step(f"{purpose}:intended")
            if observed.subject(request) is None and not request.removes:
                receipt = Receipt("gone", "the object could not be seen", 404)
                break
            receipt = await port.apply(grant, observed.bind(request, grant.receipt))
            self._on_step(f"{purpose}:sent")
            if receipt.outcome != "conflict":
                break
            try:
                observed = await port.observe(sealed.action, sealed.target)
            except TargetNotFound:
                receipt = Receipt("gone", "the object does not exist any more", 404)
                break
            if is_done(request, observed, grant.receipt):
                left = (observed.subject(request) or {}).get("metadata", {}).get("generation")
                receipt = Receipt("applied", "an earlier attempt had arrived", generation=left)
                break
            # Once one of our own requests is in, the target differs from what was agreed because of us.
            if purpose == "change" and not record.outcome.get("done") and moved(sealed, observed):
                receipt = Receipt("conflict", moved(sealed, observed), 409)
                break
        async with self._office.ledger.transaction() as writing:
            where = (steps.c.proposal == record.id, steps.c.fence == record.fence, steps.c.n == step_number(number, purpose))
            body = to_builtins(receipt)
            await writing.connection.execute(update(steps).where(*where).values(status=receipt.outcome, receipt=json.dumps(body)))
            await writing.append(f"{purpose}.sent", record.id, {"request": request.digest, "fence": record.fence, "receipt": body})
            outcome = record.outcome | progress(record, request, receipt, number, purpose)
            record = await touch(writing, record, lease_until=lease(writing.now), outcome=json.dumps(outcome))
        self._on_step(f"{purpose}:recorded")
        return record, receipt

    async def _intend(self, record: Record, request: ApiRequest, number: int, purpose: Purpose) -> Record:
        async with self._office.ledger.transaction() as writing:
            row = {"proposal": record.id, "fence": record.fence, "n": step_number(number, purpose)}
            where = tuple(steps.c[name] == value for name, value in row.items())
            done = await writing.connection.execute(update(steps).where(*where).values(status="intended", at=stamp(writing.now)))
            if not done.rowcount:
                values = row | {"purpose": purpose, "request_digest": request.digest, "status": "intended", "at": stamp(writing.now)}
                await writing.connection.execute(insert(steps).values(**values))
            return await touch(writing, record, lease_until=lease(writing.now))

    async def _stop(self, record: Record, why: str) -> Outcome:
        """End a change that cannot go on. What was done before stays, or is undone, as the action says."""
        done, total = len(record.outcome.get("done", ())), len(record.sealed.change.requests)
        if not done:
            async with self._office.ledger.transaction() as writing:
                failed = await move(writing, record, State.FAILED, by="executor", reason=why)
            return await self._end(failed, State.CLOSED, f"Nothing was changed. {why}")
        stopped = f"Stopped after {done} of {total} requests. {why}"
        async with self._office.ledger.transaction() as writing:
            outcome = json.dumps(record.outcome | {"stopped": stopped})
            failed = await move(writing, record, State.FAILED, by="executor", reason=stopped, outcome=outcome)
        return await self._after_failure(failed)

    async def _after_failure(self, record: Record) -> Outcome:
        """A failed proposal to its end: nothing had happened, what happened stays, or it is rolled back."""
        stopped = record.outcome.get("stopped", "")
        if "checks" not in record.outcome and not stopped:
            return await self._end(record, State.CLOSED, f"Nothing was changed. {record.reason}")
        if stopped and record.sealed.action.traits.keeps_progress:
            return await self._end(record, State.CLOSED, f"{stopped} What was done stays; the rest may be proposed again.")
        return await self._roll_back(record)

    async def _look(self, record: Record, number: int, why: str) -> Outcome:
        """After an answer that says nothing: what does the object say? When it shows the effect, the change goes on."""
        sealed = record.sealed
        try:
            observed, done = await self._seen(record)
        except (Unreachable, Forbidden) as error:
            return await self._end(record, State.UNKNOWN, f"{why}; the object cannot be read: {error}")
        if number not in done:
            return await self._end(record, State.UNKNOWN, f"{why}; the object does not show whether it happened.")
        record = await self._count(record, done)
        if observed is None or len(done) == len(sealed.change.requests):
            return await self._applied(record)
        return await self._change(record, observed, done)

    async def _applied(self, record: Record) -> Outcome:
        async with self._office.ledger.transaction() as writing:
            record = await move(
                writing, record, State.VERIFYING, by="executor", reason="The change is made.", lease_until=lease(writing.now)
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
            columns = {"failed_at": stamp(writing.now), "outcome": json.dumps(outcome), "lease_until": lease(writing.now)}
            record = await move(writing, record, State.FAILED, by="executor", reason=detail, body={"checks": shown}, **columns)
        self._on_step("failed")
        return await self._roll_back(record)

    async def _roll_back(self, record: Record) -> Outcome:
        """Send the inverse, once, only over our own change: the object must be as our change left it."""
        sealed, why = record.sealed, record.reason
        port = self._office.port(record.cluster)
        if not sealed.change.inverse:
            return await self._end(record, State.CLOSED, f"It did not work: {why}. There is no inverse to send.")
        try:
            observed = await port.observe(sealed.action, sealed.target)
        except (TargetNotFound, Unreachable, Forbidden) as error:
            return await self._end(record, State.CLOSED, f"It did not work: {why}. Not rolled back: {error}")
        if not undoable(record) or any(not is_ours(record, number, observed) for number in undoable(record)):
            return await self._end(record, State.CLOSED, f"It did not work: {why}. Not rolled back: somebody has changed the object since.")
        try:
            await refuse_when_switched_on(self._office.store, record.cluster, record.tenant)
        except KillSwitchOn as error:
            return await self._end(record, State.CLOSED, f"It did not work: {why}. Not rolled back: {error}")
        async with self._office.ledger.transaction() as writing:
            record = await move(writing, record, State.ROLLING_BACK, by="executor", reason=why, lease_until=lease(writing.now))
        self._on_step("rolling_back")
        return await self._send_inverse(record, observed, undoable(record))

    async def _send_inverse(self, record: Record, observed: Observed, numbers: tuple[int, ...]) -> Outcome:
        why = record.reason
        for number in numbers:
            record, receipt = await self._send(record, record.sealed.change.inverse[number], observed, number, "rollback")
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
        requests = shown_requests(record.sealed.change.requests)
        return Outcome(id=record.id, state=state, detail=detail, requests=requests, checks=tuple(shown))

    # ---- recovery

    async def _resume(self, record: Record) -> Outcome:
        """Take over from a process that died: look first, then finish, do again what surely did not happen, or give up as unknown."""
        refuse_elsewhere(record, self._office)
        port = self._office.port(record.cluster)
        async with self._office.ledger.transaction() as writing:
            if not lease_is_over(record, writing.now):
                refuse_while_held(record, writing.now)
            record = await touch(writing, record, fence=record.fence + 1, lease_until=lease(writing.now))
            await writing.append("execution.resumed", record.id, {"state": record.state.value, "fence": record.fence})
        if record.state is State.VERIFYING:
            return await self._verify(record)
        if record.state is State.FAILED:
            return await self._after_failure(record)
        if record.state is State.ROLLING_BACK:
            return await self._resume_rollback(record, port)
        observed, done = await self._seen(record)
        if len(done) == len(record.sealed.change.requests):
            return await self._applied(await self._count(record, done))
        if observed is None or (not done and moved(record.sealed, observed)):
            if not await self._was_intended(record):
                why = f"{record.sealed.target} is gone or was replaced." if observed is None else moved(record.sealed, observed)
                return await self._stop(record, f"The process died before anything was sent, and since then: {why}")
            detail = "The process died, and the object is neither as before nor as after the change."
            return await self._end(record, State.UNKNOWN, detail)
        record = await self._count(record, done)
        if record.expires_at is not None and self._office.clock.now() >= record.expires_at:
            return await self._stop(record, "The process died before the change was whole, and the approval is over.")
        return await self._change(record, observed, done)

    async def _resume_rollback(self, record: Record, port: ClusterPort) -> Outcome:
        try:
            observed = await port.observe(record.sealed.action, record.sealed.target)
        except TargetNotFound as error:
            return await self._end(record, State.ROLLBACK_FAILED, str(error))
        receipt, inverse = grant_of(record, "rollback").receipt, record.sealed.change.inverse
        left = tuple(n for n in undoable(record) if not is_done(inverse[n], observed, receipt))
        if not left:
            return await self._end(record, State.ROLLED_BACK, f"It did not work: {record.reason}. It was rolled back.")
        if any(not is_ours(record, number, observed) for number in left):
            return await self._end(record, State.ROLLBACK_FAILED, "Somebody changed the object before it could be rolled back.")
        return await self._send_inverse(record, observed, left)

    async def _was_intended(self, record: Record) -> bool:
        """Whether any process has written down that it would send a request. After our fence, none but we can."""
        async with self._office.store.read() as connection:
            return (await connection.execute(select(steps.c.n).where(steps.c.proposal == record.id).limit(1))).first() is not None

    async def _seen(self, record: Record) -> tuple[Observed | None, frozenset[int]]:
        """What the objects say: (the target as it is, None when it is gone; the numbers of the requests that are surely done)."""
        sealed = record.sealed
        requests = sealed.change.requests
        observed: Observed | None
        try:
            observed = await self._office.port(record.cluster).observe(sealed.action, sealed.target)
        except TargetNotFound:
            observed = None
        if observed is None or observed.target.uid != sealed.target.uid:
            return None, frozenset(n for n, request in enumerate(requests) if request.removes and request.uid is None)
        receipt = grant_of(record, "change").receipt
        return observed, frozenset(n for n, request in enumerate(requests) if is_done(request, observed, receipt))

    async def _count(self, record: Record, done: frozenset[int]) -> Record:
        """Keep what was found to be done, so that a rollback after it knows."""
        known = record.outcome.get("done", [])
        if set(known) >= done:
            return record
        async with self._office.ledger.transaction() as writing:
            outcome = record.outcome | {"done": sorted({*known, *done})}
            return await touch(writing, record, outcome=json.dumps(outcome))

    async def _renew(self, record: Record) -> Record:
        """Show life when half of the lease is over. Raises Conflict when somebody has taken over."""
        if record.lease_until is not None and self._office.clock.now() + timedelta(seconds=LEASE_SECONDS / 2) < record.lease_until:
            return record
        async with self._office.ledger.transaction() as writing:
            return await touch(writing, record, lease_until=lease(writing.now))


async def _check(port: ClusterPort, check: Any) -> CheckResult:
    try:
        return await port.check(check)
    except (Unreachable, Forbidden, TargetNotFound) as error:
        return CheckResult("inconclusive", str(error))
