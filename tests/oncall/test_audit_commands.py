"""`smokejumper audit` as an auditor types it: over a change that was asked for, agreed to and rehearsed, and over tampered copies of it."""

from __future__ import annotations

import csv
import getpass
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from guardrails.merkle import leaf_hash, verify_inclusion
from guardrails.note import Signer, Verifier
from tests.oncall.conftest import RECORDING, ROOT, Run, command_line


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home, and the id of a proposal that alice asked for there, bob agreed to, and that was rehearsed."""
    home = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return home, _change(command_line(home, monkeypatch))


@pytest.fixture
def change(smokejumper: Run, told: tuple[Path, str], tmp_path: Path) -> str:
    """The id of the proposal, in a copy of that home."""
    home, name = told
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    return name


def _change(smokejumper: Run) -> str:
    smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())
    token = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
    asked = ("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING, "--reason", "=the tag does not exist")
    code, out, err = smokejumper(*asked)
    assert code == 0, err
    name = out.split()[0]
    digest = next(line.split()[-1] for line in smokejumper("proposals", "show", name)[1].splitlines() if "digest" in line)
    assert smokejumper("approve", name, "--digest", digest, token=token)[0] == 0
    assert smokejumper("execute", name, "--recording", RECORDING)[0] == 0
    return name


def tamper(state: Path, statement: str) -> None:
    with closing(sqlite3.connect(state / "smokejumper.db")) as database, database:
        assert database.execute(statement).rowcount


def test_show_names_entries_so_that_they_can_be_proven(smokejumper: Run, change: str) -> None:
    code, out, _ = smokejumper("audit", "show", change)
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[3] for row in rows][:2] == ["proposal.created", "proposal.moved"]
    number, name = rows[0][:2]
    code, out, _ = smokejumper("audit", "prove", name)
    assert code == 0
    proof = json.loads(out)
    checkpoint = Verifier.parse(proof["verifier"]).open(proof["checkpoint"])
    path = [bytes.fromhex(node) for node in proof["path"]]
    assert proof["index"] == int(number)
    assert verify_inclusion(leaf_hash(proof["entry"].encode()), proof["index"], checkpoint.size, path, checkpoint.root)
    code, _, err = smokejumper("audit", "prove", "e-nothing")
    assert (code, "smokejumper audit show" in err) == (2, True)


def test_show_says_when_there_is_more(smokejumper: Run, change: str) -> None:
    _, out, err = smokejumper("audit", "show", "--limit", "2")
    assert len(out.splitlines()) == 2
    assert "--after 1" in err
    assert smokejumper("audit", "show", "--after", "1", "--limit", "1")[1].startswith("2\t")


def test_an_old_backup_of_the_whole_folder_is_caught_by_a_checkpoint_that_was_exported(
    smokejumper: Run, change: str, tmp_path: Path
) -> None:
    """Database, anchor and key put back together contradict nothing but what somebody else keeps."""
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    assert smokejumper("kill-switch", "on", "--reason", "strange writes")[0] == 0
    code, note, _ = smokejumper("audit", "checkpoint")
    assert code == 0
    pinned = tmp_path / "pinned.anchor"
    pinned.write_text(note)
    assert smokejumper("audit", "verify", "--anchor", str(pinned))[0] == 0
    shutil.rmtree(tmp_path / "state")
    shutil.move(tmp_path / "backup", tmp_path / "state")
    assert smokejumper("audit", "verify")[0] == 0
    code, out, _ = smokejumper("audit", "verify", "--anchor", str(pinned))
    assert code == 1
    missing = int(note.split("\n")[1]) - 1
    assert f"entry {missing}: The anchor outside the database covers {missing + 1} entries" in out


def test_another_ledger_in_its_place_is_caught_by_the_key_that_was_pinned(smokejumper: Run, change: str, tmp_path: Path) -> None:
    pinned = shutil.copy(tmp_path / "state" / "keys" / "ledger.pub", tmp_path / "pinned.pub")
    shutil.rmtree(tmp_path / "state")
    smokejumper("people", "list")
    smokejumper("kill-switch", "on", "--reason", "a new beginning")
    assert smokejumper("audit", "verify")[0] == 0
    code, out, _ = smokejumper("audit", "verify", "--key", str(pinned))
    assert code == 1
    assert "wrong" in out or "not signed by" in out


def test_what_cannot_be_verified_is_not_called_intact(smokejumper: Run, change: str, tmp_path: Path) -> None:
    for option in ("--key", "--anchor"):
        code, _, err = smokejumper("audit", "verify", option, str(tmp_path / "nowhere"))
        assert (code, "nowhere" in err) == (2, True)
    tamper(tmp_path / "state", "UPDATE ledger_entry SET entry = replace(entry, 'bob', 'eve') WHERE type = 'approval.given'")
    assert smokejumper("audit", "verify")[0] == 1


def test_export_is_what_was_signed(smokejumper: Run, change: str) -> None:
    code, out, _ = smokejumper("audit", "export")
    assert code == 0
    *entries, last = [json.loads(line) for line in out.splitlines()]
    assert [entry["seq"] for entry in entries] == list(range(len(entries)))
    assert last["checkpoint"] == smokejumper("audit", "checkpoint")[1]
    code, out, _ = smokejumper("audit", "export", "--format", "ocsf")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["metadata"]["sequence"] for event in events] == [entry["seq"] for entry in entries]
    assert {event["class_uid"] for event in events} == {6003}


@pytest.mark.parametrize("form", ["jsonl", "ocsf"])
def test_an_export_that_nobody_reads_ends_quietly(smokejumper: Run, change: str, tmp_path: Path, form: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "import sys; from oncall.cli import main; sys.exit(main())", "--state", str(tmp_path / "state")]
    done = subprocess.run([*command, "audit", "export", "--format", form], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert "exception" not in done.stderr.lower(), done.stderr
    assert "generator" not in done.stderr, done.stderr


def test_report_of_changes(smokejumper: Run, change: str) -> None:
    code, out, err = smokejumper("audit", "report", "changes")
    assert code == 0
    assert change in out
    assert "asked by alice, agreed by bob" in out
    assert out.splitlines()[1].endswith(", a rehearsal on a recording")
    assert err.startswith("1 changes, 0 agreed to by who asked, covered by the checkpoint of size")
    rows = list(csv.DictReader(io.StringIO(smokejumper("audit", "report", "changes", "--format", "csv")[1])))
    assert (rows[0]["id"], rows[0]["requester"], rows[0]["approvers"]) == (change, "alice", "bob")
    (line,) = smokejumper("audit", "report", "changes", "-o", "jsonl")[1].splitlines()
    assert json.loads(line)["approvers"] == ["bob"]
    assert smokejumper("audit", "report", "changes", "--since", "2999-01-01")[2].startswith("0 changes")
    assert smokejumper("audit", "report", "changes", "--since", "yesterday")[0] == 2


def test_erasing_needs_somebody_and_a_text(smokejumper: Run, change: str) -> None:
    code, _, err = smokejumper("audit", "erase", "0" * 64, "--reason", "asked to")
    assert code == 2
    assert "No text is kept" in err
    assert smokejumper("audit", "erase", "0" * 64)[0] == 2


def test_the_ledgers_key_from_the_environment(smokejumper: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used, masked, and written nowhere; with another one nothing is written any more, and reading goes on."""
    smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())
    keys = []
    for name in ("one", "other"):
        Signer.load_or_create(tmp_path / name)
        keys.append("".join((tmp_path / name).read_text().splitlines()[1:-1]))
    monkeypatch.setenv("SMOKEJUMPER_LEDGER_KEY", keys[0])
    assert smokejumper("kill-switch", "on", "--reason", "strange writes")[0] == 0
    assert not (tmp_path / "state" / "keys" / "ledger.key").exists()
    assert Signer.from_text(keys[0]).verifier.text in (tmp_path / "state" / "keys" / "ledger.pub").read_text()
    assert smokejumper("audit", "verify")[0] == 0
    (shown,) = [line for line in smokejumper("config", "show")[1].splitlines() if line.startswith("ledger_key\t")]
    assert shown == "ledger_key\t********\tenvironment"
    monkeypatch.setenv("SMOKEJUMPER_LEDGER_KEY", keys[1])
    code, _, err = smokejumper("kill-switch", "on", "--reason", "again")
    assert code == 2
    assert "signed with another key" in err
    assert "Set the key that it began with" in err
    assert smokejumper("audit", "show")[0] == 0
    monkeypatch.setenv("SMOKEJUMPER_LEDGER_KEY", "no key")
    assert "in the configuration is damaged" in smokejumper("kill-switch", "on", "--reason", "again")[2]
