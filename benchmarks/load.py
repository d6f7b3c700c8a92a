"""Our MCP server under 64 clients with mixed calls, one in twenty of them hung up, and one client more that asks for nothing.

A call or a ping that fails, whatever the reason, is an error that is told; the load goes on.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2

from benchmarks.callbacks import Callbacks, begin
from benchmarks.crowd import Broken
from benchmarks.questions import Call
from benchmarks.servers import Client, Server

CLIENTS = 64
HANG_UP_SHARE = 0.05
HANG_UP_SECONDS = 0.05
PING_EVERY_SECONDS = 0.05
DRAIN_SECONDS = 90.0
# No answer, and an answer that is no message of the protocol.
FAILURES = (httpx2.HTTPError, ValueError, LookupError)


@dataclass
class Load:
    """What 64 clients saw. `memory_mb` is resident memory once a second, `pings` the seconds of requests that ask for nothing."""

    seconds: list[float] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    hung_up: int = 0
    memory_mb: list[float] = field(default_factory=list)
    connections_left: int = 0

    def quarter_mb(self, number: int) -> float:
        size = max(1, len(self.memory_mb) // 4)
        return statistics.median(self.memory_mb[number * size : (number + 1) * size] or [0.0])


async def put_load(server: Server, seconds: float, api_port: int, broken: Sequence[Broken], pod: tuple[str, str]) -> Load:
    """64 sessions with mixed calls until the time is over; then the server's connections to the API server are waited for. The server is
    one that `callbacks.timed` runs."""
    load = Load()

    async def one(client: Client, chance: random.Random) -> None:
        while time.monotonic() < deadline:
            call = _any_call(chance, broken, pod)
            hangs_up = chance.random() < HANG_UP_SHARE
            try:
                async with asyncio.timeout(HANG_UP_SECONDS if hangs_up else None):
                    reply = await client.call(*call)
            except TimeoutError:
                load.hung_up += 1
                continue
            except FAILURES as error:
                load.errors.append(f"{call[0]}: {error!r}")
                continue
            if not hangs_up:
                load.seconds.append(reply.seconds)
            if reply.error:
                load.errors.append(f"{call[0]}: {reply.error}")

    async def watch() -> None:
        while time.monotonic() < deadline:
            load.memory_mb.append(server.memory_mb()[0])
            await asyncio.sleep(1)

    async def ping(client: Client) -> None:
        while time.monotonic() < deadline:
            try:
                load.pings.append(await client.ping())
            except FAILURES as error:
                load.errors.append(f"ping: {error!r}")
            await asyncio.sleep(PING_EVERY_SECONDS)

    async with AsyncExitStack() as sessions, asyncio.TaskGroup() as tasks:
        clients = [await sessions.enter_async_context(Client(server)) for _ in range(CLIENTS)]
        idle = await sessions.enter_async_context(Client(server))
        begin(server.pid)
        deadline = time.monotonic() + seconds
        tasks.create_task(watch())
        tasks.create_task(ping(idle))
        for number, client in enumerate(clients):
            tasks.create_task(one(client, random.Random(number)))
    patience = time.monotonic() + DRAIN_SECONDS
    load.connections_left = server.connections_to(api_port)
    while load.connections_left and time.monotonic() < patience:
        await asyncio.sleep(0.5)
        load.connections_left = server.connections_to(api_port)
    return load


def _any_call(chance: random.Random, broken: Sequence[Broken], pod: tuple[str, str]) -> Call:
    one = chance.choice(broken)
    at = {"namespace": pod[0], "name": pod[1]}
    return chance.choice(
        (
            ("pods_list", {"namespace": [one.namespace]}),
            ("pods_list", {}),
            ("events_list", {"namespace": [one.namespace]}),
            ("resource_get", {"kind": "Pod", **at}),
            ("resources_list", {"kind": "Deployment"}),
            ("pod_diagnose", at),
            ("workload_diagnose", {"kind": "Deployment", "namespace": one.namespace, "name": one.name}),
            ("logs_search", {"namespace": pod[0], "pod": pod[1]}),
            ("cluster_overview", {}),
        )
    )


def report(load: Load, callbacks: Callbacks, seconds: float) -> dict[str, Any]:
    """Prints what the clients saw; the figures of it."""
    p50, p99 = (_at(load.seconds, share) for share in (0.5, 0.99))
    ping_p50, ping_p99, ping_max = (_at(load.pings, share) * 1_000 for share in (0.5, 0.99, 1.0))
    quarters = [round(load.quarter_mb(number)) for number in range(4)]
    print(f"\n{CLIENTS} clients for {seconds:g} s: {len(load.seconds)} calls, {load.hung_up} hung up, {len(load.errors)} errors")
    print(f"  p50 {p50:.2f} s, p99 {p99:.2f} s; memory by quarter {quarters} MB; {load.connections_left} connections left")
    print(f"  a request that asks for nothing meanwhile: p50 {ping_p50:.0f} ms, p99 {ping_p99:.0f} ms, longest {ping_max:.0f} ms")
    print(f"  event loop: {callbacks.over} of {callbacks.count} callbacks over 100 ms of CPU, the longest {callbacks.longest_ms:.0f} ms;")
    print(f"  {callbacks.over_by_clock} over 100 ms by the clock; longest pass of the garbage collector {callbacks.collector_ms:.0f} ms")
    for name, milliseconds in callbacks.worst:
        print(f"    {milliseconds:6.0f} ms  {name}")
    for error in load.errors[:5]:
        print(f"  error: {error}")
    return {
        "calls": len(load.seconds),
        "errors": load.errors[:10],
        "hung_up": load.hung_up,
        "p50_seconds": round(p50, 3),
        "p99_seconds": round(p99, 3),
        "memory_quarters_mb": quarters,
        "connections_left": load.connections_left,
        "ping_p99_ms": round(ping_p99, 1),
        "ping_max_ms": round(ping_max, 1),
        "callbacks_over_100_ms": callbacks.over,
        "callbacks_over_100_ms_by_clock": callbacks.over_by_clock,
        "longest_callback_ms": round(callbacks.longest_ms),
        "longest_collector_pass_ms": round(callbacks.collector_ms),
    }


def _at(seconds: Sequence[float], share: float) -> float:
    """A percentile; NaN where nothing was answered in so short a time."""
    ordered = sorted(seconds) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
