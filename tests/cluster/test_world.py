from __future__ import annotations

import msgspec
import pytest

from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment, Job, ReplicaSet
from cluster.reference import ObjectRef, Scope
from cluster.world import Presence, World
from tests.runbooks.worlds import NOW, world

DEPLOYMENT = "{kind: Deployment, metadata: {name: web, namespace: shop}}\n---\n"


def top(text: str, pod: str) -> str:
    return str(world(text).top_owner(ObjectRef("Pod", "shop", pod)))


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ("{name: web-5d4f8-abcde, namespace: shop, labels: {pod-template-hash: 5d4f8}}", "Deployment/shop/web"),
        (
            "{name: web-5d4f8-abcde, namespace: shop, labels: {pod-template-hash: 5d4f8}, "
            "ownerReferences: [{kind: ReplicaSet, name: web-5d4f8, controller: true}]}",
            "Deployment/shop/web",
        ),
        (
            "{name: a, namespace: shop, ownerReferences: [{kind: ReplicaSet, name: other, controller: true}]}",
            "ReplicaSet/shop/other",
        ),
        ("{name: once-abcde, namespace: shop, labels: {job-name: once}}", "Job/shop/once"),
        ("{name: web-5d4f8d9c7b-bcdfg, namespace: shop}", "Deployment/shop/web"),
        ("{name: web-5d4f8d9c7b-bcdfg, namespace: shop, labels: {app: x}}", "Pod/shop/web-5d4f8d9c7b-bcdfg"),
        ("{name: api-5d4f8d9c7b-bcdfg, namespace: shop}", "Pod/shop/api-5d4f8d9c7b-bcdfg"),
    ],
)
def test_the_workload_of_a_pod_whose_owners_were_not_read(metadata: str, owner: str) -> None:
    name = metadata[7 : metadata.index(",")]
    assert top(f"{DEPLOYMENT}kind: Pod\nmetadata: {metadata}\n", name) == owner


def test_the_pods_below_a_deployment_are_found_without_its_replicaset() -> None:
    made = world(DEPLOYMENT + "kind: Pod\nmetadata: {name: web-5d4f8-abcde, namespace: shop, labels: {pod-template-hash: 5d4f8}}\n")
    assert [pod.name for pod in made.pods_of(ObjectRef("Deployment", "shop", "web"))] == ["web-5d4f8-abcde"]


def test_a_mirror_pod_belongs_to_itself() -> None:
    text = "kind: Pod\nmetadata: {name: etcd-node-1, namespace: shop, ownerReferences: [{kind: Node, name: node-1, controller: true}]}\n"
    assert top(text, "etcd-node-1") == "Pod/shop/etcd-node-1"


def test_absence_is_proven_only_where_all_was_read() -> None:
    made = World("test", NOW, Scope("test", ("shop",)))
    pods = (msgspec.convert({"metadata": {"name": "a", "namespace": "shop"}}, Pod),)
    made = made.with_facts("Pod", pods, complete=True)
    assert made.presence("Pod", "shop", "a") is Presence.PRESENT
    assert made.presence("Pod", "shop", "b") is Presence.ABSENT
    assert made.presence("Pod", "other", "b") is Presence.UNKNOWN
    assert made.presence("ConfigMap", "shop", "b") is Presence.UNKNOWN


def test_events_of_an_earlier_object_of_the_same_name_are_left_out() -> None:
    event = "---\nkind: Event\nmetadata: {name: e%d, namespace: shop}\ninvolvedObject: {kind: Pod, name: a, namespace: shop, uid: %s}\n"
    made = world("kind: Pod\nmetadata: {name: a, namespace: shop, uid: new}\n" + event % (1, "old") + event % (2, "new"))
    assert [item.name for item in made.events(ObjectRef("Pod", "shop", "a", "new"))] == ["e2"]


def test_what_is_derived_is_made_once_and_not_carried_over_to_other_facts() -> None:
    made = world(DEPLOYMENT)
    assert made.once(kinds) is made.once(kinds)
    grown = made.with_facts("Job", (msgspec.convert({"metadata": {"name": "once"}}, Job),), complete=True)
    assert grown.once(kinds) == ["Deployment", "Job"]


def kinds(made: World) -> list[str]:
    return sorted(fact.kind for kind in (Deployment, Job, ReplicaSet) for fact in made.all(kind))
