"""An investigation can be read again by id, by whom it was made for and by nobody else, and so can each piece of its evidence."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from cluster.recorded import RecordedReader
from cluster.reference import Scope
from mcp_server.archive import KEPT, KEPT_FOR, Archive, Phase, kept_text
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Caller, Investigated, ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import CANARIES, NOW, context

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
RITA, OMAR = Caller("rita"), Caller("omar")


def served(reader: RecordedReader, callers: list[Caller]) -> MCPServer:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield replace(context(reader), caller=callers[-1])

    return build_server(toolset(), factory)


async def read(client: Client, uri: str) -> str:
    [found] = (await client.read_resource(uri)).contents
    return str(found.text)  # type: ignore[union-attr]


@ERAS
async def test_an_investigation_and_its_evidence_are_read_again(reader: RecordedReader, mode: str) -> None:
    callers = [RITA]
    async with Client(served(reader, callers), mode=mode) as client:
        answer = await client.call_tool("investigate", {"question": "what is wrong?"})
        text = "\n".join(getattr(part, "text", "") for part in answer.content)
        [uri] = re.findall(r"smokejumper://investigations/inv-\w+", text)
        again = await read(client, uri)
        assert "Deployment/ml/serve: Image does not exist (proven" in again
        evidence = re.findall(r"ev:[0-9a-f]{10}", again)
        piece = await read(client, f"smokejumper://evidence/{evidence[0]}")
        assert piece.startswith(evidence[0])
        assert "<<untrusted" in piece
        assert not [canary for canary in CANARIES if canary in again + piece]
        callers.append(OMAR)
        for address in (uri, f"smokejumper://evidence/{evidence[0]}"):
            with pytest.raises(MCPError, match="of yours"):
                await client.read_resource(address)


async def kept_by(archive: Archive, held: ToolContext, caller: Caller = RITA) -> str:
    context = archive.keeping(replace(held, caller=caller))
    assert context.ports is not None
    return (await context.ports.investigate(Scope("lab"), "why?", quiet)).id


async def quiet(_step: str) -> None:
    pass


async def test_the_oldest_make_room_and_old_ones_go(reader: RecordedReader) -> None:
    changed: list[str] = []

    async def told(uri: str) -> None:
        changed.append(uri)

    numbers = iter(range(10_000))
    archive = Archive(told, lambda kind: f"{kind}-{next(numbers)}")
    held = context(reader)
    assert held.ports is not None

    async def nothing(scope: Scope, question: str | None, progress: Any) -> Investigated:
        return found

    found = await held.ports.investigate(Scope("lab"), "why?", quiet)
    held = replace(held, ports=replace(held.ports, investigate=nothing))
    first = await kept_by(archive, held)
    for _ in range(KEPT - 1):
        await kept_by(archive, held)
    assert archive.find(first, RITA).phase is Phase.DONE
    assert changed[0] == f"smokejumper://investigations/{first}"
    last = await kept_by(archive, held)
    with pytest.raises(ToolRefusal, match="no investigation"):
        archive.find(first, RITA)
    await kept_by(archive, replace(held, clock=lambda: NOW + KEPT_FOR + timedelta(seconds=1)))
    with pytest.raises(ToolRefusal, match="no investigation"):
        archive.find(last, RITA)


async def test_one_that_runs_or_was_cut_off_says_so(reader: RecordedReader) -> None:
    async def told(uri: str) -> None:
        pass

    archive = Archive(told, lambda kind: f"{kind}-1")
    held = context(reader)
    assert held.ports is not None
    begun = anyio.Event()

    async def never(scope: Scope, question: str | None, progress: Any) -> Investigated:
        await progress("reading pods")
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    held = replace(held, ports=replace(held.ports, investigate=never))
    async with anyio.create_task_group() as group:
        group.start_soon(kept_by, archive, held)
        await begun.wait()
        assert kept_text(archive.find("inv-1", RITA), NOW) == "inv-1 is running: reading pods (begun 0s ago)"
        group.cancel_scope.cancel()
    assert "was cut off" in kept_text(archive.find("inv-1", RITA), NOW)
