"""`smokejumper mcp` as a client meets it: the SDK's own client over stdio, a lab cluster behind it, the gate in front of it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent

from tests.lab.lab import Lab

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def client(state: Path, *arguments: str) -> AsyncIterator[ClientSession]:
    """A session with a server process of its own."""
    code = "from oncall.cli import main; main()"
    environment = {"PATH": os.environ["PATH"], "HOME": str(state), "PYTHONPATH": str(ROOT)}
    server = StdioServerParameters(
        command=sys.executable, args=["-c", code, "--state", str(state / "state"), *arguments], env=environment, cwd=str(ROOT)
    )
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


def text(result: CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.anyio
async def test_a_pod_of_a_real_cluster_is_diagnosed(lab: Lab, tmp_path: Path) -> None:
    with lab.loaded("rollout-bad-image"):
        pods = lab.client().list("v1", "Pod", "ml")
        [broken] = [pod["metadata"]["name"] for pod in pods if "cu13x" in str(pod["spec"])]
        since = lab.audit.mark()
        async with client(tmp_path, "--kubeconfig", str(lab.kubeconfig("executor")), "mcp") as session:
            listed = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert not [name for name in listed if "approve" in name]
        async with client(tmp_path, "--kubeconfig", str(lab.kubeconfig("reader")), "mcp") as session:
            found = await session.call_tool("pod_diagnose", {"namespace": "ml", "name": broken})
            assert "Deployment/ml/serve: Image does not exist (proven" in text(found)
            assert found.structured_content is not None
            assert found.structured_content["causes"][0]["class"] == "image/bad-reference"
            near = await session.call_tool("pod_diagnose", {"namespace": "ml", "name": broken[:-1]})
            assert near.is_error
            assert broken in text(near)
            wish = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}
            refused = await session.call_tool("remediation_propose", wish)
            assert refused.is_error
            assert "people add" in text(refused)
        assert lab.audit.writes(since=since) == ()


@pytest.mark.anyio
async def test_an_incident_is_discussed_after_the_fact(tmp_path: Path) -> None:
    async with client(tmp_path, "mcp", "--recording", str(ROOT / "examples" / "serve-rollout")) as session:
        overview = await session.call_tool("cluster_overview", {})
        assert "nvidia.com/gpu" in text(overview)
        answer = await session.call_tool("investigate", {"question": "why is the rollout of serve stuck?", "namespace": "ml"})
        assert "Deployment/ml/serve" in text(answer)
