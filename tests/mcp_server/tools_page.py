"""docs/mcp-tools.md: every tool with its arguments, an example and its RBAC, written from the registry.

`python -m tests.mcp_server.tools_page` writes it after a tool changed; the test compares and never writes. Examples are real answers
about the recording of `incident`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.groups import DEFAULT_GROUPS, GROUPS
from mcp_server.registry import RBACRule, ToolSpec
from mcp_server.result import text_of
from mcp_server.schema import input_schema
from mcp_server.tools.catalogue import ALL, toolset
from tests.mcp_server.calls import EXAMPLES
from tests.mcp_server.incident import context, open_incident

PAGE = Path(__file__).parents[2] / "docs" / "mcp-tools.md"
LINES_SHOWN = 14
WIDTH = 150
RULES_SHOWN = 4
HEAD = """# The tools, one by one

Written by `make docs` from the registry of tools; do not edit. How to connect, what answers look like and how groups are switched:
[the MCP server](mcp.md). What none of them can do to a cluster: [safety](mcp-safety.md). Examples are answers about a small recording,
shortened.

| tool | group | access | what it answers |
|---|---|---|---|
"""


def page(folder: Path) -> str:
    """The page, made over a recording in `folder`."""
    return anyio.run(_page, open_incident(folder))


async def _page(reader: RecordedReader) -> str:
    rows = "".join(f"| `{spec.name}` | {spec.group} | {spec.access.value} | {_cell(spec.description)} |\n" for spec in ALL)
    parts = [HEAD + rows]
    for group in GROUPS:
        said = "offered unless told otherwise" if group in DEFAULT_GROUPS else f"offered with `--groups {group}` or `mcp.groups`"
        parts.append(f"## {group}\n\n{said[0].upper()}{said[1:]}.\n")
        parts += [await _tool(reader, spec) for spec in ALL if spec.group == group]
    return "\n".join(parts)


async def _tool(reader: RecordedReader, spec: ToolSpec) -> str:
    arguments = EXAMPLES[spec.name]
    lines = [f"### {spec.name}\n", f"{spec.title}. {spec.description}\n"]
    if spec.kinds:
        lines.append(f"Offered where one of these is served: {', '.join(spec.kinds)}.\n")
    if spec.source:
        lines.append("Offered where monitoring is configured or was recorded.\n")
    if spec.beside:
        lines.append(f"Offered where the group `{spec.beside}` is too.\n")
    schema = input_schema(spec.arguments)
    if schema["properties"]:
        lines += ["| argument | type | |", "|---|---|---|"]
        lines += [_argument(name, part, name in schema.get("required", ())) for name, part in schema["properties"].items()]
        lines.append("")
    lines += [
        f"RBAC: {_rbac(spec)}\n",
        "```text",
        f"{spec.name} {json.dumps(arguments)}",
        *await _example(reader, spec, arguments),
        "```\n",
    ]
    return "\n".join(lines)


async def _example(reader: RecordedReader, spec: ToolSpec, arguments: dict[str, Any]) -> list[str]:
    try:
        text = text_of((await toolset().call(spec.name, dict(arguments), context(reader))).render())
    except ToolRefusal as refusal:
        return [f"error: {refusal}"]
    lines = [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in text.splitlines()]
    return lines if len(lines) <= LINES_SHOWN else [*lines[:LINES_SHOWN], "…"]


def _argument(name: str, part: dict[str, Any], required: bool) -> str:
    kinds = part.get("enum") or [option.get("type", "") for option in part.get("anyOf", ())] or [part.get("type", "")]
    notes = [str(part["description"])] if part.get("description") else []
    notes += ["required"] if required else [f"default {part['default']}"] if part.get("default") not in (None, "") else []
    notes += [f"at most {part['maximum']}"] if "maximum" in part else []
    return f"| `{name}` | {_cell(', '.join(map(str, kinds)))} | {_cell('; '.join(notes))} |"


def _rbac(spec: ToolSpec) -> str:
    own = "; ".join(_rule(rule) for rule in spec.rbac[:RULES_SHOWN])
    more = f"; and {len(spec.rbac) - RULES_SHOWN} more rules" if len(spec.rbac) > RULES_SHOWN else ""
    used = f"what {', '.join(f'`{name}`' for name in spec.uses)} need" if spec.uses else ""
    return "; ".join(part for part in (own + more, used) if part) + "." if own or used else "none."


def _rule(rule: RBACRule) -> str:
    group = f" of `{rule.api_group}`" if rule.api_group else ""
    return f"{', '.join(rule.verbs)} {', '.join(f'`{name}`' for name in rule.resources)}{group}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(Path(folder)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
