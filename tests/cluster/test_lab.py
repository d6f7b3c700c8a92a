"""The room against a real control plane: what a fake server cannot prove."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cluster.fleet import Fleet
from cluster.kinds import BY_NAME, CUSTOM_KINDS, KINDS
from cluster.kube import KubeReader
from cluster.reading import Why
from cluster.recorded import RecordedReader
from cluster.recording import write_recording
from cluster.reference import ContainerRef, Scope
from cluster.write import KubeWriter
from guardrails.action import DeletePod, Scale, access, target
from guardrails.grant import Grant
from guardrails.port import Observed, Subject
from guardrails.request import JSON, MERGE_PATCH, ApiRequest, BoundRequest
from tests.lab.witness import Permission

if TYPE_CHECKING:
    from tests.lab.lab import Lab


def now() -> datetime:
    return datetime.now(UTC)


def fleet(lab: Lab, user: str) -> Fleet:
    return Fleet.find({}, Path("/nonexistent"), now, lab.kubeconfig(user))


def deployment(namespace: str, name: str = "web") -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def pod(namespace: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "app", "image": "example.com/app:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": namespace}, "spec": spec}


def permit(lab: Lab, request: ApiRequest, seen: Observed) -> tuple[Grant, BoundRequest]:
    """A grant such as an executor makes; the lab's witness is told that there is no ledger behind it."""
    grant = Grant(
        proposal_id="p1",
        proposal_digest="d" * 64,
        cluster_uid=seen.cluster_uid,
        target_uid=seen.target.uid or "",
        request_digests=(request.digest,),
        fence=1,
        not_after=now() + timedelta(minutes=1),
    )
    version = seen.object["metadata"]["resourceVersion"]
    known = lab.permitted_elsewhere
    known.append(Permission(grant.proposal_id, "change", len(known), request, grant.target_uid, grant.receipt))
    return grant, request.bind(receipt=grant.receipt, uid=grant.target_uid, resource_version=version)


@pytest.fixture
async def reader(lab: Lab) -> AsyncIterator[KubeReader]:
    async with KubeReader(await fleet(lab, "reader").connect(), page_size=3) as reader:
        yield reader


@pytest.fixture
async def writer(lab: Lab) -> AsyncIterator[KubeWriter]:
    async with await fleet(lab, "executor").connect() as connection:
        yield KubeWriter(connection, now)


@pytest.mark.anyio
async def test_every_kind_reads_page_by_page_and_a_recording_agrees(reader: KubeReader, lab: Lab, tmp_path: Path) -> None:
    with lab.loaded("oom-killed") as scene:
        scope = Scope("lab", (scene.expect.namespace,))
        await write_recording(reader, scope, tmp_path / "recording", now)
        recorded = RecordedReader.open(tmp_path / "recording")
        for kind in (*KINDS, *CUSTOM_KINDS):
            live, kept = await reader.objects(kind, scope), await recorded.objects(kind, scope)
            assert {gap.why for gap in live.missing} <= {Why.ABSENT_KIND}, kind.name
            if kind.name not in ("Event", "Lease"):
                assert {fact.ref for fact in live.value} == {fact.ref for fact in kept.value}, kind.name
            assert kept.missing == live.missing
        (sick,) = {path.name.split("__")[1] for path in (tmp_path / "recording" / "logs").iterdir()} or {""}
        container = next((tmp_path / "recording" / "logs").iterdir()).name.removesuffix(".log").split("__")[2].removesuffix(".previous")
        log = await reader.logs(ContainerRef(scene.expect.namespace, sick, container), previous=False, limit_bytes=10_000)
        assert log.value.lines


@pytest.mark.anyio
async def test_device_claims_say_the_same_in_every_version_of_their_api(reader: KubeReader, lab: Lab) -> None:
    with lab.namespace() as namespace:
        api = "resource.k8s.io/v1"
        exactly = {
            "deviceClassName": "gpu",
            "count": 2,
            "selectors": [{"cel": {"expression": "true"}}],
            "tolerations": [{"key": "sick", "operator": "Exists"}],
            "capacity": {"requests": {"memory": "10Gi"}},
        }
        requests = [{"name": "one", "exactly": exactly}, {"name": "two", "firstAvailable": [{"name": "old", "deviceClassName": "gpu"}]}]
        claim = {"devices": {"requests": requests, "constraints": [{"requests": ["one"], "distinctAttribute": "example.com/numa"}]}}
        device = {
            "name": "d",
            "attributes": {"numa": {"int": 1}},
            "capacity": {"memory": {"value": "40Gi"}},
            "taints": [{"key": "sick", "value": "79", "effect": "NoSchedule"}],
        }
        pool = {"name": namespace, "generation": 1, "resourceSliceCount": 1}
        slice_ = {"driver": "gpu.example.com", "pool": pool, "allNodes": True, "devices": [device]}
        lab.apply({"apiVersion": api, "kind": "ResourceClaim", "metadata": {"name": "c", "namespace": namespace}, "spec": claim})
        lab.apply(
            {"apiVersion": api, "kind": "ResourceClaimTemplate", "metadata": {"name": "t", "namespace": namespace}, "spec": {"spec": claim}}
        )
        lab.apply({"apiVersion": api, "kind": "ResourceSlice", "metadata": {"name": namespace}, "spec": slice_})
        try:
            for name in ("ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"):
                kinds = [msgspec.structs.replace(BY_NAME[name], version=version) for version in ("v1", "v1beta2", "v1beta1")]
                readings = [await reader.objects(kind, Scope("lab", (namespace,))) for kind in kinds]
                assert [reading.missing for reading in readings] == [(), (), ()]
                newest, *older = [{str(fact.ref): msgspec.to_builtins(fact)["spec"] for fact in reading.value} for reading in readings]
                assert newest
                assert older == [newest, newest]
        finally:
            lab.client().delete(api, "ResourceSlice", namespace)


@pytest.mark.anyio
async def test_definitions_that_are_not_there_cost_one_discovery_in_all(lab: Lab) -> None:
    present = {one["spec"]["names"]["plural"] for one in lab.client().list("apiextensions.k8s.io/v1", "CustomResourceDefinition")}
    absent = [kind for kind in CUSTOM_KINDS if kind.plural not in present]
    async with KubeReader(await fleet(lab, "reader").connect()) as fresh:
        readings = [await fresh.objects(kind, Scope("lab")) for kind in absent]
    assert absent
    assert {gap.why for reading in readings for gap in reading.missing} == {Why.ABSENT_KIND}
    assert sum(reading.cost.requests for reading in readings) == 1


@pytest.mark.anyio
async def test_an_account_with_few_permissions_is_told_which_one_lacks(lab: Lab) -> None:
    async with KubeReader(await fleet(lab, "executor").connect()) as narrow:
        readings = {kind.name: await narrow.objects(kind, Scope("lab")) for kind in KINDS}
    assert readings["Node"].missing == ()
    # The Gateway API is there where another test of this lab has installed its definitions.
    assert {gap.why for reading in readings.values() for gap in reading.missing} - {Why.ABSENT_KIND} == {Why.FORBIDDEN}
    (gap,) = readings["Ingress"].missing
    assert "get,list on ingresses.networking.k8s.io in the whole cluster" in gap.next_step


@pytest.mark.anyio
async def test_a_patch_persists_once_and_its_dry_run_never(writer: KubeWriter, lab: Lab) -> None:
    with lab.namespace() as namespace:
        lab.apply(deployment(namespace))
        on = target("Deployment", namespace, "web")
        seen = await writer.observe(Scale(replicas=2), on)
        request = ApiRequest(method="PATCH", path=on.path, content_type=MERGE_PATCH, body={"spec": {"replicas": 2}})
        grant, bound = permit(lab, request, seen)
        mark = lab.audit.mark()
        run = await writer.dry_run(bound)
        assert run.ok
        assert ("spec.replicas", "1", "2") in [(change.path, change.before, change.after) for change in run.changes]
        assert lab.audit.writes("executor", mark) == ()
        # The controllers write status meanwhile, so take the version afresh, as the executor does.
        grant, bound = permit(lab, request, await writer.observe(Scale(replicas=2), on))
        first, second = await writer.apply(grant, bound), await writer.apply(grant, bound)
        assert (first.outcome, second.outcome) in {("applied", "conflict"), ("conflict", "conflict")}
        if first.outcome == "applied":
            after = await writer.observe(Scale(replicas=2), on)
            assert after.object["spec"]["replicas"] == 2
            assert after.object["metadata"]["annotations"]["smokejumper.dev/proposal"] == grant.receipt
            assert [write.code for write in lab.audit.writes("executor", mark)] == [200, 409]


@pytest.mark.anyio
async def test_a_dry_run_of_a_delete_leaves_the_pod_alone(writer: KubeWriter, lab: Lab) -> None:
    with lab.namespace() as namespace:
        lab.apply(pod(namespace))
        on = target("Pod", namespace, "one")
        request = ApiRequest(method="DELETE", path=on.path, content_type=JSON, body={"apiVersion": "v1", "kind": "DeleteOptions"})
        run = None
        for _ in range(5):
            # A dry run of a delete honours the preconditions, and the pod's status may change between reading and asking.
            _, bound = permit(lab, request, await writer.observe(DeletePod(), on))
            run = await writer.dry_run(bound)
            if run.ok:
                break
        assert run is not None
        assert run.ok, run.reason
        seen = await writer.observe(DeletePod(), on)
        assert "deletionTimestamp" not in seen.object["metadata"]


@pytest.mark.anyio
async def test_access_reviews_tell_the_executor_from_a_human(writer: KubeWriter, lab: Lab) -> None:
    with lab.namespace() as namespace:
        lab.apply(deployment(namespace))
        on = target("Deployment", namespace, "web")
        rules = access(Scale(replicas=2), on)
        assert all(verdict.allowed for verdict in await writer.review_access(rules, on, None))
        assert not any(verdict.allowed for verdict in await writer.review_access(rules, on, Subject("nobody")))
