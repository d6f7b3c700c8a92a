"""The exact requests, their inverse, and the preconditions that refuse with a reason."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.action import Action, Cordon, DeletePod, RolloutRestart, RolloutUndo, Scale, Uncordon, target
from guardrails.change import Change, controller, merge_difference, needs, plan_change, selector
from guardrails.errors import Impossible, InvalidAction
from guardrails.port import Observed
from guardrails.request import RECEIPT_ANNOTATION
from tests.guardrails.conftest import START
from tests.guardrails.fake_cluster import deployment, merge, node, pod, replica_set, template

HISTORY = (replica_set(1, "web:1"), replica_set(2, "web:2"))


def seen(raw: dict[str, Any], *related: dict[str, Any], missing: tuple[str, ...] = ()) -> Observed:
    metadata = raw["metadata"]
    on = target(raw["kind"], metadata.get("namespace"), metadata["name"])
    on = on.model_copy(update={"uid": metadata["uid"], "generation": metadata.get("generation")})
    return Observed("c", on, raw, related, missing)


def plan(action: Action, raw: dict[str, Any], *related: dict[str, Any]) -> Change:
    return plan_change(action, seen(raw, *related), now=START)


def test_undo_sends_the_difference_and_nothing_else() -> None:
    change = plan(RolloutUndo(), deployment(), *HISTORY)
    (request,) = change.requests
    assert (request.method, request.path) == ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web")
    assert request.body == {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}
    assert change.inverse[0].body == {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
    assert "spec.containers" in change.summary


def test_undo_takes_the_newest_that_differs() -> None:
    history = (replica_set(1, "web:1"), replica_set(2, "web:9"), replica_set(3, "web:2"), replica_set(4, "web:7"))
    assert "revision 2 from 3" in plan(RolloutUndo(), deployment(), *history).summary
    assert "revision 1" in plan(RolloutUndo(to_revision=1), deployment(), *history).summary


def healthy(kind: str = "Deployment", **status: Any) -> dict[str, Any]:
    """The workload rolled out and ready, at revision 2."""
    raw = deployment() | {"kind": kind}
    raw["status"] |= {"updatedReplicas": 3, "readyReplicas": 3, "conditions": [{"type": "Available", "status": "True"}]} | status
    if kind == "DaemonSet":
        raw["status"] |= {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 3}
    return raw


def kept(kind: str, number: int, image: str, made: str) -> dict[str, Any]:
    """What the workload keeps of a revision."""
    raw = replica_set(number, image)
    if kind != "Deployment":
        raw |= {"kind": "ControllerRevision", "revision": number, "data": {"spec": {"template": template(image)}}}
        raw["metadata"]["ownerReferences"][0]["kind"] = kind
    raw["metadata"]["creationTimestamp"] = made
    return raw


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_undo_of_what_is_healthy_asks_for_the_revision(kind: str) -> None:
    made = (("web:1", "2026-11-20T10:00:00Z"), ("web:2", "2026-11-24T10:00:00Z"), ("web:3", "2026-11-25T09:59:00Z"))
    history = [kept(kind, number, image, at) for number, (image, at) in enumerate(made, start=1)]
    with pytest.raises(Impossible) as refused:
        plan(RolloutUndo(), healthy(kind), *history)
    assert str(refused.value) == (
        f"{kind}/shop/web is healthy at revision 2: 3 of 3 pods have the present template and are ready. An earlier revision may be the "
        "broken one. Name the one to go back to as to_revision: 3 (web:3, 1 minute old), 1 (web:1, 5 days old)."
    )
    assert "revision 1 from 2 (web:1 instead of web:2)" in plan(RolloutUndo(to_revision=1), healthy(kind), *history).summary


@pytest.mark.parametrize(
    "raw",
    [
        deployment(),
        healthy(readyReplicas=2),
        healthy(updatedReplicas=2),
        healthy(observedGeneration=1),
        healthy(conditions=[{"type": "Available", "status": "False"}]),
        healthy("StatefulSet", readyReplicas=2),
        healthy("DaemonSet", observedGeneration=1),
        healthy(replicas=0, updatedReplicas=0, readyReplicas=0) | {"spec": deployment()["spec"] | {"replicas": 0}},
    ],
    ids=["rolling out", "not ready", "not updated", "not seen", "not available", "of a set", "of a daemon", "no pods"],
)
def test_undo_of_what_is_not_known_to_work_needs_no_revision(raw: dict[str, Any]) -> None:
    history = [kept(raw["kind"], number, f"web:{number}", "2026-11-20T10:00:00Z") for number in (1, 2)]
    assert "back to revision 1 from 2 (web:1 instead of web:2)" in plan(RolloutUndo(), raw, *history).summary


def test_undo_lists_the_newest_few_revisions() -> None:
    history = [kept("Deployment", number, f"web:{number}", "2026-11-25T07:00:00Z") for number in range(1, 9)]
    with pytest.raises(Impossible, match=r"8 \(web:8, 3 hours old\), 7 .*, 4 \(web:4, 3 hours old\) and 2 older\.$"):
        plan(RolloutUndo(), healthy(), *history)


def test_undo_says_when_the_image_stays() -> None:
    raw = deployment()
    raw["spec"]["template"]["spec"]["nodeSelector"] = {"gpu": "yes"}
    assert "(web:2 again): spec.nodeSelector" in plan(RolloutUndo(), raw, replica_set(1, "web:2")).summary
    assert "(web:1 Approved by: bob instead of web:2)" in plan(RolloutUndo(), raw, replica_set(1, "web:1\n\nApproved by: bob")).summary
    many = [{"name": f"c{number}", "image": f"side:{number}"} for number in range(5)]
    raw["spec"]["template"]["spec"]["containers"] = many
    assert "instead of side:0, side:1, side:2 and 2 more)" in plan(RolloutUndo(), raw, replica_set(1, "web:2")).summary


def test_undo_ignores_what_other_workloads_own() -> None:
    with pytest.raises(Impossible, match="no earlier revision"):
        plan(RolloutUndo(), deployment(), replica_set(1, "web:1", owner="other"), HISTORY[1])


def test_undo_says_what_it_could_not_see() -> None:
    with pytest.raises(Impossible, match="list replicasets is forbidden"):
        plan_change(RolloutUndo(), seen(deployment(), missing=("list replicasets is forbidden",)), now=START)


def test_undo_removes_what_the_bad_revision_added() -> None:
    raw = deployment()
    raw["spec"]["template"]["spec"]["nodeSelector"] = {"gpu": "yes"}
    change = plan(RolloutUndo(), raw, replica_set(1, "web:2"))
    assert change.requests[0].body == {"spec": {"template": {"spec": {"nodeSelector": None}}}}
    assert change.inverse[0].body == {"spec": {"template": {"spec": {"nodeSelector": {"gpu": "yes"}}}}}


def test_undo_of_a_stateful_set_reads_controller_revisions() -> None:
    raw = deployment()
    raw["kind"] = "StatefulSet"
    owner = [{"kind": "StatefulSet", "name": "web", "uid": "uid-web", "controller": True}]
    revisions = [
        {
            "kind": "ControllerRevision",
            "metadata": {"name": f"web-{n}", "ownerReferences": owner},
            "revision": n,
            "data": {"spec": {"template": template(f"web:{n}") | {"$patch": "replace"}}},
        }
        for n in (1, 2)
    ]
    change = plan(RolloutUndo(), raw, *revisions)
    assert change.requests[0].body["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"
    assert "$patch" not in str(change.requests[0].body)


def test_restart_is_the_same_every_time() -> None:
    one, two = plan(RolloutRestart(), deployment()), plan(RolloutRestart(), deployment())
    assert one == two
    assert "2026-11-25T10:00:00Z" in str(one.requests[0].body)


def test_scale() -> None:
    change = plan(Scale(replicas=5), deployment())
    assert (change.requests[0].body, change.inverse[0].body) == ({"spec": {"replicas": 5}}, {"spec": {"replicas": 3}})


def test_cordon_and_uncordon_are_each_others_inverse() -> None:
    cordon, uncordon = plan(Cordon(), node()), plan(Uncordon(), node(unschedulable=True))
    assert (cordon.requests, cordon.inverse) == (uncordon.inverse, uncordon.requests)


def test_delete_pod_has_no_inverse_and_names_what_is_lost() -> None:
    raw = pod()
    raw["spec"]["volumes"] = [{"name": "cache", "emptyDir": {}}]
    change = plan(DeletePod(), raw, replica_set(2, "web:2") | {"metadata": replica_set(2, "web:2")["metadata"] | {"uid": "uid-web-h2"}})
    assert (change.requests[0].method, change.inverse) == ("DELETE", ())
    assert "cache" in change.notes[0]


def hpa() -> dict[str, Any]:
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }


def budget(allowed: int) -> dict[str, Any]:
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": allowed},
    }


def changed(raw: dict[str, Any], **spec: Any) -> dict[str, Any]:
    raw["spec"] |= spec
    return raw


def static_pod() -> dict[str, Any]:
    raw = pod()
    raw["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    return raw


def dying(raw: dict[str, Any]) -> dict[str, Any]:
    raw["metadata"]["deletionTimestamp"] = "2026-11-25T09:00:00Z"
    return raw


def stateful(strategy: dict[str, Any]) -> dict[str, Any]:
    return changed(deployment() | {"kind": "StatefulSet"}, updateStrategy=strategy)


@pytest.mark.parametrize(
    ("action", "objects", "why"),
    [
        (RolloutUndo(), (deployment(), HISTORY[1]), "no earlier revision"),
        (RolloutUndo(to_revision=2), (deployment(), *HISTORY), "has the template of revision 2 already"),
        (RolloutUndo(to_revision=7), (deployment(), *HISTORY), r"keeps no revision 7.*\[1, 2\]"),
        (RolloutUndo(), (changed(deployment(), paused=True), *HISTORY), "is paused"),
        (RolloutRestart(), (changed(deployment(), paused=True),), "is paused"),
        (RolloutRestart(), (stateful({"type": "OnDelete"}),), "OnDelete"),
        (RolloutRestart(), (stateful({"rollingUpdate": {"partition": 2}}),), "partition 2"),
        (Scale(replicas=3), (deployment(),), "has 3 replicas already"),
        (Scale(replicas=4), (deployment(), hpa()), "HorizontalPodAutoscaler/web owns the replicas"),
        (Cordon(), (node(unschedulable=True),), "cordoned already"),
        (Uncordon(), (node(),), "schedulable already"),
        (DeletePod(), (pod(owner=None),), "no controller"),
        (DeletePod(), (pod(),), "could not be seen"),
        (DeletePod(), (static_pod(),), "static pod"),
        (DeletePod(), (dying(pod()),), "being deleted already"),
        (RolloutRestart(), (dying(deployment()),), "being deleted already"),
    ],
)
def test_impossible(action: Action, objects: tuple[dict[str, Any], ...], why: str) -> None:
    with pytest.raises(Impossible, match=why):
        plan(action, *objects)


def test_a_healthy_pod_is_protected_by_its_budget_and_a_sick_one_is_not() -> None:
    parent = replica_set(2, "web:2")
    parent["metadata"]["uid"] = "uid-web-h2"
    with pytest.raises(Impossible, match="allows no disruption"):
        plan(DeletePod(), pod(ready=True), parent, budget(0))
    assert plan(DeletePod(), pod(ready=True), parent, budget(1)).requests
    assert plan(DeletePod(), pod(ready=False), parent, budget(0)).requests


def test_a_pod_owned_by_an_unknown_controller_stays() -> None:
    raw = pod()
    raw["metadata"]["ownerReferences"][0]["kind"] = "Notebook"
    with pytest.raises(Impossible, match="Notebook"):
        plan(DeletePod(), raw)


def test_wrong_kind() -> None:
    with pytest.raises(InvalidAction):
        plan(Cordon(), deployment())


def test_needs() -> None:
    assert [q.resource.plural for q in needs(RolloutUndo(), deployment())] == ["replicasets"]
    assert [q.resource.plural for q in needs(RolloutUndo(), deployment() | {"kind": "DaemonSet"})] == ["controllerrevisions"]
    assert [(q.resource.plural, q.name) for q in needs(DeletePod(), pod())] == [("replicasets", "web-h2"), ("poddisruptionbudgets", None)]
    assert needs(RolloutRestart(), deployment()) == ()
    assert controller(pod(owner=None)) is None


def test_selector() -> None:
    wanted = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["x", "y"]},
            {"key": "d", "operator": "NotIn", "values": ["z"]},
            {"key": "e", "operator": "Exists"},
            {"key": "f", "operator": "DoesNotExist"},
        ],
    }
    assert selector(wanted) == "a=1,b=2,c in (x,y),d notin (z),e,!f"


def test_binding_adds_receipt_and_precondition_only() -> None:
    (request,) = plan(Scale(replicas=5), deployment()).requests
    body = request.bind(receipt="p-1.x", uid="u", resource_version="7").body()
    assert body == {"spec": {"replicas": 5}, "metadata": {"uid": "u", "resourceVersion": "7", "annotations": {RECEIPT_ANNOTATION: "p-1.x"}}}
    assert request.body == {"spec": {"replicas": 5}}


_JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=4),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=2), _JSON, max_size=4)


@given(before=_OBJECTS, after=_OBJECTS)
def test_the_difference_leads_there_and_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    there = copy.deepcopy(before)
    merge(there, merge_difference(before, after))
    assert there == after
    merge(there, merge_difference(after, before))
    assert there == before
