"""`smokejumper gpus`: accelerators by node, with holder, health and what keeps free ones from being used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from oncall.commands.diagnosis import Context, Prometheus, Recording
from oncall.invocation import Invocation

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from cluster.reading import Missing
    from cluster.world import World
    from mcp_server.tools.gpus import Said
    from oncall.settings import Settings
    from runbooks.inventory import Offer

WATCH_SECONDS = 5.0
ROWS_SHOWN = 200
STYLES = {"sick": "bold red", "suspect": "red", "stranded": "yellow", "closed": "yellow", "free": "green", "partly-free": "green"}


def gpus(
    context: typer.Context,
    cluster_context: Context = None,
    recording: Recording = None,
    prometheus: Prometheus = None,
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    state: Annotated[str | None, typer.Option(help="Only sick, stranded, closed, free or held ones.")] = None,
    by_workload: Annotated[bool, typer.Option("--by-workload", help="Who holds how many, instead of node by node.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds, until Ctrl-C.")] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json.")] = "text",
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
) -> None:
    """List GPUs and other accelerators: what there is, who holds it, what is sick, and what is free but of no use, and why."""
    import asyncio

    from mcp_server.tools.gpus import STATES
    from oncall.assembly import tune_collector
    from oncall.errors import UsageError

    if state is not None and state not in STATES:
        raise UsageError(f"--state {state!r} is none of {', '.join(STATES)}.")
    if output not in ("text", "json"):
        raise UsageError(f"-o {output!r} is neither text nor json.")
    if watch and (recording is not None or output == "json"):
        raise UsageError("--watch follows a live cluster on a terminal. Leave --recording and -o json out.")
    invocation: Invocation = context.obj.with_context(cluster_context).with_prometheus(prometheus)
    tune_collector()
    asyncio.run(_gpus(invocation.settings, recording, now, _Wanted(node, state, by_workload, watch, output == "json")))


class _Wanted(NamedTuple):
    """What to show of the inventory, and how."""

    node: str | None
    state: str | None
    by_workload: bool
    watch: bool
    json: bool

    def chosen(self, offers: Iterable[Offer], said: Said) -> tuple[Offer, ...]:
        from mcp_server.tools.gpus import state_of

        return tuple(offer for offer in offers if self.node in (None, offer.node) and self.state in (None, state_of(offer, said)))


async def _gpus(settings: Settings, recording: Path | None, now: str | None, wanted: _Wanted) -> None:
    import anyio

    from mcp_server.registry import Caller, ToolContext
    from mcp_server.tools.gpus import read_devices
    from oncall.asking import moment
    from oncall.assembly import open_reader
    from oncall.screen import console

    async with open_reader(settings, recording, moment(now)) as reader:
        context = ToolContext(reader, Caller("smokejumper", channel="cli"), reader.now)
        screen = console()
        while True:
            read = await read_devices(context)
            world = read.world(context)
            if not wanted.watch:
                _refuse_unknown_node(world, read.missing, wanted.node)
            if wanted.json:
                import json

                typer.echo(json.dumps(_document(world, wanted), indent=2))
                return
            if wanted.watch:
                screen.clear()
            _print(screen, world, read.missing, wanted)
            if not wanted.watch:
                return
            await anyio.sleep(WATCH_SECONDS)


def _refuse_unknown_node(world: World, missing: tuple[Missing, ...], node: str | None) -> None:
    """Raises UsageError for a node of which nothing can be shown, with the nearest that have something."""
    from mcp_server.arguments import nearest
    from oncall.errors import UsageError
    from oncall.render import gaps
    from runbooks.inventory import inventory

    nodes = {offer.node for offer in world.once(inventory)}
    if node is not None and node not in nodes:
        blind = "".join(f"\ncannot see: {line}" for line in gaps([gap for gap in missing if gap.kind == "Node"]))
        raise UsageError(f"no node {node!r} with accelerators; {nearest(node, nodes, 'nodes with accelerators')}.{blind}")


def _print(screen: Any, world: World, missing: tuple[Missing, ...], wanted: _Wanted) -> None:
    from mcp_server.tools.gpus import STATES, headline, notes_of, state_of
    from oncall.render import gaps
    from runbooks.inventory import inventory, notes

    offers = world.once(inventory)
    said = notes_of(offers, notes(world))
    for line in headline(world.cluster, offers):
        screen.print(line)
    shown = wanted.chosen(offers, said)
    table, more = _workloads(shown, world.now) if wanted.by_workload else _nodes(world, shown, said)
    if table.row_count:
        screen.print(table)
    if more:
        screen.print(f"… {more} more; --node, --state or -o json shows them")
    if not wanted.by_workload:
        states = {state_of(offer, said) for offer in shown}
        for state, meaning in STATES.items():
            if state in states:
                screen.print(f"{state}: {meaning}")
    for line in gaps(missing):
        screen.print(f"cannot see: {line}")


def _nodes(world: World, offers: tuple[Offer, ...], said: Said) -> tuple[Table, int]:
    from rich.table import Table
    from rich.text import Text

    from cluster.timestamps import age
    from guardrails.redact import present
    from mcp_server.tools.gpus import order, place_of, state_of, why

    table = Table("node", "resource", "model", "state", "held", "free", "sick", "held by", "says", box=None, pad_edge=False)
    ordered = sorted(offers, key=lambda offer: order(offer, said))
    for offer in ordered[:ROWS_SHOWN]:
        holders = "\n".join(f"{holder.count} {holder.workload} {age(holder.since, world.now)}" for holder in offer.holders)
        table.add_row(
            offer.node,
            offer.resource,
            present(offer.model, 60),
            Text(state_of(offer, said), style=STYLES.get(state_of(offer, said), "")),
            f"{offer.held}/{offer.capacity}",
            "?" if offer.overlapping else str(offer.free),
            str(offer.sick or ""),
            holders,
            present(why(offer, said.get(place_of(offer), ())), 400),
        )
    return table, max(0, len(ordered) - ROWS_SHOWN)


def _workloads(offers: tuple[Offer, ...], now: datetime) -> tuple[Table, int]:
    from rich.table import Table

    from cluster.timestamps import age
    from runbooks.inventory import by_workload

    table = Table("held", "workload", "pods", "since", box=None, pad_edge=False)
    holders = by_workload(offers)
    for holder in holders[:ROWS_SHOWN]:
        table.add_row(str(holder.count), str(holder.workload), str(len(holder.pods)), age(holder.since, now))
    return table, max(0, len(holders) - ROWS_SHOWN)


def _document(world: World, wanted: _Wanted) -> dict[str, Any]:
    """Everything, as it stands in `-o json`: not cut, because programs read it."""
    import msgspec

    from guardrails.redact import redact_object
    from mcp_server.tools.gpus import notes_of, place_of, state_of
    from runbooks.inventory import inventory, notes, total

    said = notes_of(world.once(inventory), notes(world))
    offers = wanted.chosen(world.once(inventory), said)
    rows = [
        {
            **msgspec.to_builtins(offer),
            "held": offer.held,
            "free": None if offer.overlapping else offer.free,
            "sick": offer.sick,
            "state": state_of(offer, said),
            "notes": msgspec.to_builtins(said.get(place_of(offer), ())),
        }
        for offer in offers
    ]
    found: dict[str, Any] = redact_object(
        {"cluster": world.cluster, "now": world.now.isoformat(), "total": msgspec.to_builtins(total(offers))}
    )
    return {**found, "offers": redact_object(rows)}
