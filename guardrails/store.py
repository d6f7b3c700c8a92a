"""The database: its tables, and the two ways in. One SQLite file by default.

`write` begins with the write lock, so what a transaction reads is still true when it commits; `read` never waits for a writer.
synchronous=FULL: an entry that was reported is on the disk. What cannot be used becomes one error with a next step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint, event
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from guardrails.errors import BadStore

BUSY_SECONDS = 10

metadata = MetaData()

# Times are ISO 8601 in UTC with microseconds, so that they sort as text. JSON columns hold text that is stored as it was signed.
proposals = Table(
    "proposal",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("cluster", String, nullable=False),
    Column("action", String, nullable=False),
    Column("state", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String),
    Column("draft", Text, nullable=False),
    Column("document", Text),
    Column("verdict", Text),
    Column("requirement", Text),
    Column("dry_run", Text),
    Column("requester", String, nullable=False),
    Column("contributors", Text, nullable=False),
    Column("created_at", String, nullable=False),
    Column("updated_at", String, nullable=False),
    Column("expires_at", String),
    Column("reason", Text, nullable=False, default=""),
    Column("outcome", Text),
    Column("claimed_at", String),
    Column("fence", Integer, nullable=False, default=0),
    Column("lease_until", String),
    Column("failed_at", String),
    Column("key", String, unique=True),
    Index("proposal_state", "state"),
)
# Further idempotency keys under which a proposal was asked for, beside the one it was made with.
keys = Table(
    "proposal_key",
    metadata,
    Column("key", String, primary_key=True),
    Column("proposal", String, nullable=False),
)
approvals = Table(
    "approval",
    metadata,
    Column("proposal", String, nullable=False),
    Column("approver", String, nullable=False),
    Column("approval", Text, nullable=False),
    Column("entry", Integer, nullable=False),
    UniqueConstraint("proposal", "approver"),
    Index("approval_approver", "approver", "entry"),
)
steps = Table(
    "step",
    metadata,
    Column("proposal", String, primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("purpose", String, nullable=False),
    Column("request_digest", String, nullable=False),
    Column("status", String, nullable=False),
    Column("receipt", Text),
    Column("at", String, nullable=False),
)
locks = Table(
    "target_lock",
    metadata,
    Column("scope", String, primary_key=True),
    Column("proposal", String, nullable=False),
    Column("until", String, nullable=False),
)
spending = Table(
    "spending",
    metadata,
    Column("proposal", String, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("automatic", Integer, nullable=False),
    Column("at", String, nullable=False),
    Index("spending_cluster_at", "cluster", "at"),
)
switches = Table(
    "kill_switch",
    metadata,
    Column("scope", String, primary_key=True),
    Column("is_on", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String, nullable=False),
    Column("at", String, nullable=False),
)
emergencies = Table(
    "emergency",
    metadata,
    Column("id", String, primary_key=True),
    Column("person", String, nullable=False),
    Column("cluster", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String, nullable=False),
    Column("until", String, nullable=False),
    Column("reviewed_by", String, nullable=False),
    Column("review", Text, nullable=False),
)
# Who stands in for whom; `entry` is the number of the ledger's entry that witnesses it.
delegations = Table(
    "delegation",
    metadata,
    Column("id", String, primary_key=True),
    Column("giver", String, nullable=False),
    Column("receiver", String, nullable=False),
    Column("groups", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String, nullable=False),
    Column("until", String, nullable=False),
    Column("ended_by", String, nullable=False),
    Column("entry", Integer, nullable=False),
)
heads = Table(
    "ledger_head",
    metadata,
    Column("log", String, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("frontier", Text, nullable=False),
    Column("note", Text, nullable=False),
)
entries = Table(
    "ledger_entry",
    metadata,
    Column("log", String, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("at", String, nullable=False),
    Column("type", String, nullable=False),
    Column("proposal", String),
    Column("entry", Text, nullable=False),
    Column("leaf", String, nullable=False),
    Index("ledger_entry_proposal", "proposal"),
)
checkpoints = Table(
    "ledger_checkpoint",
    metadata,
    Column("log", String, primary_key=True),
    Column("size", Integer, primary_key=True),
    Column("note", Text, nullable=False),
)
# What may have to be forgotten: an entry holds only the commitment. An erasure removes the row, and leaves an entry of its own.
blobs = Table(
    "ledger_blob",
    metadata,
    Column("log", String, primary_key=True),
    Column("commitment", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("salt", String, nullable=False),
    Column("content", Text, nullable=False),
)


class Store:
    """One database. Open it with `open`, close it with `close`."""

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self.path = path
        self._engine = engine

    @classmethod
    async def open(cls, path: Path, *, durable: bool = True) -> Store:
        """Open the file, making it and its tables when absent. Raises BadStore.

        Not `durable`: for scratch databases, whose last transactions need not survive a power cut.
        """
        _prepare(path)
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine.sync_engine, "connect", _configure if durable else _configure_scratch)
        event.listen(engine.sync_engine, "begin", _begin)
        store = cls(path, engine)
        try:
            async with store.write() as connection:
                await connection.run_sync(metadata.create_all)
        except BadStore:
            await engine.dispose()
            raise
        return store

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the write lock from its beginning; commits at the end, rolls back on any exception."""
        with _one_error(self.path):
            async with self._engine.connect() as connection:
                await connection.execution_options(smokejumper_write=True)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database."""
        with _one_error(self.path):
            async with self._engine.connect() as connection, connection.begin():
                yield connection


def _prepare(path: Path) -> None:
    """Make the file and look whether it is a usable database, before the pool does.

    A connection of aiosqlite that fails to open ends in a thread that outlives the event loop and prints a traceback.
    """
    with _one_error(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


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


class _one_error:  # noqa: N801 - read as a statement
    """Turn what the driver raises into BadStore with a next step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, DBAPIError | sqlite3.Error | OSError):
            raise _explain(self._path, error) from error


def _explain(path: Path, error: DBAPIError | sqlite3.Error | OSError) -> BadStore:
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    if "locked" in text:
        return BadStore(f"The database {path} is locked.", next_step="Another process holds it for long; stop that one or try again.")
    if "readonly" in text or "read-only" in text or isinstance(error, PermissionError):
        return BadStore(f"The database {path} is read-only.", next_step="Give this user write access, or choose another state folder.")
    if "malformed" in text or "not a database" in text:
        return BadStore(f"The database {path} is damaged.", next_step="Restore it from a backup, then run: smokejumper audit verify.")
    if "full" in text:
        return BadStore(f"No space is left for the database {path}.", next_step="Free some; nothing was changed.")
    if "unable to open" in text or isinstance(error, OSError):
        return BadStore(f"The database {path} cannot be opened: {text}.", next_step="Check the path and its permissions.")
    kind = "refused a statement" if isinstance(error, DatabaseError) else "failed"
    return BadStore(f"The database {path} {kind}: {text[:300]}.", next_step="If it was made by another version, migrate it.")
