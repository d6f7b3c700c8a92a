"""PostgreSQL under the store: the writers of one tenant take turns, as those of a SQLite file do.

A writing transaction begins with an advisory lock of its tenant, so what it reads is still true when it commits, and two gates cannot
build on one head of the ledger; should some other program write without that lock, the head's row lock and the primary keys refuse it.
Who the tenant is, the database says from the role that logged in; nothing that this process sends can change it. A commit whose
answer was lost is `UnknownCommit`, never taken for done or for not done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import MetaData, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from guardrails.errors import BadStore

DRIVER = "postgresql+asyncpg"
SCHEMA = "smokejumper"
LOCK_SECONDS = 10
CONNECT_SECONDS = 10
# No statement of ours takes long but reading a whole ledger, which comes in batches.
STATEMENT_SECONDS = 60
# A writer that hangs loses its transaction, lest everybody wait for it.
IDLE_SECONDS = 60
POOL_SIZE = 5
# Of SQLSTATE (PostgreSQL, appendix A): connection exceptions, operator intervention, and "statement completion unknown".
_UNKNOWN_STATES = ("08", "57P", "40003")
_RAW = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
_LOCK = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :idle, true),"
    " pg_advisory_xact_lock(hashtextextended('smokejumper/' || tenant_of_session(), 0))"
).bindparams(idle=f"{IDLE_SECONDS}s")
_STANDING = text(
    "SELECT tenant_of_session() AS tenant, session_user AS role, (SELECT version FROM schema_version) AS version,"
    " (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user)"
    " OR has_table_privilege('ledger_entry', 'UPDATE') OR has_table_privilege('ledger_entry', 'DELETE')"
    " OR has_table_privilege('ledger_entry', 'TRUNCATE') AS almighty"
)


class PostgresDatabase:
    """A database on a server, whose tables the owner has made. `tenant` is whose rows this process means to use."""

    path = None
    reading: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    # READ COMMITTED: after the lock every statement must see what the writer before has committed.
    writing: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}
    errors: tuple[type[Exception], ...] = (DBAPIError, PoolTimeoutError, *_RAW)

    def __init__(self, url: str, *, durable: bool, tenant: str) -> None:
        try:
            self._url = make_url(url)
        except ArgumentError as error:
            # The text itself may hold a password.
            raise BadStore("The database's address is no URL.", next_step=f"Write {DRIVER}://ROLE@HOST/DATABASE.") from error
        if self._url.drivername != DRIVER:
            raise BadStore(f"{self._url.drivername} is no database that is known.", next_step=f"Write {DRIVER}://ROLE@HOST/DATABASE.")
        self._durable = durable
        self._tenant = tenant

    def __str__(self) -> str:
        return self._url.set(query={}).render_as_string(hide_password=True)

    def prepare(self) -> AsyncEngine:
        """A pool that connects when it is first used."""
        settings = {
            "search_path": SCHEMA,
            "application_name": "smokejumper",
            "lock_timeout": f"{LOCK_SECONDS}s",
            "synchronous_commit": "on" if self._durable else "off",
        }
        return create_async_engine(
            self._url,
            pool_size=POOL_SIZE,
            pool_timeout=LOCK_SECONDS,
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS, "server_settings": settings},
        )

    async def open(self, connection: AsyncConnection, metadata: MetaData, version: int) -> None:
        """Look whether tables, tenant and rights are as they must be. Raises BadStore."""
        standing = (await connection.execute(_STANDING)).one()
        if standing.version < version:
            raise BadStore(
                f"The tables of {self} were made by an older version of Smokejumper (schema {standing.version}, this one needs {version}).",
                next_step="Stop every process that uses them, make a backup, and run as their owner: smokejumper database migrate.",
            )
        if standing.version > version:
            raise BadStore(
                f"The tables of {self} were made by a newer version of Smokejumper (schema {standing.version}, this one knows {version}).",
                next_step="Run that version or a newer one.",
            )
        if standing.almighty:
            raise BadStore(
                f"The role {standing.role} could rewrite the ledger of {self}.",
                next_step="Use a role that owns nothing; its rights are printed by: smokejumper database sql.",
            )
        if standing.tenant != self._tenant:
            of = f"the tenant {standing.tenant}" if standing.tenant else "no tenant"
            raise BadStore(
                f"The role {standing.role} of {self} belongs to {of}, not to {self._tenant}.",
                next_step=f"Run as the owner what this prints: smokejumper database sql --role {standing.role} --tenant {self._tenant}.",
            )

    async def lock(self, connection: AsyncConnection) -> None:
        """Wait for this tenant's turn to write."""
        await connection.execute(_LOCK)

    def is_unknown(self, error: BaseException) -> bool:
        """Whether a commit that ended so may have happened: unless the server itself said that it did not."""
        state = sqlstate(error)
        return not state or state.startswith(_UNKNOWN_STATES)

    def explain(self, error: Exception) -> BadStore:
        """What the driver raised, as one sentence with a next step."""
        state = sqlstate(error)
        said = " ".join(str(error.orig if isinstance(error, DBAPIError) and error.orig else error).split("\n")[0].split())[:300]
        if state == "55P03":
            return BadStore(f"The database {self} is locked.", next_step="Another process writes for long; stop that one or try again.")
        if state in ("40001", "40P01"):
            return BadStore(f"The database {self} could not order two changes.", next_step="Nothing was changed; try again.")
        if state == "42501":
            return BadStore(f"The database {self} refuses: {said}.", next_step="The rights are printed by: smokejumper database sql.")
        if state in ("3F000", "42P01", "42883"):
            return BadStore(
                f"The database {self} has no tables of Smokejumper.", next_step="Run as their owner: smokejumper database migrate."
            )
        if state in ("28P01", "28000", "3D000"):
            return BadStore(f"The database {self} does not let us in: {said}.", next_step="Check role, password and database.")
        if state.startswith("53"):
            return BadStore(f"The database {self} is out of resources: {said}.", next_step="Free some; nothing was changed.")
        if not state or state.startswith(_UNKNOWN_STATES):
            return BadStore(
                f"The database {self} cannot be reached: {said or type(error).__name__}.", next_step="Nothing was changed; try again."
            )
        return BadStore(f"The database {self} refused a statement: {said}.", next_step="If it was made by another version, migrate it.")


def sqlstate(error: BaseException | None) -> str:
    """The server's five characters, "" for an error that is not of the server's making."""
    while error is not None:
        found = getattr(error, "sqlstate", None)
        if isinstance(found, str) and isinstance(error, asyncpg.PostgresError):
            return found
        error = error.__cause__ or getattr(error, "orig", None)
    return ""
