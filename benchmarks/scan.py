"""How long one diagnosis of a whole cluster takes in a fresh process, and how much memory, beside merely fetching the same bytes.

    python -m benchmarks.scan --pods 10000 --broken 25 --runs 5

The cluster is `benchmarks.synthetic` in a process of its own. Each measurement starts a new interpreter and ends with its exit, so
imports count. "Fetch only" lists the same kinds with the same client, discovery, paging and parallelism, and decodes nothing; the bare
socket reads the same pages with the standard library's HTTP client. The runs take turns, so that a busy machine is busy for all, and
each command runs once before, as an installed program has its bytecode. Medians are printed; the last line is one JSON object, in which
`seconds`, `cpu_seconds` and `peak_rss_mb` are those of the diagnosis and `causes` is how many it named.
Exit 1 when a broken workload was not found, anything else was accused, or a limit was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.synthetic import broken_workloads

# The lists of which the synthetic cluster has objects.
FILLED = (
    "/api/v1/pods",
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/events",
    "/api/v1/services",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
)
PAGE = 500
PARALLEL = 8
SECONDS_LIMIT = 5.0
MEMORY_LIMIT_MB = 400.0
FETCHES_LIMIT = 3.0
# The limits are promised for a cluster of this size.
PROMISED_PODS = 10_000
DIAGNOSE = "import sys; from oncall.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Measured:
    """One child process. `peak_rss_mb` is what the kernel saw at most, in MiB."""

    output: str
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float


@contextlib.contextmanager
def synthetic(pods: int, broken: int) -> Iterator[str]:
    """The URL of a running synthetic cluster."""
    command = [sys.executable, "-m", "benchmarks.synthetic", "--pods", str(pods), "--broken", str(broken)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def measured(command: list[str], environment: dict[str, str]) -> Measured:
    """Run to the end. Raises CalledProcessError when it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        return Measured(output.read(), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def fetch() -> int:
    """Every page of every kind that a diagnosis lists, through our connection, decoded into nothing. The bytes."""
    import anyio

    from cluster.connection import Connection
    from cluster.discovery import ACCEPT, PATH, decode_catalogue
    from cluster.fleet import Fleet
    from cluster.kinds import CUSTOM_KINDS, KINDS, Kind

    async def pages(connection: Connection, kind: Kind) -> int:
        total, token = 0, ""
        while True:
            query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            body = (await connection.get(kind.address(), query)).body
            total += len(body)
            token = _token(body)
            if not token:
                return total

    async def everything() -> int:
        totals: list[int] = []
        limiter = anyio.CapacityLimiter(PARALLEL)
        async with await Fleet.find(os.environ, Path.home(), lambda: datetime.now(UTC)).connect() as connection:
            served = decode_catalogue((await connection.get(PATH, accept=ACCEPT)).body)

            async def one(kind: Kind) -> None:
                async with limiter:
                    totals.append(await pages(connection, kind))

            async with anyio.create_task_group() as tasks:
                for kind in (*KINDS, *CUSTOM_KINDS):
                    for found in served.served(kind) if kind.plural != "endpoints" else ():
                        tasks.start_soon(one, found)
        return sum(totals)

    return asyncio.run(everything())


def fetch_bare(url: str) -> int:
    """The lists that hold anything, over one plain socket. The bytes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    total = 0
    for path in FILLED:
        token = ""
        while True:
            connection.request("GET", f"{path}?limit={PAGE}" + (f"&continue={token}" if token else ""))
            body = connection.getresponse().read()
            total += len(body)
            token = _token(body)
            if not token:
                break
    connection.close()
    return total


def _token(body: bytes) -> str:
    """The continue token at the head of a page, "" on the last."""
    start = body.find(b'"continue":"', 0, 300)
    return body[start + 12 : body.index(b'"', start + 12)].decode() if start >= 0 else ""


def kubeconfig(url: str, folder: Path) -> Path:
    path = folder / "kubeconfig"
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "synthetic",
        "clusters": [{"name": "synthetic", "cluster": {"server": url}}],
        "users": [{"name": "reader", "user": {"token": "synthetic"}}],
        "contexts": [{"name": "synthetic", "context": {"cluster": "synthetic", "user": "reader"}}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def accusations(document: dict[str, Any], pods: int, broken: int) -> tuple[list[str], list[str]]:
    """The broken workloads that no cause names, and the causes that name something else."""
    wanted = {f"{namespace}/{name}" for namespace, name in broken_workloads(pods, broken)}
    accused = [cause["object"] for cause in document["causes"]]
    # A missing object is accused by its own name, which begins with that of the workload that misses it.
    named = {f"{item['namespace']}/{item['name']}".removesuffix("-settings"): item for item in accused}
    return sorted(wanted - named.keys()), sorted(f"{item['kind']} {key}" for key, item in named.items() if key not in wanted)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=PROMISED_PODS)
    parser.add_argument("--broken", type=int, default=25, help="Deployments of ten pods that are broken")
    parser.add_argument("--runs", type=int, default=1, help="of each command; medians are printed")
    parser.add_argument("--fetch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fetch-bare", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.fetch or options.fetch_bare:
        print(fetch() if options.fetch else fetch_bare(options.fetch_bare))
        return 0
    with tempfile.TemporaryDirectory() as name, synthetic(options.pods, options.broken) as url:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["KUBECONFIG"] = str(kubeconfig(url, Path(name)))
        commands = {
            "bare": [sys.executable, "-m", "benchmarks.scan", "--fetch-bare", url],
            "fetch": [sys.executable, "-m", "benchmarks.scan", "--fetch"],
            "diagnose": [sys.executable, "-c", DIAGNOSE, "diagnose", "--all-namespaces", "--output", "json"],
        }
        for command in commands.values():
            measured(command, environment)
        runs = [{what: measured(command, environment) for what, command in commands.items()} for _ in range(options.runs)]
    documents = [json.loads(run["diagnose"].output) for run in runs]
    missed, others = accusations(documents[-1], options.pods, options.broken)
    figures: dict[str, Any] = {"pods": options.pods, "broken": options.broken, "bytes": int(runs[0]["fetch"].output)}
    for what, title, prefix in (("bare", "bare socket", "bare_"), ("fetch", "fetch only", "fetch_"), ("diagnose", "diagnose -A", "")):
        seconds = statistics.median(run[what].seconds for run in runs)
        cpu_seconds = statistics.median(run[what].cpu_seconds for run in runs)
        peak = max(run[what].peak_rss_mb for run in runs)
        print(f"{title:12} {seconds:6.2f} s, {cpu_seconds:6.2f} s of CPU, {peak:6.0f} MB at most")
        named = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "peak_rss_mb": round(peak)}
        figures |= {prefix + name: value for name, value in named.items()}
    figures["times_fetch"] = round(statistics.median(run["diagnose"].seconds / run["fetch"].seconds for run in runs), 2)
    classes = sorted(str(cause["class"]) for cause in documents[-1]["causes"])
    figures |= {"causes": len(classes), "found": options.broken - len(missed), "missed": missed, "others_accused": others}
    for kind in dict.fromkeys(classes):
        print(f"  {classes.count(kind):4} {kind}")
    over = [] if options.pods > PROMISED_PODS else _over(figures)
    print(f"{figures['found']} of {options.broken} found, {len(others)} others accused, {figures['times_fetch']} times fetch only")
    for text in over:
        print(f"limit missed: {text}")
    print(json.dumps(figures))
    return 1 if missed or others or over else 0


def _over(figures: dict[str, Any]) -> list[str]:
    """The limits that were missed, in words."""
    return [
        f"{value} {unit} is over {limit:g}"
        for value, unit, limit in (
            (figures["seconds"], "seconds", SECONDS_LIMIT),
            (figures["peak_rss_mb"], "MB", MEMORY_LIMIT_MB),
            (figures["times_fetch"], "times fetch only", FETCHES_LIMIT),
        )
        if value > limit
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
