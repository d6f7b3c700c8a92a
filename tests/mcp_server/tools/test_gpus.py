"""The inventory of accelerators as a tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import text_of
from tests.mcp_server.incident import call

pytestmark = pytest.mark.anyio


def node(name: str, usable: int = 8, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": "H100"}},
        "spec": spec,
        "status": {
            "capacity": {"cpu": "64", "nvidia.com/gpu": "8"},
            "allocatable": {"cpu": "64", "nvidia.com/gpu": str(usable)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, on: str, count: int) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": count}}}]},
        "status": {"phase": "Running", "startTime": "2026-01-15T09:00:00Z"},
    }


def recorded(folder: Path, *items: dict[str, Any]) -> RecordedReader:
    (folder / "objects.yaml").write_text(json.dumps({"kind": "List", "items": items}))
    return RecordedReader.open(folder)


async def test_the_incidents_node_has_eight_sick_devices(reader: RecordedReader) -> None:
    page = (await call(reader, "gpu_inventory")).render()
    assert page.lines[0] == "recording: 8 accelerators, 0 held, 0 free, 8 sick"
    [row] = page.structured["rows"]
    assert row[:8] == ["cpu-1", "nvidia.com/gpu", "", "sick", "8", "0", "0", "8"]
    assert "withdrawn" in row[9] or "offers none" in row[9]
    assert any("ResourceSlice" in line or "resourceslices" in line for line in page.structured["cannot_see"])


async def test_the_worst_come_first_and_pages_go_on(tmp_path: Path) -> None:
    nodes = (node("a"), node("b"), node("c", 7), node("d", unschedulable=True), node("e"))
    reader = recorded(tmp_path, *nodes, pod("p", "a", 8))
    rows: list[list[str]] = []
    cursor = None
    while True:
        page = (await call(reader, "gpu_inventory", limit=2, cursor=cursor)).render()
        rows += page.structured["rows"]
        cursor = page.cursor
        if cursor is None:
            break
    assert [(row[0], row[3]) for row in rows] == [("c", "sick"), ("d", "closed"), ("b", "free"), ("e", "free"), ("a", "held")]
    assert rows[-1][8].startswith("Pod/ml/p 8 for ")


async def test_one_node_or_one_state(tmp_path: Path) -> None:
    reader = recorded(tmp_path, node("a"), node("b", 7), pod("p", "a", 8))
    only = (await call(reader, "gpu_inventory", node="a")).render()
    assert [row[0] for row in only.structured["rows"]] == ["a"]
    sick = (await call(reader, "gpu_inventory", state="sick")).render()
    assert [row[0] for row in sick.structured["rows"]] == ["b"]
    with pytest.raises(ToolRefusal, match="state"):
        await call(reader, "gpu_inventory", state="broken")


async def test_a_cluster_without_devices_says_so(tmp_path: Path) -> None:
    reader = recorded(tmp_path, {"kind": "Node", "metadata": {"name": "a"}, "status": {"capacity": {"cpu": "8"}}})
    assert "no accelerator that can be seen" in text_of((await call(reader, "gpu_inventory")).render())
