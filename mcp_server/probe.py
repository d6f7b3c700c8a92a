"""Reading for tools: one kind of one set of namespaces as growth for a World. Completeness is decided here and nowhere else."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import anyio
from msgspec import Struct

from cluster.facts.meta import Fact
from cluster.facts.node import Namespace
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME, Kind
from cluster.reading import Cost, Missing, Why
from cluster.reference import ObjectRef, Scope
from guardrails.redact import present
from mcp_server.arguments import nearest, nearest_kinds
from mcp_server.errors import ToolRefusal
from mcp_server.registry import KindRead, ToolContext

SUBJECT_LIMIT = 2_000
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
