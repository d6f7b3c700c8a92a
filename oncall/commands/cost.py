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
    from runbooks.cost import Report, Share

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
    from mcp_server.tools.gpus import devices_world, read_devices
    from oncall.asking import moment
    from oncall.assembly import open_reader
    from oncall.render import gaps
    from runbooks.cost import price_of, report
    from runbooks.inventory import inventory, notes

    async with open_reader(settings, recording, moment(now)) as reader:
        context = ToolContext(reader, Caller("smokejumper", channel="cli"), reader.now)
        growth, missing, _ = await read_devices(context)
        world = devices_world(context, growth)
    prices = price_of(settings.prices.per_device_hour)
    return report(world, inventory(world), notes(world), price=prices, team=settings.estate.team), gaps(missing)


def _lines(found: Report, currency: str) -> Iterator[str]:
    yield "an hour, as it stands now:"
    for use, share in found.uses.items():
        if share.devices:
            yield f"  {use:10} {_share(share, currency)}"
    if not any(share.devices for share in found.uses.values()):
        yield "  no accelerator that can be seen"
        return
    yield "by team:"
    for team, uses in found.teams.items():
        yield f"  {team}: " + "; ".join(f"{use} {_share(share, currency)}" for use, share in uses.items())
    if found.losses:
        yield "what does no work, dearest first:"
    for loss in found.losses[:LOSSES_SHOWN]:
        yield f"  {_share(loss.share, currency)} {loss.use}: {loss.object}" + (f" ({loss.team})" if loss.object.namespace else "")
    if len(found.losses) > LOSSES_SHOWN:
        yield f"  … {len(found.losses) - LOSSES_SHOWN} more; -o json shows all"
    if found.unpriced:
        yield f"without a price: {', '.join(found.unpriced)}. Set prices.per_device_hour."


def _share(share: Share, currency: str) -> str:
    devices = f"{share.devices:g} device{'' if share.devices == 1 else 's'}"
    return f"{devices}, {share.price:.2f} {currency}" if share.price is not None else devices
