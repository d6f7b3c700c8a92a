"""The statements that make the tables, per database, and the files that keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from guardrails.rights import creation
from guardrails.store import VERSION, metadata

FOLDER = Path(__file__).parent


def file_of(database: str, version: int = VERSION) -> Path:
    return FOLDER / f"{version}.{database}.sql"


def versions(database: str) -> list[int]:
    """Whose definitions are kept, in order."""
    return sorted(int(place.name.partition(".")[0]) for place in FOLDER.glob(f"*.{database}.sql"))


def of_a_file() -> str:
    made: list[DDLElement] = []
    for table in metadata.sorted_tables:
        made += [CreateTable(table), *(CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))]
    dialect = sqlite.dialect()
    return _script(str(one.compile(dialect=dialect)) for one in made)


def of_a_server() -> str:
    return _script(creation())


def _script(statements: Iterable[str]) -> str:
    return "".join(f"{_tidy(one)};\n" for one in statements)


def _tidy(statement: str) -> str:
    return "\n".join(line.replace("\t", "    ").rstrip() for line in statement.strip().splitlines() if line.strip())


DEFINITIONS: dict[str, Callable[[], str]] = {"sqlite": of_a_file, "postgresql": of_a_server}
