"""Training jobs as a tool: the diagnosis, and the workers with the first that failed first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import text_of
from tests.mcp_server.incident import call
from tests.mcp_server.tools.test_gpus import recorded

pytestmark = pytest.mark.anyio


def worker(number: int, **status: Any) -> dict[str, Any]:
    owner = {"kind": "Job", "name": "train", "uid": "j", "controller": True}
    return {
        "kind": "Pod",
        "metadata": {"name": f"train-{number}-abcde", "namespace": "ml", "ownerReferences": [owner]},
        "spec": {"nodeName": "g", "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]},
        "status": status,
    }


async def test_ranks_stand_beside_the_diagnosis(tmp_path: Path) -> None:
    state = {"name": "c", "state": {"terminated": {"exitCode": 134, "finishedAt": "2026-01-15T11:59:00Z"}}}
    reader = recorded(
        tmp_path,
        {"kind": "Namespace", "metadata": {"name": "ml"}},
        {"kind": "Job", "metadata": {"name": "train", "namespace": "ml", "uid": "j"}},
        worker(0, phase="Running", conditions=[{"type": "Ready", "status": "True"}]),
        worker(1, phase="Failed", containerStatuses=[state]),
    )
    page = (await call(reader, "training_diagnose", namespace="ml", name="train")).render()
    assert "2 workers, 1 ready, 1 failed; the first to fail first" in text_of(page)
    rows = page.structured["beside"]["rows"]
    assert [(row[0], row[3], row[6], row[9]) for row in rows] == [
        ("1", "Failed", "134", "8 nvidia.com/gpu"),
        ("0", "Running", "", "8 nvidia.com/gpu"),
    ]


async def test_a_kind_is_one_that_people_train_with(reader: RecordedReader) -> None:
    assert (await call(reader, "training_diagnose", namespace="ml", name="finetune", kind="job")).render().lines
    with pytest.raises(ToolRefusal, match="'PytorchJobs' is no kind of training job; nearest kinds: PyTorchJob"):
        await call(reader, "training_diagnose", namespace="ml", name="finetune", kind="PytorchJobs")
    with pytest.raises(ToolRefusal, match="nothing in ml is called 'finetune'"):
        await call(reader, "training_diagnose", namespace="ml", name="finetune", kind="TrainJob")
