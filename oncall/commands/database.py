"""`smokejumper database`: the tables that proposals and ledger are kept in, and on PostgreSQL who may do what to them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from oncall.invocation import Invocation

app = typer.Typer(help="The database: what PostgreSQL needs, and migration.", no_args_is_help=True)


@app.command("sql")
def sql(
    context: typer.Context,
    role: Annotated[str, typer.Option(help="The role that Smokejumper logs in as.")] = "smokejumper",
    owner: Annotated[str, typer.Option(help="The role that owns the tables, and is used for nothing else.")] = "smokejumper_owner",
    tenant: Annotated[str | None, typer.Option(help="Whose rows the role sees; default: estate.tenant.")] = None,
    only_rights: Annotated[
        bool, typer.Option("--only-rights", help="Only the rights of the role, for a further tenant in the same database.")
    ] = False,
) -> None:
    """Print what an administrator runs in an empty PostgreSQL database: roles, tables, rights. Nothing is run from here."""
    from guardrails.rights import granting, script

    invocation: Invocation = context.obj
    tenant = tenant or invocation.settings.estate.tenant
    typer.echo(granting(role, tenant) if only_rights else script(role, tenant, owner), nl=False)


@app.command("migrate")
def migrate(
    context: typer.Context,
    role: Annotated[str | None, typer.Option(help="On PostgreSQL, also give this role the rights of estate.tenant.")] = None,
) -> None:
    """Bring the tables to this version: of the file, or of the server's database as their owner (database_owner_url)."""
    from guardrails.migration import migrate

    settings = context.obj.settings
    owner = settings.database_owner_url or settings.database_url
    where = settings.database if owner is None else owner.get_secret_value()
    done = asyncio.run(migrate(where, role=role, tenant=settings.estate.tenant))
    typer.echo(f"schema {done.before} -> {done.after}" if done.before != done.after else f"schema {done.after}, as it was")
