"""Hours that failed runs lost, and replicas of which fewer would do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cluster.reading import Reading, Sample, Series
from cluster.reference import ObjectRef
from cluster.telemetry import Telemetry
from cluster.world import World
from runbooks.cost import Tariff, cost_report, summary
from runbooks.losses import Lost, Surplus
from tests.runbooks.worlds import NOW, world

USD = Tariff("USD", {"*H100*": 2.0})
NODE = """
kind: Node
metadata: {name: n1, labels: {nvidia.com/gpu.product: NVIDIA-H100-80GB}}
status: {capacity: {nvidia.com/gpu: "8"}, allocatable: {nvidia.com/gpu: "8"}, conditions: [{type: Ready, status: "True"}]}
"""


def run(code: int, began: float, ended: float) -> str:
    """A trainer of four devices whose last run took from `began` to `ended` hours ago."""
    start, finish = ((NOW - timedelta(hours=ago)).isoformat() for ago in (began, ended))
    last = f'{{exitCode: {code}, startedAt: "{start}", finishedAt: "{finish}"}}'
    return f"""
kind: Pod
metadata: {{name: train-0, namespace: ml, ownerReferences: [{{kind: Job, name: train, controller: true}}]}}
spec: {{nodeName: n1, containers: [{{name: c, resources: {{limits: {{nvidia.com/gpu: "4"}}}}}}]}}
status:
  phase: Running
  containerStatuses:
    - {{name: c, ready: true, restartCount: 1, lastState: {{terminated: {last}}}}}
---
kind: Job
metadata: {{name: train, namespace: ml}}
"""


@pytest.mark.parametrize(
    ("code", "began", "ended", "hours"),
    [(1, 5, 2, 12.0), (137, 60, 20, 16.0), (1, 60, 30, None), (0, 5, 2, None)],
    ids=["failed", "of a long run only the last day", "failed long ago", "ended well"],
)
def test_a_run_that_failed_within_a_day_lost_its_device_hours(code: int, began: float, ended: float, hours: float | None) -> None:
    found = cost_report(world(NODE + "---" + run(code, began, ended)), USD)
    wanted = () if hours is None else (Lost(ObjectRef("Job", "ml", "train"), 1, hours, hours * 2.0),)
    assert found.lost == wanted
    if hours is not None:
        assert f"  {hours:g} device hours, {hours * 2:.2f} USD: Job/ml/train (1 run)" in summary(found, "USD")


def test_neither_a_server_nor_a_container_without_devices_loses_hours_of_devices() -> None:
    trainer = run(1, 5, 2)
    server = trainer.replace("kind: Job, name: train", "kind: StatefulSet, name: train").replace("kind: Job", "kind: StatefulSet")
    sidecar = trainer.replace("- {name: c, ready", "- {name: logger, ready")
    assert server != trainer != sidecar
    for text in (server, sidecar):
        assert cost_report(world(NODE + "---" + text), USD).lost == ()


def served(*busy: float | None) -> World:
    """A model server with a replica for each of the numbers, two devices each and that busy at most; None: not measured."""
    parts = [NODE, "kind: Deployment\nmetadata: {name: chat, namespace: ml}"]
    parts.append(
        "kind: ReplicaSet\nmetadata: {name: chat-1, namespace: ml, ownerReferences: [{kind: Deployment, name: chat, controller: true}]}"
    )
    series = []
    for number, value in enumerate(busy):
        parts.append(f"""
kind: Pod
metadata: {{name: chat-1-{number}, namespace: ml, ownerReferences: [{{kind: ReplicaSet, name: chat-1, controller: true}}]}}
spec: {{nodeName: n1, containers: [{{name: c, resources: {{limits: {{nvidia.com/gpu: "2"}}}}}}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
""")
        for gpu in range(0 if value is None else 2):
            labels = {"__name__": "DCGM_FI_DEV_GPU_UTIL", "namespace": "ml", "pod": f"chat-1-{number}", "gpu": f"{2 * number + gpu}"}
            at = [NOW - timedelta(minutes=minutes) for minutes in (60, 30, 0)]
            series.append(Series(labels, tuple(Sample(when, level) for when, level in zip(at, (0.0, value or 0.0, 5.0), strict=True))))
    return world("\n---\n".join(parts)).with_telemetry(Reading(Telemetry(series=tuple(series))))


def test_replicas_are_too_many_by_their_busiest_moments() -> None:
    found = cost_report(served(30.0, 20.0, 15.0), USD)
    assert found.surplus == (Surplus(ObjectRef("Deployment", "ml", "chat"), 3, 1, 4.0, 8.0),)
    assert "  4 devices, 8.00 USD: Deployment/ml/chat has 3 replicas, 1 would do" in summary(found, "USD")


@pytest.mark.parametrize("busy", [(60.0, 50.0), (5.0,), (5.0, None)], ids=["both needed", "one alone", "one not measured"])
def test_no_replica_is_called_too_many_that_may_be_needed(busy: tuple[float | None, ...]) -> None:
    assert cost_report(served(*busy), USD).surplus == ()
