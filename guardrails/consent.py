"""What people say about a proposal, taken down: an approval or a refusal, by one person, on one digest, once.

Whether it is enough is counted elsewhere and again at execution. Nobody approves faster than they can read: more in a minute than a
person manages is refused and told in the ledger, because it looks like a leaked account or a script.
"""

from __future__ import annotations

from typing import Literal

from guardrails.approval import Approval, admit
from guardrails.budget import APPROVALS_PER_MINUTE, approvals_lately
from guardrails.delegation import quorum, standing
from guardrails.directory import Person
from guardrails.errors import (
    DigestMismatch,
    Expired,
    GuardrailsError,
    IllegalTransition,
    NotAuthenticated,
    NotEligible,
    TooManyApprovals,
)
from guardrails.ledger import Writing
from guardrails.office import Office
from guardrails.proposal import State
from guardrails.record import Record, add_approval, approvals_of, load, move

Verdict = Literal["approve", "deny"]


async def consent(
    office: Office, proposal_id: str, digest: str, person: Person, *, channel: str, assurance: int, verdict: Verdict, reason: str = ""
) -> None:
    """Take down what a person says. Saying the same again changes nothing.

    Raises DigestMismatch, OwnApproval, NotEligible, NotAuthenticated, Expired, TooManyApprovals, IllegalTransition (not pending).
    """
    if person.name not in office.members():
        raise NotEligible(f"{person.name} is not in the directory.", next_step="Add them: smokejumper people add NAME.")
    refusal: GuardrailsError | None
    async with office.ledger.transaction() as writing:
        record = await load(writing.connection, proposal_id)
        approval = Approval(
            proposal_id=record.id,
            digest=digest,
            approver=person.name,
            channel=channel,
            assurance=assurance,
            verdict=verdict,
            at=writing.now,
        )
        refusal = await _take_down(office, writing, record, approval, reason)
    if refusal is not None:
        raise refusal


async def _take_down(office: Office, writing: Writing, record: Record, approval: Approval, reason: str) -> GuardrailsError | None:
    """Store it. What is raised leaves no trace; a refusal that is returned leaves its entry."""
    person = approval.approver
    if record.state is State.EXPIRED:
        raise Expired(f"{record.id} expired at {record.expires_at}.", next_step="Propose again.")
    if record.digest is None or record.requirement is None:
        raise IllegalTransition(f"{record.id} is {record.state}; nobody is asked for approval.")
    if approval.digest != record.digest:
        raise DigestMismatch(f"The digest of {record.id} is {record.digest}, not {approval.digest[:80]}.", next_step="Look at it again.")
    given = await approvals_of(writing.connection, record.id)
    said = next((a for a in given if a.approver.casefold() == person.casefold()), None)
    if said is not None and said.verdict == approval.verdict:
        return None
    if record.state is not State.PENDING:
        raise IllegalTransition(
            f"{record.id} is {record.state}; only a pending proposal can be approved or denied. {record.reason}".strip()
        )
    if record.expires_at is not None and writing.now >= record.expires_at:
        await move(writing, record, State.EXPIRED, by="gate", reason="Its time is over.")
        return Expired(f"{record.id} expired at {record.expires_at}.", next_step="Propose again.")
    groups = (await standing(office, writing.connection, record, given)).get(person, ())
    admit(
        record.requirement,
        digest=record.digest,
        named_digest=approval.digest,
        person=person,
        groups=groups,
        requester=record.requester,
        contributors=record.contributors,
    )
    if approval.verdict == "approve" and approval.assurance < record.requirement.assurance:
        raise NotAuthenticated(
            f"{record.id} needs approval with assurance {record.requirement.assurance}, and this one has {approval.assurance}.",
            next_step="Approve with a code of your authenticator: --code.",
        )
    if said is not None:
        raise IllegalTransition(f"{person} has already decided on {record.id}.")
    if approval.verdict == "deny":
        await add_approval(writing, approval, groups)
        await move(writing, record, State.DENIED, by=person, reason=reason or f"{person} denied it.")
        return None
    lately = await approvals_lately(writing.connection, person, writing.now)
    if lately >= APPROVALS_PER_MINUTE:
        body = {"approver": person, "channel": approval.channel, "digest": approval.digest, "in_the_last_minute": lately}
        await writing.append("approval.limited", record.id, body)
        return TooManyApprovals(
            f"{person} has approved {lately} proposals in the last minute, and nobody reads that fast; {record.id} is not approved.",
            next_step=f"Wait a minute. If it was not {person}: smokejumper people remove {person}",
        )
    await add_approval(writing, approval, groups)
    counted = await quorum(office, writing.connection, record, (*given, approval), record.requirement)
    if counted.enough:
        await move(writing, record, State.APPROVED, by="gate", reason="Enough people agreed.")
    return None
