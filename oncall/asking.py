"""From the words of a command line to a scope: which kind, namespace and object somebody means, with the near ones when it is none."""

from __future__ import annotations

from datetime import datetime

from cluster.reading import Reader
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, find_object, list_kind, unknown_namespaces
from mcp_server.registry import Caller, ToolContext
from oncall.errors import UsageError

NAMESPACES_SHOWN = 5


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time with its zone. Raises UsageError."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--now {text!r} is no RFC 3339 time. Write it like 2026-01-15T12:00:00Z.") from error
    if at.tzinfo is None:
        raise UsageError(f"--now {text!r} has no time zone. Write it like 2026-01-15T12:00:00Z.")
    return at


def split(word: str) -> tuple[str, str]:
    """`deploy/serve` as (kind word, name). Raises UsageError."""
    kind, slash, name = word.partition("/")
    if not slash or not kind or not name:
        raise UsageError(f"{word!r} names no object. Write KIND/NAME, like deploy/serve or pod/serve-0.")
    return kind, name


async def scope_of(reader: Reader, word: str | None, namespace: str | None, *, everywhere: bool) -> Scope:
    """The scope that `[KIND/NAME] [-n NS | -A]` means on this cluster. Raises UsageError with the nearest names that exist.

    Without any of them it is all namespaces, of a recording those that it holds.
    """
    if everywhere and namespace is not None:
        raise UsageError("-A and -n contradict each other. Give one of them.")
    context = ToolContext(reader, Caller("smokejumper", channel="cli"), reader.now)
    namespaces = (namespace,) if namespace else ()
    try:
        absent = await unknown_namespaces(context, namespaces)
        if absent:
            raise UsageError(absent)
        if word is None:
            recorded = reader.namespaces if isinstance(reader, RecordedReader) and not everywhere else ()
            return Scope(reader.cluster, namespaces or recorded)
        kind_word, name = split(word)
        kind = await find_kind(context, kind_word)
        if kind.namespaced and namespace is None:
            listed = await list_kind(context, kind)
            where = sorted({fact.namespace for fact in listed.read.facts if fact.name == name and fact.namespace})[:NAMESPACES_SHOWN]
            there = f" One of that name is in {', '.join(where)}." if where else ""
            raise UsageError(f"a {kind.name} lives in a namespace. Add -n NAMESPACE.{there}")
        found, _ = await find_object(context, kind, namespace, name)
    except ToolRefusal as refusal:
        raise UsageError(str(refusal)) from refusal
    return Scope(reader.cluster, namespaces if kind.namespaced else (), found.ref)
