"""Which rank of a hanging training is to blame, by what all of them said."""

from __future__ import annotations

import pytest

from runbooks.detectors.collectives import DETECTORS
from runbooks.finding import Finding, LogWant
from tests.runbooks.worlds import LogKey, world

[DETECTOR] = DETECTORS
JOB = "kind: JobSet\nmetadata: {name: train, namespace: ml}\n"
POD = """
---
kind: Pod
metadata: {{name: w{0}, namespace: ml, ownerReferences: [{{kind: JobSet, name: train, controller: true}}]}}
spec: {{nodeName: n{0}, containers: [{{name: main, image: x}}]}}
status: {{phase: Failed}}
"""


def waited(rank: int, sequence: int = 1580, operation: str = "ALLREDUCE", size: int = 4096, completed: int | None = None) -> str:
    timeout = f"[rank{rank}]:[E1] [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={sequence}, "
    done = sequence - 1 if completed is None else completed
    return (
        f"step 12\n{timeout}OpType={operation}, NumelIn={size}, NumelOut={size}, Timeout(ms)=600000) ran for 600060 milliseconds\n"
        f"[rank{rank}]:[E1] [PG ID 0 PG GUID 0 Rank {rank}] Exception detected by watchdog at work: {sequence}, "
        f"last enqueued NCCL work: {sequence + 2}, last completed NCCL work: {done}."
    )


def found(*logs: str | None) -> list[Finding]:
    kept: dict[LogKey, str] = {("ml", f"w{index}", "main"): text for index, text in enumerate(logs) if text is not None}
    return list(DETECTOR(world(JOB + "".join(POD.format(index) for index in range(len(logs))), logs=kept)))


def test_the_rank_that_is_behind() -> None:
    [finding] = found(waited(0), waited(1, 1571), waited(2), waited(3))
    assert (finding.code, str(finding.subject)) == ("training.rank-behind", "Pod/ml/w1")
    assert "Rank 1 (Pod ml/w1 on node n1)" in finding.explanation
    assert "SeqNum=1571" in finding.evidence[0].quote
    assert "JobSet/ml/train" in {str(ref) for ref in finding.affects}


def test_the_rank_that_says_nothing() -> None:
    [finding] = found(waited(0), waited(1), "step 12", waited(3))
    assert (finding.code, str(finding.subject)) == ("training.rank-behind", "Pod/ml/w2")


def test_as_long_as_a_log_is_unread_nobody_is_accused() -> None:
    [finding] = found(waited(0), waited(1), "step 12", None)
    assert (finding.code, str(finding.subject)) == ("training.nccl", "JobSet/ml/train")
    assert [want.container.pod for want in finding.wants if isinstance(want, LogWant) and want.each] == ["w3"]


def test_ranks_that_took_different_ways() -> None:
    [finding] = found(waited(0), waited(1, operation="ALLGATHER"))
    assert (finding.code, str(finding.subject)) == ("training.collectives-differ", "JobSet/ml/train")


@pytest.mark.parametrize("silent", [(), ("step 12", "step 12")])
def test_where_all_are_alike_no_rank_is_accused(silent: tuple[str, ...]) -> None:
    [finding] = found(waited(0), waited(1), waited(2), *silent)
    assert (finding.code, str(finding.subject)) == ("training.nccl", "JobSet/ml/train")
    assert "no rank is behind" in finding.lacks


def test_a_training_that_did_not_hang() -> None:
    assert found("step 12", "RuntimeError: CUDA out of memory") == []
