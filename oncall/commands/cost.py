"""`smokejumper cost`: what accelerators cost by the hour as they stand now, and how much of it does no work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.commands.diagnosis import Context, Prometheus, Recording
from oncall.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oncall.settings import Settings
    from runbooks.cost import Report

LOSSES_SHOWN = 20


def cost(
    context: typer.Context,
    cluster_context: Context = None,
    recording: Recording = None,
    prometheus: Prometheus = None,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json.")] = "text",
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
) -> None:
    """Say what accelerators cost by the hour as they stand now: working, not ready, idle, stranded, closed, sick; by team and cause."""
    import asyncio
    import json

    from oncall.assembly import tune_collector
    from oncall.errors import UsageError

    if output not in ("text", "json"):
        raise UsageError(f"-o {output!r} is neither text nor json.")
    invocation: Invocation = context.obj.with_context(cluster_context).with_prometheus(prometheus)
    settings = invocation.settings
    tune_collector()
    found, blind = asyncio.run(_report(settings, recording, now))
    if output == "json":
        import msgspec

        typer.echo(json.dumps({"currency": settings.prices.currency, **msgspec.to_builtins(found), "cannot_see": blind}, indent=2))
        return
    for line in _lines(found, settings.prices.currency):
        typer.echo(line)
    for line in blind:
        typer.echo(f"cannot see: {line}")


async def _report(settings: Settings, recording: Path | None, now: str | None) -> tuple[Report, list[str]]:
    from mcp_server.registry import Caller, ToolContext
    from mcp_server.tools.gpus import read_devices
    from oncall.asking import moment
    from oncall.assembly import open_reader, tariff
    from oncall.render import gaps
    from runbooks.cost import cost_report

    async with open_reader(settings, recording, moment(now)) as reader:
        context = ToolContext(reader, Caller("smokejumper", channel="cli"), reader.now)
        read = await read_devices(context)
    return cost_report(read.world(context), tariff(settings)), gaps(read.missing)


def _lines(found: Report, currency: str) -> Iterator[str]:
    from runbooks.cost import share_text, summary, unpriced_line

    yield from summary(found, currency)
    if found.losses:
        yield "what does no work, dearest first:"
    for loss in found.losses[:LOSSES_SHOWN]:
        yield f"  {share_text(loss.share, currency)} {loss.use}: {loss.object}" + (f" ({loss.team})" if loss.object.namespace else "")
    if len(found.losses) > LOSSES_SHOWN:
        yield f"  … {len(found.losses) - LOSSES_SHOWN} more; -o json shows all"
    if unpriced_line(found):
        yield unpriced_line(found)
