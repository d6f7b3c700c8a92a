"""`smokejumper mcp` over stdin and stdout in bad company, as `tests/mcp_server/test_robustness.py` has it over HTTP: arguments that nobody
should send, lines that are no messages, a cluster that dies, a credential that is replaced, a client that goes. Real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.cluster.fake_api import ENDLESS_PIECE, FakeApi, Reply, Seen, document, listing, pod, running, status
from tests.patience import WAIT_SECONDS, until

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
MAIN = "import sys; from oncall.cli import main; sys.exit(main())"
PODS = "/api/v1/pods"
REFUSAL_LIMIT = 4_000
LINE_LIMIT = 16 * 1024 * 1024
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Process:
    """A server and the two ends of its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._stdin, self._stdout, self._id = process, process.stdin, process.stdout, 0

    async def send(self, line: str) -> None:
        self._stdin.write(line.encode() + b"\n")
        await self._stdin.drain()

    async def begin(self, method: str, **params: Any) -> int:
        self._id += 1
        await self.send(json.dumps({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}))
        return self._id

    async def answer(self, number: int) -> dict[str, Any]:
        """The answer to a request; what is said to nobody in particular before it is passed over."""
        with anyio.fail_after(WAIT_SECONDS):
            while True:
                line = await self._stdout.readline()
                assert line, "the server ended"
                message: dict[str, Any] = json.loads(line)
                if message.get("id") == number:
                    return message

    async def call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Whether it was refused, and the text."""
        message = await self.answer(await self.begin("tools/call", name=tool, arguments=arguments))
        if "error" in message:
            return True, str(message["error"]["message"])
        result = message["result"]
        return bool(result.get("isError")), "\n".join(part["text"] for part in result["content"])

    async def hang_up(self) -> int:
        """The exit status after the client has gone."""
        self._stdin.close()
        with anyio.fail_after(WAIT_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def serving(api: FakeApi, folder: Path) -> AsyncIterator[Process]:
    with (folder / "stderr").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAIN, "--state", str(folder / "state"), "--kubeconfig", str(kubeconfig(api, folder, "first")), "mcp"),
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "HOME": str(folder)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LINE_LIMIT,
        )
    served = Process(process)
    try:
        assert "result" in await served.answer(await served.begin("initialize", **HELLO))
        await served.send('{"jsonrpc":"2.0","method":"notifications/initialized"}')
        yield served
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def kubeconfig(api: FakeApi, folder: Path, token: str) -> Path:
    path = folder / "kubeconfig"
    words = {
        "clusters": [{"name": "test", "cluster": {"server": api.url}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(words), encoding="utf-8")
    return path


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running() as api:
        api.reply("/version", document({"gitVersion": "v1.34.0"}))
        api.objects(PODS, "Pod", [pod("a")])
        yield api


async def test_what_nobody_should_send_is_refused_or_cut_and_the_server_goes_on(api: FakeApi, tmp_path: Path) -> None:
    api.reply("/api/v1/namespaces/ml/pods/a", document({"kind": "Pod", "apiVersion": "v1", **pod("a")}))
    api.reply("/api/v1/namespaces/ml/pods/a/log", Reply(200, b"2026-01-02T03:04:05Z begin ", endless=1_600 * ENDLESS_PIECE))
    huge = "x" * 1_000_000
    async with serving(api, tmp_path) as served:
        wrong: tuple[dict[str, Any], ...] = (
            {"namespace": huge},
            {huge: 1},
            {"nonsense": 1},
            {"limit": "many"},
            {"limit": 10**400},
            {"namespace": {"a": [[]]}},
        )
        for arguments in wrong:
            refused, text = await served.call("pods_list", arguments)
            assert refused
            assert "failed inside" not in text
            assert len(text) < REFUSAL_LIMIT
        for depth in (100, 1_000, 100_000):
            nested = "[" * depth + "]" * depth
            await served.send(
                f'{{"jsonrpc":"2.0","id":"deep","method":"tools/call","params":{{"name":"pods_list","arguments":{{"namespace":{nested}}}}}}}'
            )
        for line in ("", "no message", "{", "[]", '"x"', "\x00\x1b[2J", '{"jsonrpc":"2.0"}'):
            await served.send(line)
        assert "1 pods" in (await served.call("pods_list", {"problem_only": False}))[1]
        # One line of a hundred megabytes.
        refused, text = await served.call("logs_search", {"namespace": "ml", "pod": "a"})
        assert not refused, text
        assert "1 read from Pod/ml/a[main]" in text
        assert len(text) < 5_000
        assert await served.hang_up() == 0


async def test_a_cluster_that_dies_and_a_credential_that_is_replaced_are_read_again(api: FakeApi, tmp_path: Path) -> None:
    token = "first"

    def route(seen: Seen) -> Reply:
        known = seen.header("authorization") == [f"Bearer {token}"]
        return listing("Pod", [pod("a")]) if known else status(401, "Unauthorized", "expired")

    api.routes[PODS] = route
    async with serving(api, tmp_path) as served:
        assert "1 pods" in (await served.call("pods_list", {}))[1]
        port = api.port
        await api.stop()
        assert "unreachable" in (await served.call("pods_list", {}))[1]
        await api.start(port)
        assert "1 pods" in (await served.call("pods_list", {}))[1]
        token = "second"
        assert "unauthenticated" in (await served.call("pods_list", {}))[1]
        kubeconfig(api, tmp_path, token)
        assert "1 pods" in (await served.call("pods_list", {}))[1]


async def test_a_call_that_is_cancelled_or_whose_client_goes_asks_the_cluster_nothing_more(api: FakeApi, tmp_path: Path) -> None:
    never = asyncio.Event()
    full = listing("Pod", [pod("a")])
    api.reply(PODS, Reply(full.status, full.body, after=never))
    async with serving(api, tmp_path) as served:
        number = await served.begin("tools/call", name="pods_list", arguments={})
        await until("the cluster is asked", lambda: PODS in api.paths())
        await served.send(json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}))
        await until("the connection to the cluster is closed", lambda: not api.open)
        await served.begin("tools/call", name="pods_list", arguments={})
        await until("the cluster is asked again", lambda: api.paths().count(PODS) == 2)
        assert await served.hang_up() == 0
        await until("no connection is left", lambda: not api.open)
