"""The server of `incident` as a process: `python -m tests.mcp_server.stdio_server FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from mcp_server.registry import ToolContext
from mcp_server.server import build_server, serve_stdio
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import context, open_incident


async def main(folder: Path) -> None:
    reader = open_incident(folder)

    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    await serve_stdio(build_server(toolset(), factory, cluster="recording"))


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
