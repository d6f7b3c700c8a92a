"""What each check takes for proof, and what it does not."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from guardrails.action import Target, target
from guardrails.verification import (
    Check,
    FieldIs,
    MigConfigured,
    NodeDrained,
    NodeSchedulable,
    ObjectGone,
    PodReplaced,
    PodResized,
    PodsGone,
    ReplicasReady,
    RolloutComplete,
    Suspension,
    TaintIs,
    VolumeExpanded,
    judge,
    queries,
    suspension_path,
)
from tests.guardrails.fake_cluster import deployment, node, pod, replica_set

WEB = target("Deployment", "shop", "web").model_copy(update={"uid": "uid-web"})
POD = target("Pod", "shop", "web-h2-x").model_copy(update={"uid": "uid-web-h2-x"})
NODE = target("Node", None, "gpu-1").model_copy(update={"uid": "uid-gpu-1"})


def web(seen: int = 2, updated: int = 3, total: int = 3, ready: int = 3, condition: dict[str, str] | None = None) -> dict[str, Any]:
    raw = deployment()
    raw["status"] = {"observedGeneration": seen, "updatedReplicas": updated, "replicas": total, "readyReplicas": ready}
    raw["status"]["conditions"] = [{"type": "Progressing"} | condition] if condition else []
    return raw


EXCEEDED = {"reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-11-25T09:00:00Z"}
SINCE = RolloutComplete(target=WEB, since="2026-11-25T10:00:00Z")
DAEMON = {
    "kind": "DaemonSet",
    "metadata": {"name": "web", "uid": "uid-web", "generation": 1},
    "status": {"observedGeneration": 1, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4, "numberReady": 4},
}


@pytest.mark.parametrize(
    ("check", "objects", "status"),
    [
        (SINCE, (web(),), "succeeded"),
        (SINCE, (web(seen=1),), "inconclusive"),
        (SINCE, (web(updated=2),), "inconclusive"),
        (SINCE, (web(total=4),), "inconclusive"),
        (SINCE, (web(ready=2),), "inconclusive"),
        (SINCE, (web(ready=2, condition=EXCEEDED),), "inconclusive"),
        (SINCE, (web(ready=2, condition=EXCEEDED | {"lastUpdateTime": "2026-11-25T10:00:01Z"}),), "failed"),
        (SINCE, (), "failed"),
        (SINCE, (web() | {"metadata": {"name": "web", "uid": "other"}},), "failed"),
        (RolloutComplete(target=WEB.model_copy(update={"kind": "DaemonSet"})), (DAEMON,), "succeeded"),
        (ReplicasReady(target=WEB, replicas=3), (web(),), "succeeded"),
        (ReplicasReady(target=WEB, replicas=3), (web(ready=2),), "inconclusive"),
        (ReplicasReady(target=WEB, replicas=3), (web(total=4),), "inconclusive"),
        (ReplicasReady(target=WEB, replicas=4), (web(),), "failed"),
        (NodeSchedulable(target=NODE, schedulable=False), (node(unschedulable=True),), "succeeded"),
        (NodeSchedulable(target=NODE, schedulable=False), (node(),), "failed"),
        (PodReplaced(target=POD, owner_kind="ReplicaSet", owner_name="web-h2"), (pod(), replica_set(2, "x")), "inconclusive"),
        (PodReplaced(target=POD, owner_kind="ReplicaSet", owner_name="web-h2"), (replica_set(2, "x"),), "succeeded"),
        (PodReplaced(target=POD, owner_kind="ReplicaSet", owner_name="web-h2"), (), "inconclusive"),
    ],
)
def test_judgement(check: Check, objects: tuple[dict[str, Any], ...], status: str) -> None:
    result = judge(check, objects)
    assert result.status == status, result.detail
    assert result.detail


def test_queries() -> None:
    assert [(q.resource.plural, q.name) for q in queries(SINCE)] == [("deployments", "web")]
    asked = queries(PodReplaced(target=POD, owner_kind="ReplicaSet", owner_name="web-h2"))
    assert [(q.resource.plural, q.name) for q in asked] == [("pods", "web-h2-x"), ("replicasets", "web-h2")]


def thing(kind: str, namespace: str | None = "shop", **parts: Any) -> dict[str, Any]:
    metadata = {"name": "x", "uid": "uid-x"} | ({"namespace": namespace} if namespace else {}) | parts.pop("metadata", {})
    return {"kind": kind, "metadata": metadata, **parts}


def at(kind: str, namespace: str | None = "shop") -> Target:
    return target(kind, namespace, "x").model_copy(update={"uid": "uid-x"})


def tainted(*taints: tuple[str, str]) -> dict[str, Any]:
    return thing("Node", None, spec={"taints": [{"key": key, "effect": effect} for key, effect in taints]})


def mig(profile: str, state: str | None) -> dict[str, Any]:
    labels = {"nvidia.com/mig.config": profile} | ({"nvidia.com/mig.config.state": state} if state else {})
    return thing("Node", None, metadata={"labels": labels})


def cordoned(*, unschedulable: bool = True) -> dict[str, Any]:
    return thing("Node", None, spec={"unschedulable": unschedulable})


def resized(cpu: str = "500m", restarts: int = 1, condition: dict[str, str] | None = None, **limits: str) -> dict[str, Any]:
    container = {"name": "main", "restartCount": restarts, "resources": {"requests": {"cpu": cpu}, "limits": limits}}
    conditions = [{"type": "PodResizePending", "status": "True", **condition}] if condition else []
    return thing("Pod", status={"containerStatuses": [container], "conditions": conditions})


def volume(capacity: str | None, allocated: str = "", conditions: tuple[str, ...] = ()) -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": [{"type": one, "status": "True"} for one in conditions]}
    status |= {"capacity": {"storage": capacity}} if capacity else {}
    status |= {"allocatedResourceStatuses": {"storage": allocated}} if allocated else {}
    return thing("PersistentVolumeClaim", status=status)


def batch(kind: str, suspended: bool | None, condition: str = "", **status: Any) -> dict[str, Any]:
    """A workload whose own field says so; None leaves the field out."""
    spec: dict[str, Any] = {}
    if suspended is not None:
        *outer, last = suspension_path(kind)
        inner = spec
        for part in outer[1:]:
            inner = inner.setdefault(part, {})
        inner[last] = not suspended if last == "active" else suspended
    conditions = [{"type": condition, "status": "True"}] if condition else []
    return thing(kind, spec=spec, status={"conditions": conditions, **status})


TAINT = TaintIs(target=at("Node", None), key="a", effect="NoSchedule", present=True)
UNTAINTED = TAINT.model_copy(update={"present": False})
MIG = MigConfigured(target=at("Node", None), profile="all-1g.10gb")
DRAINED = NodeDrained(target=at("Node", None), pods=("uid-web-h2-x",))
GONE = PodsGone(target=target("Namespace", None, "shop"), pods=("uid-web-h2-x", "uid-y"))
KEY = FieldIs(target=at("ConfigMap"), path=("data", "mode"), value="fast")
UNPAUSED = FieldIs(target=at("Deployment"), path=("spec", "paused"), value=None)
RESIZED = PodResized(target=at("Pod"), container="main", requests={"cpu": "0.5"}, limits={}, restarts_before=1)
LIMITED = RESIZED.model_copy(update={"limits": {"memory": "1Gi"}})
LARGER = VolumeExpanded(target=at("PersistentVolumeClaim"), size="20Gi")


def stopped(kind: str, *, suspended: bool = True) -> Suspension:
    return Suspension(target=at(kind), suspended=suspended)


@pytest.mark.parametrize(
    ("check", "objects", "status"),
    [
        (TAINT, (tainted(("a", "NoSchedule")),), "succeeded"),
        (TAINT, (tainted(("a", "NoExecute"), ("b", "NoSchedule")),), "failed"),
        (UNTAINTED, (thing("Node", None),), "succeeded"),
        (UNTAINTED, (tainted(("a", "NoSchedule")),), "failed"),
        (MIG, (mig("all-1g.10gb", "success"),), "succeeded"),
        (MIG, (mig("all-1g.10gb", "failed"),), "failed"),
        (MIG, (mig("all-1g.10gb", "pending"),), "inconclusive"),
        (MIG, (mig("all-1g.10gb", None),), "inconclusive"),
        (MIG, (mig("all-7g.80gb", "success"),), "failed"),
        (DRAINED, (cordoned(),), "succeeded"),
        (DRAINED, (cordoned(), pod()), "inconclusive"),
        (DRAINED, (cordoned(), pod("another")), "succeeded"),
        (DRAINED, (cordoned(unschedulable=False),), "failed"),
        (GONE, (), "succeeded"),
        (GONE, (pod(),), "inconclusive"),
        (ObjectGone(target=at("ResourceClaim")), (), "succeeded"),
        (ObjectGone(target=at("ResourceClaim")), (thing("ResourceClaim"),), "inconclusive"),
        (ObjectGone(target=at("ResourceClaim")), (thing("ResourceClaim", metadata={"uid": "new"}),), "succeeded"),
        (KEY, (thing("ConfigMap", data={"mode": "fast"}),), "succeeded"),
        (KEY, (thing("ConfigMap", data={"mode": "slow"}),), "failed"),
        (KEY, (thing("ConfigMap"),), "failed"),
        (UNPAUSED, (thing("Deployment", spec={}),), "succeeded"),
        (UNPAUSED, (thing("Deployment", spec={"paused": False}),), "succeeded"),
        (UNPAUSED, (thing("Deployment", spec={"paused": True}),), "failed"),
        (RESIZED, (resized(),), "succeeded"),
        (RESIZED, (resized(cpu="400m"),), "inconclusive"),
        (RESIZED, (resized(restarts=2),), "failed"),
        (RESIZED.model_copy(update={"restarts_before": None}), (resized(restarts=2),), "succeeded"),
        (RESIZED, (resized(condition={"reason": "Infeasible"}),), "failed"),
        (RESIZED, (resized(condition={"reason": "Deferred", "message": "no room"}),), "inconclusive"),
        (RESIZED, (thing("Pod", status={}),), "inconclusive"),
        (LIMITED, (resized(memory="1024Mi"),), "succeeded"),
        (LIMITED, (resized(memory="512Mi"),), "inconclusive"),
        (LARGER, (volume("20Gi"),), "succeeded"),
        (LARGER, (volume("21474836480"),), "succeeded"),
        (LARGER, (volume("10Gi", conditions=("FileSystemResizePending",)),), "inconclusive"),
        (LARGER, (volume(None),), "inconclusive"),
        (LARGER, (volume("10Gi", allocated="ControllerResizeInfeasible"),), "failed"),
        (stopped("Job"), (batch("Job", True, "Suspended"),), "succeeded"),
        (stopped("Job"), (batch("Job", True, "Suspended", active=1),), "inconclusive"),
        (stopped("Job"), (batch("Job", True),), "inconclusive"),
        (stopped("Job"), (batch("Job", False, "Suspended"),), "failed"),
        (stopped("Job"), (batch("Job", None),), "failed"),
        (stopped("Job", suspended=False), (batch("Job", False),), "succeeded"),
        (stopped("Job", suspended=False), (batch("Job", None),), "succeeded"),
        (stopped("Job", suspended=False), (batch("Job", False, "Suspended"),), "inconclusive"),
        (stopped("CronJob"), (batch("CronJob", True),), "succeeded"),
        (stopped("PyTorchJob"), (batch("PyTorchJob", True, "Suspended"),), "succeeded"),
        (stopped("MPIJob"), (batch("MPIJob", True),), "inconclusive"),
        (stopped("RayJob"), (batch("RayJob", True, jobDeploymentStatus="Suspended"),), "succeeded"),
        (stopped("RayJob"), (batch("RayJob", True, jobDeploymentStatus="Suspending"),), "inconclusive"),
        (stopped("RayJob", suspended=False), (batch("RayJob", False, jobDeploymentStatus="Running"),), "succeeded"),
        (stopped("Workload"), (batch("Workload", True),), "succeeded"),
        (stopped("Workload"), (batch("Workload", True, "Admitted"),), "inconclusive"),
        (stopped("Workload", suspended=False), (batch("Workload", False),), "succeeded"),
        (stopped("Workload"), (batch("Workload", False),), "failed"),
    ],
)
def test_judgement_of_the_other_actions(check: Check, objects: tuple[dict[str, Any], ...], status: str) -> None:
    result = judge(check, objects)
    assert result.status == status, result.detail
    assert result.detail


def test_every_check_is_judged_here() -> None:
    judged = {"rollout_complete", "replicas_ready", "node_schedulable", "pod_replaced"}
    judged |= {check.check for check in (TAINT, MIG, DRAINED, GONE, KEY, RESIZED, LARGER, stopped("Job"))} | {"object_gone"}
    assert judged == {one.model_fields["check"].default for one in get_args(get_args(Check)[0])}
