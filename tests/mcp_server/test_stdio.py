"""One real process over stdio, as Claude or an IDE starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

ROOT = Path(__file__).parents[2]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_process_lists_and_diagnoses_over_stdio(tmp_path: Path, mode: str) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "tests.mcp_server.stdio_server", str(tmp_path)], cwd=str(ROOT), env={"PYTHONPATH": str(ROOT)}
    )
    async with Client(command, mode=mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("pod_diagnose", {"namespace": "ml", "name": "serve-5c9f7-abcde"})
        refused = await client.call_tool("remediation_execute", {"proposal_id": "p1", "digest": "0" * 64})
    assert "pod_diagnose" in names
    assert result.structured_content is not None
    assert result.structured_content["causes"][0]["object"]["name"] == "serve"
    assert refused.is_error
