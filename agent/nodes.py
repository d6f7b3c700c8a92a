"""What each station of the graph does: plan, probe, judge, propose, await_decision, execute, verify, report.

LangGraph runs a node at least once: after a crash it may run again. So probes only read, judgements are recomputed, and every node
that touches a proposal asks the gate first; what this state says about a decision is a record, never a permission.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt

from agent.budget import Limits, Spent
from agent.planner import Plan, Planner, View
from agent.remediation import Argument, Decision, Remediation, settled
from agent.report import markdown
from agent.state import (
    CAUSES_KEPT,
    FINDINGS_KEPT,
    Answered,
    Investigation,
    ProbeTask,
    answered_wants,
    cost_of,
    diagnosis_of,
    finding_ref,
    incident_of,
    plain,
    remedies_of,
    want_of,
)
from agent.toolbelt import Toolbelt, describe
from agent.workspace import Judgement, Workspace
from cluster.reading import Missing, Why
from runbooks.candidate import Candidate
from runbooks.causes import merged
from runbooks.cost import Tariff
from runbooks.finding import Cause, Diagnosis
from runbooks.handover import with_handovers
from runbooks.impact import with_impacts
from runbooks.remedies import candidates


async def no_progress(_text: str) -> None:
    """The progress of an investigation that nobody watches."""


@dataclass(frozen=True)
class Dependencies:
    """What nodes work with; the graph's context, never part of its state. `clock` is monotonic, in seconds; `started` is when
    this process took up the investigation, `earlier_seconds` what earlier processes spent on it."""

    planner: Planner
    toolbelt: Toolbelt
    workspace: Workspace
    limits: Limits
    clock: Callable[[], float] = time.monotonic
    started: float = 0.0
    earlier_seconds: float = 0.0
    remediation: Remediation | None = None
    progress: Callable[[str], Awaitable[None]] = no_progress
    tariff: Tariff = field(default_factory=Tariff)


async def plan(state: Investigation, runtime: Runtime[Dependencies]) -> Command[Literal["probe", "propose", "report"]]:
    """Ask the planner for the next round; send out its probes, or conclude."""
    use = runtime.context
    judgement = await _judgement(state, use) if state.get("round") else None
    seconds = _seconds(use)
    asked = answered_wants(state)
    spent = Spent(len(state.get("answered", [])), state.get("round", 0), cost_of(state), seconds)
    chosen = await use.planner.next(View(incident_of(state), judgement, frozenset(asked), use.limits, spent))
    update = Investigation(round=state.get("round", 0) + 1, hypothesis=chosen.hypothesis, seconds=seconds, notes=list(chosen.notes))
    if chosen.asked:
        update["asked"] = [chosen.asked]
    if chosen.wants and not chosen.stop:
        await use.progress(f"round {update['round']}: {len(chosen.wants)} probes; {chosen.hypothesis}")
        return Command(goto=[Send("probe", ProbeTask(want=plain(want))) for want in chosen.wants], update=update)
    judgement = judgement or await _judgement(state, use)
    concluded = await asyncio.to_thread(_conclusion, judgement, chosen, use.tariff)
    update.update(concluded)
    ahead: Literal["propose", "report"] = "propose" if use.remediation is not None and concluded["diagnosis"]["causes"] else "report"
    return Command(goto=ahead, update=update)


async def probe(state: ProbeTask, runtime: Runtime[Dependencies]) -> Investigation:
    """Answer one want. The facts go to the workspace; the state only learns that it was asked."""
    use = runtime.context
    want = want_of(state["want"])
    probed = await use.toolbelt.probe(want, use.workspace.scope)
    use.workspace.add(want, probed)
    if probed.failure:
        await use.progress(f"{describe(want)}: {probed.failure}")
    answer = Answered(want=state["want"], requests=probed.cost.requests, bytes=probed.cost.bytes, failure=probed.failure)
    return Investigation(answered=[answer])


async def judge(state: Investigation, runtime: Runtime[Dependencies]) -> Investigation:
    """Detect and explain over everything known so far."""
    judgement = await _judgement(state, runtime.context)
    findings = sorted(merged(judgement.findings), key=lambda finding: (-int(finding.certainty), finding.code, str(finding.subject)))
    return Investigation(findings=[finding_ref(finding) for finding in findings[:FINDINGS_KEPT]])


async def propose(state: Investigation, runtime: Runtime[Dependencies]) -> Command[Literal["await_decision", "report"]]:
    """Hand the best remedy of the first cause to the gate."""
    use = runtime.context
    remedies = remedies_of(state)[0]
    if use.remediation is None or not remedies:
        return Command(goto="report", update=Investigation(notes=["no remedy is known for the first cause; nothing was proposed"]))
    diagnosis = diagnosis_of(state)
    argument = Argument(diagnosis.now, _evidence(diagnosis.causes[0]), tuple(state.get("asked", ())))
    proposal = await use.remediation.propose(remedies[0], incident_of(state).id, argument)
    if not proposal.id:
        return Command(goto="report", update=Investigation(proposal=plain(proposal), notes=[f"the gate refused it: {proposal.detail}"]))
    await use.progress(f"proposed {proposal.id}: {proposal.summary}")
    return Command(goto="await_decision", update=Investigation(proposal=plain(proposal)))


async def await_decision(state: Investigation, runtime: Runtime[Dependencies]) -> Command[Literal["execute", "report"]]:
    """Wait until the gate says that the proposal is decided. An answer given here only wakes the graph: the gate is asked again."""
    remediation = _remediation(runtime.context)
    decision: Decision | None = None
    while not settled(view := await remediation.status(state["proposal"]["id"])):
        question = {"proposal": view.id, "digest": view.digest, "summary": view.summary, "state": view.state}
        decision = interrupt(question, response_schema=Decision)
    record = {"state": view.state, "answer": decision.model_dump() if decision else None}
    update = Investigation(proposal=plain(view), decision=record)
    return Command(goto="execute" if view.executable else "report", update=update)


async def execute(state: Investigation, runtime: Runtime[Dependencies]) -> Investigation:
    """Ask the gate to execute. It runs a proposal at most once, however often it is asked."""
    remediation = _remediation(runtime.context)
    proposal = state["proposal"]
    return Investigation(outcome=plain(await remediation.execute(proposal["id"], proposal["digest"])))


async def verify(state: Investigation, runtime: Runtime[Dependencies]) -> Investigation:
    """Take the proposal's final state from the gate, which checks its own work."""
    view = await _remediation(runtime.context).status(state["proposal"]["id"])
    return Investigation(proposal=plain(view))


async def report(state: Investigation, runtime: Runtime[Dependencies]) -> Investigation:
    """Write the report."""
    text = markdown(diagnosis_of(state), notes=tuple(state.get("notes", [])), proposal=state.get("proposal"), outcome=state.get("outcome"))
    return Investigation(report=text, seconds=_seconds(runtime.context))


async def _judgement(state: Investigation, use: Dependencies) -> Judgement:
    """The judgement over everything that was ever answered, asked again where an earlier process knew it."""
    asked = answered_wants(state)
    await use.workspace.ensure(asked, use.toolbelt)
    return await use.workspace.judge(asked, cost_of(state))


def _evidence(cause: Cause) -> str:
    """What the first cause rests on, an observation a line."""
    head = f"{cause.code} of {cause.object}, {cause.certainty.word}: {cause.explanation}"
    return "\n".join((head, *(f"{item.id} {item.source.value} {item.object} {item.path}: {item.quote}" for item in cause.evidence)))


def _seconds(use: Dependencies) -> float:
    return use.earlier_seconds + use.clock() - use.started


def _remediation(use: Dependencies) -> Remediation:
    if use.remediation is None:
        raise RuntimeError("this investigation has a proposal, but no gate was given; resume it with the gate that it was started with")
    return use.remediation


def _conclusion(judgement: Judgement, chosen: Plan, tariff: Tariff) -> Investigation:
    """What is kept of the last judgement, with who takes it over, what it costs and what would remedy it."""
    told = with_handovers(_bounded(judgement.diagnosis, chosen), judgement.world)
    told = with_impacts(told, judgement.world, tariff)
    remedies = [[plain(item) for item in row] for row in _remedies(told, judgement)]
    return Investigation(stop=chosen.stop, diagnosis=plain(told), remedies=remedies)


def _remedies(diagnosis: Diagnosis, judgement: Judgement) -> tuple[tuple[Candidate, ...], ...]:
    """The candidates of each cause, in the causes' order."""
    return tuple(
        candidates(cause, judgement.world, [other for other in diagnosis.causes if other is not cause]) for cause in diagnosis.causes
    )


def _bounded(diagnosis: Diagnosis, last: Plan) -> Diagnosis:
    """The diagnosis as it is kept: bounded, and never "healthy" when reading stopped early."""
    cut = len(diagnosis.causes) - CAUSES_KEPT
    missing = diagnosis.cannot_see
    if not last.complete:
        missing += (Missing("evidence that was still wanted", Why.TRUNCATED, last.stop, "ask about one namespace or object"),)
    if cut > 0:
        missing += (Missing(f"{cut} more causes", Why.TRUNCATED, "", "ask about one namespace or object"),)
    return msgspec.structs.replace(
        diagnosis, healthy=diagnosis.healthy and last.complete, causes=diagnosis.causes[:CAUSES_KEPT], cannot_see=missing
    )
