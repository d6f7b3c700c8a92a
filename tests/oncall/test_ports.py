"""What tools reach through the ports: a verdict without a proposal, and the owner's prices."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from cluster.recorded import RecordedReader
from cluster.world import World
from guardrails.directory import Directory
from guardrails.office import PEOPLE
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Caller, Page
from mcp_server.tools.catalogue import toolset
from oncall.desk import open_records
from oncall.ports import tool_context
from oncall.settings import Settings, load
from oncall.turns import Turns

pytestmark = pytest.mark.anyio
RECORDING = Path(__file__).parents[2] / "examples" / "serve-rollout"
WISH = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    people = Directory.load(tmp_path / PEOPLE)
    people.add("rita", ("sre-oncall",), os_users=("rita",))
    return load({"state_dir": tmp_path, "prices": {"currency": "EUR", "per_device_hour": {"*H100*": 2.5}}}, None)


async def asked(settings: Settings, tool: str, **arguments: Any) -> Page:
    reader = RecordedReader.open(RECORDING)
    return (await toolset().call(tool, arguments, tool_context(settings, reader, Caller("rita"), Turns()))).render()


async def test_the_policy_is_asked_and_nothing_is_kept(settings: Settings) -> None:
    page = await asked(settings, "policy_explain", **WISH)
    said = page.structured["proposal"]
    assert said["effect"] == "approve"
    assert said["needs"] == {"sre-oncall": 1}
    assert any(rule.endswith("(approve)") for rule in said["rules"])
    assert any("deny by" in line for line in said["would_differ"]), said["would_differ"]
    assert page.lines[0].startswith("effect: approve")
    async with open_records(settings) as desk:
        assert await desk.gate.list() == ()


async def test_a_target_that_is_not_there_is_refused_in_words(settings: Settings) -> None:
    with pytest.raises(ToolRefusal, match="gone"):
        await asked(settings, "policy_explain", **{**WISH, "name": "gone"})
    with pytest.raises(ToolRefusal, match="policy_explain: "):
        await asked(settings, "policy_explain", **{**WISH, "kind": "Node", "namespace": None})


async def test_of_a_recording_of_one_namespace_that_one_is_investigated(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "recording.yaml").write_text(
        "{format: 1, cluster: lab, now: '2026-01-15T12:00:00Z', namespaces: [ml], kinds_read: [HorizontalPodAutoscaler, Deployment]}"
    )
    (tmp_path / "objects.yaml").write_text(
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: serve, namespace: ml}, spec: {maxReplicas: 3,"
        " scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: gone}}}"
    )
    context = tool_context(settings, RecordedReader.open(tmp_path), Caller("rita"), Turns())
    page = (await toolset().call("investigate", {"question": "What is broken?"}, context)).render()
    assert [(cause["code"], cause["certainty"]) for cause in page.structured["causes"]] == [("hpa.target-missing", "proven")]


async def test_prices_are_the_configured_ones(settings: Settings) -> None:
    page = await asked(settings, "cost_report")
    assert "working    3 devices, 7.50 EUR" in page.lines
    assert not [line for line in page.lines if line.startswith("without a price")]


async def test_an_investigation_waits_for_its_turn_and_says_so(settings: Settings) -> None:
    turns = Turns(1)
    reader = RecordedReader.open(RECORDING)
    told = anyio.Event()
    said: list[str] = []

    async def progress(text: str) -> None:
        said.append(text)
        told.set()

    context = replace(tool_context(settings, reader, Caller("rita"), turns), progress=progress)
    pages: list[Page] = []

    async def ask() -> None:
        pages.append((await toolset().call("investigate", {"question": "What is broken?"}, context)).render())

    async with anyio.create_task_group() as tasks, turns.slots:
        tasks.start_soon(ask)
        await told.wait()
        assert said == ["other investigations come first"]
    assert pages[0].structured["causes"]
    assert len(said) > 1


async def test_a_server_keeps_no_facts_of_what_it_investigated(settings: Settings) -> None:
    gc.collect()
    others = {id(found) for found in gc.get_objects() if isinstance(found, World)}
    gc.disable()
    try:
        page = await asked(settings, "investigate", question="What is broken?")
        left = [found for found in gc.get_objects() if isinstance(found, World) and found.facts and id(found) not in others]
    finally:
        gc.enable()
    assert page.structured["causes"]
    assert not left
