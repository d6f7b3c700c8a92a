"""Investigations by id and verdicts without a proposal, as tools."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.recorded import RecordedReader
from cluster.reference import Scope
from mcp_server.archive import Kept, Phase
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Answer, Ports
from mcp_server.result import text_of
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import NOW, call, context, ports

pytestmark = pytest.mark.anyio
WISH = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}


async def look_up(reader: RecordedReader, kept: Kept) -> Answer:
    def find(name: str) -> Kept:
        assert name == kept.id
        return kept

    held: Ports = replace(ports(reader), kept=find)
    return await toolset().call("investigation_get", {"id": kept.id}, replace(context(reader), ports=held))


async def test_what_an_investigation_found_is_read_again(reader: RecordedReader) -> None:
    held = context(reader)
    assert held.ports is not None

    async def silent(_: str) -> None:
        return None

    found = await held.ports.investigate(Scope(reader.cluster), "what is wrong?", silent)
    page = (await look_up(reader, Kept("inv-1", held.caller, "what is wrong?", NOW, Phase.DONE, found=found))).render()
    assert "Deployment/ml/serve: Image does not exist" in text_of(page)


@pytest.mark.parametrize(("phase", "said"), [(Phase.RUNNING, "inv-1 is running: reading"), (Phase.FAILED, "inv-1 was cut off")])
async def test_one_that_found_nothing_yet_says_how_far_it_is(reader: RecordedReader, phase: Phase, said: str) -> None:
    page = (await look_up(reader, Kept("inv-1", context(reader).caller, "", NOW, phase, step="reading"))).render()
    assert text_of(page).startswith(said)
    assert page.structured["causes"] == []
    assert not page.structured["healthy"]


async def test_where_none_are_kept_that_is_said(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="no investigations are kept here"):
        await call(reader, "investigation_get", id="inv-1")


async def test_a_verdict_leads_with_its_effect(reader: RecordedReader) -> None:
    page = (await call(reader, "policy_explain", **WISH)).render()
    assert page.lines[:3] == ("effect: approve", "reason: Needs approval: 1 of platform.", "needs.platform: 1")
    with pytest.raises(ToolRefusal, match="policy_explain: "):
        await call(reader, "policy_explain", **{**WISH, "kind": "Node", "namespace": None})
    bare = replace(context(reader), ports=replace(ports(reader), weigh=None))
    with pytest.raises(ToolRefusal, match="no gate is attached"):
        await toolset().call("policy_explain", WISH, bare)
