"""Completeness of a listing, and what is said when something is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import UnreachableClusterError
from cluster.kinds import BY_NAME
from cluster.kube import KubeReader
from cluster.reading import Why
from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, find_object, list_kind, pods_below, together, unknown_namespaces
from mcp_server.tools.pods import pods_of
from tests.cluster.fake_api import connection, groups, running
from tests.mcp_server.incident import OBJECTS, context, open_incident

pytestmark = pytest.mark.anyio


async def test_a_whole_listing_is_complete_and_one_object_is_not(reader: RecordedReader) -> None:
    whole = await list_kind(context(reader), BY_NAME["Pod"], ("ml",))
    one = await list_kind(context(reader), BY_NAME["Pod"], ("ml",), "train-0")
    assert whole.read.complete
    assert whole.read.namespaces == ("ml",)
    assert len(whole.read.facts) == 2
    assert not one.read.complete
    assert [fact.name for fact in one.read.facts] == ["train-0"]


async def test_cluster_scoped_kinds_ignore_namespaces(reader: RecordedReader) -> None:
    assert (await list_kind(context(reader), BY_NAME["Node"], ("ml",))).read.namespaces == ()


async def test_a_kind_that_was_not_recorded_is_missing_and_not_complete(reader: RecordedReader) -> None:
    listing = await list_kind(context(reader), BY_NAME["Ingress"])
    assert not listing.read.complete
    assert listing.read.missing


@pytest.mark.parametrize(("version", "complete"), [("v1alpha3", True), ("v2", False)])
async def test_a_kind_in_a_version_that_is_not_known_hides_what_there_is(reader: RecordedReader, version: str, complete: bool) -> None:
    async with running() as api:
        api.reply("/apis", groups(**{"resource_k8s_io": {version: ["devicetaintrules"]}}))
        api.objects(f"/apis/resource.k8s.io/{version}/devicetaintrules", "DeviceTaintRule", [{"metadata": {"name": "rack-7"}}])
        async with KubeReader(connection(api), seconds=5) as live:
            asked = replace(context(reader), reader=live)
            listing = await list_kind(asked, BY_NAME["DeviceTaintRule"])
            absent = await list_kind(asked, BY_NAME["ResourceClaim"])
    assert (listing.read.complete, [fact.name for fact in listing.read.facts]) == (complete, ["rack-7"] if complete else [])
    assert [gap.why for gap in listing.read.missing] == ([] if complete else [Why.OTHER_VERSION])
    assert absent.read.complete


async def test_a_malformed_object_makes_the_listing_incomplete(tmp_path: Path) -> None:
    broken = OBJECTS.replace('resources: {requests: {nvidia.com/gpu: "1"}', "resources: {requests: [1]")
    listing = await list_kind(context(open_incident(tmp_path, broken)), BY_NAME["Pod"])
    assert not listing.read.complete
    assert len(listing.read.facts) >= 2


async def test_an_unknown_object_names_the_nearest(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="Pod/ml/train-1 does not exist; nearest pods: train-0"):
        await find_object(context(reader), BY_NAME["Pod"], "ml", "train-1")


async def test_an_unknown_namespace_names_the_nearest(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="namespace 'mll' does not exist, nearest namespaces: ml"):
        await find_object(context(reader), BY_NAME["Pod"], "mll", "train-0")
    assert await unknown_namespaces(context(reader), ("ml", "web")) == ""


async def test_what_cannot_be_seen_is_not_said_to_be_absent(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="cannot read Ingress/ml/x: no-source"):
        await find_object(context(reader), BY_NAME["Ingress"], "ml", "x")


async def test_a_namespaced_object_needs_its_namespace(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="'namespace' is required for a Pod"):
        await find_object(context(reader), BY_NAME["Pod"], None, "x")


@pytest.mark.parametrize("word", ["secret", "Secrets", "SECRET", "secrets.v1"])
async def test_secrets_are_refused_by_any_name(reader: RecordedReader, word: str) -> None:
    with pytest.raises(ToolRefusal, match="never read"):
        await find_kind(context(reader), word)


async def test_kinds_have_several_names(reader: RecordedReader) -> None:
    assert {(await find_kind(context(reader), word)).name for word in ("deploy", "deployments", "Deployment")} == {"Deployment"}
    with pytest.raises(ToolRefusal, match="nearest kinds: Deployment"):
        await find_kind(context(reader), "deploymet")


async def test_pods_of_a_deployment_are_found_through_its_replica_sets(reader: RecordedReader) -> None:
    pods = pods_of((await list_kind(context(reader), BY_NAME["Pod"])).read.facts)
    owners = (await list_kind(context(reader), BY_NAME["ReplicaSet"])).read.facts
    deployment, _ = await find_object(context(reader), BY_NAME["Deployment"], "ml", "serve")
    assert [pod.name for pod in pods_below(pods, owners, deployment.ref)] == ["serve-5c9f7-abcde"]


async def test_readings_together_keep_their_order_and_their_error() -> None:
    async def value(number: int) -> int:
        return number

    async def fail() -> int:
        raise UnreachableClusterError("no route")

    assert await together(value(number) for number in range(3)) == [0, 1, 2]
    with pytest.raises(UnreachableClusterError, match="no route"):
        await together([value(1), fail()])
