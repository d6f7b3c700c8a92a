"""The door that every change goes through: propose, decide, approve, deny, withdraw, execute.

Command line, MCP tools, agent and chat call this and nothing below it. It decides nothing itself: the policy does, and people do; it
keeps the order, and leaves an entry for each step in the transaction of that step. There is no way here to write to a cluster except
`execute`, and none to approve on somebody's behalf.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.action import Action, Target, check_target, parse_action
from guardrails.approval import Approval, Tally, tally
from guardrails.budget import GLOBAL, Switch, all_switches, count, stamp, switch, switched_on
from guardrails.consent import consent
from guardrails.directory import Person
from guardrails.emergency import Emergency, current, declare, review, waived
from guardrails.emergency import listing as emergencies
from guardrails.errors import (
    Forbidden,
    InvalidAction,
    NotEligible,
    TargetNotFound,
    Unreachable,
)
from guardrails.examination import Examination, examine, facts
from guardrails.executor import Executor, Outcome
from guardrails.ledger import Writing
from guardrails.office import Office
from guardrails.policy import NearMiss, decide, near_misses
from guardrails.proposal import TERMINAL, Evidence, Proposal, State
from guardrails.record import Draft, Record, approvals_of, create, find_by_key, listing, load, move
from guardrails.redact import present
from guardrails.view import REASON_LIMIT, ProposalView, view

# A proposal whose validation did not end in this time belongs to a process that died.
VALIDATION_SECONDS = 600
PEOPLE_MAX = 20


class Gate:
    """The facade over one office."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._executor = Executor(office)

    async def propose(
        self,
        action: Action | dict[str, Any] | str,
        target: Target,
        *,
        cluster: str,
        requester: str,
        evidence: Evidence | None = None,
        channel: str = "cli",
        reason: str = "",
        contributors: tuple[str, ...] = (),
        key: str | None = None,
        break_glass: bool = False,
    ) -> ProposalView:
        """Propose a change; it ends pending, approved, denied or rejected, and `detail` says why.

        The requester is the human behind the agent; with `break_glass` the caller has authenticated them just now. The same `key`
        returns the proposal made under it before, so a caller that was killed may ask again. Raises InvalidAction, UnknownCluster,
        NotEligible; TargetNotFound, Forbidden and Unreachable after rejecting it.
        """
        office = self._office
        port = office.port(cluster)
        word = parse_action(action) if isinstance(action, dict | str) else action
        check_target(word, target)
        person = self._person(requester)
        who = (person.name, *(self._person(name).name for name in contributors[:PEOPLE_MAX]))
        evidence = evidence or Evidence()
        emergency = await self._emergency(person, cluster, evidence) if break_glass else None
        draft = Draft(
            word.model_dump(mode="json"),
            target.model_dump(mode="json"),
            present(reason, REASON_LIMIT),
            channel,
            evidence.model_dump(mode="json"),
            emergency.id if emergency else "",
        )
        async with office.ledger.transaction() as writing:
            known = await find_by_key(writing.connection, key) if key else None
            if known is None:
                new = office.ids("p")
                await create(writing, new, tenant=office.estate.tenant, cluster=cluster, action=word.action, draft=draft, who=who, key=key)
                record = await move(writing, await load(writing.connection, new), State.VALIDATING, by="gate")
        if known is not None:
            return await self.status(known.id)
        try:
            examination = await examine(port, word, target, person, now=record.created_at)
        except (TargetNotFound, Forbidden, Unreachable) as error:
            async with office.ledger.transaction() as writing:
                await move(writing, record, State.REJECTED, by="gate", reason=str(error))
            raise
        async with office.ledger.transaction() as writing:
            await self._decide(writing, record, word, examination, person, evidence, emergency)
        return await self.status(record.id)

    async def status(self, proposal_id: str) -> ProposalView:
        """One proposal as it stands. Raises UnknownProposal."""
        async with self._office.store.read() as connection:
            return await self._view(connection, await load(connection, proposal_id))

    async def list(self, *, open_only: bool = False, limit: int = 100) -> tuple[ProposalView, ...]:
        """Proposals, newest first, at most `limit`."""
        states = tuple(state for state in State if state not in TERMINAL) if open_only else ()
        async with self._office.store.read() as connection:
            return tuple([await self._view(connection, record) for record in await listing(connection, states=states, limit=limit)])

    async def approve(self, proposal_id: str, digest: str, person: Person, channel: str, *, assurance: int = 1) -> ProposalView:
        """Record that a person agrees with this digest. Saying it again, on any channel, changes nothing.

        Raises DigestMismatch, OwnApproval, NotEligible, Expired, TooManyApprovals, and IllegalTransition when it is not pending.
        """
        await consent(self._office, proposal_id, digest, person, channel=channel, assurance=assurance, verdict="approve")
        return await self.status(proposal_id)

    async def deny(self, proposal_id: str, digest: str, person: Person, channel: str, *, reason: str = "") -> ProposalView:
        """Record that a person who may approve refuses: the proposal is denied. Raises like `approve`."""
        why = present(reason, REASON_LIMIT)
        await consent(self._office, proposal_id, digest, person, channel=channel, assurance=1, verdict="deny", reason=why)
        return await self.status(proposal_id)

    async def withdraw(self, proposal_id: str, by: str, *, reason: str = "") -> ProposalView:
        """Take a pending proposal back; only its requester may. Raises NotEligible, IllegalTransition."""
        async with self._office.ledger.transaction() as writing:
            record = await load(writing.connection, proposal_id)
            if by.casefold() != record.requester.casefold():
                raise NotEligible(f"Only {record.requester} may withdraw {record.id}.")
            await move(writing, record, State.WITHDRAWN, by=by, reason=present(reason, REASON_LIMIT))
        return await self.status(proposal_id)

    async def execute(self, proposal_id: str, digest: str, by: str) -> Outcome:
        """Do what was agreed, once. Every check is made again; see `executor.Executor.execute` for what it raises."""
        return await self._executor.execute(proposal_id, digest, by)

    async def recover(self) -> tuple[Outcome, ...]:
        """Finish or settle what processes that died have left behind, and expire what is over."""
        await self.sweep()
        return await self._executor.recover()

    async def sweep(self) -> tuple[str, ...]:
        """Expire proposals whose time is over and reject those whose validation was interrupted. Returns their ids."""
        office = self._office
        waiting = (State.PENDING, State.APPROVED, State.PROPOSED, State.VALIDATING)
        swept: list[str] = []
        async with office.ledger.transaction() as writing:
            for record in await listing(writing.connection, states=waiting, limit=1000):
                if record.state in (State.PENDING, State.APPROVED):
                    if record.expires_at is not None and writing.now >= record.expires_at:
                        await move(writing, record, State.EXPIRED, by="gate", reason="Its time is over.")
                        swept.append(record.id)
                elif writing.now - record.updated_at > timedelta(seconds=VALIDATION_SECONDS):
                    if record.state is State.PROPOSED:
                        record = await move(writing, record, State.VALIDATING, by="gate")
                    await move(writing, record, State.REJECTED, by="gate", reason="Validation was interrupted.")
                    swept.append(record.id)
        return tuple(swept)

    async def pause(self, by: str, reason: str, *, cluster: str = GLOBAL) -> None:
        """Turn the kill switch on, for a cluster, `tenant:NAME` or everything: nothing is written from the next request on."""
        async with self._office.ledger.transaction() as writing:
            await switch(writing, cluster, on=True, reason=reason, by=by)

    async def resume(self, by: str, reason: str, *, cluster: str = GLOBAL) -> None:
        """Turn the kill switch off again."""
        async with self._office.ledger.transaction() as writing:
            await switch(writing, cluster, on=False, reason=reason, by=by)

    async def switches(self) -> tuple[Switch, ...]:
        """Every kill switch that was ever turned, those that are on first."""
        async with self._office.store.read() as connection:
            return await all_switches(connection)

    async def break_glass(self, person: Person, reason: str, *, cluster: str) -> Emergency:
        """Declare an emergency in one cluster, as a person who was authenticated just now. Raises NotEligible."""
        groups = self._office.members().get(person.name, ())
        async with self._office.ledger.transaction() as writing:
            new = self._office.ids("e")
            return await declare(writing, new, person=person.name, groups=groups, cluster=cluster, reason=present(reason, REASON_LIMIT))

    async def review(self, emergency: str, person: Person, note: str) -> None:
        """Say, as another person than its own, that an emergency was looked at. Raises NotEligible, Conflict."""
        async with self._office.ledger.transaction() as writing:
            await review(writing, emergency, by=person.name, note=present(note, REASON_LIMIT))

    async def emergencies(self) -> tuple[Emergency, ...]:
        """Emergencies, those that wait for a review first."""
        async with self._office.store.read() as connection:
            return await emergencies(connection)

    async def explain(self, proposal_id: str) -> tuple[ProposalView, tuple[NearMiss, ...]]:
        """The proposal with its verdict, and which single facts would have led to another effect, asked of the policy in force now."""
        shown = await self.status(proposal_id)
        async with self._office.store.read() as connection:
            record = await load(connection, proposal_id)
        word = parse_action(record.draft["action"])
        target = Target.model_validate(record.draft["target"])
        person = self._person(record.requester)
        port = self._office.port(record.cluster)
        examination = await examine(port, word, target, person, now=record.created_at)
        async with self._office.store.read() as connection:
            asked = await self._facts(connection, record, word, examination, person, tainted=bool(record.draft["evidence"]["tainted"]))
        return shown, near_misses(self._office.bundles.policy, asked)

    async def _decide(
        self,
        writing: Writing,
        record: Record,
        word: Action,
        examination: Examination,
        person: Person,
        evidence: Evidence,
        emergency: Emergency | None,
    ) -> None:
        office, dry_run = self._office, examination.shown()
        if examination.change is None or examination.problems:
            reason = " ".join(examination.problems)
            await move(writing, record, State.REJECTED, by="gate", reason=present(reason, REASON_LIMIT), dry_run=_json(dry_run))
            return
        asked = await self._facts(writing.connection, record, word, examination, person, tainted=evidence.tainted, emergency=emergency)
        verdict = waived(decide(office.bundles.policy, asked), emergency, writing.now)
        body = {"decision": verdict.model_dump(mode="json")}
        if verdict.effect == "deny":
            columns = {"verdict": verdict.model_dump_json(), "dry_run": _json(dry_run)}
            await move(writing, record, State.DENIED, by="policy", reason=verdict.reason, body=body, **columns)
            return
        not_after = record.created_at + timedelta(seconds=verdict.requirement.ttl_seconds)
        sealed = Proposal(
            id=record.id,
            tenant=record.tenant,
            cluster=record.cluster,
            cluster_uid=examination.observed.cluster_uid,
            action=word,
            target=examination.observed.target,
            change=examination.change,
            evidence=evidence,
            requester=record.requester,
            contributors=record.contributors,
            reason=record.draft["reason"],
            not_after=not_after,
            requirement=verdict.requirement,
            automatic=verdict.effect == "auto",
            bundle=verdict.bundle,
        )
        await move(
            writing,
            record,
            State.APPROVED if sealed.automatic else State.PENDING,
            by="policy",
            reason=verdict.reason,
            body={**body, "digest": sealed.digest, "requirement": verdict.requirement.model_dump(mode="json")},
            digest=sealed.digest,
            document=sealed.model_dump_json(),
            verdict=verdict.model_dump_json(),
            requirement=verdict.requirement.model_dump_json(),
            dry_run=_json(dry_run),
            expires_at=stamp(not_after),
        )

    async def _facts(
        self,
        connection: AsyncConnection,
        record: Record,
        word: Action,
        examination: Examination,
        person: Person,
        *,
        tainted: bool,
        emergency: Emergency | None = None,
    ) -> Any:
        now = self._office.clock.now()
        return facts(
            examination,
            word,
            person,
            self._office.estate,
            cluster=record.cluster,
            counters=await count(connection, record.cluster, word.action, now),
            tainted=tainted,
            killed=await switched_on(connection, record.cluster, record.tenant) is not None,
            now=now,
            break_glass=emergency is not None,
        )

    async def _emergency(self, person: Person, cluster: str, evidence: Evidence) -> Emergency:
        """The emergency that this proposal invokes. What an agent or free text argues for gets none. Raises NotEligible."""
        if evidence.tainted:
            raise NotEligible("An emergency covers what a person asks for, not what rests on a cluster's text or on an agent.")
        async with self._office.store.read() as connection:
            found = await current(connection, person.name, cluster, self._office.clock.now())
        if found is None:
            raise NotEligible(
                f"{person.name} has declared no emergency in {cluster}, or it is over.", next_step="smokejumper break-glass open"
            )
        return found

    def _person(self, name: str) -> Person:
        self._office.directory.refresh()
        try:
            return self._office.directory.find(name) or Person(name=name)
        except ValidationError as error:
            raise InvalidAction(f"{name[:60]!r} is no legal name of a person.") from error

    async def _view(self, connection: AsyncConnection, record: Record) -> ProposalView:
        given = await approvals_of(connection, record.id)
        counted = _tally(record, given, self._office.members()) if record.requirement is not None and record.digest is not None else None
        return view(record, given, counted)


def _tally(record: Record, given: tuple[Approval, ...], members: dict[str, tuple[str, ...]]) -> Tally:
    assert record.requirement is not None
    return tally(
        record.requirement,
        given,
        members,
        digest=record.digest or "",
        requester=record.requester,
        contributors=record.contributors,
    )


def _json(value: Any) -> str:
    return json.dumps(value)
