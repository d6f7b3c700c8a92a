"""Our MCP server beside `kubernetes-mcp-server` from npm, on one real cluster of the lab: tokens, calls, latency, memory and start.

    python -m benchmarks.mcp --pods 1000 --rounds 3 --load 60

The cluster holds Deployments of ten pods, some of them broken (`benchmarks.crowd`). Two questions are asked. *Named*: "Deployment X is
not available; why?", for each broken one. *Whole*: "what is broken in this cluster, and why?". An answer counts from the response that
holds the Deployment's name and the reason. The peer is asked as somebody would who knows where each fault shows: named, the Deployment's
pods by label, then one pod's events, its log or itself; whole, all warning events of the cluster, then the log or the status of one pod
for each Deployment whose reason no event gives. A token is three bytes of text (four are given too); text is what a model reads, and
the same facts in the structured channel are counted apart.

Timings take turns, so that a busy machine is busy for all. The peer runs twice: as it is, held by its client library to five requests
a second, and unbound. Both kubeconfigs ask for answers without compression. `--load SECONDS` puts 64 clients with mixed calls on our
server, one in twenty of them hung up, and reports the longest that a callback held the event loop (CPU time) and how long a client that
asks for nothing waits meanwhile. The last line is one JSON object. Exit 1 when a call failed, a broken Deployment was not explained, or an
aim of the table was missed. Longer than most modules: what is asked of the one server and of the other stands side by side, so that a
reader can judge whether they are asked the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from benchmarks import crowd
from benchmarks.callbacks import CALLBACKS, Callbacks, timed
from benchmarks.crowd import Broken
from benchmarks.servers import UNBOUND, Client, Reply, Server, find_peer, our_command, peer_command, serving, start_seconds
from tests.lab.build import find_or_build
from tests.lab.lab import Lab

OURS, PEER, PEER_BOUND = "smokejumper", "peer, unbound", "peer"
LISTEN_OURS = ("--http", "127.0.0.1:PORT")
LISTEN_PEER = ("--port", "PORT", "--bind-address", "127.0.0.1")
CONCURRENCY = (1, 8)
CLIENTS = 64
CALLS_AIM, TOKENS_AIM, PEER_TOKENS_FLOOR = 2, 3_000, 40_000
# A cell of the table ends after so many calls, or after so long.
CALLS = {"get": 60, "list": 24, "diagnose": 24}
CELL_SECONDS = 12.0
HANG_UP_SHARE = 0.05
HANG_UP_SECONDS = 0.05
PING_EVERY_SECONDS = 0.05
DRAIN_SECONDS = 90.0
# So many characters after its name, a reason still is that object's: an event of the peer, a cause of ours.
NEAR = 700

Call = tuple[str, Mapping[str, Any]]


@dataclass
class Told:
    """What a question cost: calls, bytes of text and of the structured channel, and how many of the broken were explained."""

    calls: int = 0
    text_bytes: int = 0
    structured_bytes: int = 0
    explained: int = 0

    def add(self, reply: Reply) -> str:
        if reply.error:
            raise RuntimeError(f"a call failed: {reply.error}")
        self.calls += 1
        self.text_bytes += len(reply.text.encode())
        self.structured_bytes += reply.structured_bytes
        return reply.text

    @property
    def tokens(self) -> int:
        return -(-self.text_bytes // 3)

    def figures(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "tokens": self.tokens,
            "tokens_by_4": -(-self.text_bytes // 4),
            "structured_tokens": -(-self.structured_bytes // 3),
            "explained": self.explained,
        }


def explains(text: str, one: Broken) -> bool:
    """Whether a text about many things holds the object with its reason: on the same line, or soon after it and before another object."""
    if any(one.name in line and gives_reason(line, one) for line in text.splitlines()):
        return True
    lowered = text.lower()
    return any(gives_reason(_about(lowered[found.start() : found.start() + NEAR], one), one) for found in re.finditer(one.name, lowered))


def _about(text: str, one: Broken) -> str:
    """What is said before another of the crowd is named."""
    others = (found.start() for found in crowd.NAME.finditer(text) if found[0] != one.name)
    return text[: next(others, len(text))]


def gives_reason(text: str, one: Broken) -> bool:
    """Whether a text about this object alone holds the reason."""
    return any(reason.replace("NAME", one.name).lower() in text.lower() for reason in one.fault.reasons)


# ---- what is asked


async def ours_named(client: Client, one: Broken) -> Told:
    told = Told()
    text = told.add(await client.call("workload_diagnose", {"kind": "Deployment", "namespace": one.namespace, "name": one.name}))
    told.explained = one.name in text and gives_reason(text, one)
    return told


async def peer_named(client: Client, one: Broken) -> Told:
    told = Told()
    pods = told.add(await client.call("pods_list_in_namespace", {"namespace": one.namespace, "labelSelector": f"app={one.name}"}))
    told.explained = gives_reason(pods, one)
    if not told.explained:
        told.explained = gives_reason(told.add(await client.call(*_look(one, _pod(pods, one)))), one)
    return told


async def ours_whole(client: Client, broken: Sequence[Broken]) -> tuple[Told, Told]:
    first = Told()
    text = first.add(await client.call("investigate", {"question": "What is broken in this cluster, and why?"}))
    left = [one for one in broken if not explains(text, one)]
    first.explained = len(broken) - len(left)
    every = Told(first.calls, first.text_bytes, first.structured_bytes, first.explained)
    for one in left:
        named = await ours_named(client, one)
        every.calls += named.calls
        every.text_bytes += named.text_bytes
        every.structured_bytes += named.structured_bytes
        every.explained += named.explained
    return first, every


async def peer_whole(client: Client, broken: Sequence[Broken]) -> tuple[Told, Told]:
    first = Told()
    events = first.add(await client.call("events_list", {"fieldSelector": "type=Warning"}))
    left = [one for one in broken if not explains(events, one)]
    first.explained = len(broken) - len(left)
    every = Told(first.calls, first.text_bytes, first.structured_bytes, first.explained)
    for one in left:
        text = every.add(await client.call(*_look(one, _pod(events, one))))
        every.explained += gives_reason(text, one)
    return first, every


def _look(one: Broken, pod: str) -> Call:
    """The peer's call that shows this fault best."""
    match one.fault.where:
        case "events":
            return "events_list", {"namespace": one.namespace, "fieldSelector": f"involvedObject.name={pod}"}
        case "log":
            return "pods_log", {"namespace": one.namespace, "name": pod, "previous": True}
        case _:
            return "pods_get", {"namespace": one.namespace, "name": pod}


def _pod(text: str, one: Broken) -> str:
    found = next((word for word in text.split() if word.startswith(f"{one.name}-")), None)
    if found is None:
        raise RuntimeError(f"no pod of {one.name} in {text[:200]!r}")
    return found


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


# ---- under load


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
    """64 sessions with mixed calls until the time is over; then the server's connections to the API server are waited for."""
    load = Load()

    async def one(client: Client, chance: random.Random) -> None:
        while time.monotonic() < deadline:
            call = _any_call(chance, broken, pod)
            if chance.random() < HANG_UP_SHARE:
                try:
                    await asyncio.wait_for(client.call(*call), HANG_UP_SECONDS)
                except TimeoutError:
                    load.hung_up += 1
                continue
            reply = await client.call(*call)
            load.seconds.append(reply.seconds)
            if reply.error:
                load.errors.append(f"{call[0]}: {reply.error}")

    async def watch() -> None:
        while time.monotonic() < deadline:
            load.memory_mb.append(server.memory_mb()[0])
            await asyncio.sleep(1)

    async def ping(client: Client) -> None:
        while time.monotonic() < deadline:
            load.pings.append(await client.ping())
            await asyncio.sleep(PING_EVERY_SECONDS)

    async with AsyncExitStack() as sessions, asyncio.TaskGroup() as tasks:
        clients = [await sessions.enter_async_context(Client(server)) for _ in range(CLIENTS)]
        deadline = time.monotonic() + seconds
        tasks.create_task(watch())
        tasks.create_task(ping(await sessions.enter_async_context(Client(server))))
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


def _sum(told: Sequence[Told]) -> Told:
    """The median question's tokens and the largest number of calls, with all that were explained."""
    ordered = sorted(told, key=lambda one: one.text_bytes)
    middle = ordered[len(ordered) // 2]
    return Told(max(one.calls for one in told), middle.text_bytes, middle.structured_bytes, sum(one.explained for one in told))


def report(results: Results, options: argparse.Namespace) -> dict[str, Any]:
    """Prints the tables; the figures of the last line."""
    print(f"\n{options.pods} pods, {options.broken} broken Deployments; tokens are bytes of text / 3 (/ 4)\n")
    print(f"{'question':34} {'server':15} {'calls':>6} {'tokens':>8} {'(/ 4)':>8} {'explained':>10}")
    rows = {
        "named: median of each broken one": {name: _sum(told) for name, told in results.named.items()},
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
        figures["load"] = _load_report(results.load, results.callbacks, options.load)
    return figures


def _at(seconds: Sequence[float], share: float) -> float:
    """A percentile; NaN where nothing was answered in so short a time."""
    ordered = sorted(seconds) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _load_report(load: Load, callbacks: Callbacks, seconds: float) -> dict[str, Any]:
    p50, p99 = (_at(load.seconds, share) for share in (0.5, 0.99))
    ping_p50, ping_p99, ping_max = (_at(load.pings, share) * 1_000 for share in (0.5, 0.99, 1.0))
    quarters = [round(load.quarter_mb(number)) for number in range(4)]
    print(f"\n{CLIENTS} clients for {seconds:g} s: {len(load.seconds)} calls, {load.hung_up} hung up, {len(load.errors)} errors")
    print(f"  p50 {p50:.2f} s, p99 {p99:.2f} s; memory by quarter {quarters} MB; {load.connections_left} connections left")
    print(f"  a request that asks for nothing meanwhile: p50 {ping_p50:.0f} ms, p99 {ping_p99:.0f} ms, longest {ping_max:.0f} ms")
    print(f"  event loop: {callbacks.over} of {callbacks.count} callbacks over 100 ms of CPU, the longest {callbacks.longest_ms:.0f} ms")
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
        "longest_callback_ms": round(callbacks.longest_ms),
    }


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
