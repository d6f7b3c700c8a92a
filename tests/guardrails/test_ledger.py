"""Every way of tampering that we could think of is caught, and the first wrong entry is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from guardrails.audit import Report, verify
from guardrails.errors import BadLedger
from guardrails.gate import Gate
from guardrails.ledger import Ledger
from guardrails.merkle import Frontier, leaf_hash, verify_inclusion
from guardrails.note import Checkpoint, Signer, Verifier
from guardrails.office import ANCHOR, DATABASE, KEY, VERIFIER, Office, open_office
from guardrails.store import Store, entries
from tests.guardrails.conftest import EVIDENCE, FakeClock, blob_of, numbered, propose_undo
from tests.guardrails.fake_cluster import FakeCluster

pytestmark = pytest.mark.anyio

MANY = 600


@pytest.fixture
async def told(told_folder: Path, tmp_path: Path, clock: FakeClock, cluster: FakeCluster) -> AsyncIterator[Office]:
    shutil.copytree(told_folder, tmp_path, dirs_exist_ok=True)
    async with open_office(tmp_path, {"lab": cluster}, clock=clock, ids=numbered("later"), durable=False) as office:
        yield office


@pytest.fixture
async def long(told: Office) -> Office:
    """The same with enough entries for checkpoints that are kept."""
    for _ in range(2):
        async with told.ledger.transaction() as writing:
            for number in range(MANY // 2):
                await writing.append("note", None, {"number": number})
    return told


async def _report(office: Office, folder: Path) -> Report:
    verifier = Verifier.parse((folder / VERIFIER).read_text())
    return await verify(office.store, verifier, anchor=folder / ANCHOR)


async def _run(office: Office, *statements: str) -> None:
    async with office.store.write() as connection:
        for statement in statements:
            assert (await connection.execute(text(statement))).rowcount != 0, statement


async def test_intact(told: Office, tmp_path: Path) -> None:
    report = await _report(told, tmp_path)
    assert report.problems == ()
    assert (report.status, report.exit_code, report.notes) == ("intact", 0, ())
    assert report.entries >= 8
    assert report.proposals == 1


TAMPERINGS = {
    "seq": ("UPDATE ledger_entry SET seq = 999 WHERE seq = 4", 4),
    "id": ("UPDATE ledger_entry SET id = 'e-other' WHERE seq = 4", 4),
    "at": ("UPDATE ledger_entry SET at = '2020-01-01' WHERE seq = 4", 4),
    "type": ("UPDATE ledger_entry SET type = 'note' WHERE seq = 4", 4),
    "proposal": ("UPDATE ledger_entry SET proposal = 'p-other' WHERE seq = 4", 4),
    "leaf": ("UPDATE ledger_entry SET leaf = '00' WHERE seq = 4", 4),
    "entry": ("UPDATE ledger_entry SET entry = replace(entry, 'bob', 'eve') WHERE seq = 4", 4),
    "entry-type": ("UPDATE ledger_entry SET entry = 17 WHERE seq = 4", 4),
    "log": ("UPDATE ledger_entry SET log = 'elsewhere' WHERE seq = 4", 4),
    "delete-first": ("DELETE FROM ledger_entry WHERE seq = 0", 0),
    "delete-middle": ("DELETE FROM ledger_entry WHERE seq = 5", 5),
    "delete-last": ("DELETE FROM ledger_entry WHERE seq = (SELECT max(seq) FROM ledger_entry)", None),
    "head-size": ("UPDATE ledger_head SET size = size - 1", None),
    "head-note": ("UPDATE ledger_head SET note = replace(note, 'ledger', 'Ledger')", None),
    "head-gone": ("DELETE FROM ledger_head", None),
    "blob-content": ("UPDATE ledger_blob SET content = 'other'", -1),
    "blob-salt": ("UPDATE ledger_blob SET salt = 'zz'", -1),
    "blob-kind": ("UPDATE ledger_blob SET kind = 'evidence'", -1),
    "blob-gone": ("DELETE FROM ledger_blob", -1),
    "blob-of-nobody": ("INSERT INTO ledger_blob VALUES ('default', 'aa', 'prompt', '00', 'x')", -1),
    "state": ("UPDATE proposal SET state = 'pending'", -1),
    "digest": ("UPDATE proposal SET digest = '00'", -1),
    "requester": ("UPDATE proposal SET requester = 'eve'", -1),
    "version": ("UPDATE proposal SET version = 1", -1),
    "draft": ("UPDATE proposal SET draft = replace(draft, 'web', 'api')", -1),
    "cluster": ("UPDATE proposal SET cluster = 'prod'", -1),
    "contributors": ("UPDATE proposal SET contributors = '[\"eve\"]'", -1),
    "contributors-damaged": ("UPDATE proposal SET contributors = '['", -1),
    "verdict": ("UPDATE proposal SET verdict = replace(verdict, 'approve', 'auto')", -1),
    "requirement": ("UPDATE proposal SET requirement = replace(requirement, '1}', '0}')", -1),
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


CHECKPOINT_TAMPERINGS = {
    "note": "UPDATE ledger_checkpoint SET note = replace(note, 'ledger', 'Ledger') WHERE size = (SELECT min(size) FROM ledger_checkpoint)",
    "size": "UPDATE ledger_checkpoint SET size = 3 WHERE size = (SELECT min(size) FROM ledger_checkpoint)",
    "log": "UPDATE ledger_entry SET log = 'elsewhere' WHERE seq = 400",
}


@pytest.mark.parametrize("name", CHECKPOINT_TAMPERINGS)
async def test_tampering_with_kept_checkpoints_is_caught(long: Office, tmp_path: Path, name: str) -> None:
    assert (await _report(long, tmp_path)).checkpoints == 2
    await _run(long, CHECKPOINT_TAMPERINGS[name])
    assert (await _report(long, tmp_path)).status == "tampered"


async def _rewrite(office: Office, seq: int, old: str, new: str) -> None:
    async with office.store.write() as connection:
        row = (await connection.execute(entries.select().where(entries.c.seq == seq))).one()
        forged = row.entry.replace(old, new)
        assert forged != row.entry
        leaf = leaf_hash(forged.encode()).hex()
        await connection.execute(entries.update().where(entries.c.seq == seq).values(entry=forged, leaf=leaf))


async def test_a_rewritten_entry_with_its_leaf_is_caught_by_the_head(told: Office, tmp_path: Path) -> None:
    await _rewrite(told, 4, "bob", "eve")
    report = await _report(told, tmp_path)
    assert report.status == "tampered"
    assert any("another root" in problem.what for problem in report.problems)


async def test_a_rewritten_entry_is_narrowed_down_by_the_kept_checkpoints(long: Office, tmp_path: Path) -> None:
    """With its leaf recomputed no single entry contradicts itself: what is named is the stretch since the last checkpoint that fits."""
    first, second = await _sizes(long)
    await _rewrite(long, first + 5, '"number"', '"Number"')
    (problem, *_rest) = (await _report(long, tmp_path)).problems
    assert problem.seq == first
    assert f"an entry from {first} to {second - 1} changed" in problem.what


async def _sizes(office: Office) -> list[int]:
    async with office.store.read() as connection:
        return list((await connection.execute(text("SELECT size FROM ledger_checkpoint ORDER BY size"))).scalars())


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
        note = (await connection.execute(text("SELECT note FROM ledger_head"))).scalar_one()
        signed = forger.sign(Signer.load_or_create(tmp_path / KEY).verifier.open(note))
        await connection.execute(text("UPDATE ledger_head SET note = :note"), {"note": signed})
    assert (await _report(told, tmp_path)).status == "tampered"


async def test_a_database_cut_short_names_the_first_missing_entry(long: Office, tmp_path: Path) -> None:
    """A head that was cut back with its entries, signed as it was then, is contradicted by the anchor alone."""
    size = (await _sizes(long))[0]
    async with long.store.write() as connection:
        note = (await connection.execute(text("SELECT note FROM ledger_checkpoint WHERE size = :size"), {"size": size})).scalar_one()
        await connection.execute(text("DELETE FROM ledger_entry WHERE seq >= :size"), {"size": size})
        await connection.execute(text("DELETE FROM ledger_checkpoint WHERE size > :size"), {"size": size})
        leaves = (await connection.execute(text("SELECT leaf FROM ledger_entry ORDER BY seq"))).scalars().all()
        kept = Frontier()
        kept.extend([bytes.fromhex(leaf) for leaf in leaves])
        head = {"size": size, "note": note, "frontier": json.dumps([node.hex() for node in kept.hashes])}
        await connection.execute(text("UPDATE ledger_head SET size = :size, note = :note, frontier = :frontier"), head)
    (problem,) = (await _report(long, tmp_path)).problems
    assert problem.seq == size


async def test_what_is_erased_is_gone_and_the_ledger_intact(told: Office, tmp_path: Path) -> None:
    kept, erased = await blob_of(told, "prompt"), await blob_of(told, "evidence")
    assert (await told.ledger.blob(kept)).content == "kept"
    with pytest.raises(BadLedger, match="No text is kept"):
        await told.ledger.blob(erased)
    with pytest.raises(BadLedger, match="No text is kept"):
        await told.ledger.erase(erased, by="cleo", reason="again")
    assert (await _report(told, tmp_path)).status == "intact"
    assert not left_in_files(tmp_path, b"manifest unknown")
    await told.ledger.erase(kept, by="cleo", reason="asked to")
    (last,) = (await told.ledger.entries())[-1:]
    assert (last.type, last.body["commitment"], last.body["by"]) == ("blob.erased", kept, "cleo")
    assert (await _report(told, tmp_path)).status == "intact"


def left_in_files(folder: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in folder.glob(f"{DATABASE}*"))


async def test_an_erased_text_that_is_put_back_is_caught(told: Office, tmp_path: Path) -> None:
    await _run(told, f"INSERT INTO ledger_blob VALUES ('default', '{await blob_of(told, 'evidence')}', 'evidence', '00', 'x')")
    assert "was erased, and is there" in (await _report(told, tmp_path)).problems[0].what


async def test_secrets_are_redacted_before_anything_is_committed_to(told: Office) -> None:
    async with told.ledger.transaction() as writing:
        await writing.append("note", None, {}, (EVIDENCE,))
    content = (await told.ledger.blob(await blob_of(told, "evidence"))).content
    assert "hunter2" not in content
    assert "manifest unknown" in content


async def test_the_newest_checkpoint_is_that_of_the_anchor(told: Office, tmp_path: Path) -> None:
    assert await told.ledger.checkpoint() == (tmp_path / ANCHOR).read_text()


async def test_an_empty_ledger_has_no_checkpoint(office: Office, clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(BadLedger, match="empty"):
        await Ledger(office.store, Signer.load_or_create(tmp_path / KEY), clock, tenant="another").checkpoint()


def test_a_key_from_the_environment(tmp_path: Path) -> None:
    signer = Signer.load_or_create(tmp_path / KEY)
    pem = (tmp_path / KEY).read_text()
    line = "".join(pem.splitlines()[1:-1])
    assert Signer.from_text(pem).verifier == Signer.from_text(line).verifier == signer.verifier
    with pytest.raises(BadLedger, match="in the configuration is damaged"):
        Signer.from_text("no key")


async def test_an_old_backup_put_back_is_caught_by_the_anchor(gate: Gate, office: Office, tmp_path: Path) -> None:
    await propose_undo(gate)
    old = tmp_path / "old.db"
    source = sqlite3.connect(tmp_path / DATABASE)
    source.execute(f"VACUUM INTO '{old}'")
    source.close()
    await gate.pause("ada", "looks strange")
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


@pytest.mark.parametrize(
    "change", ["size = size - 1", "frontier = replace(frontier, 'a', 'b')", "note = replace(note, 'ledger', 'Ledger')"]
)
async def test_a_damaged_or_forged_head_is_not_built_upon(told: Office, change: str) -> None:
    await _run(told, f"UPDATE ledger_head SET {change}")
    with pytest.raises(BadLedger, match="damaged ledger"):
        await propose_undo(Gate(told))


async def _witness(office: Office, *wanted: int) -> dict[int, dict[str, Any]]:
    async with office.ledger.transaction() as writing:
        await writing.append("note", None, {"appended": "before"})
        return await writing.witness(wanted)


async def test_entries_are_witnessed_by_what_was_signed_before_the_transaction(told: Office) -> None:
    """At every shape of the tree, also when the transaction has appended already; what is not there has no witness."""
    for _ in range(9):
        (*known, last) = await told.ledger.entries()
        found = await _witness(told, *(entry.seq for entry in known), last.seq, last.seq + 1, 9999, -1)
        assert {seq: entry["id"] for seq, entry in found.items()} == {entry.seq: entry.id for entry in (*known, last)}


async def test_an_edited_entry_is_no_witness(told: Office) -> None:
    await _run(told, "UPDATE ledger_entry SET entry = replace(entry, 'bob', 'eve') WHERE seq = 4")
    assert await _witness(told, 5)
    with pytest.raises(BadLedger, match="Entry 4 of the ledger was edited"):
        await _witness(told, 4, 5)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entry SET leaf = '00' WHERE seq = 6",
        "UPDATE ledger_entry SET leaf = 'no hex' WHERE seq = 6",
        "DELETE FROM ledger_entry WHERE seq = 6",
        "UPDATE ledger_entry SET seq = 6000 WHERE seq = 6",
    ],
)
async def test_neighbours_of_what_was_tampered_with_are_no_witness(told: Office, statement: str) -> None:
    """Those of its subtree; of 16 entries and more, the first eight are in one."""
    while len(await told.ledger.entries()) < 16:
        await _witness(told)
    await _run(told, statement)
    with pytest.raises(BadLedger, match="not those that were signed"):
        await _witness(told, 4)


async def test_a_slipped_in_entry_with_its_leaf_is_no_witness(told: Office) -> None:
    await _rewrite(told, 4, "bob", "eve")
    with pytest.raises(BadLedger, match="not those that were signed"):
        await _witness(told, 4)


async def test_a_witness_costs_only_its_own_subtree(long: Office) -> None:
    """The newest entry is proven although the oldest were tampered with: these were not read. `audit verify` finds them."""
    last = (await long.ledger.entries())[-1].seq
    await _run(long, "UPDATE ledger_entry SET leaf = '00' WHERE seq < 100")
    assert list(await _witness(long, last)) == [last]


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


def test_processes_that_start_at_the_same_time_make_one_key(tmp_path: Path) -> None:
    """A process of a storm of starts once found the file of another one half written, and called it damaged."""
    start = threading.Barrier(8)

    def load(_number: int) -> str:
        start.wait(30)
        return Signer.load_or_create(tmp_path / KEY).verifier.text

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(8)))) == 1
    assert [path.name for path in (tmp_path / KEY).parent.iterdir()] == [(tmp_path / KEY).name]


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
        lambda note: note[:-3] + chr(ord(note[-3]) + 1) + note[-2:],
        lambda note: "\udcef" + note[1:],
        lambda note: note.replace("\n7\n", "\n\u00b2\n"),
        lambda note: note[:-3] + "\udcef" + note[-2:],
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
