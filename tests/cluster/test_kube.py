"""Reading a live cluster over a real socket: what is asked, and what every fault becomes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster.connection import Connection
from cluster.credentials import Server, Target, User
from cluster.errors import RefusedReadError
from cluster.facts.config import ConfigMap
from cluster.facts.dra import Device, DeviceAttribute, ExactRequest, ResourceClaim, ResourceSlice
from cluster.facts.event import CustomObject
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME, KINDS, Kind
from cluster.kube import KubeReader
from cluster.reading import Missing, Reader, Why
from cluster.reference import ContainerRef, ObjectRef, Scope
from tests.cluster.fake_api import ENDLESS_PIECE, NOW, FakeApi, Reply, Seen, connection, document, groups, listing, pod, status

PODS = BY_NAME["Pod"]
ALL = Scope("test")
ML = Scope("test", ("ml",))


@pytest.fixture
async def reader(api: FakeApi) -> AsyncIterator[KubeReader]:
    async with KubeReader(connection(api), seconds=5) as reader:
        yield reader


@pytest.mark.anyio
async def test_reads_every_page_and_counts_the_cost(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/pods", listing("Pod", [pod("a"), pod("b")], token="t1"), listing("Pod", [pod("c")]))
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a", "b", "c"]
    assert reading.missing == ()
    assert all(isinstance(fact, Pod) for fact in reading.value)
    pages = [request.query for request in api.requests if request.path == "/api/v1/pods"]
    assert pages == [{"limit": "500"}, {"limit": "500", "continue": "t1"}]
    assert reading.cost.requests == 3  # two pages and one discovery
    assert reading.cost.bytes > 100


@pytest.mark.anyio
async def test_each_namespace_is_one_request(api: FakeApi, reader: KubeReader) -> None:
    api.objects("/api/v1/namespaces/ml/pods", "Pod", [pod("a")])
    api.objects("/api/v1/namespaces/web/pods", "Pod", [pod("b", "web")])
    reading = await reader.objects(PODS, Scope("test", ("ml", "web")))
    assert [str(fact.ref) for fact in reading.value] == ["Pod/ml/a", "Pod/web/b"]


@pytest.mark.anyio
async def test_an_expired_token_goes_on_with_the_fresh_one(api: FakeApi, reader: KubeReader) -> None:
    gone = status(410, "Expired", "The provided continue parameter is too old", token="fresh")
    api.reply("/api/v1/pods", listing("Pod", [pod("a")], token="old"), gone, listing("Pod", [pod("b")]))
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a", "b"]
    assert reading.missing == ()
    assert api.requests[-1].query["continue"] == "fresh"


@pytest.mark.anyio
async def test_an_expired_token_without_a_fresh_one_starts_over_without_doubles(api: FakeApi, reader: KubeReader) -> None:
    gone = status(410, "Expired", "too old")
    api.reply("/api/v1/pods", listing("Pod", [pod("a")], token="old"), gone, listing("Pod", [pod("a"), pod("b")]))
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a", "b"]


@pytest.mark.anyio
async def test_a_list_that_always_expires_ends_and_says_so(api: FakeApi, reader: KubeReader) -> None:
    api.routes["/api/v1/pods"] = lambda seen: (
        status(410, "Expired", "too old") if "continue" in seen.query else listing("Pod", [pod("a")], token="t")
    )
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a"]
    assert [gap.why for gap in reading.missing] == [Why.TRUNCATED]
    assert len(api.requests) < 10


@pytest.mark.anyio
async def test_forbidden_names_the_rule_that_is_missing(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/namespaces/ml/pods", status(403, "Forbidden", 'pods is forbidden: User "x" cannot list resource "pods"'))
    (gap,) = (await reader.objects(PODS, ML)).missing
    assert gap.why is Why.FORBIDDEN
    assert "get,list on pods in namespace ml" in gap.next_step
    assert (gap.kind, gap.namespace) == ("Pod", "ml")


@pytest.mark.anyio
async def test_one_forbidden_namespace_leaves_the_others(api: FakeApi, reader: KubeReader) -> None:
    api.objects("/api/v1/namespaces/ml/pods", "Pod", [pod("a")])
    api.reply("/api/v1/namespaces/web/pods", status(403, "Forbidden", "no"))
    reading = await reader.objects(PODS, Scope("test", ("ml", "web")))
    assert [fact.name for fact in reading.value] == ["a"]
    assert [gap.namespace for gap in reading.missing] == ["web"]


@pytest.mark.anyio
async def test_what_was_read_before_a_failure_is_kept(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/pods", listing("Pod", [pod("a")], token="t"), status(403, "Forbidden", "revoked"))
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a"]
    assert reading.missing[0].what == "pods after the first 1"


@pytest.mark.anyio
async def test_a_rejected_credential_is_unauthenticated(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/pods", status(401, "Unauthorized", "Unauthorized"))
    (gap,) = (await reader.objects(PODS, ALL)).missing
    assert gap.why is Why.UNAUTHENTICATED
    assert "Log in" in gap.next_step


@pytest.mark.anyio
async def test_a_login_that_cannot_be_renewed_is_a_gap_and_stops_nothing(api: FakeApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    api.reply("/api/v1/pods", status(401, "Unauthorized", "expired"))
    async with await Connection.open(Target("test", Server(api.url), User("u", token_file=token)), {}, lambda: NOW) as opened:
        token.unlink()
        (gap,) = (await KubeReader(opened).objects(PODS, ALL)).missing
    assert gap.why is Why.UNAUTHENTICATED
    assert "cannot read the token file" in gap.detail


@pytest.mark.anyio
async def test_a_web_page_is_no_api_server(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/version", Reply(404, b"<!DOCTYPE html>\n<html>\n<body>Not here</body>"))
    (gap,) = (await reader.version()).missing
    assert gap.detail == "a web page, not an API server, answered"
    assert "address" in gap.next_step


@pytest.mark.anyio
async def test_a_dead_server_is_unreachable(api: FakeApi) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead = Target("test", Server(f"http://127.0.0.1:{port}"), None)
    async with KubeReader(await Connection.open(dead, {}, lambda: NOW)) as reader:
        reading = await reader.objects(PODS, ALL)
    assert [gap.why for gap in reading.missing] == [Why.UNREACHABLE]
    assert reading.value == ()


@pytest.mark.anyio
async def test_a_silent_server_is_a_timeout(api: FakeApi) -> None:
    api.reply("/api/v1/pods", Reply(silent=True))
    async with KubeReader(connection(api), seconds=0.2) as reader:
        (gap,) = (await reader.objects(PODS, ALL)).missing
    assert gap.why is Why.TIMEOUT


@pytest.mark.anyio
async def test_a_cut_body_is_tried_again(api: FakeApi, reader: KubeReader) -> None:
    whole = listing("Pod", [pod("a")])
    api.reply("/api/v1/pods", Reply(200, whole.body, cut_after=40), whole)
    assert [fact.name for fact in (await reader.objects(PODS, ALL)).value] == ["a"]


@pytest.mark.anyio
async def test_json_that_ends_early_is_malformed(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/pods", Reply(200, listing("Pod", [pod("a")]).body[:50]))
    (gap,) = (await reader.objects(PODS, ALL)).missing
    assert gap.why is Why.MALFORMED


@pytest.mark.anyio
async def test_an_object_as_deep_as_its_author_likes_ends_no_reading(api: FakeApi, reader: KubeReader) -> None:
    def deep(reply: Reply) -> Reply:
        return Reply(200, reply.body.replace(b'"DEEP"', b'{"a":' * 20_000 + b"1" + b"}" * 20_000))

    one = pod("a") | {"more": "DEEP"}
    api.reply("/api/v1/pods", deep(listing("Pod", [one])))
    api.reply("/api/v1/namespaces/ml/pods/a", deep(document(one)))
    gaps = [*(await reader.objects(PODS, ALL)).missing, *(await reader.objects(PODS, ML, "a")).missing, await reader.raw(PODS, "ml", "a")]
    assert [gap.why for gap in gaps if isinstance(gap, Missing)] == [Why.MALFORMED] * 3


@pytest.mark.anyio
async def test_one_broken_object_costs_only_itself(api: FakeApi, reader: KubeReader) -> None:
    broken = pod("b") | {"spec": {"containers": "none"}}
    api.objects("/api/v1/pods", "Pod", [pod("a"), broken, pod("c")])
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a", "c"]
    assert reading.missing[0].why is Why.MALFORMED
    assert "ml/b" in reading.missing[0].detail


@pytest.mark.anyio
async def test_overload_waits_as_long_as_the_server_says(api: FakeApi, reader: KubeReader) -> None:
    busy = status(429, "TooManyRequests", "slow down", retry_after="0")
    api.reply("/api/v1/pods", busy, busy, listing("Pod", [pod("a")]))
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a"]
    assert reading.cost.requests == 4


@pytest.mark.anyio
async def test_patience_has_an_end(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/pods", status(429, "TooManyRequests", "slow down", retry_after="3600"))
    (gap,) = (await reader.objects(PODS, ALL)).missing
    assert gap.why is Why.TIMEOUT
    assert api.paths().count("/api/v1/pods") == 1


@pytest.mark.anyio
async def test_absent_kinds_cost_one_discovery_in_all(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/apis", groups(apps={"v1": ["deployments"]}))
    absent = [kind for kind in KINDS if kind.group and kind.group != "apps"]
    readings = [await reader.objects(kind, ALL) for kind in absent]
    assert {gap.why for reading in readings for gap in reading.missing} == {Why.ABSENT_KIND}
    assert api.paths() == ["/apis"]


@pytest.mark.anyio
async def test_a_version_that_is_not_known_hides_what_there_is_and_says_which(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/apis", groups(**{"resource_k8s_io": {"v1alpha3": ["resourceclaims"], "v1alpha2": ["podschedulingcontexts"]}}))
    (gap,) = (await reader.objects(BY_NAME["ResourceClaim"], ALL)).missing
    assert gap.why is Why.OTHER_VERSION
    assert gap.detail == "resource.k8s.io is served only as v1alpha3; v1 or v1beta2 or v1beta1 is read here"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("versions", "request_", "device"),
    [
        (["v1beta1"], {"deviceClassName": "gpu", "count": 2}, {"basic": {"attributes": {"model": {"string": "H100"}}}}),
        (["v1beta1", "v1beta2"], {"exactly": {"deviceClassName": "gpu", "count": 2}}, {"attributes": {"model": {"string": "H100"}}}),
    ],
)
async def test_device_claims_are_read_in_the_newest_version_that_is_served(
    api: FakeApi, reader: KubeReader, versions: list[str], request_: dict[str, Any], device: dict[str, Any]
) -> None:
    api.reply("/apis", groups(**{"resource_k8s_io": {version: ["resourceclaims", "resourceslices"] for version in versions}}))
    path = f"/apis/resource.k8s.io/{versions[-1]}"
    claim = {"metadata": {"name": "one", "namespace": "ml"}, "spec": {"devices": {"requests": [{"name": "r", **request_}]}}}
    api.objects(f"{path}/resourceclaims", "ResourceClaim", [claim])
    api.reply(f"{path}/namespaces/ml/resourceclaims/one", document(claim))
    api.objects(f"{path}/resourceslices", "ResourceSlice", [{"metadata": {"name": "s"}, "spec": {"devices": [{"name": "d", **device}]}}])
    claims, slices = [await reader.objects(BY_NAME[kind], ALL) for kind in ("ResourceClaim", "ResourceSlice")]
    assert (claims.missing, slices.missing) == ((), ())
    assert isinstance(claims.value[0], ResourceClaim)
    assert [way for item in claims.value[0].spec.devices.requests or () for way in item.alternatives] == [
        ("r", ExactRequest(device_class_name="gpu", count=2))
    ]
    assert isinstance(slices.value[0], ResourceSlice)
    assert slices.value[0].spec.devices == (Device(name="d", attributes={"model": DeviceAttribute(string="H100")}),)
    assert await reader.raw(BY_NAME["ResourceClaim"], "ml", "one") == claim
    assert [item["apiVersion"] for item in (await reader.documents(BY_NAME["ResourceClaim"], ALL)).value] == [path.removeprefix("/apis/")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("group", "kind", "version", "spec"),
    [
        ("resource.k8s.io", "DeviceTaintRule", "v1alpha3", {"deviceSelector": {"deviceClassName": "gpu"}, "taint": {"key": "sick"}}),
        ("resource.k8s.io", "DeviceTaintRule", "v1beta2", {"deviceSelector": {"driver": "d"}, "taint": {"key": "sick"}}),
        ("gateway.networking.k8s.io", "HTTPRoute", "v1beta1", {"hostnames": ["shop.example.com"]}),
    ],
)
async def test_built_in_kinds_are_read_in_the_version_that_is_served(
    api: FakeApi, reader: KubeReader, group: str, kind: str, version: str, spec: dict[str, Any]
) -> None:
    served = BY_NAME[kind]
    api.reply("/apis", groups(**{group.replace(".", "_"): {version: [served.plural]}}))
    api.objects(f"/apis/{group}/{version}/{served.plural}", kind, [{"metadata": {"name": "one"}, "spec": spec}])
    reading = await reader.objects(served, ALL)
    assert (reading.missing, reading.value) == ((), (msgspec.convert({"metadata": {"name": "one"}, "spec": spec}, served.fact),))


@pytest.mark.anyio
async def test_custom_kinds_are_read_in_the_version_that_is_served(api: FakeApi, reader: KubeReader) -> None:
    served = {"v1beta1": ["clusterqueues", "workloads"], "v1beta2": ["workloads"]}
    api.reply("/apis", groups(**{"kueue_x-k8s_io": served}))
    for version, plural in (("v1beta1", "clusterqueues"), ("v1beta2", "workloads")):
        api.objects(f"/apis/kueue.x-k8s.io/{version}/{plural}", "Any", [{"metadata": {"name": plural}}])
        api.reply(f"/apis/kueue.x-k8s.io/{version}/{plural}/one", document({"metadata": {"name": "one"}}))
    for kind in ("ClusterQueue", "Workload"):
        reading = await reader.objects(BY_NAME[kind], ALL)
        assert ([fact.ref.kind for fact in reading.value], reading.missing) == ([kind], ())
    assert await reader.raw(BY_NAME["ClusterQueue"], None, "one") == {"metadata": {"name": "one"}}
    assert (await reader.objects(BY_NAME["Cohort"], ALL)).missing[0].why is Why.ABSENT_KIND


@pytest.mark.anyio
async def test_a_kind_of_several_groups_is_read_in_each_that_is_served(api: FakeApi, reader: KubeReader) -> None:
    api.reply(
        "/apis", groups(scheduling_run_ai={"v2alpha2": ["podgroups"], "v2": ["queues"]}, scheduling_volcano_sh={"v1beta1": ["podgroups"]})
    )
    for group, version in (("scheduling.run.ai", "v2alpha2"), ("scheduling.volcano.sh", "v1beta1")):
        api.objects(f"/apis/{group}/{version}/podgroups", "PodGroup", [{"metadata": {"name": version, "namespace": "ml"}}])
    api.objects("/apis/scheduling.run.ai/v2/queues", "Queue", [{"metadata": {"name": "research"}}])
    assert {fact.name for fact in (await reader.objects(BY_NAME["PodGroup"], ALL)).value} == {"v1beta1", "v2alpha2"}
    assert [fact.name for fact in (await reader.objects(BY_NAME["Queue"], ALL)).value] == ["research"]
    assert api.paths().count("/apis") == 1
    assert await reader.glance(BY_NAME["PodGroup"]) is None


@pytest.mark.anyio
async def test_a_glance_asks_for_a_right_where_the_kind_lives(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/namespaces/ml/pods", status(403, "Forbidden", "no"))
    api.reply("/api/v1/nodes", status(403, "Forbidden", "no"))
    gaps = [gap for kind in ("Pod", "Node") if (gap := await reader.glance(BY_NAME[kind], "ml")) is not None]
    assert [(gap.what, gap.namespace) for gap in gaps] == [("pods in ml", "ml"), ("nodes", None)]
    assert ["on pods in namespace ml" in gaps[0].next_step, "on nodes in the whole cluster" in gaps[1].next_step] == [True, True]


@pytest.mark.anyio
async def test_without_discovery_kinds_speak_for_themselves(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/apis", status(403, "Forbidden", "no discovery"))
    api.objects("/apis/apps/v1/deployments", "Deployment", [{"metadata": {"name": "web", "namespace": "ml"}}])
    assert [fact.name for fact in (await reader.objects(BY_NAME["Deployment"], ALL)).value] == ["web"]
    (gap,) = (await reader.objects(BY_NAME["Gateway"], ALL)).missing
    assert gap.why is Why.ABSENT_KIND


@pytest.mark.anyio
async def test_the_plain_group_list_of_old_servers_is_enough(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/apis", document({"kind": "APIGroupList", "groups": [{"name": "apps", "versions": [{"version": "v1"}]}]}))
    api.objects("/apis/apps/v1/deployments", "Deployment", [{"metadata": {"name": "web", "namespace": "ml"}}])
    assert (await reader.objects(BY_NAME["Deployment"], ALL)).value
    assert (await reader.objects(BY_NAME["Gateway"], ALL)).missing[0].why is Why.ABSENT_KIND


@pytest.mark.anyio
async def test_one_object_by_name_and_its_proven_absence(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/namespaces/ml/pods/a", document(pod("a")))
    assert [fact.name for fact in (await reader.objects(PODS, ML, "a")).value] == ["a"]
    absent = await reader.objects(PODS, ML, "b")
    assert (absent.value, absent.missing) == ((), ())


@pytest.mark.anyio
async def test_a_name_in_all_namespaces_is_a_field_selector(api: FakeApi, reader: KubeReader) -> None:
    api.objects("/api/v1/pods", "Pod", [pod("a")])
    await reader.objects(PODS, ALL, "a")
    assert api.requests[-1].query["fieldSelector"] == "metadata.name=a"


@pytest.mark.anyio
async def test_names_ask_for_metadata_only(api: FakeApi, reader: KubeReader) -> None:
    api.objects("/api/v1/pods", "PartialObjectMetadata", [{"metadata": pod("a")["metadata"]}])
    assert (await reader.names(PODS, ALL)).value == (ObjectRef("Pod", "ml", "a", "uid-a"),)
    assert "PartialObjectMetadataList" in api.requests[-1].header("accept")[0]


@pytest.mark.anyio
async def test_custom_kinds_are_found_by_the_word_people_use(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/apis", groups(example_org={"v1": ["widgets"]}))
    api.objects("/apis/example.org/v1/widgets", "Widgets", [{"metadata": {"name": "w"}, "spec": {"size": 3}}])
    kind = await reader.find_kind("widgets")
    assert kind is not None
    (fact,) = (await reader.objects(kind, ALL)).value
    assert isinstance(fact, CustomObject)
    assert (fact.ref.kind, fact.spec) == ("Widgets", {"size": 3})
    assert await reader.find_kind("gadgets") is None
    for word in ("deploy", "deployment.apps", "deployments.apps", "Deployment.v1.apps"):
        assert await reader.find_kind(word) is BY_NAME["Deployment"]
    assert await reader.find_kind("deployments.example.com") is None


@pytest.mark.anyio
async def test_no_way_leads_to_a_secret(api: FakeApi, reader: KubeReader) -> None:
    secrets = Kind("Secret", "", "v1", "secrets", True, ConfigMap)
    for attempt in (reader.raw(secrets, "ml", "s"), reader.objects(secrets, ML), reader.names(secrets, ML), reader.documents(secrets, ML)):
        with pytest.raises(RefusedReadError, match="no Secrets"):
            await attempt
    assert await reader.find_kind("secret") is None
    assert api.requests == []


@pytest.mark.anyio
async def test_a_whole_object_without_its_machine_copies(api: FakeApi, reader: KubeReader) -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "ml"}
    whole = {**pod("a"), "metadata": {"name": "a", "managedFields": [{}], "annotations": annotations}}
    api.reply("/api/v1/namespaces/ml/pods/a", document(whole))
    raw = await reader.raw(PODS, "ml", "a")
    assert isinstance(raw, dict)
    assert raw["metadata"] == {"name": "a", "annotations": {"team": "ml"}}
    gone = await reader.raw(PODS, "ml", "b")
    assert isinstance(gone, Missing)
    assert gone.why is Why.NOT_FOUND


@pytest.mark.anyio
async def test_a_log_is_its_redacted_tail(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/namespaces/ml/pods/a/log", Reply(200, b"starting\npassword=hunter2hunter2\nready\n"))
    reading = await reader.logs(ContainerRef("ml", "a", "main"), previous=True, limit_bytes=10_000)
    assert reading.value.lines[0] == "starting"
    assert "hunter2" not in "\n".join(reading.value.lines)
    query = api.requests[-1].query
    assert (query["container"], query["previous"]) == ("main", "true")
    assert int(query["tailLines"]) > 0
    assert int(query["limitBytes"]) > 0


@pytest.mark.anyio
async def test_a_log_that_was_cut_at_its_end_is_asked_for_again_shorter(api: FakeApi, reader: KubeReader) -> None:
    long_lines = [f"line {number} " + "x" * 3_000 for number in range(400)]

    def tail(seen: Seen) -> Reply:
        lines = long_lines[-int(seen.query["tailLines"]) :]
        return Reply(200, ("\n".join(lines) + "\n").encode()[: int(seen.query["limitBytes"])])

    api.routes["/api/v1/namespaces/ml/pods/a/log"] = tail
    reading = await reader.logs(ContainerRef("ml", "a", "main"), previous=False, limit_bytes=32_768)
    assert reading.value.lines[-1].startswith("line 399 ")
    assert reading.value.cut is not None
    assert reading.missing == ()


@pytest.mark.anyio
async def test_a_log_line_of_a_hundred_megabytes_is_not_taken_off_the_wire(api: FakeApi, reader: KubeReader) -> None:
    # limitBytes is a wish: not every server on the way to the kubelet grants it.
    api.reply("/api/v1/namespaces/ml/pods/p/log", Reply(200, b"2026-01-02T03:04:05Z begin ", endless=1_600 * ENDLESS_PIECE))
    reading = await reader.logs(ContainerRef("ml", "p", "main"), previous=False, limit_bytes=32_000)
    assert reading.missing == ()
    assert sum(len(line) for line in reading.value.lines) <= 32_000
    assert reading.value.cut is not None
    # Three tries, each with what sockets hold between two processes.
    assert api.endless_sent < 48 * 1024 * 1024
    assert reading.cost.bytes < 1024 * 1024


@pytest.mark.anyio
async def test_a_container_that_never_ran_has_no_log(api: FakeApi, reader: KubeReader) -> None:
    message = 'container "main" in pod "a" is waiting to start: ContainerCreating'
    api.reply("/api/v1/namespaces/ml/pods/a/log", status(400, "BadRequest", message))
    (gap,) = (await reader.logs(ContainerRef("ml", "a", "main"), previous=False, limit_bytes=1_000)).missing
    assert gap.why is Why.NOT_FOUND
    assert "waiting to start" in gap.detail


@pytest.mark.anyio
async def test_a_forbidden_log_names_its_own_permission(api: FakeApi, reader: KubeReader) -> None:
    api.reply("/api/v1/namespaces/ml/pods/a/log", status(403, "Forbidden", "no"))
    (gap,) = (await reader.logs(ContainerRef("ml", "a", "main"), previous=False, limit_bytes=1_000)).missing
    assert "get on pods/log in namespace ml" in gap.next_step


@pytest.mark.anyio
async def test_metrics_and_telemetry_say_that_there_is_no_source(reader: KubeReader) -> None:
    telemetry = await reader.telemetry(ALL)
    assert [gap.why for gap in telemetry.missing] == [Why.NO_SOURCE]


@pytest.mark.anyio
async def test_the_reader_is_a_reader(reader: KubeReader) -> None:
    as_protocol: Reader = reader
    assert as_protocol.cluster == "test"
    assert as_protocol.now() == NOW
