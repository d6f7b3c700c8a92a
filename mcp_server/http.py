"""The MCP server over streamable HTTP: where it may listen, which hosts and origins it answers, and who needs a token.

TLS belongs to whatever stands in front; a token over plain HTTP across a network would be read. Both protocol eras are served from one
path. It authenticates nobody itself (`mcp_server.authentication`) and grants nothing.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.authentication import SCOPES, Authentication
from mcp_server.errors import EndpointError, IssuerError
from mcp_server.registry import Access, Toolset

PATH = "/mcp"
HEALTH_PATH = "/healthz"
ICON_PATH = "/icon.svg"
BODY_LIMIT_BYTES = 1024 * 1024
CONNECTIONS_LIMIT = 512
SESSIONS_LIMIT = 256
GRACE_SECONDS = 5
ICON = Path(__file__).with_name("icon.svg")
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
log = logging.getLogger("smokejumper")


@dataclass(frozen=True)
class Endpoint:
    """Where clients reach the server. `url` is its public address, which tokens are made for; `hosts` and `origins` are what it answers."""

    url: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...]


def listen(bind: str, *, authenticated: bool) -> socket.socket:
    """A listening socket for HOST:PORT (port 0 takes a free one). Raises EndpointError, also for an open door: beyond this machine
    nobody is served without a token."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise EndpointError(f"--http takes HOST:PORT, like 127.0.0.1:8765, not {bind[:100]!r}.")
    if not authenticated and not _is_loopback(host):
        raise EndpointError(
            f"{host} can be reached from other machines, and no issuer of tokens is configured. "
            "Set oidc.issuer and http.url, or listen on 127.0.0.1."
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with ExitStack() as undo:
            listening = undo.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            # From here on clients wait instead of being refused, however long the start takes.
            listening.listen(CONNECTIONS_LIMIT)
            undo.pop_all()
    except OSError as error:
        raise EndpointError(f"cannot listen on {bind[:100]}: {error.strerror or error}. Choose another address or port.") from error
    return listening


def endpoint(listening: socket.socket, url: str | None, hosts: tuple[str, ...], origins: tuple[str, ...]) -> Endpoint:
    """What the server answers: the host of `url` and of this machine's own names, the extra `hosts`, and only the `origins` given beside
    this machine's pages. Raises EndpointError for a `url` that is none."""
    name, port = listening.getsockname()[:2]
    local = _is_loopback(str(name))
    if url is None:
        if not local:
            raise EndpointError(
                "http.url is not set. It is the address by which clients know this server, like https://sj.example.com/mcp."
            )
        url = f"http://{'[::1]' if ':' in str(name) else name}:{port}{PATH}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.rstrip("/") != PATH:
        raise EndpointError(f"http.url must be the whole address and end in {PATH}, like https://sj.example.com{PATH}, not {url[:200]!r}.")
    mine = tuple(f"{name}:*" for name in LOCAL_NAMES) if local else ()
    pages = tuple(f"http://{name}:*" for name in LOCAL_NAMES) if local else ()
    return Endpoint(url, (parts.netloc, *mine, *hosts), (*pages, *origins))


def http_app(server: MCPServer, served: Endpoint, toolset: Toolset, authentication: Authentication | None) -> Starlette:
    """The ASGI application. With `authentication`, everything but its metadata, its picture and the health check asks for a token."""
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=BODY_LIMIT_BYTES,
        max_sessions=SESSIONS_LIMIT,
        transport_security=TransportSecuritySettings(allowed_hosts=list(served.hosts), allowed_origins=list(served.origins)),
    )
    app.router.routes += [Route(HEALTH_PATH, _healthy), Route(ICON_PATH, _icon)]
    if authentication is not None:
        settings, address = authentication.settings, authentication.settings.resource_server_url
        assert address is not None
        # The SDK's own route names only the scopes that every request needs; the first route that matches answers.
        metadata = create_protected_resource_routes(address, [settings.issuer_url], sorted(SCOPES.values()), "Smokejumper")
        app.router.routes[0:0] = metadata
        app.user_middleware.insert(0, Middleware(_Challenge))
        app.user_middleware.append(Middleware(_ToolScope, toolset=toolset, metadata_url=str(build_resource_metadata_url(address))))
    return app


async def serve_http(app: Starlette, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; requests under way get a few seconds to end."""
    configuration = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_LIMIT,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    await uvicorn.Server(configuration).serve(sockets=[listening])


def icon_address(served: Endpoint) -> str:
    """Where clients find the picture of this server."""
    return f"{served.url.rstrip('/').removesuffix(PATH)}{ICON_PATH}"


async def _icon(_request: Request) -> Response:
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "public, max-age=86400"}
    return Response(ICON.read_bytes(), 200, policy, "image/svg+xml")


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("ok")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Challenge:
    """Says in every refusal which scope to ask the issuer for, which the SDK leaves out, and that unreadable keys are our trouble."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def challenged(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (401, 403):
                read = f', scope="{SCOPES[Access.READ]}"'.encode()
                message["headers"] = [
                    (name, value + read if name.lower() == b"www-authenticate" and b"scope=" not in value else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        try:
            await self._app(scope, receive, challenged)
        except IssuerError:
            # Where the keys are and what was wrong is for whoever runs the server, not for whoever knocks.
            log.exception("no token can be checked")
            answer = PlainTextResponse("the issuer's keys cannot be read, so no token can be checked\n", 503, {"Retry-After": "30"})
            await answer(scope, receive, send)


class _ToolScope:
    """Refuses a call of a tool that the token has no scope for before it begins, so that a client can step up.

    It goes by the `Mcp-Name` header, which the SDK holds against the body afterwards; clients of the older era send none and are
    refused by the tool itself.
    """

    def __init__(self, app: ASGIApp, toolset: Toolset, metadata_url: str) -> None:
        self._app = app
        self._access = {spec.name: spec.access for spec in toolset}
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if scope["type"] == "http" and isinstance(user, AuthenticatedUser):
            access = self._access.get(Request(scope).headers.get("mcp-name", ""))
            if access is not None and SCOPES[access] not in user.scopes:
                await self._refuse(SCOPES[access], user.scopes)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse(self, needed: str, held: list[str]) -> Response:
        # What is asked for replaces what is held, so ours that are held are asked for again.
        scopes = " ".join(sorted({needed, *(set(SCOPES.values()) & set(held))}))
        parts = (
            'error="insufficient_scope"',
            f'error_description="this tool needs the scope {needed}"',
            f'resource_metadata="{self._metadata_url}"',
            f'scope="{scopes}"',
        )
        body = json.dumps({"error": "insufficient_scope", "error_description": f"this tool needs the scope {needed}"})
        return Response(body, 403, {"WWW-Authenticate": f"Bearer {', '.join(parts)}"}, "application/json")
