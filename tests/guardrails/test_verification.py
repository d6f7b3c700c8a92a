"""What each check takes for proof, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.action import target
from guardrails.verification import Check, NodeSchedulable, PodReplaced, ReplicasReady, RolloutComplete, judge, queries
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
