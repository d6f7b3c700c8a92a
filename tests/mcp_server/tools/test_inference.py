"""Model servers as tools."""

from __future__ import annotations

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import text_of
from tests.mcp_server.incident import call

pytestmark = pytest.mark.anyio


async def test_a_model_is_a_row_with_engine_and_replicas(reader: RecordedReader) -> None:
    page = (await call(reader, "inference_list")).render()
    assert [row[:5] for row in page.structured["rows"]] == [["ml", "serve", "Deployment", "vLLM", "0/1"]]
    assert page.lines[0].startswith("1 model servers in all namespaces, 1 lack replicas")
    assert (await call(reader, "inference_list", namespace="web")).render().structured["rows"] == []


async def test_a_model_is_diagnosed_by_its_name(reader: RecordedReader) -> None:
    page = (await call(reader, "inference_diagnose", namespace="ml", name="serve")).render()
    assert "Deployment/ml/serve: Image does not exist" in text_of(page)
    assert page.structured["beside"]["rows"][0][1] == "serve"


async def test_a_model_that_is_not_there_names_the_nearest(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="nothing in ml is called 'serv'; nearest names: serve"):
        await call(reader, "inference_diagnose", namespace="ml", name="serv")
    with pytest.raises(ToolRefusal, match="namespace 'mll' does not exist"):
        await call(reader, "inference_diagnose", namespace="mll", name="serve")
