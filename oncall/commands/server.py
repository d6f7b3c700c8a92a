"""`smokejumper mcp`: the tools for a chat client or an IDE, over stdio."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from oncall.invocation import Invocation


def mcp(
    context: typer.Context,
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    recording: Annotated[Path | None, typer.Option(help="Serve a recording: an incident can be discussed after the fact.")] = None,
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
) -> None:
    """Serve the tools over MCP on stdin and stdout. No tool approves; a write needs the same grant as everywhere."""
    import anyio

    from oncall.assembly import tune_collector

    invocation: Invocation = context.obj.with_context(cluster_context)
    tune_collector()
    anyio.run(_serve, invocation, recording, now)


async def _serve(invocation: Invocation, recording: Path | None, now: str | None) -> None:
    from mcp_server.registry import Caller, ToolContext
    from mcp_server.server import build_server, serve_stdio
    from mcp_server.tools.catalogue import toolset
    from oncall.asking import moment
    from oncall.assembly import open_reader
    from oncall.ports import tool_context

    async with open_reader(invocation.settings, recording, moment(now)) as reader:
        held = tool_context(invocation.settings, reader, Caller(getpass.getuser()))

        async def context() -> ToolContext:
            return held

        await serve_stdio(build_server(toolset(), context, cluster=reader.cluster))
