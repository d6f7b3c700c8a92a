"""Held jobs and missing capacity: one fault and one near miss per code."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors.queues import DETECTORS
from runbooks.finding import Finding
from tests.runbooks.worlds import told, world


def found(made: World) -> list[Finding]:
    return [finding for detector in DETECTORS for finding in detector(made)]


def workload(condition: str, extra: str = "") -> str:
    return f"""
---
kind: Job
metadata: {{name: train, namespace: ml}}
spec: {{suspend: true}}
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {{name: job-train, namespace: ml, ownerReferences: [{{kind: Job, name: train, controller: true}}]}}
spec: {{queueName: team}}
status: {{conditions: [{{{condition}}}]{extra}}}
"""


def waiting(reason: str, message: str) -> str:
    return f'type: QuotaReserved, status: "False", reason: {reason}, message: {message!r}'


QUEUE = """
---
kind: LocalQueue
metadata: {name: team, namespace: ml}
spec: {clusterQueue: shared}
"""
INACTIVE = """
---
kind: ClusterQueue
metadata: {name: shared}
status: {conditions: [{type: Active, status: "%s", reason: FlavorNotFound, message: "references missing ResourceFlavor h100"}]}
"""
JOB = "\n---\nkind: Job\nmetadata: {name: train, namespace: ml, labels: {kueue.x-k8s.io/queue-name: team}}\n"
ADMITTED = '{type: Admitted, status: "True"}'
QUOTA = waiting(
    "Pending", "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"
)

NEVER = waiting("ExceedsMaxQuota", "insufficient quota, current podset request (64) > maximum capacity (32)")
BEHIND = """
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: job-unborn, namespace: ml}
spec: {queueName: team}
"""
STRICT = """
---
kind: ClusterQueue
metadata: {name: shared}
spec: {queueingStrategy: %s}
"""
OUT = """
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: job-train, namespace: ml, ownerReferences: [{kind: Job, name: train, controller: true}]}
spec: {queueName: team, active: false}
status: {conditions: [{%s}]}
"""
REQUEUED = (
    "type: DeactivationTarget, status: 'True', reason: RequeuingLimitExceeded, message: exceeding the maximum number of re-queuing retries"
)
CHECK = """
---
kind: AdmissionCheck
metadata: {name: capacity}
status: {conditions: [{type: Active, status: "%s", reason: ControllerNotFound, message: no controller}]}
---
kind: ClusterQueue
metadata: {name: shared}
spec: {admissionChecksStrategy: {admissionChecks: [{name: capacity}]}}
"""


def preempted(times: int, reason: str = "EvictedDueToPreempted") -> str:
    return f"""
---
kind: Event
metadata: {{name: {reason.lower()}, namespace: ml}}
involvedObject: {{kind: Workload, name: job-train, namespace: ml}}
reason: {reason}
message: Preempted to accommodate a workload due to reclamation within the cohort
count: {times}
lastTimestamp: "2026-01-15T11:55:00Z"
"""


FIRES: dict[str, tuple[str, str]] = {
    "queue.quota-exhausted": ("ClusterQueue/shared", workload(QUOTA) + QUEUE),
    "queue.exceeds-maximum": (
        "Job/ml/train",
        workload(waiting("ExceedsMaxQuota", "insufficient quota, current podset request (64) > maximum capacity (32)")) + QUEUE,
    ),
    "queue.flavor-mismatch": ("Job/ml/train", workload(waiting("NoMatchingFlavor", "flavor h100 doesn't match node affinity")) + QUEUE),
    "queue.local-queue-missing": ("Job/ml/train", JOB + QUEUE.replace("team", "other")),
    "queue.stopped": ("LocalQueue/ml/team", workload(waiting("Suspended", "LocalQueue team is inactive")) + QUEUE),
    "queue.topology": (
        "ClusterQueue/shared",
        workload(waiting("TopologyPlacementFailed", 'topology "t" allows to fit only 3 out of 4 pod(s)')) + QUEUE,
    ),
    "queue.preempted": ("Job/ml/train", workload('type: Evicted, status: "True", reason: Preempted, message: x') + QUEUE),
    "queue.pods-ready-timeout": ("Job/ml/train", workload('type: Evicted, status: "True", reason: PodsReadyTimeout, message: x') + QUEUE),
    "queue.admission-check": (
        "AdmissionCheck/capacity",
        workload('type: QuotaReserved, status: "True"', ", admissionChecks: [{name: capacity, state: Pending, message: waiting}]") + QUEUE,
    ),
    "queue.borrowing-limit": (
        "ClusterQueue/shared",
        workload(
            waiting(
                "WaitingForQuota", "couldn't assign flavors to pod set main: borrowing limit for nvidia.com/gpu in flavor h100 exceeded"
            )
        )
        + QUEUE,
    ),
    "queue.waits-for-victims": (
        "Job/ml/train",
        workload(waiting("WaitingForPreemptedWorkloads", "Pending the preemption of 2 workload(s)")) + QUEUE,
    ),
    "queue.waits-for-others": (
        "ClusterQueue/shared",
        workload(waiting("WaitingForPodsReady", "waiting for all admitted workloads to be in PodsReady condition")) + QUEUE,
    ),
    "queue.requeued-too-often": ("Job/ml/train", OUT % REQUEUED + QUEUE),
    "queue.deactivated": ("Job/ml/train", OUT % 'type: Evicted, status: "True", reason: Deactivated, message: x' + QUEUE),
    "queue.head-of-line": ("Job/ml/train", STRICT % "StrictFIFO" + QUEUE + workload(NEVER) + BEHIND),
    "queue.preemption-loop": ("Job/ml/train", workload(f"{ADMITTED[1:-1]}") + preempted(3)),
}
NEAR: dict[str, str] = {
    "queue.quota-exhausted": workload(f"{ADMITTED[1:-1]}") + QUEUE,
    "queue.exceeds-maximum": FIRES["queue.quota-exhausted"][1],
    "queue.flavor-mismatch": FIRES["queue.quota-exhausted"][1],
    "queue.local-queue-missing": JOB + QUEUE,
    "queue.stopped": FIRES["queue.quota-exhausted"][1],
    "queue.topology": FIRES["queue.quota-exhausted"][1],
    # It was preempted, and runs again.
    "queue.preempted": workload(f'type: Evicted, status: "True", reason: Preempted}}, {ADMITTED[:-1]}') + QUEUE,
    "queue.pods-ready-timeout": FIRES["queue.preempted"][1],
    "queue.admission-check": workload('type: QuotaReserved, status: "True"', ", admissionChecks: [{name: capacity, state: Ready}]") + QUEUE,
    "queue.borrowing-limit": FIRES["queue.quota-exhausted"][1],
    "queue.waits-for-victims": FIRES["queue.quota-exhausted"][1],
    "queue.waits-for-others": FIRES["queue.quota-exhausted"][1],
    # Somebody took it out by hand: nothing was tried too often.
    "queue.requeued-too-often": FIRES["queue.deactivated"][1],
    "queue.deactivated": FIRES["queue.requeued-too-often"][1],
    # The queue looks past what does not fit.
    "queue.head-of-line": STRICT % "BestEffortFIFO" + QUEUE + workload(NEVER) + BEHIND,
    # Kueue says the same preemption twice.
    "queue.preemption-loop": workload(f"{ADMITTED[1:-1]}") + preempted(2) + preempted(2, "Preempted"),
}


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    elsewhere = {"queue.gang-does-not-fit", "queue.check-inactive"}
    assert set(FIRES) == set(NEAR) == {code for code in catalogue() if code.startswith("queue.")} - elsewhere


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    assert told(code, found(world(text))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert told(code, found(world(NEAR[code]))) == []


def test_an_inactive_cluster_queue_names_who_waits_in_it() -> None:
    findings = found(world(INACTIVE % "False" + QUEUE + workload(QUOTA)))
    inactive = next(finding for finding in findings if finding.code == "queue.flavor-mismatch")
    assert {str(ref) for ref in inactive.affects} == {"Job/ml/train"}
    assert "queue.flavor-mismatch" not in {finding.code for finding in found(world(INACTIVE % "True" + QUEUE))}


def test_a_check_without_a_controller_names_who_waits_for_it() -> None:
    [finding] = found(world(CHECK % "False" + QUEUE + workload('type: QuotaReserved, status: "True"')))
    assert (finding.code, str(finding.subject)) == ("queue.check-inactive", "AdmissionCheck/capacity")
    assert {str(ref) for ref in finding.affects} == {"Job/ml/train", "ClusterQueue/shared"}
    assert found(world(CHECK % "True" + QUEUE)) == []


def test_a_status_of_another_shape_is_no_error() -> None:
    odd = workload('type: QuotaReserved, status: "True"', ", admissionChecks: [pending, {state: 3}]")
    assert found(world(odd + QUEUE)) == []
