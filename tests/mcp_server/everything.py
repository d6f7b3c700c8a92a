"""Everything that a client can make a server say: each tool, resource, template, prompt and completion, found in the server's own lists.

Nothing here names one of them, so what is added later is asked too. `Asked.answers` are whole results as JSON, refusals included.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

# Addresses and ids in answers, by the name of the argument that takes them elsewhere.
FOUND: Mapping[str, re.Pattern[str]] = {
    "evidence_id": re.compile(r"\bev:[0-9a-f]{6,}"),
    "investigation_id": re.compile(r"\binv-[0-9a-z]+"),
    "id": re.compile(r"\binv-[0-9a-z]+"),
    "proposal_id": re.compile(r"\bp-[0-9a-z]{6,}"),
    "digest": re.compile(r"\b[0-9a-f]{64}\b"),
}
FIELD = re.compile(r"\{(\w+)\}")

Arguments = dict[str, Any]


@dataclass
class Asked:
    """What was asked and what came back. `worked` are the tools, prompts and templates that gave an answer and no refusal."""

    answers: list[tuple[str, str]] = field(default_factory=list)
    worked: set[str] = field(default_factory=set)
    found: dict[str, str] = field(default_factory=dict)

    def keep(self, what: str, answer: str, *, worked: str = "") -> None:
        self.answers.append((what, answer))
        if worked:
            self.worked.add(worked)
        for name, pattern in FOUND.items():
            # Evidence is looked up where an investigation is kept.
            wanted = name not in self.found and (name != "evidence_id" or FOUND["id"].search(answer))
            if wanted and (match := pattern.search(answer)):
                self.found[name] = match[0]

    def leaks(self, secrets: Mapping[str, str]) -> list[str]:
        """Which secret was said where."""
        return [f"{name} in {what}" for what, answer in self.answers for name, secret in secrets.items() if secret in answer]


async def ask_everything(
    client: Client, objects: Sequence[Mapping[str, str]], words: Mapping[str, Any], poison: str, *, thorough: bool = True
) -> Asked:
    """Ask for all there is: with sensible arguments (each of `objects`, then `words` by argument name) and with `poison` in place of
    every text; `thorough` also one text at a time, and every choice of every argument that offers some."""
    asked = Asked()
    tools = (await client.list_tools()).tools
    asked.keep("tools/list", _dump(tools))
    called: set[str] = set()
    for number, tool in enumerate((*tools, *tools)):
        # Twice where there was no answer, because ids that one tool gives are what another takes.
        if number >= len(tools) and tool.name in asked.worked:
            continue
        schema = dict(tool.input_schema)
        for arguments in variants(schema, objects, {**words, **asked.found}, poison, thorough=thorough):
            what = f"{tool.name} {arguments}"
            if what not in called:
                called.add(what)
                await _call(client, asked, tool.name, arguments)
    for resource in (await client.list_resources()).resources:
        await _read(client, asked, str(resource.uri), str(resource.uri))
    for template in (await client.list_resource_templates()).resource_templates:
        names = FIELD.findall(template.uri_template)
        for values in (*({**words, **asked.found, **one} for one in objects), dict.fromkeys(names, poison)):
            uri = FIELD.sub(lambda found, values=values: str(values.get(found[1], "x")), template.uri_template)  # type: ignore[misc]
            await _read(client, asked, uri, template.uri_template)
        for name in names:
            for value in ("", poison):
                reference = ResourceTemplateReference(type="ref/resource", uri=template.uri_template)
                await _complete(client, asked, reference, name, value, objects[0])
    for prompt in (await client.list_prompts()).prompts:
        names = [argument.name for argument in prompt.arguments or ()]
        for values in (*({**words, **asked.found, **one} for one in objects), dict.fromkeys(names, poison)):
            chosen = {name: str(values.get(name, "x")) for name in names}
            try:
                asked.keep(f"{prompt.name} {chosen}", _dump(await client.get_prompt(prompt.name, chosen)), worked=prompt.name)
            except MCPError as error:
                asked.keep(f"{prompt.name} {chosen}", f"{error} {error.error}")
        for name in names:
            for value in ("", poison):
                await _complete(client, asked, PromptReference(type="ref/prompt", name=prompt.name), name, value, objects[0])
    return asked


def variants(
    schema: Arguments, objects: Sequence[Mapping[str, str]], words: Mapping[str, Any], poison: str, *, thorough: bool
) -> Iterator[Arguments]:
    """Arguments of a tool by its schema."""
    properties: dict[str, Arguments] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    usual: list[Arguments] = []
    for one in objects:
        known = {**words, **one}
        arguments = {
            name: _shaped(known.get(name), _plain(property_)) for name, property_ in properties.items() if name in known or name in required
        }
        if arguments not in usual:
            usual.append(arguments)
    yield from usual
    if thorough:
        yield from ({**usual[0], name: choice} for name, property_ in properties.items() for choice in _choices(_plain(property_)))
    texts = {name: _poisoned(_plain(property_), poison) for name, property_ in properties.items()}
    texts = {name: value for name, value in texts.items() if value is not None}
    if texts:
        yield {**usual[0], **texts}
    if thorough:
        yield from ({**usual[0], name: value} for name, value in texts.items())
    yield {**usual[0], poison: poison}


def _plain(property_: Arguments) -> Arguments:
    """The first alternative that is not null."""
    for alternative in itertools.chain(property_.get("anyOf", ()), property_.get("oneOf", ())):
        if alternative.get("type") != "null":
            return {**property_, **alternative}
    return property_


def _shaped(value: Any, property_: Arguments) -> Any:
    """A value for a property: the given one where it is known, in a list where a list is wanted."""
    kind = property_.get("type")
    if value is None:
        choices = _choices(property_)
        if choices:
            return choices[0]
        value = {"integer": property_.get("minimum", 1), "number": 1, "object": {}, "array": []}.get(str(kind), "x")
    return [value] if kind == "array" and not isinstance(value, list) else value


def _choices(property_: Arguments) -> list[Any]:
    return list(property_.get("enum", [True, False] if property_.get("type") == "boolean" else ()))


def _poisoned(property_: Arguments, poison: str) -> Any:
    match property_.get("type"):
        case "string" if "enum" not in property_:
            return poison
        case "array":
            return [poison]
        case "object":
            return {poison: poison}
        case _:
            return None


async def _call(client: Client, asked: Asked, name: str, arguments: Arguments) -> None:
    what = f"{name} {arguments}"
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        asked.keep(what, f"{error} {error.error}")
    else:
        asked.keep(what, _dump(result), worked="" if result.is_error else name)


async def _read(client: Client, asked: Asked, uri: str, worked: str) -> None:
    try:
        asked.keep(f"read {uri}", _dump(await client.read_resource(uri)), worked=worked)
    except MCPError as error:
        asked.keep(f"read {uri}", f"{error} {error.error}")


async def _complete(client: Client, asked: Asked, reference: Any, name: str, value: str, context: Mapping[str, str]) -> None:
    what = f"complete {name}={value!r} of {reference}"
    try:
        asked.keep(what, _dump(await client.complete(reference, {"name": name, "value": value}, dict(context))))
    except MCPError as error:
        asked.keep(what, f"{error} {error.error}")


def _dump(result: Any) -> str:
    if isinstance(result, list):
        return "\n".join(_dump(one) for one in result)
    # Not escaped, so that a secret reads in it as it was planted.
    return json.dumps(result.model_dump(mode="json"), ensure_ascii=False)
