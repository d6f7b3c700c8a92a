"""Our MCP server beside `kubernetes-mcp-server` from npm, on one real cluster of the lab: tokens, calls, latency, memory and start.

    python -m benchmarks.mcp --pods 1000 --rounds 3 --load 60

The cluster holds Deployments of ten pods, some of them broken (`benchmarks.crowd`); what is asked about them says `benchmarks.questions`.
A token is three bytes of text (four are given too); text is what a model reads, and the same facts in the structured channel are counted
apart.

Timings take turns, so that a busy machine is busy for all. The peer runs twice: as it is, held by its client library to five requests
a second, and unbound. Both kubeconfigs ask for answers without compression. `--load SECONDS` puts 64 clients on our server
(`benchmarks.load`) and reports the longest that a callback held the event loop and how long a client that asks for nothing waits
meanwhile. The last line is one JSON object. Exit 1 when a call failed, a broken Deployment was not explained, or an aim of the table was
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from benchmarks import crowd
from benchmarks.callbacks import CALLBACKS, Callbacks, timed
from benchmarks.crowd import Broken
from benchmarks.load import Load, put_load
from benchmarks.load import report as load_report
from benchmarks.questions import Call, Told, ours_named, ours_whole, peer_named, peer_whole, summed
from benchmarks.servers import UNBOUND, Client, Server, find_peer, our_command, peer_command, serving, start_seconds
from tests.lab.build import find_or_build
from tests.lab.lab import Lab

OURS, PEER, PEER_BOUND = "smokejumper", "peer, unbound", "peer"
LISTEN_OURS = ("--http", "127.0.0.1:PORT")
LISTEN_PEER = ("--port", "PORT", "--bind-address", "127.0.0.1")
CONCURRENCY = (1, 8)
CALLS_AIM, TOKENS_AIM, PEER_TOKENS_FLOOR = 2, 3_000, 40_000
# A cell of the table ends after so many calls, or after so long.
CALLS = {"get": 60, "list": 24, "diagnose": 24}
CELL_SECONDS = 12.0


# ---- how fast


@dataclass
class Timings:
    """Seconds by (server, call, concurrency)."""

    seconds: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    async def measure(self, server: Server, what: str, call: Call, concurrency: int) -> None:
        """One cell's turn: up to its number of calls, by so many sessions at once."""
        into = self.seconds.setdefault((server.name, what, concurrency), [])
        left = max(concurrency, CALLS[what] if concurrency > 1 else CALLS[what] // 3)
        deadline = time.monotonic() + CELL_SECONDS

        async def one(client: Client) -> None:
            nonlocal left
            while left > 0 and time.monotonic() < deadline:
                left -= 1
                reply = await client.call(*call)
                into.append(reply.seconds)
                if reply.error:
                    self.errors.append(f"{server.name}: {call[0]}: {reply.error}")

        async with AsyncExitStack() as sessions, asyncio.TaskGroup() as tasks:
            clients = [await sessions.enter_async_context(Client(server)) for _ in range(concurrency)]
            for client in clients:
                tasks.create_task(one(client))

    def at(self, server: str, what: str, concurrency: int, share: float) -> float:
        """Milliseconds at a percentile; NaN where nothing was measured."""
        values = sorted(self.seconds.get((server, what, concurrency), ()))
        return values[min(len(values) - 1, int(share * len(values)))] * 1_000 if values else float("nan")


def calls_of(server: str, pod: tuple[str, str]) -> dict[str, Call]:
    """The calls that are timed: one object, all pods, and a diagnosis, which the peer has not."""
    at = {"namespace": pod[0], "name": pod[1]}
    if server == OURS:
        return {
            "get": ("resource_get", {"kind": "Pod", **at}),
            "list": ("pods_list", {"problem_only": False}),
            "diagnose": ("pod_diagnose", at),
        }
    return {"get": ("pods_get", at), "list": ("pods_list", {})}


# ---- all of it


@dataclass
class Results:
    named: dict[str, list[Told]] = field(default_factory=dict)
    first: dict[str, Told] = field(default_factory=dict)
    every: dict[str, Told] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    idle_mb: dict[str, float] = field(default_factory=dict)
    high_mb: dict[str, float] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)
    load: Load | None = None
    callbacks: Callbacks | None = None


async def compare(lab: Lab, options: argparse.Namespace, folder: Path) -> Results:
    """Everything, on a cluster that is filled."""
    results = Results()
    config = _kubeconfig(lab, folder)
    broken = crowd.broken(options.pods, options.broken)
    crashing = next(one for one in broken if one.fault.where == "log")
    [first, *_] = lab.client().list("v1", "Pod", crashing.namespace, f"app={crashing.name}")
    pod = (crashing.namespace, str(first["metadata"]["name"]))
    ours, peer = our_command(folder / "state", config), peer_command(find_peer(options.peer), config)
    for _ in range(options.rounds):
        for name, command in ((OURS, ours), (PEER, peer)):
            results.starts.setdefault(name, []).append(start_seconds(command))
    with ExitStack() as running:
        servers = [
            running.enter_context(serving(OURS, ours, LISTEN_OURS)),
            running.enter_context(serving(PEER, peer, LISTEN_PEER, **UNBOUND)),
            running.enter_context(serving(PEER_BOUND, peer, LISTEN_PEER)),
        ]
        for server in servers:
            async with Client(server) as client:
                await client.call(*calls_of(server.name, pod)["get"])
            results.idle_mb[server.name] = server.memory_mb()[0]
        for server in servers[:2]:
            named, whole = (ours_named, ours_whole) if server.name == OURS else (peer_named, peer_whole)
            await _ask(server, broken, named, whole, results)
        for _ in range(options.rounds):
            for concurrency in CONCURRENCY:
                for what in CALLS:
                    for server in servers:
                        call = calls_of(server.name, pod).get(what)
                        if call is not None:
                            await results.timings.measure(server, what, call, concurrency)
            servers.append(servers.pop(0))
        results.high_mb = {server.name: server.memory_mb()[1] for server in servers}
    if options.load:
        report = folder / "callbacks.json"
        with serving(OURS, timed(ours), LISTEN_OURS, **{CALLBACKS: str(report)}) as server:
            results.load = await put_load(server, options.load, urlsplit(lab.server).port or 443, broken, pod)
        results.callbacks = Callbacks.read(report)
    return results


async def _ask(
    server: Server,
    broken: Sequence[Broken],
    named: Callable[[Client, Broken], Awaitable[Told]],
    whole: Callable[[Client, Sequence[Broken]], Awaitable[tuple[Told, Told]]],
    results: Results,
) -> None:
    async with Client(server) as client:
        results.named[server.name] = [await named(client, one) for one in broken]
        results.first[server.name], results.every[server.name] = await whole(client, broken)


def _kubeconfig(lab: Lab, folder: Path) -> Path:
    """The reader's, for a server on this machine: without compression, which client libraries know as `disable-compression`."""
    document = yaml.safe_load(lab.kubeconfig("reader").read_text(encoding="utf-8"))
    document["clusters"][0]["cluster"]["disable-compression"] = True
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def report(results: Results, options: argparse.Namespace) -> dict[str, Any]:
    """Prints the tables; the figures of the last line."""
    print(f"\n{options.pods} pods, {options.broken} broken Deployments; tokens are bytes of text / 3 (/ 4)\n")
    print(f"{'question':34} {'server':15} {'calls':>6} {'tokens':>8} {'(/ 4)':>8} {'explained':>10}")
    rows = {
        "named: median of each broken one": {name: summed(told) for name, told in results.named.items()},
        "whole: one response": results.first,
        "whole: until all are explained": results.every,
    }
    for question, by_server in rows.items():
        for name, told in by_server.items():
            shown = told.figures()
            print(
                f"{question:34} {name:15} {shown['calls']:6} {shown['tokens']:8} {shown['tokens_by_4']:8} "
                f"{shown['explained']:4} of {options.broken}"
            )
    print(f"\n{'milliseconds p50 / p95':24}" + "".join(f"{name:>22}" for name in (OURS, PEER, PEER_BOUND)))
    latency: dict[str, dict[str, list[float]]] = {}
    for what in CALLS:
        for concurrency in CONCURRENCY:
            row = f"{what}, {concurrency} at once"
            print(f"{row:24}", end="")
            for name in (OURS, PEER, PEER_BOUND):
                p50, p95 = (results.timings.at(name, what, concurrency, share) for share in (0.5, 0.95))
                print(f"{p50:12.0f} / {p95:7.0f}" if p50 == p50 else f"{'-':>22}", end="")
                if p50 == p50:
                    latency.setdefault(row, {})[name] = [round(p50, 1), round(p95, 1)]
            print()
    print(f"{'memory MB idle / most':24}", end="")
    print("".join(f"{results.idle_mb[name]:12.0f} / {results.high_mb[name]:7.0f}" for name in (OURS, PEER, PEER_BOUND)))
    starts = {name: statistics.median(seconds) for name, seconds in results.starts.items()}
    print(f"{'start, seconds':24}" + "".join(f"{seconds:22.2f}" for seconds in starts.values()))
    figures: dict[str, Any] = {
        "pods": options.pods,
        "broken": options.broken,
        "questions": {question: {name: told.figures() for name, told in by_server.items()} for question, by_server in rows.items()},
        "latency_ms": latency,
        "idle_mb": {name: round(value) for name, value in results.idle_mb.items()},
        "high_mb": {name: round(value) for name, value in results.high_mb.items()},
        "start_seconds": {name: round(value, 2) for name, value in starts.items()},
        "errors": results.timings.errors[:10],
    }
    if results.load is not None and results.callbacks is not None:
        figures["load"] = load_report(results.load, results.callbacks, options.load)
    return figures


def missed(figures: dict[str, Any], broken: int) -> list[str]:
    """The aims that were missed, in words."""
    named, first, every = figures["questions"].values()
    ours, peers = first[OURS], first[PEER]
    at_once = figures["latency_ms"]["list, 1 at once"]
    aims = {
        f"{ours['calls']} calls, {ours['tokens']} tokens for the first causes": ours["calls"] <= CALLS_AIM
        and ours["tokens"] <= TOKENS_AIM
        and ours["explained"] > 0,
        f"the peer needs only {peers['tokens']} tokens for them": peers["tokens"] > PEER_TOKENS_FLOOR or broken < 25,
        f"{every[OURS]['explained']} of {broken} explained in all": every[OURS]["explained"] == broken,
        f"{every[OURS]['calls']} calls, {every[OURS]['tokens']} tokens for all causes": every[OURS]["calls"] <= CALLS_AIM
        and every[OURS]["tokens"] <= TOKENS_AIM,
        f"{named[OURS]['explained']} of {broken} explained by name": named[OURS]["explained"] == broken,
        f"a list takes {at_once[OURS][0]} ms, the peer's {at_once[PEER][0]}": at_once[OURS][0] < at_once[PEER][0],
        f"{figures['high_mb'][OURS]} MB at most, the peer {figures['high_mb'][PEER]}": figures["high_mb"][OURS] < figures["high_mb"][PEER],
        f"calls failed: {figures['errors']}": not figures["errors"],
    }
    if "load" in figures:
        load = figures["load"]
        aims[f"calls failed under load: {load['errors']}"] = not load["errors"]
        aims[f"{load['connections_left']} connections were left open"] = not load["connections_left"]
    return [words for words, reached in aims.items() if not reached]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.mcp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=1_000)
    parser.add_argument("--broken", type=int, default=25, help="Deployments of ten pods that are broken")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each timing")
    parser.add_argument("--load", type=float, default=0.0, metavar="SECONDS", help="then load our server with 64 clients for so long")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="the peer's binary, or the folder where npm put it (default: our cache)")
    options = parser.parse_args(arguments)
    if options.broken * crowd.REPLICAS > options.pods:
        parser.error(f"{options.pods} pods are {options.pods // crowd.REPLICAS} Deployments, of which {options.broken} cannot be broken")
    with tempfile.TemporaryDirectory() as name, Lab(find_or_build()) as lab:
        seconds = crowd.fill(lab, options.pods, options.broken)
        print(f"the cluster came to rest after {seconds:.0f} s", file=sys.stderr)
        results = asyncio.run(compare(lab, options, Path(name)))
    figures = report(results, options)
    failed = missed(figures, options.broken)
    for words in failed:
        print(f"missed: {words}")
    print(json.dumps(figures))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
