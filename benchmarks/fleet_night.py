"""How long a diagnosis of a recorded fleet's night takes, with its measurements asked of a real Prometheus, and whether it is right.

    python -m benchmarks.fleet_night --nodes 64 --pods 2000 --runs 5

Every run is the command of a person: `smokejumper diagnose --recording DIR --prometheus URL` in a process of its own, so the time holds
the start of Python too. The last line is one JSON object. Exit 1 when the first cause is not the GPU that died, or one of its victims is
not listed under it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.lab.build import find_or_build_prometheus
from tests.lab.monitoring import Prometheus
from tests.lab.night import PER_NODE, Night, complaints, write
from tests.lab.nightseries import lines

BATCH = 1_000


def diagnose(folder: Path, url: str, state: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds and the document of one command."""
    command = [str(Path(sys.executable).with_name("smokejumper")), "--state", str(state), "diagnose", "-o", "json"]
    started = time.perf_counter()
    done = subprocess.run([*command, "--recording", str(folder), "--prometheus", url], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_night", description=__doc__)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--pods", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    night = Night(options.nodes, options.pods)
    series = list(lines(night))
    with tempfile.TemporaryDirectory() as scratch, Prometheus(find_or_build_prometheus()) as server:
        folder = Path(scratch) / "night"
        write(night, folder)
        for start in range(0, len(series), BATCH):
            server.write(series[start : start + BATCH])
        runs = [diagnose(folder, server.url, Path(scratch) / "state") for _ in range(options.runs)]
        # Before the server has ended, which would be the largest child.
        peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    wrong = [complaint for _, document in runs for complaint in complaints(night, document)]
    first = runs[0][1]["causes"][0]
    for seconds, document in runs:
        print(f"{seconds:.2f} s  {document['causes'][0]['explanation']}")
    for symptom in first["symptoms"]:
        print(f"        {symptom['text'][:120]}")
    for complaint in dict.fromkeys(wrong):
        print(f"wrong: {complaint}", file=sys.stderr)
    walls = sorted(seconds for seconds, _ in runs)
    figures = {
        "nodes": night.nodes,
        "gpus": night.nodes * PER_NODE,
        "pods": night.pods,
        "metrics": len({line.labels["__name__"] for line in series}),
        "series": len(series),
        "samples": sum(len(line.samples) for line in series),
        "causes": len(runs[0][1]["causes"]),
        "right": not wrong,
        "seconds_median": round(statistics.median(walls), 2),
        "seconds_worst": round(walls[-1], 2),
        "peak_mib": peak_mib,
    }
    print(json.dumps(figures))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
