"""Queues as tools."""

from __future__ import annotations

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import text_of
from tests.mcp_server.incident import call

pytestmark = pytest.mark.anyio


async def test_quota_by_flavor_with_what_is_borrowed(reader: RecordedReader) -> None:
    page = (await call(reader, "queue_status")).render()
    assert [row[:9] for row in page.structured["rows"]] == [
        ["research", "h100", "nvidia.com/gpu", "10", "8", "2", "1", "2", "cohort all, may borrow 4"]
    ]
    assert page.lines[0] == "1 queues, 1 workloads pending; 1 workloads not admitted: queue_explain says why"


@pytest.mark.parametrize("queue", ["research", "team"])
async def test_a_queue_by_its_own_name_or_that_of_who_feeds_it(reader: RecordedReader, queue: str) -> None:
    assert (await call(reader, "queue_status", queue=queue)).render().structured["rows"][0][0] == "research"


async def test_why_a_job_waits_and_in_which_queue(reader: RecordedReader) -> None:
    page = (await call(reader, "queue_explain", namespace="ml", workload="finetune")).render()
    [row] = page.structured["beside"]["rows"]
    assert row[:5] == ["job-finetune-12345", "Job/finetune", "team", "research", "8 nvidia.com/gpu"]
    assert "insufficient unused quota" in row[5]
    assert "ClusterQueue/research" in text_of(page)


async def test_the_kueue_workload_may_be_named_too(reader: RecordedReader) -> None:
    page = (await call(reader, "queue_explain", namespace="ml", workload="job-finetune-12345")).render()
    assert page.structured["beside"]["rows"][0][0] == "job-finetune-12345"
    with pytest.raises(ToolRefusal, match="nearest names: finetune"):
        await call(reader, "queue_explain", namespace="ml", workload="finetun")
