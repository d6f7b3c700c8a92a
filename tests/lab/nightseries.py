"""What was measured in a fleet's night (`night`): the series of 46 metrics of its GPUs, nodes, pods and model servers.

A lost GPU answers nothing any more but its last XID. GPUs of the gang stop working when their workers give up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.lab.monitoring import Line
from tests.lab.night import DEAD_GPU, END, FAULT, GANG_GPUS, PER_NODE, RESEARCH, Night, devices_of, name_of, objects
from tests.lab.shapes import Samples, counter, level, moments, steady, step

MINUTES = 125
EVERY = timedelta(minutes=1)


def lines(night: Night) -> Iterator[Line]:
    """Every series, scraped once a minute for two hours."""
    holders = {place: pod for pod in objects(night) if pod["kind"] == "Pod" for place in devices_of(pod)}
    for index in range(night.nodes):
        for gpu in range(PER_NODE):
            yield from _device(night, index, gpu, holders.get((name_of(index), gpu)))
    for name in (*(name_of(index) for index in range(night.nodes)), *(f"cpu-{index:02}" for index in range(night.nodes // 4))):
        yield from _node_lines(name)
    for pod in objects(night):
        if pod["kind"] == "Pod":
            yield from _pod_lines(pod)
            if "server" in pod["metadata"]["labels"].get("role", ""):
                yield from _server_lines(pod, slow=pod["metadata"]["name"] == night.slow_pod)


def _device(night: Night, index: int, gpu: int, holder: Mapping[str, Any] | None) -> Iterator[Line]:
    node = name_of(index)
    labels = {
        "Hostname": node,
        "gpu": str(gpu),
        "UUID": f"GPU-{index:02}{gpu}",
        "device": f"nvidia{gpu}",
        "modelName": "NVIDIA H100 80GB HBM3",
    }
    if holder is not None:
        labels |= {"namespace": holder["metadata"]["namespace"], "pod": holder["metadata"]["name"]}
        labels["container"] = holder["spec"]["containers"][0]["name"]
    gang, sick = holder is not None and labels["namespace"] == RESEARCH, index == night.sick
    dead, linked = sick and gpu == DEAD_GPU, sick and gpu >= GANG_GPUS
    busy = 0.0 if holder is None or (labels["namespace"] == "notebooks" and index % 5 == 0) else 92.0
    # Waiting in a collective keeps a GPU busy and cool; after the workers gave up nothing runs.
    works = step(END, busy, 0.0, 10, MINUTES) if gang else level(END, busy, MINUTES)
    heat = step(END, 64.0, 41.0, 20, MINUTES) if gang else level(END, 30 + busy * 0.45 + index % 6, MINUTES)
    gauges: dict[str, Samples] = {
        "GPU_UTIL": works,
        "SM_CLOCK": steady(END, 1980.0 if busy else 345.0, MINUTES),
        "MEM_CLOCK": steady(END, 2619.0, MINUTES),
        "GPU_TEMP": heat,
        "MEMORY_TEMP": [(at, value + 9) for at, value in heat],
        "POWER_USAGE": [(at, value * 9.5) for at, value in heat],
        "FB_USED": level(END, 71_000.0 if holder else 4.0, MINUTES),
        "FB_FREE": level(END, 9_500.0 if holder else 80_500.0, MINUTES),
        "ECC_DBE_VOL_TOTAL": steady(END, 0.0, MINUTES),
        "ROW_REMAP_FAILURE": steady(END, 0.0, MINUTES),
        "PCIE_REPLAY_COUNTER": steady(END, float(index % 3), MINUTES),
    }
    shares = {"GR_ENGINE_ACTIVE": works, "PIPE_TENSOR_ACTIVE": works, "DRAM_ACTIVE": works}
    for name, samples in gauges.items():
        yield _line(f"DCGM_FI_DEV_{name}", labels, samples, lost=dead)
    for name, samples in shares.items():
        yield _line(f"DCGM_FI_PROF_{name}", labels, [(at, value / 100) for at, value in samples], lost=dead)
    yield _line("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", labels, counter((at, value * 9.5) for at, value in heat), lost=dead)
    for name in ("REPLAY", "RECOVERY"):
        rate = 4.0 if linked else 0.0
        errors = counter((at, rate if at >= FAULT else 0.0) for at in moments(END, MINUTES, EVERY))
        yield _line(f"DCGM_FI_DEV_NVLINK_{name}_ERROR_COUNT_TOTAL", labels, errors, lost=dead)
    yield _line("DCGM_FI_DEV_XID_ERRORS", labels, [(at, 79.0 if dead and at >= FAULT else 0.0) for at in moments(END, MINUTES, EVERY)])


def _line(name: str, labels: Mapping[str, str], samples: Samples, *, lost: bool = False) -> Line:
    """One series, thinned to the scrape interval. A lost GPU answers nothing any more."""
    kept = [(at, value) for at, value in samples if at.second == 0 and not (lost and at >= FAULT)]
    return Line({"__name__": name, **labels}, kept)


def _node_lines(node: str) -> Iterator[Line]:
    labels = {"instance": f"{node}:9100", "node": node}
    for name, value in {"node_memory_MemAvailable_bytes": 9e11, "node_load1": 40.0, "node_nf_conntrack_entries": 9_000.0}.items():
        yield _line(name, labels, level(END, value, MINUTES))
    yield _line("node_nf_conntrack_entries_limit", labels, steady(END, 262_144.0, MINUTES))
    for name, rate in {
        "node_network_receive_drop_total": 0.0,
        "node_network_receive_packets_total": 80_000.0,
        "node_disk_io_time_seconds_total": 0.1,
        "node_netstat_Tcp_RetransSegs": 0.5,
        "node_netstat_Tcp_OutSegs": 60_000.0,
        "node_cpu_seconds_total": 70.0,
    }.items():
        yield _line(name, labels, counter((at, rate) for at in moments(END, MINUTES, EVERY)))


def _of_pod(pod: Mapping[str, Any]) -> dict[str, str]:
    meta = pod["metadata"]
    return {
        "namespace": meta["namespace"],
        "pod": meta["name"],
        "container": pod["spec"]["containers"][0]["name"],
        "node": pod["spec"]["nodeName"],
    }


def _pod_lines(pod: Mapping[str, Any]) -> Iterator[Line]:
    labels, when = _of_pod(pod), moments(END, MINUTES, EVERY)
    for name, rate in {"cpu_cfs_throttled_periods": 0.2, "cpu_cfs_periods": 10.0, "cpu_usage_seconds": 3.0}.items():
        yield _line(f"container_{name}_total", labels, counter((at, rate) for at in when))
    yield _line("container_memory_working_set_bytes", labels, level(END, 4e10, MINUTES))
    restarts = float(pod["status"]["containerStatuses"][0]["restartCount"])
    yield _line("kube_pod_container_status_restarts_total", labels, [(at, restarts if at > FAULT else 0.0) for at in when])


def _server_lines(pod: Mapping[str, Any], *, slow: bool) -> Iterator[Line]:
    labels = _of_pod(pod) | {"model_name": pod["metadata"]["labels"]["app"], "engine": "0"}
    when = moments(END, MINUTES, EVERY)

    def since(before: float, after: float) -> list[tuple[datetime, float]]:
        return [(at, after if slow and at >= FAULT else before) for at in when]

    for name, value in {"num_requests_running": 40.0, "kv_cache_usage_perc": 0.55}.items():
        yield _line(f"vllm:{name}", labels, level(END, value, MINUTES))
    yield _line("vllm:num_requests_waiting", labels, [(at, value) for at, value in since(0.0, 31.0)])
    for name, rate in {"num_preemptions": 0.0, "prompt_tokens": 8_000.0, "generation_tokens": 1_500.0, "request_success": 6.0}.items():
        yield _line(f"vllm:{name}_total", labels, counter(since(rate, rate / 3)))
    for name, quick, dragging in (("time_to_first_token_seconds", 0.3, 4.0), ("inter_token_latency_seconds", 0.02, 0.11)):
        yield _line(f"vllm:{name}_sum", labels, counter((at, 6 * seconds) for at, seconds in since(quick, dragging)))
        yield _line(f"vllm:{name}_count", labels, counter((at, 6.0) for at in when))
        for bound in ("0.05", "0.5", "5.0", "+Inf"):
            rates = [(at, 6.0 if float(bound) >= seconds else 0.0) for at, seconds in since(quick, dragging)]
            yield _line(f"vllm:{name}_bucket", labels | {"le": bound}, counter(rates))
