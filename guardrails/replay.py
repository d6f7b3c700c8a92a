"""The story that a ledger tells, proposal by proposal, told again: could it have happened, and where does it end?

Hashes prove that nobody edited; this proves that every execution followed a decision and enough agreement of distinct people on the same
digest. It reads entries in order, once, and keeps of a proposal only what a later entry or the tables must agree with. It opens nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import Raw, Struct, convert, json
from msgspec import ValidationError as MsgspecError
from pydantic import ValidationError

from guardrails.approval import Approval, tally
from guardrails.errors import BadLedger, GuardrailsError
from guardrails.policy import Requirement
from guardrails.proposal import State, check_transition

_STATES = {state.value: state for state in State}


class Story(Struct):
    """What the entries so far say about one proposal. `approvals` are digests of the approvals as the table must have them."""

    cluster: str = ""
    requester: str = ""
    contributors: tuple[str, ...] = ()
    draft: bytes = b""
    emergency: str = ""
    state: State = State.PROPOSED
    version: int = 0
    reason: str = ""
    digest: str | None = None
    requirement: Requirement | None = None
    verdict: bytes | None = None
    effect: str = ""
    given: tuple[Approval, ...] = ()
    members: dict[str, tuple[str, ...]] = {}
    approvals: tuple[bytes, ...] = ()


class _Created(Struct):
    cluster: str
    requester: str
    contributors: tuple[str, ...]
    action: Any
    target: Any
    reason: str
    channel: str
    evidence: Any
    emergency: str = ""


class _Move(Struct, rename={"before": "from", "after": "to"}):
    before: str
    after: str
    version: int
    reason: str
    digest: str | None = None
    requirement: Raw = Raw(b"null")
    decision: Raw = Raw(b"null")


class _Decision(Struct):
    effect: str


class _Named(Struct):
    commitment: str
    kind: str


class _Naming(Struct):
    blobs: tuple[_Named, ...] = ()


_created = json.Decoder(_Created).decode
_move = json.Decoder(_Move).decode
_decision = json.Decoder(_Decision).decode
_named = json.Decoder(_Named).decode
_naming = json.Decoder(_Naming).decode
_sorted = json.Encoder(order="sorted").encode
_DRAFT = ("action", "target", "reason", "channel", "evidence")


class _Declared(Struct):
    id: str
    person: str
    cluster: str


class Replay:
    """Told entry by entry. `stories`: by proposal; `blobs`: by commitment, the naming entry and the kind; `erased`."""

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}
        self.blobs: dict[str, tuple[int, str]] = {}
        self.erased: dict[str, int] = {}
        self._emergencies: dict[str, _Declared] = {}

    def tell(self, seq: int, kind: str, proposal: str | None, body: str) -> str | None:
        """Add one entry; why it cannot have happened, None when it can."""
        try:
            self._tell(seq, kind, proposal, body)
        except GuardrailsError as error:
            return f"Entry {seq} cannot have happened: {error}"
        except (ValueError, KeyError, TypeError, MsgspecError, ValidationError) as error:
            return f"Entry {seq} makes no sense here: {type(error).__name__} {str(error)[:120]}"
        return None

    def _tell(self, seq: int, kind: str, proposal: str | None, body: str) -> None:
        if '"blobs":' in body:
            for named in _naming(body).blobs:
                self.blobs[named.commitment] = (seq, named.kind)
        if kind == "proposal.created" and proposal is not None:
            if proposal in self.stories:
                raise BadLedger(f"{proposal} was created twice.")
            self.stories[proposal] = _begin(_created(body))
        elif kind == "proposal.moved" and proposal is not None:
            story = self.stories[proposal]
            _turn(story, _move(body))
            self._refuse_unfounded(story)
        elif kind == "emergency.declared":
            declared = json.decode(body, type=_Declared)
            self._emergencies[declared.id] = declared
        elif kind == "approval.given" and proposal is not None:
            _agree(self.stories[proposal], json.decode(body))
        elif kind == "blob.erased":
            name = _named(body).commitment
            if name not in self.blobs or name in self.erased:
                raise BadLedger(f"{name[:80]} was not there to be erased.")
            self.erased[name] = seq
        elif proposal is not None and proposal not in self.stories:
            raise BadLedger(f"{proposal} was never created.")

    def _refuse_unfounded(self, story: Story) -> None:
        """Raise when a decision to ask people asks nobody, and no emergency of the requester in that cluster came before it."""
        if story.effect != "approve" or story.requirement is None or story.requirement.approvals:
            return
        declared = self._emergencies.get(story.emergency)
        if declared is None or (declared.person, declared.cluster) != (story.requester, story.cluster):
            raise BadLedger("nobody had to agree, and no emergency was declared.")


def draft_digest(draft: dict[str, Any]) -> bytes:
    """What was asked for, whatever the order of its fields."""
    return hashlib.sha256(_sorted([*(draft[name] for name in _DRAFT), draft.get("emergency", "")])).digest()


def json_digest(text: str | bytes | Raw) -> bytes:
    """A JSON document, whatever the order of its fields. Raises ValueError when it is none."""
    return hashlib.sha256(_sorted(json.decode(text))).digest()


def approval_digest(approval: str) -> bytes:
    """An approval as its row has it."""
    return hashlib.sha256(approval.encode("utf-8", "surrogatepass")).digest()


def _begin(created: _Created) -> Story:
    draft = draft_digest({name: getattr(created, name) for name in (*_DRAFT, "emergency")})
    return Story(created.cluster, created.requester, created.contributors, draft, created.emergency)


def _agree(story: Story, body: dict[str, Any]) -> None:
    groups = convert(body.pop("groups"), tuple[str, ...])
    body.pop("blobs", None)
    approval = Approval.model_validate(body)
    if story.state is not State.PENDING or approval.digest != story.digest:
        raise BadLedger(f"an approval of {approval.approver} on another digest, or when none was asked.")
    story.given = (*story.given, approval)
    story.members = story.members | {approval.approver: groups}
    story.approvals = (*story.approvals, approval_digest(approval.model_dump_json()))


def _turn(story: Story, move: _Move) -> None:
    """Change the state. Raises when the story so far does not allow it."""
    before, after = _STATES[move.before], _STATES[move.after]
    if before is not story.state:
        raise BadLedger(f"it was {story.state}, not {before}.")
    check_transition(before, after)
    if before is State.VALIDATING:
        _decide(story, after, move)
    elif after is State.APPROVED and not _agreed(story):
        raise BadLedger("not enough people had agreed.")
    elif after is State.EXECUTING:
        wanted = _requirement(move.requirement)
        if move.digest != story.digest or story.requirement is None or story.requirement.at_least(wanted) != wanted:
            raise BadLedger("another digest, or a laxer requirement, than was decided.")
        story.requirement = wanted
        if not _agreed(story):
            raise BadLedger("not enough people had agreed.")
        # Nothing later asks for these.
        story.given, story.members = (), {}
    story.state, story.version, story.reason = after, move.version, move.reason


def _decide(story: Story, after: State, move: _Move) -> None:
    if bytes(move.decision) != b"null":
        story.verdict = json_digest(move.decision)
    if after not in (State.PENDING, State.APPROVED):
        return
    story.digest, story.requirement = move.digest, _requirement(move.requirement)
    story.effect = _decision(move.decision).effect
    if (after is State.APPROVED) != (story.effect == "auto"):
        raise BadLedger(f"the decision was {story.effect}.")


def _requirement(raw: Raw) -> Requirement:
    return Requirement.model_validate_json(bytes(raw))


def _agreed(story: Story) -> bool:
    if story.requirement is None:
        return False
    return tally(
        story.requirement,
        story.given,
        story.members,
        digest=story.digest or "",
        requester=story.requester,
        contributors=story.contributors,
    ).enough
