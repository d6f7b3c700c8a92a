"""Trainings and workflows that were given up: what failed first, and what is no failure."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.detectors.trainings import DETECTORS
from runbooks.finding import Certainty, Finding, LogWant
from tests.runbooks.worlds import world


def found(made: World) -> list[Finding]:
    return [finding for detector in DETECTORS for finding in detector(made)]


def job(kind: str, status: str = "True", condition: str = "Failed", at: str = "2026-01-15T11:31:00Z") -> str:
    said = f"type: {condition}, status: '{status}', reason: FailedJobs, message: jobset failed due to one or more job failures"
    said += f", lastTransitionTime: '{at}'"
    return f"\n---\nkind: {kind}\nmetadata: {{name: train, namespace: ml}}\nstatus: {{conditions: [{{{said}}}]}}\n"


def pod(name: str, minute: int, owner: str = "JobSet", code: int = 1) -> str:
    return f"""
---
kind: Pod
metadata: {{name: {name}, namespace: ml, ownerReferences: [{{kind: {owner}, name: train, controller: true}}]}}
spec: {{nodeName: n-{name}, containers: [{{name: main, image: x, resources: {{limits: {{nvidia.com/gpu: 8}}}}}}]}}
status:
  phase: Failed
  containerStatuses: [{{name: main, state: {{terminated: {{exitCode: {code}, finishedAt: "2026-01-15T11:{minute}:00Z"}}}}}}]
"""


def ray(kind: str, status: str) -> str:
    return f"\n---\nkind: {kind}\nmetadata: {{name: train, namespace: ml}}\nstatus: {{{status}}}\n"


def workflow(phase: str, nodes: str) -> str:
    return ray("Workflow", f"phase: {phase}, message: child failed, nodes: {{{nodes}}}")


STEP = "{0}: {{id: {0}, displayName: {1}, templateName: {1}, type: Pod, phase: {2}, message: {3}, finishedAt: '2026-01-15T11:{4}:00Z'}}"
FIRST = STEP.format("wf-1", "prepare", "Failed", "Error (exit code 2)", 10)
LATER = STEP.format("wf-2", "train", "Error", "pod deleted", 20)
RECREATED = """
---
kind: LeaderWorkerSet
metadata: {name: serve, namespace: ml}
---
kind: Event
metadata: {name: e, namespace: ml}
involvedObject: {kind: LeaderWorkerSet, name: serve, namespace: ml}
reason: RecreateGroup
message: Worker pod serve-0-3 failed, deleted leader pod serve-0 to recreate group 0
count: %d
lastTimestamp: "2026-01-15T11:55:00Z"
"""


@pytest.mark.parametrize("kind", ["JobSet", "TrainJob", "PyTorchJob", "MPIJob"])
def test_the_worker_that_failed_first_is_named(kind: str) -> None:
    [finding] = found(world(job(kind) + pod("w1", 30, kind) + pod("w0", 20, kind)))
    assert (finding.code, str(finding.subject)) == ("training.failed", f"{kind}/ml/train")
    assert "Pod w0 on node n-w0 failed first, of 2 that failed. It held 16 accelerator(s)." in finding.explanation
    assert [want.container.pod for want in finding.wants if isinstance(want, LogWant)] == ["w0"]
    assert found(world(job(kind, "False"))) == []
    assert found(world(job(kind, condition="Suspended"))) == []


def test_ray() -> None:
    [failed] = found(world(ray("RayJob", "jobDeploymentStatus: Failed, jobStatus: FAILED, reason: AppFailed, message: exit code 1")))
    assert (failed.code, failed.evidence[0].quote) == ("training.failed", "AppFailed: exit code 1")
    assert found(world(ray("RayJob", "jobDeploymentStatus: Running, jobStatus: RUNNING"))) == []
    condition = "conditions: [{type: ReplicaFailure, status: '%s', reason: FailedCreateWorkerPod, message: exceeded quota}]"
    [cluster] = found(world(ray("RayCluster", condition % "True")))
    assert (cluster.code, str(cluster.subject)) == ("ray.pods-not-created", "RayCluster/ml/train")
    assert found(world(ray("RayCluster", condition % "False"))) == []


def test_the_step_that_failed_first() -> None:
    [finding] = found(world(workflow("Failed", f"{LATER}, {FIRST}")))
    assert (finding.code, str(finding.subject)) == ("workflow.step-failed", "Workflow/ml/train")
    assert "Step prepare (template prepare) failed first: Error (exit code 2)" in finding.explanation
    # A step that was tried again with success fails no workflow.
    assert found(world(workflow("Succeeded", FIRST))) == []
    assert found(world(workflow("Running", FIRST))) == []


def test_a_workflow_without_a_failed_step() -> None:
    [finding] = found(world(workflow("Error", "")))
    assert "child failed" in finding.explanation


@pytest.mark.parametrize(("at", "certainty"), [("2026-01-15T11:31:00Z", Certainty.PROVEN), ("2025-10-01T01:00:00Z", Certainty.POSSIBLE)])
def test_what_failed_long_ago_is_hardly_what_is_wrong_now(at: str, certainty: Certainty) -> None:
    failed = (
        job("JobSet", at=at),
        ray("RayJob", f"jobDeploymentStatus: Failed, jobStatus: FAILED, endTime: '{at}'"),
        ray("Workflow", f"phase: Failed, finishedAt: '{at}'"),
    )
    assert [finding.certainty for text in failed for finding in found(world(text))] == [certainty] * 3


def test_a_group_that_is_rebuilt() -> None:
    [finding] = found(world(RECREATED % 3))
    assert (finding.code, str(finding.subject)) == ("training.group-recreated", "LeaderWorkerSet/ml/serve")
    assert found(world(RECREATED % 1)) == []
