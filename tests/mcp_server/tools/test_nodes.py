"""Nodes as a tool: worst first, with what is held of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.recorded import RecordedReader
from mcp_server.result import text_of
from tests.mcp_server.incident import call
from tests.mcp_server.tools.test_gpus import node, pod, recorded

pytestmark = pytest.mark.anyio


async def test_withdrawn_devices_and_pods_are_counted(reader: RecordedReader) -> None:
    page = (await call(reader, "nodes_list")).render()
    [row] = page.structured["rows"]
    assert row[:7] == ["cpu-1", "Ready", "", "2/110", "0/8", "0/32 GiB", "0/0 of 8 nvidia.com/gpu"]


async def test_the_worst_come_first_and_filters_choose(tmp_path: Path) -> None:
    plain = {"kind": "Node", "metadata": {"name": "cpu"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    sick = {**node("sick"), "status": {**node("sick")["status"], "conditions": [{"type": "Ready", "status": "False", "message": "gone"}]}}
    reader = recorded(tmp_path, node("a"), node("b", unschedulable=True), plain, sick, pod("p", "a", 8))
    page = (await call(reader, "nodes_list")).render()
    assert [row[0] for row in page.structured["rows"]] == ["b", "sick", "a", "cpu"]
    assert page.structured["rows"][1][1:3] == ["NotReady", "Ready=False gone"]
    assert page.structured["rows"][2][6] == "8/8 nvidia.com/gpu"
    assert "4 nodes, 2 with problems" in text_of(page)
    only = (await call(reader, "nodes_list", problem_only=True, gpu_only=True)).render()
    assert [row[0] for row in only.structured["rows"]] == ["b", "sick"]
