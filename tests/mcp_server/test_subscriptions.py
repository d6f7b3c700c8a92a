"""Who subscribed hears of changes, in both eras, and the records are asked only while somebody listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest
from mcp.client import Client
from mcp.server.connection import Connection
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification

from cluster.recorded import RecordedReader
from guardrails.errors import BadStore
from mcp_server.registry import ToolContext
from mcp_server.server import build_server
from mcp_server.subscriptions import PER_CONNECTION, Subscriptions, proposal_uri
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import context

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]
WAIT_SECONDS = 60


class News:
    """Records of which a test says what changed; `asked` is set once they were asked."""

    def __init__(self, *changed: str) -> None:
        self.changed = changed
        self.asked = anyio.Event()
        self.closed = anyio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Callable[[], Awaitable[tuple[str, ...]]]]:
        async def ask() -> tuple[str, ...]:
            self.asked.set()
            return self.changed

        yield ask
        self.closed.set()


def served(reader: RecordedReader, news: News) -> MCPServer:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    return build_server(toolset(), factory, news=news)


async def test_a_client_of_the_newer_era_hears_of_its_proposal(reader: RecordedReader) -> None:
    async with Client(served(reader, News("p0", "p1"))) as client:
        with anyio.fail_after(WAIT_SECONDS):
            async with client.listen(resource_subscriptions=[proposal_uri("p1")]) as changes:
                assert (await anext(changes)).uri == proposal_uri("p1")  # type: ignore[union-attr]


async def test_a_client_of_the_older_era_hears_of_its_proposal(reader: RecordedReader) -> None:
    heard: list[str] = []
    told = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)
            told.set()

    news = News("p0", "p1")
    async with Client(served(reader, news), mode="legacy", message_handler=hear) as client:
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.subscribe
        await client.subscribe_resource(proposal_uri("p1"))
        with anyio.fail_after(WAIT_SECONDS):
            await told.wait()
        assert set(heard) == {proposal_uri("p1")}
        await client.unsubscribe_resource(proposal_uri("p1"))
        with anyio.fail_after(WAIT_SECONDS):
            await news.closed.wait()


async def test_nobody_is_asked_while_nobody_listens(reader: RecordedReader) -> None:
    news = News()
    async with Client(served(reader, news)) as client:
        await client.list_tools()
        await anyio.wait_all_tasks_blocked()
        assert not news.asked.is_set()


async def test_a_client_cannot_subscribe_without_end(reader: RecordedReader) -> None:
    async with Client(served(reader, News()), mode="legacy") as client:
        for number in range(PER_CONNECTION):
            await client.subscribe_resource(proposal_uri(f"p{number}"))
        with pytest.raises(MCPError, match="at most 100"):
            await client.subscribe_resource(proposal_uri("one-more"))
        await client.unsubscribe_resource(proposal_uri("p0"))
        with pytest.raises(MCPError, match="500 characters"):
            await client.subscribe_resource("x" * 501)


async def test_who_comes_and_goes_leaves_nothing_behind() -> None:
    subscriptions, server = Subscriptions(), MCPServer("lab")
    subscriptions.serve(server)
    async with Client(server, mode="legacy") as client:
        with pytest.raises(MCPError, match="500 characters"):
            await client.subscribe_resource("x" * 501)
        watched = [subscriptions.watched]
        for _ in range(20):
            await client.subscribe_resource(proposal_uri("p1"))
            watched.append(subscriptions.watched)
            await client.unsubscribe_resource(proposal_uri("p1"))
            watched.append(subscriptions.watched)
        assert watched == [False, *[True, False] * 20]
        [connection] = subscriptions._connections
        assert len(vars(connection.exit_stack)["_exit_callbacks"]) == 1
    assert subscriptions._connections == {}


async def test_a_client_that_does_not_read_holds_up_no_other() -> None:
    class Line:
        def __init__(self, *, stuck: bool) -> None:
            self.stuck, self.told = stuck, anyio.Event()

        async def send_resource_updated(self, uri: str) -> None:
            if self.stuck:
                await anyio.sleep_forever()
            self.told.set()

    subscriptions = Subscriptions()
    lines = [*(Line(stuck=True) for _ in range(10)), Line(stuck=False)]
    subscriptions._connections = {cast("Connection", line): {proposal_uri("p1")} for line in lines}
    async with anyio.create_task_group() as group:
        group.start_soon(subscriptions.changed, proposal_uri("p1"))
        await anyio.wait_all_tasks_blocked()
        assert lines[-1].told.is_set()
        group.cancel_scope.cancel()


@pytest.mark.parametrize("error", [BadStore("the disk is full"), OSError("the disk is full")])
async def test_records_that_cannot_be_read_end_no_server(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Callable[[], Awaitable[tuple[str, ...]]]]:
        async def ask() -> tuple[str, ...]:
            raise error

        yield ask

    subscriptions = Subscriptions()
    subscriptions.subscribe(lambda event: None)
    async with anyio.create_task_group() as group:
        group.start_soon(subscriptions.follow, broken)
        await anyio.wait_all_tasks_blocked()
        assert "the disk is full" in caplog.text
        group.cancel_scope.cancel()


async def test_a_stream_that_ends_twice_counts_once() -> None:
    subscriptions = Subscriptions()
    end = subscriptions.subscribe(lambda event: None)
    end()
    end()
    assert not subscriptions.watched
    subscriptions.subscribe(lambda event: None)
    again = subscriptions.watched
    assert again
