"""Long work as a task, over HTTP by hand, as a client sends it that knows tasks; and nothing of it for clients that do not."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import httpx2
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from cluster.recorded import RecordedReader
from mcp_server.tasks import IDENTIFIER
from tests.mcp_server.issuer import running_issuer
from tests.mcp_server.serving import PUBLIC, WAIT_SECONDS, Served, serving

VERSION = "2026-07-28"
META = "io.modelcontextprotocol"
QUESTION = {"question": "what is wrong?"}


def ask(served: Served, method: str, params: dict[str, Any], *, knows: bool = True, token: str = "", name: str | None = None) -> Any:
    """The `result` or `error` of one request of the newer era."""
    capabilities: dict[str, Any] = {"extensions": {IDENTIFIER: {}}} if knows else {}
    meta = {f"{META}/protocolVersion": VERSION, f"{META}/clientCapabilities": capabilities, "progressToken": "p"}
    mirrored = params.get("name", params.get("taskId", "")) if name is None else name
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": method,
        "Mcp-Name": mirrored,
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    said = httpx2.post(served.address, json=body, headers=headers, timeout=WAIT_SECONDS).text
    lines = [line.removeprefix("data:").strip() for line in said.splitlines() if line.startswith("data:")] or [said]
    answer = next(message for message in map(json.loads, lines) if message.get("id") == 1)
    return answer.get("result", answer.get("error"))


def call(served: Served, tool: str, arguments: dict[str, Any], **how: Any) -> Any:
    return ask(served, "tools/call", {"name": tool, "arguments": arguments}, **how)


def settled(served: Served, task: str, **how: Any) -> Any:
    """The task once it is over."""
    until = time.monotonic() + WAIT_SECONDS
    while (found := ask(served, "tasks/get", {"taskId": task}, **how))["status"] == "working":
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_an_investigation_is_a_task_for_who_knows_tasks(reader: RecordedReader) -> None:
    with serving(reader) as served:
        begun = call(served, "investigate", QUESTION)
        assert begun["resultType"] == "task"
        assert begun["status"] == "working"
        assert {"ttlMs", "pollIntervalMs", "createdAt", "lastUpdatedAt"} <= set(begun)
        assert "result" not in begun
        done = settled(served, begun["taskId"])
        assert done["status"] == "completed"
        assert "Image does not exist" in done["result"]["content"][0]["text"]
        assert done["result"]["structuredContent"]["causes"]
        assert ask(served, "tasks/cancel", {"taskId": begun["taskId"]})["resultType"] == "complete"
        assert settled(served, begun["taskId"])["status"] == "completed"
        assert ask(served, "tasks/update", {"taskId": begun["taskId"]})["resultType"] == "complete"
        assert call(served, "pods_list", {})["resultType"] == "complete"
        assert ask(served, "tasks/get", {"taskId": begun["taskId"]}, name="task-other")["code"] == -32020
        assert ask(served, "tasks/get", {"taskId": "task-none"})["code"] == -32602


def test_who_does_not_know_tasks_gets_the_answer(reader: RecordedReader) -> None:
    with serving(reader) as served:
        assert call(served, "investigate", QUESTION, knows=False)["content"]
        refused = ask(served, "tasks/get", {"taskId": "task-1"}, knows=False)
        assert refused["code"] == -32021
        assert refused["data"]["requiredCapabilities"] == {"extensions": {IDENTIFIER: {}}}


def test_a_task_is_its_owners(reader: RecordedReader) -> None:
    with running_issuer() as issuer, serving(reader, issuer) as served:
        alice, mallory = issuer.token(PUBLIC), issuer.token(PUBLIC, sub="mallory")
        begun = call(served, "investigate", QUESTION, token=alice)
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            assert ask(served, method, {"taskId": begun["taskId"]}, token=mallory)["code"] == -32602
        assert settled(served, begun["taskId"], token=alice)["status"] == "completed"
        assert {caller.subject for caller in served.callers} == {"oidc:alice"}


def test_what_a_task_comes_to(reader: RecordedReader) -> None:
    stopped: list[bool] = []

    def prepare(server: MCPServer) -> None:
        @server.tool(name="endless")
        async def endless() -> str:
            try:
                await anyio.sleep_forever()
            finally:
                stopped.append(True)
            return "never"

        @server.tool(name="refuses")
        async def refuses() -> str:
            raise ToolError("not today")

        @server.tool(name="breaks")
        async def breaks() -> str:
            raise MCPError(-32000, "out of order")

    with serving(reader, prepare=prepare, long_work=frozenset({"endless", "refuses", "breaks"})) as served:
        endless = call(served, "endless", {})["taskId"]
        assert ask(served, "tasks/get", {"taskId": endless})["status"] == "working"
        assert ask(served, "tasks/cancel", {"taskId": endless}) == {"resultType": "complete"} | _meta(served)
        assert settled(served, endless)["status"] == "cancelled"
        assert stopped == [True]
        refused = settled(served, call(served, "refuses", {})["taskId"])
        assert (refused["status"], refused["result"]["isError"]) == ("completed", True)
        broken = settled(served, call(served, "breaks", {})["taskId"])
        assert (broken["status"], broken["error"]["code"]) == ("failed", -32000)
        call(served, "endless", {})
    # The server's end is a running task's end.
    assert stopped == [True, True]


def _meta(served: Served) -> dict[str, Any]:
    """What the SDK stamps on every result."""
    return {"_meta": call(served, "pods_list", {}, knows=False)["_meta"]}
