"""The story that a ledger tells, proposal by proposal, told again: could it have happened, and where does it end?

Hashes prove that nobody edited; this proves that every execution followed a decision and enough agreement of distinct people on the same
digest. It reads entries in order, once, and keeps of a proposal only what a later entry or the tables must agree with. It opens nothing.

Entries are canonical JSON, so the pieces of them that a table must repeat are compared as text, by digest, without being decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from sys import intern
from typing import Any, Generic, TypeVar

from msgspec import Raw, Struct, json
from msgspec import ValidationError as MsgspecError
from pydantic import ValidationError

from guardrails.approval import Approval, tally
from guardrails.emergency import LASTS
from guardrails.errors import BadLedger, GuardrailsError
from guardrails.policy import Requirement
from guardrails.proposal import TRANSITIONS, State, check_transition

# People, requirements and groups come in few combinations; what was found for one of them holds for all.
_REMEMBERED = 4096
_LEGAL = {(before.value, after.value): (before, after) for before, ends in TRANSITIONS.items() for after in ends}
_NONE = Raw(b"null")


class Story(Struct, gc=False):
    """What the entries so far say about one proposal. Digests are SHA-256; `requirement` is canonical JSON; `at` is when it was created.

    `approvals` are the entry, the person and the digest of the approvals as the table must have them; `given` are the votes as they count.
    """

    at: str
    cluster: str
    requester: str
    contributors: tuple[str, ...]
    draft: bytes
    emergency: str = ""
    state: State = State.PROPOSED
    version: int = 0
    reason: str = ""
    digest: str | None = None
    requirement: str = ""
    verdict: bytes | None = None
    effect: str = ""
    given: tuple[tuple[bytes, tuple[str, ...]], ...] = ()
    approvals: tuple[tuple[int, str, bytes], ...] = ()
    fence: int = 0
    automatic: bool = False
    claimed_at: str | None = None
    failed_at: str | None = None
    dry_run: str = ""


class Emergency(Struct):
    """One that was declared, as the table must have it."""

    id: str
    person: str
    cluster: str
    reason: str
    until: str
    at: str = ""
    reviewed_by: str = ""
    review: str = ""


class Loan(Struct):
    """One delegation, as the table must have it."""

    id: str
    giver: str
    receiver: str
    groups: tuple[str, ...]
    reason: str
    until: str
    at: str = ""
    ended_by: str = ""
    entry: int = 0


# In the order of their names (RFC 8785), so that encoding one gives canonical JSON again; `emergency` is written only where there is one.
class _Draft(Struct, gc=False):
    action: Raw
    channel: str
    evidence: Raw
    reason: str
    target: Raw


class _EmergencyDraft(Struct, gc=False):
    action: Raw
    channel: str
    emergency: str
    evidence: Raw
    reason: str
    target: Raw


class _Created(Struct, gc=False):
    cluster: str
    requester: str
    contributors: tuple[str, ...]
    emergency: str = ""


class _Move(Struct, gc=False, rename={"before": "from", "after": "to"}):
    before: str
    after: str
    version: int
    reason: str
    digest: str | None = None
    requirement: Raw = _NONE
    decision: Raw = _NONE
    fence: int = 0
    dry_run: str = ""


class _Decision(Struct, gc=False):
    effect: str


class _Named(Struct, gc=False):
    commitment: str
    kind: str


class _Naming(Struct, gc=False):
    blobs: tuple[_Named, ...] = ()


class _Review(Struct, gc=False):
    id: str
    by: str
    note: str


class _End(Struct, gc=False):
    id: str
    by: str


class _Resumed(Struct, gc=False):
    fence: int


class _Switched(Struct, gc=False):
    scope: str
    reason: str
    by: str


T = TypeVar("T")


class _Entry(Struct, Generic[T], gc=False):
    """One entry, of which only what the replay asks for is decoded."""

    at: str
    body: T


_encode, _sorted = json.Encoder().encode, json.Encoder(order="sorted").encode
_decision = json.Decoder(_Decision).decode


def _decoder(body: type[T]) -> Callable[[str], _Entry[T]]:
    return json.Decoder(_Entry[body]).decode  # type: ignore[valid-type]


_created = _decoder(_Created)
_draft, _emergency_draft = _decoder(_Draft), _decoder(_EmergencyDraft)
_moved = _decoder(_Move)
_given = _decoder(dict[str, Any])
_declared = _decoder(Emergency)
_reviewed = _decoder(_Review)
_lent, _ended = _decoder(Loan), _decoder(_End)
_naming, _erased = _decoder(_Naming), _decoder(_Named)
_resumed, _switched = _decoder(_Resumed), _decoder(_Switched)


class Replay:
    """Told entry by entry. `blobs`: by commitment, the entry that names it and the kind; `erased`: by commitment, the entry that tells.

    `switches`: by scope, whether it is on, why, by whom and since when.
    """

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}
        self.blobs: dict[str, tuple[int, str]] = {}
        self.erased: dict[str, int] = {}
        self.emergencies: dict[str, Emergency] = {}
        self.loans: dict[str, Loan] = {}
        self.switches: dict[str, tuple[int, str, str, str]] = {}

    def tell(self, seq: int, kind: str, proposal: str | None, entry: str) -> str | None:
        """Add one entry by its stored text; why it cannot have happened, None when it can."""
        return next((why for _, why in self.take([(seq, kind, proposal, entry)])), None)

    def take(self, rows: Iterable[Any]) -> list[tuple[int, str]]:
        """Add entries by number, type, proposal and stored text; the number of each that cannot have happened, and why."""
        wrong: list[tuple[int, str]] = []
        stories = self.stories
        for seq, kind, proposal, entry in rows:
            try:
                if kind == "proposal.moved":
                    self._turn(stories[proposal], _moved(entry))
                elif kind == "approval.given":
                    _agree(stories[proposal], seq, _given(entry).body)
                elif kind == "proposal.created":
                    if proposal in stories:
                        raise BadLedger(f"{proposal} was created twice.")
                    stories[proposal] = _begin(entry)
                elif proposal is None:
                    self._tell_of_all(seq, kind, entry)
                elif proposal not in stories:
                    raise BadLedger(f"{proposal} was never created.")
                elif kind == "execution.resumed":
                    stories[proposal].fence = _resumed(entry).body.fence
                if '"blobs":' in entry:
                    for named in _naming(entry).body.blobs:
                        self.blobs[named.commitment] = (seq, named.kind)
            except GuardrailsError as error:
                wrong.append((seq, f"Entry {seq} cannot have happened: {error}"))
            except (ValueError, KeyError, TypeError, MsgspecError, ValidationError) as error:
                wrong.append((seq, f"Entry {seq} makes no sense here: {type(error).__name__} {str(error)[:120]}"))
        return wrong

    def _tell_of_all(self, seq: int, kind: str, entry: str) -> None:
        """What is about no single proposal."""
        if kind == "blob.erased":
            name = _erased(entry).body.commitment
            if name not in self.blobs or name in self.erased:
                raise BadLedger(f"{name[:80]} was not there to be erased.")
            self.erased[name] = seq
        elif kind == "emergency.declared":
            declared = _declared(entry)
            emergency = declared.body
            emergency.at = declared.at
            if emergency.id in self.emergencies:
                raise BadLedger(f"{emergency.id} was declared twice.")
            if not timedelta() < datetime.fromisoformat(emergency.until) - datetime.fromisoformat(emergency.at) <= LASTS:
                raise BadLedger(f"{emergency.id} was to last longer than an emergency may.")
            self.emergencies[emergency.id] = emergency
        elif kind == "emergency.reviewed":
            review = _reviewed(entry).body
            emergency = self.emergencies[review.id]
            if emergency.reviewed_by or review.by.casefold() == emergency.person.casefold():
                raise BadLedger(f"{review.id} cannot be reviewed by {review.by}, or was already.")
            emergency.reviewed_by, emergency.review = review.by, review.note
        elif kind == "delegation.given":
            lent = _lent(entry)
            loan = lent.body
            loan.at, loan.entry = lent.at, seq
            if loan.id in self.loans:
                raise BadLedger(f"{loan.id} was given twice.")
            self.loans[loan.id] = loan
        elif kind == "delegation.ended":
            end = _ended(entry).body
            loan = self.loans[end.id]
            if loan.ended_by or end.by.casefold() not in (loan.giver.casefold(), loan.receiver.casefold()):
                raise BadLedger(f"{end.id} cannot be ended by {end.by}, or was already.")
            loan.ended_by = end.by
        elif kind in ("switch.on", "switch.off"):
            turned = _switched(entry)
            body = turned.body
            self.switches[body.scope] = (int(kind == "switch.on"), body.reason, body.by, turned.at)

    def _turn(self, story: Story, entry: _Entry[_Move]) -> None:
        """Change the state. Raises when the story so far does not allow it."""
        move = entry.body
        legal = _LEGAL.get((move.before, move.after))
        if legal is None:
            check_transition(State(move.before), State(move.after))
            raise BadLedger(f"{move.before} does not lead to {move.after}.")
        before, after = legal
        if before is not story.state:
            raise BadLedger(f"it was {story.state}, not {before}.")
        if before is State.VALIDATING:
            _decide(story, after, move)
            self._refuse_unfounded(story, story.at)
        elif after is State.APPROVED and not _agreed(story):
            raise BadLedger("not enough people had agreed.")
        elif before is State.APPROVED and after is State.PENDING:
            _ask_again(story, move)
        elif after is State.EXECUTING:
            self._execute(story, entry)
        elif before is State.VERIFYING and after is State.FAILED:
            story.failed_at = entry.at
        story.state, story.version, story.reason = after, move.version, move.reason

    def _execute(self, story: Story, entry: _Entry[_Move]) -> None:
        move, wanted = entry.body, _text(entry.body.requirement)
        if move.digest != story.digest or not is_at_least(wanted, story.requirement):
            raise BadLedger("another digest, or a laxer requirement, than was decided.")
        story.requirement = wanted
        if not _agreed(story):
            raise BadLedger("not enough people had agreed.")
        self._refuse_unfounded(story, entry.at)
        # Nothing later asks for these.
        story.given = ()
        story.fence, story.claimed_at = move.fence, entry.at
        story.automatic = not _requirement(wanted).approvals

    def _refuse_unfounded(self, story: Story, at: str) -> None:
        """Raise when a decision to ask people asks nobody, unless an emergency of the requester in that cluster lasted at that time."""
        if story.effect != "approve" or _requirement(story.requirement).approvals:
            return
        declared = self.emergencies.get(story.emergency)
        if declared is None or not _covers(declared, story):
            raise BadLedger("nobody had to agree, and no emergency was declared.")
        # Times are written alike, in UTC, so they sort as text. Who declares another emergency may go on.
        if not any(one.at <= at < one.until for one in self.emergencies.values() if _covers(one, story)):
            raise BadLedger(f"nobody had to agree, and the emergency {declared.id} was over at {declared.until}.")


def _covers(emergency: Emergency, story: Story) -> bool:
    return (emergency.person, emergency.cluster) == (story.requester, story.cluster)


@lru_cache(_REMEMBERED)
def is_same_requirement(row: str, decided: str) -> bool:
    """Whether a stored requirement is the one that was decided. Raises ValidationError."""
    return _requirement(row) == _requirement(decided)


@lru_cache(_REMEMBERED)
def is_at_least(wanted: str, decided: str) -> bool:
    """Whether one requirement, as JSON, asks for at least as much agreement as another. Raises ValidationError."""
    return _requirement(decided).at_least(_requirement(wanted)) == _requirement(wanted)


@lru_cache(_REMEMBERED)
def _requirement(text: str) -> Requirement:
    return Requirement.model_validate_json(text)


def _text(raw: Raw) -> str:
    return intern(bytes(raw).decode())


def _begin(entry: str) -> Story:
    created = _created(entry)
    body = created.body
    draft = (_emergency_draft if body.emergency else _draft)(entry).body
    digest = sha256(_encode(draft)).digest()
    return Story(created.at, intern(body.cluster), intern(body.requester), body.contributors, digest, body.emergency)


def _agree(story: Story, seq: int, body: dict[str, Any]) -> None:
    groups = tuple(body.pop("groups"))
    body.pop("blobs", None)
    if story.state is not State.PENDING or body["digest"] != story.digest:
        raise BadLedger(f"an approval of {body['approver']} on another digest, or when none was asked.")
    story.approvals = (*story.approvals, (seq, body["approver"].casefold(), sha256(_sorted(body)).digest()))
    # What is left says the same of many approvals: who, how surely, and what they said.
    vote = _sorted(body | {"proposal_id": "", "digest": "", "at": "1970-01-01T00:00:00Z"})
    story.given = (*story.given, (vote, groups))


def _decide(story: Story, after: State, move: _Move) -> None:
    decision, story.dry_run = bytes(move.decision), move.dry_run
    if decision != b"null":
        story.verdict = sha256(decision).digest()
    if after not in (State.PENDING, State.APPROVED):
        return
    story.digest, story.requirement = move.digest, _text(move.requirement)
    story.effect = intern(_decision(decision).effect)
    if (after is State.APPROVED) != (story.effect == "auto"):
        raise BadLedger(f"the decision was {story.effect}.")


def _ask_again(story: Story, move: _Move) -> None:
    """Back to people because the policy has become stricter: from here on that is what was decided."""
    wanted = _text(move.requirement)
    if not is_at_least(wanted, story.requirement):
        raise BadLedger("it went back with a laxer requirement than was decided.")
    story.requirement = wanted


def _agreed(story: Story) -> bool:
    return bool(story.requirement) and _is_enough(story.requirement, story.given, story.requester, story.contributors)


@lru_cache(_REMEMBERED)
def _is_enough(requirement: str, given: tuple[tuple[bytes, tuple[str, ...]], ...], requester: str, contributors: tuple[str, ...]) -> bool:
    """Whether these votes, each on the digest that was decided, meet the requirement. Raises ValidationError."""
    agreed = tuple(Approval.model_validate_json(vote) for vote, _ in given)
    members = {approval.approver: groups for approval, (_, groups) in zip(agreed, given, strict=True)}
    return tally(_requirement(requirement), agreed, members, digest="", requester=requester, contributors=contributors).enough
