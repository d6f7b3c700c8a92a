"""Volumes as a tool."""

from __future__ import annotations

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import text_of
from tests.mcp_server.incident import call

pytestmark = pytest.mark.anyio


async def test_a_claim_says_how_it_stands(reader: RecordedReader) -> None:
    page = (await call(reader, "storage_diagnose", namespace="ml", claim="weights")).render()
    [row] = page.structured["beside"]["rows"]
    assert row[:8] == ["weights", "Bound", "fast", "ReadWriteOnce", "100 GiB", "100 GiB", "", "pv-1"]


async def test_a_pod_without_claims_says_so(reader: RecordedReader) -> None:
    page = (await call(reader, "storage_diagnose", namespace="ml", pod="train-0")).render()
    assert "Pod/ml/train-0 has no claim that can be seen" in text_of(page)


@pytest.mark.parametrize("arguments", [{}, {"claim": "weights", "pod": "train-0"}])
async def test_it_is_about_a_claim_or_a_pod(reader: RecordedReader, arguments: dict[str, str]) -> None:
    with pytest.raises(ToolRefusal, match="give either claim or pod"):
        await call(reader, "storage_diagnose", namespace="ml", **arguments)
    with pytest.raises(ToolRefusal, match="nearest persistentvolumeclaims: weights"):
        await call(reader, "storage_diagnose", namespace="ml", claim="weight")
