"""One page of a list, decoded object by object so that neither a broken object nor a large page stops anything.

A page of 500 pods is some 4 MB. The envelope is scanned first (objects stay raw bytes), then objects are decoded in slices with a
pause after each, so the event loop that also answers MCP and people is never held for long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import anyio.lowlevel
import msgspec
from msgspec import Struct

from cluster.facts.event import CustomObject
from cluster.facts.meta import Fact, Metadata
from cluster.kinds import Kind

SLICE = 64


class ListMetadata(Struct, frozen=True, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None
    resource_version: str = ""


class Page(Struct, frozen=True):
    """The envelope of a list response."""

    items: tuple[msgspec.Raw, ...] | None = None
    metadata: ListMetadata = ListMetadata()
    kind: str = ""


class Named(Struct, frozen=True):
    """An object of which only the metadata was asked for (PartialObjectMetadata)."""

    metadata: Metadata = Metadata()


T = TypeVar("T")
_PAGE = msgspec.json.Decoder(Page)
_NAMED = msgspec.json.Decoder(Named)


def decode_page(body: bytes) -> Page:
    """The envelope. Raises msgspec.DecodeError on anything that is no list, also on a body that was cut off."""
    try:
        page = _PAGE.decode(body)
    except RecursionError as error:
        # A custom resource may be as deep as its author likes, and one such object must not end all reading.
        raise msgspec.DecodeError("an object in it is nested too deeply to be read") from error
    if not page.kind.endswith("List"):
        raise msgspec.ValidationError(f"expected a list, got {page.kind or 'no kind'}")
    return page


def fact_decoder(kind: Kind) -> Callable[[bytes | msgspec.Raw], Fact]:
    """How one object of a kind is decoded. The decoder is built with the first object: most clusters have none of most kinds."""

    def decode(raw: bytes | msgspec.Raw) -> Fact:
        fact = _decoder(kind.fact).decode(raw)
        if isinstance(fact, CustomObject) and not fact.object_kind:
            # Items of a built-in list carry no kind of their own, those of a custom resource do; the name must not depend on it.
            return msgspec.structs.replace(fact, object_kind=kind.name, api_version=kind.api_version)
        return fact

    return decode


@cache
def _decoder(fact: type[Fact]) -> msgspec.json.Decoder[Fact]:
    # Lenient: servers and operators write numbers where strings are declared and the reverse.
    return msgspec.json.Decoder(fact, strict=False)


def metadata_decoder() -> Callable[[bytes | msgspec.Raw], Named]:
    return _NAMED.decode


async def decode_items(items: tuple[msgspec.Raw, ...], decode: Callable[[msgspec.Raw], T]) -> tuple[list[T], list[str]]:
    """The objects of a page, and one complaint per object that does not have the shape its kind declares."""
    decoded: list[T] = []
    complaints: list[str] = []
    for start in range(0, len(items), SLICE):
        for raw in items[start : start + SLICE]:
            try:
                decoded.append(decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                complaints.append(f"{name_in(raw)}: {error}")
        await anyio.lowlevel.checkpoint()
    return decoded, complaints


def name_in(raw: bytes | msgspec.Raw) -> str:
    """The name of an object whose other fields are broken, for a message."""
    try:
        metadata = _NAMED.decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "an object without readable metadata"
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
