"""Healthy worlds by hand: record them from the lab, look at one, say which of them are accused.

python -m tests.healthy record --seeds 0-219
python -m tests.healthy unpack 17 DIR
python -m tests.healthy diagnose [SEED ...]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.healthy import worlds
from tests.healthy.diagnosis import accusations
from tests.healthy.generator import plan


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 something is accused."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.healthy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    record = commands.add_parser("record", help="play seeds in the lab and keep their worlds")
    record.add_argument("--seeds", metavar="A-B", required=True, help="first and last seed")
    record.add_argument("--to", metavar="DIR", type=Path, default=worlds.FOLDER, help="where to keep them")
    record.set_defaults(run=_record)
    unpack = commands.add_parser("unpack", help="write one world as a recording")
    unpack.add_argument("seed", type=int)
    unpack.add_argument("folder", type=Path, metavar="DIR")
    unpack.set_defaults(run=_unpack)
    diagnose = commands.add_parser("diagnose", help="say what is accused in the worlds that are kept")
    diagnose.add_argument("seeds", type=int, nargs="*", metavar="SEED")
    diagnose.add_argument("--from", dest="source", metavar="DIR", type=Path, default=worlds.FOLDER)
    diagnose.set_defaults(run=_diagnose)
    options = parser.parse_args(arguments)
    return int(options.run(options))


def _record(options: argparse.Namespace) -> int:
    # Imported here: the other commands need no lab.
    from tests.healthy.laboratory import play
    from tests.lab.build import find_or_build
    from tests.lab.lab import Lab

    first, _, last = options.seeds.partition("-")
    plans = [plan(seed) for seed in range(int(first), int(last or first) + 1)]
    began = time.monotonic()

    def keep(world: worlds.HealthyWorld) -> None:
        path = worlds.write(world, options.to)
        print(f"{path.name} {path.stat().st_size:6} bytes after {time.monotonic() - began:.0f} s", flush=True)

    with Lab(find_or_build()) as lab:
        play(lab, plans, keep)
        for problem in lab.stage_errors():
            print(f"lab: {problem}", file=sys.stderr)
    return 0


def _unpack(options: argparse.Namespace) -> int:
    print(worlds.read(options.seed).unpack(options.folder))
    return 0


def _diagnose(options: argparse.Namespace) -> int:
    wrong = 0
    for seed in options.seeds or worlds.seeds(options.source):
        with tempfile.TemporaryDirectory() as folder:
            said = asyncio.run(accusations(worlds.read(seed, options.source), Path(folder)))
        wrong += bool(said)
        for line in said:
            print(f"{seed}: {line}")
    print(f"{wrong} worlds are accused")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
