"""Changes as a tool: of all, or of one workload."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from tests.mcp_server.incident import NOW, call

pytestmark = pytest.mark.anyio
ROLLOUT = Path(__file__).parents[3] / "examples" / "serve-rollout"


async def test_what_a_rollout_changed_and_when() -> None:
    reader = RecordedReader.open(ROLLOUT)
    page = (await call(reader, "changes_list", namespace="ml", workload="deploy/serve")).render()
    assert page.structured["rows"][0][1:3] == ["Deployment/ml/serve", "revision 1 to 2"]
    assert "image: " in page.structured["rows"][0][3]
    assert page.lines[0].startswith("3 changes of Deployment/ml/serve in 24 hours")


async def test_the_span_is_the_callers(reader: RecordedReader) -> None:
    assert reader.now() == NOW
    assert (await call(reader, "changes_list")).render().structured["rows"] == []
    assert (await call(reader, "changes_list", hours=720)).render().structured["rows"][0][1] == "Node/cpu-1"


@pytest.mark.parametrize("arguments", [{"workload": "serve"}, {"workload": "deploy/serve"}, {"workload": "deploy/", "namespace": "ml"}])
async def test_a_workload_is_named_whole(reader: RecordedReader, arguments: dict[str, str]) -> None:
    with pytest.raises(ToolRefusal, match="KIND/NAME"):
        await call(reader, "changes_list", **arguments)
