from __future__ import annotations

from datetime import timedelta

from cluster.reading import Reading, Sample, Series
from cluster.telemetry import Alert, Telemetry
from runbooks.detectors import modelload, throttling, utilisation
from runbooks.finding import Finding
from tests.runbooks.worlds import NOW, world

DETECTORS = (*modelload.DETECTORS, *throttling.DETECTORS, *utilisation.DETECTORS)
START = NOW - timedelta(hours=3)
GPU_POD = """
kind: Pod
metadata: {{name: {name}, namespace: ml, ownerReferences: [{{kind: {kind}, name: {owner}, controller: true}}]}}
spec:
  nodeName: {node}
  containers:
  - {{name: main, image: server, command: [{command}], resources: {{limits: {{nvidia.com/gpu: "1"}}, requests: {{nvidia.com/gpu: "1"}}}}}}
status: {{phase: Running, conditions: [{{type: Ready, status: "True"}}], containerStatuses: [{{name: main, ready: true}}]}}
"""


def replicas(count: int, kind: str = "StatefulSet", owner: str = "chat", command: str = "serve") -> str:
    nodes = "---".join(f"\nkind: Node\nmetadata: {{name: n{index}}}\n" for index in range(count))
    pods = "---".join(GPU_POD.format(name=f"{owner}-{i}", kind=kind, owner=owner, node=f"n{i}", command=command) for i in range(count))
    return f"{nodes}---{pods}"


def series(name: str, value: float, minutes: int = 180, **labels: str) -> Series:
    samples = tuple(Sample(START + timedelta(minutes=at), value) for at in range(0, minutes, 10))
    return Series({"__name__": name, **labels}, samples)


def per_pod(name: str, values: list[float], owner: str = "chat") -> tuple[Series, ...]:
    return tuple(series(name, value, pod=f"{owner}-{index}") for index, value in enumerate(values))


def found(text: str, *parts: Series, alerts: tuple[Alert, ...] = ()) -> set[tuple[str, str]]:
    made = world(text).with_telemetry(Reading(Telemetry(alerts=alerts, series=parts)))
    findings: list[Finding] = [finding for detector in DETECTORS for finding in detector(made)]
    return {(finding.code, str(finding.subject)) for finding in findings}


def test_queues_at_every_replica_are_saturation() -> None:
    text = replicas(2)
    assert found(text, *per_pod("vllm:num_requests_waiting", [40, 60])) == {("serving.saturated", "StatefulSet/ml/chat")}
    assert found(text, *per_pod("vllm:num_requests_waiting", [2, 60])) == set()
    assert found(text, *per_pod("vllm:num_requests_running", [200, 200])) == set()


def test_a_queue_at_one_replica_while_the_others_rest_is_imbalance() -> None:
    text = replicas(3)
    waiting, running = per_pod("vllm:num_requests_waiting", [80, 0, 0]), per_pod("vllm:num_requests_running", [200, 1, 0])
    assert found(text, *waiting, *running) == {("serving.routing-imbalance", "StatefulSet/ml/chat")}
    assert found(text, *waiting, *per_pod("vllm:num_requests_running", [200, 150, 160])) == set()


def test_a_replica_that_is_slower_than_its_peers() -> None:
    text = replicas(3)
    slow = per_pod("vllm:inter_token_latency_seconds", [0.02, 0.02, 0.2])
    assert found(text, *slow, *per_pod("vllm:num_requests_waiting", [0, 0, 30])) == {("serving.slow-replica", "StatefulSet/ml/chat")}
    assert found(text, *per_pod("vllm:inter_token_latency_seconds", [0.02, 0.02, 0.03])) == set()
    assert found(replicas(1), *per_pod("vllm:inter_token_latency_seconds", [0.2])) == set()


def test_a_full_cache_that_throws_out_what_it_began() -> None:
    full = per_pod("vllm:kv_cache_usage_perc", [0.99, 0.5])
    counted = tuple(
        Series(
            {"__name__": "vllm:num_preemptions_total", "pod": "chat-0"},
            tuple(Sample(at.at, index * rise) for index, at in enumerate(full[0].samples)),
        )
        for rise in (600.0, 0.0)
    )
    waiting = per_pod("vllm:num_requests_waiting", [40, 60])
    assert found(replicas(2), *full, counted[0], *waiting) == {("serving.cache-overflow", "StatefulSet/ml/chat")}
    assert found(replicas(2), *full, counted[1], *waiting) == {("serving.saturated", "StatefulSet/ml/chat")}
    assert found(replicas(2), *full) == set()


def test_totals_of_a_histogram_are_no_speeds() -> None:
    assert found(replicas(3), *per_pod("vllm:inter_token_latency_seconds_sum", [10, 10, 900])) == set()


def test_heat_that_slows_a_device() -> None:
    text = replicas(2)
    hot = series("DCGM_FI_DEV_GPU_TEMP", 91, node="n0", gpu="1"), series("DCGM_FI_DEV_SM_CLOCK", 700, node="n0", gpu="1")
    cool = tuple(series("DCGM_FI_DEV_SM_CLOCK", 1980, node="n1", gpu=str(index)) for index in range(3))
    assert ("gpu.thermal-throttle", "Node/n0") in found(text, *hot, *cool)
    warm = series("DCGM_FI_DEV_GPU_TEMP", 86, node="n0", gpu="1"), series("DCGM_FI_DEV_SM_CLOCK", 1980, node="n0", gpu="1")
    assert found(text, *warm, *cool) == set()
    alert = Alert("GPUThermalSlowdown", "n1", "firing")
    assert found(text, alerts=(alert,)) == {("gpu.thermal-throttle", "Node/n1")}
    assert found(text, alerts=(Alert("GPUThermalSlowdown", "n1", "resolved"),)) == set()


def test_one_slow_device_holds_up_a_training_and_no_server() -> None:
    clocks = [1980.0, 1980.0, 600.0]
    training = replicas(3, kind="Job", owner="fit", command="torchrun")
    assert found(training, *per_pod("DCGM_FI_DEV_SM_CLOCK", clocks, "fit")) == {("training.straggler", "Job/ml/fit")}
    assert found(training, *per_pod("DCGM_FI_DEV_SM_CLOCK", [1980, 1980, 1900], "fit")) == set()
    assert found(replicas(3), *per_pod("DCGM_FI_DEV_SM_CLOCK", clocks)) == set()


def test_devices_that_are_held_and_not_used() -> None:
    text = replicas(1)
    assert found(text, series("DCGM_FI_DEV_GPU_UTIL", 0, pod="chat-0")) == {("gpu.idle-held", "StatefulSet/ml/chat")}
    assert found(text, series("DCGM_FI_DEV_GPU_UTIL", 40, pod="chat-0")) == set()
    assert found(text, series("DCGM_FI_DEV_GPU_UTIL", 0, minutes=30, pod="chat-0")) == set()
    # A share, not a percentage.
    assert found(text, series("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.8, pod="chat-0")) == set()
    assert found(text, series("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01, pod="chat-0")) == {("gpu.idle-held", "StatefulSet/ml/chat")}
    tpu = text.replace("nvidia.com/gpu", "google.com/tpu")
    assert found(tpu, series("duty_cycle", 0, pod="chat-0", make="cloud-tpu")) == {("gpu.idle-held", "StatefulSet/ml/chat")}
    assert found(tpu, series("duty_cycle", 75, pod="chat-0", make="cloud-tpu")) == set()
    assert found(tpu, series("pwm_duty_cycle", 0, pod="chat-0")) == set()
    assert found(text) == set()
