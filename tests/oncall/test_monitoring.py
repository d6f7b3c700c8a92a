"""A diagnosis with a real Prometheus behind it, as a person asks for it: by flag, by environment, with a recording's clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.credentials import Impersonation
from cluster.reading import MetricQuery, Why
from cluster.reference import Scope, Window
from oncall.assembly import open_reader
from oncall.cli import run
from oncall.settings import MASK, load, origins
from tests.agent.recordings import NOW, recording
from tests.cluster.fake_api import document, running
from tests.cluster.fake_monitoring import Reply, answering
from tests.lab.monitoring import Line, Prometheus
from tests.lab.shapes import counter, level, ramp
from tests.oncall.test_cli import kubeconfig

# Each test has a namespace of its own, because all write into one server.
SERVER = """
kind: StatefulSet
apiVersion: apps/v1
metadata: {{name: chat, namespace: {namespace}, uid: s1}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: chat}}}}
  template: {{metadata: {{labels: {{app: chat}}}}, spec: {{containers: [{{name: main, image: server}}]}}}}
status: {{replicas: 1, readyReplicas: 1, currentReplicas: 1, updatedReplicas: 1}}
---
kind: Pod
apiVersion: v1
metadata:
  name: chat-0
  namespace: {namespace}
  uid: p1
  labels: {{app: chat}}
  ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: chat, uid: s1, controller: true}}]
spec: {{nodeName: n0, containers: [{{name: main, image: server}}]}}
status:
  phase: Running
  conditions: [{{type: Ready, status: "True"}}]
  containerStatuses: [{{name: main, image: server, imageID: x, ready: true, restartCount: 0, state: {{running: {{}}}}}}]
"""


def overflow(namespace: str, end: datetime, thrown: float = 2.0, name: str = "vllm:kv_cache_usage_perc") -> list[Line]:
    """A KV cache that fills up, and requests that are thrown out of it at that many a second."""
    labels = {"namespace": namespace, "pod": "chat-0", "model_name": "m", "engine": "0"}
    return [
        Line({"__name__": name, **labels}, ramp(end, 0.3, 0.99)),
        Line({"__name__": "vllm:num_preemptions_total", **labels}, counter(level(end, thrown))),
    ]


def diagnosed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["diagnose", *arguments, "-o", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def causes(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(cause["class"], cause["object"]["name"]) for cause in document["causes"]]


def test_a_cache_that_overflows_is_found_by_flag_and_by_environment(
    prometheus: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(recording(tmp_path / "r", SERVER.format(namespace="flagged")))
    prometheus.write(overflow("flagged", NOW))
    clock = ("--recording", folder, "--now", NOW.isoformat())
    without = diagnosed(capsys, *clock)
    assert causes(without) == []
    found = diagnosed(capsys, *clock, "--prometheus", prometheus.url)
    assert causes(found) == [("inference/saturated", "chat")]
    [cause] = found["causes"]
    quoted = " ".join(item["quote"] + item["path"] for item in cause["evidence"])
    assert "vllm:kv_cache_usage_perc" in quoted
    assert "vllm:num_preemptions_rate" in quoted
    monkeypatch.setenv("SMOKEJUMPER_PROMETHEUS", prometheus.url)
    assert causes(diagnosed(capsys, *clock)) == causes(found)


@pytest.mark.anyio
async def test_a_live_cluster_is_asked_up_to_now(prometheus: Prometheus, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    prometheus.write(overflow("alive", now))
    async with running() as api:
        api.reply("/version", document({"gitVersion": "v1.37.2"}))
        settings = load({"kubeconfig": kubeconfig(tmp_path, api.url), "prometheus": prometheus.url}, None)
        async with open_reader(settings, None) as reader:
            read = await reader.telemetry(Scope(reader.cluster, ("alive",)))
            metric = await reader.metric(MetricQuery("inference-kv-cache", namespaces=("alive",)), Window(now - timedelta(hours=1), now))
    assert {item.labels["__name__"] for item in read.value.series} == {"vllm:kv_cache_usage_perc", "vllm:num_preemptions_rate"}
    assert [item.labels["pod"] for item in metric.value] == ["chat-0"]


@pytest.mark.anyio
async def test_nobody_is_shown_metrics_that_their_own_permissions_might_not(tmp_path: Path) -> None:
    with answering(Reply()) as server:
        async with running() as api:
            api.reply("/version", document({"gitVersion": "v1.37.2"}))
            flags = {"kubeconfig": kubeconfig(tmp_path, api.url), "prometheus": server.url, "alertmanager": server.url}
            async with open_reader(load(flags, None), None, None, Impersonation("alice")) as reader:
                read = await reader.telemetry(Scope(reader.cluster))
                metric = await reader.metric(MetricQuery("up"), Window(NOW, NOW))
    assert server.seen == []
    assert [gap.why for gap in (*read.missing, *metric.missing)] == [Why.NO_SOURCE, Why.NO_SOURCE]


@pytest.mark.anyio
async def test_token_and_tenant_come_from_the_environment_and_alertmanager_hears_of_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recording(tmp_path / "r", SERVER.format(namespace="quiet"))
    monkeypatch.setenv("SMOKEJUMPER_MONITORING__BEARER_TOKEN", "a-token-from-outside")
    monkeypatch.setenv("SMOKEJUMPER_MONITORING__TENANT", "team-a")
    with answering(Reply()) as server, answering(Reply()) as alertmanager:
        settings = load({"prometheus": server.url, "alertmanager": alertmanager.url}, None)
        async with open_reader(settings, folder, NOW) as reader:
            await reader.telemetry(Scope(reader.cluster))
    assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer a-token-from-outside"}
    assert {seen.headers["x-scope-orgid"] for seen in server.seen} == {"team-a"}
    assert alertmanager.seen == []
    shown = [origin for origin in origins(settings, {}, None) if origin.path == "monitoring.bearer_token"]
    assert [origin.value for origin in shown] == [MASK]


def test_an_address_that_is_none_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(recording(tmp_path / "r", SERVER.format(namespace="quiet")))
    assert run(["diagnose", "--recording", folder, "--prometheus", "prometheus:9090"]) == 2
    said = capsys.readouterr().err
    assert "is no address of a Prometheus" in said
    assert "Traceback" not in said


def test_a_prometheus_that_does_not_answer_is_said_and_the_rest_is_diagnosed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(recording(tmp_path / "r", SERVER.format(namespace="quiet")))
    assert run(["diagnose", "--recording", folder, "--prometheus", "http://127.0.0.1:1"]) == 0
    assert "metrics and alerts (unreachable: http://127.0.0.1:1" in " ".join(capsys.readouterr().out.split())


def test_doctor_says_whether_it_answers(
    prometheus: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = kubeconfig(tmp_path, "https://127.0.0.1:1")
    command = ["--state", str(tmp_path / "state"), "--kubeconfig", lost, "doctor"]
    run(command)
    assert "monitoring: none configured" in capsys.readouterr().out
    monkeypatch.setenv("SMOKEJUMPER_PROMETHEUS", prometheus.url)
    with answering(Reply(401, b"Unauthorized")) as refusing:
        monkeypatch.setenv("SMOKEJUMPER_ALERTMANAGER", refusing.url)
        run(command)
    said = capsys.readouterr().out
    assert f"ok       prometheus: {prometheus.url}" in said
    assert "missing  alertmanager: unauthenticated" in said
    monkeypatch.setenv("SMOKEJUMPER_PROMETHEUS", "not an address")
    assert run(command) == 2
    assert "broken   monitoring:" in capsys.readouterr().out
