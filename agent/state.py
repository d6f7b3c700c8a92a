"""The graph's state: small, plain and checkpointable. Facts stay in the workspace; authority stays with the gate.

Only JSON types are in it, so a checkpoint that somebody altered can name no class to build (strict deserialisation), and
everything that is read back is converted into a typed value again.
"""

from __future__ import annotations

from operator import add
from typing import Annotated, Any, TypedDict

import msgspec

from agent.incident import Incident
from cluster.reading import Cost
from runbooks.candidate import Candidate
from runbooks.finding import Diagnosis, Finding, LogWant, MetricWant, ObjectsWant, TelemetryWant, Want

FINDINGS_KEPT = 50
EVIDENCE_IDS_KEPT = 4
CAUSES_KEPT = 200


class Answered(TypedDict):
    """A probe that was asked and answered, well or not. `failure` says in words why it brought nothing."""

    want: dict[str, Any]
    requests: int
    bytes: int
    failure: str


class FindingRef(TypedDict):
    """A finding by name; its text and evidence are found again by detecting over the same world."""

    code: str
    object: str
    certainty: str
    evidence: list[str]


class Investigation(TypedDict, total=False):
    """What the graph remembers. `seconds` is what earlier processes spent; `diagnosis` is set once, when planning stops; `asked` is what
    a model was asked and answered."""

    incident: dict[str, Any]
    round: int
    hypothesis: str
    answered: Annotated[list[Answered], add]
    notes: Annotated[list[str], add]
    asked: Annotated[list[str], add]
    seconds: float
    findings: list[FindingRef]
    stop: str
    diagnosis: dict[str, Any]
    remedies: list[list[dict[str, Any]]]
    proposal: dict[str, Any]
    decision: dict[str, Any]
    outcome: dict[str, Any]
    report: str


class ProbeTask(TypedDict):
    """What one parallel branch is given: a want."""

    want: dict[str, Any]


def plain(value: Any) -> dict[str, Any]:
    """A Struct as JSON types."""
    built: dict[str, Any] = msgspec.to_builtins(value)
    return built


def incident_of(state: Investigation) -> Incident:
    return msgspec.convert(state["incident"], Incident)


def want_of(value: dict[str, Any]) -> Want:
    return msgspec.convert(value, type=LogWant | ObjectsWant | MetricWant | TelemetryWant)


def answered_wants(state: Investigation) -> tuple[Want, ...]:
    """The wants that were asked, in the order in which they were asked, each once."""
    return tuple(dict.fromkeys(want_of(item["want"]) for item in state.get("answered", [])))


def cost_of(state: Investigation) -> Cost:
    answered = state.get("answered", [])
    return Cost(sum(item["requests"] for item in answered), sum(item["bytes"] for item in answered))


def diagnosis_of(state: Investigation) -> Diagnosis:
    return msgspec.convert(state["diagnosis"], Diagnosis)


def remedies_of(state: Investigation) -> tuple[tuple[Candidate, ...], ...]:
    return msgspec.convert(state.get("remedies", []), tuple[tuple[Candidate, ...], ...])


def finding_ref(finding: Finding) -> FindingRef:
    return FindingRef(
        code=finding.code,
        object=str(finding.subject),
        certainty=finding.certainty.word,
        evidence=[item.id for item in finding.evidence[:EVIDENCE_IDS_KEPT]],
    )
