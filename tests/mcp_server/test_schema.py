"""Schemas carry what clients need and nothing that only costs tokens."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from mcp_server.registry import ToolSpec
from mcp_server.schema import input_schema, output_schema
from mcp_server.tools.catalogue import ALL


def keywords(schema: Any, named: bool = False) -> list[str]:
    if isinstance(schema, list):
        return [word for item in schema for word in keywords(item)]
    if not isinstance(schema, dict):
        return []
    own = [] if named else list(schema)
    return own + [word for key, item in schema.items() for word in keywords(item, not named and key in ("properties", "$defs"))]


def types(schema: Any) -> list[Any]:
    if isinstance(schema, list):
        return [found for item in schema for found in types(item)]
    if not isinstance(schema, dict):
        return []
    return [value for key, value in schema.items() if key == "type"] + [found for item in schema.values() for found in types(item)]


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_schemas_are_valid_closed_for_arguments_and_without_noise(spec: ToolSpec) -> None:
    arguments, answer = input_schema(spec.arguments), output_schema(spec.output)
    for schema in (arguments, answer):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert "title" not in keywords(schema)
        assert not [item for item in types(schema) if isinstance(item, list)]
    assert arguments["additionalProperties"] is False
    assert "additionalProperties" not in answer
    assert {"type": "null"} not in [option for item in arguments["properties"].values() for option in item.get("anyOf", ())]


class Titled(BaseModel):
    """Arguments of which one is called like the noise."""

    title: str
    page: int | None = None


def test_an_argument_called_title_stays() -> None:
    assert input_schema(Titled) == {
        "type": "object",
        "properties": {"title": {"type": "string"}, "page": {"type": "integer"}},
        "required": ["title"],
    }
    assert output_schema(Titled)["properties"]["page"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_required_arguments_are_those_without_a_default(spec: ToolSpec) -> None:
    required = {name for name, item in spec.arguments.model_fields.items() if item.is_required()}
    assert set(input_schema(spec.arguments).get("required", ())) == required
