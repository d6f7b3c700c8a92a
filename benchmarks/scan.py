"""How long one diagnosis of a whole cluster takes in a fresh process, and how much memory, beside merely fetching the same bytes.

    python -m benchmarks.scan --pods 10000 --broken 20

The cluster is `benchmarks.synthetic` in a process of its own. Both measurements start a new interpreter and end with its exit, so
imports count. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# The lists of which the synthetic cluster has objects: what a fetch of "the same bytes" reads.
FETCHED = (
    "/api/v1/pods",
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/events",
    "/api/v1/services",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
)
PAGE = 500
COMMAND = "import sys; from oncall.cli import main; sys.exit(main())"


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


def fetch(url: str) -> int:
    """Every page of every list, read and thrown away. The bytes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    total = 0
    for path in FETCHED:
        token = ""
        while True:
            connection.request("GET", f"{path}?limit={PAGE}{token}")
            body = connection.getresponse().read()
            total += len(body)
            start = body.find(b'"continue":"', 0, 300)
            if start < 0:
                break
            token = "&continue=" + body[start + 12 : body.index(b'"', start + 12)].decode()
    connection.close()
    return total


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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=20, help="Deployments of ten pods that are broken")
    parser.add_argument("--fetch", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.fetch:
        print(fetch(options.fetch))
        return 0
    with tempfile.TemporaryDirectory() as name, synthetic(options.pods, options.broken) as url:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig(url, Path(name)))}
        fetched = measured([sys.executable, "-m", "benchmarks.scan", "--fetch", url], environment)
        command = [sys.executable, "-c", COMMAND, "diagnose", "--all-namespaces", "--output", "json"]
        diagnosed = measured(command, environment)
    document = json.loads(diagnosed.output)
    classes = sorted(cause["class"] for cause in document["causes"])
    print(f"{options.pods} pods, {int(fetched.output):,} bytes; fetch only {fetched.seconds:.2f} s, {fetched.peak_rss_mb:.0f} MB")
    print(f"diagnose -A {diagnosed.seconds:.2f} s ({diagnosed.cpu_seconds:.2f} s of CPU), {diagnosed.peak_rss_mb:.0f} MB at most")
    for kind in dict.fromkeys(classes):
        print(f"  {classes.count(kind):4} {kind}")
    figures = {
        "pods": options.pods,
        "broken": options.broken,
        "seconds": round(diagnosed.seconds, 2),
        "cpu_seconds": round(diagnosed.cpu_seconds, 2),
        "fetch_seconds": round(fetched.seconds, 2),
        "peak_rss_mb": round(diagnosed.peak_rss_mb),
        "fetch_peak_rss_mb": round(fetched.peak_rss_mb),
        "causes": len(classes),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
