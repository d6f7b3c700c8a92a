"""Accelerators by node: what there is, who holds it, what is sick, what is free and of no use. `runbooks.inventory` reckons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from cluster.facts.dra import DeviceTaintRule, ResourceClaim, ResourceSlice
from cluster.facts.event import Event
from cluster.facts.meta import Fact
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet, Job, ReplicaSet
from cluster.kinds import BY_NAME
from cluster.reference import ObjectRef
from cluster.timestamps import age
from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit, Name
from mcp_server.probe import Read, read_kinds
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell, TableOutput, render_table, request
from runbooks.finding import Source, cite
from runbooks.inventory import Note, Offer, inventory, notes, total

KINDS: tuple[type[Fact], ...] = (Node, Pod, ReplicaSet, Job, DaemonSet, ResourceSlice, ResourceClaim, DeviceTaintRule, Event)
DEVICES_READ = rules_of(BY_NAME[kind.kind] for kind in KINDS)
COLUMNS = ("node", "resource", "model", "state", "total", "held", "free", "sick", "holders", "says", "evidence")
State = Literal["sick", "suspect", "stranded", "closed", "free", "partly-free", "held"]
# What each state means, the worst first, for who sees it for the first time.
STATES: dict[str, str] = {
    "sick": "some devices are withdrawn or tainted, so nobody gets them",
    "suspect": "a fault of a device is reported, and it is still handed out",
    "stranded": "free, and nobody who waits could have it",
    "closed": "free, on a node that takes no new pods",
    "free": "nothing of it is held",
    "partly-free": "some is held, some is free",
    "held": "all of it is held",
}
# A node and a vendor of devices there, and what is said of them.
Place = tuple[str, str]
Said = Mapping[Place, tuple[Note, ...]]
HOLDERS_SHOWN = 3
MODELS_SHOWN = 6


class GpuInventoryArguments(Arguments):
    node: Name | None = None
    state: State | None = Field(default=None, description="only these")
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


async def read_devices(context: ToolContext) -> Read:
    """Everything that the inventory is reckoned from, of the whole cluster: devices know no namespaces."""
    return await read_kinds(context, (kind.kind for kind in KINDS), telemetry=True)


async def _gpu_inventory(context: ToolContext, arguments: GpuInventoryArguments) -> Answer:
    read = await read_devices(context)
    asked, now = request("gpu_inventory", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        world = read.world(context)
        offers = inventory(world)
        said = notes_of(offers, notes(world))
        shown = [offer for offer in offers if arguments.node in (None, offer.node) and arguments.state in (None, state_of(offer, said))]

        def cells(offer: Offer) -> tuple[Cell, ...]:
            holders = [f"{holder.workload} {holder.count} for {age(holder.since, now)}" for holder in offer.holders[:HOLDERS_SHOWN]]
            more = len(offer.holders) - len(holders)
            counts = (offer.capacity, offer.held, "?" if offer.overlapping else offer.free, offer.sick)
            words = "; ".join([*holders, *([f"{more} more"] if more else [])])
            says, state = why(offer, said.get(place_of(offer), ())), state_of(offer, said)
            quote = f"{state}, {offer.held} of {offer.capacity} held, {offer.sick} sick; {says}"
            evidence = cite(Source.FIELD, ObjectRef(Node.kind, None, offer.node), offer.resource, quote)
            return (offer.node, offer.resource, offer.model, state, *counts, words, says, evidence.id)

        return render_table(
            asked,
            headline=headline(context.reader.cluster, offers),
            columns=COLUMNS,
            items=((order(offer, said), offer) for offer in shown),
            cells=cells,
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


def state_of(offer: Offer, said: Said) -> str:
    """The state of an offer, with what the notes about its devices say."""
    faulty = any(note.suspects for note in said.get(place_of(offer), ()))
    return "suspect" if faulty and offer.state != "sick" else offer.state


def order(offer: Offer, said: Said) -> tuple[int, str, str]:
    """The worst first."""
    return (list(STATES).index(state_of(offer, said)), offer.node, offer.resource)


def headline(cluster: str, offers: tuple[Offer, ...]) -> list[str]:
    """The sums, and how many there are of each model."""
    if not offers:
        return [f"{cluster}: no accelerator that can be seen"]
    sums = total(offers)
    by_model: dict[str, int] = defaultdict(int)
    for offer in offers:
        if not offer.part:
            by_model[offer.model or offer.resource] += offer.capacity
    models = [f"{count} {name}" for name, count in sorted(by_model.items(), key=lambda item: (-item[1], item[0]))]
    more = f" and {len(models) - MODELS_SHOWN} more" if len(models) > MODELS_SHOWN else ""
    useless = ", ".join(f"{count} {word}" for count, word in ((sums.stranded, "stranded"), (sums.closed, "on closed nodes")) if count)
    return [
        f"{cluster}: {sums.capacity} accelerators, {sums.held} held, {sums.free} free{f' (of them {useless})' if useless else ''}, "
        f"{sums.sick} sick",
        f"by model: {', '.join(models[:MODELS_SHOWN])}{more}",
    ]


def place_of(offer: Offer) -> Place:
    """What notes are told apart by: a fault of one vendor's device says nothing of another's on the same node."""
    return (offer.node, offer.vendor)


def notes_of(offers: Iterable[Offer], found: tuple[Note, ...]) -> dict[Place, tuple[Note, ...]]:
    """The notes by node and vendor: those about such devices of the node, and those about whoever holds them there."""
    about: dict[tuple[str, str | None, str], list[Note]] = defaultdict(list)
    for note in found:
        about[note.object.key].append(note)
    by_place: dict[Place, dict[Note, None]] = defaultdict(dict)
    for offer in offers:
        holders = (ref for holder in offer.holders for ref in (holder.workload, *holder.pods))
        for key in ((Node.kind, None, offer.node), *(ref.key for ref in holders)):
            by_place[place_of(offer)] |= dict.fromkeys(note for note in about.get(key, ()) if note.concerns(offer.vendor))
    return {place: tuple(listed) for place, listed in by_place.items()}


def why(offer: Offer, said: tuple[Note, ...]) -> str:
    """What is to be said of an offer: sharing, why its free devices are of no use, and the notes."""
    parts = [offer.sharing + (f" of {offer.physical} devices" if offer.physical else "")] if offer.sharing else []
    parts += [f"node {offer.closed}"] if offer.closed else []
    parts += [f"{strand.workload} {strand.why}" for strand in offer.strands[:HOLDERS_SHOWN]]
    return "; ".join([*parts, *(note.text for note in said)])


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="gpu_inventory",
        title="List GPUs and other accelerators",
        group="gpu",
        description="Accelerators by node, worst first: totals, holders, what is sick, idle, or free but unusable and why.",
        arguments=GpuInventoryArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=DEVICES_READ,
        run=_gpu_inventory,
    ),
)
