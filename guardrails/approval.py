"""Whether enough of the right people agreed. Pure: who is in which group now comes in as data.

Four eyes are no setting here: whoever asked for a change or contributed to it can never approve it, and one person counts once,
however many ways they said yes and however many groups they are in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct
from pydantic import BaseModel, ConfigDict

from guardrails.errors import DigestMismatch, NotEligible, OwnApproval
from guardrails.policy import Requirement


class Approval(BaseModel):
    """One person's decision on one digest. `assurance` is how sure the channel is who they are: 1 a token or chat account, 2 step-up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposal_id: str
    digest: str
    approver: str
    channel: str
    assurance: int = 1
    verdict: Literal["approve", "deny"] = "approve"
    at: datetime


class Tally(Struct, frozen=True):
    """How a requirement stands. `missing` is empty when it is met; `counted` are the people who count; `void` says why others do not."""

    missing: dict[str, int]
    counted: tuple[str, ...]
    void: dict[str, str]

    @property
    def enough(self) -> bool:
        return not self.missing


def same_person(one: str, other: str) -> bool:
    """Names of people are compared without case: two spellings are not two people."""
    return one.casefold() == other.casefold()


def admit(
    requirement: Requirement,
    *,
    digest: str,
    named_digest: str,
    person: str,
    groups: tuple[str, ...],
    requester: str,
    contributors: tuple[str, ...],
) -> None:
    """Raise DigestMismatch, OwnApproval or NotEligible unless this person may decide on this digest."""
    if named_digest != digest:
        raise DigestMismatch(f"The proposal's digest is {digest}, not {named_digest[:80]}.", next_step="Look at the proposal again.")
    if any(same_person(person, own) for own in (requester, *contributors)):
        raise OwnApproval(f"{person} asked for this change or contributed to it.", next_step="Somebody else must decide.")
    if not set(groups) & set(requirement.approvals):
        wanted = ", ".join(requirement.approvals)
        raise NotEligible(f"{person} is in none of the groups that may decide: {wanted}.", next_step="Ask one of their members.")


def tally(
    requirement: Requirement,
    approvals: tuple[Approval, ...],
    members: Mapping[str, tuple[str, ...]],
    *,
    digest: str,
    requester: str,
    contributors: tuple[str, ...],
) -> Tally:
    """Count approvals as they stand now. `members` gives each known person's groups now; who is absent has left.

    Each person fills one place of one group; places are matched to people so that as many as possible are filled.
    """
    void: dict[str, str] = {}
    people: dict[str, tuple[str, ...]] = {}
    for approval in approvals:
        name = approval.approver
        groups = tuple(group for group in members.get(name, ()) if group in requirement.approvals)
        if approval.verdict != "approve":
            void[name] = "denied"
        elif approval.digest != digest:
            void[name] = "approved another digest"
        elif any(same_person(name, own) for own in (requester, *contributors)):
            void[name] = "asked for it or contributed"
        elif name not in members:
            void[name] = "is no longer in the directory"
        elif not groups:
            void[name] = "is in none of the required groups now"
        elif approval.assurance < requirement.assurance:
            void[name] = f"assurance {approval.assurance} is below {requirement.assurance}"
        elif not any(same_person(name, known) for known in people):
            people[name] = groups
    places = [group for group, count in requirement.approvals.items() for _ in range(count)]
    filled: dict[int, str] = {}
    for name in people:
        _place(name, people, places, filled, set())
    missing: dict[str, int] = {}
    for index, group in enumerate(places):
        if index not in filled:
            missing[group] = missing.get(group, 0) + 1
    return Tally(missing, tuple(sorted(filled.values())), void)


def _place(name: str, people: dict[str, tuple[str, ...]], places: list[str], filled: dict[int, str], tried: set[int]) -> bool:
    """Kuhn's augmenting path: give the person a place, moving others to another of theirs where that helps."""
    for index, group in enumerate(places):
        if group in people[name] and index not in tried:
            tried.add(index)
            if index not in filled or _place(filled[index], people, places, filled, tried):
                filled[index] = name
                return True
    return False
