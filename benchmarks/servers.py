"""MCP servers as processes of their own, and a client that is thin enough not to be what is measured.

Ours is `smokejumper mcp`, the other is the npm package `kubernetes-mcp-server`, which brings a binary. Both are asked in the same way:
JSON-RPC over streamable HTTP, the handshake of the older era, which both speak.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import platformdirs

PEER = "kubernetes-mcp-server"
PEER_VERSION = "0.0.67"
# The client library under the peer allows five requests a second unless these say otherwise.
UNBOUND = {"KUBE_CLIENT_QPS": "1000", "KUBE_CLIENT_BURST": "2000"}
ROOT = Path(__file__).parent.parent
MAIN = "import sys; from oncall.cli import main; sys.exit(main())"
START_SECONDS = 120.0
# Long: a call under load waits for those before it.
CALL_SECONDS = 300.0
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


@dataclass(frozen=True)
class Reply:
    """What a call brought. `text` is what a model reads, `structured_bytes` the size of the other channel, `error` says what failed."""

    text: str
    structured_bytes: int
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Server:
    """A running server. `pid` is the process that serves."""

    name: str
    url: str
    pid: int

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory now and at most, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        now, high = (re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE) for field in ("VmRSS", "VmHWM"))
        assert now is not None
        assert high is not None
        return int(now[1]) / 1024, int(high[1]) / 1024

    def connections_to(self, port: int) -> int:
        """How many TCP connections the process holds to a port of this machine."""
        links = (_link(path) for path in Path(f"/proc/{self.pid}/fd").iterdir())
        held = {link[8:-1] for link in links if link.startswith("socket:[")}
        rows = (line.split() for line in Path(f"/proc/{self.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:])
        return sum(row[2].endswith(f":{port:04X}") and row[9] in held for row in rows)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        # Closed since it was listed.
        return ""


class Client:
    """One session with a server. Use in `async with`."""

    def __init__(self, server: Server) -> None:
        self._http = httpx2.AsyncClient(timeout=CALL_SECONDS, headers={"Accept": "application/json, text/event-stream"})
        self._url = server.url
        self._id = 0

    async def __aenter__(self) -> Client:
        response = await self._post("initialize", INITIALIZE)
        response.raise_for_status()
        if session := response.headers.get("mcp-session-id"):
            self._http.headers["mcp-session-id"] = session
        self._http.headers["mcp-protocol-version"] = str(INITIALIZE["protocolVersion"])
        await self._http.post(self._url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Reply:
        """One tool call; the clock stops when the whole answer is here. Faults are in `error`."""
        began = time.perf_counter()
        response = await self._post("tools/call", {"name": tool, "arguments": dict(arguments)})
        seconds = time.perf_counter() - began
        if response.status_code != 200:
            return Reply("", 0, seconds, f"HTTP {response.status_code}: {response.text[:200]}")
        message = _message(response)
        if "error" in message:
            return Reply("", 0, seconds, str(message["error"])[:300])
        result = message["result"]
        text = "\n".join(part.get("text", "") for part in result["content"])
        structured = result.get("structuredContent")
        size = len(json.dumps(structured, separators=(",", ":")).encode()) if structured is not None else 0
        return Reply(text, size, seconds, text[:300] if result.get("isError") else "")

    async def ping(self) -> float:
        """Seconds until a request that asks for nothing is answered: what others' work keeps it waiting."""
        began = time.perf_counter()
        response = await self._post("ping", {})
        response.raise_for_status()
        return time.perf_counter() - began

    async def _post(self, method: str, parameters: Mapping[str, Any]) -> httpx2.Response:
        self._id += 1
        return await self._http.post(self._url, json={"jsonrpc": "2.0", "id": self._id, "method": method, "params": parameters})


def _message(response: httpx2.Response) -> dict[str, Any]:
    """The answer in a body that is JSON, or a stream of events of which the last is the answer."""
    if "text/event-stream" not in response.headers.get("content-type", ""):
        document: dict[str, Any] = response.json()
        return document
    data = [line[5:] for line in response.text.splitlines() if line.startswith("data:") and line[5:].strip()]
    last: dict[str, Any] = json.loads(data[-1])
    return last


def find_peer(given: Path | None) -> Path:
    """The peer's binary: the file or npm folder that is given, else what npm puts into our cache. FileNotFoundError says what to do."""
    folder = given or platformdirs.user_cache_path("smokejumper", appauthor=False) / "peer" / PEER_VERSION
    if folder.is_file():
        return folder
    found = _binary(folder)
    if found is None and given is None and (npm := shutil.which("npm")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), f"{PEER}@{PEER_VERSION}"], check=True
        )
        found = _binary(folder)
    if found is None:
        raise FileNotFoundError(f"no {PEER} below {folder}. Install npm, or pass --peer with the folder of `npm install {PEER}`.")
    return found


def _binary(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.glob(f"node_modules/{PEER}-*/bin/{PEER}-*")) if path.is_file()), None)


def our_command(state: Path, kubeconfig: Path) -> list[str]:
    return [sys.executable, "-c", MAIN, "--state", str(state), "--kubeconfig", str(kubeconfig), "mcp"]


def peer_command(binary: Path, kubeconfig: Path) -> list[str]:
    return [str(binary), "--kubeconfig", str(kubeconfig), "--read-only"]


def environment(**more: str) -> dict[str, str]:
    """What a server is started with: nothing of ours that could change it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "SMOKEJUMPER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def serving(name: str, command: list[str], listen: tuple[str, ...], **more: str) -> Iterator[Server]:
    """A server over HTTP. `listen` are the arguments that say where, with PORT in place of a free port."""
    port = _free_port()
    arguments = [argument.replace("PORT", str(port)) for argument in listen]
    with subprocess.Popen([*command, *arguments], env=environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            yield Server(name, f"http://127.0.0.1:{port}/mcp", process.pid)
        finally:
            process.terminate()


def start_seconds(command: list[str], **more: str) -> float:
    """From the start of the process to its answer to `initialize` over stdio."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, env=environment(**more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}) + "\n")
        process.stdin.flush()
        answered = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.kill()
    if '"result"' not in answered:
        raise RuntimeError(f"{command[0]} did not answer initialize but {answered[:200]!r}")
    return seconds


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} does not listen (exit status {process.returncode})") from error
            time.sleep(0.02)
        else:
            return
