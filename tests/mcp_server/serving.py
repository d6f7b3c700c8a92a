"""The server over HTTP for tests: in a thread of its own, over the recording of `incident`, with or without tokens."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer

from cluster.recorded import RecordedReader
from mcp_server.authentication import HTTP_CHANNEL, Authentication, Issuer, token_caller
from mcp_server.http import endpoint, http_app, listen
from mcp_server.registry import Caller, ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import context
from tests.mcp_server.issuer import TokenIssuer

PUBLIC = "https://sj.example.com/mcp"
# Long: nothing here tests how quick a machine is.
WAIT_SECONDS = 120


class Served:
    """A server in a thread of its own. `callers` are those whose calls were answered."""

    def __init__(self, address: str, callers: list[Caller]) -> None:
        self.address = address
        self.callers = callers


@contextmanager
def serving(
    reader: RecordedReader,
    issuer: TokenIssuer | None = None,
    origins: tuple[str, ...] = (),
    prepare: Callable[[MCPServer], None] = lambda server: None,
    **built: Any,
) -> Iterator[Served]:
    """A server that was built so and prepared so, until the end of the context."""
    callers: list[Caller] = []
    listening = listen("127.0.0.1:0", authenticated=issuer is not None)
    served = endpoint(listening, PUBLIC if issuer else None, ("sj.example.com",), origins)
    authentication = Authentication(Issuer(issuer.url, f"{issuer.url}/keys", PUBLIC), PUBLIC) if issuer else None

    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        caller = token_caller() or Caller("", channel=HTTP_CHANNEL)
        callers.append(caller)
        held = context(reader)
        yield ToolContext(held.reader, caller, held.clock, held.ports)

    tools = toolset()
    built_server = build_server(tools, factory, cluster="recording", authentication=authentication, **built)
    prepare(built_server)
    app = http_app(built_server, served, tools, authentication)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", callers)
    finally:
        server.should_exit = True
        thread.join(WAIT_SECONDS)
        listening.close()
        assert not thread.is_alive()


@asynccontextmanager
async def client(served: Served, mode: str, token: str | None = None, **options: Any) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as http,
        Client(streamable_http_client(served.address, http_client=http), mode=mode, **options) as connected,
    ):
        yield connected
