"""Devices of one node or pod as tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import text_of
from tests.mcp_server.incident import call
from tests.mcp_server.tools.test_gpus import node, pod, recorded

pytestmark = pytest.mark.anyio


async def test_who_holds_what_of_a_cluster_a_node_and_a_pod(tmp_path: Path) -> None:
    reader = recorded(tmp_path, node("a"), node("b"), pod("p", "a", 3), pod("q", "b", 8))
    page = (await call(reader, "gpu_allocation")).render()
    assert page.lines[0] == "11 accelerators held by 2 pods"
    assert [row[:5] for row in page.structured["rows"]] == [
        ["a", "nvidia.com/gpu", "3", "device plugin", "ml/p"],
        ["b", "nvidia.com/gpu", "8", "device plugin", "ml/q"],
    ]
    for arguments, lines in (
        ({"node": "b"}, "8 accelerators held by 1 pods of Node/b"),
        ({"namespace": "ml", "pod": "p"}, "3 accelerators"),
    ):
        assert (await call(reader, "gpu_allocation", **arguments)).render().lines[0].startswith(lines)


async def test_devices_of_a_claim_are_counted_once_for_its_pods(tmp_path: Path) -> None:
    devices = {"driver": "gpu.nvidia.com", "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1}}
    published = {"kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": {**devices, "nodeName": "a", "devices": [{"name": "gpu-0"}]}}
    result = {"request": "r", "driver": "gpu.nvidia.com", "pool": "a", "device": "gpu-0"}
    claim = {
        "kind": "ResourceClaim",
        "metadata": {"name": "c", "namespace": "ml"},
        "status": {
            "allocation": {"devices": {"results": [result]}},
            "reservedFor": [{"resource": "pods", "name": name, "uid": name} for name in "xy"],
        },
    }
    reader = recorded(tmp_path, node("a", 0), published, claim)
    page = (await call(reader, "gpu_allocation")).render()
    assert page.lines[0] == "1 accelerators held by 2 pods"
    assert {(row[3], row[6]) for row in page.structured["rows"]} == {("claim c", "gpu-0")}


async def test_health_is_the_diagnosis_and_the_devices_beside_it(reader: RecordedReader) -> None:
    page = (await call(reader, "gpu_health", node="cpu-1")).render()
    assert "Node/cpu-1: The node offers none of its devices" in text_of(page)
    [row] = page.structured["beside"]["rows"]
    assert row[:4] == ["cpu-1", "nvidia.com/gpu", "", "sick"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "about one node, or one pod"),
        ({"node": "cpu-1", "namespace": "ml", "pod": "train-0"}, "not both"),
        ({"node": "cpu-2"}, "nearest nodes: cpu-1"),
        ({"pod": "train-0"}, "'namespace' is required"),
    ],
)
async def test_what_it_is_about_is_said_once(reader: RecordedReader, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(ToolRefusal, match=said):
        await call(reader, "gpu_health", **arguments)


async def test_a_pod_without_a_node_has_no_devices_yet(reader: RecordedReader) -> None:
    text = text_of((await call(reader, "gpu_health", namespace="ml", pod="train-0")).render())
    assert "no accelerator of Pod/ml/train-0 (it has no node yet) can be seen" in text
