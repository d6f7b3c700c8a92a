"""The storm's weather: it keeps four workers on their feet, counts who died, lets sleepers lie past their lease, and wakes them.

Besides the fates of the items, one worker is killed every few seconds wherever it happens to be. Processes come from a fork server that
has everything loaded, so that a death costs no new start of the interpreter.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess

from guardrails.claim import LEASE_SECONDS
from tests.lab.api import ApiClient, ApiError, wait_for
from tests.soak.items import BAD_PROFILE, MIG_CONFIG, Item
from tests.soak.worker import Order, work

SLEEP_SECONDS = LEASE_SECONDS + 5
BOLT_SECONDS = 9.0


@dataclass
class Weather:
    """What happened to the processes."""

    started: int = 0
    killed: int = 0
    bolts: int = 0
    slept: int = 0
    seconds: float = 0.0
    met: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.started} processes in {self.seconds:.0f} s: {self.killed} killed ({self.bolts} wherever they were), "
            f"{self.slept} slept past their lease; {len({step for step, _ in self.met})} steps had their turn"
        )


class StormError(Exception):
    """A worker ended in another way than by death or by having nothing left to do, or the storm did not end."""


class Storm:
    """`blow` returns when every item is over and every process gone."""

    def __init__(self, order: Order, *, workers: int, seed: int, limit_seconds: float) -> None:
        self._order, self._workers, self._limit = order, workers, limit_seconds
        self._chance = random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.soak.worker"])
        self._awake: dict[int, ForkServerProcess] = {}
        self._asleep: dict[int, tuple[ForkServerProcess, float]] = {}
        self._noted: set[str] = set()
        self._over = False
        self.weather = Weather()

    def blow(self) -> Weather:
        began = time.monotonic()
        bolt = began + BOLT_SECONDS
        try:
            while self._awake or self._asleep or not self._over:
                if time.monotonic() - began > self._limit:
                    raise StormError(f"not over after {self._limit:.0f} s: {self.weather}")
                self._read_fates()
                self._reap()
                self._wake()
                while not self._over and len(self._awake) < self._workers:
                    self._start()
                if not self._over and time.monotonic() > bolt and self._awake:
                    self._strike(self._chance.choice(sorted(self._awake)))
                    bolt = time.monotonic() + BOLT_SECONDS * self._chance.uniform(0.5, 1.5)
                time.sleep(0.1)
        finally:
            for process in [*self._awake.values(), *(process for process, _ in self._asleep.values())]:
                process.kill()
                process.join()
            self.weather.seconds = time.monotonic() - began
        return self.weather

    def _start(self) -> None:
        process = self._context.Process(target=work, args=(self._order, self._chance.randrange(2**32)))
        process.start()
        assert process.pid is not None
        self._awake[process.pid] = process
        self.weather.started += 1

    def _read_fates(self) -> None:
        for place in sorted(self._order.folder.glob("fate-*")):
            if place.name in self._noted:
                continue
            self._noted.add(place.name)
            fate = json.loads(place.read_text("utf-8"))
            self.weather.met[(fate["step"], fate["how"])] += 1
            process = self._awake.pop(fate["pid"], None) if fate["how"] == "stop" else None
            if process is not None:
                self._asleep[fate["pid"]] = (process, time.monotonic())
                self.weather.slept += 1

    def _reap(self) -> None:
        for pid, process in list(self._awake.items()):
            if process.exitcode is None:
                continue
            del self._awake[pid]
            if process.exitcode == 0:
                self._over = True
            elif process.exitcode == -signal.SIGKILL:
                self.weather.killed += 1
            else:
                raise StormError(f"worker {pid} ended with {process.exitcode}; its traceback is above")

    def _wake(self) -> None:
        for pid, (process, since) in list(self._asleep.items()):
            if time.monotonic() - since >= SLEEP_SECONDS:
                del self._asleep[pid]
                self._awake[pid] = process
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _strike(self, pid: int) -> None:
        self.weather.bolts += 1
        # It may have ended since it was looked at; then the fork server has reaped it.
        self._awake[pid].kill()


def set_scene(client: ApiClient, items: tuple[Item, ...]) -> None:
    """Make all objects, and return when their controllers have seen them and the pods serve."""
    for item in items:
        for manifest in item.manifests():
            client.apply(manifest)
    space = items[0].space
    wait_for("all controllers", partial(_settled, client, space), 180)


def _settled(client: ApiClient, space: str) -> bool:
    """Whether no controller has anything left to do with the Deployments and StatefulSets."""
    for kind in ("Deployment", "StatefulSet"):
        for found in client.list("apps/v1", kind, space):
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            if status.get("observedGeneration") != found["metadata"]["generation"] or status.get("readyReplicas", 0) != wanted:
                return False
    return True


@contextmanager
def mig_manager(client: ApiClient) -> Iterator[None]:
    """Plays the MIG manager on the nodes of the storm: the bad profile fails, any other succeeds."""
    over = threading.Event()

    def play() -> None:
        while not over.wait(0.3):
            with suppress(ApiError):
                for node in client.list("v1", "Node", labels="nvidia.com/mig.capable=true"):
                    labels = node["metadata"]["labels"]
                    state = "failed" if labels.get(MIG_CONFIG) == BAD_PROFILE else "success"
                    if labels.get("nvidia.com/mig.config.state") != state:
                        patch = {"metadata": {"labels": {"nvidia.com/mig.config.state": state}}}
                        client.patch("v1", "Node", node["metadata"]["name"], patch)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
