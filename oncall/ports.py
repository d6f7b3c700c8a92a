"""What the MCP tools call: investigations by the agent, proposals and executions by the gate. Words in, documents out.

The gate with its database and its policy engine is imported by the first call that needs it: a server that only reads, which most do,
would hold them for nothing (25 MB, and a third of its start).
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from cluster.errors import ClusterError
from cluster.reading import Reader
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from guardrails.action import parse_action, target
from guardrails.errors import GuardrailsError
from mcp_server.errors import ToolRefusal
from mcp_server.registry import STDIO_CHANNEL, Caller, Investigated, Ports, ToolContext
from oncall.assembly import investigate, tariff
from oncall.invocation import TOKEN_VARIABLE
from oncall.settings import Settings
from oncall.turns import Progress, Turns

if TYPE_CHECKING:
    from guardrails.ledger import Ledger
    from guardrails.policy import Rule
    from guardrails.view import ProposalView
    from guardrails.weighing import Weighed
    from oncall.desk import Desk

NEWS_LIMIT = 1_000
RECENT = 20


def tool_context(settings: Settings, reader: Reader, caller: Caller, turns: Turns) -> ToolContext:
    """The context of every tool call of one server: its reader, who calls, and the ports."""
    return ToolContext(reader, caller, reader.now, ports=ports(settings, reader, turns), tariff=tariff(settings))


def ports(settings: Settings, reader: Reader, turns: Turns) -> Ports:
    """The ports over one reader. The gate is opened for each call, so reading goes on where the state folder cannot be used."""

    async def run_investigation(scope: Scope, question: str | None, progress: Progress) -> Investigated:
        async def run() -> Investigated:
            concluded = await investigate(settings, reader, scope, question, progress, forget=True)
            return Investigated(concluded.diagnosis, concluded.remedies, concluded.seconds)

        if scope.subject is None and isinstance(reader, RecordedReader):
            # Of a namespace that was not recorded nothing can be proven, and what is asked of all would be as little.
            scope = structs.replace(scope, namespaces=scope.namespaces or reader.namespaces)
        return await turns.take(reader, scope, question, run, progress)

    async def propose(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        async with _desk(settings, reader) as desk:
            from oncall.desk import evidence_of

            on = target(request["target"]["kind"], request["target"]["namespace"], request["target"]["name"])
            shown = await desk.gate.propose(
                request["action"],
                on,
                cluster=desk.cluster,
                requester=_who(desk, caller),
                evidence=evidence_of(request["evidence_ids"], from_agent=True),
                channel=caller.channel,
                reason=request["reason"],
            )
            return _document(shown)

    async def status(proposal: str, caller: Caller) -> dict[str, Any]:
        async with _desk(settings) as desk:
            if caller.channel != STDIO_CHANNEL:
                _who(desk, caller)
            return _document(await desk.gate.status(proposal))

    async def execute(proposal: str, digest: str, caller: Caller) -> dict[str, Any]:
        async with _desk(settings, reader) as desk:
            outcome = await desk.gate.execute(proposal, digest.removeprefix("sha256:"), _who(desk, caller))
            return outcome.model_dump(mode="json")

    async def weigh_up(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        async with _desk(settings, reader) as desk:
            from guardrails.directory import Person
            from guardrails.weighing import weigh
            from oncall.desk import evidence_of

            on = target(request["target"]["kind"], request["target"]["namespace"], request["target"]["name"])
            name = _who(desk, caller)
            weighed = await weigh(
                desk.office,
                parse_action(request["action"]),
                on,
                cluster=desk.cluster,
                requester=desk.office.directory.find(name) or Person(name=name),
                evidence=evidence_of((), from_agent=True),
            )
            return _weighed(weighed, desk.office.bundles.policy.rules)

    async def answered(proposal: str, digest: str, answer: str, caller: Caller) -> None:
        async with _desk(settings) as desk:
            await desk.gate.note_answer(proposal, digest, answer, by=_who(desk, caller), channel=caller.channel)

    return Ports(run_investigation, propose, status, execute, weigh=weigh_up, answered=answered)


def _weighed(found: Weighed, rules: Mapping[str, Rule]) -> dict[str, Any]:
    verdict, risk = found.verdict, found.examination.risk
    return {
        "effect": verdict.effect,
        "reason": verdict.reason,
        "needs": verdict.requirement.approvals,
        "rules": [f"{name} ({rules[name].effect})" if name in rules else name for name in verdict.rules],
        "escalated_by": list(verdict.escalated_by),
        "problems": list(found.examination.problems),
        "pods_affected": risk.pods_affected,
        "dry_run_changes": [f"{item.path}: {item.before} -> {item.after}" for item in found.examination.dry_run.changes],
        "would_differ": [str(miss) for miss in found.near],
    }


@asynccontextmanager
async def proposal_news(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[tuple[str, ...]]]]:
    """Which proposals anybody wrote about since the call before, in whichever process: the ledger tells. Raises GuardrailsError.

    A ledger that is not there yet is not begun by asking.
    """
    async with AsyncExitStack() as opened:
        ledger: Ledger | None = None
        after = -1

        async def changed() -> tuple[str, ...]:
            nonlocal ledger, after
            if ledger is None:
                if isinstance(settings.database, Path) and not settings.database.exists():
                    return ()
                await asyncio.to_thread(_import_gate)
                from oncall.desk import open_records

                ledger = (await opened.enter_async_context(open_records(settings))).office.ledger
                last = await ledger.last("")
                # What was written while somebody subscribed is told too; hearing of it twice does no harm.
                after = max(-1, last.seq - RECENT) if last else -1
            entries = await ledger.entries(after=after, limit=NEWS_LIMIT)
            after = entries[-1].seq if entries else after
            return tuple(dict.fromkeys(entry.proposal for entry in entries if entry.proposal))

        yield changed


def _who(desk: Desk, caller: Caller) -> str:
    """The human behind the client: over stdio, the account that the server runs as; over HTTP, the holder of the access token.

    What stands in the server's own environment never speaks for somebody at the other end of a network.
    """
    from oncall.desk import requester, signed_in

    if caller.channel == STDIO_CHANNEL:
        return requester(desk.office.directory, os.environ.get(TOKEN_VARIABLE), caller.subject).name
    return signed_in(desk.office.directory, caller.subject).name


def _import_gate() -> None:
    """The gate with all that it needs. Costs half a second once in a process, which no other caller has to wait for."""
    importlib.import_module("oncall.desk")
    importlib.import_module("guardrails.weighing")


def _document(shown: ProposalView) -> dict[str, Any]:
    return shown.model_dump(mode="json", exclude={"inverse"})


@asynccontextmanager
async def _desk(settings: Settings, reader: Reader | None = None) -> AsyncIterator[Desk]:
    """The gate beside a reader, or its records alone, with every refusal of gate or cluster as an answer that a model can act on."""
    await asyncio.to_thread(_import_gate)
    from oncall.desk import desk_over, open_records

    try:
        async with open_records(settings) if reader is None else desk_over(settings, reader) as desk:
            yield desk
    except (GuardrailsError, ClusterError) as error:
        raise ToolRefusal(str(error)) from error
