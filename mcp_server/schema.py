"""JSON Schemas as clients need them: without the titles and null alternatives that pydantic adds and models pay tokens for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of arguments. An optional argument is one that may be left out, so its null alternative and null default go."""
    schema: dict[str, Any] = _plain(model.model_json_schema(), optional=True)
    return schema


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of structured content, as it is serialised: its members and their types. What stands inside them is repeated by no
    tool; docs/diagnosis-format.md and docs/mcp.md are its contract."""
    schema: dict[str, Any] = _plain(model.model_json_schema(by_alias=True, mode="serialization"), optional=False)
    return {"type": "object", "properties": {name: _shallow(part) for name, part in schema["properties"].items()}}


def _shallow(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        return {"type": "object"}
    return {"type": "array"} if part.get("type") == "array" else part


def _plain(node: Any, *, optional: bool, named: bool = False) -> Any:
    """`named` says that the keys of this mapping are names of members, not keywords."""
    if isinstance(node, list):
        return [_plain(item, optional=optional) for item in node]
    if not isinstance(node, dict):
        return node
    if named:
        return {key: _plain(item, optional=optional) for key, item in node.items()}
    # Bounds of lengths stand in the refusal of whoever exceeds them.
    noise = {"title", "minLength", "maxLength", "maxItems", "maxProperties", "minimum"}
    if "properties" in node or not optional:
        # What members of an answer mean stands in the documentation; only arguments are filled in by a model.
        noise.add("description")
    if not optional:
        noise.add("default")
    if not optional or node.get("additionalProperties") is True:
        # Answers may gain members; only arguments are closed.
        noise.add("additionalProperties")
    kept = {key: _plain(item, optional=optional, named=key in ("properties", "$defs")) for key, item in node.items() if key not in noise}
    if optional and kept.get("default", "") in (None, [], {}, ""):
        kept.pop("default", None)
    if not optional and kept.get("items") == {"type": "object"}:
        kept.pop("items")
    return _without_alternatives(kept, optional=optional)


def _without_alternatives(node: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """`anyOf` without null where null only means left out. Several types stay alternatives: lists of types are less portable."""
    choices = node.get("anyOf")
    if choices is None:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    if optional:
        choices = [item for item in choices if item != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **rest}
    return {"anyOf": choices, **rest}
