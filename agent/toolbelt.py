"""Answers wants with tools: which tool reads what a want asks for, with a deadline for each and a bound on how many run at once.

It is the agent's only way to a cluster. A probe never fails the investigation: what could not be read is said in the growth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.budget import Limits
from cluster.reading import Cost, LogText, Missing, Reading, Series, Why
from cluster.reference import Scope
from cluster.telemetry import Telemetry
from mcp_server.registry import Answer, Growth, KindRead, LogRead, MetricRead, ToolContext, ToolRefusal, Toolset
from runbooks.finding import LogWant, MetricWant, ObjectsWant, TelemetryWant, Want

Call = Callable[[str, dict[str, Any]], Awaitable[Answer]]
_OWN_TOOL = {"Pod": "pods_list", "Event": "events_list"}
METRICS_TOOL = "metrics_query"
TELEMETRY_TOOL = "telemetry_list"
LOG_BYTES = 256 * 1024
DEEP_LOG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Probed:
    """What a want brought. `failure` is empty when it was answered."""

    growth: Growth
    cost: Cost = field(default_factory=Cost)
    failure: str = ""


class Toolbelt(Protocol):
    """Implemented over the in-process tools here, and over scripted answers in tests; an MCP session is the next."""

    async def probe(self, want: Want, scope: Scope) -> Probed:
        """Never raises for what a cluster or a tool does; cancellation passes through."""
        ...


class ToolsetBelt:
    """The toolbelt over tools in this process."""

    def __init__(self, toolset: Toolset, context: ToolContext, limits: Limits) -> None:
        self._toolset = toolset
        self._context = context
        self._limits = limits
        self._names = frozenset(spec.name for spec in toolset)
        self._slots = asyncio.Semaphore(limits.parallel_probes)

    async def probe(self, want: Want, scope: Scope) -> Probed:
        name, arguments = tool_call(want, scope)
        if name not in self._names:
            return _unanswered(want, Missing(describe(want), Why.NO_SOURCE, f"there is no tool {name}"))
        async with self._slots:
            try:
                async with asyncio.timeout(self._limits.probe_seconds):
                    answer = await self._toolset.call(name, arguments, self._context)
            except TimeoutError:
                detail = f"no answer within {self._limits.probe_seconds:g} seconds"
                return _unanswered(want, Missing(describe(want), Why.TIMEOUT, detail, "narrow the scope or raise the budget"))
            except ToolRefusal as refusal:
                return _unanswered(want, Missing(describe(want), Why.MALFORMED, str(refusal)))
        return Probed(answer.growth, answer.cost)


def tool_call(want: Want, scope: Scope) -> tuple[str, dict[str, Any]]:
    """The tool that answers a want, and its arguments."""
    match want:
        case ObjectsWant():
            namespaces = [want.namespace] if want.namespace else list(scope.namespaces)
            own = _OWN_TOOL.get(want.kind)
            return (own, {"namespace": namespaces}) if own else ("resources_list", {"kind": want.kind, "namespace": namespaces})
        case LogWant():
            container = want.container
            return "logs_search", {
                "namespace": container.namespace,
                "pod": container.pod,
                "container": container.container,
                "previous": want.previous,
                "limit_bytes": DEEP_LOG_BYTES if want.deep else LOG_BYTES,
            }
        case MetricWant():
            query, asked = want.query, {"name": want.query.name, "minutes": want.minutes}
            if query.expression:
                return METRICS_TOOL, {**asked, "expression": query.expression}
            return METRICS_TOOL, {**asked, "labels": dict(query.labels), "namespace": list(query.namespaces)}
        case TelemetryWant():
            return TELEMETRY_TOOL, {"namespace": list(scope.namespaces)}


def describe(want: Want) -> str:
    """A want in a few words, for progress and for what could not be seen."""
    match want:
        case ObjectsWant():
            return f"{want.kind} objects in {want.namespace}" if want.namespace else f"{want.kind} objects"
        case LogWant():
            return f"{'previous log' if want.previous else 'log'} of {want.container}"
        case MetricWant():
            return f"metric {want.query.name}"
        case TelemetryWant():
            return "telemetry"


def _unanswered(want: Want, missing: Missing) -> Probed:
    """Growth that says what is missing, so that the world knows that it was asked."""
    match want:
        case ObjectsWant():
            growth = Growth(kinds=(KindRead(want.kind, (), complete=False, missing=(missing,)),))
        case LogWant():
            growth = Growth(logs=(LogRead(want.container, want.previous, Reading(LogText(), (missing,))),))
        case MetricWant():
            series: Reading[tuple[Series, ...]] = Reading((), (missing,))
            growth = Growth(metrics=(MetricRead(want.query, series),))
        case TelemetryWant():
            growth = Growth(telemetry=Reading(Telemetry(), (missing,)))
    return Probed(growth, failure=f"{missing.why.value}: {missing.detail}")
