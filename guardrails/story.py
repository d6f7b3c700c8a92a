"""What the entries of one proposal say, told again: its states, what was decided, who agreed, and whether that was enough.

Of a proposal only what a later entry or the tables must agree with is kept. What reaches beyond one proposal (emergencies, switches,
delegations) is `guardrails.replay`'s. It opens nothing.

Entries are canonical JSON, so the pieces of them that a table must repeat are compared as text, by digest, without being decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from sys import intern
from typing import Generic, TypeVar

from msgspec import Raw, Struct, json

from guardrails.approval import Approval, tally
from guardrails.errors import BadLedger
from guardrails.policy import Requirement
from guardrails.proposal import TRANSITIONS, State, check_transition

# People, requirements and groups come in few combinations; what was found for one of them holds for all.
_REMEMBERED = 4096
_LEGAL = {(before.value, after.value): (before, after) for before, ends in TRANSITIONS.items() for after in ends}
_NONE = Raw(b"null")
# Python looks up the members of an Enum, and hashes them, by code of its own: a fifth of a replay's time.
_VALIDATING, _PENDING, _APPROVED = State.VALIDATING, State.PENDING, State.APPROVED
_EXECUTING, _VERIFYING, _FAILED = State.EXECUTING, State.VERIFYING, State.FAILED
# Where the body of a canonical entry begins: after `{"at":"`, a time as `budget.stamp` writes it, and this.
_BODY = '","body":'
_BODY_AT, _BODY_FROM = 39, 48

# Who voted, how surely, over what and how; and their groups.
Vote = tuple[tuple[str, int, str, str], tuple[str, ...]]


class Story(Struct, gc=False):
    """What the entries so far say about one proposal. Digests are SHA-256; `requirement` is canonical JSON; `at` is when it was created.

    `approvals` are the entry and the person of the approvals as the table must have them; `given` are the votes as they count.
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
    given: tuple[Vote, ...] = ()
    approvals: tuple[tuple[int, str], ...] = ()
    fence: int = 0
    automatic: bool = False
    claimed_at: str | None = None
    failed_at: str | None = None
    dry_run: str = ""


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


class Ballot(Struct, gc=False):
    """An approval, as the table must have it: all that `guardrails.approval.Approval` says, in the order of the names."""

    approver: str
    assurance: int
    at: str
    channel: str
    digest: str
    proposal_id: str
    verdict: str


class _Created(Struct, gc=False):
    action: Raw
    channel: str
    cluster: str
    contributors: tuple[str, ...]
    evidence: Raw
    reason: str
    requester: str
    target: Raw
    emergency: str = ""


class _Given(Ballot, gc=False, kw_only=True, forbid_unknown_fields=True):
    groups: tuple[str, ...]
    blobs: Raw = _NONE


class Move(Struct, frozen=True, gc=False, rename={"before": "from", "after": "to"}):
    """One change of state, as its entry tells it."""

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


class _Resumed(Struct, gc=False):
    fence: int


T = TypeVar("T")


class Told(Struct, Generic[T], gc=False):
    """One entry, of which only what the replay asks for is decoded."""

    at: str
    body: T


_encode = json.Encoder().encode
_decision = json.Decoder(_Decision).decode


def decoder(body: type[T]) -> Callable[[str], Told[T]]:
    """Of entries with such a body. What it gives raises msgspec's errors."""
    return json.Decoder(Told[body]).decode  # type: ignore[valid-type]


_move = json.Decoder(Move).decode
_created, _given, _moved, _resumed = decoder(_Created), decoder(_Given), decoder(Move), decoder(_Resumed)


def begin(entry: str) -> Story:
    """What the entry of a creation says."""
    told = _created(entry)
    body = told.body
    if body.emergency:
        draft = _encode(_EmergencyDraft(body.action, body.channel, body.emergency, body.evidence, body.reason, body.target))
    else:
        draft = _encode(_Draft(body.action, body.channel, body.evidence, body.reason, body.target))
    return Story(told.at, intern(body.cluster), intern(body.requester), body.contributors, _digest(draft), body.emergency)


def agree(story: Story, seq: int, entry: str) -> None:
    """Add a vote. Raises BadLedger when it is on another digest than was decided, or none was asked."""
    body = _given(entry).body
    if story.state is not _PENDING or body.digest != story.digest:
        raise BadLedger(f"an approval of {body.approver} on another digest, or when none was asked.")
    story.approvals = (*story.approvals, (seq, body.approver.casefold()))
    story.given = (*story.given, ((body.approver, body.assurance, body.channel, body.verdict), body.groups))


def ballot(entry: str) -> bytes:
    """The digest of the approval that the entry of a vote tells of, as the table must have it."""
    body = _given(entry).body
    told = Ballot(body.approver, body.assurance, body.at, body.channel, body.digest, body.proposal_id, body.verdict)
    return sha256(_encode(told)).digest()


def resume(story: Story, entry: str) -> None:
    """Another executor goes on."""
    story.fence = _resumed(entry).body.fence


def turn(story: Story, entry: str, excuse: Callable[[Story, str], None]) -> bool:
    """Change the state; whether the entry may name texts. Raises when the story so far does not allow it.

    `excuse` is asked about a story for which nobody was asked, and a time; it raises when no emergency explains that.
    """
    state, named = story.state, True
    # What leads out of these carries a digest, which no two proposals share.
    if state is _VALIDATING or state is _APPROVED or not entry.startswith(_BODY, _BODY_AT):
        told = _moved(entry)
        move, at = told.body, told.at
        before, after = _legal(move)
    else:
        # Quotes inside a text are escaped, so the last of these is the entry's own.
        move, before, after, named = _common(entry[_BODY_FROM : entry.rfind(',"id":"')])
        at = entry[_BODY_AT - 32 : _BODY_AT]
    if before is not state:
        raise BadLedger(f"it was {state}, not {before}.")
    if before is _VALIDATING:
        _decide(story, after, move)
        _refuse_unfounded(story, story.at, excuse)
    elif after is _APPROVED:
        if not _agreed(story):
            raise BadLedger("not enough people had agreed.")
    elif after is _EXECUTING:
        _execute(story, move, at, excuse)
    elif after is _PENDING:
        _ask_again(story, move)
    elif before is _VERIFYING and after is _FAILED:
        story.failed_at = at
    story.state, story.version, story.reason = after, move.version, move.reason
    return named


def _legal(move: Move) -> tuple[State, State]:
    """Raises when no proposal can move so."""
    legal = _LEGAL.get((move.before, move.after))
    if legal is None:
        check_transition(State(move.before), State(move.after))
        raise BadLedger(f"{move.before} does not lead to {move.after}.")
    return legal


@lru_cache(_REMEMBERED)
def _common(body: str) -> tuple[Move, State, State, bool]:
    """Most moves say the same of many proposals. The last is whether it may name texts."""
    move = _move(body)
    return move, *_legal(move), '"blobs":' in body


def _decide(story: Story, after: State, move: Move) -> None:
    decision, story.dry_run = bytes(move.decision), intern(move.dry_run)
    if decision != b"null":
        story.verdict = _digest(decision)
    if after is not _PENDING and after is not _APPROVED:
        return
    story.digest, story.requirement = move.digest, _text(move.requirement)
    story.effect = _effect(decision)
    if (after is _APPROVED) != (story.effect == "auto"):
        raise BadLedger(f"the decision was {story.effect}.")


@lru_cache(_REMEMBERED)
def _digest(text: bytes) -> bytes:
    return sha256(text).digest()


@lru_cache(_REMEMBERED)
def _effect(decision: bytes) -> str:
    return _decision(decision).effect


def _ask_again(story: Story, move: Move) -> None:
    """Back to people because the policy has become stricter: from here on that is what was decided."""
    wanted = _text(move.requirement)
    if not is_at_least(wanted, story.requirement):
        raise BadLedger("it went back with a laxer requirement than was decided.")
    story.requirement = wanted


def _execute(story: Story, move: Move, at: str, excuse: Callable[[Story, str], None]) -> None:
    wanted = _text(move.requirement)
    if move.digest != story.digest or not is_at_least(wanted, story.requirement):
        raise BadLedger("another digest, or a laxer requirement, than was decided.")
    story.requirement = wanted
    if not _agreed(story):
        raise BadLedger("not enough people had agreed.")
    _refuse_unfounded(story, at, excuse)
    # Nothing later asks for these.
    story.given = ()
    story.fence, story.claimed_at = move.fence, at
    story.automatic = not _requirement(wanted).approvals


def _refuse_unfounded(story: Story, at: str, excuse: Callable[[Story, str], None]) -> None:
    """Raise when a decision to ask people asks nobody, unless that is excused."""
    if story.effect == "approve" and not _requirement(story.requirement).approvals:
        excuse(story, at)


def _agreed(story: Story) -> bool:
    return bool(story.requirement) and _is_enough(story.requirement, story.given, story.requester, story.contributors)


@lru_cache(_REMEMBERED)
def _is_enough(requirement: str, given: tuple[Vote, ...], requester: str, contributors: tuple[str, ...]) -> bool:
    """Whether these votes, each on the digest that was decided, meet the requirement. Raises ValidationError."""
    agreed = tuple(
        Approval.model_validate(
            {"proposal_id": "", "digest": "", "at": "1970-01-01T00:00:00Z"}
            | {"approver": approver, "assurance": assurance, "channel": channel, "verdict": verdict}
        )
        for (approver, assurance, channel, verdict), _ in given
    )
    members = {approval.approver: groups for approval, (_, groups) in zip(agreed, given, strict=True)}
    return tally(_requirement(requirement), agreed, members, digest="", requester=requester, contributors=contributors).enough


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
