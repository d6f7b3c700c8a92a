"""The server in bad company: slow and dying API servers, clients that hang up, arguments that nobody should send. Nothing stays."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer

from cluster.kube import KubeReader
from cluster.reading import Reader
from cluster.recorded import RecordedReader
from mcp_server.authentication import HTTP_CHANNEL
from mcp_server.http import endpoint, http_app, listen
from mcp_server.registry import Caller, Ports, ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from tests.cluster.fake_api import FakeApi, Reply, connection, listing, pod, running, status
from tests.mcp_server.everything import ask_everything
from tests.mcp_server.incident import context
from tests.patience import WAIT_SECONDS, until

pytestmark = pytest.mark.anyio
MODES = ("legacy", "auto")
ERAS = pytest.mark.parametrize("mode", MODES)
CLIENTS = 64
PODS = "/api/v1/pods"
# What may be said of arguments, whatever they are.
REFUSAL_LIMIT = 4_000
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def served(reader: Reader, ports: Ports | None = None) -> MCPServer:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield ToolContext(reader, Caller("", channel=HTTP_CHANNEL), reader.now, ports)

    return build_server(toolset(), factory, cluster="test")


@asynccontextmanager
async def serving(reader: Reader, ports: Ports | None = None) -> AsyncIterator[str]:
    """The address of a server in this loop, whose tasks can be counted."""
    tools = toolset()
    with listen("127.0.0.1:0", authenticated=False) as listening:
        app = http_app(served(reader, ports), endpoint(listening, None, (), ()), tools, None)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await until("the server starts", lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def client(address: str, mode: Any = "auto") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(timeout=WAIT_SECONDS) as http,
        Client(streamable_http_client(address, http_client=http), mode=mode) as connected,
    ):
        yield connected


async def tasks_at_rest(address: str, mode: str) -> int:
    """How many tasks there are once a first client has come and gone: libraries keep one or two for the life of a loop."""
    async with client(address, mode) as connected:
        await connected.list_tools()
    await anyio.wait_all_tasks_blocked()
    return len(asyncio.all_tasks())


def said(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running() as api:
        yield api


def slow(api: FakeApi) -> asyncio.Event:
    """A list of pods that answers once the event is set."""
    go = asyncio.Event()
    full = listing("Pod", [pod("a"), pod("b")])
    api.reply(PODS, Reply(full.status, full.body, after=go))
    return go


async def test_64_clients_of_a_slow_cluster_are_all_answered_and_leave_nothing(api: FakeApi) -> None:
    go = slow(api)
    answers: list[str] = []
    async with KubeReader(connection(api), seconds=WAIT_SECONDS) as reader, serving(reader) as address:
        before = max([await tasks_at_rest(address, mode) for mode in MODES])

        async def one(mode: str) -> None:
            async with client(address, mode) as connected:
                result = await connected.call_tool("pods_list", {"problem_only": False})
                assert not result.is_error, said(result)
                answers.append(said(result))

        async with anyio.create_task_group() as group:
            for number in range(CLIENTS):
                group.start_soon(one, MODES[number % 2])
            await until("every client waits for the cluster", lambda: api.paths().count(PODS) == CLIENTS)
            go.set()
        await until("no task is left", lambda: len(asyncio.all_tasks()) <= before + _serving_connections(api))
    assert len(answers) == CLIENTS
    # The fence around what workloads wrote is another in each answer.
    assert len({answer.splitlines()[0] for answer in answers}) == 1
    await until("no connection is left", lambda: not api.open)


def _serving_connections(api: FakeApi) -> int:
    """The tasks of the cluster's side of this loop: one for each connection that is kept for later."""
    return len(api.open)


@ERAS
async def test_a_call_that_is_cancelled_ends_what_it_asked_of_the_cluster(api: FakeApi, mode: str) -> None:
    slow(api)
    async with KubeReader(connection(api), seconds=WAIT_SECONDS) as reader, serving(reader) as address:
        before = await tasks_at_rest(address, mode)
        async with client(address, mode) as connected:
            async with anyio.create_task_group() as group:
                group.start_soon(connected.call_tool, "pods_list", {})
                await until("the cluster is asked", lambda: PODS in api.paths())
                group.cancel_scope.cancel()
            await until("the connection to the cluster is closed", lambda: not api.open)
            # The server is as it was before.
            api.objects(PODS, "Pod", [pod("a")])
            assert "1 pods" in said(await connected.call_tool("pods_list", {}))
        await until("no task is left", lambda: len(asyncio.all_tasks()) <= before + _serving_connections(api))


async def test_a_client_that_hangs_up_ends_what_it_asked_of_the_cluster(api: FakeApi) -> None:
    slow(api)
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pods_list", "arguments": {}, "_meta": meta}}
    headers = {**HEADERS, "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "pods_list"}
    async with KubeReader(connection(api), seconds=WAIT_SECONDS) as reader, serving(reader) as address:
        before = await tasks_at_rest(address, "auto")
        async with httpx2.AsyncClient(timeout=WAIT_SECONDS) as http, anyio.create_task_group() as group:
            group.start_soon(lambda: http.post(address, json=call, headers=headers))
            await until("the cluster is asked", lambda: PODS in api.paths())
            group.cancel_scope.cancel()
        await until("the connection to the cluster is closed", lambda: not api.open)
        await until("no task is left", lambda: len(asyncio.all_tasks()) <= before)


async def test_a_cluster_that_dies_and_returns_is_told_apart_and_read_again(api: FakeApi) -> None:
    api.objects(PODS, "Pod", [pod("a")])
    async with KubeReader(connection(api), seconds=WAIT_SECONDS) as reader, serving(reader) as address, client(address) as connected:
        assert "1 pods" in said(await connected.call_tool("pods_list", {}))
        port = api.port
        await api.stop()
        gone = said(await connected.call_tool("pods_list", {}))
        assert "cannot see" in gone
        assert "unreachable" in gone
        await api.start(port)
        back = said(await connected.call_tool("pods_list", {}))
    assert "1 pods" in back
    assert "cannot see" not in back


async def test_a_cluster_that_errs_is_quoted_and_bounded(api: FakeApi) -> None:
    api.reply(PODS, status(500, "InternalError", "boom " * 100_000))
    async with KubeReader(connection(api), seconds=WAIT_SECONDS) as reader, serving(reader) as address, client(address) as connected:
        text = said(await connected.call_tool("pods_list", {}))
    assert "cannot see" in text
    assert len(text) < REFUSAL_LIMIT


# ---- arguments that nobody should send


WRONG: tuple[Any, ...] = (None, 10**400, -1, 1.5, True, "x" * 10_000, "\x00\x1b[2J\u202e", [], [[[]]], {"a": {"b": []}})


async def test_no_argument_of_a_wrong_kind_or_size_crashes_a_tool(reader: RecordedReader) -> None:
    turns = itertools.cycle(WRONG)
    huge = "x" * 1_000_000
    async with Client(served(reader, context(reader).ports)) as connected:
        for name, wish in (("pods_list", {huge: 1}), ("metrics_query", {"labels": {huge: [1]}})):
            unknown = await connected.call_tool(name, wish)
            assert unknown.is_error
            assert len(said(unknown)) < REFUSAL_LIMIT
        for tool in (await connected.list_tools()).tools:
            names = list(tool.input_schema.get("properties", {}))
            wishes = [{name: next(turns)} for name in names] + [dict.fromkeys(names, next(turns)), {names[-1]: huge}]
            for wish in wishes:
                result = await connected.call_tool(tool.name, wish)
                text = said(result)
                assert "failed inside" not in text, (tool.name, str(wish)[:200])
                assert not result.is_error or len(text) < REFUSAL_LIMIT, (tool.name, str(wish)[:200])


async def test_arguments_nested_too_deep_are_refused_and_the_server_goes_on(reader: RecordedReader) -> None:
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }
    async with serving(reader) as address, httpx2.AsyncClient(headers=HEADERS, timeout=WAIT_SECONDS) as http:
        opened = await http.post(address, json=initialize)
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-11-25"}
        for depth in (100, 1_000, 100_000):
            for opening, closing in (("[", "]"), ('{"a":', "}")):
                nested = f"{opening * depth}1{closing * depth}"
                body = (
                    f'{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"pods_list","arguments":{{"namespace":{nested}}}}}}}'
                )
                answer = await http.post(address, content=body, headers=session)
                assert answer.status_code in (200, 400), (depth, answer.status_code)
                assert "Traceback" not in answer.text
                assert len(answer.text) < REFUSAL_LIMIT
        async with client(address) as connected:
            assert "pods" in said(await connected.call_tool("pods_list", {}))


async def test_nothing_that_one_client_asks_changes_what_another_is_answered(reader: RecordedReader) -> None:
    objects = ({"kind": "Pod", "namespace": "ml", "name": "serve-5c9f7-abcde", "cluster": "other", "context": "other"},)
    server = served(reader, context(reader).ports)
    async with Client(server) as first, Client(server) as second:
        before = (await second.call_tool("cluster_overview", {})).structured_content
        await ask_everything(first, objects, {"question": "why?"}, "other", thorough=False)
        assert (await second.call_tool("cluster_overview", {})).structured_content == before
        assert before is not None
