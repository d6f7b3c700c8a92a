"""Detectors that judge measurements, fed by a real Prometheus with the metrics as exporters name them: each fires, and does not nearly.

Every question has six hours of its own in the one server, so that none sees the series of another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from cluster.endpoint import Endpoint
from cluster.prometheus import Prometheus as Source
from cluster.reference import Scope
from runbooks.detectors import deviceerrors, modellatency, modelload, processors, telemetry, throttling, utilisation, volumes
from tests.lab.monitoring import Line, Prometheus
from tests.lab.shapes import Samples, counter, level, moments, skewed, steady, step, without
from tests.runbooks.worlds import world

pytestmark = pytest.mark.anyio

_QUARTERS = itertools.count(1)
MODULES = (utilisation, modelload, modellatency, throttling, volumes, processors, telemetry, deviceerrors)
DETECTORS = tuple(detector for module in MODULES for detector in module.DETECTORS)
POD = """
kind: Pod
metadata: {{name: {owner}-{index}, namespace: ml, ownerReferences: [{{kind: {kind}, name: {owner}, controller: true}}]}}
spec:
  nodeName: n{index}
  containers:
  - name: main
    image: x
    command: [{command}]
    resources: {{limits: {{nvidia.com/gpu: "1", cpu: "2"}}, requests: {{nvidia.com/gpu: "1"}}}}
status:
  phase: Running
  podIP: 10.1.0.{index}
  hostIP: 10.0.0.{index}
  conditions: [{{type: Ready, status: "True"}}]
  containerStatuses: [{{name: main, ready: true}}]
"""
EXPORTER = """
kind: Pod
metadata: {{name: {name}-{index}, namespace: monitoring, ownerReferences: [{{kind: DaemonSet, name: {name}, controller: true}}]}}
spec: {{nodeName: n{index}, hostNetwork: true, containers: [{{name: exporter, image: x}}]}}
status:
  phase: Running
  hostIP: 10.0.0.{index}
  conditions: [{{type: Ready, status: "True"}}]
  containerStatuses: [{{name: exporter, ready: true}}]
"""
Found = set[tuple[str, str]]


def workload(count: int, owner: str = "chat", kind: str = "StatefulSet", command: str = "serve") -> str:
    """So many pods with a GPU, each on a node of its own with both exporters."""
    parts = [f"\nkind: Node\nmetadata: {{name: n{index}}}\n" for index in range(count)]
    parts += [POD.format(owner=owner, kind=kind, index=index, command=command) for index in range(count)]
    parts += [EXPORTER.format(name=name, index=index) for name in ("node-exporter", "dcgm-exporter") for index in range(count)]
    return "---".join(parts)


Shape = Callable[[datetime], Samples]
Made = tuple[dict[str, str], Shape]


def gauge(name: str, shape: Callable[..., Samples], *arguments: float, **labels: str) -> Made:
    return {"__name__": name, **labels}, lambda end: shape(end, *arguments)


def count(name: str, shape: Callable[..., Samples], *arguments: float, **labels: str) -> Made:
    """A counter whose rate has that shape, of a process that started again half an hour before the end."""
    return {"__name__": name, **labels}, lambda end: counter(shape(end, *arguments), resets=[end - timedelta(minutes=30)])


def of(pod: int, owner: str = "chat") -> dict[str, str]:
    """The labels that a PodMonitor gives."""
    return {"namespace": "ml", "pod": f"{owner}-{pod}", "container": "main"}


def scraped(pod: int, owner: str = "chat") -> dict[str, str]:
    """The labels of dcgm-exporter behind a ServiceMonitor that does not honour them."""
    moved = {"exported_namespace": "ml", "exported_pod": f"{owner}-{pod}", "exported_container": "main"}
    return {"namespace": "monitoring", "pod": f"dcgm-exporter-{pod}", "container": "exporter", "Hostname": f"n{pod}", "gpu": "0", **moved}


def node(index: int) -> dict[str, str]:
    """The labels of node-exporter: its own pod's, and the node's address."""
    return {"namespace": "monitoring", "pod": f"node-exporter-{index}", "instance": f"10.0.0.{index}:9100", "job": "node-exporter"}


class Stage:
    """The server, and a time for each question that no other question looks at."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus

    async def found(self, text: str, *made: Made, namespaces: tuple[str, ...] = ()) -> Found:
        """What detectors find with these series, as (code, object)."""
        end = datetime(2026, 3, 1, 12, tzinfo=UTC) - timedelta(hours=6 * next(_QUARTERS))
        self._prometheus.write(Line(labels, shape(end)) for labels, shape in made)
        async with Source(Endpoint(self._prometheus.url)) as source:
            seen = await source.telemetry(Scope("test", namespaces), end)
        built = world(text, now=end).with_telemetry(seen)
        return {(finding.code, str(finding.subject)) for detector in DETECTORS for finding in detector(built)}


@pytest.fixture
def stage(prometheus: Prometheus) -> Stage:
    return Stage(prometheus)


@pytest.mark.parametrize(
    ("waiting", "labels"),
    [
        ("vllm:num_requests_waiting", {"model_name": "m", "engine": "0"}),
        ("sglang:num_queue_reqs", {"model_name": "m"}),
        ("tgi_queue_size", {}),
        ("nv_inference_pending_request_count", {"model": "m", "version": "1"}),
    ],
)
async def test_queues_at_every_replica(stage: Stage, waiting: str, labels: dict[str, str]) -> None:
    text = workload(2)
    full = [gauge(waiting, level, 40, **of(pod), **labels) for pod in range(2)]
    assert await stage.found(text, *full) == {("serving.saturated", "StatefulSet/ml/chat")}
    # Only lately, and only at one of them.
    short = [gauge(waiting, step, 0, 60, 3, **of(0), **labels), gauge(waiting, level, 2, **of(1), **labels)]
    assert await stage.found(text, *short) == set()


async def test_a_gap_in_what_was_scraped_and_a_clock_that_is_late_change_nothing(stage: Stage) -> None:
    def gappy(end: datetime, value: float) -> Samples:
        return skewed(without(level(end, value), ago=50, minutes=25), seconds=-60)

    lines = [gauge("vllm:num_requests_waiting", gappy, 40, **of(pod)) for pod in range(2)]
    assert await stage.found(workload(2), *lines) == {("serving.saturated", "StatefulSet/ml/chat")}


async def test_requests_that_pile_up_at_one_replica(stage: Stage) -> None:
    text = workload(3)
    waiting = [gauge("vllm:num_requests_waiting", level, value, **of(pod)) for pod, value in enumerate((80, 0, 0))]
    uneven = [gauge("vllm:num_requests_running", level, value, **of(pod)) for pod, value in enumerate((200, 1, 0))]
    even = [gauge("vllm:num_requests_running", level, value, **of(pod)) for pod, value in enumerate((200, 150, 160))]
    assert await stage.found(text, *waiting, *uneven) == {("serving.routing-imbalance", "StatefulSet/ml/chat")}
    assert await stage.found(text, *waiting, *even) == set()


@pytest.mark.parametrize(
    ("cache", "thrown"),
    [
        ("vllm:kv_cache_usage_perc", "vllm:num_preemptions_total"),
        ("vllm:gpu_cache_usage_perc", "vllm:num_preemptions_total"),
        ("sglang:token_usage", "sglang:num_retracted_requests_total"),
    ],
)
async def test_a_cache_that_overflows(stage: Stage, cache: str, thrown: str) -> None:
    text = workload(2)
    rest = [gauge(cache, level, 0.4, **of(1)), count(thrown, steady, 0, **of(1))]
    overflows = {("serving.cache-overflow", "StatefulSet/ml/chat")}
    assert await stage.found(text, gauge(cache, steady, 0.99, **of(0)), count(thrown, level, 1.5, **of(0)), *rest) == overflows
    # A full cache without preemptions keeps prefixes, and preemptions that are over were an earlier burst.
    assert await stage.found(text, gauge(cache, steady, 0.99, **of(0)), count(thrown, steady, 0, **of(0)), *rest) == set()
    assert await stage.found(text, gauge(cache, steady, 0.99, **of(0)), count(thrown, step, 1.5, 0, 40, **of(0)), *rest) == set()


@pytest.mark.parametrize(
    "name", ["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds", "tgi_request_mean_time_per_token_duration"]
)
async def test_a_replica_slower_than_its_peers(stage: Stage, name: str) -> None:
    def tokens(*seconds: float) -> list[Made]:
        sums = [count(f"{name}_sum", level, 100 * value, **of(pod)) for pod, value in enumerate(seconds)]
        return [*sums, *(count(f"{name}_count", level, 100, **of(pod)) for pod in range(len(seconds)))]

    assert await stage.found(workload(3), *tokens(0.02, 0.02, 0.2)) == {("serving.slow-replica", "StatefulSet/ml/chat")}
    assert await stage.found(workload(3), *tokens(0.02, 0.02, 0.04)) == set()


@pytest.mark.parametrize("labelled", [of, scraped])
async def test_gpus_that_are_held_and_idle(stage: Stage, labelled: Callable[[int], dict[str, str]]) -> None:
    idle = {("gpu.idle-held", "StatefulSet/ml/chat")}
    text = workload(1)
    for name, busy in (("DCGM_FI_DEV_GPU_UTIL", 60.0), ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.6)):
        assert await stage.found(text, gauge(name, steady, 0, **labelled(0))) == idle
        assert await stage.found(text, gauge(name, level, busy, **labelled(0))) == set()
        # Busy once in the last two hours is enough, also between two points of the query.
        assert await stage.found(text, gauge(name, _burst, busy, **labelled(0))) == set()


def _burst(end: datetime, busy: float) -> Samples:
    return [(at, busy if 45 * 60 < (end - at).total_seconds() < 46 * 60 else 0.0) for at in moments(end, 120)]


async def test_heat(stage: Stage) -> None:
    hot = {("gpu.thermal-throttle", "Node/n0")}
    clocks = [gauge("DCGM_FI_DEV_SM_CLOCK", level, 1980 if pod else 700, **scraped(pod)) for pod in range(3)]
    assert await stage.found(workload(3), gauge("DCGM_FI_DEV_GPU_TEMP", level, 91, **scraped(0)), *clocks) == hot
    assert await stage.found(workload(3), gauge("DCGM_FI_DEV_GPU_TEMP", level, 70, **scraped(0)), *clocks) == set()
    events = "DCGM_EXP_CLOCK_EVENTS_COUNT"
    assert await stage.found(workload(1), gauge(events, level, 12, clock_event="hw_thermal", **scraped(0))) == hot
    # A power cap is normal under load, and idle clocks are normal without.
    normal = [gauge(events, level, 40, clock_event=event, **scraped(0)) for event in ("power_cap", "gpu_idle")]
    assert await stage.found(workload(1), *normal, gauge(events, steady, 0, clock_event="hw_thermal", **scraped(0))) == set()
    assert await stage.found(workload(1), count("DCGM_FI_DEV_THERMAL_VIOLATION", level, 1e5, **scraped(0))) == hot
    assert await stage.found(workload(1), count("DCGM_FI_DEV_THERMAL_VIOLATION", step, 1e5, 0, 40, **scraped(0))) == set()


async def test_one_slow_gpu_holds_up_a_training(stage: Stage) -> None:
    text = workload(3, owner="fit", kind="Job", command="torchrun")
    slow = [gauge("DCGM_FI_DEV_SM_CLOCK", level, 1980 if pod else 600, **scraped(pod, "fit")) for pod in range(3)]
    even = [gauge("DCGM_FI_DEV_SM_CLOCK", level, 1980 if pod else 1800, **scraped(pod, "fit")) for pod in range(3)]
    assert await stage.found(text, *slow) == {("training.straggler", "Job/ml/fit")}
    assert await stage.found(text, *even) == set()


@pytest.mark.parametrize(("xid", "code"), [(79, "gpu.hardware-fault"), (48, "gpu.memory-fault"), (74, "gpu.nvlink-fault")])
async def test_xid_errors(stage: Stage, xid: float, code: str) -> None:
    assert await stage.found(workload(2), gauge("DCGM_FI_DEV_XID_ERRORS", _since, xid, 20, **scraped(1))) == {(code, "Node/n1")}


def _since(end: datetime, value: float, ago: float) -> Samples:
    return [(at, value if (end - at).total_seconds() <= ago * 60 else 0.0) for at in moments(end, 120)]


@pytest.mark.parametrize("xid", [0, 13, 31, 43])
async def test_no_error_and_those_of_applications(stage: Stage, xid: float) -> None:
    assert await stage.found(workload(2), gauge("DCGM_FI_DEV_XID_ERRORS", _since, xid, 20, **scraped(1))) == set()


async def test_memory_errors_of_gpus(stage: Stage) -> None:
    for name in ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "DCGM_FI_DEV_ROW_REMAP_FAILURE"):
        assert await stage.found(workload(2), gauge(name, _since, 1, 20, **scraped(1))) == {("gpu.memory-fault", "Node/n1")}
        assert await stage.found(workload(2), gauge(name, steady, 0, **scraped(1))) == set()


async def test_throttled_containers(stage: Stage) -> None:
    def cpu(share: float) -> list[Made]:
        throttled = count("container_cpu_cfs_throttled_periods_total", level, 10 * share, **of(0), instance="10.0.0.0:10250")
        return [throttled, count("container_cpu_cfs_periods_total", level, 10, **of(0), instance="10.0.0.0:10250")]

    assert await stage.found(workload(2), *cpu(0.6)) == {("cpu.throttled", "StatefulSet/ml/chat")}
    assert await stage.found(workload(2), *cpu(0.4)) == {("cpu.throttled-steadily", "StatefulSet/ml/chat")}
    assert await stage.found(workload(2).replace("ready: true", "ready: true, restartCount: 3"), *cpu(0.4)) == {
        ("cpu.throttled", "StatefulSet/ml/chat")
    }
    assert await stage.found(workload(2), *cpu(0.2)) == set()


async def test_pods_at_their_limit(stage: Stage) -> None:
    used = "container_cpu_usage_seconds_total"
    assert await stage.found(workload(1), count(used, step, 0.4, 1.95, 20, **of(0))) == {("cpu.throttled", "StatefulSet/ml/chat")}
    assert await stage.found(workload(1), count(used, step, 0.4, 1.2, 20, **of(0))) == set()


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("http_server_request_duration_seconds", 1),
        ("http_request_duration_seconds", 1),
        ("http_server_duration_milliseconds", 1000),
    ],
)
async def test_what_became_slow(stage: Stage, name: str, unit: float) -> None:
    def requests(**slow: float) -> list[Made]:
        bounds = {"0.1": 0.1, "0.5": 0.5, "2.5": 2.5}
        made = [
            count(f"{name}_bucket", step, 10, 10 * slow.get(f"le{label[0]}", 1), 20, le=str(bounds[label] * unit), **of(0))
            for label in bounds
        ]
        return [*made, count(f"{name}_bucket", level, 10, le="+Inf", **of(0))]

    assert await stage.found(workload(1), *requests(le0=0)) == {("network.latency", "StatefulSet/ml/chat")}
    assert await stage.found(workload(1), *requests()) == set()


async def test_a_workload_that_the_mesh_sees_become_slow(stage: Stage) -> None:
    def requests(slow: float) -> list[Made]:
        labels = {"reporter": "destination", "namespace": "ml", "pod": "chat-0", "destination_workload": "chat"}
        name = "istio_request_duration_milliseconds_bucket"
        fast = count(name, step, 10, 10 - slow, 20, le="100", **labels)
        return [fast, *(count(name, level, 10, le=bound, **labels) for bound in ("2500", "+Inf"))]

    text = f"{workload(1)}---\nkind: StatefulSet\nmetadata: {{name: chat, namespace: ml}}\n"
    assert await stage.found(text, *requests(9)) == {("network.latency", "StatefulSet/ml/chat")}
    assert await stage.found(text, *requests(0)) == set()


async def test_nodes_that_lose_packets(stage: Stage) -> None:
    def segments(after: float) -> list[Made]:
        again = count("node_netstat_Tcp_RetransSegs", step, 1, after, 20, **node(1))
        return [again, count("node_netstat_Tcp_OutSegs", level, 1000, **node(1))]

    assert await stage.found(workload(2), *segments(60)) == {("network.packet-loss", "Node/n1")}
    assert await stage.found(workload(2), *segments(4)) == set()


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("node_network_receive_drop_total", "node_network_receive_packets_total"),
        ("container_network_receive_packets_dropped_total", "container_network_receive_packets_total"),
    ],
)
async def test_interfaces_that_drop_packets(stage: Stage, part: str, whole: str) -> None:
    node_wide = part.startswith("node")
    labels = node(1) | {"device": "eth0"} if node_wide else {"namespace": "ml", "pod": "chat-1", "interface": "eth0"}

    def packets(after: float) -> list[Made]:
        return [count(part, step, 1, after, 20, **labels), count(whole, level, 1000, **labels)]

    subject = "Node/n1" if node_wide else "StatefulSet/ml/chat"
    assert await stage.found(workload(2), *packets(80)) == {("network.packet-loss", subject)}
    assert await stage.found(workload(2), *packets(5)) == set()
    if node_wide:
        labels["device"] = "veth1234"
        assert await stage.found(workload(2), *packets(80)) == set()


async def test_a_connection_table_that_is_full(stage: Stage) -> None:
    def table(used: float) -> list[Made]:
        return [
            gauge("node_nf_conntrack_entries", level, used, **node(0)),
            gauge("node_nf_conntrack_entries_limit", steady, 262_144, **node(0)),
        ]

    assert {code for code, _ in await stage.found(workload(1), *table(255_000))} == {"resource.exhausted"}
    assert await stage.found(workload(1), *table(100_000)) == set()


async def test_alerts_of_the_server_itself(stage: Stage) -> None:
    def alert(state: str) -> Made:
        return gauge("ALERTS", steady, 1, alertname="NodeGPUThermalSlowdown", alertstate=state, node="n0", severity="warning")

    since = ({"__name__": "ALERTS_FOR_STATE", "alertname": "NodeGPUThermalSlowdown", "node": "n0", "severity": "warning"}, _began)
    assert await stage.found(workload(1), alert("firing"), since) == {("gpu.thermal-throttle", "Node/n0")}
    assert await stage.found(workload(1), alert("pending"), since) == set()


def _began(end: datetime) -> Samples:
    return [(at, (end - timedelta(minutes=40)).timestamp()) for at in moments(end, 30)]


async def test_only_the_namespaces_that_were_asked_about(stage: Stage) -> None:
    text = workload(2)
    full = [gauge("vllm:num_requests_waiting", level, 40, **of(pod)) for pod in range(2)]
    assert await stage.found(text, *full, namespaces=("ml", "web")) == {("serving.saturated", "StatefulSet/ml/chat")}
    assert await stage.found(text, *full, namespaces=("web",)) == set()
    idle = gauge("DCGM_FI_DEV_GPU_UTIL", steady, 0, **scraped(0))
    assert await stage.found(text, idle, namespaces=("ml",)) == {("gpu.idle-held", "StatefulSet/ml/chat")}
    # The scraper's own namespace is not the one that the series are about.
    assert await stage.found(text, idle, namespaces=("monitoring",)) == set()
