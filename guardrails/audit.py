"""Whether the ledger tells the truth about what happened: the hashes, the signatures, and the story itself.

Hashes alone prove only that nobody edited; the replay proves that every execution followed a decision and enough agreement of distinct
people on the same digest, and that the database's present state is where that story ends. The verdict names the first wrong entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from pydantic import ValidationError
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.approval import Approval, tally
from guardrails.errors import BadLedger, GuardrailsError
from guardrails.merkle import Frontier, leaf_hash
from guardrails.note import Verifier
from guardrails.policy import Requirement
from guardrails.proposal import Proposal, State, check_transition
from guardrails.store import Store, approvals, checkpoints, entries, heads, proposals

PROBLEMS_MAX = 50


class Problem(Struct, frozen=True, order=True):
    """What is wrong, and at which entry; -1 where it is not one entry's."""

    seq: int
    what: str


class Report(Struct, frozen=True):
    """The answer. `exit_code` is 0 intact, 1 tampered, 2 cannot verify."""

    status: Literal["intact", "tampered", "cannot-verify"]
    entries: int
    checkpoints: int
    proposals: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return {"intact": 0, "tampered": 1, "cannot-verify": 2}[self.status]


class _Story(Struct):
    """What the entries so far say about one proposal."""

    state: State = State.PROPOSED
    version: int = 0
    requester: str = ""
    contributors: tuple[str, ...] = ()
    digest: str | None = None
    requirement: Requirement | None = None
    effect: str = ""
    given: list[Approval] = []
    members: dict[str, tuple[str, ...]] = {}


async def verify(store: Store, verifier: Verifier | None, *, log: str = "default", anchor: Path | None = None) -> Report:
    """Check everything. `verifier` should be a key pinned outside the database; `anchor` is the newest checkpoint kept beside it."""
    if verifier is None:
        return Report("cannot-verify", 0, 0, 0, (), ("There is no key to check signatures with.",))
    try:
        async with store.read() as connection:
            return await _verify(connection, verifier, log, _read_anchor(anchor))
    except GuardrailsError as error:
        return Report("cannot-verify", 0, 0, 0, (), (str(error),))


async def _verify(connection: AsyncConnection, verifier: Verifier, log: str, anchor: str | None) -> Report:
    problems: list[Problem] = []
    notes: list[str] = []
    rows = (await connection.execute(select(entries).where(entries.c.log == log).order_by(entries.c.seq))).all()
    signed = (await connection.execute(select(checkpoints).where(checkpoints.c.log == log).order_by(checkpoints.c.size))).all()
    head = (await connection.execute(select(heads).where(heads.c.log == log))).one_or_none()
    roots = _roots(rows, {row.size for row in signed} | _size_of(anchor), problems)
    for row in signed:
        _check_note(row.note, row.size, verifier, roots, problems)
    if anchor is None:
        notes.append("No anchor outside the database was given: a database that was put back or cut short would not be noticed.")
    else:
        _check_note(anchor, None, verifier, roots, problems, what="The anchor outside the database")
    size = 0 if head is None else head.size
    if size != len(rows) or (rows and (not signed or signed[-1].size != len(rows))):
        last = signed[-1].size if signed else 0
        problems.append(Problem(min(size, len(rows)), f"{len(rows)} entries are there, the head says {size}, the last checkpoint {last}."))
    stories = _replay(rows, problems)
    await _compare(connection, log, stories, problems)
    status: Literal["intact", "tampered"] = "tampered" if problems else "intact"
    return Report(status, len(rows), len(signed), len(stories), _in_order(problems), tuple(notes))


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """Those of an entry first, by entry: the first is the first wrong one. Bounded, saying how many are left out."""
    ordered = sorted(problems, key=lambda problem: (problem.seq < 0, problem.seq, problem.what))
    cut = [Problem(-1, f"{len(ordered) - PROBLEMS_MAX} more problems.")] if len(ordered) > PROBLEMS_MAX else []
    return (*ordered[:PROBLEMS_MAX], *cut)


def _roots(rows: Sequence[Row[Any]], sizes: set[int], problems: list[Problem]) -> dict[int, bytes]:
    """The root at each wanted size, recomputed from the stored texts; complains of gaps, edits and columns that differ from the text."""
    frontier = Frontier()
    roots = {0: frontier.root()}
    expected = 0
    for row in rows:
        text = row.entry if isinstance(row.entry, str) else ""
        leaf = leaf_hash(text.encode("utf-8", "surrogatepass"))
        if row.seq != expected:
            problems.append(Problem(expected, f"Entry {expected} is missing; {row.seq} follows."))
        expected = row.seq + 1
        if row.leaf != leaf.hex():
            problems.append(Problem(row.seq, f"Entry {row.seq} was edited: its text does not give its leaf."))
        try:
            said = json.loads(text)
            named = (said["seq"], said["id"], said["at"], said["type"], said["proposal"])
        except (ValueError, KeyError, TypeError):
            problems.append(Problem(row.seq, f"Entry {row.seq} is no entry."))
        else:
            if named != (row.seq, row.id, row.at, row.type, row.proposal):
                problems.append(Problem(row.seq, f"The columns of entry {row.seq} differ from what was signed."))
        frontier.append(leaf)
        if frontier.size in sizes:
            roots[frontier.size] = frontier.root()
    return roots


def _check_note(
    note: str, size: int | None, verifier: Verifier, roots: dict[int, bytes], problems: list[Problem], what: str = "A checkpoint"
) -> None:
    try:
        checkpoint = verifier.open(note)
    except BadLedger as error:
        problems.append(Problem(size or -1, f"{what} is not valid: {error}"))
        return
    if size is not None and checkpoint.size != size:
        problems.append(Problem(size, f"{what} of size {size} was signed for size {checkpoint.size}."))
    elif checkpoint.size not in roots:
        problems.append(Problem(max(roots), f"{what} covers {checkpoint.size} entries, which are not all there."))
    elif roots[checkpoint.size] != checkpoint.root:
        problems.append(Problem(checkpoint.size - 1, f"{what} of size {checkpoint.size} has another root: an entry before it changed."))


def _replay(rows: Iterable[Row[Any]], problems: list[Problem]) -> dict[str, _Story]:
    stories: dict[str, _Story] = {}
    for row in rows:
        try:
            entry = json.loads(row.entry)
            kind, name, body = entry["type"], entry["proposal"], entry["body"]
            if kind == "proposal.created":
                if name in stories:
                    raise BadLedger(f"{name} was created twice.")
                stories[name] = _Story(requester=body["requester"], contributors=tuple(body["contributors"]))
            elif name is not None:
                _tell(stories[name], kind, body)
        except GuardrailsError as error:
            problems.append(Problem(row.seq, f"Entry {row.seq} cannot have happened: {error}"))
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            problems.append(Problem(row.seq, f"Entry {row.seq} makes no sense here: {type(error).__name__} {str(error)[:120]}"))
    return stories


def _tell(story: _Story, kind: str, body: dict[str, Any]) -> None:
    """Add one entry to a proposal's story. Raises when the story does not allow it."""
    if kind == "approval.given":
        approval = Approval.model_validate({key: value for key, value in body.items() if key != "groups"})
        if story.state is not State.PENDING or approval.digest != story.digest:
            raise BadLedger(f"an approval of {approval.approver} on another digest, or when none was asked.")
        story.given = [*story.given, approval]
        story.members = story.members | {approval.approver: tuple(body["groups"])}
        return
    if kind != "proposal.moved":
        return
    before, after = State(body["from"]), State(body["to"])
    if before is not story.state:
        raise BadLedger(f"it was {story.state}, not {before}.")
    check_transition(before, after)
    if before is State.VALIDATING and after in (State.PENDING, State.APPROVED):
        story.digest, story.requirement = body["digest"], Requirement.model_validate(body["requirement"])
        story.effect = body["decision"]["effect"]
        if (after is State.APPROVED) != (story.effect == "auto"):
            raise BadLedger(f"the decision was {story.effect}.")
    elif after is State.APPROVED and not _agreed(story):
        raise BadLedger("not enough people had agreed.")
    elif after is State.EXECUTING:
        wanted = Requirement.model_validate(body["requirement"])
        if body["digest"] != story.digest or story.requirement is None or story.requirement.at_least(wanted) != wanted:
            raise BadLedger("another digest, or a laxer requirement, than was decided.")
        story.requirement = wanted
        if not _agreed(story):
            raise BadLedger("not enough people had agreed.")
    story.state, story.version = after, body["version"]


def _agreed(story: _Story) -> bool:
    if story.requirement is None:
        return False
    return tally(
        story.requirement,
        tuple(story.given),
        story.members,
        digest=story.digest or "",
        requester=story.requester,
        contributors=story.contributors,
    ).enough


async def _compare(connection: AsyncConnection, log: str, stories: dict[str, _Story], problems: list[Problem]) -> None:
    """The tables that the gate works on must be where the story ends."""
    rows = (await connection.execute(select(proposals).where(proposals.c.tenant == log))).all()
    for row in rows:
        story = stories.get(row.id)
        if story is None:
            problems.append(Problem(-1, f"The proposal {row.id} is not in the ledger."))
            continue
        if row.state != story.state or row.digest != story.digest or row.requester != story.requester:
            problems.append(Problem(-1, f"The proposal {row.id} is not as the ledger tells: {row.state}, there {story.state}."))
        if row.version < story.version:
            problems.append(Problem(-1, f"The proposal {row.id} is older than the ledger tells."))
        if row.document is not None and not _is_document(row.document, row.digest):
            problems.append(Problem(-1, f"The document of {row.id} does not give its digest."))
    problems.extend(Problem(-1, f"The proposal {name} is gone.") for name in sorted(set(stories) - {row.id for row in rows}))
    said = {(name, approval.model_dump_json()) for name, story in stories.items() for approval in story.given}
    there = {(row.proposal, row.approval) for row in (await connection.execute(select(approvals))).all() if row.proposal in stories}
    problems.extend(Problem(-1, f"An approval of {name} is not in the ledger.") for name, _ in sorted(there - said))
    problems.extend(Problem(-1, f"An approval of {name} is gone.") for name, _ in sorted(said - there))


def _is_document(document: str, digest: str | None) -> bool:
    try:
        return Proposal.model_validate_json(document).digest == digest
    except (ValidationError, ValueError):
        return False


def _read_anchor(path: Path | None) -> str | None:
    if path is None or not path.exists():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadLedger(f"The anchor {path} cannot be read: {error}.") from error


def _size_of(anchor: str | None) -> set[int]:
    lines = (anchor or "").split("\n")
    return {int(lines[1])} if len(lines) > 1 and lines[1].isdigit() else set()
