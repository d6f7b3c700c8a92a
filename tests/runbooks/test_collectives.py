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


def in_group(group: int, rank: int, of_job: int, sequence: int) -> str:
    """The ID counts within a process: only the GUID tells groups apart."""
    who = f"[PG ID 1 PG GUID {group}(mesh_tp) Rank {rank}]"
    return (
        f"[rank{of_job}]:[E1] {who} Watchdog caught collective operation timeout: WorkNCCL(SeqNum={sequence}, OpType=ALLREDUCE, NumelIn=8)"
    )


def told(logs: dict[LogKey, str], pod: str = POD, count: int = 4) -> list[tuple[str, str]]:
    made = world(JOB + "".join(pod.format(index) for index in range(count)), logs=logs)
    return [(finding.code, str(finding.subject)) for finding in DETECTOR(made)]


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


ALIKE = [("training.nccl", "JobSet/ml/train")]


def test_process_groups_have_counts_of_their_own() -> None:
    assert [
        (finding.code, str(finding.subject))
        for finding in found(in_group(1, 0, 0, 90210), in_group(1, 1, 1, 90210), in_group(2, 0, 2, 1580), in_group(2, 1, 3, 1580))
    ] == ALIKE
    [finding] = found(in_group(1, 0, 0, 90210), in_group(1, 1, 1, 90210), in_group(2, 0, 2, 1580), in_group(2, 1, 3, 1571))
    assert (finding.code, str(finding.subject)) == ("training.rank-behind", "Pod/ml/w3")
    assert "Rank 3 (Pod ml/w3 on node n3)" in finding.explanation


def test_a_rank_that_waits_in_one_group_is_not_to_blame_for_coming_late_in_another() -> None:
    both = f"{in_group(1, 0, 0, 90210)}\n{in_group(2, 0, 0, 1571)}"
    assert [(finding.code, str(finding.subject)) for finding in found(both, in_group(1, 1, 1, 90210), in_group(2, 1, 2, 1580))] == ALIKE


def test_runs_have_counts_of_their_own() -> None:
    now: dict[LogKey, str] = {("ml", f"w{index}", "main"): waited(index, 12) for index in range(1, 4)}
    before: dict[LogKey, str] = {("ml", "w0", "main", True): waited(0, 5000)}
    assert told({**now, **before, ("ml", "w0", "main"): waited(0, 12)}) == ALIKE
    assert told({**now, **before}) == ALIKE
    # A job whose last run hung is judged by that run.
    past: dict[LogKey, str] = {("ml", f"w{index}", "main", True): waited(index, 12) for index in range(4)}
    assert told({**past, ("ml", "w2", "main", True): waited(2, 9)}) == [("training.rank-behind", "Pod/ml/w2")]


def test_silence_is_that_of_the_container_that_trains() -> None:
    pod = POD.replace("containers: [", "containers: [{{name: shipper, image: y}}, ")
    logs: dict[LogKey, str] = {("ml", f"w{index}", "main"): waited(index) for index in range(3)}
    assert told({**logs, ("ml", "w3", "shipper"): "shipped"}, pod) == ALIKE
    assert told({**logs, ("ml", "w3", "main"): "step 12"}, pod) == [("training.rank-behind", "Pod/ml/w3")]
