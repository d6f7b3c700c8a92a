from __future__ import annotations

from typing import Any

from runbooks.detectors import rollouts
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import deployment, manifest, pod, replica_set
from tests.runbooks.worlds import codes, world

BEHIND = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
OLD_SET = replica_set("web-1", "web", 1, "app:1", created="2026-01-15T10:00:00Z")
NEW_SET = replica_set("web-2", "web", 2, "app:2", created="2026-01-15T11:50:00Z")
OLD_POD = pod("web-1-a", {"app": "web"}, owner=("ReplicaSet", "web-1"))
CRASHED = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
CRASHED |= {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
STARTING = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}


def new_pod(status: Any, created: str = "2026-01-15T11:59:00Z") -> str:
    return pod("web-2-a", {"app": "web"}, owner=("ReplicaSet", "web-2"), status=status, created=created)


def web(status: Any = None, **spec: Any) -> str:
    return deployment("web", {"app": "web"}, status=status or BEHIND, container={"image": "app:2"}, **spec)


def found(text: str, *complete: str) -> list[Finding]:
    made = world(text, complete=complete)
    return [finding for detector in rollouts.DETECTORS for finding in detector(made)]


def test_a_new_revision_that_crashes_while_the_old_one_runs() -> None:
    findings = found(web(replicas=2) + OLD_SET + NEW_SET + OLD_POD + new_pod(CRASHED))
    assert [(finding.code, finding.certainty) for finding in findings] == [("rollout.bad-revision", Certainty.LIKELY)]
    assert "image: app:1 -> app:2" in findings[0].explanation
    assert findings[0].since is not None
    assert findings[0].since.isoformat() == "2026-01-15T11:50:00+00:00"


def test_a_new_revision_that_is_starting_or_ready_is_no_fault() -> None:
    assert found(web(replicas=2) + OLD_SET + NEW_SET + OLD_POD + new_pod(STARTING)) == []
    ready = pod("web-2-a", {"app": "web"}, owner=("ReplicaSet", "web-2"))
    assert found(web(replicas=2) + OLD_SET + NEW_SET + OLD_POD + ready) == []


def test_without_an_earlier_revision_nothing_changed() -> None:
    assert found(web(replicas=2) + NEW_SET + new_pod(CRASHED)) == []


def test_a_deadline_that_passed_is_told_even_when_counts_match() -> None:
    def status(reason: str, state: str) -> dict[str, Any]:
        condition = {"type": "Progressing", "status": state, "reason": reason, "message": 'ReplicaSet "web-2" has timed out progressing.'}
        return {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "conditions": [condition]}

    assert codes(found(web(status("ProgressDeadlineExceeded", "False")))) == {"rollout.deadline-exceeded"}
    assert codes(found(web(status("ReplicaSetCreateError", "False")))) == {"rollout.create-error"}
    assert found(web(status("NewReplicaSetAvailable", "True"))) == []


def test_a_paused_rollout_that_is_behind() -> None:
    assert codes(found(web(paused=True, replicas=2))) == {"rollout.paused"}
    done = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    assert found(web(done, paused=True)) == []


def test_a_rollout_that_can_neither_surge_nor_shrink() -> None:
    unschedulable = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
    both = OLD_SET + NEW_SET + OLD_POD + new_pod(unschedulable)
    status = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    assert "rollout.surge-deadlock" in codes(found(web(status) + both))
    roomy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert "rollout.surge-deadlock" not in codes(found(web({**status, "availableReplicas": 0}, strategy=roomy) + both))


def test_an_update_strategy_that_keeps_old_pods() -> None:
    def stateful(strategy: dict[str, Any], updated: int) -> str:
        status = {"currentRevision": "db-1", "updateRevision": "db-2", "updatedReplicas": updated, "readyReplicas": 3, "replicas": 3}
        return manifest("StatefulSet", "db", spec={"replicas": 3, "updateStrategy": strategy}, status=status)

    assert codes(found(stateful({"type": "OnDelete"}, 0))) == {"workload.update-held"}
    assert codes(found(stateful({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, 1))) == {"workload.update-held"}
    assert found(stateful({"type": "RollingUpdate"}, 1)) == []
    daemon = {"desiredNumberScheduled": 3, "updatedNumberScheduled": 1, "numberReady": 3, "observedGeneration": 2}
    assert codes(found(manifest("DaemonSet", "agent", spec={"updateStrategy": {"type": "OnDelete"}}, status=daemon))) == {
        "workload.update-held"
    }


def test_an_update_strategy_that_no_controller_knows() -> None:
    def resource(strategy: str) -> str:
        return manifest("ScaledObject", "x", spec={"server": {"statefulSetUpdateStrategy": strategy}})

    assert codes(found(resource("SomeStrategy"))) == {"workload.update-strategy-unknown"}
    assert found(resource("RollingUpdate")) == []
