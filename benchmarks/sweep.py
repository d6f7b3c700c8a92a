"""How long the measurements of a fleet take from a real Prometheus: wall time, and processor time on both sides of the wire.

    python -m benchmarks.sweep --gpus 512 --pods 2000 --runs 3

The series are those of a night in which nothing happens: DCGM of every GPU, cAdvisor of every pod, vLLM of every twentieth. Prometheus is
the lab's, on this machine. The last line is one JSON object. Exit 1 when a measurement of what was written does not come back whole.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster.endpoint import Endpoint
from cluster.prometheus import Prometheus
from cluster.reference import Scope
from tests.lab.build import find_or_build_prometheus
from tests.lab.monitoring import Line
from tests.lab.monitoring import Prometheus as Server
from tests.lab.shapes import Samples, counter, moments

END = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
MINUTES = 125
PER_NODE = 8
SERVED = 20
BATCH = 1_000
# In hundredths of a second (proc(5), utime and stime of /proc/PID/stat).
TICKS = 100
DEVICE = {"UTIL": 90.0, "SM_CLOCK": 1980.0, "TEMP": 60.0, "XID": 0.0}
FIELDS = {
    "UTIL": "DCGM_FI_DEV_GPU_UTIL",
    "SM_CLOCK": "DCGM_FI_DEV_SM_CLOCK",
    "TEMP": "DCGM_FI_DEV_GPU_TEMP",
    "XID": "DCGM_FI_DEV_XID_ERRORS",
}
CONTAINER = {"cpu_cfs_throttled_periods": 1.0, "cpu_cfs_periods": 10.0, "cpu_usage_seconds": 0.4}
SERVER = {"num_requests_running": 50.0, "num_requests_waiting": 1.0, "kv_cache_usage_perc": 0.7}
# Measurements that come back of one GPU, one pod and one model server.
EACH_GPU, EACH_POD, EACH_SERVER = 4, 2, 3


def lines(gpus: int, pods: int) -> Iterator[Line]:
    """Every series of the fleet, scraped once a minute."""
    when = moments(END, MINUTES, timedelta(minutes=1))

    def flat(value: float) -> Samples:
        return [(at, value) for at in when]

    for gpu in range(gpus):
        labels = {"namespace": "ml", "pod": f"job-{gpu}", "Hostname": f"gpu-{gpu // PER_NODE}", "gpu": str(gpu % PER_NODE)}
        yield from (Line({"__name__": FIELDS[name], **labels}, flat(value)) for name, value in DEVICE.items())
    for pod in range(pods):
        labels = {"namespace": f"team-{pod % 40}", "pod": f"w-{pod}", "container": "c", "instance": f"10.0.0.{pod % 64}:10250"}
        for name, rate in CONTAINER.items():
            yield Line({"__name__": f"container_{name}_total", **labels}, counter(flat(rate)))
        if pod % SERVED == 0:
            yield from (Line({"__name__": f"vllm:{name}", **labels}, flat(value)) for name, value in SERVER.items())


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measure(server: Server, runs: int) -> list[dict[str, float]]:
    """What each sweep took and brought."""
    results = []
    async with Prometheus(Endpoint(server.url, timeout_seconds=20)) as source:
        for _ in range(runs):
            wall, own, theirs = time.perf_counter(), time.process_time(), processor_seconds(server.pid)
            read = await source.telemetry(Scope("bench"), END)
            results.append(
                {
                    "wall_seconds": round(time.perf_counter() - wall, 3),
                    "cpu_seconds": round(time.process_time() - own, 3),
                    "prometheus_cpu_seconds": round(processor_seconds(server.pid) - theirs, 2),
                    "series": len(read.value.series),
                    "requests": read.cost.requests,
                    "megabytes": round(read.cost.bytes / 1e6, 1),
                }
            )
    return results


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--gpus", type=int, default=512)
    parser.add_argument("--pods", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    everything = list(lines(options.gpus, options.pods))
    with Server(find_or_build_prometheus()) as server:
        for start in range(0, len(everything), BATCH):
            server.write(everything[start : start + BATCH])
        results = asyncio.run(measure(server, options.runs))
    for result in results:
        print(result)
    expected = EACH_GPU * options.gpus + EACH_POD * options.pods + EACH_SERVER * -(-options.pods // SERVED)
    best = min(results, key=lambda result: result["wall_seconds"])
    print(json.dumps({"gpus": options.gpus, "pods": options.pods, "written": len(everything), "expected": expected, **best}))
    return 0 if all(result["series"] == expected for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
