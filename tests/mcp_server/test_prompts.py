"""Prompts, resources and completions through the SDK's client, in both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from cluster.recorded import RecordedReader
from mcp_server.prompts import EVIDENCE_URI, INVESTIGATION_URI, OBJECT_URI, PROPOSAL_URI, Answers
from mcp_server.registry import ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import CANARIES, context

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


def served(reader: RecordedReader) -> MCPServer:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    return build_server(toolset(), factory, cluster="lab")


def said(result: Any) -> str:
    [message] = result.messages
    return str(message.content.text)


@ERAS
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("triage_incident", {"question": "why does serve not start?"}, "Image does not exist"),
        ("explain_pending", {"namespace": "ml", "name": "train-0"}, "nodes, by what keeps the pod off them"),
        ("gpu_node_triage", {"node": "cpu-1"}, "8 sick"),
        ("inference_latency", {"namespace": "ml", "name": "serve"}, "where its time goes"),
        ("training_failure", {"namespace": "ml", "name": "train-0"}, "Explain this to the person on call"),
        ("review_remediation", {"proposal_id": "p1"}, "p1"),
        ("postmortem", {"question": "what happened to serve?"}, "Draft a postmortem"),
    ],
)
async def test_a_prompt_holds_what_was_found(reader: RecordedReader, mode: str, name: str, arguments: dict[str, str], words: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        text = said(await client.get_prompt(name, arguments))
    assert words in text
    assert not [canary for canary in CANARIES if canary in text]


@ERAS
async def test_an_object_is_read_by_its_address(reader: RecordedReader, mode: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        templates = {item.uri_template for item in (await client.list_resource_templates()).resource_templates}
        assert templates == {OBJECT_URI, PROPOSAL_URI, INVESTIGATION_URI, EVIDENCE_URI}
        [found] = (await client.read_resource("k8s://ml/Deployment/serve")).contents
        assert "serve" in found.text  # type: ignore[union-attr]
        [node] = (await client.read_resource("k8s://-/Node/cpu-1")).contents
        assert "cpu-1" in node.text  # type: ignore[union-attr]


@ERAS
@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("k8s://ml/Deployment/serv", "nearest deployments: serve"),
        ("k8s://ml/Secret/token", "Secrets are never read"),
        ("k8s://ml/Banana/serve", "nearest|can be read"),
    ],
)
async def test_what_cannot_be_read_is_said_in_words(reader: RecordedReader, mode: str, uri: str, words: str) -> None:
    async with Client(served(reader), mode=mode) as client:
        with pytest.raises(MCPError, match=words):
            await client.read_resource(uri)


@ERAS
async def test_names_are_completed(reader: RecordedReader, mode: str) -> None:
    template = ResourceTemplateReference(uri=OBJECT_URI)

    async def completed(client: Client, ref: Any, name: str, value: str, **chosen: str) -> list[str]:
        return (await client.complete(ref, {"name": name, "value": value}, chosen or None)).completion.values

    async with Client(served(reader), mode=mode) as client:
        assert await completed(client, template, "namespace", "m") == ["ml"]
        assert await completed(client, template, "kind", "Deploy") == ["Deployment"]
        assert await completed(client, template, "name", "s", namespace="ml", kind="Deployment") == ["serve"]
        assert await completed(client, template, "name", "", namespace="ml") == []
        assert await completed(client, template, "name", "c", kind="Node", namespace="-") == ["cpu-1"]
        assert await completed(client, PromptReference(name="explain_pending"), "name", "train", namespace="ml") == ["train-0"]
        assert await completed(client, PromptReference(name="gpu_node_triage"), "node", "") == ["cpu-1"]
        assert await completed(client, PromptReference(name="triage_incident"), "question", "why") == []
        with pytest.raises(MCPError, match="Secrets are never read"):
            await completed(client, template, "name", "", namespace="ml", kind="secret")


async def test_a_prompt_goes_with_its_tools(reader: RecordedReader) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    async with Client(build_server(toolset(("core",)), factory)) as client:
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["triage_incident", "explain_pending", "postmortem"]
        templates = [item.uri_template for item in (await client.list_resource_templates()).resource_templates]
        assert templates == [OBJECT_URI, INVESTIGATION_URI, EVIDENCE_URI]
    async with Client(served(reader)) as client:
        assert len((await client.list_prompts()).prompts) == 7


async def test_nothing_but_reading_stands_behind_a_prompt(reader: RecordedReader) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    with pytest.raises(ValueError, match="does more than read"):
        await Answers(toolset(), factory, 5.0).text("remediation_execute", proposal_id="p1")


@ERAS
async def test_a_crash_behind_a_prompt_shows_nothing(mode: str) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[ToolContext]:
        if mode:
            raise RuntimeError("token hf_canary06canary06canary06canary06")
        yield context(None)  # type: ignore[arg-type]

    async with Client(build_server(toolset(), broken), mode=mode) as client:
        for ask in (client.get_prompt("triage_incident", {"question": "?"}), client.read_resource("k8s://ml/Pod/x")):
            with pytest.raises(MCPError) as caught:
                await ask
            assert "canary" not in str(caught.value)
