"""The door that every change goes through: propose, decide, approve, deny, withdraw, execute.

Command line, MCP tools, agent and chat call this and nothing below it. It decides nothing itself: the policy does, and people do; it
keeps the order, and leaves an entry for each step in the transaction of that step. There is no way here to write to a cluster except
`execute`, and none to approve on somebody's behalf.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.action import Action, Target, check_target, parse_action
from guardrails.blob import Attachment
from guardrails.budget import GLOBAL, Switch, all_switches, switch
from guardrails.consent import consent
from guardrails.counterfactual import Explanation
from guardrails.delegation import Delegation, delegate, end, quorum
from guardrails.delegation import listing as delegations
from guardrails.directory import Person
from guardrails.emergency import Emergency, declare, expel, review
from guardrails.emergency import listing as emergencies
from guardrails.errors import NotAuthenticated, NotEligible
from guardrails.executor import Executor, Outcome
from guardrails.intake import Intake
from guardrails.office import Office
from guardrails.proposal import TERMINAL, Evidence, State
from guardrails.record import Draft, Record, approvals_of, clusters, listing, load, move
from guardrails.redact import present
from guardrails.stepup import ASSURANCE, use
from guardrails.view import REASON_LIMIT, ProposalView, view

# A proposal whose validation did not end in this time belongs to a process that died.
VALIDATION_SECONDS = 600
PEOPLE_MAX = 20
ANSWER_LIMIT = 100


class Gate:
    """The facade over one office."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._intake = Intake(office)
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
        attachments: tuple[Attachment, ...] = (),
    ) -> ProposalView:
        """Propose a change; it ends pending, approved, denied or rejected, and `detail` says why.

        The requester is the human behind the agent; with `break_glass` the caller has authenticated them just now. The same `key`
        returns the proposal made under it before, so a caller that was killed may ask again; so does the same wish while it is open.
        A different wish of theirs for the same object takes the place of the open one. `attachments` are what the wish rests on, evidence
        and a model's prompts, kept beside the ledger where they may be erased. Raises InvalidAction, UnknownCluster,
        NotEligible; KeyTaken (the key stands for another wish); TargetNotFound, Forbidden and Unreachable after rejecting it.
        """
        self._office.port(cluster)
        word = parse_action(action) if isinstance(action, dict | str) else action
        check_target(word, target)
        who = tuple(self._intake.person(name) for name in (requester, *contributors[:PEOPLE_MAX]))
        draft = Draft(
            word.model_dump(mode="json"),
            target.model_dump(mode="json"),
            present(reason, REASON_LIMIT),
            channel,
            (evidence or Evidence()).model_dump(mode="json"),
        )
        taken = await self._intake.take(
            word, target, draft, cluster=cluster, who=who, key=key, break_glass=break_glass, attachments=attachments
        )
        return await self.status(taken)

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

        Raises DigestMismatch, OwnApproval, NotEligible, NotAuthenticated, Expired, TooManyApprovals, IllegalTransition (not pending).
        """
        await consent(self._office, proposal_id, digest, person, channel=channel, assurance=assurance, verdict="approve")
        return await self.status(proposal_id)

    async def step_up(self, person: Person, code: str) -> int:
        """The assurance that a code of their authenticator gives a person who has shown their token. Raises NotAuthenticated."""
        secret = self._office.directory.step_up_secret(person.name)
        async with self._office.ledger.transaction() as writing:
            refusal = await use(writing, person.name, secret, code)
        if refusal is not None:
            raise refusal
        return ASSURANCE

    async def deny(self, proposal_id: str, digest: str, person: Person, channel: str, *, reason: str = "") -> ProposalView:
        """Record that a person who may approve refuses: the proposal is denied. Raises like `approve`."""
        why = present(reason, REASON_LIMIT)
        await consent(self._office, proposal_id, digest, person, channel=channel, assurance=1, verdict="deny", reason=why)
        return await self.status(proposal_id)

    async def withdraw(self, proposal_id: str, by: str, *, reason: str = "") -> ProposalView:
        """Take back a proposal that is not executed yet; only its requester may. Raises NotEligible, IllegalTransition."""
        async with self._office.ledger.transaction() as writing:
            record = await load(writing.connection, proposal_id)
            if by.casefold() != record.requester.casefold():
                raise NotEligible(f"Only {record.requester} may withdraw {record.id}.")
            await move(writing, record, State.WITHDRAWN, by=by, reason=present(reason, REASON_LIMIT))
        return await self.status(proposal_id)

    async def execute(self, proposal_id: str, digest: str, by: str) -> Outcome:
        """Do what was agreed, once. Every check is made again; see `executor.Executor.execute` for what it raises."""
        return await self._executor.execute(proposal_id, digest, by)

    async def note_answer(self, proposal_id: str, digest: str, answer: str, *, by: str, channel: str) -> None:
        """Note what a client's user answered when asked whether to execute this digest. It counts as no approval of anything."""
        async with self._office.ledger.transaction() as writing:
            record = await load(writing.connection, proposal_id)
            body = {"by": by, "channel": channel, "digest": present(digest, ANSWER_LIMIT), "answer": present(answer, ANSWER_LIMIT)}
            await writing.append("client.answered", record.id, body)

    async def recover(self) -> tuple[Outcome, ...]:
        """Finish or settle what processes that died have left behind, and expire what is over."""
        await self.sweep()
        return await self._executor.recover()

    async def sweep(self) -> tuple[str, ...]:
        """Expire proposals whose time is over and reject those whose validation was interrupted. Returns their ids.

        Whose emergency was not reviewed in time leaves its group.
        """
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
            await expel(writing, office.directory)
        return tuple(swept)

    async def pause(self, by: str, reason: str, *, cluster: str = GLOBAL) -> None:
        """Turn the kill switch on, for a cluster, `tenant:NAME` or everything: nothing is written from the next request on."""
        async with self._office.ledger.transaction() as writing:
            await switch(writing, cluster, on=True, reason=reason, by=by)

    async def resume(self, by: str, reason: str, *, cluster: str = GLOBAL) -> None:
        """Turn the kill switch off again."""
        async with self._office.ledger.transaction() as writing:
            await switch(writing, cluster, on=False, reason=reason, by=by)

    async def clusters(self) -> tuple[str, ...]:
        """Every cluster that anything was ever proposed for, by name."""
        async with self._office.store.read() as connection:
            return await clusters(connection)

    async def switches(self) -> tuple[Switch, ...]:
        """Every kill switch that was ever turned, those that are on first."""
        async with self._office.store.read() as connection:
            return await all_switches(connection)

    async def break_glass(self, person: Person, reason: str, *, cluster: str, assurance: int = 1) -> Emergency:
        """Declare an emergency in one cluster, as a person who was authenticated just now. Raises NotEligible, and NotAuthenticated when
        they have a second proof and have not shown it.
        """
        if assurance < ASSURANCE and self._office.directory.step_up_secret(person.name) is not None:
            raise NotAuthenticated(f"{person.name} has a second proof, and an emergency needs it.", next_step="Add your code: --code.")
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

    async def delegate(self, person: Person, receiver: str, groups: tuple[str, ...], until: datetime, reason: str) -> Delegation:
        """Let another person approve in one's place until then, as a person who was authenticated just now. Raises NotEligible."""
        giver, deputy = (self._intake.person(name) for name in (person.name, receiver))
        if deputy.name not in self._office.members():
            raise NotEligible(f"{deputy.name} is not in the directory.", next_step="Add them: smokejumper people add NAME.")
        async with self._office.ledger.transaction() as writing:
            why, new = present(reason, REASON_LIMIT), self._office.ids("d")
            return await delegate(writing, new, giver=giver, receiver=deputy, groups=groups, until=until, reason=why)

    async def end_delegation(self, delegation: str, person: Person) -> None:
        """End a delegation before its day, as its giver or deputy. Raises NotEligible, Conflict."""
        async with self._office.ledger.transaction() as writing:
            await end(writing, delegation, by=person.name)

    async def delegations(self) -> tuple[Delegation, ...]:
        """Delegations, newest first, also those that are over."""
        async with self._office.store.read() as connection:
            return await delegations(connection)

    async def explain(self, proposal_id: str) -> tuple[ProposalView, Explanation]:
        """The proposal, and the verdict of the policy as it is now with the facts, single or in pairs, that would change it."""
        shown = await self.status(proposal_id)
        async with self._office.store.read() as connection:
            record = await load(connection, proposal_id)
        word, target = parse_action(record.draft["action"]), Target.model_validate(record.draft["target"])
        return shown, await self._intake.explain(record, word, target)

    async def _view(self, connection: AsyncConnection, record: Record) -> ProposalView:
        given = await approvals_of(connection, record.id)
        counted = None
        if record.requirement is not None and record.digest is not None:
            counted = await quorum(self._office, connection, record, given, record.requirement)
        return view(record, given, counted)
