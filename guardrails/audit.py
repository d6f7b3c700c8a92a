"""Whether the ledger tells the truth about what happened: the hashes, the signatures, the story itself, and the tables that it explains.

Everything is read once, in order, in batches, so memory does not grow with the entries (a few hundred bytes a proposal are kept). The
verdict names the first wrong entry. What was cut off the end, or put back from a backup, shows only against a checkpoint kept elsewhere.

A long ledger in a file is read by two processes, one for the hashes and one for the story, provided that both see the same head.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from json import dumps
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Literal

from anyio import BrokenResourceError, open_process, to_thread
from anyio.abc import Process
from msgspec import DecodeError, Struct, json
from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.errors import BadLedger, BadStore, GuardrailsError
from guardrails.hashing import Asked, Hashed, command, found
from guardrails.leaves import COLUMNS, PROBLEMS_MAX, Leaves, Problem
from guardrails.ledger import CHECKPOINT_EVERY
from guardrails.note import Checkpoint, Verifier
from guardrails.proposal import DIGEST_DOMAIN
from guardrails.redact import present
from guardrails.replay import Replay
from guardrails.sqlite import lenient, scan
from guardrails.store import Store, checkpoints, entries, heads
from guardrails.tables import check, check_approvals, check_documents, rows

SHOWN_MAX = 50
WHAT_MAX = 400
# Below this a second process starts for longer than it works.
SPLIT_FROM = 50_000


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


async def verify(
    store: Store,
    verifier: Verifier | None,
    *,
    log: str = "default",
    anchor: Path | None = None,
    split_from: int = SPLIT_FROM,
    second: Callable[[Path, str], list[str]] = command,
) -> Report:
    """Check everything. `verifier` should be a key pinned outside the database; `anchor` is the newest checkpoint kept beside it.

    From `split_from` entries on, a file is read by two processes. `second` is the command line of the other one, for a file and a log:
    when it dies or answers nonsense, a note says so, and its part is done here.
    """
    if verifier is None:
        return Report("cannot-verify", 0, 0, 0, (), ("There is no key to check signatures with.",))
    try:
        kept = _read_anchor(anchor)
        try:
            async with store.read() as connection:
                return await _verify(connection, store.path, verifier, log, kept, split_from, second)
        except BadStore as error:
            if store.path is None or "decode to UTF-8" not in str(error):
                raise
            # Somebody wrote bytes into a column that are no text: read on, for the verdict must name the row.
            async with store.read() as connection, lenient(connection):
                return await _verify(connection, None, verifier, log, kept, split_from, second)
    except GuardrailsError as error:
        return Report("cannot-verify", 0, 0, 0, (), (str(error),))


async def _verify(
    connection: AsyncConnection,
    path: Path | None,
    verifier: Verifier,
    log: str,
    anchor: str | None,
    split_from: int,
    second: Callable[[Path, str], list[str]],
) -> Report:
    signed = await connection.run_sync(_signed, log, anchor)
    notes: list[str] = []
    if path is None or signed.size < split_from or (os.cpu_count() or 1) < 2:
        leaves = Leaves(signed.sizes)
        replay, problems = await connection.run_sync(_read, log, signed, leaves)
        hashed, notary = None, _Notary(verifier, signed, anchor)
    else:
        asked = Asked(sorted(signed.sizes), DIGEST_DOMAIN.decode())
        async with await open_process(second(path, log), stderr=DEVNULL) as process:
            try:
                await _ask(process, asked)
                here = await to_thread.run_sync(_scan, path, log, signed)
                # While the other one may still be at work.
                notary = await to_thread.run_sync(_Notary, verifier, signed, anchor)
                hashed = await _answer(process)
            except BaseException:
                # It may have died of the same.
                with suppress(ProcessLookupError):
                    process.kill()
                raise
        if hashed is None:
            notes.append(f"The second process ended without an answer (exit status {process.returncode}); its part was done again.")
        # Where somebody has written since, the transaction that read the head reads on.
        replay, problems = here if here is not None else await connection.run_sync(_read, log, signed, None)
        if hashed is None or hashed.head != signed.note:
            leaves, hashed = Leaves(signed.sizes), None
            await connection.run_sync(_read_leaves, log, leaves)
    if hashed is None:
        hashed = found(signed.note, leaves, [], votes=False)
        problems += await connection.run_sync(check_documents, log)
    else:
        problems += await connection.run_sync(check_documents, log, hashed.doubtful)
    if not hashed.votes:
        problems += await connection.run_sync(check_approvals, log, replay.stories)
    return _judge(signed, hashed, replay, problems, notary, anchor, notes)


async def _ask(process: Process, asked: Asked) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send(json.encode(asked))
        await process.stdin.aclose()
    except BrokenResourceError:
        # It died at once; its answer, which is none, says so.
        return


async def _answer(process: Process) -> Hashed | None:
    """What the other process found; None when it died, or that is no answer."""
    assert process.stdout is not None
    answer = b"".join([chunk async for chunk in process.stdout])
    if await process.wait() != 0:
        return None
    try:
        return json.decode(answer, type=Hashed)
    except DecodeError:
        return None


class _Signed(Struct, frozen=True):
    """What the tables of checkpoints say. `sizes` are those whose roots must be known; `alone`: no other tenant's log is there."""

    size: int
    note: str
    frontier: str
    checkpoints: list[tuple[Any, str]]
    sizes: set[int]
    alone: bool


def _signed(connection: Connection, log: str, anchor: str | None) -> _Signed:
    query = select(checkpoints.c.size, checkpoints.c.note).where(checkpoints.c.log == log).order_by(checkpoints.c.size)
    kept = [(row.size, row.note) for row in connection.execute(query)]
    head = connection.execute(select(heads).where(heads.c.log == log)).one_or_none()
    others = connection.execute(select(func.count()).select_from(heads).where(heads.c.log != log)).scalar_one()
    size, note, frontier = (0, "", "[]") if head is None else (head.size, head.note, head.frontier)
    if not isinstance(size, int):
        size = -1
    sizes = {one for one in (size, *_sizes_of(anchor), *(one for one, _ in kept)) if isinstance(one, int)}
    return _Signed(size, note, frontier, kept, sizes, others == 0)


def _scan(path: Path, log: str, signed: _Signed) -> tuple[Replay, list[Problem]] | None:
    """As `_read` without leaves, on a connection of this thread; None when the head there is not the one that was signed."""
    with scan(path) as connection, _uncollected():
        head = connection.execute(select(heads.c.note).where(heads.c.log == log)).scalar_one_or_none()
        return _read(connection, log, signed, None) if head == signed.note else None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for cycles, of which a replay makes none: it would take a tenth of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read(connection: Connection, log: str, signed: _Signed, leaves: Leaves | None) -> tuple[Replay, list[Problem]]:
    """Tell the story, and compare the tables with it; on the way give the rows to the leaves."""
    replay, problems = Replay(), list[Problem]()
    columns = [entries.c[name] for name in COLUMNS]
    if leaves is None:
        # The other process sees whether these agree with the text.
        columns = [entries.c.seq, entries.c.type, entries.c.proposal, entries.c.entry]
    for batch in rows(connection, select(*columns).where(entries.c.log == log).order_by(entries.c.seq)):
        if leaves is not None:
            leaves.take(batch)
            batch = [(row[0], row[3], row[4], row[5]) for row in batch]
        problems += [Problem(seq, why) for seq, why in replay.take(batch)][: PROBLEMS_MAX - len(problems)]
    return replay, problems + check(connection, log, replay, alone=signed.alone)


def _read_leaves(connection: Connection, log: str, leaves: Leaves) -> None:
    query = select(*(entries.c[name] for name in COLUMNS)).where(entries.c.log == log).order_by(entries.c.seq)
    for batch in rows(connection, query):
        leaves.take(batch)


class _Notary:
    """What was signed, and whether it was: the notes of a ledger are opened when it is made, for a signature takes 0.1 milliseconds."""

    def __init__(self, verifier: Verifier, signed: _Signed, anchor: str | None) -> None:
        notes = {signed.note, *(note for _, note in signed.checkpoints), *(() if anchor is None else (anchor,))}
        self._opened = {note: self._open(verifier, note) for note in notes}

    @staticmethod
    def _open(verifier: Verifier, note: str) -> Checkpoint | BadLedger:
        try:
            return verifier.open(note)
        except BadLedger as error:
            return error

    def open(self, note: str) -> Checkpoint:
        """Raises BadLedger for one that is not valid."""
        opened = self._opened[note]
        if isinstance(opened, BadLedger):
            raise opened
        return opened


def _judge(
    signed: _Signed, hashed: Hashed, replay: Replay, problems: list[Problem], notary: _Notary, anchor: str | None, notes: list[str]
) -> Report:
    problems = [*hashed.problems, *problems]
    there, roots = hashed.size, {size: bytes.fromhex(root) for size, root in hashed.roots.items()}
    _check_checkpoints(signed.checkpoints, notary, there, roots, problems)
    if signed.size != there:
        problems.append(Problem(min(signed.size, there), f"{there} entries are there, the head says {signed.size}."))
    elif signed.frontier != dumps(hashed.frontier):
        problems.append(Problem(-1, "The head's subtrees are not those of the entries."))
    last = max((size for size, _ in signed.checkpoints if isinstance(size, int)), default=0)
    if last // CHECKPOINT_EVERY < signed.size // CHECKPOINT_EVERY:
        problems.append(Problem(-1, f"A checkpoint of size {signed.size // CHECKPOINT_EVERY * CHECKPOINT_EVERY} or a little more is gone."))
    if signed.size:
        _check_note(signed.note, signed.size, notary, roots, problems, "The checkpoint of the head", there=there)
    if anchor is None:
        notes.append("No anchor outside the database was given: a database that was put back or cut short would not be noticed.")
    else:
        _check_note(anchor, None, notary, roots, problems, "The anchor outside the database", there=there)
    if not signed.alone:
        notes.append("Other tenants' ledgers are in this database: kill switches were not compared.")
    status: Literal["intact", "tampered"] = "tampered" if problems else "intact"
    return Report(status, there, len(signed.checkpoints), len(replay.stories), _in_order(problems), tuple(notes))


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """Those of an entry first, by entry: the first is the first wrong one. Bounded, saying how many are left out."""
    ordered = sorted(problems, key=lambda problem: (problem.seq < 0, problem.seq, problem.what))
    cut = [Problem(-1, f"{len(ordered) - SHOWN_MAX} more problems.")] if len(ordered) > SHOWN_MAX else []
    return (*(Problem(problem.seq, present(problem.what, WHAT_MAX)) for problem in ordered[:SHOWN_MAX]), *cut)


def _check_checkpoints(
    signed: list[tuple[Any, str]], notary: _Notary, there: int, roots: dict[int, bytes], problems: list[Problem]
) -> None:
    """Every signature; of the roots, the first that differs, for the later ones differ because of it."""
    good, differs = 0, False
    for size, note in signed:
        found: list[Problem] = []
        _check_note(note, size, notary, roots, found, "A checkpoint", there=there, after=good, wrong=problems)
        if differs:
            found = [problem for problem in found if "another root" not in problem.what]
        elif not found:
            good = size
        differs = differs or any("another root" in problem.what for problem in found)
        problems.extend(found)


def _check_note(
    note: str,
    size: int | None,
    notary: _Notary,
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
        checkpoint = notary.open(note)
    except BadLedger as error:
        problems.append(Problem(-1 if size is None else size - 1, f"{what} is not valid: {error}"))
        return
    if size is not None and not note.endswith("\n"):
        # Of a copy that people keep, a shell may have taken it away.
        problems.append(Problem(size - 1, f"{what} of size {size} has lost its last newline."))
    elif size is not None and checkpoint.size != size:
        problems.append(Problem(size - 1, f"{what} of size {size} was signed for size {checkpoint.size}."))
    elif checkpoint.size not in roots:
        problems.append(Problem(there, f"{what} covers {checkpoint.size} entries, which are not all there."))
    elif roots[checkpoint.size] != checkpoint.root:
        known = [problem.seq for problem in (*wrong, *problems) if after <= problem.seq < checkpoint.size]
        where = f"an entry from {after} to {checkpoint.size - 1} changed"
        problems.append(Problem(min(known, default=after), f"{what} of size {checkpoint.size} has another root: {where}."))


def _read_anchor(path: Path | None) -> str | None:
    if path is None or not path.exists():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadLedger(f"The anchor {path} cannot be read: {error}.") from error


def _sizes_of(anchor: str | None) -> set[int]:
    lines = (anchor or "").split("\n")
    return {int(lines[1])} if len(lines) > 1 and lines[1].isdecimal() else set()
