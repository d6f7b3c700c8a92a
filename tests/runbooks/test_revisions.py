from __future__ import annotations

from datetime import timedelta

import msgspec

from cluster.facts.pod import Pod
from cluster.facts.workload import PodTemplate
from cluster.reference import ObjectRef
from runbooks.revisions import changes, failing, pods_of_revision, rollout_of
from tests.runbooks.manifests import deployment, event, manifest, pod, replica_set
from tests.runbooks.worlds import NOW, world

WEB = ObjectRef("Deployment", "shop", "web")


def template(**container: object) -> PodTemplate:
    return msgspec.convert({"spec": {"containers": [{"name": "main", **container}]}}, PodTemplate, strict=False)


def test_changes_name_the_field_by_container_and_variable() -> None:
    before = template(image="app:1", env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])
    after = template(image="app:2", env=[{"name": "B", "value": "3"}])
    assert [str(change) for change in changes(before, after)] == [
        "spec.containers[main].env[A].value: 1 -> (absent)",
        "spec.containers[main].env[B].value: 2 -> 3",
        "spec.containers[main].image: app:1 -> app:2",
    ]


def test_a_variable_given_twice_stays_visible() -> None:
    before = template(env=[{"name": "A", "value": "1"}])
    after = template(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])
    assert any(change.path == "spec.containers[main].env[A#1].value" for change in changes(before, after))


def test_equal_templates_and_controller_labels_are_no_change() -> None:
    one = msgspec.convert({"metadata": {"labels": {"app": "x", "pod-template-hash": "1"}}}, PodTemplate)
    two = msgspec.convert({"metadata": {"labels": {"app": "x", "pod-template-hash": "2"}}}, PodTemplate)
    assert changes(one, two) == ()


def test_a_rollback_counts_from_its_event_not_from_the_old_replica_set() -> None:
    text = (
        deployment("web", {"app": "web"})
        + replica_set("web-1", "web", 3, "app:1", created="2026-01-01T00:00:00Z")
        + replica_set("web-2", "web", 2, "app:2")
        + event("Deployment", "web", "ScalingReplicaSet", "Scaled up replica set web-1 from 0 to 1", at="2026-01-15T11:30:00Z")
    )
    rollout = rollout_of(world(text), WEB)
    assert rollout is not None
    assert (rollout.current.name, rollout.previous.name, rollout.revision) == ("web-1", "web-2", 3)
    assert rollout.at is not None
    assert rollout.at.isoformat() == "2026-01-15T11:30:00+00:00"
    assert [change.path for change in rollout.touching("image")] == ["spec.containers[main].image"]


def test_pods_are_told_apart_by_revision() -> None:
    text = (
        deployment("web", {"app": "web"})
        + replica_set("web-1", "web", 1, "app:1")
        + replica_set("web-2", "web", 2, "app:2")
        + pod("web-1-a", owner=("ReplicaSet", "web-1"))
        + pod("web-2-a", owner=("ReplicaSet", "web-2"))
    )
    made = world(text)
    rollout = rollout_of(made, WEB)
    assert rollout is not None
    current, earlier = pods_of_revision(made, rollout)
    assert ([item.name for item in current], [item.name for item in earlier]) == (["web-2-a"], ["web-1-a"])


def test_controller_revisions_hold_their_template_as_data() -> None:
    def revision(number: int, image: str) -> str:
        owner = [{"kind": "StatefulSet", "name": "db", "controller": True}]
        data = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
        return manifest("ControllerRevision", f"db-{number}", metadata={"ownerReferences": owner}, revision=number, data=data)

    made = world(manifest("StatefulSet", "db") + revision(1, "pg:15") + revision(2, "pg:16"))
    rollout = rollout_of(made, ObjectRef("StatefulSet", "shop", "db"))
    assert rollout is not None
    assert [str(change) for change in rollout.changes] == ["spec.containers[main].image: pg:15 -> pg:16"]
    broken = world(
        manifest("StatefulSet", "db") + revision(1, "pg:15") + revision(2, "x").replace('"spec": {"template"', '"no": {"template"')
    )
    assert rollout_of(broken, ObjectRef("StatefulSet", "shop", "db")) is None


def test_a_single_revision_is_no_rollout() -> None:
    assert rollout_of(world(deployment("web", {}) + replica_set("web-1", "web", 1, "a")), WEB) is None


def test_failing_says_why_and_gives_time_to_start() -> None:
    def first(text: str) -> Pod:
        return world(text).all(Pod)[0]

    starting = {"phase": "Pending", "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
    fresh = (NOW - timedelta(minutes=1)).isoformat()
    assert failing(first(pod("a", status=starting, created=fresh)), NOW) is None
    assert failing(first(pod("a", status=starting)), NOW) == "it is not ready 60 minutes after its creation"
    pulling = {"phase": "Pending", "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ErrImagePull"}}}]}
    assert failing(first(pod("a", status=pulling, created=fresh)), NOW) == "container main is waiting: ErrImagePull"
    assert failing(first(pod("a")), NOW) is None
