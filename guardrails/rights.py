"""PostgreSQL: who may do what to which table, as SQL that an administrator can read before running it.

Two roles. The owner makes and migrates the tables and is used for nothing else. The runtime role of a tenant reads and writes that
tenant's rows alone (row-level security by the role that logged in, not by anything it says) and can neither edit nor remove what the
ledger says. This module writes statements and runs none.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Column, Index, MetaData, PrimaryKeyConstraint, String, Table, Text, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement
from sqlalchemy.sql import text

from guardrails.errors import BadStore
from guardrails.postgres import SCHEMA
from guardrails.store import VERSION, metadata

READ, ADD, EDIT, REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"
# What is not here is refused: no table may be truncated, and of the ledger only the head moves and only erasable texts go.
RIGHTS: dict[str, tuple[str, ...]] = {
    "ledger_entry": (READ, ADD),
    "ledger_checkpoint": (READ, ADD),
    "ledger_head": (READ, ADD, EDIT),
    "ledger_blob": (READ, ADD, REMOVE),
    "approval": (READ, ADD),
    "spending": (READ, ADD),
    "proposal_key": (READ, ADD),
    "proposal": (READ, ADD, EDIT),
    "step": (READ, ADD, EDIT),
    "kill_switch": (READ, ADD, EDIT),
    "emergency": (READ, ADD, EDIT),
    "delegation": (READ, ADD, EDIT),
    "step_up": (READ, ADD, EDIT),
    "target_lock": (READ, ADD, REMOVE),
}
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}")
_TENANT = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_THIS_TENANT = "(SELECT tenant_of_session())"


def creation() -> tuple[str, ...]:
    """The statements that make schema, tables and policies where there are none. To be run as the owner, in one transaction."""
    made = [
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
        f"SET LOCAL search_path = {SCHEMA}",
        "CREATE TABLE schema_version (version integer NOT NULL)",
        f"INSERT INTO schema_version VALUES ({VERSION})",
        'CREATE TABLE tenant_role (role text COLLATE "C" PRIMARY KEY, tenant text COLLATE "C" NOT NULL)',
        # SECURITY DEFINER: a role learns its own tenant, and cannot read who the others are.
        "CREATE FUNCTION tenant_of_session() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER"
        f" SET search_path = {SCHEMA}, pg_temp AS 'SELECT tenant FROM tenant_role WHERE role = session_user'",
        "REVOKE ALL ON FUNCTION tenant_of_session() FROM PUBLIC",
    ]
    for table in _widened().sorted_tables:
        made.append(_compiled(CreateTable(table)))
        made.extend(_compiled(CreateIndex(index)) for index in sorted(table.indexes, key=lambda index: str(index.name)))
        column = "log" if "log" in table.c else "tenant"
        made.append(f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY")
        also = f" AND tenant = {_THIS_TENANT}" if "log" in table.c else ""
        made.append(
            f"CREATE POLICY of_the_tenant ON {table.name} USING ({column} = {_THIS_TENANT}) WITH CHECK ({column} = {_THIS_TENANT}{also})"
        )
    return tuple(made)


def grants(role: str, tenant: str) -> tuple[str, ...]:
    """The statements that give a role the rights of a tenant's runtime, and no others. To be run as the owner. Raises BadStore."""
    if not _ROLE.fullmatch(role):
        raise BadStore(f"{role[:80]!r} is no name of a role.", next_step="Use letters, digits, _, $ and -.")
    if not _TENANT.fullmatch(tenant):
        raise BadStore(f"{tenant[:80]!r} is no name of a tenant.")
    name = _DIALECT.identifier_preparer.quote(role)
    to = [
        f"SET LOCAL search_path = {SCHEMA}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM {name}",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}",
        f"GRANT EXECUTE ON FUNCTION tenant_of_session() TO {name}",
        f"GRANT SELECT ON schema_version TO {name}",
    ]
    to.extend(f"GRANT {', '.join(RIGHTS[table.name])} ON {table.name} TO {name}" for table in metadata.sorted_tables)
    to.append(
        f"INSERT INTO tenant_role VALUES ({_literal(role)}, {_literal(tenant)}) ON CONFLICT (role) DO UPDATE SET tenant = EXCLUDED.tenant"
    )
    return tuple(to)


def granting(role: str, tenant: str) -> str:
    """The grants alone, for `psql` as the owner: a further role or tenant in the same database. Raises BadStore."""
    return "".join(f"{one};\n" for one in ("BEGIN", *grants(role, tenant), "COMMIT"))


def script(role: str, tenant: str, owner: str) -> str:
    """Everything for a new database, for `psql`: roles (without passwords), tables, rights. Raises BadStore."""
    if not _ROLE.fullmatch(owner):
        raise BadStore(f"{owner[:80]!r} is no name of a role.", next_step="Use letters, digits, _, $ and -.")
    quote = _DIALECT.identifier_preparer.quote
    rights = grants(role, tenant)
    lines = [
        "-- As an administrator, once, in the database meant for Smokejumper. Passwords are set afterwards: \\password ROLE",
        f"CREATE ROLE {quote(owner)} NOLOGIN NOSUPERUSER NOBYPASSRLS;",
        f"CREATE ROLE {quote(role)} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;",
        "BEGIN;",
        f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {quote(owner)};",
        f"SET LOCAL ROLE {quote(owner)};",
        "-- The tables, and who sees which rows of them.",
        *(f"{one};" for one in creation()[1:]),
        "-- What the runtime may do.",
        *(f"{one};" for one in rights),
        "COMMIT;",
    ]
    return "\n".join(lines) + "\n"


def _widened() -> MetaData:
    """The tables as PostgreSQL has them: each row belongs to a tenant, who also leads every key; text sorts by its bytes."""
    wide = MetaData()
    for table in metadata.sorted_tables:
        leading = next((name for name in ("tenant", "log") if name in table.c), "tenant")
        made = Table(table.name, wide, *(Column(column.name, _type(column), nullable=column.nullable) for column in table.columns))
        if "tenant" not in table.c:
            made.append_column(Column("tenant", String(collation="C"), server_default=text("tenant_of_session()"), nullable=False))
        for constraint in table.constraints:
            if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint) and len(constraint.columns):
                names = [leading, *(column.name for column in constraint.columns if column.name != leading)]
                made.append_constraint(type(constraint)(*names))
        for index in table.indexes:
            Index(index.name, made.c[leading], *(made.c[column.name] for column in index.columns if column.name != leading))
    return wide


def _type(column: Column[Any]) -> Any:
    if isinstance(column.type, Text):
        return Text(collation="C")
    return String(collation="C") if isinstance(column.type, String) else column.type


def _compiled(statement: DDLElement) -> str:
    return "\n".join(line.rstrip() for line in str(statement.compile(dialect=_DIALECT)).strip().split("\n"))


def _literal(value: str) -> str:
    # A doubled quote is all that the standard's strings need (PostgreSQL, 4.1.2.1; standard_conforming_strings is on since 9.1).
    return "'" + value.replace("'", "''") + "'"
