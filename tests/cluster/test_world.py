from __future__ import annotations

import gc
import weakref

import msgspec
import pytest

from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment, Job, ReplicaSet
from cluster.reading import LogText, Missing, Reading, Why
from cluster.reference import ContainerRef, ObjectRef, Scope
from cluster.world import Presence, World
from tests.runbooks.manifests import manifest
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


def test_the_mirror_pods_of_a_node_are_workloads_of_their_own() -> None:
    owners = "ownerReferences: [{kind: Node, name: node-1, controller: true}]"
    pods = [f"kind: Pod\nmetadata: {{name: {name}, namespace: shop, {owners}}}\n" for name in ("etcd-node-1", "kube-scheduler-node-1")]
    made = world("---\n".join(pods))
    assert [(str(top), [pod.name for pod in pods]) for top, pods in made.workloads()] == [
        ("Pod/shop/etcd-node-1", ["etcd-node-1"]),
        ("Pod/shop/kube-scheduler-node-1", ["kube-scheduler-node-1"]),
    ]


def test_a_job_that_was_made_again_under_its_name_is_not_taken_for_the_earlier_one() -> None:
    owners = "ownerReferences: [{kind: Job, name: fit, controller: true, uid: %s}]"
    pods = [f"kind: Pod\nmetadata: {{name: fit-{uid}, namespace: shop, {owners % uid}}}\n" for uid in ("old", "new")]
    made = world("---\n".join([*pods, "{kind: Job, metadata: {name: fit, namespace: shop, uid: new}}"]))
    [(top, both)] = made.workloads()
    assert (str(top), len(both)) == ("Job/shop/fit", 2)
    assert [made.top_owner(pod.ref).uid for pod in both] == ["old", "new"]


def test_an_evicted_pod_that_kept_its_conditions_is_not_ready() -> None:
    kept = {"conditions": [{"type": "Ready", "status": "True"}]}
    pods = [manifest("Pod", name, status={**kept, "phase": phase}) for name, phase in (("gone", "Failed"), ("here", "Running"))]
    made = world("".join(pods))
    assert [pod.name for pod in made.pods_not_ready()] == ["gone"]
    assert made.unready_pods() == ()


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


LOG = Reading(LogText(("one",)))
CONTAINER = ContainerRef("shop", "web-1", "main")


def logged(made: World) -> list[str]:
    return [line for reading in made.logs.values() for line in reading.value.lines]


def logged_kinds(made: World) -> int:
    return len(made.once(kinds)) + len(made.once(logged))


def jobs_presence(made: World) -> list[Presence]:
    return [made.presence("Job", "shop", "once")]


def test_what_rests_on_no_log_outlives_a_log() -> None:
    made = world(DEPLOYMENT)
    before = made.once(kinds)
    assert (made.once(logged), made.once(logged_kinds)) == ([], 1)
    grown = made.with_log(CONTAINER, previous=False, log=LOG)
    assert grown.once(kinds) is before
    assert (grown.once(logged), grown.once(logged_kinds)) == (["one"], 2)


@pytest.mark.parametrize(("restarts", "previous", "named"), [(0, False, 0), (0, True, 0), (2, False, 0), (2, True, 1)])
def test_a_log_that_a_container_does_not_have_is_no_gap(restarts: int, previous: bool, named: int) -> None:
    """That of an earlier run, which was there once, is."""
    status = {"containerStatuses": [{"name": CONTAINER.container, "restartCount": restarts}]}
    made = world(manifest("Pod", CONTAINER.pod, namespace=CONTAINER.namespace, status=status))
    gaps = tuple(Missing("log", why) for why in (Why.NOT_FOUND, Why.FORBIDDEN))
    grown = made.with_log(CONTAINER, previous=previous, log=Reading(LogText(), gaps))
    assert grown.missing == gaps[1 - named :]
    assert grown.logs[CONTAINER, previous].missing == gaps


def test_what_rests_on_a_listing_is_made_again_when_nothing_was_listed() -> None:
    made = world(DEPLOYMENT)
    before, unknown = made.once(kinds), made.once(jobs_presence)
    other = made.with_facts("Endpoints", (), complete=True)
    assert other.once(jobs_presence) is unknown
    grown = other.with_facts("Job", (), complete=True)
    assert grown.once(jobs_presence) == [Presence.ABSENT]
    assert grown.once(kinds) is before


def test_a_failed_derivation_leaves_no_note_behind() -> None:
    made = world(DEPLOYMENT)
    with pytest.raises(ZeroDivisionError):
        made.once(failing)
    assert made.once(kinds) is made.with_log(CONTAINER, previous=False, log=LOG).once(kinds)


def failing(made: World) -> float:
    return len(made.logs) / 0


class Describing:
    """Derived from a world, and holding it."""

    def __init__(self, described: World) -> None:
        self.world = described


def test_a_dismissed_world_is_freed_without_the_collector() -> None:
    made = world(DEPLOYMENT)
    held, freed = made.once(Describing), weakref.ref(made)
    assert held.world is made
    gc.disable()
    try:
        made.dismiss()
        assert made.once(len_of_facts) == 1
        made.dismiss()
        del made, held
        assert freed() is None
    finally:
        gc.enable()


def len_of_facts(described: World) -> int:
    return len(described.facts)
