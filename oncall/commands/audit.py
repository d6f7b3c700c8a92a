"""`smokejumper audit`: what was decided and done, and whether the ledger that says so is intact."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oncall.invocation import Invocation

if TYPE_CHECKING:
    from guardrails.audit import Report
    from guardrails.ledger import Entry
    from oncall.settings import Settings

SHOWN_DEFAULT = 100
BODY_LIMIT = 300

app = typer.Typer(help="The ledger: show, verify, prove, export.", no_args_is_help=True)


@app.command("show")
def show(
    context: typer.Context,
    proposal: Annotated[str | None, typer.Argument(help="Only the entries of this proposal.")] = None,
    after: Annotated[int, typer.Option(help="Only entries after this number.")] = -1,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = SHOWN_DEFAULT,
) -> None:
    """Entries in order: when, what, about which proposal."""
    from guardrails.redact import present

    invocation: Invocation = context.obj
    entries = asyncio.run(_entries(invocation.settings, proposal, after, limit))
    for entry in entries:
        body = present(json.dumps(entry.body, ensure_ascii=False, sort_keys=True), BODY_LIMIT)
        typer.echo(f"{entry.seq}\t{entry.at}\t{entry.type}\t{entry.proposal or '-'}\t{body}")
    if len(entries) == limit:
        typer.echo(f"there may be more: --after {entries[-1].seq}", err=True)


async def _entries(settings: Settings, proposal: str | None, after: int, limit: int) -> tuple[Entry, ...]:
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        return await desk.office.ledger.entries(proposal, after=after, limit=limit)


@app.command("verify")
def verify(
    context: typer.Context,
    key: Annotated[
        Path | None, typer.Option(help="File with the public key that was pinned elsewhere; default: beside the database.")
    ] = None,
    anchor: Annotated[Path | None, typer.Option(help="Newest checkpoint that was kept elsewhere; default: beside the database.")] = None,
) -> None:
    """Check hashes, signatures and the story itself. Exit 0 intact, 1 tampered, 2 cannot verify."""
    invocation: Invocation = context.obj
    report = asyncio.run(_verify(invocation.settings, key, anchor))
    typer.echo(f"{report.status}: {report.entries} entries, {report.checkpoints} checkpoints, {report.proposals} proposals")
    for problem in report.problems:
        typer.echo(f"  entry {problem.seq}: {problem.what}" if problem.seq >= 0 else f"  {problem.what}")
    for note in report.notes:
        typer.echo(f"  note: {note}")
    if report.exit_code:
        raise typer.Exit(report.exit_code)


async def _verify(settings: Settings, key: Path | None, anchor: Path | None) -> Report:
    from guardrails.audit import verify as check
    from guardrails.note import Verifier
    from guardrails.office import ANCHOR, DATABASE, VERIFIER
    from guardrails.store import Store
    from oncall.errors import UsageError

    folder = settings.state_dir
    if not (folder / DATABASE).exists():
        raise UsageError(f"there is no ledger in {folder}. Name the state folder with --state DIR.")
    path = key or folder / VERIFIER
    try:
        verifier = Verifier.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the public key {path} cannot be read: {error.strerror}. Name the one you pinned with --key FILE.") from error
    store = await Store.open(folder / DATABASE)
    try:
        return await check(store, verifier, log=settings.estate.tenant, anchor=anchor or folder / ANCHOR)
    finally:
        await store.close()


@app.command("prove")
def prove(context: typer.Context, entry: Annotated[str, typer.Argument(help="Id of an entry.")]) -> None:
    """A self-contained proof that one entry is in the ledger."""
    invocation: Invocation = context.obj
    typer.echo(json.dumps(asyncio.run(_prove(invocation.settings, entry)), indent=2))


async def _prove(settings: Settings, entry: str) -> dict[str, Any]:
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        return await desk.office.ledger.prove(entry)


@app.command("export")
def export(context: typer.Context) -> None:
    """Every entry as one line of JSON, then the newest signed checkpoint."""
    invocation: Invocation = context.obj
    asyncio.run(_export(invocation.settings))


async def _export(settings: Settings) -> None:
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        async for line in desk.office.ledger.export():
            typer.echo(line)
