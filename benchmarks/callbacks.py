"""How long single callbacks hold the event loop of a server: `python -m benchmarks.callbacks PROGRAM ARGUMENTS...` runs our command line
with every callback's CPU time taken, and writes what was seen to the file that BENCHMARK_CALLBACKS names when it ends.

CPU time of the thread, so that a machine with other things to do accuses nobody.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLBACKS = "BENCHMARK_CALLBACKS"
LIMIT_SECONDS = 0.1
WORST = 8


@dataclass(frozen=True)
class Callbacks:
    """`over` of `count` callbacks took more than 100 ms; `worst` are (name, milliseconds)."""

    count: int
    over: int
    longest_ms: float
    worst: tuple[tuple[str, float], ...]

    @classmethod
    def read(cls, path: Path) -> Callbacks:
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(document["count"], document["over"], document["longest_ms"], tuple(map(tuple, document["worst"])))


def timed(command: list[str]) -> list[str]:
    """The command line of ours with its callbacks timed: the interpreter and `-c PROGRAM` are replaced by this module."""
    return [command[0], "-m", "benchmarks.callbacks", *command[3:]]


def watch() -> Callable[[], dict[str, Any]]:
    """Time every callback of every loop from here on; the function returned says what was seen."""
    run = asyncio.Handle._run
    count = over = 0
    worst: list[tuple[float, str]] = []

    def measured(handle: asyncio.Handle) -> None:
        nonlocal count, over
        # Named before it runs: afterwards a finished task has forgotten where it was.
        began = time.thread_time()
        run(handle)
        seconds = time.thread_time() - began
        count += 1
        over += seconds > LIMIT_SECONDS
        if len(worst) < WORST or seconds > worst[0][0]:
            (heapq.heappush if len(worst) < WORST else heapq.heapreplace)(worst, (seconds, _name(handle)))

    asyncio.Handle._run = measured  # type: ignore[method-assign, assignment]

    def seen() -> dict[str, Any]:
        ranked = [(name, round(seconds * 1_000, 1)) for seconds, name in sorted(worst, reverse=True)]
        return {"count": count, "over": over, "longest_ms": ranked[0][1] if ranked else 0.0, "worst": ranked}

    return seen


def _name(handle: asyncio.Handle) -> str:
    """Where the callback stands now: the innermost frame of its task's coroutine, else the function."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        frames = task.get_stack()
        place = f"{Path(frames[-1].f_code.co_filename).name}:{frames[-1].f_lineno}" if frames else "ended"
        return f"{getattr(task.get_coro(), '__qualname__', task.get_name())} at {place}"
    return str(getattr(callback, "__qualname__", callback))


def main() -> None:
    from oncall.cli import main as command_line

    seen = watch()
    # uvicorn hands the signal that ended it on to whoever had it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        command_line()
    finally:
        Path(os.environ[CALLBACKS]).write_text(json.dumps(seen()), encoding="utf-8")


if __name__ == "__main__":
    main()
