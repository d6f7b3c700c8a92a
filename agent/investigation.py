"""Runs one investigation from a question to its conclusion, at once or over days: the agent's front door.

`investigate` reads, judges and forgets. `run` with a store can be killed at any moment and called again: it goes on where it was,
reading again what the earlier process knew.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
from msgspec import Struct

from agent.budget import Limits, Spent, exhausted
from agent.errors import AgentError, StoreError
from agent.incident import Incident
from agent.planner import Planner, RulePlanner
from agent.remediation import Decision, Execution, ProposalView, Remediation
from agent.state import Investigation, diagnosis_of, incident_of, plain, remedies_of
from agent.toolbelt import Probed, Toolbelt, ToolsetBelt
from agent.workspace import Workspace
from cluster.postponed import postponed, postponed_validators
from cluster.reading import Reader
from cluster.reference import Scope
from mcp_server.registry import Caller, ToolContext, Toolset, ToolSpec
from mcp_server.tools.primitive import PRIMITIVE
from runbooks.candidate import Candidate
from runbooks.cost import Tariff
from runbooks.finding import Diagnosis, Want
from runbooks.plans import base_wants

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

RECURSION_LIMIT = 200
# What LangGraph imports and we never use: the records of a tracing service, its look at the machine, the client of a hosted LangGraph,
# and the models of LangChain with what they speak to it.
UNUSED = ("langsmith.types", "langgraph_sdk", "langchain_protocol", "langchain_core.language_models", "psutil")


class Conclusion(Struct, frozen=True):
    """Where an investigation stands. `waiting` means that a proposal waits for people; call `run` again when they have decided."""

    incident: Incident
    diagnosis: Diagnosis
    report: str
    waiting: bool
    notes: tuple[str, ...]
    seconds: float
    remedies: tuple[tuple[Candidate, ...], ...] = ()
    proposal: ProposalView | None = None
    outcome: Execution | None = None


async def investigate(
    reader: Reader,
    scope: Scope,
    question: str | None = None,
    *,
    planner: Planner | None = None,
    limits: Limits | None = None,
    progress: Callable[[str], Awaitable[None]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Diagnosis:
    """One investigation from reading to diagnosis, without a store and without remediation."""
    limits = limits or Limits()
    toolbelt = in_process(reader, limits)
    incident = Incident("one-shot", scope, question)
    concluded = await run(incident, reader, toolbelt, planner=planner, limits=limits, progress=progress, clock=clock)
    return concluded.diagnosis


def in_process(reader: Reader, limits: Limits, tools: tuple[ToolSpec, ...] = PRIMITIVE) -> ToolsetBelt:
    """The toolbelt over the primitive tools in this process, reading as the reader's account."""
    context = ToolContext(reader, Caller("smokejumper", channel="agent"), reader.now)
    return ToolsetBelt(Toolset(tools), context, limits)


async def run(
    incident: Incident,
    reader: Reader,
    toolbelt: Toolbelt,
    *,
    store: Path | None = None,
    planner: Planner | None = None,
    limits: Limits | None = None,
    remediation: Remediation | None = None,
    progress: Callable[[str], Awaitable[None]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    answer: Decision | None = None,
    tariff: Tariff | None = None,
    forget: bool = False,
) -> Conclusion:
    """Start the investigation of an incident, or go on with it where the store says it stands.

    `tariff` prices what a cause keeps from work. `forget` has the facts freed at the end, for a process that goes on. With `remediation`
    the best remedy is proposed, and the run ends `waiting` until the gate says that it is decided; `answer` is recorded with the
    decision. Raises StoreError when the store cannot be used, and for `remediation` without a store; AgentError when the investigation is
    about another cluster than the reader's.
    """
    if remediation is not None and store is None:
        raise StoreError("waiting for a decision needs a store; give the path of one (--state DIR)")
    started = clock()
    limits = limits or Limits()
    if store is None:
        toolbelt = await _head_start(toolbelt, incident.scope, limits)
    _import_graph()
    from langgraph.types import Command

    from agent.graph import build
    from agent.nodes import Dependencies, no_progress

    async with _checkpointer(store) as checkpointer:
        graph = build(checkpointer)
        config: RunnableConfig = {"configurable": {"thread_id": incident.id}, "recursion_limit": RECURSION_LIMIT}
        known = Investigation()
        if checkpointer is not None:
            snapshot = await graph.aget_state(config)
            known = cast("Investigation", snapshot.values)
            if known:
                incident = incident_of(known)
                if incident.scope.cluster != reader.cluster:
                    raise AgentError(
                        f"investigation {incident.id} is about cluster {incident.scope.cluster!r}, and this is {reader.cluster!r}. "
                        "Give it the context or the recording that it was started with."
                    )
            if known and not snapshot.next:
                return _conclusion(incident, known, waiting=False)
        workspace = Workspace(reader.now(), incident)
        dependencies = Dependencies(
            planner or RulePlanner(),
            toolbelt,
            workspace,
            limits,
            clock,
            started,
            known.get("seconds", 0.0),
            remediation,
            progress or no_progress,
            tariff or Tariff(),
        )
        entry: Any = None if known else Investigation(incident=plain(incident))
        if known and answer is not None:
            entry = Command(resume=answer.model_dump())
        try:
            output = await graph.ainvoke(
                entry, config, context=dependencies, durability="sync" if checkpointer is not None else None, version="v2"
            )
        finally:
            if forget:
                with anyio.CancelScope(shield=True):
                    await workspace.forget()
        return _conclusion(incident, output.value, waiting=bool(output.interrupts))


async def is_known(store: Path, incident_id: str) -> bool:
    """Whether an investigation of that id was begun. Raises StoreError."""
    if not await anyio.Path(store).exists():
        return False
    async with _checkpointer(store) as checkpointer:
        assert checkpointer is not None
        return await checkpointer.aget_tuple({"configurable": {"thread_id": incident_id}}) is not None


class _Ahead:
    """A toolbelt that holds answers already; each is given out once."""

    def __init__(self, toolbelt: Toolbelt, answers: dict[Want, Probed]) -> None:
        self._toolbelt = toolbelt
        self._answers = answers

    async def probe(self, want: Want, scope: Scope) -> Probed:
        known = self._answers.pop(want, None)
        return known if known is not None else await self._toolbelt.probe(want, scope)


async def _head_start(toolbelt: Toolbelt, scope: Scope, limits: Limits) -> Toolbelt:
    """The first round, which is the same for every planner, read while a thread imports LangGraph for the first time in this process:
    that takes as long as reading a cluster of some thousand pods."""
    if "agent.graph" in sys.modules or exhausted(limits, Spent()):
        return toolbelt
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(_import_graph))
        probes = {want: tasks.create_task(toolbelt.probe(want, scope)) for want in base_wants()}
    return _Ahead(toolbelt, {want: probe.result() for want, probe in probes.items()})


def _import_graph() -> None:
    """LangGraph and the picture. Costs most of a second once in a process."""
    with postponed(*UNUSED), postponed_validators():
        importlib.import_module("agent.graph")


def _conclusion(incident: Incident, state: Investigation, *, waiting: bool) -> Conclusion:
    diagnosis = diagnosis_of(state)
    return Conclusion(
        incident,
        diagnosis,
        state.get("report") or "",
        waiting,
        tuple(state.get("notes", [])),
        state.get("seconds", 0.0),
        remedies_of(state),
        msgspec.convert(state["proposal"], ProposalView) if "proposal" in state else None,
        msgspec.convert(state["outcome"], Execution) if "outcome" in state else None,
    )


@asynccontextmanager
async def _checkpointer(store: Path | None) -> AsyncIterator[BaseCheckpointSaver[Any] | None]:
    """SQLite in full durability, reading back only plain JSON types; None without a store."""
    if store is None:
        yield None
        return
    import aiosqlite
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    _prepare(store)
    try:
        async with aiosqlite.connect(store) as connection:
            saver = AsyncSqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            await saver.setup()
            yield saver
    except aiosqlite.Error as error:
        raise _unusable(store, error) from error


def _prepare(store: Path) -> None:
    """Make the file, readable for its owner alone."""
    try:
        store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        store.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise _unusable(store, error) from error


def _unusable(store: Path, error: Exception) -> StoreError:
    return StoreError(f"cannot use the store of investigations at {store}: {error}; free or replace the file, or give another --state")
