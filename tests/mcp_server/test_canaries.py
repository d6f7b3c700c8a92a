"""No planted secret comes out of any tool, resource, template, prompt or completion, whatever is asked, in either era."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from mcp.client import Client

from cluster.recorded import RecordedReader
from mcp_server.registry import ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.everything import ask_everything
from tests.mcp_server.incident import CANARIES, context

POISON = "hf_canary09canary09canary09"
OBJECTS = (
    {"kind": "Pod", "namespace": "ml", "name": "serve-5c9f7-abcde", "pod": "serve-5c9f7-abcde"},
    {"kind": "Deployment", "namespace": "ml", "name": "serve", "workload": "Deployment/serve"},
    {"kind": "Pod", "namespace": "web", "name": "shop-1", "pod": "shop-1", "container": "shop"},
    {"kind": "ConfigMap", "namespace": "ml", "name": "settings"},
    {"kind": "Secret", "namespace": "ml", "name": "tokens"},
    {"kind": "Pod", "namespace": "ml", "name": "train-0", "pod": "train-0"},
    {"kind": "Node", "namespace": "-", "name": "cpu-1", "node": "cpu-1"},
)
WORDS = {"question": "why does serve not start?", "proposal_id": "p1", "action": "rollout_restart"}


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_nothing_that_is_asked_brings_a_secret_out(reader: RecordedReader, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[ToolContext]:
        yield context(reader)

    async with Client(build_server(toolset(), factory, cluster="lab"), mode=mode) as client:
        asked = await ask_everything(client, OBJECTS, WORDS, POISON)
    # What is not shown was there to be shown: the objects that hold the secrets were.
    said = "\n".join(answer for _, answer in asked.answers)
    for shown in ("serve-5c9f7-abcde", "settings", "cannot reach upstream", "manifest unknown"):
        assert shown in said
    assert asked.leaks({**{canary: canary for canary in CANARIES}, "an argument": POISON}) == []
    printed = capfd.readouterr()
    assert not [canary for canary in (*CANARIES, POISON) if canary in printed.out + printed.err]
    # Most tools had something to say; what needs a source or a kind that this recording lacks said so.
    names = {spec.name for spec in toolset()}
    assert len(names & asked.worked) > len(names) * 2 / 3
