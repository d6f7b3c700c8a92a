"""Why a pod has no node, node by node."""

from __future__ import annotations

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from tests.mcp_server.incident import call, text

pytestmark = pytest.mark.anyio


async def test_nodes_are_grouped_by_what_keeps_the_pod_off(reader: RecordedReader) -> None:
    page = (await call(reader, "scheduling_explain", namespace="ml", name="train-0")).render()
    ((count, reasons, names),) = page.structured["beside"]["rows"]
    assert (count, names) == ("1", "cpu-1")
    assert "nvidia.com/gpu" in reasons
    assert page.structured["causes"]


async def test_a_scheduled_pod_is_refused_with_what_to_use(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="is on node cpu-1 already; pod_diagnose"):
        await text(reader, "scheduling_explain", namespace="web", name="shop-1")
