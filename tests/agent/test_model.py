from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from agent.errors import ModelError
from tests.agent.fake_model import Turn, speaking

pytestmark = pytest.mark.anyio


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int
    word: str = ""


async def test_a_strict_schema_is_asked_for_first() -> None:
    async with speaking(Turn({"number": 7, "word": "x"})) as (model, endpoint):
        answered = await model.ask("system", "user", Shape)
    assert answered.value == Shape(number=7, word="x")
    assert answered.usage.tokens == 120
    assert not answered.usage.estimated
    schema = endpoint.received[0]["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert schema["schema"]["required"] == ["number", "word"]


async def test_the_ladder_is_walked_once_for_an_endpoint() -> None:
    turns = (Turn(status=400), Turn(status=422), Turn('Sure!\n```json\n{"number": 1}\n```'), Turn('{"number": 2}'))
    async with speaking(*turns) as (model, endpoint):
        assert (await model.ask("s", "u", Shape)).value.number == 1
        assert (await model.ask("s", "u", Shape)).value.number == 2
    formats = [request.get("response_format", {}).get("type") for request in endpoint.received]
    assert formats == ["json_schema", "json_object", None, None]


async def test_a_wrong_shape_gets_one_chance_to_repair() -> None:
    async with speaking(Turn({"number": "many"}), Turn({"number": 3})) as (model, endpoint):
        assert (await model.ask("s", "u", Shape)).value.number == 3
    assert "number" in endpoint.received[1]["messages"][-1]["content"]
    async with speaking(Turn("no"), Turn("no again")) as (model, _):
        with pytest.raises(ModelError, match="wrong shape twice"):
            await model.ask("s", "u", Shape)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (Turn(status=401), "HTTP 401"),
        (Turn(status=500), "HTTP 500"),
        (Turn('{"number":', finish="length"), "cut off"),
        (Turn("", refusal="I would rather not"), "refused: I would rather not"),
    ],
)
async def test_what_went_wrong_is_said(turn: Turn, words: str) -> None:
    async with speaking(turn) as (model, _):
        with pytest.raises(ModelError, match=words):
            await model.ask("s", "u", Shape)


async def test_the_sdk_tries_again_as_it_is_told() -> None:
    async with speaking(Turn(status=503), Turn(status=429), Turn({"number": 9}), retries=2) as (model, endpoint):
        assert (await model.ask("s", "u", Shape)).value.number == 9
    assert len(endpoint.received) == 3


async def test_budgets_are_checked_before_a_call() -> None:
    async with speaking(Turn({"number": 1}), Turn({"number": 2}), max_calls=1) as (model, endpoint):
        await model.ask("s", "u", Shape)
        with pytest.raises(ModelError, match="budget is spent"):
            await model.ask("s", "u", Shape)
    assert len(endpoint.received) == 1
    moments = iter((0.0, 500.0))
    async with speaking(Turn({"number": 1}), clock=lambda: next(moments), max_seconds=180) as (model, endpoint):
        with pytest.raises(ModelError, match="budget is spent"):
            await model.ask("s", "u", Shape)
    assert endpoint.received == []


async def test_tokens_are_estimated_where_the_server_does_not_count() -> None:
    async with speaking(Turn({"number": 1}, usage=False)) as (model, _):
        usage = (await model.ask("s" * 300, "u", Shape)).usage
    assert usage.estimated
    assert usage.tokens > 100


async def test_secrets_do_not_reach_the_endpoint_raw_control_characters_neither() -> None:
    async with speaking(Turn({"number": 1})) as (model, endpoint):
        await model.ask("s", "key AKIAIOSFODNN7EXAMPLE and \x1b[31mred", Shape)
    sent = endpoint.received[0]["messages"][1]["content"]
    assert "AKIAIOSFODNN7EXAMPLE" not in sent
    assert "\x1b" not in sent
