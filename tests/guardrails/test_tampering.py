"""No byte of what a ledger and its tables promise can be changed unnoticed, and the first wrong entry is named.

The ledger that is tampered with has everything in it that an entry can tell. Bits are flipped in the file, behind the back of every
constraint that can be gone round: also so that text is no text any more. `make test` draws places by chance, `make soak` tries every byte.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guardrails.action import RolloutRestart, Scale
from guardrails.approval import Approval
from guardrails.audit import Report, verify
from guardrails.directory import Directory
from guardrails.gate import Gate
from guardrails.hashing import Votes
from guardrails.leaves import COLUMNS
from guardrails.note import Verifier
from guardrails.office import ANCHOR, DATABASE, PEOPLE, VERIFIER, Office, open_office
from guardrails.store import Store, metadata
from guardrails.story import Ballot
from tests.guardrails.conftest import CALM, WEB, FakeClock, numbered, person, small_cluster

pytestmark = pytest.mark.anyio

# The gate's own notes: nothing that was decided rests on them (`guardrails.tables`).
NOTES = {
    "proposal": {"version", "updated_at", "lease_until", "outcome", "key"},
    "proposal_key": {"key", "proposal"},
    "step": {"proposal", "fence", "n", "purpose", "request_digest", "status", "receipt", "at"},
    "target_lock": {"scope", "proposal", "until"},
}
PROMISED = {"proposal", "approval", "spending", "kill_switch", "emergency", "delegation", "ledger_head", "ledger_entry", "ledger_blob"}
MASKS = (0x01, 0x40, 0x80)
SAMPLE = 250


@pytest.fixture(scope="module")
def whole(told_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in whose ledger every kind of entry that a promise rests on is told."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(told_folder, folder, dirs_exist_ok=True)
    Directory.load(folder / PEOPLE).add("dora", ["sre-oncall", "break-glass"], kubernetes_user="dora@example.org")

    async def tell() -> None:
        clock = FakeClock()
        async with open_office(folder, {"lab": small_cluster(clock)}, clock=clock, ids=numbered("more"), durable=False) as office:
            gate = Gate(office)
            refused = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM)
            await gate.deny(refused.id, refused.digest or "", person(office, "cleo"), "cli", reason="not now")
            await gate.pause("cleo", "looks strange", cluster="lab")
            await gate.resume("cleo", "it was not", cluster="lab")
            emergency = await gate.break_glass(person(office, "dora"), "inference is down for everybody", cluster="lab")
            again = await gate.propose(RolloutRestart(), WEB, cluster="lab", requester="dora", evidence=CALM, break_glass=True)
            clock.pass_(minutes=1)
            await gate.execute(again.id, again.digest or "", "dora")
            await gate.review(emergency.id, person(office, "bob"), "it was right")
            await lend(gate, office, clock)

    asyncio.run(tell())
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


async def lend(gate: Gate, office: Office, clock: FakeClock) -> None:
    until = clock.now() + timedelta(days=3)
    for receiver in ("bob", "ada"):
        loan = await gate.delegate(person(office, "cleo"), receiver, groups=("sre-oncall",), until=until, reason="on leave")
        if receiver == "bob":
            await gate.end_delegation(loan.id, person(office, "cleo"))


class Tamperer:
    """A database that is tampered with and verified. Every change is put back."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._store = store
        self.anchor = folder / ANCHOR
        self._verifier = Verifier.parse((folder / VERIFIER).read_text())
        self.file = sqlite3.connect(folder / DATABASE, isolation_level=None)
        self.file.execute("PRAGMA synchronous=OFF")

    async def report(self, *, split_from: int = 10_000) -> Report:
        return await verify(self._store, self._verifier, anchor=self.anchor, split_from=split_from)

    async def report_beside(self, program: str) -> Report:
        """With another second process: a Python program, which is given the file and the log."""

        def second(path: Path, log: str) -> list[str]:
            return [sys.executable, "-c", program, str(path), log]

        return await verify(self._store, self._verifier, anchor=self.anchor, split_from=0, second=second)

    def set(self, table: str, column: str, line: int, value: Any) -> bool:
        """Bytes are stored as text, whether they are any or not. False when the database refuses two rows of one name."""
        how = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        try:
            self.file.execute(f"UPDATE {table} SET {column} = {how} WHERE rowid = ?", (value, line))
        except sqlite3.IntegrityError:
            return False
        return True

    def places(self, tables: tuple[str, ...] | None = None) -> Iterator[tuple[str, str, int, Any, Any, int | None]]:
        """Every byte that is promised: table, column, row, the value before and after, and of which entry."""
        for table in tables or metadata.tables:
            self.file.row_factory = sqlite3.Row
            for row in self.file.execute(f"SELECT rowid AS line, * FROM {table}").fetchall():
                entry = row["seq"] if table == "ledger_entry" else None
                for column in row.keys():  # noqa: SIM118 - a row iterates over its values
                    if column != "line" and column not in NOTES.get(table, ()):
                        yield from ((table, column, row["line"], row[column], other, entry) for other in flipped(row[column]))


def flipped(value: Any) -> Iterator[Any]:
    """The value with one byte changed, for each byte; a number with another, nothing with something."""
    if value is None or value == "":
        yield b"x"
    elif isinstance(value, int):
        yield value + 1000
    else:
        text = value.encode()
        for place, byte in enumerate(text):
            yield text[:place] + bytes([byte ^ MASKS[place % len(MASKS)]]) + text[place + 1 :]
        yield text[:-1]


@pytest.fixture
async def tamperer(whole: Path, tmp_path: Path) -> AsyncIterator[Tamperer]:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    store = await Store.open(tmp_path / DATABASE, durable=False)
    found = Tamperer(tmp_path, store)
    yield found
    await store.close()
    found.file.close()


async def test_the_whole_ledger_is_intact_and_tells_everything(tamperer: Tamperer) -> None:
    assert (await tamperer.report()).problems == ()
    told = {row[0] for row in tamperer.file.execute("SELECT DISTINCT type FROM ledger_entry")}
    assert told >= {
        "policy.loaded",
        "proposal.created",
        "proposal.moved",
        "approval.given",
        "change.sent",
        "switch.on",
        "switch.off",
        "emergency.declared",
        "emergency.reviewed",
        "delegation.given",
        "delegation.ended",
        "blob.erased",
    }
    filled = {table for table in metadata.tables if tamperer.file.execute(f"SELECT 1 FROM {table}").fetchone()}
    assert filled >= PROMISED


async def test_bytes_drawn_by_chance_cannot_be_flipped(tamperer: Tamperer) -> None:
    """Each promised column of each table once, and more drawn from all."""
    places = list(tamperer.places())
    chance = random.Random(5)
    columns = {place[:2]: place for place in chance.sample(places, len(places))}
    await flip(tamperer, [*columns.values(), *chance.sample(places, SAMPLE - len(columns))])


@pytest.mark.soak
async def test_no_byte_at_all_can_be_flipped(tamperer: Tamperer) -> None:
    places = list(tamperer.places())
    await flip(tamperer, places)
    print(f"{len(places)} changes, each caught")


async def flip(tamperer: Tamperer, places: list[tuple[str, str, int, Any, Any, int | None]]) -> None:
    unnoticed = []
    for table, column, line, value, other, entry in places:
        if not tamperer.set(table, column, line, other):
            continue
        report = await tamperer.report()
        if report.status != "tampered" or (entry is not None and report.problems[0].seq != entry):
            unnoticed.append((table, column, line, value, other, report))
        tamperer.set(table, column, line, value)
    assert unnoticed == []
    assert (await tamperer.report()).status == "intact"


async def test_the_end_of_a_note_is_part_of_it_but_for_a_copy_that_people_keep(tamperer: Tamperer) -> None:
    anchor = tamperer.anchor
    kept = anchor.read_text()
    for end in ("", "\x0b", "\u2028"):
        assert tamperer.set("ledger_head", "note", 1, kept[:-1] + end)
        assert (await tamperer.report()).status == "tampered"
    assert tamperer.set("ledger_head", "note", 1, kept)
    anchor.write_text(kept[:-1])
    assert (await tamperer.report()).problems == ()


async def test_two_processes_see_what_one_sees(tamperer: Tamperer) -> None:
    assert (await tamperer.report(split_from=0)).problems == ()
    for table, column, line in (("ledger_entry", "entry", 5), ("ledger_entry", "leaf", 3), ("ledger_head", "frontier", 1)):
        (value,) = tamperer.file.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (line,)).fetchone()
        for other in (value.replace("e", "f", 1), value.encode().replace(b"e", b"\xff", 1)):
            assert tamperer.set(table, column, line, other)
            one, two = await tamperer.report(), await tamperer.report(split_from=0)
            assert (one.status, one) == ("tampered", two)
            assert tamperer.set(table, column, line, value)


async def test_no_byte_of_an_approval_can_be_flipped_and_still_be_proven_by_its_vote(tamperer: Tamperer) -> None:
    entries = tamperer.file.execute(f"SELECT {', '.join(COLUMNS)} FROM ledger_entry ORDER BY seq").fetchall()
    approvals = tamperer.file.execute("SELECT proposal, approver, approval, entry FROM approval ORDER BY rowid").fetchall()

    def proven(rows: list[Any]) -> bool:
        votes = Votes(rows)
        votes.take(entries)
        return votes.all()

    assert approvals
    assert proven(approvals)
    assert not any(proven(rows) for rows in (approvals[1:], approvals[:-1], [*approvals, approvals[-1]], []))
    for line, row in enumerate(approvals):
        for column, value in enumerate(row):
            for other in flipped(value):
                changed = other.decode(errors="surrogateescape") if isinstance(other, bytes) else other
                there = (*row[:column], changed, *row[column + 1 :])
                assert not proven([*approvals[:line], there, *approvals[line + 1 :]]), there


@pytest.mark.parametrize("split_from", [0, 10_000])
async def test_approvals_that_an_older_version_stored_are_looked_at_more_closely_and_not_doubted(
    tamperer: Tamperer, split_from: int
) -> None:
    for line, text in tamperer.file.execute("SELECT rowid, approval FROM approval").fetchall():
        tamperer.set("approval", "approval", line, json.dumps(dict(sorted(json.loads(text).items(), reverse=True))))
    assert (await tamperer.report(split_from=split_from)).problems == ()
    tamperer.file.execute("UPDATE approval SET approval = replace(approval, '\"assurance\": 1', '\"assurance\": 2')")
    assert "is not in the ledger" in (await tamperer.report(split_from=split_from)).problems[0].what
    tamperer.file.execute("DELETE FROM approval")
    assert "is gone" in (await tamperer.report(split_from=split_from)).problems[0].what


@pytest.mark.parametrize("split_from", [0, 10_000])
async def test_documents_that_an_older_version_stored_are_read_more_slowly_and_not_doubted(tamperer: Tamperer, split_from: int) -> None:
    """Before, the keys of a stored document were in no order."""
    for column in ("document", "draft", "verdict"):
        for name, text in tamperer.file.execute(f"SELECT id, {column} FROM proposal WHERE {column} IS NOT NULL").fetchall():
            shuffled = json.dumps(dict(sorted(json.loads(text).items(), reverse=True)))
            tamperer.file.execute(f"UPDATE proposal SET {column} = ? WHERE id = ?", (shuffled, name))
    assert (await tamperer.report(split_from=split_from)).problems == ()
    tamperer.file.execute("UPDATE proposal SET document = replace(document, 'web:1', 'web:9')")
    assert "does not give its digest" in (await tamperer.report(split_from=split_from)).problems[0].what


async def test_what_the_other_process_cannot_read_is_read_again(tamperer: Tamperer, tmp_path: Path) -> None:
    """It dies of a file that is not there, as of a file that it may not read."""
    moved = tmp_path / "moved.db"
    tamperer.file.execute(f"VACUUM INTO '{moved}'")
    store = await Store.open(moved)
    try:
        async with store.read():
            moved.rename(tmp_path / "gone.db")
        verifier = Verifier.parse((tmp_path / VERIFIER).read_text())
        report = await verify(store, verifier, anchor=tmp_path / ANCHOR, split_from=0)
    finally:
        await store.close()
    assert report.problems == ()


# How the second process may end: before it has read what is asked, after it, by itself with and without a word, and killed.
ENDS = {
    "at once": ("raise SystemExit(3)", "3"),
    "killed": ("import os, sys; sys.stdin.read(); os.kill(os.getpid(), 9)", "-9"),
    "in the middle of its answer": ("import os, sys; sys.stdin.read(); print('{\"head\":', flush=True); os.kill(os.getpid(), 9)", "-9"),
    "well, with half an answer": ("import sys; sys.stdin.read(); print('{\"head\":')", "0"),
    "well, with another answer": ('import sys; sys.stdin.read(); print(\'{"status":"intact"}\')', "0"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_second_process_that_dies_is_told_of_and_its_part_is_done_again(tamperer: Tamperer, end: str) -> None:
    program, status = ENDS[end]
    note = f"The second process ended without an answer (exit status {status}); its part was done again."
    report = await tamperer.report_beside(program)
    assert (report.exit_code, report.problems, report.notes) == (0, (), (note,))
    assert (await tamperer.report(split_from=0)).notes == ()
    (value,) = tamperer.file.execute("SELECT leaf FROM ledger_entry WHERE seq = 4").fetchone()
    assert tamperer.set("ledger_entry", "leaf", 5, value[::-1])
    report = await tamperer.report_beside(program)
    assert (report.exit_code, report.problems[0].seq, report.notes) == (1, 4, (note,))


async def test_an_answer_about_another_head_is_not_taken(tamperer: Tamperer) -> None:
    """As when somebody writes between the first look of the one process and that of the other."""
    lie = {"head": "", "size": 0, "roots": {}, "frontier": [], "problems": [], "doubtful": []}
    report = await tamperer.report_beside(f"import sys; sys.stdin.read(); print({json.dumps(lie)!r})")
    assert (report.exit_code, report.problems, report.notes) == (0, (), ())
    assert report == await tamperer.report()


async def test_what_nobody_could_read_is_not_called_intact(tamperer: Tamperer) -> None:
    """The second process dies of it, and so does the first."""
    tamperer.file.execute("ALTER TABLE ledger_entry RENAME COLUMN leaf TO leaf_of_old")
    report = await tamperer.report(split_from=0)
    assert (report.status, report.exit_code) == ("cannot-verify", 2)
    assert "no such column" in report.notes[0]


def test_a_vote_is_told_with_everything_that_an_approval_says() -> None:
    assert set(Ballot.__struct_fields__) == set(Approval.model_fields)
    assert list(Ballot.__struct_fields__) == sorted(Ballot.__struct_fields__)
