"""`smokejumper database`, and the commands over a server instead of a file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from guardrails.office import DATABASE
from guardrails.store import VERSION
from oncall.cli import run
from oncall.settings import load, origins
from tests.postgres import OWNER, RUNTIME, Databases


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMOKEJUMPER_DATABASE_URL", "postgresql+asyncpg://role:hunter2@db.example.org:5432/ledger?ssl=require&x=hunter2")
    settings = load({}, None)
    rows = {row.path: row.value for row in origins(settings, {}, None)}
    assert rows["database_url"].startswith('"postgresql+asyncpg://role:')
    assert rows["database_url"].endswith('@db.example.org:5432/ledger"')
    assert not any("hunter2" in text for text in (repr(settings), *rows.values()))


def test_no_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SMOKEJUMPER_DATABASE_URL", "hunter2")
    assert run(["--state", str(tmp_path), "proposals", "list"]) == 2
    said = capsys.readouterr().err
    assert "Write postgresql+asyncpg://ROLE@HOST/DATABASE" in said
    assert "hunter2" not in said


def test_from_an_empty_database_to_a_verified_ledger(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the documentation tells it: migrate as the owner with the runtime's rights, then work as the runtime."""
    name = databases.new()
    databases.server.psql(f"GRANT CREATE ON DATABASE {name} TO {OWNER}")
    monkeypatch.setenv("SMOKEJUMPER_DATABASE_URL", databases.server.url(name, RUNTIME))
    monkeypatch.setenv("SMOKEJUMPER_DATABASE_OWNER_URL", databases.server.url(name, OWNER))
    state = ["--state", str(tmp_path)]
    assert run([*state, "proposals", "list"]) == 2
    assert "smokejumper database migrate" in capsys.readouterr().err
    assert run([*state, "database", "migrate", "--role", RUNTIME]) == 0
    assert capsys.readouterr().out == f"schema 0 -> {VERSION}\n"
    assert run([*state, "database", "migrate"]) == 0
    assert capsys.readouterr().out == f"schema {VERSION}, as it was\n"
    assert run([*state, "proposals", "list"]) == 0
    capsys.readouterr()
    assert run([*state, "audit", "verify"]) == 0
    assert capsys.readouterr().out.startswith("intact: 1 entries")
    assert not (tmp_path / DATABASE).exists()


def test_what_is_printed_for_a_further_tenant(databases: Databases, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = databases.new()
    state = ["--state", str(tmp_path)]
    assert run([*state, "database", "sql", "--role", "first", "--owner", "first_owner"]) == 0
    databases.server.psql(capsys.readouterr().out, name)
    databases.server.psql("CREATE ROLE second LOGIN", name)
    assert run([*state, "database", "sql", "--role", "second", "--tenant", "acme", "--only-rights"]) == 0
    databases.server.psql(f"SET ROLE first_owner; {capsys.readouterr().out}", name)
    assert databases.server.psql("SELECT smokejumper.tenant_of_session()", name, "first") == "default\n"
    assert databases.server.psql("SELECT smokejumper.tenant_of_session()", name, "second") == "acme\n"
    assert run([*state, "database", "sql", "--role", "a; DROP TABLE b"]) == 2


def test_a_file_of_before_there_were_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It lacks a version, a table, and a column; what it holds stays."""
    state = ["--state", str(tmp_path)]
    assert run([*state, "database", "migrate"]) == 2
    assert "no database" in capsys.readouterr().err
    # Refused, because nobody is in the directory yet; the ledger has begun.
    assert run([*state, "kill-switch", "on", "--reason", "test"]) == 2
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.executescript(
            "PRAGMA user_version = 0; DROP TABLE proposal_key;"
            "ALTER TABLE proposal DROP COLUMN failed_at; ALTER TABLE proposal DROP COLUMN outcome"
        )
    assert run([*state, "proposals", "list"]) == 2
    assert "older version" in capsys.readouterr().err
    assert run([*state, "database", "migrate"]) == 0
    assert run([*state, "audit", "verify"]) == 0
    assert "intact: 1 entries" in capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        connection.execute("SELECT failed_at, outcome FROM proposal, proposal_key")
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    for command in (["proposals", "list"], ["database", "migrate"]):
        assert run([*state, *command]) == 2
        assert "newer version" in capsys.readouterr().err


def test_a_file_that_cannot_be_migrated_is_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE ledger_entry (log TEXT)")
    assert run(["--state", str(tmp_path), "database", "migrate"]) == 2
    assert "ledger_entry has no column seq" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("ledger_entry",)]
