"""How long single callbacks hold the event loop of a server: `python -m benchmarks.callbacks PROGRAM ARGUMENTS...` runs our command line
with every callback's time taken, and writes what was seen to the file that BENCHMARK_CALLBACKS names when it ends. What is seen counts
from `begin`: nobody waits for a start who is connected.

A callback is told by the CPU time of its thread, so that neither a machine with other things to do nor another thread of the same
interpreter accuses it. How many were long by the clock is counted beside it: the difference is what those made it wait. A pass of the
garbage collector falls upon whichever callback made the object too many, so the longest is told apart.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLBACKS = "BENCHMARK_CALLBACKS"
LIMIT_SECONDS = 0.1
WORST = 8
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Callbacks:
    """`over` of `count` callbacks took more than 100 ms of CPU, `over_by_clock` more than that by the clock; `worst` are (name,
    milliseconds of CPU). `collector_ms` is the longest pass of the garbage collector in any thread, in CPU time."""

    count: int
    over: int
    over_by_clock: int
    longest_ms: float
    collector_ms: float
    worst: tuple[tuple[str, float], ...]

    @classmethod
    def read(cls, path: Path) -> Callbacks:
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**document, "worst": tuple(map(tuple, document["worst"]))})


def begin(pid: int) -> None:
    """Have the process that runs `timed` forget what it has seen so far."""
    os.kill(pid, signal.SIGUSR1)


def timed(command: list[str]) -> list[str]:
    """The command line of ours with its callbacks timed: the interpreter and `-c PROGRAM` are replaced by this module."""
    return [command[0], "-m", "benchmarks.callbacks", *command[3:]]


class Watch:
    """What was seen of every callback of every loop since `install`, or since `forget`."""

    def __init__(self) -> None:
        self._passes: dict[int, float] = {}
        self.forget()

    def forget(self) -> None:
        self._count = self._over = self._over_by_clock = 0
        self._collector = 0.0
        self._worst: list[tuple[float, str]] = []

    def install(self) -> None:
        run = asyncio.Handle._run

        def measured(handle: asyncio.Handle) -> None:
            began, began_by_clock = time.thread_time(), time.perf_counter()
            run(handle)
            seconds = time.thread_time() - began
            self._count += 1
            self._over += seconds > LIMIT_SECONDS
            self._over_by_clock += time.perf_counter() - began_by_clock > LIMIT_SECONDS
            if len(self._worst) < WORST or seconds > self._worst[0][0]:
                (heapq.heappush if len(self._worst) < WORST else heapq.heapreplace)(self._worst, (seconds, _name(handle)))

        asyncio.Handle._run = measured  # type: ignore[method-assign, assignment]
        gc.callbacks.append(self._pass)

    def _pass(self, phase: str, _about: dict[str, int]) -> None:
        thread, now = threading.get_ident(), time.thread_time()
        if phase == "start":
            self._passes[thread] = now
        else:
            self._collector = max(self._collector, now - self._passes.pop(thread, now))

    def seen(self) -> dict[str, Any]:
        ranked = [(name, round(seconds * 1_000, 1)) for seconds, name in sorted(self._worst, reverse=True)]
        return {
            "count": self._count,
            "over": self._over,
            "over_by_clock": self._over_by_clock,
            "longest_ms": ranked[0][1] if ranked else 0.0,
            "collector_ms": round(self._collector * 1_000, 1),
            "worst": ranked,
        }


def _name(handle: asyncio.Handle) -> str:
    """Where the callback stands now: of a task the innermost place in our own code, else its coroutine; else the function."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", callback))
    waiting: Any = task.get_coro()
    place = str(getattr(waiting, "__qualname__", task.get_name()))
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None)
        if frame is not None and Path(frame.f_code.co_filename).is_relative_to(ROOT) and ".venv" not in frame.f_code.co_filename:
            place = f"{frame.f_code.co_qualname} at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        waiting = getattr(waiting, "cr_await", None)
    return place


def main() -> None:
    from oncall.cli import main as command_line

    watch = Watch()
    watch.install()
    signal.signal(signal.SIGUSR1, lambda *_: watch.forget())
    # uvicorn hands the signal that ended it on to whoever had it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        command_line()
    finally:
        Path(os.environ[CALLBACKS]).write_text(json.dumps(watch.seen()), encoding="utf-8")


if __name__ == "__main__":
    main()
