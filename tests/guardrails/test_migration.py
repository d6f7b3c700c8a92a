"""No table changes without a new version and a step that leads there: definitions of every version are kept, and each is migrated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from difflib import unified_diff
from pathlib import Path

import pytest

from guardrails.migration import Migrated, migrate
from guardrails.postgres import SCHEMA
from guardrails.store import VERSION, Store
from tests.guardrails.schema.definitions import DEFINITIONS, file_of, versions
from tests.postgres import OWNER, Databases

pytestmark = pytest.mark.anyio

STEP = "a step from the version before in guardrails/migration.py"
COLUMNS = f"""
SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name FROM information_schema.columns
WHERE table_schema = '{SCHEMA}' ORDER BY 1, 2;
SELECT indexdef FROM pg_indexes WHERE schemaname = '{SCHEMA}' ORDER BY 1;
SELECT tablename, rowsecurity FROM pg_tables WHERE schemaname = '{SCHEMA}' ORDER BY 1;
SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = '{SCHEMA}'::regnamespace ORDER BY 1, 2;
SELECT tablename, policyname, qual, with_check FROM pg_policies WHERE schemaname = '{SCHEMA}' ORDER BY 1;
SELECT version FROM {SCHEMA}.schema_version;
"""


@pytest.mark.parametrize("database", DEFINITIONS)
def test_the_tables_are_those_of_their_version(database: str) -> None:
    place = file_of(database)
    kept, now = place.read_text("utf-8") if place.exists() else "", DEFINITIONS[database]()
    difference = "\n".join(unified_diff(kept.splitlines(), now.splitlines(), place.name, "as defined now", lineterm=""))
    assert now == kept, (
        f"The tables are not those of version {VERSION}, and a database that people have would lack the difference. Raise VERSION in "
        f"guardrails/store.py, write {STEP}, give new tables their rights in guardrails/rights.py, then keep the new definitions: python "
        f"-m tests.guardrails.schema (while no release has version {VERSION}, delete {place.name} instead and write it anew).\n{difference}"
    )


@pytest.mark.parametrize("database", DEFINITIONS)
def test_every_version_is_kept(database: str) -> None:
    assert versions(database) == list(range(1, VERSION + 1))


@pytest.mark.parametrize("version", versions("sqlite"))
async def test_a_file_of_every_version_becomes_one_of_this(version: int, tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(file_of("sqlite", version).read_text("utf-8") + f"PRAGMA user_version = {version};")
    assert await migrate(old) == Migrated(version, VERSION)
    await (await Store.open(new, durable=False)).close()
    assert _columns(old) == _columns(new), f"a file of version {version} lacks something afterwards: write {STEP}"


@pytest.mark.parametrize("version", versions("postgresql"))
async def test_a_server_of_every_version_becomes_one_of_this(version: int, databases: Databases) -> None:
    old, new = databases.new(), databases.new()
    for name in (old, new):
        databases.server.psql(f"GRANT CREATE ON DATABASE {name} TO {OWNER}")
    databases.server.psql(f"BEGIN;\n{file_of('postgresql', version).read_text('utf-8')}COMMIT;", old, OWNER)
    assert await migrate(databases.server.url(old, OWNER)) == Migrated(version, VERSION)
    await migrate(databases.server.url(new, OWNER))
    found = [databases.server.psql(COLUMNS, name) for name in (old, new)]
    assert "ledger_entry" in found[1]
    assert found[0] == found[1], f"tables of version {version} lack something afterwards: write {STEP}"


def _columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Of every table and index its columns: name, type, whether it may be empty, default, place in the key; of every index whether it is
    unique. In the order of names, for a column that was added comes last."""
    found: dict[str, list[tuple[object, ...]]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for kind, name in connection.execute("SELECT type, name FROM sqlite_master").fetchall():
            pragma = "table_info" if kind == "table" else "index_info"
            rows = connection.execute(f"SELECT * FROM pragma_{pragma}(?)", (name,)).fetchall()
            found[name] = sorted((row[1:] if kind == "table" else row[2:] for row in rows), key=str)
            if kind == "table":
                indexes = connection.execute('SELECT name, "unique", partial FROM pragma_index_list(?)', (name,)).fetchall()
                found[f"indexes of {name}"] = sorted(indexes)
    return found
