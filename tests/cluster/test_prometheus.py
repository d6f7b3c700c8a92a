"""The source of live metrics against a real Prometheus, and against what servers say when something is wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from cluster import endpoint
from cluster import prometheus as source
from cluster.endpoint import Endpoint
from cluster.errors import MonitoringError
from cluster.prometheus import Prometheus as Source
from cluster.reading import LABEL_LIMIT, MetricQuery, Missing, Reading, Series, Why
from cluster.recorded import RecordedReader
from cluster.reference import Scope, Window
from tests.cluster.fake_monitoring import Reply, Seen, answering
from tests.lab import certificates
from tests.lab.monitoring import Line, Prometheus
from tests.lab.shapes import counter, level, steady

pytestmark = pytest.mark.anyio

EVERYWHERE = Scope("test")
_HOURS = itertools.count(1)


@pytest.fixture
def end() -> datetime:
    """A moment before which no other test wrote anything for six hours."""
    return datetime(2025, 6, 1, 12, tzinfo=UTC) - timedelta(hours=6 * next(_HOURS))


def hour(end: datetime) -> Window:
    return Window(end - timedelta(hours=1), end)


async def asked(url: str, query: MetricQuery, window: Window, *namespaces: str, limit: int = 2_000) -> Reading[tuple[Series, ...]]:
    async with Source(Endpoint(url)) as opened:
        return await opened.metric(structs.replace(query, namespaces=namespaces), window, limit)


def only(reading: Reading[tuple[Series, ...]]) -> Missing:
    assert reading.value == ()
    [gap] = reading.missing
    return gap


class TestReal:
    """What the real server answers."""

    async def test_a_metric_by_its_name(self, prometheus: Prometheus, end: datetime) -> None:
        labels = {"__name__": "test_named", "namespace": "ml", "pod": "a"}
        prometheus.write([Line(labels, level(end, 5.0)), Line({**labels, "pod": "b"}, level(end, 7.0))])
        found = await asked(prometheus.url, MetricQuery("test_named", (("pod", "b"),)), hour(end))
        assert [item.labels for item in found.value] == [{**labels, "pod": "b"}]
        assert len(found.value[0].samples) == source.POINTS + 1
        assert found.value[0].samples[-1].at == end
        assert found.missing == ()
        assert found.cost.requests == 1
        assert found.cost.bytes > 0

    async def test_a_scrapers_own_labels_give_way_to_those_of_the_exporter(self, prometheus: Prometheus, end: datetime) -> None:
        moved = {"exported_namespace": "ml", "exported_pod": "serve-0", "namespace": "monitoring", "pod": "exporter"}
        prometheus.write([Line({"__name__": "test_moved", **moved}, level(end, 1.0))])
        for arguments in ((), ("ml",)):
            [series] = (await asked(prometheus.url, MetricQuery("test_moved"), hour(end), *arguments)).value
            assert series.labels == {"__name__": "test_moved", "namespace": "ml", "pod": "serve-0"}

    async def test_an_exporter_that_calls_the_holder_of_a_device_by_a_name_of_its_own(self, prometheus: Prometheus, end: datetime) -> None:
        held = {"pod_namespace": "ml", "pod_name": "fit-0", "namespace": "monitoring", "pod": "gaudi-exporter"}
        prometheus.write([Line({"__name__": "habanalabs_pending_rows_with_double_bit_ecc_errors", "id": "3", **held}, level(end, 1.0))])
        [series] = (await asked(prometheus.url, MetricQuery("gpu-row-remapping-pending"), hour(end), "ml")).value
        assert (series.labels["namespace"], series.labels["pod"], series.labels["id"]) == ("ml", "fit-0", "3")
        # Whose pod holds it is not for those who ask about another namespace.
        assert (await asked(prometheus.url, MetricQuery("gpu-row-remapping-pending"), hour(end), "shop")).value == ()

    async def test_work_that_the_device_plugins_of_gke_measure(self, prometheus: Prometheus, end: datetime) -> None:
        labels = {
            "__name__": "duty_cycle",
            "exported_namespace": "ml",
            "exported_pod": "fit-0",
            "pod": "plugin",
            "namespace": "kube-system",
        }
        chip = {"accelerator_id": "1-0", "make": "cloud-tpu"}
        prometheus.write([Line({**labels, **chip}, steady(end, 40.0)), Line({**labels, "make": "fan"}, steady(end, 1.0))])
        [series] = (await asked(prometheus.url, MetricQuery("gpu-utilisation"), hour(end), "ml")).value
        assert (series.labels["__name__"], series.labels["pod"], series.labels["make"]) == ("duty_cycle", "fit-0", "cloud-tpu")

    async def test_adapters_are_those_that_a_server_named_last(self, prometheus: Prometheus, end: datetime) -> None:
        labels = {"__name__": "vllm:lora_requests_info", "namespace": "ml", "pod": "chat-0", "max_lora": "2"}
        lines = [({"running_lora_adapters": "a"}, 100.0), ({"running_lora_adapters": "a,b", "waiting_lora_adapters": "c"}, 200.0)]
        prometheus.write(Line({**labels, **more}, level(end, value)) for more, value in lines)
        [series] = (await asked(prometheus.url, MetricQuery("inference-adapters"), hour(end), "ml")).value
        assert (series.labels["running_lora_adapters"], series.labels["waiting_lora_adapters"]) == ("a,b", "c")

    async def test_an_expression(self, prometheus: Prometheus, end: datetime) -> None:
        prometheus.write([Line({"__name__": "test_requests_total", "pod": "a"}, counter(steady(end, 3.0)))])
        [series] = (await asked(prometheus.url, MetricQuery("", (), "sum(rate(test_requests_total[5m]))"), hour(end))).value
        assert series.labels == {"__name__": ""}
        assert round(series.samples[-1].value, 2) == 3.0

    async def test_the_labels_of_an_expression_are_left_as_they_are(self, prometheus: Prometheus, end: datetime) -> None:
        moved = {"exported_pod": "serve-0", "pod": "exporter", "namespace": "monitoring"}
        held = {"pod_namespace": "ml", "pod_name": "fit-0", "pod": "exporter", "namespace": "monitoring"}
        prometheus.write(Line({"__name__": "test_written", **labels}, level(end, 1.0)) for labels in (moved, held))
        found = (await asked(prometheus.url, MetricQuery("", (), "test_written"), hour(end))).value
        assert sorted(item.labels.get("pod_name", "") for item in found) == ["", "fit-0"]
        assert all((item.labels["pod"], item.labels["namespace"]) == ("exporter", "monitoring") for item in found)
        named = (await asked(prometheus.url, MetricQuery("test_written"), hour(end))).value
        assert sorted(item.labels["pod"] for item in named) == ["fit-0", "serve-0"]

    async def test_what_is_no_number_is_left_out(self, prometheus: Prometheus, end: datetime) -> None:
        prometheus.write([Line({"__name__": "test_zero"}, steady(end, 0.0))])
        gap = only(await asked(prometheus.url, MetricQuery("", (), "test_zero / test_zero"), hour(end)))
        assert gap.why is Why.NOT_FOUND
        assert (await asked(prometheus.url, MetricQuery("", (), "scalar(test_zero)"), hour(end))).value[0].samples[0].value == 0.0

    async def test_no_series_is_something_that_cannot_be_seen(self, prometheus: Prometheus, end: datetime) -> None:
        for query in (MetricQuery("test_nowhere"), MetricQuery("gpu-xid"), MetricQuery("", (), "test_nowhere > 0")):
            gap = only(await asked(prometheus.url, query, hour(end)))
            assert gap.why is Why.NOT_FOUND
            assert "Prometheus has no such series" in gap.detail

    @pytest.mark.parametrize("expression", ["sum(", "rate(test_named)", "test_named[5m]", '"a string"'])
    async def test_a_query_that_is_refused(self, prometheus: Prometheus, end: datetime, expression: str) -> None:
        gap = only(await asked(prometheus.url, MetricQuery("", (), expression), hour(end)))
        assert gap.why is Why.MALFORMED
        assert gap.detail

    async def test_more_series_than_were_asked_for(self, prometheus: Prometheus, end: datetime) -> None:
        prometheus.write(Line({"__name__": "test_many", "pod": f"p{number}"}, [(end, 1.0)]) for number in range(20))
        found = await asked(prometheus.url, MetricQuery("test_many"), hour(end), limit=5)
        assert len(found.value) == 5
        [gap] = found.missing
        assert gap.why is Why.TRUNCATED
        assert "the first 5" in gap.detail

    async def test_a_long_query_is_posted(self, prometheus: Prometheus, end: datetime) -> None:
        prometheus.write([Line({"__name__": "test_long", "namespace": "ml"}, level(end, 1.0))])
        namespaces = ("ml", *(f"namespace-number-{number}" for number in range(200)))
        assert len((await asked(prometheus.url, MetricQuery("test_long"), hour(end), *namespaces)).value) == 1

    async def test_a_preset_takes_what_an_object_calls_it_now(self, prometheus: Prometheus, end: datetime) -> None:
        def cache(name: str, pod: str, value: float) -> Line:
            return Line({"__name__": name, "namespace": "ml", "pod": pod}, steady(end, value))

        new, old = "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"
        prometheus.write([cache(new, "both", 0.9), cache(old, "both", 0.1), cache(old, "old", 0.8)])
        found = await asked(prometheus.url, MetricQuery("inference-kv-cache"), hour(end), "ml")
        assert {(item.labels["pod"], item.labels["__name__"], item.samples[-1].value) for item in found.value} == {
            ("both", new, 0.9),
            ("old", old, 0.8),
        }
        [series] = (await asked(prometheus.url, MetricQuery("inference-kv-cache", (("pod", "old"),)), hour(end), "ml")).value
        assert series.labels["pod"] == "old"

    async def test_alerts_fired_when_they_fired(self, prometheus: Prometheus, end: datetime) -> None:
        labels = {"alertname": "TestFires", "namespace": "ml", "severity": "page"}
        began = end - timedelta(minutes=40)
        prometheus.write(
            [
                Line({"__name__": "ALERTS", "alertstate": "firing", **labels}, steady(end, 1.0, 30)),
                Line({"__name__": "ALERTS", "alertstate": "pending", **labels, "namespace": "web"}, steady(end, 1.0, 30)),
                Line({"__name__": "ALERTS_FOR_STATE", **labels}, steady(end, began.timestamp(), 30)),
            ]
        )
        async with Source(Endpoint(prometheus.url)) as opened:
            [alert] = (await opened.telemetry(EVERYWHERE, end)).value.alerts
            assert (alert.name, alert.state, alert.since) == ("TestFires", "firing", began)
            assert dict(alert.labels)["namespace"] == "ml"
            assert (await opened.telemetry(Scope("test", ("web",)), end)).value.alerts == ()
            assert (await opened.telemetry(EVERYWHERE, end + timedelta(hours=2))).value.alerts == ()

    async def test_what_is_not_exported_is_named_once(self, prometheus: Prometheus, end: datetime) -> None:
        prometheus.write([Line({"__name__": "DCGM_FI_DEV_GPU_TEMP", "pod": "a"}, level(end, 60.0))])
        async with Source(Endpoint(prometheus.url)) as opened:
            read = await opened.telemetry(EVERYWHERE, end)
        assert [item.labels["__name__"] for item in read.value.series] == ["DCGM_FI_DEV_GPU_TEMP"]
        [gap] = read.missing
        assert gap.why is Why.NOT_FOUND
        assert "gpu-xid" in gap.what
        assert "gpu-temperature" not in gap.what
        # One to see what there is, one for what is there.
        assert read.cost.requests == 2

    async def test_a_server_that_has_gone(self, prometheus: Prometheus, end: datetime) -> None:
        with Prometheus(prometheus.binary) as other:
            other.write([Line({"__name__": "test_gone"}, level(end, 1.0))])
            async with Source(Endpoint(other.url)) as opened:
                assert (await opened.metric(MetricQuery("test_gone"), hour(end))).value
                other.close()
                gap = only(await opened.metric(MetricQuery("test_gone"), hour(end)))
        assert gap.why is Why.UNREACHABLE
        assert "Check the address" in gap.next_step

    async def test_beside_a_recording_its_clock_counts(self, prometheus: Prometheus, end: datetime, tmp_path: Path) -> None:
        (tmp_path / "objects.yaml").write_text("kind: List\nitems: []\n", "utf-8")
        (tmp_path / "metrics.csv").write_text(f"timestamp,metric,value,pod\n{end.isoformat()},recorded_only,1,a\n", "utf-8")
        prometheus.write([Line({"__name__": "DCGM_FI_DEV_GPU_TEMP", "pod": "a"}, level(end, 60.0))])
        async with Source(Endpoint(prometheus.url)) as opened:
            reader = RecordedReader.open(tmp_path, end, opened)
            both = await reader.telemetry(EVERYWHERE)
            later = await RecordedReader.open(tmp_path, end + timedelta(hours=3), opened).telemetry(EVERYWHERE)
            own = await reader.metric(MetricQuery("recorded_only"), hour(end))
            asked_for = await reader.metric(MetricQuery("", (), "max(DCGM_FI_DEV_GPU_TEMP)"), hour(end))
        assert {item.labels["__name__"] for item in both.value.series} == {"recorded_only", "DCGM_FI_DEV_GPU_TEMP"}
        assert {item.labels["__name__"] for item in later.value.series} == {"recorded_only"}
        assert len(own.value) == len(asked_for.value) == 1
        alone = await RecordedReader.open(tmp_path, end).metric(MetricQuery("", (), "max(x)"), hour(end))
        assert only(alone).why is Why.NO_SOURCE


WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))


def error(status: int, kind: str, words: str) -> Reply:
    return Reply(status, json.dumps({"status": "error", "errorType": kind, "error": words}).encode())


@pytest.mark.parametrize(
    ("reply", "why", "said"),
    [
        (Reply(401, b"Unauthorized"), Why.UNAUTHENTICATED, "BEARER_TOKEN"),
        (Reply(403, b"no tenant"), Why.FORBIDDEN, "monitoring.tenant"),
        (Reply(302, headers={"Location": "http://169.254.169.254/"}), Why.UNREACHABLE, "not followed"),
        (Reply(404, b"<html>not here</html>"), Why.UNREACHABLE, "no Prometheus API"),
        (Reply(200, b"<html>a login page</html>"), Why.UNREACHABLE, "a web page"),
        (Reply(200, b'{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": 1}]}}'), Why.MALFORMED, "Expected"),
        (Reply(200, b'{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "x"]]}]}}'), Why.MALFORMED, "x"),
        (Reply(200, b'{"status": "success", "data": 7}'), Why.MALFORMED, "Expected"),
        (Reply(429, b"slow down"), Why.TIMEOUT, "load of Prometheus"),
        (error(503, "timeout", "query timed out in expression evaluation"), Why.TIMEOUT, "query timed out"),
        (error(422, "execution", "query processing would load too many samples"), Why.MALFORMED, "too many samples"),
        (error(503, "unavailable", "not ready"), Why.UNREACHABLE, "not ready"),
        (Reply(502, b""), Why.UNREACHABLE, "HTTP 502"),
    ],
)
async def test_every_refusal_says_what_to_do(reply: Reply, why: Why, said: str) -> None:
    with answering(reply) as server:
        gap = only(await asked(server.url, MetricQuery("m"), WINDOW))
        async with Source(Endpoint(server.url)) as opened:
            swept = await opened.telemetry(EVERYWHERE, WINDOW.end)
    assert gap.why is why
    assert said in f"{gap.detail} {gap.next_step}"
    # The sweep stops where it cannot begin.
    assert [item.why for item in swept.missing] == [why]
    assert len(server.seen) == 2
    assert swept.value.series == ()


async def test_a_server_that_does_not_answer() -> None:
    with answering(Reply(silent=True)) as server:
        async with Source(Endpoint(server.url, timeout_seconds=0.3)) as opened:
            gap = only(await opened.metric(MetricQuery("m"), WINDOW))
    assert gap.why is Why.TIMEOUT


async def test_an_answer_without_end_is_cut() -> None:
    with answering(Reply(body=b" " * (endpoint.RESPONSE_BYTES + 1))) as server:
        gap = only(await asked(server.url, MetricQuery("m"), WINDOW))
    assert gap.why is Why.TRUNCATED
    assert "32 MiB" in gap.detail


async def test_labels_without_end_are_cut_and_words_of_the_server_are_made_safe() -> None:
    long = {
        "status": "success",
        "data": {"resultType": "matrix", "result": [{"metric": {"pod": "x" * 5_000}, "values": [[1767225600, "1"]]}]},
    }
    with answering(Reply(body=json.dumps(long).encode())) as server:
        [series] = (await asked(server.url, MetricQuery("m"), WINDOW)).value
    assert len(series.labels["pod"]) == LABEL_LIMIT
    with answering(error(400, "bad_data", "\x1b[2J password=hunter2hunter2 " + "y" * 5_000)) as server:
        gap = only(await asked(server.url, MetricQuery("m"), WINDOW))
    assert "\x1b" not in gap.detail
    assert "hunter2" not in gap.detail
    assert len(gap.detail) < 1_000


async def test_token_and_tenant_are_sent_and_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    token = "a-token-that-nobody-should-see"
    with answering(Reply(401, b"Unauthorized")) as server:
        secretive = Endpoint(server.url.replace("//", "//user:hidden-password@"), token, tenant="team-a")
        async with Source(secretive) as opened:
            gap = only(await opened.metric(MetricQuery("m"), WINDOW))
    assert server.seen[0].headers["x-scope-orgid"] == "team-a"
    shown = f"{gap} {secretive!r} {secretive.shown}"
    assert token not in shown
    assert "hidden-password" not in shown
    with answering(Reply()) as server:
        async with Source(Endpoint(server.url, token)) as opened:
            await opened.metric(MetricQuery("m"), WINDOW)
    assert server.seen[0].headers["authorization"] == f"Bearer {token}"


async def test_the_authority_of_its_certificate(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    with answering(Reply(), made) as server:
        trusting = Endpoint(server.url, ca_file=made.authority)
        async with Source(trusting) as opened:
            assert only(await opened.metric(MetricQuery("m"), WINDOW)).why is Why.NOT_FOUND
        async with Source(replace(trusting, url=server.url.replace("127.0.0.1", "localhost"))) as opened:
            assert only(await opened.metric(MetricQuery("m"), WINDOW)).why is Why.NOT_FOUND
        async with Source(replace(trusting, ca_file=None)) as opened:
            gap = only(await opened.metric(MetricQuery("m"), WINDOW))
    assert gap.why is Why.UNREACHABLE
    assert "monitoring.ca_file" in gap.next_step


def listing(*metrics: dict[str, str]) -> Reply:
    found = [{"metric": labels, "values": [[1767225600, "1"]]} for labels in metrics]
    return Reply(body=json.dumps({"status": "success", "data": {"resultType": "matrix", "result": found}}).encode())


WAITING, HEAT = "vllm:num_requests_waiting", "DCGM_FI_DEV_GPU_TEMP"


async def test_one_query_that_fails_takes_no_other_with_it() -> None:
    def answer(seen: Seen) -> Reply:
        query = seen.query["query"][0]
        if query.startswith("count by"):
            return listing({"__name__": WAITING}, {"__name__": HEAT})
        return error(503, "timeout", "query timed out") if HEAT in query else listing({"__name__": WAITING, "pod": "a"})

    with answering(answer) as server:
        async with Source(Endpoint(server.url)) as opened:
            read = await opened.telemetry(EVERYWHERE, WINDOW.end)
    assert [item.labels["__name__"] for item in read.value.series] == [WAITING]
    assert [item.why for item in read.missing] == [Why.TIMEOUT, Why.NOT_FOUND]
    assert "gpu-temperature" not in read.missing[1].what


async def test_what_is_late_is_named() -> None:
    def answer(seen: Seen) -> Reply:
        return listing({"__name__": HEAT}) if seen.query["query"][0].startswith("count by") else Reply(silent=True)

    with answering(answer) as server:
        async with Source(Endpoint(server.url, timeout_seconds=60), sweep_seconds=0.1) as opened:
            read = await opened.telemetry(EVERYWHERE, WINDOW.end)
    assert read.value.series == ()
    assert (read.missing[0].what, read.missing[0].why) == ("measurements of gpu-temperature", Why.TIMEOUT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: replace(one, url="file:///etc/passwd"), "is no address of a Prometheus"),
        (lambda one: replace(one, url="prometheus:9090"), "is no address of a Prometheus"),
        (lambda one: replace(one, url="http://"), "is no address of a Prometheus"),
        (lambda one: replace(one, url="http://host:port"), "cannot be read"),
        (lambda one: replace(one, ca_file=Path("/nowhere/ca.pem")), "cannot read the certificate authority"),
    ],
)
def test_a_configuration_that_cannot_be_used(change: Callable[[Endpoint], Endpoint], said: str) -> None:
    with pytest.raises(MonitoringError, match=said):
        Source(change(Endpoint("http://127.0.0.1:9090")))
