"""Taking in what somebody wants: what was asked before is not asked again, the rest is examined, put to the policy, and waits.

People who approve see one open proposal for one thing. Who asks again for what they have asked for gets the proposal that is open, as
long as it still fits the object; who asks for something else of the same object takes their earlier proposal back with it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from typing import Any

from anyio import to_thread
from pydantic import ValidationError

from guardrails.action import Action, Target
from guardrails.blob import Attachment
from guardrails.budget import stamp
from guardrails.canonical import stored
from guardrails.claim import difference
from guardrails.counterfactual import Explanation, explain
from guardrails.directory import Person
from guardrails.emergency import Emergency, current, waived
from guardrails.errors import Forbidden, InvalidAction, KeyTaken, NotEligible, TargetNotFound, Unreachable
from guardrails.examination import Examination, examine
from guardrails.inquiry import inquire
from guardrails.ledger import Writing
from guardrails.office import Office
from guardrails.policy import decide
from guardrails.proposal import Evidence, Proposal, State
from guardrails.record import Draft, Record, create, find_by_key, load, move, open_of, remember_key
from guardrails.redact import present
from guardrails.view import REASON_LIMIT

# An investigation has at most a handful of rounds, each with one prompt.
ATTACHMENTS_MAX = 20
REHEARSAL_KEY = "rehearsal:"


class Intake:
    """Takes in proposals over one office."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def take(
        self,
        action: Action,
        target: Target,
        draft: Draft,
        *,
        cluster: str,
        who: tuple[Person, ...],
        key: str | None = None,
        break_glass: bool = False,
        attachments: tuple[Attachment, ...] = (),
    ) -> str:
        """The id of the proposal that stands for this wish: a new one, the one made under this key, or the one that is open for it.

        `who` is the requester, then the contributors; of `attachments` the first 20 are kept beside the ledger.

        Raises NotEligible; KeyTaken; TargetNotFound, Forbidden and Unreachable after rejecting it.
        """
        office, requester = self._office, who[0]
        if key and office.port(cluster).rehearsal:
            # What was rehearsed under a key must not stand for what is asked of the live cluster under it.
            key = f"{REHEARSAL_KEY}{key}"
        evidence = Evidence.model_validate(draft.evidence)
        async with office.store.read() as connection:
            known = await find_by_key(connection, key) if key else None
        if known is not None:
            return _same_wish(known, draft, cluster, who[0].name)
        emergency = await self._emergency(requester, cluster, evidence) if break_glass else None
        draft = Draft(draft.action, draft.target, draft.reason, draft.channel, draft.evidence, emergency.id if emergency else "")
        names = tuple(person.name for person in who)
        twin = await self._twin(action, target, draft, cluster, who, emergency)
        async with office.ledger.transaction() as writing:
            # Asked again inside the transaction: two callers with one key must not both make a proposal.
            known = await find_by_key(writing.connection, key) if key else None
            if known is not None:
                return _same_wish(known, draft, cluster, who[0].name)
            if twin is not None:
                if key:
                    await remember_key(writing.connection, key, twin)
                return twin
            new = office.ids("p")
            await create(
                writing,
                new,
                tenant=office.estate.tenant,
                cluster=cluster,
                action=action.action,
                draft=draft,
                who=names,
                key=key,
                attachments=attachments[:ATTACHMENTS_MAX],
            )
            record = await move(writing, await load(writing.connection, new), State.VALIDATING, by="gate")
        try:
            examination = await examine(office.port(cluster), action, target, requester, now=record.created_at)
        except (TargetNotFound, Forbidden, Unreachable) as error:
            async with office.ledger.transaction() as writing:
                await move(writing, record, State.REJECTED, by="gate", reason=str(error))
            raise
        async with office.ledger.transaction() as writing:
            await self._decide(writing, record, action, examination, requester, evidence, emergency)
        return record.id

    async def explain(self, record: Record, action: Action, target: Target) -> Explanation:
        """The verdict, the facts and which of them would have led to another effect, asked of cluster and policy as they are now."""
        requester = self.person(record.requester)
        examination = await examine(self._office.port(record.cluster), action, target, requester, now=record.created_at)
        async with self._office.store.read() as connection:
            asked = await inquire(self._office, connection, record, action, examination, requester)
        return await to_thread.run_sync(explain, self._office.bundles.policy, asked)

    def person(self, name: str) -> Person:
        """Who that is by the directory as it stands; somebody without groups when it knows nobody. Raises InvalidAction."""
        self._office.directory.refresh()
        try:
            return self._office.directory.find(name) or Person(name=name)
        except ValidationError as error:
            raise InvalidAction(f"{name[:60]!r} is no legal name of a person.") from error

    async def _twin(
        self, action: Action, target: Target, draft: Draft, cluster: str, who: tuple[Person, ...], emergency: Emergency | None
    ) -> str | None:
        """The open proposal of the same people for the same thing, if the object is still as it was and the policy has not turned."""
        async with self._office.store.read() as connection:
            candidates = await open_of(connection, requester=who[0].name, cluster=cluster, action=action.action, target=draft.target)
        now = self._office.clock.now()
        for record in candidates:
            same = (
                record.draft["action"] == draft.action
                and record.contributors == tuple(person.name for person in who[1:])
                and record.draft["evidence"]["tainted"] == draft.evidence["tainted"]
                and record.draft.get("emergency", "") == draft.emergency
            )
            if not same or record.sealed.not_after <= now:
                continue
            try:
                examination = await examine(self._office.port(cluster), action, target, who[0], now=record.created_at)
            except (TargetNotFound, Forbidden, Unreachable):
                # A new proposal runs into the same and keeps a record of it.
                return None
            if not examination.validated or difference(record.sealed, examination):
                continue
            async with self._office.store.read() as connection:
                asked = await inquire(self._office, connection, record, action, examination, who[0], emergency=emergency)
            if decide(self._office.bundles.policy, asked).effect != "deny":
                return record.id
        return None

    async def _emergency(self, person: Person, cluster: str, evidence: Evidence) -> Emergency:
        """The emergency that this proposal invokes. What an agent or free text argues for gets none. Raises NotEligible."""
        if evidence.tainted:
            raise NotEligible("An emergency covers what a person asks for, not what rests on a cluster's text or on an agent.")
        async with self._office.store.read() as connection:
            found = await current(connection, person, cluster, self._office.clock.now())
        if found is None:
            raise NotEligible(
                f"{person.name} has declared no emergency in {cluster}, or it is over.", next_step="smokejumper break-glass open"
            )
        return found

    async def _decide(
        self,
        writing: Writing,
        record: Record,
        action: Action,
        examination: Examination,
        requester: Person,
        evidence: Evidence,
        emergency: Emergency | None,
    ) -> None:
        office, dry_run = self._office, json.dumps(examination.shown())
        world: dict[str, Any] = {"rehearsal": True} if examination.rehearsal else {}
        if examination.change is None or examination.problems:
            reason = " ".join(examination.problems)
            await move(writing, record, State.REJECTED, by="gate", reason=present(reason, REASON_LIMIT), body=world, dry_run=dry_run)
            return
        asked = await inquire(office, writing.connection, record, action, examination, requester, emergency=emergency)
        verdict = waived(decide(office.bundles.policy, asked), emergency, writing.now)
        body: dict[str, Any] = {**world, "decision": verdict.model_dump(mode="json"), "dry_run": sha256(dry_run.encode()).hexdigest()}
        if verdict.effect == "deny":
            columns = {"verdict": stored(verdict), "dry_run": dry_run}
            await move(writing, record, State.DENIED, by="policy", reason=verdict.reason, body=body, **columns)
            return
        not_after = record.created_at + timedelta(seconds=verdict.requirement.ttl_seconds)
        sealed = Proposal(
            id=record.id,
            tenant=record.tenant,
            cluster=record.cluster,
            cluster_uid=examination.observed.cluster_uid,
            action=action,
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
        await self._supersede(writing, record, sealed)
        await move(
            writing,
            record,
            State.APPROVED if sealed.automatic else State.PENDING,
            by="policy",
            reason=verdict.reason,
            body={**body, "digest": sealed.digest, "requirement": verdict.requirement.model_dump(mode="json")},
            digest=sealed.digest,
            document=stored(sealed),
            verdict=stored(verdict),
            requirement=verdict.requirement.model_dump_json(),
            dry_run=dry_run,
            expires_at=stamp(not_after),
        )

    async def _supersede(self, writing: Writing, by: Record, sealed: Proposal) -> None:
        """End the requester's open proposals for the same action on the same object: the new one takes their place.

        A recording has the name of the cluster that it is of: a rehearsal on it ends nothing that is meant for that cluster, and the
        reverse.
        """
        earlier = await open_of(writing.connection, requester=by.requester, cluster=by.cluster, action=by.action, target=by.draft["target"])
        agent_asks = bool(by.draft["evidence"]["tainted"])
        for record in earlier:
            # An agent, or whatever it has read, must not take back what a person asked for without one.
            if agent_asks and not record.draft["evidence"]["tainted"]:
                continue
            if record.sealed.rehearsal != sealed.rehearsal:
                continue
            await move(writing, record, State.SUPERSEDED, by=by.requester, reason=f"{by.requester} asked anew: {by.id}.")


def _same_wish(known: Record, draft: Draft, cluster: str, requester: str) -> str:
    """The id of the proposal made under a key, when it is the same person's wish for the same thing. Raises KeyTaken.

    The refusal names nothing of what the other proposal is about.
    """
    if known.requester.casefold() != requester.casefold():
        other = "somebody else's proposal"
    elif (known.cluster, known.draft["action"], known.draft["target"]) != (cluster, draft.action, draft.target):
        other = f"{known.id}, which asks for something else"
    else:
        return known.id
    raise KeyTaken(f"This idempotency key stands for {other}.", next_step="Use a key of its own for each wish.")
