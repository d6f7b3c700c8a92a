"""An OpenAI-compatible endpoint that plays a script, spoken to by the real SDK without a socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent.model import Model, ModelSettings, client_of


class Turn:
    """One scripted answer: `content` as the assistant's text, or an HTTP `status`."""

    def __init__(
        self, content: Any = None, *, status: int = 200, finish: str = "stop", usage: bool = True, refusal: str | None = None
    ) -> None:
        self.content = content if content is None or isinstance(content, str) else json.dumps(content)
        self.status = status
        self.finish = finish
        self.usage = usage
        self.refusal = refusal


class FakeEndpoint:
    """Plays its turns in order and keeps what it was sent; a request beyond the script is answered with 500."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = list(turns)
        self.received: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        self.received.append(await request.json())
        turn = self._turns.pop(0) if self._turns else Turn(status=500)
        if turn.status != 200:
            return JSONResponse({"error": {"message": f"scripted {turn.status}"}}, turn.status, {"retry-after-ms": "1"})
        message = {"role": "assistant", "content": turn.content, "refusal": turn.refusal}
        document: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": turn.finish}],
        }
        if turn.usage:
            document["usage"] = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        return JSONResponse(document)


@asynccontextmanager
async def speaking(*turns: Turn, clock: Any = None, **settings: Any) -> Any:
    """A model over a fake endpoint, and the endpoint."""
    endpoint = FakeEndpoint(turns)
    chosen = ModelSettings(model="scripted", base_url="http://model/v1", **{"retries": 0, **settings})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=endpoint.app)) as http:
        client = client_of(chosen, http)
        yield (Model(chosen, client, clock) if clock else Model(chosen, client)), endpoint
