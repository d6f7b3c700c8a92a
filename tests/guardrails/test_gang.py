"""How large a batch workload is, and how long it has computed, by the fields of each kind; shapes as the operators' own examples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from guardrails.action import DeletePod, Drain, Resume, Suspend, target
from guardrails.gang import BATCH, CHECKPOINT, gang_of, moment, saved, started
from guardrails.port import Observed
from guardrails.risk import Work, assess
from tests.guardrails.fake_cluster import node

START = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
AT = "2026-11-25T10:00:00Z"


def template(gpus: int, **more: Any) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "1"}
    return {"spec": {"containers": [{"name": "main", "resources": {"limits": limits}}], **more}}


def job(**spec: Any) -> dict[str, Any]:
    return {"template": template(8), **spec}


def batch(kind: str, spec: dict[str, Any], status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "train", "namespace": "ml", "uid": "u", **metadata}, "spec": spec, "status": status or {}}


ROLES = {"Master": {"replicas": 1, "template": template(8)}, "Worker": {"replicas": 3, "template": template(8)}}
GANGS: dict[str, tuple[dict[str, Any], int, int]] = {
    "Job": (job(parallelism=4), 4, 32),
    "CronJob": ({"jobTemplate": {"spec": job(parallelism=4)}}, 0, 0),
    "JobSet": (
        {
            "replicatedJobs": [
                {"name": "workers", "replicas": 2, "template": {"spec": job(parallelism=3, completions=3)}},
                {"name": "driver", "template": {"spec": {"template": template(0)}}},
            ]
        },
        7,
        48,
    ),
    "PyTorchJob": ({"pytorchReplicaSpecs": ROLES}, 4, 32),
    "MPIJob": ({"mpiReplicaSpecs": {"Launcher": {"template": template(0)}, "Worker": {"replicas": 2, "template": template(8)}}}, 3, 16),
    "RayJob": (
        {
            "rayClusterSpec": {
                "headGroupSpec": {"template": template(0)},
                "workerGroupSpecs": [{"replicas": 2, "numOfHosts": 2, "template": template(4)}, {"template": template(4)}],
            }
        },
        5,
        16,
    ),
    "Workload": ({"podSets": [{"name": "main", "count": 4, "template": template(8)}]}, 4, 32),
    "TrainJob": ({"trainer": {"numNodes": 4, "resourcesPerNode": {"limits": {"nvidia.com/gpu": 8}}}}, 4, 32),
}


@pytest.mark.parametrize("kind", GANGS)
def test_the_size_of_each_kind(kind: str) -> None:
    spec, pods, gpus = GANGS[kind]
    gang = gang_of(batch(kind, spec))
    assert (gang.pods, gang.accelerators, gang.uses_accelerators) == (pods, gpus, True)


def test_every_kind_that_can_be_suspended_has_a_size() -> None:
    assert set(GANGS) == BATCH == set(Suspend.traits.kinds)


@pytest.mark.parametrize("spec", [{}, {"trainer": {"numNodes": 4}}, {"trainer": {"numNodes": "4", "resourcesPerNode": None}}])
def test_a_size_that_the_object_does_not_say_counts_as_gpus(spec: dict[str, Any]) -> None:
    gang = gang_of(batch("TrainJob", spec))
    assert (gang.accelerators, gang.uses_accelerators) == (0, True)
    assert gang_of(batch("RayJob", {"clusterSelector": {"a": "b"}})).uses_accelerators


@pytest.mark.parametrize("kind", GANGS)
@pytest.mark.parametrize("spec", [{}, {"replicatedJobs": "x", "podSets": [1], "pytorchReplicaSpecs": [], "mpiReplicaSpecs": {"W": None}}])
def test_an_object_of_another_shape_breaks_nothing(kind: str, spec: dict[str, Any]) -> None:
    assert gang_of(batch(kind, spec)).accelerators == 0


def test_claims_count_as_gpus_of_unknown_number() -> None:
    raw = batch("Job", {"template": template(0, resourceClaims=[{"name": "gpu"}])})
    assert gang_of(raw).uses_accelerators
    assert not gang_of(batch("Job", {"template": template(0)})).uses_accelerators


@pytest.mark.parametrize(
    ("status", "metadata", "since"),
    [
        ({"startTime": AT}, {"creationTimestamp": "2026-11-01T00:00:00Z"}, START),
        ({"conditions": [{"type": "Admitted", "status": "True", "lastTransitionTime": AT}]}, {}, START),
        ({"conditions": [{"type": "Admitted", "status": "False", "lastTransitionTime": AT}]}, {}, None),
        ({}, {"creationTimestamp": AT}, START),
        ({}, {}, None),
    ],
)
def test_since_when(status: dict[str, Any], metadata: dict[str, Any], since: datetime | None) -> None:
    assert started(batch("Workload", {}, status, **metadata)) == since


@pytest.mark.parametrize("text", ["yesterday", "2026-11-25T10:00:00", "", None, 5])
def test_times_that_are_none(text: Any) -> None:
    assert moment(text) is None
    assert saved(batch("Job", {}, annotations={CHECKPOINT: text})) is None


def test_suspending_puts_the_work_at_stake_and_resuming_none() -> None:
    spec, pods, gpus = GANGS["PyTorchJob"]
    raw = batch("PyTorchJob", spec, {"startTime": AT}, annotations={CHECKPOINT: AT})
    seen = Observed("c", target("PyTorchJob", "ml", "train"), raw)
    stopped, resumed = assess(Suspend(), seen), assess(Resume(), seen)
    assert (stopped.pods_affected, stopped.gpus, stopped.uses_gpu) == (pods, gpus, True)
    assert (stopped.work, stopped.saved_at) == ((Work(gpus, START),), START)
    assert (resumed.gpus, resumed.work, resumed.saved_at) == (gpus, (), None)


def test_of_a_job_only_what_still_runs_is_stopped() -> None:
    raw = batch("Job", job(parallelism=4, completions=4), {"startTime": AT, "active": 1, "succeeded": 3})
    risk = assess(Suspend(), Observed("c", target("Job", "ml", "train"), raw))
    assert (risk.pods_affected, risk.gpus, risk.work) == (1, 8, (Work(8, START),))


def _pod(name: str, owner: str | None, gpus: int) -> dict[str, Any]:
    owners = [{"kind": owner, "name": "x", "uid": "o", "controller": True}] if owner else []
    metadata = {"name": name, "namespace": "ml", "uid": name, "ownerReferences": owners}
    spec = {**template(gpus)["spec"], "nodeName": "gpu-1"}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running", "startTime": AT}}


def test_pods_of_batch_work_lose_it_and_pods_that_run_on_do_not() -> None:
    pods = (_pod("a", "Job", 2), _pod("b", "PyTorchJob", 4), _pod("c", "ReplicaSet", 1), _pod("d", None, 1), _pod("e", "Job", 0))
    drained = assess(Drain(unmanaged=True), Observed("c", target("Node", None, "gpu-1"), node(), pods))
    assert sorted(work.accelerators for work in drained.work) == [1, 2, 4]
    one = assess(DeletePod(), Observed("c", target("Pod", "ml", "a"), pods[0]))
    assert one.work == (Work(2, START),)
