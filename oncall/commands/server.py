"""`smokejumper mcp`: the tools for a chat client or an IDE, over stdio or HTTP."""

from __future__ import annotations

import getpass
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.postponed import postponed_validators
from oncall.errors import SettingsError, UsageError
from oncall.invocation import Invocation

if TYPE_CHECKING:
    import socket
    from datetime import datetime

    from mcp_server.authentication import Authentication
    from mcp_server.groups import Group
    from oncall.settings import McpSettings, Settings


STATE_KEY_LENGTH = 32


def mcp(
    context: typer.Context,
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    recording: Annotated[Path | None, typer.Option(help="Serve a recording: an incident can be discussed after the fact.")] = None,
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="Prometheus that watches the cluster.")] = None,
    loki: Annotated[str | None, typer.Option(metavar="URL", help="Loki that keeps the cluster's logs.")] = None,
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Serve over HTTP there instead of stdin and stdout.")] = None,
    groups: Annotated[str | None, typer.Option(metavar="LIST", help="Groups of tools, instead of those that are configured.")] = None,
) -> None:
    """Serve the tools over MCP on stdin and stdout, or over HTTP. No tool approves; a write needs the same grant as everywhere."""
    import anyio

    # Before anything else imports the SDK.
    with postponed_validators():
        importlib.import_module("mcp_server.server")
    from oncall.asking import moment
    from oncall.assembly import tune_collector

    invocation: Invocation = context.obj.with_context(cluster_context).with_prometheus(prometheus).with_loki(loki)
    chosen = _groups(invocation.settings, groups)
    tune_collector()
    if http is None:
        anyio.run(_serve, invocation.settings, recording, moment(now), chosen)
        return
    from mcp_server.errors import EndpointError, IssuerError
    from mcp_server.http import listen

    try:
        with listen(http, authenticated=invocation.settings.oidc.issuer is not None) as listening:
            anyio.run(_serve_http, invocation.settings, recording, moment(now), chosen, listening)
    except EndpointError as error:
        raise UsageError(str(error)) from error
    except IssuerError as error:
        raise SettingsError(str(error)) from error


def _groups(settings: Settings, said: str | None) -> tuple[Group, ...]:
    from mcp_server.errors import ToolRefusal
    from mcp_server.groups import DEFAULT_GROUPS
    from mcp_server.ownership import parse_groups

    if said is None:
        return settings.mcp.groups or DEFAULT_GROUPS
    try:
        return parse_groups(said)
    except ToolRefusal as error:
        raise UsageError(f"--groups: {error}.") from error


async def _serve(settings: Settings, recording: Path | None, now: datetime | None, groups: tuple[Group, ...]) -> None:
    from mcp_server.availability import offered
    from mcp_server.registry import Caller, ToolContext
    from mcp_server.server import build_server, serve_stdio
    from mcp_server.tools.catalogue import toolset
    from oncall.assembly import open_reader
    from oncall.ports import tool_context
    from oncall.turns import Turns

    async with open_reader(settings, recording, now) as reader:
        held = tool_context(settings, reader, Caller(getpass.getuser()), Turns())

        @asynccontextmanager
        async def context() -> AsyncIterator[ToolContext]:
            yield held

        tools = await offered(toolset(groups), reader)
        await serve_stdio(build_server(tools, context, cluster=reader.cluster, **_protocol(settings)))


async def _serve_http(
    settings: Settings, recording: Path | None, now: datetime | None, groups: tuple[Group, ...], listening: socket.socket
) -> None:
    from cluster.credentials import Impersonation
    from mcp_server.authentication import HTTP_CHANNEL, token_caller
    from mcp_server.availability import offered
    from mcp_server.errors import ToolRefusal
    from mcp_server.http import endpoint, http_app, icon_address, serve_http
    from mcp_server.registry import Caller, ToolContext
    from mcp_server.server import build_server
    from mcp_server.tools.catalogue import toolset
    from oncall.assembly import open_reader
    from oncall.ports import tool_context
    from oncall.turns import Turns

    served = endpoint(listening, settings.http.url, settings.http.allowed_hosts, settings.http.allowed_origins)
    authentication = await _authentication(settings, served.url)
    turns = Turns()
    async with open_reader(settings, recording, now) as account:

        @asynccontextmanager
        async def context() -> AsyncIterator[ToolContext]:
            caller = token_caller() if authentication else Caller("", channel=HTTP_CHANNEL)
            if caller is None:
                raise ToolRefusal("this request came without an access token")
            if recording is not None or authentication is None or settings.oidc.reads_as == "account":
                yield tool_context(settings, account, caller, turns)
                return
            # A connection for each call: nobody's credentials or cached answers are ever another caller's.
            async with open_reader(settings, None, None, Impersonation(caller.subject, caller.groups)) as own:
                yield tool_context(settings, own, caller, turns)

        tools = await offered(toolset(groups), account)
        server = build_server(
            tools, context, cluster=account.cluster, authentication=authentication, icon=icon_address(served), **_protocol(settings)
        )
        app = http_app(server, served, tools, authentication)
        typer.echo(f"serving {account.cluster} at {served.url}", err=True)
        await serve_http(app, listening)


def _protocol(settings: Settings) -> dict[str, Any]:
    """What both transports' servers are built with."""
    from oncall.ports import proposal_news

    return {
        "news": partial(proposal_news, settings),
        "confirmation": settings.mcp.confirmation,
        "state_keys": state_keys(settings.mcp),
    }


def state_keys(mcp: McpSettings) -> tuple[str, ...]:
    """The keys that replicas share, from the file or the settings; none where neither says any. Raises SettingsError."""
    where = "mcp.state_keys"
    text = mcp.state_keys.get_secret_value() if mcp.state_keys else ""
    if mcp.state_keys_file is not None:
        where = f"mcp.state_keys_file {mcp.state_keys_file}"
        try:
            text = mcp.state_keys_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{where} cannot be read: {error}. Correct the path, or set SMOKEJUMPER_MCP__STATE_KEYS.") from error
        if not text.split():
            raise SettingsError(f"{where} is empty. It holds one or more keys of {STATE_KEY_LENGTH} characters or more.")
    keys = tuple(text.split())
    if any(len(key.encode()) < STATE_KEY_LENGTH for key in keys) or len(set(keys)) != len(keys):
        raise SettingsError(f"{where}: each key has {STATE_KEY_LENGTH} characters or more and stands there once: openssl rand -hex 32.")
    return keys


async def _authentication(settings: Settings, url: str) -> Authentication | None:
    from mcp_server.authentication import Authentication, Issuer, find_keys

    oidc = settings.oidc
    if oidc.issuer is None:
        return None
    issuer = Issuer(
        oidc.issuer,
        oidc.keys_url or await find_keys(oidc.issuer),
        oidc.audience or url,
        username_claim=oidc.username_claim,
        username_prefix=oidc.username_prefix,
        groups_claim=oidc.groups_claim,
        groups_prefix=oidc.groups_prefix,
    )
    return Authentication(issuer, url)
