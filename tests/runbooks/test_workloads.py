from __future__ import annotations

from typing import Any

from runbooks.detectors import workloads
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import deployment, event, manifest, pod, service
from tests.runbooks.worlds import codes, world

NONE_READY = {"observedGeneration": 1, "replicas": 1, "availableReplicas": 0}


def found(text: str, *complete: str) -> list[Finding]:
    made = world(text, complete=complete)
    return [finding for detector in workloads.DETECTORS for finding in detector(made)]


def test_a_workload_at_zero_behind_a_service() -> None:
    scaled = deployment("cart", {"app": "cart"}, replicas=0)
    findings = found(scaled + service("cart", {"app": "cart"}), "Pod")
    assert [(finding.code, finding.certainty) for finding in findings] == [("workload.zero-replicas", Certainty.LIKELY)]
    told = event("Deployment", "cart", "ScalingReplicaSet", "Scaled down replica set cart-5 from 1 to 0")
    assert [finding.certainty for finding in found(scaled + service("cart", {"app": "cart"}) + told, "Pod")] == [Certainty.PROVEN]


def test_a_workload_at_zero_that_nobody_needs_is_left_alone() -> None:
    scaled = deployment("cart", {"app": "cart"}, replicas=0)
    assert found(scaled, "Pod") == []
    assert found(scaled + service("cart", {"app": "cart"}) + pod("cart-canary", {"app": "cart"})) == []


def test_an_autoscaler_may_scale_to_zero() -> None:
    scaled = deployment("cart", {"app": "cart"}, replicas=0) + service("cart", {"app": "cart"})
    scaler = manifest("ScaledObject", "cart", spec={"scaleTargetRef": {"name": "cart"}})
    assert found(scaled + scaler, "Pod") == []


def test_a_workload_short_of_pods_is_a_symptom() -> None:
    assert codes(found(deployment("cart", {"app": "cart"}, status=NONE_READY))) == {"workload.unavailable"}
    enough = {"observedGeneration": 1, "replicas": 1, "availableReplicas": 1}
    assert found(deployment("cart", {"app": "cart"}, status=enough)) == []


def test_a_workload_short_of_pods_says_what_was_last_warned_about_them() -> None:
    text = deployment("cart", {"app": "cart"}, status=NONE_READY)
    text += pod("cart-1", {"app": "cart"}, owner=("Deployment", "cart"), ready=False)
    (silent,) = found(text)
    assert "warning" not in silent.explanation
    first = event("Pod", "cart-1", "FailedMount", "a volume is late", at="2026-01-15T11:40:00Z")
    (told,) = found(text + first + event("Pod", "cart-1", "Unhealthy", "Readiness probe failed: connection refused"))
    assert told.explanation.endswith("The last warning about one of them: Readiness probe failed: connection refused")
    assert ("event Unhealthy", "Readiness probe failed: connection refused") in [(one.path, one.quote) for one in told.evidence]


def test_a_status_that_nobody_wrote_says_nothing() -> None:
    assert found(deployment("cart", {"app": "cart"})) == []


def test_daemon_sets_and_stateful_sets_count_their_own_way() -> None:
    assert codes(found(manifest("DaemonSet", "agent", status={"desiredNumberScheduled": 3, "numberReady": 2}))) == {"workload.unavailable"}
    assert found(manifest("DaemonSet", "agent", status={"desiredNumberScheduled": 3, "numberReady": 3})) == []
    pending = manifest("Pod", "db-0", status={"phase": "Pending"})
    assert codes(found(manifest("StatefulSet", "db", spec={"replicas": 1}) + pending)) == {"workload.unavailable"}


def test_ready_pods_outweigh_a_status_that_lags() -> None:
    text = deployment("cart", {"app": "cart"}, status=NONE_READY) + pod("cart-1", {"app": "cart"}, owner=("Deployment", "cart"))
    assert found(text) == []


def test_a_controller_that_cannot_create_pods() -> None:
    def replica_set(status: str) -> str:
        conditions = [{"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": "quota"}]
        owner: dict[str, Any] = {"ownerReferences": [{"kind": "Deployment", "name": "cart", "controller": True}]}
        return manifest("ReplicaSet", "cart-5", metadata=owner, status={"conditions": conditions})

    findings = found(replica_set("True"))
    assert [(finding.code, str(finding.subject)) for finding in findings] == [("workload.create-failed", "Deployment/shop/cart")]
    assert found(replica_set("False")) == []
