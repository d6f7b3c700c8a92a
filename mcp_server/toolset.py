"""Tools by name, and the one way to call one: in process, over MCP, from the agent's graph. It runs no tool with unchecked arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guardrails.redact import present
from mcp_server.arguments import nearest, validated
from mcp_server.registry import Answer, ToolContext, ToolRefusal, ToolSpec


class Toolset:
    """Tools by name. `call` is how every client of every kind runs one: in process, over MCP, from the agent's graph."""

    def __init__(self, tools: tuple[ToolSpec, ...]) -> None:
        self.tools = tools
        self._by_name = {spec.name: spec for spec in tools}
        if len(self._by_name) != len(tools):
            raise ValueError("two tools have the same name")

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self.tools)

    def spec(self, name: str) -> ToolSpec:
        """Raises ToolRefusal with the nearest names for an unknown tool."""
        found = self._by_name.get(name)
        if found is None:
            raise ToolRefusal(f"unknown tool {present(name, 80)!r}; {nearest(name, self._by_name, 'tools')}")
        return found

    async def call(self, name: str, arguments: dict[str, Any], context: ToolContext) -> Answer:
        """Validate the arguments and run the tool. Raises ToolRefusal for anything that the caller can put right."""
        spec = self.spec(name)
        return await spec.run(context, validated(spec.arguments, name, arguments))
