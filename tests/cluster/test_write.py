"""The one door that writes: what is sent, when nothing is, and what every answer becomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from cluster.credentials import Impersonation
from cluster.errors import ClusterError
from cluster.write import KubeWriter
from guardrails.action import DeleteClaim, DeletePod, Drain, RolloutRestart, Scale, access, check_target, target
from guardrails.change import plan_change
from guardrails.errors import Forbidden, InvalidGrant, TargetNotFound, Unreachable
from guardrails.grant import Grant
from guardrails.port import ClusterPort, Subject
from guardrails.request import JSON, MERGE_PATCH, ApiRequest, BoundRequest
from guardrails.verification import ObjectGone, ReplicasReady
from tests.cluster.fake_api import NOW, FakeApi, Reply, Seen, connection, document, listing, running, status

WEB = target("Deployment", "ml", "web")
POD = target("Pod", "ml", "web-1")
PATCH = ApiRequest(method="PATCH", path=WEB.path, content_type=MERGE_PATCH, body={"spec": {"replicas": 5}})
DELETE = ApiRequest(method="DELETE", path=POD.path, content_type=JSON, body={"kind": "DeleteOptions", "apiVersion": "v1"})
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "ml", "uid": "u1", "resourceVersion": "7", "generation": 3, "managedFields": [{}]},
    "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": "a:1"}]}}},
}


def grant(request: ApiRequest = PATCH, **changes: Any) -> Grant:
    fields = {
        "proposal_id": "p1",
        "proposal_digest": "d" * 64,
        "cluster_uid": "c1",
        "target_uid": "u1",
        "request_digests": (request.digest,),
        "fence": 1,
        "not_after": NOW + timedelta(minutes=1),
    }
    return Grant.model_validate({**fields, **changes})


def bound(request: ApiRequest = PATCH, uid: str = "u1") -> BoundRequest:
    return request.bind(receipt=grant(request).receipt, uid=uid, resource_version="7")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running() as api:
        api.reply("/api/v1/namespaces/kube-system", document({"metadata": {"name": "kube-system", "uid": "c1"}}))
        api.reply(WEB.path, document(DEPLOYMENT))
        yield api


@pytest.fixture
async def writer(api: FakeApi) -> AsyncIterator[KubeWriter]:
    async with connection(api) as opened:
        yield KubeWriter(opened, lambda: NOW)


def written(api: FakeApi) -> list[Seen]:
    return [request for request in api.requests if request.method in ("PATCH", "DELETE", "PUT", "POST")]


@pytest.mark.anyio
async def test_sentences_name_the_cluster_and_not_the_account_that_writes(api: FakeApi) -> None:
    async with connection(api) as opened:
        writer = KubeWriter(opened, lambda: NOW, cluster="prod-eu")
        assert writer.cluster == "prod-eu" != opened.cluster
        api.reply(WEB.path, status(404, "NotFound", "not found"))
        with pytest.raises(TargetNotFound, match="does not exist in prod-eu"):
            await writer.observe(Scale(replicas=5), WEB)
        api.reply(WEB.path, status(403, "Forbidden", "no"))
        with pytest.raises(Forbidden, match="prod-eu refuses"):
            await writer.observe(Scale(replicas=5), WEB)


@pytest.mark.anyio
async def test_observing_gives_the_object_its_cluster_and_what_planning_needs(api: FakeApi, writer: KubeWriter) -> None:
    api.reply(
        "/apis/autoscaling/v2/namespaces/ml/horizontalpodautoscalers",
        listing("HorizontalPodAutoscaler", [{"metadata": {"name": "one"}}], token="next"),
        listing("HorizontalPodAutoscaler", [{"metadata": {"name": "two"}}]),
    )
    seen = await writer.observe(Scale(replicas=5), WEB)
    assert (seen.cluster_uid, seen.target.uid, seen.target.generation, seen.observed_at) == ("c1", "u1", 3, NOW)
    assert "managedFields" not in seen.object["metadata"]
    assert [(item["kind"], item["metadata"]["name"]) for item in seen.related] == [
        ("HorizontalPodAutoscaler", "one"),
        ("HorizontalPodAutoscaler", "two"),
    ]
    assert seen.missing == ()
    assert written(api) == []


@pytest.mark.anyio
async def test_what_planning_could_not_see_is_said(api: FakeApi, writer: KubeWriter) -> None:
    api.reply("/apis/autoscaling/v2/namespaces/ml/horizontalpodautoscalers", status(403, "Forbidden", "no"))
    seen = await writer.observe(Scale(replicas=5), WEB)
    assert len(seen.missing) == 1
    assert "horizontalpodautoscalers in ml could not be read" in seen.missing[0]


@pytest.mark.anyio
async def test_a_target_that_is_not_there_or_is_another_now(api: FakeApi, writer: KubeWriter) -> None:
    with pytest.raises(TargetNotFound, match="does not exist"):
        await writer.observe(RolloutRestart(), target("Deployment", "ml", "gone"))
    with pytest.raises(TargetNotFound, match="another object by now"):
        await writer.observe(RolloutRestart(), WEB.model_copy(update={"uid": "older"}))


@pytest.mark.anyio
async def test_a_kind_that_is_not_served_is_told_from_an_object_that_is_not_there(api: FakeApi, writer: KubeWriter) -> None:
    api.reply(WEB.path, Reply(404, b"404 page not found\n"), status(404, "NotFound", 'deployments.apps "web" not found'))
    with pytest.raises(TargetNotFound, match="does not serve Deployment as apps/v1"):
        await writer.observe(Scale(replicas=2), WEB)
    with pytest.raises(TargetNotFound, match="does not exist"):
        await writer.observe(Scale(replicas=2), WEB)


CLAIM = target("ResourceClaim", "ml", "web-gpu")
UNSERVED = Reply(404, b"404 page not found\n")


def claim_at(version: str) -> str:
    return f"/apis/resource.k8s.io/{version}/namespaces/ml/resourceclaims/web-gpu"


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
async def test_a_claim_is_deleted_in_the_version_that_is_served(api: FakeApi, writer: KubeWriter, version: str) -> None:
    for other in CLAIM.resource.versions:
        api.reply(claim_at(other), UNSERVED)
    annotations = {"resource.kubernetes.io/pod-claim-name": "gpu"}
    owner = {"kind": "Pod", "name": "web-1", "uid": "p1", "controller": True, "apiVersion": "v1"}
    metadata = {"name": "web-gpu", "namespace": "ml", "uid": "u1", "resourceVersion": "7"}
    api.reply(claim_at(version), document({"metadata": {**metadata, "annotations": annotations, "ownerReferences": [owner]}}))
    api.reply(POD.path, status(404, "NotFound", "gone"))
    action = DeleteClaim()
    seen = await writer.observe(action, CLAIM)
    assert (seen.target.version, seen.object["apiVersion"]) == (version, f"resource.k8s.io/{version}")
    check_target(action, seen.target)
    assert access(action, seen.target) == access(action, CLAIM)
    planned = plan_change(action, seen, now=NOW)
    (request,) = planned.requests
    assert request.path == claim_at(version)
    api.reply(claim_at(version), document({"kind": "Status", "status": "Success"}))
    receipt = await writer.apply(grant(request), seen.bind(request, grant(request).receipt))
    assert (receipt.outcome, [(item.method, item.path) for item in written(api)]) == ("applied", [("DELETE", claim_at(version))])
    api.reply(claim_at(version), status(404, "NotFound", "gone"))
    (check,) = planned.checks
    assert (await writer.check(check)).status == "succeeded"


@pytest.mark.anyio
async def test_an_address_that_serves_no_pods_is_told_which(api: FakeApi, writer: KubeWriter) -> None:
    api.reply(POD.path, UNSERVED)
    with pytest.raises(TargetNotFound, match="does not serve Pod as core/v1,"):
        await writer.observe(DeletePod(), POD)


@pytest.mark.anyio
async def test_an_object_whose_version_is_no_longer_served_is_not_gone(api: FakeApi, writer: KubeWriter) -> None:
    known = CLAIM.model_copy(update={"version": "v1beta1", "uid": "u1"})
    request = ApiRequest(method="DELETE", path=known.path, content_type=JSON, body={"kind": "DeleteOptions", "apiVersion": "v1"})
    api.reply(known.path, UNSERVED)
    with pytest.raises(Unreachable, match="no longer serves ResourceClaim"):
        await writer.observe(DeleteClaim(), known)
    assert (await writer.apply(grant(request), bound(request))).outcome == "refused"
    assert (await writer.check(ObjectGone(target=known, timeout_seconds=60))).status == "inconclusive"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (status(403, "Forbidden", "no"), Forbidden),
        (status(401, "Unauthorized", "no"), Forbidden),
        (status(500, "InternalError", "boom"), Unreachable),
        (Reply(200, b"<html>"), Unreachable),
    ],
)
async def test_answers_that_are_none(api: FakeApi, writer: KubeWriter, reply: Reply, error: type[Exception]) -> None:
    api.reply(WEB.path, reply)
    with pytest.raises(error):
        await writer.observe(RolloutRestart(), WEB)


@pytest.mark.anyio
async def test_reviews_ask_about_the_executor_and_about_the_human(api: FakeApi, writer: KubeWriter) -> None:
    asked: list[dict[str, Any]] = []

    def review(seen: Seen) -> Reply:
        asked.append(json.loads(seen.body))
        return document({"status": {"allowed": asked[-1]["kind"] == "SelfSubjectAccessReview", "reason": "rule x"}}, 201)

    for path in ("selfsubjectaccessreviews", "namespaces/ml/localsubjectaccessreviews"):
        api.routes[f"/apis/authorization.k8s.io/v1/{path}"] = review
    rules = access(Scale(replicas=5), WEB)
    assert all(verdict.allowed for verdict in await writer.review_access(rules, WEB, None))
    human = await writer.review_access(rules, WEB, Subject("alice", ("oncall",)))
    assert [(verdict.allowed, verdict.reason) for verdict in human] == [(False, "rule x")] * len(rules)
    assert asked[-1]["spec"]["user"] == "alice"
    assert asked[0]["spec"]["resourceAttributes"] == {
        "verb": "patch",
        "group": "apps",
        "resource": "deployments",
        "subresource": "",
        "name": "web",
        "namespace": "ml",
    }


@pytest.mark.anyio
async def test_a_dry_run_shows_the_fields_that_change(api: FakeApi, writer: KubeWriter) -> None:
    after = {**DEPLOYMENT, "spec": {"replicas": 5, "template": {"spec": {"containers": [{"name": "app", "image": "a:2"}]}}}}
    api.routes[WEB.path] = lambda seen: document(DEPLOYMENT if seen.method == "GET" else after)
    run = await writer.dry_run(bound())
    assert run.ok
    assert [(change.path, change.before, change.after) for change in run.changes] == [
        ("spec.replicas", "2", "5"),
        ("spec.template.spec.containers[name=app].image", "a:1", "a:2"),
    ]
    (sent,) = written(api)
    assert sent.query["dryRun"] == "All"


@pytest.mark.anyio
async def test_what_is_only_tried_goes_out_as_the_other_account(api: FakeApi) -> None:
    async with running() as other:
        other.reply("/api/v1/namespaces/kube-system", document({"metadata": {"name": "kube-system", "uid": "c1"}}))
        other.reply(WEB.path, document(DEPLOYMENT))
        other.reply("/apis/authorization.k8s.io/v1/namespaces/ml/localsubjectaccessreviews", document({"status": {"allowed": True}}, 201))
        other.reply("/apis/authorization.k8s.io/v1/subjectaccessreviews", document({"status": {"allowed": True}}, 201))
        api.reply("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", document({"status": {"allowed": True}}, 201))
        async with connection(api) as own, connection(other) as trying:
            writer = KubeWriter(own, lambda: NOW, trying)
            assert (await writer.dry_run(bound())).ok
            rules = access(Scale(replicas=5), WEB)
            await writer.review_access(rules[:1], WEB, Subject("alice"))
            await writer.review_access(rules[:1], target("Node", None, "n1"), Subject("alice"))
            assert written(api) == []
            assert [seen.method for seen in written(other)] == ["PATCH", "POST", "POST"]
            await writer.review_access(rules[:1], WEB, None)
            await writer.apply(grant(), bound())
    assert [seen.method for seen in written(api)] == ["POST", "PATCH"]
    assert len(written(other)) == 3


@pytest.mark.anyio
async def test_nothing_is_tried_in_another_cluster(api: FakeApi) -> None:
    async with running() as other:
        other.reply("/api/v1/namespaces/kube-system", document({"metadata": {"name": "kube-system", "uid": "c2"}}))
        async with connection(api) as own, connection(other) as trying:
            with pytest.raises(Unreachable, match="another cluster"):
                await KubeWriter(own, lambda: NOW, trying).dry_run(bound())
    assert written(other) == []


@pytest.mark.anyio
async def test_a_dry_run_of_a_delete_says_so_in_its_body(api: FakeApi, writer: KubeWriter) -> None:
    api.reply(POD.path, document({"kind": "Pod", "metadata": {"name": "web-1", "namespace": "ml", "uid": "u1"}}))
    run = await writer.dry_run(bound(DELETE))
    assert (run.ok, run.changes[0].before) == (True, "Pod ml/web-1")
    (sent,) = written(api)
    assert json.loads(sent.body)["dryRun"] == ["All"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "supported"),
    [
        (status(422, "Invalid", "replicas too many"), True),
        (status(403, "Forbidden", "denied by policy"), True),
        (status(400, "BadRequest", 'admission webhook "x" does not support dry run'), False),
    ],
)
async def test_a_dry_run_that_is_refused(api: FakeApi, writer: KubeWriter, reply: Reply, supported: bool) -> None:
    api.routes[WEB.path] = lambda seen: document(DEPLOYMENT) if seen.method == "GET" else reply
    run = await writer.dry_run(bound())
    assert (run.ok, run.supported) == (False, supported)
    assert run.reason


@pytest.mark.anyio
async def test_a_write_goes_out_once_with_receipt_and_precondition(api: FakeApi, writer: KubeWriter) -> None:
    after = {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "resourceVersion": "8", "generation": 4}}  # type: ignore[dict-item]
    api.routes[WEB.path] = lambda _: document(after, Audit_Id="audit-1")
    receipt = await writer.apply(grant(), bound())
    assert (receipt.outcome, receipt.status, receipt.resource_version, receipt.generation) == ("applied", 200, "8", 4)
    assert receipt.audit_id == "audit-1"
    (sent,) = written(api)
    assert sent.query == {"fieldManager": "smokejumper", "fieldValidation": "Strict"}
    assert sent.header("content-type") == [MERGE_PATCH]
    assert json.loads(sent.body) == {
        "spec": {"replicas": 5},
        "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {"smokejumper.dev/proposal": "p1.dddddddddddddddd"}},
    }


@pytest.mark.anyio
async def test_a_delete_carries_its_preconditions(api: FakeApi, writer: KubeWriter) -> None:
    api.reply(POD.path, document({"kind": "Pod", "metadata": {"name": "web-1", "uid": "u1"}}))
    assert (await writer.apply(grant(DELETE), bound(DELETE))).outcome == "applied"
    (sent,) = written(api)
    assert json.loads(sent.body)["preconditions"] == {"uid": "u1", "resourceVersion": "7"}
    assert sent.query == {}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        {"not_after": NOW},
        {"cluster_uid": "another"},
        {"target_uid": "another"},
        {"request_digests": ()},
        {"proposal_id": "p2"},
    ],
)
async def test_a_grant_that_does_not_fit_sends_nothing(api: FakeApi, writer: KubeWriter, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidGrant):
        await writer.apply(grant(**wrong), bound())
    assert written(api) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (status(409, "Conflict", "the object has been modified"), "conflict"),
        (status(404, "NotFound", "gone"), "gone"),
        (status(422, "Invalid", "bad"), "refused"),
        (status(403, "Forbidden", "no"), "refused"),
        (status(429, "TooManyRequests", "Cannot evict pod", retry_after="0"), "refused"),
        (status(500, "InternalError", "boom"), "unknown"),
        (status(503, "ServiceUnavailable", "later", retry_after="0"), "unknown"),
        (Reply(200, b"{}", cut_after=1), "unknown"),
        (Reply(200, b"<html>welcome</html>"), "unknown"),
    ],
)
async def test_every_answer_to_a_write_and_none_is_repeated(api: FakeApi, writer: KubeWriter, reply: Reply, outcome: str) -> None:
    api.reply(WEB.path, reply)
    receipt = await writer.apply(grant(), bound())
    assert receipt.outcome == outcome
    assert receipt.detail
    assert len(written(api)) == 1


@pytest.mark.anyio
async def test_a_server_that_died_before_the_write_got_nothing(api: FakeApi, writer: KubeWriter) -> None:
    await writer.cluster_uid()
    await api.stop()
    receipt = await writer.apply(grant(), bound())
    assert (receipt.outcome, receipt.status) == ("refused", None)
    assert receipt.detail.startswith("nothing was sent")


@pytest.mark.anyio
async def test_a_check_reads_and_judges(api: FakeApi, writer: KubeWriter) -> None:
    ready = {**DEPLOYMENT, "status": {"observedGeneration": 3, "replicas": 2, "readyReplicas": 2}}
    check = ReplicasReady(target=WEB.model_copy(update={"uid": "u1"}), replicas=2)
    api.reply(WEB.path, document(ready), status(500, "InternalError", "boom"))
    assert (await writer.check(check)).status == "succeeded"
    unsure = await writer.check(check)
    assert (unsure.status, "boom" in unsure.detail) == ("inconclusive", True)


@pytest.mark.anyio
async def test_selectors_reach_the_server(api: FakeApi, writer: KubeWriter) -> None:
    api.reply("/api/v1/nodes/n1", document({"metadata": {"name": "n1", "uid": "n"}, "spec": {}}))
    api.reply("/api/v1/nodes", listing("Node", [{"metadata": {"name": "n2"}}]))
    api.reply("/api/v1/pods", listing("Pod", []))
    seen = await writer.observe(Drain(), target("Node", None, "n1"))
    assert [item["kind"] for item in seen.related] == ["Node"]
    assert [request.query["fieldSelector"] for request in api.requests if request.path == "/api/v1/pods"] == ["spec.nodeName=n1"]


@pytest.mark.anyio
async def test_an_owner_that_is_gone_is_no_gap(api: FakeApi, writer: KubeWriter) -> None:
    owner = {"kind": "ReplicaSet", "name": "web-7f", "uid": "r", "controller": True}
    api.reply(POD.path, document({"metadata": {"name": "web-1", "namespace": "ml", "uid": "u1", "ownerReferences": [owner]}}))
    api.objects("/apis/policy/v1/namespaces/ml/poddisruptionbudgets", "PodDisruptionBudget", [])
    seen = await writer.observe(DeletePod(), POD)
    assert (seen.related, seen.missing) == ((), ())


@pytest.mark.anyio
async def test_a_writer_never_impersonates(api: FakeApi) -> None:
    async with connection(api, impersonate=Impersonation("alice")) as opened:
        with pytest.raises(ClusterError, match="never impersonate"):
            KubeWriter(opened, lambda: NOW)


@pytest.mark.anyio
async def test_the_writer_is_a_port(writer: KubeWriter) -> None:
    port: ClusterPort = writer
    assert (port.cluster, port.rehearsal) == ("test", False)
