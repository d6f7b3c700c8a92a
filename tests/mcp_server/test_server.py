"""The server through the SDK's own client, in both protocol eras."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer

from cluster.errors import UnreachableClusterError
from cluster.reading import Cost
from cluster.recorded import RecordedReader
from mcp_server.groups import DEFAULT_GROUPS, GROUPS
from mcp_server.registry import Answer, Caller, Page, ToolContext, Toolset
from mcp_server.server import INSTRUCTIONS, LARGE_BYTES, build_server
from mcp_server.tools.catalogue import ALL, toolset
from tests.mcp_server.calls import CALLS
from tests.mcp_server.incident import CANARIES, INJECTION, NOW, context

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
DIGEST = "0" * 64


def served(reader: RecordedReader, tools: Toolset | None = None) -> MCPServer:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    return build_server(tools or toolset(), factory, cluster="lab")


def said(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


@ERAS
async def test_every_tool_is_listed_with_title_schemas_and_hints(reader: RecordedReader, mode: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == [spec.name for spec in ALL]
    for spec in ALL:
        tool = tools[spec.name]
        assert tool.title
        assert tool.output_schema
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is (spec.access.value == "read")
        assert tool.annotations.destructive_hint is (spec.access.value == "gated")
        assert tool.meta is not None
        assert set(tool.meta) >= {"smokejumper.dev/rbac", "smokejumper.dev/access"}


@pytest.mark.parametrize(("groups", "tokens"), [(DEFAULT_GROUPS, 5_000), (GROUPS, 9_000)], ids=["default", "all"])
async def test_the_listing_keeps_to_its_budget(reader: RecordedReader, groups: tuple[str, ...], tokens: int) -> None:
    """4 bytes of JSON are about one token; of a listing most clients show a model less than half."""
    async with Client(served(reader, toolset(groups))) as client:
        tools = (await client.list_tools()).tools
    full = [tool.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"meta"}) for tool in tools]
    model = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in full]
    assert len(json.dumps(full, separators=(",", ":"))) // 4 <= tokens
    assert len(json.dumps(model, separators=(",", ":"))) // 4 <= tokens * 2 // 3


def test_instructions_fit_where_clients_cut_them() -> None:
    assert len(INSTRUCTIONS) < 2_000


@ERAS
async def test_every_call_answers_text_and_valid_data_and_shows_no_secret(reader: RecordedReader, mode: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        await client.list_tools()
        for name, arguments in CALLS:
            result = await client.call_tool(name, arguments)
            assert not result.is_error, (name, said(result))
            assert result.structured_content
            everything = said(result) + json.dumps(result.structured_content)
            assert not [canary for canary in CANARIES if canary in everything], name
    assert {name for name, _ in CALLS} == {spec.name for spec in ALL} - {"remediation_execute", "investigation_get"}


@ERAS
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("pods_list", {"namespaces": "ml"}, "unknown argument 'namespaces'; nearest arguments: namespace"),
        ("pods_list", {"limit": "many"}, "argument 'limit'"),
        ("pod_diagnose", {"namespace": "ml", "name": "train-1"}, "nearest pods: train-0"),
        ("resource_get", {"kind": "Secret", "namespace": "ml", "name": "tokens"}, "Secrets are never read"),
        ("remediation_execute", {"proposal_id": "p1", "digest": DIGEST}, "is not approved"),
    ],
)
async def test_refusals_are_errors_in_words(reader: RecordedReader, mode: str, name: str, arguments: dict[str, Any], message: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        result = await client.call_tool(name, arguments)
    assert result.is_error
    assert message in said(result)
    assert "Traceback" not in said(result)


@ERAS
async def test_an_unknown_tool_is_an_error(reader: RecordedReader, mode: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        result = await client.call_tool("kubectl", {"command": "delete ns ml"})
    assert result.is_error
    assert said(result) == "Unknown tool: kubectl"


@ERAS
async def test_progress_is_told(reader: RecordedReader, mode: str) -> None:
    heard: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with Client(served(reader), mode=mode) as client:
        await client.call_tool("investigate", {"question": "what broke?"}, progress_callback=hear)
    assert [words for words in heard if words and not words.startswith("begun as smokejumper://investigations/inv-")] == ["reading"]
    assert len(heard) == 2


async def test_a_cluster_that_cannot_be_reached_is_said_in_words() -> None:
    class Unreachable(AbstractAsyncContextManager[ToolContext]):
        async def __aenter__(self) -> ToolContext:
            raise UnreachableClusterError("cannot reach https://127.0.0.1:1; check the VPN")

        async def __aexit__(self, *_: object) -> None:
            return None

    async with Client(build_server(toolset(), Unreachable)) as client:
        result = await client.call_tool("pods_list", {})
    assert result.is_error
    assert said(result) == "cannot reach https://127.0.0.1:1; check the VPN"


async def test_a_crash_shows_nothing_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(AbstractAsyncContextManager[ToolContext]):
        async def __aenter__(self) -> ToolContext:
            raise RuntimeError("token hf_canary06canary06canary06canary06")

        async def __aexit__(self, *_: object) -> None:
            return None

    async with Client(build_server(toolset(), Broken)) as client:
        result = await client.call_tool("pods_list", {})
    assert result.is_error
    assert said(result) == "pods_list failed inside Smokejumper; its log on stderr has the details"
    assert "pods_list" in caplog.text


async def test_a_slow_reading_ends_with_advice(reader: RecordedReader) -> None:
    import anyio

    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        await anyio.sleep_forever()
        yield ToolContext(reader, Caller("x"), lambda: NOW)

    async with Client(build_server(toolset(), factory, deadline_seconds=0.05)) as client:
        result = await client.call_tool("pods_list", {})
    assert result.is_error
    assert "took longer than 0.05 s; ask about one namespace" in said(result)


@ERAS
async def test_instructions_in_a_log_stay_data(reader: RecordedReader, mode: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        lines = said(await client.call_tool("logs_search", {"namespace": "web", "pod": "shop-1"})).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("<<untrusted"))
    mark = lines[start].split()[1].rstrip(":")
    end = lines.index(f"untrusted {mark}>>")
    (place,) = [number for number, line in enumerate(lines) if INJECTION in line]
    assert start < place < end


@ERAS
async def test_capabilities_and_the_prompt(reader: RecordedReader, mode: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        uris = [str(item.uri) for item in (await client.list_resources()).resources]
        (content,) = (await client.read_resource("smokejumper://capabilities")).contents
        prompt = await client.get_prompt("triage_incident", {"question": "what broke in ml?"})
    capabilities = json.loads(getattr(content, "text", ""))
    assert capabilities["cluster"] == "lab"
    assert {tool["name"] for tool in capabilities["tools"]} == {spec.name for spec in ALL}
    assert [uri for uri in uris if uri.startswith("runbook://")] == [f"runbook://{name}" for name in capabilities["runbooks"]]
    assert "Deployment/ml/serve" in str(prompt.messages[0].content)


async def test_what_was_read_in_many_bytes_is_rendered_off_the_event_loop(reader: RecordedReader) -> None:
    rendered: list[int] = []

    async def run(_context: ToolContext, _arguments: Any) -> Answer:
        def render() -> Page:
            rendered.append(threading.get_ident())
            return Page(("done",), {})

        return Answer(render, cost=Cost(1, LARGE_BYTES + len(rendered)))

    tools = Toolset((replace(toolset().spec("cluster_overview"), run=run),))
    async with Client(served(reader, tools)) as client:
        for _ in range(2):
            assert not (await client.call_tool("cluster_overview", {})).is_error
    on_loop, apart = rendered
    assert on_loop == threading.get_ident() != apart
