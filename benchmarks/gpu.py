"""How long the inventory of accelerators and the report of their costs take over facts that are in memory, and how much memory.

    python -m benchmarks.gpu --gpus 10000 --pods 100000

Each size is measured in a process of its own, at a quarter, a half and the whole, so that growth shows: facts are made first, then
inventory, notes and cost are reckoned. The last line is one JSON object. Exit 1 when a sum is not what was made, or when time or memory
grow clearly faster than the cluster.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime

PER_NODE = 8
SICK_EVERY = 50
# Of a size, beside what half of it took: twice is linear; the rest is noise and what does not grow.
GROWTH_LIMIT = 2.6
NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def measure(gpus: int, pods: int) -> dict[str, float]:
    """One size in this process: seconds of CPU for the reckoning, peak memory in MiB, and the sums that came out."""
    import msgspec

    from cluster.facts.node import Node
    from cluster.facts.pod import Pod
    from cluster.reference import Scope
    from cluster.world import World
    from oncall.assembly import tune_collector
    from runbooks.cost import price_of, report
    from runbooks.inventory import inventory, notes, total

    count = gpus // PER_NODE
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}

    def node(index: int) -> dict[str, object]:
        usable = PER_NODE - 1 if index % SICK_EVERY == 0 else PER_NODE
        sizes = {"cpu": "192", "memory": "2Ti", "pods": "250"}
        return {
            "metadata": {"name": f"gpu-{index}", "labels": labels},
            "status": {
                "capacity": {**sizes, "nvidia.com/gpu": str(PER_NODE)},
                "allocatable": {**sizes, "nvidia.com/gpu": str(usable)},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def pod(index: int) -> dict[str, object]:
        # One pod for every two devices holds one; the others are what else runs in a cluster.
        wants = {"cpu": "1", **({"nvidia.com/gpu": "1"} if index < gpus // 2 else {})}
        owner = {"kind": "ReplicaSet", "name": f"w-{index // 16}-abcde", "uid": "u", "controller": True}
        return {
            "metadata": {"name": f"w-{index}", "namespace": f"team-{index % 40}", "ownerReferences": [owner]},
            "spec": {"nodeName": f"gpu-{index % count}", "containers": [{"name": "c", "resources": {"limits": wants}}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "startTime": "2026-01-15T10:00:00Z"},
        }

    nodes = [msgspec.convert(node(index), Node, strict=False) for index in range(count)]
    made = [msgspec.convert(pod(index), Pod, strict=False) for index in range(pods)]
    world = World("bench", NOW, Scope("bench")).with_facts(Node.kind, nodes, complete=True).with_facts(Pod.kind, made, complete=True)
    # As the commands do.
    tune_collector()
    began = time.process_time()
    offers = inventory(world)
    found = report(world, offers, notes(world), price=price_of({"*": 2.0}), team=lambda namespace: namespace or "")
    seconds = time.process_time() - began
    sums = total(offers)
    return {
        "gpus": sums.capacity,
        "pods": pods,
        "held": sums.held,
        "sick": sums.sick,
        "price_per_hour": sum(share.price or 0.0 for share in found.uses.values()),
        "cpu_seconds": round(seconds, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--pods", type=int, default=100_000)
    parser.add_argument("--one", action="store_true", help="measure this size only, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.gpus, arguments.pods)))
        return 0
    rows = []
    for part in (4, 2, 1):
        size = ["--gpus", str(arguments.gpus // part), "--pods", str(arguments.pods // part), "--one"]
        done = subprocess.run([sys.executable, "-m", "benchmarks.gpu", *size], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        row = rows[-1]
        print(f"{row['gpus']:7} GPUs {row['pods']:8} pods  {row['cpu_seconds']:7.3f} s of CPU  {row['peak_rss_mb']:6} MB at most")
    whole, half = rows[-1], rows[-2]
    nodes = arguments.gpus // PER_NODE
    right = (
        whole["gpus"] == nodes * PER_NODE
        and whole["held"] == arguments.gpus // 2
        and whole["sick"] == -(-nodes // SICK_EVERY)
        and abs(whole["price_per_hour"] - 2.0 * whole["gpus"]) < 1e-6
    )
    linear = all(whole[figure] <= GROWTH_LIMIT * half[figure] for figure in ("cpu_seconds", "peak_rss_mb"))
    if not right:
        print("the sums are not those of the devices that were made")
    if not linear:
        print(f"twice the cluster took more than {GROWTH_LIMIT} times")
    print(json.dumps({**whole, "half_cpu_seconds": half["cpu_seconds"], "half_peak_rss_mb": half["peak_rss_mb"]}))
    return 0 if right and linear else 1


if __name__ == "__main__":
    sys.exit(main())
