"""The port over a recording: the same requests, and nothing changes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.recorded import RecordedReader
from cluster.rehearsal import Rehearsal
from guardrails.action import Cordon, DeleteClaim, RolloutUndo, Scale, access, target
from guardrails.errors import InvalidGrant, TargetNotFound
from guardrails.grant import Grant
from guardrails.port import ClusterPort, FieldChange
from guardrails.request import JSON, MERGE_PATCH, ApiRequest
from guardrails.verification import ReplicasReady
from tests.cluster.fake_api import NOW

WEB = target("Deployment", "ml", "web")
PATCH = ApiRequest(method="PATCH", path=WEB.path, content_type=MERGE_PATCH, body={"spec": {"replicas": 5}})


def workload(kind: str, name: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ml", "uid": f"uid-{name}", "labels": labels},
        "spec": spec,
    }


def rehearsal(folder: Path) -> Rehearsal:
    items = [
        workload("Deployment", "web", {"app": "web"}, replicas=2, selector={"matchLabels": {"app": "web"}}),
        workload("ReplicaSet", "web-1", {"app": "web", "tier": "a"}),
        workload("ReplicaSet", "db-1", {"app": "db"}),
        {"kind": "Node", "metadata": {"name": "n1", "uid": "n1"}, "spec": {"unschedulable": True}},
        {"kind": "Node", "metadata": {"name": "n2", "uid": "n2"}, "spec": {}},
        {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "c1"}},
    ]
    (folder / "objects.yaml").write_text(yaml.safe_dump({"kind": "List", "items": items}))
    return Rehearsal(RecordedReader.open(folder, NOW), lambda: NOW)


def grant(**changes: Any) -> Grant:
    fields = {
        "proposal_id": "p1",
        "proposal_digest": "d" * 64,
        "cluster_uid": "recording:c1",
        "target_uid": "uid-web",
        "request_digests": (PATCH.digest,),
        "fence": 1,
        "not_after": NOW + timedelta(minutes=1),
    }
    return Grant.model_validate({**fields, **changes})


@pytest.mark.anyio
async def test_observing_a_recording(tmp_path: Path) -> None:
    port: ClusterPort = rehearsal(tmp_path)
    seen = await port.observe(RolloutUndo(), WEB)
    assert (seen.cluster_uid, seen.target.uid) == ("recording:c1", "uid-web")
    assert [item["metadata"]["name"] for item in seen.related] == ["web-1"]
    assert (await port.observe(Scale(replicas=1), WEB)).missing == ("horizontalpodautoscalers were not recorded",)
    cordoned = await port.observe(Cordon(), target("Node", None, "n2"))
    assert [item["metadata"]["name"] for item in cordoned.related] == ["n1", "n2"]
    assert port.rehearsal
    with pytest.raises(TargetNotFound):
        await port.observe(RolloutUndo(), target("Deployment", "ml", "gone"))
    with pytest.raises(TargetNotFound):
        await port.observe(RolloutUndo(), WEB.model_copy(update={"uid": "older"}))


@pytest.mark.anyio
async def test_a_recorded_object_is_rehearsed_in_its_version(tmp_path: Path) -> None:
    claim = {"kind": "ResourceClaim", "apiVersion": "resource.k8s.io/v1beta1", "metadata": {"name": "c", "namespace": "ml", "uid": "u"}}
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump({"kind": "List", "items": [claim]}))
    port = Rehearsal(RecordedReader.open(tmp_path, NOW), lambda: NOW)
    seen = await port.observe(DeleteClaim(), target("ResourceClaim", "ml", "c"))
    request = ApiRequest(method="DELETE", path=seen.target.path, content_type=JSON, body={})
    assert request.path == "/apis/resource.k8s.io/v1beta1/namespaces/ml/resourceclaims/c"
    assert (await port.dry_run(seen.bind(request, "r"))).changes


@pytest.mark.anyio
async def test_a_rehearsed_write_is_the_exact_request_and_changes_nothing(tmp_path: Path) -> None:
    port = rehearsal(tmp_path)
    before = (tmp_path / "objects.yaml").read_bytes()
    request = PATCH.bind(receipt=grant().receipt, uid="uid-web", resource_version="7")
    receipt = await port.apply(grant(), request)
    assert receipt.outcome == "rehearsed"
    (sent,) = port.requests
    assert str(sent).startswith("PATCH /apis/apps/v1/namespaces/ml/deployments/web?fieldManager=smokejumper&fieldValidation=Strict\n")
    assert json.loads(sent.body) == request.body()
    assert (tmp_path / "objects.yaml").read_bytes() == before


@pytest.mark.anyio
async def test_a_grant_must_fit_in_a_rehearsal_too(tmp_path: Path) -> None:
    port = rehearsal(tmp_path)
    request = PATCH.bind(receipt=grant().receipt, uid="uid-web", resource_version="7")
    for wrong in ({"not_after": NOW}, {"cluster_uid": "c2"}, {"request_digests": ()}):
        with pytest.raises(InvalidGrant):
            await port.apply(grant(**wrong), request)
    assert port.requests == []


@pytest.mark.anyio
async def test_what_only_a_server_can_say_is_not_said(tmp_path: Path) -> None:
    port = rehearsal(tmp_path)
    request = PATCH.bind(receipt=grant().receipt, uid="uid-web", resource_version="7")
    run = await port.dry_run(request)
    assert (run.ok, run.supported) == (False, False)
    assert run.changes == (FieldChange("spec.replicas", "2", "5"),)
    gone = ApiRequest(method="DELETE", path="/api/v1/nodes/n1", content_type=JSON, body={}).bind(receipt="r", uid="n1", resource_version="")
    assert (await port.dry_run(gone)).changes == (FieldChange("object", "Node n1", None),)
    unknown = PATCH.model_copy(update={"path": f"{WEB.path}s"}).bind(receipt="r", uid="u", resource_version="")
    with pytest.raises(TargetNotFound, match="deployments/webs is not in the recording"):
        await port.dry_run(unknown)
    check = await port.check(ReplicasReady(target=WEB, replicas=5))
    assert check.status == "inconclusive"
    verdicts = await port.review_access(access(Scale(replicas=5), WEB), WEB, None)
    assert all("not recorded" in verdict.reason for verdict in verdicts)
