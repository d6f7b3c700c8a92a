"""SQLite under the store: one file, one writer at a time.

`BEGIN IMMEDIATE` takes the write lock before anything is read; readers never wait for a writer. synchronous=FULL: an entry that was
reported is on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, MetaData, NullPool, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from guardrails.errors import BadStore

BUSY_SECONDS = 10


class SqliteDatabase:
    """A file, made when absent."""

    reading: Mapping[str, Any] = {}
    writing: Mapping[str, Any] = {"smokejumper_write": True}
    errors: tuple[type[Exception], ...] = (DBAPIError, sqlite3.Error, OSError)

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.path = path
        self._durable = durable

    def __str__(self) -> str:
        return str(self.path)

    def prepare(self) -> AsyncEngine:
        """Make the file and look whether it is a usable database, before the pool does. Raises what `errors` names.

        A connection of aiosqlite that fails to open ends in a thread that outlives the event loop and prints a traceback.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        engine = create_async_engine(f"sqlite+aiosqlite:///{self.path}", connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine.sync_engine, "connect", _configure if self._durable else _configure_scratch)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine

    async def open(self, connection: AsyncConnection, metadata: MetaData, version: int) -> None:
        """Make the tables of an empty file; refuse those of another version. Raises BadStore."""
        found = await self.version(connection)
        if found == version:
            return
        if found > version:
            raise BadStore(
                f"The database {self} was made by a newer version of Smokejumper (schema {found}, this one knows {version}).",
                next_step="Run that version or a newer one.",
            )
        if (await connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE type = 'table'")).scalar_one():
            raise BadStore(
                f"The database {self} was made by an older version of Smokejumper (schema {found}, this one needs {version}).",
                next_step="Stop every process that uses it, make a copy, and run: smokejumper database migrate.",
            )
        await connection.run_sync(metadata.create_all)
        await self.mark(connection, version)

    async def version(self, connection: AsyncConnection) -> int:
        """The version of the tables as the file says, 0 when it says nothing."""
        return int((await connection.exec_driver_sql("PRAGMA user_version")).scalar_one())

    async def mark(self, connection: AsyncConnection, version: int) -> None:
        """Note the version of the tables."""
        await connection.exec_driver_sql(f"PRAGMA user_version = {version:d}")

    async def lock(self, connection: AsyncConnection) -> None:
        """The transaction has begun with it."""

    def is_unknown(self, error: BaseException) -> bool:
        """Whether a commit that ended so may have happened: never, a file answers."""
        return False

    def explain(self, error: Exception) -> BadStore:
        """What the driver raised, as one sentence with a next step."""
        text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        if "locked" in text:
            return BadStore(f"The database {self} is locked.", next_step="Another process holds it for long; stop that one or try again.")
        if "readonly" in text or "read-only" in text or isinstance(error, PermissionError):
            return BadStore(f"The database {self} is read-only.", next_step="Give this user write access, or choose another state folder.")
        if "malformed" in text or "not a database" in text:
            return BadStore(f"The database {self} is damaged.", next_step="Restore it from a backup, then run: smokejumper audit verify.")
        if "full" in text:
            return BadStore(f"No space is left for the database {self}.", next_step="Free some; nothing was changed.")
        if "unable to open" in text or isinstance(error, OSError):
            return BadStore(f"The database {self} cannot be opened: {text}.", next_step="Check the path and its permissions.")
        kind = "refused a statement" if isinstance(error, DatabaseError) else "failed"
        return BadStore(f"The database {self} {kind}: {text[:300]}.", next_step="If it was made by another version, migrate it.")


def _configure(connection: Any, _record: ConnectionPoolEntry) -> None:
    # The driver must not open transactions of its own: _begin does (SQLAlchemy, "Serializable isolation / transactional DDL").
    connection.isolation_level = None
    cursor = connection.cursor()
    # secure_delete: what is erased is overwritten in the file, not only unlinked (sqlite.org/pragma.html).
    for pragma in (f"busy_timeout={BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _configure_scratch(connection: Any, record: ConnectionPoolEntry) -> None:
    _configure(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()


def _begin(connection: Any) -> None:
    writing = connection.get_execution_options().get("smokejumper_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def scan(path: Path) -> Iterator[Connection]:
    """A transaction that reads a file on a connection of the calling thread, which nobody else waits for. Raises what `errors` names.

    For reading very many rows: aiosqlite's thread and the loop's pass each batch to and fro for as long as reading it takes.
    """
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    with engine.connect() as connection, connection.begin():
        yield connection


@asynccontextmanager
async def lenient(connection: AsyncConnection) -> AsyncIterator[None]:
    """While it lasts, text that is no UTF-8 is read with the wrong bytes as lone surrogates, instead of not at all."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    driver.text_factory = _decode
    try:
        yield
    finally:
        driver.text_factory = str


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
