"""Held jobs and missing capacity: one fault and one near miss per code."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors.queues import DETECTORS
from runbooks.finding import Finding
from tests.runbooks.worlds import world


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
PENDING = """
---
kind: Pod
metadata: {name: p, namespace: ml}
status:
  phase: Pending
  conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes are available: 1 Insufficient cpu."}]
"""


def scale_event(reason: str, message: str, at: str = "11:55") -> str:
    return f"""
---
kind: Event
metadata: {{name: e, namespace: kube-system}}
involvedObject: {{kind: ConfigMap, name: cluster-autoscaler-status, namespace: kube-system}}
reason: {reason}
type: Warning
message: {message!r}
lastTimestamp: "2026-01-15T{at}:00Z"
"""


CLAIM = """
---
kind: NodeClaim
metadata: {name: n1, creationTimestamp: "%s"}
status:
  conditions:
    - type: Initialized
      status: "Unknown"
      reason: ResourceNotRegistered
      message: 'Resource "nvidia.com/gpu" was requested but not registered'
"""
QUOTA = waiting(
    "Pending", "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"
)
STOCKOUT = scale_event("FailedToScaleUpGroup", "Scale-up failed for group gpu: InsufficientInstanceCapacity")

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
    "capacity.stockout": ("ConfigMap/kube-system/cluster-autoscaler-status", PENDING + STOCKOUT),
    "capacity.cloud-limit": (
        "ConfigMap/kube-system/cluster-autoscaler-status",
        PENDING + scale_event("ScaleUpFailed", "Failed adding 1 nodes to group gpu due to QuotaExceeded"),
    ),
    "capacity.node-provisioning-failed": ("NodeClaim/n1", CLAIM % "2026-01-15T11:30:00Z"),
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
    # No pod waits for the nodes that did not come.
    "capacity.stockout": STOCKOUT,
    "capacity.cloud-limit": PENDING + STOCKOUT,
    "capacity.node-provisioning-failed": CLAIM % "2026-01-15T11:55:00Z",
}


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    own = {"capacity.stockout", "capacity.cloud-limit", "capacity.node-provisioning-failed"}
    assert set(FIRES) == set(NEAR) == {code for code in catalogue() if code.startswith("queue.")} | own


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    findings = [finding for finding in found(world(text)) if finding.code == code]
    assert [str(finding.subject) for finding in findings] == [subject]
    assert findings[0].evidence


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert code not in {finding.code for finding in found(world(NEAR[code]))}


def test_an_inactive_cluster_queue_names_who_waits_in_it() -> None:
    findings = found(world(INACTIVE % "False" + QUEUE + workload(QUOTA)))
    inactive = next(finding for finding in findings if finding.code == "queue.flavor-mismatch")
    assert {str(ref) for ref in inactive.affects} == {"Job/ml/train"}
    assert "queue.flavor-mismatch" not in {finding.code for finding in found(world(INACTIVE % "True" + QUEUE))}


def test_a_status_of_another_shape_is_no_error() -> None:
    odd = workload('type: QuotaReserved, status: "True"', ", admissionChecks: [pending, {state: 3}]")
    assert found(world(odd + QUEUE)) == []
