"""Who wants to hear that a proposal or an investigation changed, in both protocol eras. It says that something changed, never what.

Whoever hears it reads the resource again, and is answered or refused then. Proposals change in other processes too, so while anybody
listens the gate's records are asked for news; while nobody does, nothing is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from guardrails.errors import GuardrailsError

# Opens whatever knows of proposals; each call of what it gives returns the ids of those that changed since the call before.
News = Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[tuple[str, ...]]]]]

POLL_SECONDS = 2.0
RETRY_SECONDS = 30.0
PER_CONNECTION = 100
SEND_SECONDS = 5.0
URI_LIMIT = 500
log = logging.getLogger("smokejumper")


def proposal_uri(proposal_id: str) -> str:
    """The resource of a proposal."""
    return f"smokejumper://proposals/{proposal_id}"


class Subscriptions(InMemorySubscriptionBus):
    """The listen streams of the newer era, which the SDK keeps, and the subscribed connections of the older one."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[Connection, set[str]] = {}
        self._streams = 0
        self._somebody = anyio.Event()

    @property
    def watched(self) -> bool:
        """Whether anybody listens."""
        return self._streams > 0 or any(self._connections.values())

    async def changed(self, uri: str) -> None:
        """Tell everybody who asked that this resource changed."""
        await self.publish(ResourceUpdated(uri))

    async def publish(self, event: ServerEvent) -> None:
        await super().publish(event)
        if isinstance(event, ResourceUpdated):
            # Clients that do not read delay nobody for long, however many they are.
            with anyio.move_on_after(SEND_SECONDS):
                async with anyio.create_task_group() as group:
                    for connection in [connection for connection, wanted in self._connections.items() if event.uri in wanted]:
                        group.start_soon(connection.send_resource_updated, event.uri)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        end = super().subscribe(listener)
        open_ = True
        self._streams += 1
        self._somebody.set()

        def unsubscribe() -> None:
            nonlocal open_
            end()
            self._streams -= open_
            open_ = False

        return unsubscribe

    def serve(self, server: MCPServer) -> None:
        """Answer `resources/subscribe` and `resources/unsubscribe` of the older era, which the SDK leaves to its users."""

        async def begin(context: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
            connection = _connection(context)
            wanted = self._connections.get(connection, set())
            if len(wanted) >= PER_CONNECTION or len(params.uri) > URI_LIMIT:
                raise MCPError(INVALID_PARAMS, f"at most {PER_CONNECTION} resources of at most {URI_LIMIT} characters are subscribed to")
            if connection not in self._connections:
                # Kept, even empty, until the connection ends: each beginning anew would leave one more thing to do then.
                self._connections[connection] = wanted
                connection.exit_stack.callback(self._connections.pop, connection, None)
            wanted.add(params.uri)
            self._somebody.set()
            return EmptyResult()

        async def end(context: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
            connection = _connection(context)
            self._connections.get(connection, set()).discard(params.uri)
            return EmptyResult()

        server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, begin)
        server._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, end)

    async def follow(self, news: News) -> None:
        """Pass on which proposals changed, for as long as the server runs."""
        while True:
            await self._somebody.wait()
            try:
                async with news() as changed:
                    while self.watched:
                        for proposal in await changed():
                            await self.changed(proposal_uri(proposal))
                        await anyio.sleep(POLL_SECONDS)
            except (GuardrailsError, OSError) as error:
                log.warning("nobody hears of changed proposals for now: %s", error)
                await anyio.sleep(RETRY_SECONDS)
            if not self.watched:
                self._somebody = anyio.Event()


def _connection(context: ServerRequestContext[Any, Any]) -> Connection:
    # A session is made for each request; only what it holds lives as long as the client.
    return context.session._connection
