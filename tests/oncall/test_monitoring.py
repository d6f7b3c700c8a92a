"""A diagnosis with a real Prometheus behind it, as a person asks for it: by flag, by environment, with a recording's clock."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from oncall.cli import run
from tests.agent.recordings import NOW, recording
from tests.lab.monitoring import Line, Prometheus
from tests.lab.shapes import counter, level, ramp

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
