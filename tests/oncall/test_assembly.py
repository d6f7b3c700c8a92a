"""The parts together: who plans, and what an investigation says of itself in the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.llm_planner import ModelPlanner
from agent.planner import RulePlanner
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from oncall import telemetry
from oncall.assembly import investigate, planning
from oncall.settings import load

RECORDING = Path(__file__).parent.parent.parent / "examples" / "serve-rollout"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = before, level


@pytest.mark.anyio
async def test_an_investigation_leaves_its_beginning_and_end_in_the_log(stream: io.StringIO, tmp_path: Path) -> None:
    telemetry.configure("info", stream)
    settings = load({"state_dir": tmp_path}, None)
    reader = RecordedReader.open(RECORDING)
    concluded = await investigate(settings, reader, Scope(reader.cluster, ("ml",)), "token=hunter22")
    begins, ends = [record for line in stream.getvalue().splitlines() if "investigation" in (record := json.loads(line))["event"]]
    for record in (begins, ends):
        assert (record["cluster"], record["incident"], record["level"]) == ("lab", concluded.incident.id, "info")
    assert ends["event"].startswith("investigation ends: 1 causes, ")
    assert "hunter22" not in stream.getvalue()


@pytest.mark.anyio
async def test_the_rules_plan_unless_a_model_is_configured(tmp_path: Path) -> None:
    async with planning(load({"state_dir": tmp_path}, None)) as planner:
        assert isinstance(planner, RulePlanner)
    model = {"name": "local", "base_url": "http://127.0.0.1:1/v1"}
    async with planning(load({"state_dir": tmp_path, "model": model}, None)) as planner:
        assert isinstance(planner, ModelPlanner)
