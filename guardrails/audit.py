"""Whether the ledger tells the truth about what happened: the hashes, the signatures, the story itself, and the tables that it explains.

Everything is read once, in order, in batches, so memory does not grow with the entries (a few hundred bytes a proposal are kept). The
verdict names the first wrong entry. What was cut off the end, or put back from a backup, shows only against a checkpoint kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, json
from pydantic import ValidationError
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.blob import is_committed
from guardrails.errors import BadLedger, GuardrailsError
from guardrails.merkle import Frontier
from guardrails.note import Verifier
from guardrails.policy import Requirement
from guardrails.proposal import Proposal
from guardrails.replay import Replay, Story, approval_digest, draft_digest, json_digest
from guardrails.store import Store, approvals, blobs, checkpoints, entries, heads, proposals

PROBLEMS_MAX = 50
# Of a thoroughly broken ledger no more is remembered.
REMEMBERED_MAX = 10_000
BATCH = 4096
_COLUMNS = (entries.c.seq, entries.c.id, entries.c.at, entries.c.type, entries.c.proposal, entries.c.entry, entries.c.leaf)


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
    signed = (await connection.execute(select(checkpoints).where(checkpoints.c.log == log).order_by(checkpoints.c.size))).all()
    head = (await connection.execute(select(heads).where(heads.c.log == log))).one_or_none()
    wanted = {row.size for row in signed} | ({head.size} if head is not None else set()) | _size_of(anchor)
    reading = _Reading(wanted)
    async with connection.stream(select(*_COLUMNS).where(entries.c.log == log).order_by(entries.c.seq)) as result:
        async for rows in result.partitions(BATCH):
            reading.take(rows)
    problems = reading.problems
    _check_checkpoints([(row.size, row.note) for row in signed], verifier, reading, problems)
    size = 0 if head is None else head.size
    if size != reading.size:
        problems.append(Problem(min(size, reading.size), f"{reading.size} entries are there, the head says {size}."))
    if head is not None and head.size:
        _check_note(head.note, head.size, verifier, reading.roots, problems, "The checkpoint of the head", there=reading.size)
    notes = []
    if anchor is None:
        notes.append("No anchor outside the database was given: a database that was put back or cut short would not be noticed.")
    else:
        _check_note(anchor, None, verifier, reading.roots, problems, "The anchor outside the database", there=reading.size)
    await _check_proposals(connection, log, reading.replay.stories, problems)
    await _check_approvals(connection, reading.replay.stories, problems)
    await _check_blobs(connection, log, reading.replay, problems)
    status: Literal["intact", "tampered"] = "tampered" if problems else "intact"
    return Report(status, reading.size, len(signed), len(reading.replay.stories), _in_order(problems), tuple(notes))


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """Those of an entry first, by entry: the first is the first wrong one. Bounded, saying how many are left out."""
    ordered = sorted(problems, key=lambda problem: (problem.seq < 0, problem.seq, problem.what))
    cut = [Problem(-1, f"{len(ordered) - PROBLEMS_MAX} more problems.")] if len(ordered) > PROBLEMS_MAX else []
    return (*ordered[:PROBLEMS_MAX], *cut)


class _Reading:
    """The entries read so far: their tree with its roots at the wanted sizes, their story, and what was wrong with them."""

    def __init__(self, wanted: set[int]) -> None:
        self.problems: list[Problem] = []
        self.replay = Replay()
        self._tree = Frontier()
        self.roots = {0: self._tree.root()}
        self._wanted = sorted(wanted, reverse=True)
        self._expected = 0

    @property
    def size(self) -> int:
        return self._tree.size

    def take(self, rows: Iterable[Any]) -> None:
        """Add rows in order: complain of gaps, edits, columns that differ from the text, and what cannot have happened."""
        leaves: list[bytes] = []
        tell, expected = self.replay.tell, self._expected
        for seq, name, at, kind, proposal, entry, leaf in rows:
            text = entry if isinstance(entry, str) else ""
            hashed = sha256(b"\0" + text.encode("utf-8", "surrogatepass"))
            leaves.append(hashed.digest())
            if seq != expected:
                self._complain(expected, f"Entry {expected} is missing; {seq} follows.")
            expected = seq + 1
            if leaf != hashed.hexdigest():
                self._complain(seq, f"Entry {seq} was edited: its text does not give its leaf.")
            # Canonical JSON has one way to write these (RFC 8785); comparing text is twice as fast as decoding it.
            before = f'{{"at":"{at}","body":'
            after = f',"id":"{name}","proposal":{_quoted(proposal)},"seq":{seq},"type":"{kind}"}}'
            if not text.startswith(before) or not text.endswith(after):
                self._complain(seq, f"The columns of entry {seq} differ from its text, or it is no entry.")
                continue
            wrong = tell(seq, kind, proposal, text[len(before) : -len(after)])
            if wrong is not None:
                self._complain(seq, wrong)
        self._expected = expected
        self._grow(leaves)

    def _grow(self, leaves: list[bytes]) -> None:
        start, done = self._tree.size, 0
        while self._wanted and self._wanted[-1] <= start + len(leaves):
            size = self._wanted.pop()
            if size > self._tree.size:
                self._tree.extend(leaves[done : size - start])
                done = size - start
                self.roots[size] = self._tree.root()
        self._tree.extend(leaves[done:])

    def _complain(self, seq: int, what: str) -> None:
        if len(self.problems) < REMEMBERED_MAX:
            self.problems.append(Problem(seq, what))


def _quoted(proposal: str | None) -> str:
    return "null" if proposal is None else f'"{proposal}"'


def _check_checkpoints(signed: list[tuple[int, str]], verifier: Verifier, reading: _Reading, problems: list[Problem]) -> None:
    """Every signature; of the roots, the first that differs, for the later ones differ because of it."""
    good, differs = 0, False
    for size, note in signed:
        found: list[Problem] = []
        _check_note(note, size, verifier, reading.roots, found, "A checkpoint", there=reading.size, after=good, wrong=problems)
        if differs:
            found = [problem for problem in found if "another root" not in problem.what]
        elif not found:
            good = size
        differs = differs or any("another root" in problem.what for problem in found)
        problems.extend(found)


def _check_note(
    note: str,
    size: int | None,
    verifier: Verifier,
    roots: dict[int, bytes],
    problems: list[Problem],
    what: str,
    *,
    there: int,
    after: int = 0,
    wrong: Sequence[Problem] = (),
) -> None:
    """A note against its signature and the `there` entries. `after` of them are known to be right; `wrong` is what else is known."""
    try:
        checkpoint = verifier.open(note)
    except BadLedger as error:
        problems.append(Problem(-1 if size is None else size - 1, f"{what} is not valid: {error}"))
        return
    if size is not None and checkpoint.size != size:
        problems.append(Problem(size - 1, f"{what} of size {size} was signed for size {checkpoint.size}."))
    elif checkpoint.size not in roots:
        problems.append(Problem(there, f"{what} covers {checkpoint.size} entries, which are not all there."))
    elif roots[checkpoint.size] != checkpoint.root:
        known = [problem.seq for problem in (*wrong, *problems) if after <= problem.seq < checkpoint.size]
        where = f"an entry from {after} to {checkpoint.size - 1} changed"
        problems.append(Problem(min(known, default=after), f"{what} of size {checkpoint.size} has another root: {where}."))


async def _check_proposals(connection: AsyncConnection, log: str, stories: dict[str, Story], problems: list[Problem]) -> None:
    """The table that the gate works on must be where the story ends."""
    missing = set(stories)
    async with connection.stream(select(proposals).where(proposals.c.tenant == log)) as result:
        async for rows in result.partitions(BATCH // 8):
            for row in rows:
                story = stories.get(row.id)
                missing.discard(row.id)
                what = f"The proposal {row.id} is not in the ledger." if story is None else _difference(row, story)
                if what:
                    problems.append(Problem(-1, what))
    problems.extend(Problem(-1, f"The proposal {name} is gone.") for name in sorted(missing))


def _difference(row: Row[Any], story: Story) -> str:
    """What of a proposal's row is not as the ledger tells; empty when all is."""
    if (row.state, row.digest, row.reason) != (story.state, story.digest, story.reason):
        return f"The proposal {row.id} is not as the ledger tells: {row.state}, there {story.state}."
    if not isinstance(row.version, int) or row.version < story.version:
        return f"The proposal {row.id} is older than the ledger tells."
    try:
        contributors, draft = _list(row.contributors), _draft(row.draft)
        if (row.cluster, row.requester, contributors) != (story.cluster, story.requester, story.contributors):
            return f"The cluster or the people of {row.id} are not those of the ledger."
        if (draft_digest(draft), draft["action"]["action"]) != (story.draft, row.action):
            return f"What {row.id} asks for is not what the ledger tells."
        if (None if row.verdict is None else json_digest(row.verdict)) != story.verdict:
            return f"The verdict on {row.id} is not the one in the ledger."
        if story.requirement is not None:
            required = Requirement.model_validate_json(row.requirement)
            if story.requirement.at_least(required) != required:
                return f"{row.id} requires less agreement than the ledger tells."
        if row.document is not None and Proposal.model_validate_json(row.document).digest != row.digest:
            return f"The document of {row.id} does not give its digest."
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        return f"The row of {row.id} is damaged: {type(error).__name__}."
    return ""


async def _check_approvals(connection: AsyncConnection, stories: dict[str, Story], problems: list[Problem]) -> None:
    left = {name: list(story.approvals) for name, story in stories.items() if story.approvals}
    async with connection.stream(select(approvals.c.proposal, approvals.c.approval)) as result:
        async for rows in result.partitions(BATCH):
            for proposal, approval in rows:
                if proposal not in stories:
                    continue
                said, digest = left.get(proposal, []), approval_digest(str(approval))
                if digest in said:
                    said.remove(digest)
                else:
                    problems.append(Problem(-1, f"An approval of {proposal} is not in the ledger."))
    problems.extend(Problem(-1, f"An approval of {name} is gone.") for name, said in sorted(left.items()) if said)


async def _check_blobs(connection: AsyncConnection, log: str, replay: Replay, problems: list[Problem]) -> None:
    missing = set(replay.blobs) - set(replay.erased)
    async with connection.stream(select(blobs).where(blobs.c.log == log)) as result:
        async for rows in result.partitions(BATCH // 64):
            for row in rows:
                named, kind = replay.blobs.get(row.commitment, (-1, ""))
                missing.discard(row.commitment)
                if named < 0:
                    problems.append(Problem(-1, f"No entry names the text {str(row.commitment)[:16]}."))
                elif row.commitment in replay.erased:
                    problems.append(Problem(-1, f"The text of entry {named} was erased, and is there."))
                elif row.kind != kind or not is_committed(row.commitment, row.salt, row.content):
                    problems.append(Problem(-1, f"A text of entry {named} is not the one that was committed to."))
    gone = [replay.blobs[name][0] for name in missing]
    problems.extend(Problem(-1, f"A text of entry {seq} is gone, and no entry tells of its erasure.") for seq in gone)


def _list(text: str) -> tuple[str, ...]:
    return tuple(json.decode(text))


def _draft(text: str) -> dict[str, Any]:
    draft = json.decode(text)
    if not isinstance(draft, dict):
        raise TypeError("a draft is an object")
    return draft


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
