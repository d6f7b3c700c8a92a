"""The audit log sees each write of a person once, and does not take a question for a write."""

from __future__ import annotations

from tests.lab.api import Object
from tests.lab.lab import Lab

CONFIG: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "note"}, "data": {"text": "hello"}}


def test_a_write_is_seen_once(lab: Lab) -> None:
    with lab.namespace() as space:
        mark = lab.audit.mark()
        lab.client("admin").json("POST", f"/api/v1/namespaces/{space}/configmaps", body=CONFIG)
        [write] = lab.audit.writes(since=mark)
        assert (write.user, write.verb, write.resource, write.namespace, write.code) == ("admin", "create", "configmaps", space, 201)
        assert lab.audit.writes("admin", mark) == (write,)
        assert lab.audit.writes("executor", mark) == ()


def test_a_refused_write_is_seen_with_its_code(lab: Lab) -> None:
    mark = lab.audit.mark()
    lab.client("reader").request("DELETE", "/api/v1/nodes/cpu-0")
    [write] = lab.audit.writes("reader", mark)
    assert (write.verb, write.name, write.code) == ("delete", "cpu-0", 403)


def test_reading_asking_and_dry_running_are_no_writes(lab: Lab) -> None:
    mark = lab.audit.mark()
    lab.client("reader").list("v1", "Pod")
    attributes = {"namespace": "default", "verb": "patch", "group": "apps", "resource": "deployments"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "alice", "resourceAttributes": attributes},
    }
    answer = lab.client("dryrun").json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
    assert answer["status"]["allowed"] is True
    node = lab.client("dryrun").path("v1", "Node", None, "cpu-0")
    cordon = {"spec": {"unschedulable": True}}
    lab.client("dryrun").json("PATCH", node, query={"dryRun": "All"}, body=cordon, content_type="application/merge-patch+json")
    assert lab.audit.writes(since=mark) == ()
    [rehearsal] = lab.audit.writes(since=mark, dry_runs=True)
    assert (rehearsal.user, rehearsal.dry_run, rehearsal.code) == ("dryrun", True, 200)
    stored = lab.client().get("v1", "Node", "cpu-0")
    assert stored is not None
    assert "unschedulable" not in stored["spec"]


def test_the_lab_itself_does_not_count(lab: Lab) -> None:
    mark = lab.audit.mark()
    with lab.namespace():
        pass
    assert lab.audit.writes(since=mark) == ()
    assert lab.audit.writes("lab:loader", mark) != ()


def test_an_impersonated_write_names_both(lab: Lab) -> None:
    mark = lab.audit.mark()
    lab.client("reader")._http.delete("/api/v1/nodes/cpu-0", headers={"Impersonate-User": "bob"})
    [write] = lab.audit.writes("reader", mark)
    assert (write.impersonated, write.code) == ("bob", 403)
