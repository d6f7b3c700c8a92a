"""Changes are what the cluster still knows, newest first, without the values of variables."""

from __future__ import annotations

from datetime import timedelta

from cluster.reference import ObjectRef
from runbooks.changes import changed
from tests.runbooks.worlds import world

TEXT = """
kind: Deployment
metadata: {name: web, namespace: ml, uid: d, creationTimestamp: "2026-01-10T00:00:00Z"}
spec: {replicas: 1, selector: {}, template: {spec: {containers: [{name: c, image: "x:2"}]}}}
---
kind: ReplicaSet
metadata:
  name: web-1
  namespace: ml
  creationTimestamp: "2026-01-10T00:00:00Z"
  annotations: {deployment.kubernetes.io/revision: "1"}
  ownerReferences: [{kind: Deployment, name: web, uid: d, controller: true}]
spec: {template: {spec: {containers: [{name: c, image: "x:1", env: [{name: PASSWORD, value: old-canary}]}]}}}
---
kind: ReplicaSet
metadata:
  name: web-2
  namespace: ml
  creationTimestamp: "2026-01-15T11:30:00Z"
  annotations: {deployment.kubernetes.io/revision: "2"}
  ownerReferences: [{kind: Deployment, name: web, uid: d, controller: true}]
spec: {template: {spec: {containers: [{name: c, image: "x:2", env: [{name: PASSWORD, value: new-canary}]}]}}}
---
kind: Event
metadata: {name: e1, namespace: ml}
involvedObject: {kind: HorizontalPodAutoscaler, namespace: ml, name: web}
type: Normal
reason: SuccessfulRescale
message: "New size: 5; reason: cpu resource utilization above target"
count: 3
lastTimestamp: "2026-01-15T11:45:00Z"
---
kind: Event
metadata: {name: e2, namespace: ml}
involvedObject: {kind: Pod, namespace: ml, name: web-2-a}
type: Warning
reason: BackOff
message: not a change
lastTimestamp: "2026-01-15T11:50:00Z"
---
kind: Node
metadata: {name: g, creationTimestamp: "2026-01-15T11:10:00Z"}
status:
  conditions:
  - {type: Ready, status: "False", lastTransitionTime: "2026-01-15T11:55:00Z", message: kubelet stopped}
"""


def test_all_sources_in_one_order() -> None:
    found = changed(world(TEXT), timedelta(hours=24))
    assert [(str(item.object.kind), item.object.name, item.what) for item in found] == [
        ("Node", "g", "Ready became False"),
        ("HorizontalPodAutoscaler", "web", "autoscaled"),
        ("Deployment", "web", "revision 1 to 2"),
        ("Node", "g", "node joined"),
    ]
    assert found[1].details.endswith("(3 times)")


def test_fields_are_said_and_values_of_variables_are_not() -> None:
    [rollout] = [item for item in changed(world(TEXT), timedelta(hours=24)) if item.what.startswith("revision")]
    assert "image: x:1 -> x:2" in rollout.details
    assert "env[PASSWORD]" in rollout.details
    assert "canary" not in rollout.details


def test_only_the_span_and_only_what_was_asked_about() -> None:
    assert [item.what for item in changed(world(TEXT), timedelta(minutes=10))] == ["Ready became False"]
    about = changed(world(TEXT), timedelta(hours=24), ObjectRef("Deployment", "ml", "web"))
    assert [item.what for item in about] == ["revision 1 to 2"]
