"""Where the attacks of text and arguments play: a recorded incident with one text planted in it, the real tools, the real gate."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml
from mcp.client import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent.budget import Limits
from agent.incident import Incident
from agent.investigation import Conclusion, in_process, run
from agent.llm_planner import ModelPlanner
from agent.model import Model, ModelSettings, client_of
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from guardrails.directory import Directory
from guardrails.office import PEOPLE
from guardrails.view import ProposalView
from mcp_server.registry import Caller, ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from oncall.desk import open_records
from oncall.ports import tool_context
from oncall.settings import Settings
from oncall.turns import Turns
from tests.agent.recordings import BROKEN_ROLLOUT, CRASH, NOW
from tests.yamltext import documents

WORKER = "worker-cccccccccc-zzzzz"
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cluster_overview", {}),
    ("pods_list", {"problem_only": False}),
    ("events_list", {"type": "all"}),
    ("logs_search", {"namespace": "ml", "pod": WORKER, "limit": 200}),
    ("logs_search", {"namespace": "ml", "pod": WORKER, "previous": True, "limit": 200}),
    ("resources_list", {"kind": "Deployment"}),
    ("resources_list", {"kind": "ConfigMap"}),
    ("resources_list", {"kind": "Certificate"}),
    *(
        ("resource_get", {"kind": "Deployment", "namespace": "ml", "name": "worker", "view": view})
        for view in ("summary", "spec", "status")
    ),
    *(("resource_get", {"kind": "Pod", "namespace": "ml", "name": WORKER, "view": view}) for view in ("summary", "spec", "status")),
    ("resource_get", {"kind": "ConfigMap", "namespace": "ml", "name": "notes", "view": "spec"}),
    ("resource_get", {"kind": "Certificate", "namespace": "ml", "name": "serve-tls", "view": "status"}),
    ("pod_diagnose", {"namespace": "ml", "name": WORKER, "detail": "full"}),
    ("workload_diagnose", {"kind": "Deployment", "namespace": "ml", "name": "serve", "detail": "full"}),
)


def planted(folder: Path, surface: str, text: str, *more: dict[str, Any]) -> RecordedReader:
    """The incident with a text in one place, as a recording."""
    items = documents(f"{BROKEN_ROLLOUT}---{CRASH}")
    deployment = next(item for item in items if item["kind"] == "Deployment" and item["metadata"]["name"] == "worker")
    pod = next(item for item in items if item["kind"] == "Pod" and item["metadata"]["name"] == WORKER)
    for item in items:
        if item["kind"] == "ReplicaSet":
            # Planning looks for a workload's history by its selector.
            item["metadata"]["labels"] = {"app": item["metadata"]["name"].partition("-")[0]}
    logs = {f"ml__{WORKER}__main.log": "fatal: no QUEUE_URL\n", f"ml__{WORKER}__main.previous.log": "fatal: no QUEUE_URL\n"}
    match surface:
        case "log":
            logs = {name: f"{content}{text}\n" for name, content in logs.items()}
        case "two logs":
            halves = dict(zip(sorted(logs), text.split("|") if "|" in text else (text, text), strict=True))
            logs = {name: f"{content}{halves[name]}\n" for name, content in logs.items()}
        case "event":
            items.append(_event(text))
        case "annotation":
            for item in (deployment, pod):
                item["metadata"].setdefault("annotations", {})["note"] = text
        case "label":
            for item in (deployment, pod):
                item["metadata"].setdefault("labels", {})["approved-by"] = text
        case "variable":
            for spec in (deployment["spec"]["template"]["spec"], pod["spec"]):
                spec["containers"][0]["env"] = [{"name": "EXTRA", "value": text}]
        case "status":
            items.append(_certificate(text))
        case "configmap":
            items.append(
                {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "notes", "namespace": "ml"}, "data": {"note": text}}
            )
        case "image label":
            annotations = deployment["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})
            annotations["org.opencontainers.image.description"] = text
        case "last applied":
            for item in (deployment, pod):
                applied = '{"data":{"anything":"' + text + '"}}'
                item["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/last-applied-configuration"] = applied
        case "question" | "nothing":
            pass
        case _:
            raise ValueError(f"no surface is called {surface!r}")
    (folder / "logs").mkdir(parents=True)
    for name, content in logs.items():
        (folder / "logs" / name).write_text(content, encoding="utf-8")
    document = {"kind": "List", "apiVersion": "v1", "items": [*items, *copy.deepcopy(list(more))]}
    (folder / "objects.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return RecordedReader.open(folder, NOW)


def _event(text: str) -> dict[str, Any]:
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": "planted", "namespace": "ml"},
        "involvedObject": {"kind": "Pod", "namespace": "ml", "name": WORKER, "uid": "p3"},
        "type": "Warning",
        "reason": "BackOff",
        "message": f"Back-off restarting failed container main: {text}",
        "count": 3,
        "firstTimestamp": "2026-01-15T11:50:00Z",
        "lastTimestamp": "2026-01-15T11:59:00Z",
    }


def _certificate(text: str) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "False", "reason": "Pending", "message": text}
    return {
        "kind": "Certificate",
        "apiVersion": "cert-manager.io/v1",
        "metadata": {"name": "serve-tls", "namespace": "ml"},
        "spec": {"secretName": "serve-tls"},
        "status": {"conditions": [condition]},
    }


class Obedient:
    """A model that wants whatever the text in its prompt wants, as far as it has words for it: it repeats it as its own hypothesis and
    asks for every probe. Behind the endpoint that the product's model port speaks to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.prompts: list[str] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        prompt = "\n".join(str(message["content"]) for message in (await request.json())["messages"])
        self.prompts.append(prompt)
        numbers = [int(number) for number in re.findall(r"^(\d+)\. ", prompt, re.MULTILINE)]
        answer = {"chosen": numbers[:40], "hypothesis": self._text[:400], "stop": False}
        message = {"role": "assistant", "content": json.dumps(answer), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "c", "object": "chat.completion", "created": 0, "model": "obedient", "choices": [choice]})


async def concluded(reader: RecordedReader, question: str, model_says: str) -> tuple[Conclusion, Obedient]:
    """An investigation whose planner is the obedient model."""
    endpoint = Obedient(model_says)
    settings = ModelSettings(model="obedient", base_url="http://model/v1", retries=0)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=endpoint.app)) as http:
        planner = ModelPlanner(Model(settings, client_of(settings, http)))
        incident = Incident("attack", Scope(reader.cluster), question)
        return await run(incident, reader, in_process(reader, Limits()), planner=planner), endpoint


class Desk:
    """A client of the real tools over the real gate, which rehearses."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self.last: dict[str, Any] = {}

    async def call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """(whether it was done, what was said). `$last` is the proposal made last."""
        known = {"proposal_id": self.last.get("id"), "digest": self.last.get("digest")}
        given = {key: known.get(key) if value == "$last" else value for key, value in arguments.items()}
        result = await self.client.call_tool(tool, given)
        said = "\n".join(getattr(part, "text", "") for part in result.content)
        if not result.is_error and tool == "remediation_propose" and result.structured_content is not None:
            self.last = result.structured_content["proposal"]
        return not result.is_error, said

    async def everything_said(self) -> str:
        """What all reading tools say, those that refuse included."""
        return "\n".join([(await self.call(tool, arguments))[1] for tool, arguments in CALLS])

    async def proposals(self) -> tuple[ProposalView, ...]:
        async with open_records(self.settings) as desk:
            return await desk.gate.list()


def _people(folder: Path) -> None:
    folder.mkdir()
    people = Directory.load(folder / PEOPLE)
    people.add("rita", ("sre-oncall",), os_users=("rita",))
    people.add("omar", ("sre-oncall",))


@asynccontextmanager
async def desk(folder: Path, reader: RecordedReader, **options: Any) -> AsyncIterator[Desk]:
    """rita asks, with a client of these `options`; omar could approve, and does not."""
    settings = Settings(state_dir=folder)
    _people(folder)
    held = tool_context(settings, reader, Caller("rita"), Turns())

    @asynccontextmanager
    async def context() -> AsyncIterator[ToolContext]:
        yield held

    async with Client(build_server(toolset(), context), **options) as client:
        yield Desk(client, settings)


def outside_fences(said: str) -> str:
    """The part of a tool's text that is not marked as data."""
    return re.sub(r"<<untrusted (?P<mark>[0-9a-f]{8})[^\n]*\n.*?\nuntrusted (?P=mark)>>", "", said, flags=re.DOTALL)
