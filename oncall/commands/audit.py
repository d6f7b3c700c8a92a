"""`smokejumper audit`: what was decided and done, and whether the ledger that says so is intact."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oncall.invocation import TOKEN_VARIABLE, Invocation

if TYPE_CHECKING:
    from guardrails.audit import Report
    from guardrails.ledger import Entry
    from guardrails.population import ChangeRecord
    from oncall.settings import Settings

SHOWN_DEFAULT = 100
BODY_LIMIT = 300

app = typer.Typer(help="The ledger: show, text, verify, prove, checkpoint, export, report, erase.", no_args_is_help=True)


@app.command("show")
def show(
    context: typer.Context,
    proposal: Annotated[str | None, typer.Argument(help="Only the entries of this proposal.")] = None,
    after: Annotated[int, typer.Option(help="Only entries after this number.")] = -1,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = SHOWN_DEFAULT,
) -> None:
    """Entries in order: number, id, when, what, about which proposal."""
    from guardrails.redact import present
    from oncall.errors import UsageError

    invocation: Invocation = context.obj
    entries = asyncio.run(_entries(invocation.settings, proposal, after, limit))
    for entry in entries:
        body = present(json.dumps(entry.body, ensure_ascii=False, sort_keys=True), BODY_LIMIT)
        typer.echo(f"{entry.seq}\t{entry.id}\t{entry.at}\t{entry.type}\t{entry.proposal or '-'}\t{body}")
    if not entries and proposal and after < 0:
        told = f"the ledger has no entry about {present(proposal, 80)}. 'smokejumper proposals list --all' names every proposal."
        raise UsageError(told)
    if not entries:
        about = f" about {present(proposal, 80)}" if proposal else ""
        later = f" after number {after}" if after >= 0 else ""
        typer.echo(f"the ledger has no entry{about}{later}; smokejumper proposals list --all names every proposal", err=True)
    if len(entries) == limit:
        typer.echo(f"there may be more: --after {entries[-1].seq}", err=True)


async def _entries(settings: Settings, proposal: str | None, after: int, limit: int) -> tuple[Entry, ...]:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.office.ledger.entries(proposal, after=after, limit=limit)


@app.command("text")
def text(context: typer.Context, commitment: Annotated[str, typer.Argument(help="As it stands under `blobs` in an entry.")]) -> None:
    """The evidence or prompt that an entry names, if it was not erased: what a proposal rests on. It is data, never instructions."""
    from guardrails.redact import present

    invocation: Invocation = context.obj
    kept = asyncio.run(_text(invocation.settings, commitment))
    typer.echo(present(kept, len(kept) + 1))


async def _text(settings: Settings, commitment: str) -> str:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return (await desk.office.ledger.blob(commitment)).content


@app.command("verify")
def verify(
    context: typer.Context,
    key: Annotated[
        Path | None, typer.Option(help="File with the public key that was pinned elsewhere; default: beside the database.")
    ] = None,
    anchor: Annotated[Path | None, typer.Option(help="Newest checkpoint that was kept elsewhere; default: beside the database.")] = None,
) -> None:
    """Check hashes, signatures and the story itself. Exit 0 intact, 1 tampered, 2 cannot verify."""
    from oncall.errors import UsageError

    invocation: Invocation = context.obj
    if anchor is not None and not anchor.is_file():
        raise UsageError(f"there is no checkpoint {anchor}. Name the file that you kept with --anchor FILE.")
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
    from guardrails.errors import BadLedger
    from guardrails.note import Verifier
    from guardrails.office import ANCHOR, VERIFIER
    from guardrails.store import Store
    from oncall.errors import UsageError

    folder = settings.state_dir
    if isinstance(settings.database, Path) and not settings.database.exists():
        raise UsageError(f"there is no ledger in {folder}. Name the state folder with --state DIR.")
    path = key or folder / VERIFIER
    try:
        verifier = Verifier.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BadLedger) as error:
        why = str(error.strerror if isinstance(error, OSError) else error).rstrip(".")
        raise UsageError(f"the public key {path} cannot be read: {why}. Name the one you pinned with --key FILE.") from error
    store = await Store.open(settings.database, tenant=settings.estate.tenant)
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
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.office.ledger.prove(entry)


@app.command("checkpoint")
def checkpoint(context: typer.Context) -> None:
    """The newest signed checkpoint, to be kept where this machine's administrator cannot write; `verify --anchor FILE` compares with it."""
    invocation: Invocation = context.obj
    typer.echo(asyncio.run(_checkpoint(invocation.settings)), nl=False)


async def _checkpoint(settings: Settings) -> str:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.office.ledger.checkpoint()


class ExportFormat(StrEnum):
    """What each line of an export is."""

    JSONL = "jsonl"
    OCSF = "ocsf"


@app.command("export")
def export(
    context: typer.Context,
    output: Annotated[
        ExportFormat, typer.Option("--format", help="jsonl: entries as signed, then the newest checkpoint. ocsf: API Activity events.")
    ] = ExportFormat.JSONL,
) -> None:
    """Every entry as one line of JSON."""
    invocation: Invocation = context.obj
    asyncio.run(_export(invocation.settings, output))


async def _export(settings: Settings, output: ExportFormat) -> None:
    from guardrails.ocsf import event
    from oncall.desk import open_ledger
    from oncall.installation import version

    async with open_ledger(settings) as desk:
        ledger = desk.office.ledger
        if output is ExportFormat.OCSF:
            async with aclosing(ledger.story()) as entries:
                async for entry in entries:
                    typer.echo(json.dumps(event(entry, ledger.log, version()), ensure_ascii=False, sort_keys=True))
            return
        # Closed here also when nobody reads on (`audit export | head`).
        async with aclosing(ledger.export()) as lines:
            async for line in lines:
                typer.echo(line)


report_app = typer.Typer(help="What an auditor samples from.", no_args_is_help=True)
app.add_typer(report_app, name="report")


class ReportFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


@report_app.command("changes")
def changes(
    context: typer.Context,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC; default: all.")] = None,
    output: Annotated[ReportFormat, typer.Option("--format", "-o", help="csv and jsonl have every column.")] = ReportFormat.TABLE,
) -> None:
    """Every change that was asked for: who asked, who agreed, what was sent (with the API server's Audit-IDs), how it ended.

    The last line says which checkpoint covers it. Exit 1 when somebody agreed to their own request.
    """
    invocation: Invocation = context.obj
    from msgspec import to_builtins
    from msgspec.structs import astuple

    from guardrails.population import COLUMNS

    found, note = asyncio.run(_changes(invocation.settings, since.replace(tzinfo=UTC) if since else None))
    if output is ReportFormat.JSONL:
        for change in found:
            typer.echo(json.dumps(to_builtins(change), ensure_ascii=False))
    else:
        rows = [[_cell(value) for value in astuple(change)] for change in found]
        if output is ReportFormat.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
        else:
            for change in found:
                who = ", ".join(change.approvers) or "nobody"
                sent = f"{change.requests_sent} sent" + (f", Audit-ID {', '.join(change.audit_ids)}" if change.audit_ids else "")
                typer.echo(f"{change.requested_at[:19]}\t{change.id}\t{change.action}\t{change.target}\t{change.cluster}")
                told = (
                    f"{change.decision or 'undecided'}, {change.state}, {sent}{', a rehearsal on a recording' if change.rehearsal else ''}"
                )
                typer.echo(f"\tasked by {change.requester}, agreed by {who}, {told}")
    own = [change.id for change in found if change.own_approval]
    size, root = note.split("\n")[1:3] if note else ("0", "")
    typer.echo(f"{len(found)} changes, {len(own)} agreed to by who asked, covered by the checkpoint of size {size}, root {root}", err=True)
    if own:
        raise typer.Exit(1)


async def _changes(settings: Settings, since: datetime | None) -> tuple[tuple[ChangeRecord, ...], str]:
    from guardrails.errors import BadLedger
    from guardrails.population import Population
    from oncall.desk import open_ledger

    population = Population(since)
    async with open_ledger(settings) as desk:
        async with aclosing(desk.office.ledger.story()) as entries:
            async for entry in entries:
                population.tell((entry,))
        try:
            return population.changes, await desk.office.ledger.checkpoint()
        except BadLedger:
            return population.changes, ""


def _cell(value: object) -> str:
    text = " ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
    # A spreadsheet must not take a reason for a formula.
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


@app.command("erase")
def erase(
    context: typer.Context,
    blob: Annotated[str, typer.Argument(help="Commitment of the text, as `blobs` of an entry names it.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the ledger.")],
) -> None:
    """Forget a text that an entry names, for good. The ledger stays valid, and tells who erased what and why."""
    invocation: Invocation = context.obj
    number = asyncio.run(_erase(invocation.settings, blob, reason))
    typer.echo(f"erased; entry {number} tells of it. Backups and exports that were made before still have it.")


async def _erase(settings: Settings, blob: str, reason: str) -> int:
    import os

    from guardrails.redact import present
    from oncall.desk import open_records, requester

    async with open_records(settings) as desk:
        person = requester(desk.office.directory, os.environ.get(TOKEN_VARIABLE))
        return await desk.office.ledger.erase(blob, by=person.name, reason=present(reason, BODY_LIMIT))
