"""Capacity that an autoscaler cannot get: one fault and one near miss per code, and whom it concerns."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.detectors.provisioning import DETECTORS
from runbooks.finding import Finding
from tests.runbooks.worlds import told, world


def found(made: World) -> list[Finding]:
    return [finding for detector in DETECTORS for finding in detector(made)]


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


STOCKOUT = scale_event("FailedToScaleUpGroup", "Scale-up failed for group gpu: InsufficientInstanceCapacity")
SELECTING = """
---
kind: Pod
metadata: {name: p, namespace: ml}
spec:
  nodeSelector: {karpenter.sh/nodepool: %s}
  containers: [{name: main, resources: {requests: {nvidia.com/gpu: "8"}}}]
status:
  phase: Pending
  conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes: 1 Insufficient nvidia.com/gpu."}]
"""
POOL = """
---
kind: NodePool
metadata: {name: gpu}
spec: {limits: {nvidia.com/gpu: 64}}
status:
  resources: {nvidia.com/gpu: "%s"}
  conditions: [{type: NodeClassReady, status: "%s", reason: NodeClassNotReady, message: no subnet}]
"""
REQUEST = """
---
kind: Job
metadata: {name: train, namespace: ml}
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: w, namespace: ml, ownerReferences: [{kind: Job, name: train, controller: true}]}
---
kind: ProvisioningRequest
metadata: {name: w-1, namespace: ml, ownerReferences: [{kind: Workload, name: w, controller: true}]}
status: {conditions: [{type: Accepted, status: "True"}, {type: %s, status: "%s", reason: %s, message: %s}]}
"""
LAUNCHED = """
---
kind: NodeClaim
metadata: {name: n2, creationTimestamp: "2026-01-15T11:58:00Z"}
status: {conditions: [{type: Launched, status: "%s", reason: InsufficientCapacityError, message: no instance types}]}
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

FIRES: dict[str, tuple[str, str]] = {
    "capacity.stockout": ("ConfigMap/kube-system/cluster-autoscaler-status", PENDING + STOCKOUT),
    "capacity.cloud-limit": (
        "ConfigMap/kube-system/cluster-autoscaler-status",
        PENDING + scale_event("ScaleUpFailed", "Failed adding 1 nodes to group gpu due to QuotaExceeded"),
    ),
    "capacity.node-provisioning-failed": ("NodeClaim/n1", CLAIM % "2026-01-15T11:30:00Z"),
    "capacity.pool-limit": ("NodePool/gpu", SELECTING % "gpu" + POOL % (64, "True")),
}
NEAR: dict[str, str] = {
    # No pod waits for the nodes that did not come.
    "capacity.stockout": STOCKOUT,
    "capacity.cloud-limit": PENDING + STOCKOUT,
    "capacity.node-provisioning-failed": CLAIM % "2026-01-15T11:55:00Z",
    "capacity.pool-limit": SELECTING % "gpu" + POOL % (56, "True"),
}


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    assert told(code, found(world(text))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert told(code, found(world(NEAR[code]))) == []


def test_what_the_cloud_refuses_needs_no_patience() -> None:
    [finding] = found(world(LAUNCHED % "False"))
    assert (finding.code, str(finding.subject)) == ("capacity.stockout", "NodeClaim/n2")
    assert found(world(LAUNCHED % "Unknown")) == []


def test_a_pool_concerns_only_those_who_could_use_it() -> None:
    broken = POOL % (8, "False")
    [finding] = found(world(SELECTING % "gpu" + broken))
    assert (finding.code, str(finding.affects[0])) == ("capacity.node-provisioning-failed", "Pod/ml/p")
    assert found(world(SELECTING % "other" + broken)) == []
    assert found(world(broken)) == []


def test_a_claim_concerns_the_pod_that_it_was_made_for() -> None:
    nominated = """
---
kind: Event
metadata: {name: e, namespace: ml}
involvedObject: {kind: Pod, name: p, namespace: ml}
reason: Nominated
message: "Pod should schedule on: nodeclaim/n1"
lastTimestamp: "2026-01-15T11:40:00Z"
"""
    old = CLAIM % "2026-01-15T11:30:00Z"
    [told] = found(world(SELECTING % "gpu" + nominated + old))
    assert [str(ref) for ref in told.affects] == ["Pod/ml/p", "Pod/ml/p"]
    [untold] = found(world(SELECTING % "gpu" + old))
    assert untold.affects == ()


def test_a_request_without_capacity_names_the_job_that_waits() -> None:
    [finding] = found(world(REQUEST % ("Provisioned", "False", "CapacityIsNotFound", "Capacity is not found")))
    assert (finding.code, str(finding.subject)) == ("capacity.stockout", "ProvisioningRequest/ml/w-1")
    assert [str(ref) for ref in finding.affects] == ["Job/ml/train", "Workload/ml/w"]
    [failed] = found(world(REQUEST % ("Failed", "True", "FailedToProvision", "quota exceeded")))
    assert failed.code == "capacity.cloud-limit"
    assert found(world(REQUEST % ("Provisioned", "True", "Provisioned", "ready"))) == []
