"""The database: its tables, and the two ways in. One SQLite file by default, a PostgreSQL server where one is configured.

`write` holds the write lock from its beginning, so what a transaction reads is still true when it commits; `read` never waits for a
writer and sees one state. What cannot be used becomes one error with a next step. How each database does this is in `sqlite` and
`postgres`; who may do what in the latter, in `rights`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from guardrails.errors import BadStore, UnknownCommit
from guardrails.sqlite import SqliteDatabase

# Of the tables below. Raised with every change of them that was released, together with a step in `migration`; a test holds the three
# together.
VERSION = 1
DEFAULT_TENANT = "default"

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
# The last code of each person's authenticator that was used up, and how many wrong ones came since.
step_ups = Table(
    "step_up",
    metadata,
    Column("person", String, primary_key=True),
    Column("counter", Integer, nullable=False),
    Column("wrong", Integer, nullable=False),
    Column("wrong_at", String, nullable=False),
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


class Database(Protocol):
    """One kind of database: `SqliteDatabase`, `PostgresDatabase`. As text it is what people know it by, without a password."""

    @property
    def path(self) -> Path | None:
        """The file, None for a server."""

    @property
    def reading(self) -> Mapping[str, Any]:
        """Execution options of a transaction that reads."""

    @property
    def writing(self) -> Mapping[str, Any]:
        """Execution options of a transaction that writes."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises."""

    def prepare(self) -> AsyncEngine:
        """The engine. May raise `errors`."""

    async def open(self, connection: AsyncConnection, metadata: MetaData, version: int) -> None:
        """Make or look at the tables, in a writing transaction without its lock. Raises BadStore."""

    async def lock(self, connection: AsyncConnection) -> None:
        """Take this tenant's write lock, unless beginning has."""

    def is_unknown(self, error: BaseException) -> bool:
        """Whether a commit that raised this may nevertheless have happened."""

    def explain(self, error: Exception) -> BadStore:
        """One of `errors` for people."""


class Store:
    """One database. Open it with `open`, close it with `close`. `path` is its file, None on a server."""

    def __init__(self, database: Database, engine: AsyncEngine) -> None:
        self.path = database.path
        self._database = database
        self._engine = engine

    @classmethod
    async def open(cls, where: Path | str, *, durable: bool = True, tenant: str = DEFAULT_TENANT) -> Store:
        """Open a file, making it and its tables when absent, or the database at a URL, whose tables must be there. Raises BadStore.

        `tenant` is whose rows are used; a server must have given the role to that tenant. Not `durable`: for scratch databases, whose
        last transactions need not survive a power cut.
        """
        database = database_of(where, durable=durable, tenant=tenant)
        try:
            engine = database.prepare()
        except database.errors as error:
            raise database.explain(error) from error
        store = cls(database, engine)
        try:
            async with store._transaction(database.writing) as connection:
                await database.open(connection, metadata, VERSION)
        except BadStore:
            await engine.dispose()
            raise
        return store

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the write lock from its beginning; commits at the end, rolls back on any exception.

        Raises UnknownCommit when the server went away while it committed.
        """
        async with self._transaction(self._database.writing) as connection:
            await self._database.lock(connection)
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database."""
        async with self._transaction(self._database.reading) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, options: Mapping[str, Any]) -> AsyncIterator[AsyncConnection]:
        database = self._database
        writing, committing = options is database.writing, False
        try:
            async with self._engine.connect() as connection:
                await connection.execution_options(**options)
                async with connection.begin():
                    yield connection
                    committing = writing
        except database.errors as error:
            if committing and database.is_unknown(error):
                raise UnknownCommit(
                    f"The database {database} went away while a change was stored: it may be stored or not.",
                    next_step="Look before you do it again: smokejumper proposals list.",
                ) from error
            raise database.explain(error) from error


def database_of(where: Path | str, *, durable: bool = True, tenant: str = DEFAULT_TENANT) -> Database:
    """The database at a path, or at a URL, which is a text. Raises BadStore for another kind of URL."""
    if isinstance(where, Path):
        return SqliteDatabase(where, durable=durable)
    # Imported here: its driver is of no use beside a file.
    from guardrails.postgres import PostgresDatabase

    return PostgresDatabase(where, durable=durable, tenant=tenant)
