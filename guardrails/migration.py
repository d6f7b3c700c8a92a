"""Bringing a database's tables to this version, in one transaction, when somebody asks for it; nothing migrates by itself.

A file of before there were versions gets the tables and columns that it lacks. On a server the owner's role does it, and may give a
runtime role its rights in the same go.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection, Table, inspect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateColumn

from guardrails.errors import BadStore
from guardrails.sqlite import SqliteDatabase
from guardrails.store import VERSION, database_of, metadata


class Migrated(Struct, frozen=True):
    """The versions of the tables before (0: none, or none known) and now."""

    before: int
    after: int


async def migrate(where: Path | str, *, role: str | None = None, tenant: str | None = None) -> Migrated:
    """Bring the tables of a file, or of the database at its owner's URL, to this version. Raises BadStore, having changed nothing.

    `role` gets the rights of the runtime of `tenant`; a file knows neither.
    """
    database = database_of(where)
    if isinstance(database, SqliteDatabase) and not database.path.is_file():
        raise BadStore(f"There is no database {database}.", next_step="It is made when it is first used.")
    try:
        engine = database.prepare()
        try:
            async with engine.connect() as connection:
                await connection.execution_options(**database.writing)
                async with connection.begin():
                    if isinstance(database, SqliteDatabase):
                        before = await database.version(connection)
                        _refuse_newer(str(database), before)
                        if before == 0:
                            await connection.run_sync(_complete)
                        await database.mark(connection, VERSION)
                    else:
                        before = await _migrate_server(connection, str(database), role, tenant)
            return Migrated(before, VERSION)
        finally:
            await engine.dispose()
    except database.errors as error:
        raise database.explain(error) from error


def _refuse_newer(name: str, found: int) -> None:
    if found > VERSION:
        raise BadStore(
            f"The database {name} was made by a newer version of Smokejumper (schema {found}, this one knows {VERSION}).",
            next_step="Run that version or a newer one; nothing was changed.",
        )


def _complete(connection: Connection) -> None:
    """Add the tables and the columns that a file from before the first version lacks."""
    there = inspect(connection)
    for table in metadata.sorted_tables:
        if there.has_table(table.name):
            _complete_table(connection, table, {column["name"] for column in there.get_columns(table.name)})
    metadata.create_all(connection)


def _complete_table(connection: Connection, table: Table, there: set[str]) -> None:
    for column in table.columns:
        if column.name in there:
            continue
        if not column.nullable:
            raise BadStore(
                f"The table {table.name} has no column {column.name}, which cannot be made up.",
                next_step="Keep this database for `smokejumper audit verify` of its own version, and begin a new one.",
            )
        definition = str(CreateColumn(column).compile(dialect=connection.dialect)).strip()
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
        if column.unique:
            connection.exec_driver_sql(f"CREATE UNIQUE INDEX {table.name}_{column.name} ON {table.name} ({column.name})")


async def _migrate_server(connection: AsyncConnection, name: str, role: str | None, tenant: str | None) -> int:
    from guardrails.rights import creation, grants

    # Two who migrate at once take turns; the second finds everything done.
    await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('smokejumper/migration', 0))")
    there = (await connection.exec_driver_sql("SELECT to_regclass('schema_version') IS NOT NULL")).scalar_one()
    before = int((await connection.exec_driver_sql("SELECT version FROM schema_version")).scalar_one()) if there else 0
    _refuse_newer(name, before)
    statements = () if there else creation()
    if role is not None and tenant is not None:
        statements += grants(role, tenant)
    for statement in statements:
        await connection.exec_driver_sql(statement)
    return before
