"""The one place where a language model is called: an OpenAI-compatible endpoint that answers with a document of a given shape.

Chat Completions, because every server has them. What an endpoint can do is found out once, from strict JSON Schema over JSON mode
to a fenced block in plain text. A model's answer is validated or it is no answer; nothing here lets a model call anything.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import httpx2
from msgspec import Struct
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, LengthFinishReasonError, OpenAIError
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from agent.errors import ModelError
from guardrails.redact import present

S = TypeVar("S", bound=BaseModel)
BYTES_PER_TOKEN = 3
PROMPT_LIMIT = 60_000
CONNECT_SECONDS = 5.0
# Refusals that mean "I do not know this field": then a humbler way of asking is tried.
UNSUPPORTED = frozenset({400, 404, 415, 422, 501})
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


class ModelSettings(BaseModel):
    """Which model to ask. `base_url` None is the vendor's own endpoint; local servers often need no key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    base_url: str | None = None
    api_key: SecretStr | None = None
    timeout_seconds: float = Field(default=60.0, gt=0)
    retries: int = Field(default=2, ge=0, le=5)
    max_calls: int = Field(default=12, ge=0)
    max_tokens: int = Field(default=120_000, ge=0)
    max_seconds: float = Field(default=180.0, ge=0)


class Usage(Struct, frozen=True):
    """What an investigation's calls took. `estimated`: the server did not count tokens, so bytes / 3 stands for some of them."""

    calls: int = 0
    tokens: int = 0
    estimated: bool = False


class Answered(Struct, Generic[S], frozen=True):
    value: S
    usage: Usage


def client_of(settings: ModelSettings, http_client: httpx2.AsyncClient | None = None) -> AsyncOpenAI:
    """The SDK's client with our deadlines instead of its ten minutes. `http_client` gives it another transport."""
    return AsyncOpenAI(
        base_url=settings.base_url,
        api_key=settings.api_key.get_secret_value() if settings.api_key else "unused",
        timeout=httpx2.Timeout(settings.timeout_seconds, connect=CONNECT_SECONDS),
        max_retries=settings.retries,
        http_client=http_client,
    )


class Model:
    """One endpoint within one investigation's budget. `usage` is what has been spent."""

    def __init__(self, settings: ModelSettings, client: AsyncOpenAI, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._started = clock()
        self._ways: tuple[str, ...] = ("schema", "object", "text")
        self.usage = Usage()

    @property
    def name(self) -> str:
        """Which model is asked."""
        return self._settings.model

    async def ask(self, system: str, user: str, shape: type[S]) -> Answered[S]:
        """A document of that shape. Raises ModelError with what happened: no budget, no endpoint, a refusal, or no valid answer after
        one chance to repair it."""
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": present(system, PROMPT_LIMIT)},
            {"role": "user", "content": present(user, PROMPT_LIMIT)},
        ]
        before = self.usage
        while True:
            way = self._ways[0]
            try:
                text = await self._call(messages, way, shape)
                break
            except APIStatusError as error:
                if error.status_code not in UNSUPPORTED or len(self._ways) == 1:
                    raise ModelError(f"the model's endpoint refused: HTTP {error.status_code}, {present(error.message, 200)}") from error
                self._ways = self._ways[1:]
        try:
            value = shape.model_validate_json(_json(text))
        except ValidationError as error:
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": _complaint(error)}]
            value = await self._repaired(messages, way, shape)
        spent = Usage(self.usage.calls - before.calls, self.usage.tokens - before.tokens, self.usage.estimated)
        return Answered(value, spent)

    async def _repaired(self, messages: list[ChatCompletionMessageParam], way: str, shape: type[S]) -> S:
        try:
            return shape.model_validate_json(_json(await self._call(messages, way, shape)))
        except ValidationError as error:
            raise ModelError(f"the model's answer has the wrong shape twice: {_complaint(error)}") from error
        except APIStatusError as error:
            raise ModelError(f"the model's endpoint refused: HTTP {error.status_code}") from error

    async def _call(self, messages: list[ChatCompletionMessageParam], way: str, shape: type[BaseModel]) -> str:
        seconds = self._afford()
        extra: dict[str, Any] = {}
        if way == "schema":
            schema = {"name": shape.__name__, "schema": _strict(shape.model_json_schema()), "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        else:
            asked = f"Answer with one JSON object of this JSON Schema and nothing else: {json.dumps(shape.model_json_schema())}"
            messages = [*messages, {"role": "system", "content": asked}]
            if way == "object":
                extra["response_format"] = {"type": "json_object"}
        try:
            async with asyncio.timeout(seconds):
                completion: ChatCompletion = await self._client.chat.completions.create(
                    model=self._settings.model, messages=messages, **extra
                )
        except APIStatusError:
            raise
        except (TimeoutError, APITimeoutError) as error:
            raise ModelError(f"the model did not answer within {min(seconds, self._settings.timeout_seconds):g} seconds") from error
        except APIConnectionError as error:
            raise ModelError(f"the model's endpoint cannot be reached: {present(str(error.__cause__ or error), 200)}") from error
        except (LengthFinishReasonError, OpenAIError) as error:
            raise ModelError(f"the model's endpoint failed: {present(str(error), 200)}") from error
        choice = completion.choices[0] if completion.choices else None
        text = (choice.message.content if choice else None) or ""
        self._charge(completion, messages, text)
        if choice is None or choice.finish_reason == "length":
            raise ModelError("the model's answer was cut off at its length limit" if choice else "the model gave no answer")
        if choice.message.refusal:
            raise ModelError(f"the model refused: {present(choice.message.refusal, 200)}")
        return text

    def _afford(self) -> float:
        """Seconds that the next call may take. Raises ModelError when there is no budget for one."""
        settings = self._settings
        left = settings.max_seconds - (self._clock() - self._started)
        if self.usage.calls >= settings.max_calls or self.usage.tokens >= settings.max_tokens or left <= 0:
            raise ModelError(
                f"the model's budget is spent ({self.usage.calls} calls, {self.usage.tokens} tokens, {max(0.0, left):.0f} seconds left)"
            )
        return left

    def _charge(self, completion: ChatCompletion, messages: list[ChatCompletionMessageParam], text: str) -> None:
        counted = completion.usage.total_tokens if completion.usage else 0
        tokens = counted or (len(json.dumps(messages).encode()) + len(text.encode())) // BYTES_PER_TOKEN
        self.usage = Usage(self.usage.calls + 1, self.usage.tokens + tokens, self.usage.estimated or not counted)


def _json(text: str) -> str:
    """The JSON object in an answer: the whole of it, or its fenced block."""
    fenced = _FENCED.search(text)
    return fenced[1] if fenced else text.strip()


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as strict mode wants it: every object closed, every property required, no defaults."""
    made = {key: _strict(value) if isinstance(value, dict) else value for key, value in schema.items() if key not in ("default", "title")}
    if schema.get("type") == "object":
        made["additionalProperties"] = False
        made["required"] = list(schema.get("properties", {}))
    return made


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the answer"
    return f"{where}: {first['msg']}. Answer again with a valid JSON object."
