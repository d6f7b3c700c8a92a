"""Gangs that Volcano and KAI do not place: a fault and a near miss for each reason."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.detectors.gangs import DETECTORS
from runbooks.finding import Finding
from tests.runbooks.worlds import world

JOB = "\n---\nkind: Job\nmetadata: {name: train, namespace: ml}\n"


def found(made: World) -> list[Finding]:
    return [finding for detector in DETECTORS for finding in detector(made)]


def group(api: str, status: str, queue: str = "team") -> str:
    return f"""
---
kind: PodGroup
apiVersion: {api}
metadata: {{name: pg, namespace: ml, ownerReferences: [{{kind: Job, name: train, controller: true}}]}}
spec: {{queue: {queue}, minMember: 4}}
status: {{{status}}}
"""


def volcano(phase: str) -> str:
    said = "type: Unschedulable, status: 'True', reason: NotEnoughResources, message: '3/4 tasks in gang unschedulable'"
    return group("scheduling.volcano.sh/v1beta1", f"phase: {phase}, conditions: [{{{said}}}]")


def kai(reason: str, phase: str = "Pending", status: str = "True") -> str:
    reasons = f"reasons: [{{reason: {reason}, message: y}}]"
    condition = f"type: UnschedulableOnNodePool, status: '{status}', reason: Unschedulable, message: x, {reasons}"
    return group("scheduling.run.ai/v2alpha2", f"phase: {phase}, schedulingConditions: [{{{condition}}}]")


def queue(state: str = "Open") -> str:
    return f"\n---\nkind: Queue\nmetadata: {{name: team}}\nspec: {{capability: {{nvidia.com/gpu: 8}}}}\nstatus: {{state: {state}}}\n"


OVER = """
---
kind: Event
metadata: {name: e, namespace: ml}
involvedObject: {kind: PodGroup, name: pg, namespace: ml}
reason: Unschedulable
message: "queue resource quota insufficient: insufficient nvidia.com/gpu"
lastTimestamp: "2026-01-15T11:55:00Z"
"""
FAULTS: dict[str, tuple[str, str, str]] = {
    "quota of volcano": ("queue.quota-exhausted", "Queue/team", JOB + queue() + volcano("Pending") + OVER),
    "closed": ("queue.stopped", "Queue/team", JOB + queue("Closed") + volcano("Pending")),
    "no room": ("queue.gang-does-not-fit", "Job/ml/train", JOB + queue() + volcano("Inqueue")),
    "no queue": ("queue.local-queue-missing", "Job/ml/train", JOB + queue().replace("team", "other") + volcano("Pending")),
    "quota of kai": ("queue.quota-exhausted", "Queue/team", JOB + queue() + kai("NonPreemptibleOverQuota")),
    "no queue of kai": ("queue.local-queue-missing", "Job/ml/train", JOB + kai("QueueDoesNotExist")),
    "no room for kai": ("queue.gang-does-not-fit", "Job/ml/train", JOB + queue() + kai("PodSchedulingErrors")),
}
FINE: dict[str, str] = {
    "it runs since": JOB + queue() + volcano("Running") + OVER,
    "it runs with kai since": JOB + queue() + kai("OverLimit", phase="Running"),
    "kai took it back": JOB + queue() + kai("OverLimit", status="False"),
    "a closed queue without a gang": queue("Closed"),
    "of a scheduler that is not known": JOB + group("scheduling.x-k8s.io/v1alpha1", "phase: Pending"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_gang_that_is_held(name: str) -> None:
    code, subject, text = FAULTS[name]
    [finding] = found(world(text))
    assert (finding.code, str(finding.subject)) == (code, subject)
    assert finding.evidence
    assert "Job/ml/train" in {str(ref) for ref in (finding.subject, *finding.affects)}


@pytest.mark.parametrize("name", FINE)
def test_nobody_is_accused(name: str) -> None:
    assert found(world(FINE[name])) == []
