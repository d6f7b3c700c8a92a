"""Reading for tools: one kind of one set of namespaces as growth for a World. Completeness is decided here and nowhere else."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import anyio
from msgspec import Struct

from cluster.facts.meta import Fact
from cluster.facts.node import Namespace
from cluster.facts.pod import Pod
from cluster.facts.workload import ReplicaSet
from cluster.kinds import BY_NAME, Kind
from cluster.reading import Cost, Missing, Why
from cluster.reference import ObjectRef, Scope
from cluster.world import World
from guardrails.redact import present
from mcp_server.arguments import nearest, nearest_kinds
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Growth, KindRead, ToolContext

SUBJECT_LIMIT = 2_000
GAPS_SHOWN = 3
T = TypeVar("T")
# What may be said of other objects while the one asked for simply does not exist.
NEIGHBOURS_ONLY = frozenset({Why.NOT_FOUND, Why.MALFORMED, Why.TRUNCATED})


class Listing(Struct, frozen=True):
    """One listing: what grows a world, and everything to show, including that the cluster does not serve the kind."""

    read: KindRead
    missing: tuple[Missing, ...]
    cost: Cost


async def list_kind(context: ToolContext, kind: Kind, namespaces: tuple[str, ...] = (), name: str | None = None) -> Listing:
    """All objects of a kind in `namespaces` (empty: all), or the one called `name`, which proves nothing about others."""
    where = namespaces if kind.namespaced else ()
    reading = await context.reader.objects(kind, Scope(context.reader.cluster, where), name)
    # A kind that the cluster does not serve has no objects: nothing is hidden from a diagnosis.
    hidden = tuple(item for item in reading.missing if item.why is not Why.ABSENT_KIND)
    read = KindRead(kind.name, reading.value, not hidden and name is None, hidden, where)
    return Listing(read, reading.missing, reading.cost)


class Read(Struct, frozen=True):
    """Several kinds read at once, as growth. `missing` leaves out kinds that the cluster does not serve: nothing of them is hidden."""

    growth: Growth
    missing: tuple[Missing, ...]
    cost: Cost

    def world(self, context: ToolContext, namespaces: tuple[str, ...] = ()) -> World:
        """A world of what was read."""
        return self.growth.grow(World(context.reader.cluster, context.reader.now(), Scope(context.reader.cluster, namespaces)))


async def read_kinds(context: ToolContext, names: Iterable[str], namespaces: tuple[str, ...] = (), *, telemetry: bool = False) -> Read:
    """All objects of some kinds, by name, in `namespaces` (empty: all) and, where said so, what monitoring reports about them."""
    kinds = [kind for name in dict.fromkeys(names) if (kind := BY_NAME.get(name) or await context.reader.find_kind(name)) is not None]
    listings = await together(list_kind(context, kind, namespaces) for kind in kinds)
    growth = Growth(tuple(listing.read for listing in listings))
    missing = tuple(item for listing in listings for item in listing.read.missing)
    cost = sum((listing.cost for listing in listings), Cost())
    if not telemetry:
        return Read(growth, missing, cost)
    told = await context.reader.telemetry(Scope(context.reader.cluster, namespaces))
    return Read(Growth(growth.kinds, telemetry=told), (*missing, *told.missing), cost + told.cost)


class Named(Struct, frozen=True):
    """What is called as somebody said, and its pods."""

    subject: ObjectRef
    pods: tuple[Pod, ...]
    read: Read


class Unnamed(Struct, frozen=True):
    """Nothing that can be seen is called so: what there is instead, and what could not be listed."""

    names: tuple[str, ...]
    missing: tuple[Missing, ...]


async def find_named(context: ToolContext, namespace: str, name: str, kinds: Sequence[str]) -> Named | Unnamed:
    """What people call so in a namespace: of several objects the one whose kind comes first in `kinds`."""
    read = await read_kinds(context, (*kinds, Pod.kind, ReplicaSet.kind), (namespace,))
    world = read.world(context, (namespace,))
    for kind in kinds:
        found = next((fact.ref for fact in world.custom(kind) if fact.name == name), None)
        if found is not None:
            mine = (pod for pod in world.all(Pod) if any(ref.key == found.key for ref in world.owner_chain(pod.ref)))
            return Named(found, tuple(mine), read)
    # Pods have names that nobody gives; they are no suggestion.
    names = {fact.name for kind in kinds if kind != Pod.kind for fact in world.custom(kind)}
    return Unnamed(tuple(sorted(names)), tuple(gap for gap in read.missing if gap.kind in kinds))


async def named_or_refused(context: ToolContext, namespace: str, name: str, kinds: Sequence[str]) -> Named:
    """The same. Raises ToolRefusal with the nearest names and what could not be looked at."""
    found = await find_named(context, namespace, name, kinds)
    if isinstance(found, Named):
        return found
    absent = await unknown_namespaces(context, (namespace,))
    if absent:
        raise ToolRefusal(absent)
    blind = "".join(f"; could not look at {gap.what}: {explain_missing(gap)}" for gap in found.missing[:GAPS_SHOWN])
    where = f"nothing in {namespace} is called {present(name, 80)!r}"
    raise ToolRefusal(f"{where}; {nearest(name, found.names, 'names')}{blind}")


async def find_kind(context: ToolContext, word: str) -> Kind:
    """The kind that a word names, also a custom one of this cluster. Raises ToolRefusal with the nearest kinds; never Secrets."""
    if word.lower().partition(".")[0] in ("secret", "secrets"):
        raise ToolRefusal("Secrets are never read; ask for the objects that use one (pods, ingresses) instead")
    kind = await context.reader.find_kind(word)
    if kind is None or kind.plural == "secrets":
        raise ToolRefusal(f"kind {present(word, 60)!r} is not one that can be read here; {nearest_kinds(word)}")
    return kind


async def find_object(context: ToolContext, kind: Kind, namespace: str | None, name: str) -> tuple[Fact, Cost]:
    """The object of that name. Raises ToolRefusal that says why it cannot be seen, or names the nearest ones that exist."""
    if kind.namespaced and not namespace:
        raise ToolRefusal(f"argument 'namespace' is required for a {kind.name}")
    where = (namespace,) if kind.namespaced and namespace else ()
    one = await list_kind(context, kind, where, name)
    if one.read.facts:
        return one.read.facts[0], one.cost
    ref = ObjectRef(kind.name, where[0] if where else None, name)
    blind = next((item for item in one.missing if item.why not in NEIGHBOURS_ONLY), None)
    if blind is not None:
        raise ToolRefusal(f"cannot read {ref}: {explain_missing(blind)}")
    everywhere = await list_kind(context, kind, where)
    names = [fact.name for fact in everywhere.read.facts[:SUBJECT_LIMIT]]
    note = await unknown_namespaces(context, where) if not names else ""
    raise ToolRefusal(f"{ref} does not exist; {note or nearest(name, names, kind.plural)}")


async def unknown_namespaces(context: ToolContext, namespaces: tuple[str, ...]) -> str:
    """A sentence about the namespaces among these that do not exist, "" when all do or when that cannot be known."""
    if not namespaces:
        return ""
    listed = await list_kind(context, BY_NAME[Namespace.kind])
    if not listed.read.complete:
        return ""
    known = {fact.name for fact in listed.read.facts}
    absent = [name for name in namespaces if name not in known]
    return "; ".join(f"namespace {name!r} does not exist, {nearest(name, known, 'namespaces')}" for name in absent)


async def together(readings: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of several readings at once, in their order. The first error comes out as itself, not as a group."""
    coroutines = list(readings)
    results: dict[int, T] = {}

    async def run(index: int, coroutine: Coroutine[Any, Any, T]) -> None:
        results[index] = await coroutine

    try:
        async with anyio.create_task_group() as tasks:
            for index, coroutine in enumerate(coroutines):
                tasks.start_soon(run, index, coroutine)
    except ExceptionGroup as group:
        raise _first(group) from group
    return [results[index] for index in range(len(coroutines))]


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def explain_missing(missing: Missing) -> str:
    """Why something cannot be seen and what would make it visible."""
    return "; ".join(part for part in (missing.why.value, missing.detail, missing.next_step) if part)


def pods_below(pods: tuple[Pod, ...], owners: tuple[Fact, ...], workload: ObjectRef) -> tuple[Pod, ...]:
    """Pods whose controller is the workload or something that the workload controls."""
    middle = {
        (fact.ref.kind, fact.name)
        for fact in owners
        if fact.controller and (fact.controller.kind, fact.controller.name) == (workload.kind, workload.name)
    }
    wanted = {*middle, (workload.kind, workload.name)}
    return tuple(pod for pod in pods if pod.controller and (pod.controller.kind, pod.controller.name) in wanted)
