"""Whether our explanation of device claims agrees with the real scheduler, over generated claims, and whether the reasons hold.

    python -m benchmarks.dra --claims 216 --seed 1

Each case is played into a real control plane: allocatable or not by the scheduler has to be our answer, and where it is not, taking
away just what we name has to let the claims be allocated (of several reasons the first alone must not). The last line is one JSON
object. Exit 1 when a case disagrees.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from tests.lab.build import find_or_build
from tests.lab.devicecases import THEMES, generate
from tests.lab.deviceplay import Judged, Stage, play
from tests.lab.lab import Lab


def table(judged: list[Judged]) -> list[str]:
    """Cases by the deciding reason, the first of each."""
    rows: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for item in judged:
        decisions = item.said[0].decisions if item.said else ()
        first = " + ".join(dict.fromkeys(one.reason.value for one in decisions)) or "allocatable"
        rows[first] += 1
        right[first] += not item.complaint
    return [f"{right[name]:4d} / {count:4d}  {name}" for name, count in rows.most_common()]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dra", description=__doc__)
    parser.add_argument("--claims", type=int, default=216)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--slots", type=int, default=18)
    parser.add_argument("--theme", choices=THEMES, help="only cases of this theme")
    options = parser.parse_args(arguments)
    numbers = range(options.first, options.first + options.claims)
    chosen = [number for number in numbers if options.theme in (None, THEMES[number % len(THEMES)])]
    started = time.perf_counter()
    judged: list[Judged] = []
    with Lab(find_or_build()) as lab:
        stage = Stage(lab.client("lab:loader"), options.slots)
        stage.set_up()
        cases = (generate(options.seed, number, place % options.slots) for place, number in enumerate(chosen))
        for item in play(stage, cases):
            judged.append(item)
            if len(judged) % options.slots == 0:
                print(f"{len(judged)} played, {sum(bool(one.complaint) for one in judged)} disagree", file=sys.stderr, flush=True)
            if item.complaint:
                print(f"{item.case.name} ({item.case.theme}): {item.complaint}", flush=True)
    print("\n".join(table(judged)))
    wrong = [item for item in judged if item.complaint]
    answer = {
        "claims": len(judged),
        "agree": len(judged) - len(wrong),
        "allocatable": sum(item.done[:1] == [""] for item in judged),
        "attempts": sum(len(item.done) for item in judged),
        "reasons": len({one.reason for item in judged if item.said for one in item.said[0].decisions}),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(answer))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
