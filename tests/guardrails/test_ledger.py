"""Every way of tampering that we could think of is caught, and the first wrong entry is named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from guardrails.audit import Report, verify
from guardrails.errors import BadLedger
from guardrails.gate import Gate
from guardrails.ledger import Ledger
from guardrails.merkle import leaf_hash, verify_inclusion
from guardrails.note import Checkpoint, Signer, Verifier
from guardrails.office import ANCHOR, DATABASE, KEY, VERIFIER, Office
from guardrails.store import Store, entries
from tests.guardrails.conftest import FakeClock, person, propose_undo

pytestmark = pytest.mark.anyio


@pytest.fixture
async def told(gate: Gate, office: Office) -> Office:
    """An office with one executed and one pending proposal."""
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    await gate.execute(shown.id, shown.digest or "", "ada")
    return office


async def _report(office: Office, folder: Path) -> Report:
    verifier = Verifier.parse((folder / VERIFIER).read_text())
    return await verify(office.store, verifier, anchor=folder / ANCHOR)


async def _run(office: Office, *statements: str) -> None:
    async with office.store.write() as connection:
        for statement in statements:
            assert (await connection.execute(text(statement))).rowcount != 0, statement


async def test_intact(told: Office, tmp_path: Path) -> None:
    report = await _report(told, tmp_path)
    assert (report.status, report.exit_code, report.problems, report.notes) == ("intact", 0, (), ())
    assert report.entries >= 8
    assert report.proposals == 1


TAMPERINGS = {
    "seq": ("UPDATE ledger_entry SET seq = 999 WHERE seq = 3", 3),
    "id": ("UPDATE ledger_entry SET id = 'e-other' WHERE seq = 3", 3),
    "at": ("UPDATE ledger_entry SET at = '2020-01-01' WHERE seq = 3", 3),
    "type": ("UPDATE ledger_entry SET type = 'note' WHERE seq = 3", 3),
    "proposal": ("UPDATE ledger_entry SET proposal = 'p-other' WHERE seq = 3", 3),
    "leaf": ("UPDATE ledger_entry SET leaf = '00' WHERE seq = 3", 3),
    "entry": ("UPDATE ledger_entry SET entry = replace(entry, 'bob', 'eve') WHERE seq = 3", 3),
    "entry-type": ("UPDATE ledger_entry SET entry = 17 WHERE seq = 3", 3),
    "log": ("UPDATE ledger_entry SET log = 'elsewhere' WHERE seq = 3", 3),
    "delete-first": ("DELETE FROM ledger_entry WHERE seq = 0", 0),
    "delete-middle": ("DELETE FROM ledger_entry WHERE seq = 4", 4),
    "delete-last": ("DELETE FROM ledger_entry WHERE seq = (SELECT max(seq) FROM ledger_entry)", None),
    "head-size": ("UPDATE ledger_head SET size = size - 1", None),
    "checkpoint-note": ("UPDATE ledger_checkpoint SET note = replace(note, 'ledger', 'Ledger') WHERE size = 2", 2),
    "checkpoint-size": ("UPDATE ledger_checkpoint SET size = 1 WHERE size = 2", None),
    "checkpoint-last": ("DELETE FROM ledger_checkpoint WHERE size = (SELECT max(size) FROM ledger_checkpoint)", None),
    "state": ("UPDATE proposal SET state = 'pending'", -1),
    "digest": ("UPDATE proposal SET digest = '00'", -1),
    "requester": ("UPDATE proposal SET requester = 'eve'", -1),
    "version": ("UPDATE proposal SET version = 1", -1),
    "document": ("UPDATE proposal SET document = replace(document, 'web:1', 'web:9')", -1),
    "proposal-gone": ("DELETE FROM proposal", -1),
    "approval-gone": ("DELETE FROM approval", -1),
    "approval-forged": ("INSERT INTO approval SELECT proposal, 'eve', replace(approval, 'bob', 'eve'), entry FROM approval", -1),
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_tampering_is_caught(told: Office, tmp_path: Path, name: str) -> None:
    statement, first = TAMPERINGS[name]
    await _run(told, statement)
    report = await _report(told, tmp_path)
    assert (report.status, report.exit_code) == ("tampered", 1)
    if first is not None:
        assert report.problems[0].seq == first, report.problems


async def test_a_rewritten_entry_with_its_leaf_is_caught_by_the_checkpoints(told: Office, tmp_path: Path) -> None:
    async with told.store.write() as connection:
        row = (await connection.execute(entries.select().where(entries.c.seq == 3))).one()
        forged = row.entry.replace("bob", "eve")
        leaf = leaf_hash(forged.encode()).hex()
        await connection.execute(entries.update().where(entries.c.seq == 3).values(entry=forged, leaf=leaf))
    report = await _report(told, tmp_path)
    assert report.status == "tampered"
    assert any("another root" in problem.what for problem in report.problems)


async def test_swapped_entries_are_caught(told: Office, tmp_path: Path) -> None:
    await _run(
        told,
        "UPDATE ledger_entry SET seq = 1000 WHERE seq = 2",
        "UPDATE ledger_entry SET seq = 2 WHERE seq = 3",
        "UPDATE ledger_entry SET seq = 3 WHERE seq = 1000",
    )
    assert (await _report(told, tmp_path)).problems[0].seq == 2


async def test_a_log_signed_again_with_another_key_is_caught(told: Office, tmp_path: Path) -> None:
    forger = Signer.load_or_create(tmp_path / "forged.key")
    async with told.store.write() as connection:
        rows = (await connection.execute(text("SELECT size, note FROM ledger_checkpoint"))).all()
        verifier = Signer.load_or_create(tmp_path / KEY).verifier
        for row in rows:
            note = forger.sign(verifier.open(row.note))
            await connection.execute(text("UPDATE ledger_checkpoint SET note = :note WHERE size = :size"), {"note": note, "size": row.size})
    assert (await _report(told, tmp_path)).status == "tampered"


async def test_an_old_backup_put_back_is_caught_by_the_anchor(gate: Gate, office: Office, tmp_path: Path) -> None:
    await propose_undo(gate)
    old = tmp_path / "old.db"
    source = sqlite3.connect(tmp_path / DATABASE)
    source.execute(f"VACUUM INTO '{old}'")
    source.close()
    await propose_undo(gate)
    verifier = Verifier.parse((tmp_path / VERIFIER).read_text())
    store = await Store.open(old)
    try:
        alone = await verify(store, verifier)
        anchored = await verify(store, verifier, anchor=tmp_path / ANCHOR)
    finally:
        await store.close()
    assert alone.status == "intact"
    assert alone.notes, "it says what it could not see"
    assert anchored.status == "tampered"
    assert "not all there" in anchored.problems[-1].what


async def test_a_new_database_beside_an_old_anchor_is_caught(told: Office, tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "new" / DATABASE)
    try:
        report = await verify(store, Verifier.parse((tmp_path / VERIFIER).read_text()), anchor=tmp_path / ANCHOR)
    finally:
        await store.close()
    assert report.status == "tampered"


async def test_without_a_key_nothing_is_claimed(told: Office) -> None:
    report = await verify(told.store, None)
    assert (report.status, report.exit_code) == ("cannot-verify", 2)


async def test_a_damaged_ledger_is_not_written_to(told: Office, gate: Gate) -> None:
    await _run(told, "UPDATE ledger_head SET size = size - 1")
    with pytest.raises(BadLedger, match="damaged ledger"):
        await propose_undo(gate)


async def test_a_forged_head_is_not_built_upon(told: Office, gate: Gate) -> None:
    await _run(told, "UPDATE ledger_head SET frontier = replace(frontier, 'a', 'b')")
    with pytest.raises(BadLedger, match="damaged ledger"):
        await propose_undo(gate)


async def test_an_entry_is_proven_to_somebody_who_has_only_the_key(told: Office) -> None:
    (first, *_rest) = await told.ledger.entries()
    proof = await told.ledger.prove(first.id)
    checkpoint = Verifier.parse(proof["verifier"]).open(proof["checkpoint"])
    path = [bytes.fromhex(h) for h in proof["path"]]
    assert verify_inclusion(leaf_hash(proof["entry"].encode()), proof["index"], checkpoint.size, path, checkpoint.root)
    with pytest.raises(BadLedger):
        await told.ledger.prove("e-999")


async def test_export_is_every_entry_and_the_newest_checkpoint(told: Office) -> None:
    lines = [json.loads(line) async for line in told.ledger.export()]
    assert [line["seq"] for line in lines[:-1]] == list(range(len(lines) - 1))
    assert lines[-1]["checkpoint"].split("\n")[1] == str(len(lines) - 1)


async def test_what_fails_leaves_no_entry(told: Office) -> None:
    before = len(await told.ledger.entries())

    async def fail() -> None:
        async with told.ledger.transaction() as writing:
            await writing.append("note", None, {})
            raise RuntimeError("something broke")

    with pytest.raises(RuntimeError):
        await fail()
    assert len(await told.ledger.entries()) == before


async def test_an_anchor_that_cannot_be_written_is_an_error(office: Office, clock: FakeClock, tmp_path: Path) -> None:
    ledger = Ledger(office.store, Signer.load_or_create(tmp_path / KEY), clock, anchor=tmp_path / "no" / "folder")

    async def write() -> None:
        async with ledger.transaction() as writing:
            await writing.append("note", None, {})

    with pytest.raises(BadLedger, match="anchor"):
        await write()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    Signer.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(BadLedger, match="chmod 600"):
        Signer.load_or_create(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: note.replace("\n7\n", "\n8\n"),
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.replace("cnJy", "cnJx", 1),
        lambda note: note.replace("— smokejumper", "— somebody"),
        lambda note: note.rsplit("\n", 2)[0],
        lambda note: "",
    ],
)
def test_a_spoilt_note_is_not_opened(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    signer = Signer.load_or_create(tmp_path / "k")
    note = signer.sign(Checkpoint("o", 7, b"r" * 32))
    assert signer.verifier.open(note) == Checkpoint("o", 7, b"r" * 32)
    assert spoil(note) != note
    with pytest.raises(BadLedger):
        signer.verifier.open(spoil(note))


def test_a_verifier_of_another_form_is_refused() -> None:
    for bad in ("", "a+b", "name+00000000+AAAA", "name+zz+!!"):
        with pytest.raises(BadLedger):
            Verifier.parse(bad)
