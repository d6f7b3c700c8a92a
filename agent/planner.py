"""Which evidence to ask for next. A planner chooses among wants; it makes no findings and reads nothing from a cluster."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from msgspec import Struct

from agent.budget import Limits, Spent, exhausted
from agent.incident import Incident
from agent.workspace import Judgement
from runbooks.finding import Certainty, LogWant, Want
from runbooks.plans import base_wants, focus_wants, last_resort, next_wants, substitutes


class View(Struct, frozen=True):
    """What a planner is shown. `judgement` is None before anything was read."""

    incident: Incident
    judgement: Judgement | None
    asked: Set[Want]
    limits: Limits
    spent: Spent


class Plan(Struct, frozen=True):
    """Wants to probe in parallel, or why to stop. `hypothesis` is the suspicion they test; `notes` go into the report. `complete`
    says of a stop that nothing wanted was left unread: only then can an investigation that found nothing be called healthy. `asked` is
    what a model was asked and answered for this plan, for the record."""

    wants: tuple[Want, ...] = ()
    stop: str = ""
    complete: bool = False
    hypothesis: str = ""
    notes: tuple[str, ...] = ()
    asked: str = ""


class Planner(Protocol):
    """Implemented by `RulePlanner` here and by `agent.llm_planner.ModelPlanner`."""

    async def next(self, view: View) -> Plan:
        """The next round. Never raises: what goes wrong inside is a note on a plan."""
        ...


class RulePlanner:
    """The runbooks' own order: the base kinds, then wants by value, until nothing that matters is open."""

    async def next(self, view: View) -> Plan:
        over = exhausted(view.limits, view.spent)
        if view.judgement is None:
            base = tuple(want for want in base_wants() if want not in view.asked)
            return Plan(stop=over) if over else Plan(base, hypothesis="nothing is suspected yet")
        wants = open_wants(view)
        if not wants:
            return Plan(stop="nothing more is wanted", complete=True)
        if over:
            return Plan(stop=f"{over}; {len(wants)} more were wanted")
        return Plan(wants[: view.limits.wants_per_round], hypothesis=hypothesis(view.judgement))


def open_wants(view: View) -> tuple[Want, ...]:
    """What is worth asking and was not asked yet, best first: what findings want, unless it could only add detail to a proven answer;
    then the logs of what the question is about; last, when nothing was found, those of everything small enough to look through."""
    judgement = view.judgement
    if judgement is None:
        return ()
    world, asked = judgement.world, view.asked
    wanted = next_wants(world, judgement.findings, asked, judgement.focus)
    wants = [want for want in wanted if not (isinstance(want, LogWant) and _settled(judgement, want))]
    wants += substitutes(world, asked)
    if not _proven_for(judgement):
        wants += focus_wants(world, judgement.focus, asked)
    if not wants and view.incident.question and not judgement.diagnosis.causes:
        wants += last_resort(world, asked)
    return tuple(dict.fromkeys(wants))


def _proven_for(judgement: Judgement) -> bool:
    """Whether what is wrong with an object in question is proven, so that its log could only add detail."""
    asked = {judgement.world.top_owner(ref).key for ref in judgement.focus}
    for cause in judgement.diagnosis.causes:
        touched = (cause.object, *(symptom.object for symptom in cause.symptoms))
        if cause.certainty is Certainty.PROVEN and any(judgement.world.top_owner(ref).key in asked for ref in touched):
            return True
    return False


def hypothesis(judgement: Judgement) -> str:
    """The leading suspicion in one line."""
    causes = judgement.diagnosis.causes
    if causes:
        return f"{causes[0].code} of {causes[0].object} ({causes[0].certainty.word})"
    return "nothing is suspected" if not judgement.diagnosis.not_proven else f"possibly {judgement.diagnosis.not_proven[0].code}"


def _settled(judgement: Judgement, want: LogWant) -> bool:
    """Whether the only findings that want a log are explained by a cause that is proven already."""
    asking = {(finding.code, finding.subject.key) for finding in judgement.findings if want in finding.wants}
    for cause in judgement.diagnosis.causes:
        if cause.certainty is Certainty.PROVEN:
            asking -= {(symptom.code, symptom.object.key) for symptom in cause.symptoms}
    return not asking
