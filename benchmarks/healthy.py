"""How often a diagnosis accuses somebody where nothing is wrong: fresh seeds, played in the lab, recorded and diagnosed.

    python -m benchmarks.healthy --seeds 100 [--first 100000]

The seeds begin where those of tests/healthy end, so none of these worlds has been seen before. Needs the lab (docs/lab.md). The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.healthy.diagnosis import accusations
from tests.healthy.generator import plan
from tests.healthy.laboratory import play
from tests.healthy.worlds import HealthyWorld
from tests.lab.build import find_or_build
from tests.lab.lab import Lab


def main(arguments: list[str]) -> int:
    """Exit status: 0 nobody was accused, 1 somebody was."""
    parser = argparse.ArgumentParser(prog="benchmarks.healthy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds")
    parser.add_argument("--first", type=int, default=100_000, help="the first seed; any beyond those that are kept")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    accused: list[int] = []
    seconds: list[float] = []

    def judge(world: HealthyWorld) -> None:
        with tempfile.TemporaryDirectory(prefix="smokejumper-healthy-") as folder:
            started = time.monotonic()
            said = _said(world, Path(folder))
            seconds.append(time.monotonic() - started)
        if said:
            accused.append(int(world.about["seed"]))
        print(
            f"{world.about['seed']} {'+'.join((*world.about['parts'], *world.about['pasts']))}: {'; '.join(said) or 'healthy'}", flush=True
        )

    with Lab(find_or_build()) as lab:
        play(lab, [plan(seed) for seed in range(options.first, options.first + options.seeds)], judge)
    figures = {
        "worlds": len(seconds),
        "accused": len(accused),
        "seeds_accused": accused,
        "diagnosis_seconds_p50": round(sorted(seconds)[len(seconds) // 2], 3),
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(figures))
    return 1 if accused else 0


def _said(world: HealthyWorld, folder: Path) -> tuple[str, ...]:
    """`play` runs no loop while it hands out a world, so that this may start one."""
    return asyncio.run(accusations(world, folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
