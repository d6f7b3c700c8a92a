"""Opening recordings, ours and other people's, whole and broken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import RecordingError, RefusedReadError
from cluster.facts.config import ConfigMap
from cluster.facts.event import CustomObject
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME, KINDS, Kind
from cluster.reading import MetricQuery, Missing, Reader, Why
from cluster.recorded import RecordedReader
from cluster.reference import ContainerRef, Scope, Window

ALL = Scope("recording")
PODS = BY_NAME["Pod"]
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: ml, creationTimestamp: 2026-01-02T03:00:00Z, labels: {app: web}}
spec: {containers: [{name: app, image: x, ports: [{containerPort: 80}]}]}
status: {phase: Running, startTime: "2026-01-02T03:04:05Z"}
"""


def record(folder: Path, *documents: Any, **files: str) -> Path:
    items = [yaml.safe_load(item) if isinstance(item, str) else item for item in documents]
    for item in items:
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if isinstance(metadata, dict) and isinstance(metadata.get("creationTimestamp"), datetime):
            metadata["creationTimestamp"] = metadata["creationTimestamp"].strftime("%Y-%m-%dT%H:%M:%SZ")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}, sort_keys=False))
    for name, text in files.items():
        path = folder / name.replace("_dot_", ".").replace("logs_", "logs/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "ml"}, "spec": {"containers": [{"name": "app"}], **spec}}


@pytest.mark.anyio
async def test_objects_by_kind_scope_and_name(tmp_path: Path) -> None:
    other = pod("b") | {"metadata": {"name": "b", "namespace": "web"}}
    reader = RecordedReader.open(record(tmp_path, POD, other))
    assert [fact.name for fact in (await reader.objects(PODS, ALL)).value] == ["web-1", "b"]
    assert [fact.name for fact in (await reader.objects(PODS, Scope("r", ("web",)))).value] == ["b"]
    (fact,) = (await reader.objects(PODS, ALL, "web-1")).value
    assert isinstance(fact, Pod)
    assert fact.spec.containers[0].ports is not None
    assert fact.spec.containers[0].ports[0].container_port == 80
    as_protocol: Reader = reader
    assert as_protocol.cluster == "recording"


@pytest.mark.anyio
async def test_a_kind_that_was_not_recorded_is_missing_and_not_absent(tmp_path: Path) -> None:
    reader = RecordedReader.open(record(tmp_path, POD))
    assert (await reader.objects(PODS, ALL)).missing == ()
    (gap,) = (await reader.objects(BY_NAME["ConfigMap"], ALL)).missing
    assert gap.why is Why.NO_SOURCE


@pytest.mark.anyio
async def test_a_manifest_makes_absence_provable(tmp_path: Path) -> None:
    manifest = (
        "format: 1\ncluster: prod\nnow: 2026-02-03T00:00:00Z\nnamespaces: [ml]\nkinds_read: [Pod, ConfigMap]\n"
        "missing: [{what: nodes, why: forbidden, kind: Node, next_step: Grant it.}]\n"
    )
    reader = RecordedReader.open(record(tmp_path, POD, recording_dot_yaml=manifest))
    assert (reader.cluster, reader.now()) == ("prod", datetime(2026, 2, 3, tzinfo=UTC))
    absent = await reader.objects(BY_NAME["ConfigMap"], Scope("r", ("ml",)))
    assert (absent.value, absent.missing) == ((), ())
    (gap,) = (await reader.objects(BY_NAME["Node"], ALL)).missing
    assert (gap.why, gap.next_step) == (Why.FORBIDDEN, "Grant it.")
    (gap,) = (await reader.objects(PODS, Scope("r", ("ml", "web")))).missing
    assert (gap.why, gap.namespace) == (Why.NO_SOURCE, "web")
    (gap,) = (await reader.objects(PODS, ALL)).missing
    assert (gap.why, gap.what, gap.detail) == (Why.NO_SOURCE, "pods of other namespaces", "other namespaces than ml were not recorded")


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [("format: 9", "Upgrade"), ("format: [", "no YAML"), ("kinds_read: 7", "cannot understand"), ("now: 2026-01-01T00:00:00", "time zone")],
)
def test_a_manifest_that_cannot_be_understood_is_an_error(tmp_path: Path, manifest: str, complaint: str) -> None:
    with pytest.raises(RecordingError, match=complaint):
        RecordedReader.open(record(tmp_path, POD, recording_dot_yaml=manifest))


def test_the_clock_is_given_or_recorded_or_the_newest_moment(tmp_path: Path) -> None:
    folder = record(
        tmp_path,
        POD,
        {"kind": "Event", "metadata": {"name": "e"}, "lastTimestamp": "2026-01-02T03:10:00Z", "message": "2030-01-01T00:00:00Z"},
    )
    assert RecordedReader.open(folder).now() == datetime(2026, 1, 2, 3, 10, tzinfo=UTC)
    given = datetime(2026, 5, 1, tzinfo=UTC)
    assert RecordedReader.open(folder, given).now() == given


@pytest.mark.anyio
async def test_one_object_of_a_wrong_shape_costs_only_itself(tmp_path: Path) -> None:
    reader = RecordedReader.open(record(tmp_path, POD, pod("bad", containers="none")))
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["web-1"]
    assert reading.missing[0].why is Why.MALFORMED
    assert "bad" in reading.missing[0].detail


@pytest.mark.anyio
@pytest.mark.parametrize(
    "junk",
    [
        "just text",
        {"metadata": {}},
        {"kind": "Pod"},
        {"kind": "Pod", "metadata": {"name": 7}},
        {"kind": "Pod", "metadata": {"name": "\x1b[31mred"}},
        {"kind": "Pod", "metadata": {"name": "a/b"}},
        {"kind": "Pod", "metadata": {"name": "a", "namespace": "ml\nhealthy"}},
        {"kind": "Pod\x1b", "metadata": {"name": "a"}},
        [1],
        7,
    ],
)
async def test_entries_that_are_no_objects_are_said_to_be_so(tmp_path: Path, junk: Any) -> None:
    reader = RecordedReader.open(record(tmp_path, POD))
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump({"kind": "List", "items": [junk, pod("a")]}))
    reader = RecordedReader.open(tmp_path)
    reading = await reader.objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a"]
    assert reading.missing[0].why is Why.MALFORMED


@pytest.mark.anyio
async def test_hand_made_numbers_where_the_api_has_text(tmp_path: Path) -> None:
    made = pod("a", containers=[{"name": "app", "env": [{"name": "X", "value": 1}], "args": [1, True]}], nodeSelector={"gpu": True})
    made["metadata"]["labels"] = {"version": 1}
    reader = RecordedReader.open(record(tmp_path, made))
    (fact,) = (await reader.objects(PODS, ALL)).value
    assert isinstance(fact, Pod)
    assert fact.labels == {"version": "1"}
    assert fact.spec.node_selector == {"gpu": "true"}
    assert fact.spec.containers[0].args == ("1", "true")


@pytest.mark.anyio
async def test_nulls_mean_absent(tmp_path: Path) -> None:
    reader = RecordedReader.open(record(tmp_path, pod("a", volumes=None, nodeName=None) | {"status": None}))
    assert [fact.name for fact in (await reader.objects(PODS, ALL)).value] == ["a"]


def test_half_a_recording_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    record(tmp_path, POD)
    path = tmp_path / "objects.yaml"
    path.write_text(path.read_text()[:90] + "\n  'unclosed")
    with pytest.raises(RecordingError, match="record it again"):
        RecordedReader.open(tmp_path)
    with pytest.raises(RecordingError, match="no recording at"):
        RecordedReader.open(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"has no objects\.yaml"):
        RecordedReader.open(tmp_path / "empty")


@pytest.mark.parametrize("name", ["settings.json", "notes/values.yaml"])
def test_what_holds_no_object_at_all_is_no_recording(tmp_path: Path, name: str) -> None:
    path = tmp_path / "other" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"title": "of something else"}')
    for given in (tmp_path / "other", path):
        with pytest.raises(RecordingError, match=r"is no recording: nothing in it is a Kubernetes object\. Name the folder of one"):
            RecordedReader.open(given)


def test_objects_of_which_none_has_its_shape_are_no_recording(tmp_path: Path) -> None:
    folder = record(
        tmp_path, pod("a", containers="none"), pod("b", containers=7), {"kind": "Node", "metadata": {"name": "n", "labels": "x"}}
    )
    for given in (folder, folder / "objects.yaml"):
        with pytest.raises(RecordingError, match=r"nothing in .* can be used: none of its 3 objects .*n: .*labels.*kubectl get -o yaml"):
            RecordedReader.open(given)


def test_an_empty_file_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "dump.yaml").write_text("# nothing\n")
    with pytest.raises(RecordingError, match=r"is no recording: nothing in it is a Kubernetes object"):
        RecordedReader.open(tmp_path / "dump.yaml")


@pytest.mark.anyio
@pytest.mark.parametrize("sign", ["recording.yaml", "objects.yaml", "alerts.json", "logs/ml__a__app.log"])
async def test_a_recording_without_objects_is_one_by_what_else_is_in_it(tmp_path: Path, sign: str) -> None:
    (tmp_path / "dump.json").write_text('{"title": "no object"}')
    (tmp_path / sign).parent.mkdir(exist_ok=True)
    (tmp_path / sign).write_text("[]" if sign != "recording.yaml" else "format: 1\n")
    assert RecordedReader.open(tmp_path).size == 0


def test_a_dump_of_nothing_is_a_recording(tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "PodList", "items": []}))
    assert RecordedReader.open(tmp_path).size == 0


@pytest.mark.anyio
async def test_a_copy_that_lost_objects_proves_no_absence(tmp_path: Path) -> None:
    manifest = yaml.safe_dump({"kinds_read": ["Pod", "Node"], "objects": 3})
    reader = RecordedReader.open(record(tmp_path, POD, pod("a"), recording_dot_yaml=manifest))
    for kind in ("Pod", "Node"):
        (gap,) = (await reader.objects(BY_NAME[kind], ALL)).missing
        assert (gap.why, gap.kind) == (Why.MALFORMED, kind)
        assert "2 of the 3 objects" in gap.detail
    whole = RecordedReader.open(record(tmp_path, POD, pod("a"), pod("b"), recording_dot_yaml=manifest))
    assert (await whole.objects(PODS, ALL)).missing == ()


@pytest.mark.anyio
async def test_secrets_in_a_recording_are_not_read(tmp_path: Path) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": "ml"}, "data": {"k": "djE="}}
    reader = RecordedReader.open(record(tmp_path, POD, secret))
    assert list(reader.raw_objects("Secret")) == []
    assert await reader.find_kind("secret") is None
    with pytest.raises(RefusedReadError):
        await reader.raw(Kind("Secret", "", "v1", "secrets", True, ConfigMap), "ml", "s")


@pytest.mark.anyio
async def test_whole_objects(tmp_path: Path) -> None:
    reader = RecordedReader.open(record(tmp_path, POD))
    raw = await reader.raw(PODS, "ml", "web-1")
    assert isinstance(raw, dict)
    assert (raw["apiVersion"], raw["status"]["phase"]) == ("v1", "Running")
    gone = await reader.raw(PODS, "ml", "web-2")
    assert isinstance(gone, Missing)


@pytest.mark.anyio
async def test_custom_objects(tmp_path: Path) -> None:
    custom = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "ml"}, "spec": {"size": 3}}
    reader = RecordedReader.open(record(tmp_path, custom))
    kind = await reader.find_kind("widgets")
    assert kind is not None
    (fact,) = (await reader.objects(kind, ALL)).value
    assert isinstance(fact, CustomObject)
    assert (fact.ref.kind, fact.spec) == ("Widget", {"size": 3})


@pytest.mark.anyio
async def test_one_plain_file_as_kubectl_prints_it(tmp_path: Path) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(POD)
    assert [fact.name for fact in (await RecordedReader.open(path).objects(PODS, ALL)).value] == ["web-1"]
    path.write_text(json.dumps({"kind": "List", "items": [pod("a")]}))
    assert [fact.name for fact in (await RecordedReader.open(path).objects(PODS, ALL)).value] == ["a"]


@pytest.mark.anyio
async def test_a_cluster_info_dump(tmp_path: Path) -> None:
    bare = {key: value for key, value in pod("a").items() if key != "kind"}
    (tmp_path / "ml" / "a").mkdir(parents=True)
    (tmp_path / "nodes.json").write_text(json.dumps({"kind": "NodeList", "items": [{"metadata": {"name": "n"}}]}))
    (tmp_path / "ml" / "pods.json").write_text(json.dumps({"kind": "PodList", "items": [bare]}))
    (tmp_path / "ml" / "a" / "logs.txt").write_text("hello\n")
    reader = RecordedReader.open(tmp_path)
    assert [fact.name for fact in (await reader.objects(PODS, ALL)).value] == ["a"]
    assert [fact.name for fact in (await reader.objects(BY_NAME["Node"], ALL)).value] == ["n"]
    log = await reader.logs(ContainerRef("ml", "a", "app"), previous=False, limit_bytes=100)
    assert log.value.lines == ("hello",)


@pytest.mark.anyio
async def test_logs_are_bounded_and_redacted(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(1_000)) + "password=hunter2hunter2\n"
    reader = RecordedReader.open(record(tmp_path, pod("a"), logs_ml__a__app_dot_log=text))
    reading = await reader.logs(ContainerRef("ml", "a", "app"), previous=False, limit_bytes=200)
    assert reading.value.lines[-2] == "line 999"
    assert "hunter2" not in reading.value.lines[-1]
    assert sum(len(line) + 1 for line in reading.value.lines) <= 210
    assert reading.value.cut is not None
    (gap,) = (await reader.logs(ContainerRef("ml", "a", "other"), previous=True, limit_bytes=200)).missing
    assert gap.why is Why.NO_SOURCE


@pytest.mark.anyio
async def test_metrics_by_name_labels_and_window(tmp_path: Path) -> None:
    csv = "time,web-cpu,web-mem,db-cpu,db-mem\n2026-01-02 03:00:00,1,2,3,4\n2026-01-02 04:00:00,5,6,7,8\n"
    reader = RecordedReader.open(record(tmp_path, POD, metrics_dot_csv=csv))
    window = Window(datetime(2026, 1, 2, 3, 30, tzinfo=UTC), datetime(2026, 1, 2, 5, tzinfo=UTC))
    (series,) = (await reader.metric(MetricQuery("cpu", (("subject", "web"),)), window)).value
    assert [sample.value for sample in series.samples] == [5.0]
    assert (await reader.metric(MetricQuery("rps"), window)).missing[0].why is Why.NOT_FOUND
    empty = RecordedReader.open(record(tmp_path / "none", POD))
    assert (await empty.metric(MetricQuery("cpu"), window)).missing[0].why is Why.NO_SOURCE


@pytest.mark.anyio
async def test_telemetry_files_are_optional_and_may_be_broken(tmp_path: Path) -> None:
    none = await RecordedReader.open(record(tmp_path / "none", POD)).telemetry(ALL)
    assert [gap.why for gap in none.missing] == [Why.NO_SOURCE]
    folder = record(tmp_path / "some", POD, alerts_dot_json='[{"name": "a"}]', connectivity_dot_json='{"web": ')
    some = await RecordedReader.open(folder).telemetry(ALL)
    assert [alert.name for alert in some.value.alerts] == ["a"]
    assert [(gap.what, gap.why) for gap in some.missing] == [("connectivity.json", Why.MALFORMED)]


@pytest.mark.anyio
async def test_telemetry_that_is_a_link_out_of_the_recording_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[{"labels": {"alertname": "Private"}}]')
    folder = record(tmp_path / "recording", POD)
    (folder / "alerts.json").symlink_to(tmp_path / "mine.json")
    (folder / "metrics.csv").symlink_to(tmp_path / "mine.json")
    reading = await RecordedReader.open(folder).telemetry(ALL)
    assert (reading.value.alerts, reading.value.series) == ((), ())


@pytest.mark.anyio
async def test_every_kind_answers_over_an_empty_recording(tmp_path: Path) -> None:
    reader = RecordedReader.open(record(tmp_path))
    for kind in KINDS:
        reading = await reader.objects(kind, ALL)
        assert (reading.value, [gap.why for gap in reading.missing]) == ((), [Why.NO_SOURCE])
