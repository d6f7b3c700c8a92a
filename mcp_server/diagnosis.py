"""A diagnosis as a page: verdict and causes first, then the evidence rows, then what is open. It shortens and never rewords.

Causes that do not all fit are told in breadth first (`mcp_server.overview`), then the worst of them in detail.

Text and structured content are made from one shortened document (`runbooks.document`), so neither says more than the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from cluster.gaps import by_reason
from cluster.reading import Missing
from cluster.timestamps import age
from guardrails.redact import present
from mcp_server.overview import named, overview, overview_lines
from mcp_server.registry import Investigated, Page
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, Cell, Output, cannot_see, cell, fence
from mcp_server.runbooks import page_names
from runbooks.document import diagnosis_document
from runbooks.finding import Cause

SENTENCE_LIMIT = 500
# What the lines that say what was left out may take.
TAIL_BYTES = 240
# What the line of each fault may take of a page, in percent, before the worst causes are told in detail.
OVERVIEW_SHARE = 70
# How a count of what was left out is worded.
LEFT_OUT = {"ruled_out": "ruled out", "not_proven": "not proven", "cannot_see": "gaps in what can be seen"}
Detail = Literal["summary", "full"]


class _Level(Struct, frozen=True):
    """How many of each list are shown."""

    evidence: int
    symptoms: int
    remedies: int
    rest: int


# From what is worth reading to what must be read, for diagnoses of long words.
LEVELS = (_Level(5, 5, 2, 5), _Level(3, 3, 2, 2), _Level(2, 2, 1, 1), _Level(1, 1, 1, 0))
REST = ("advisories", "ruled_out", "not_proven", "cannot_see")


class ObjectName(Output):
    kind: str
    namespace: str | None
    name: str


class CauseOutput(Output):
    object: ObjectName
    code: str
    class_: str | None = Field(alias="class")
    title: str
    explanation: str
    certainty: Literal["proven", "likely", "possible"]
    evidence: list[dict[str, Any]]
    symptoms: list[dict[str, Any]]
    handover: str | None = None
    impact: dict[str, Any] | None = None
    remedies: list[dict[str, Any]]


class DiagnosisOutput(Output):
    """The members that clients most need; docs/diagnosis-format.md has all of them."""

    healthy: bool
    scope: SkipJsonSchema[str]
    now: SkipJsonSchema[str]
    causes: list[CauseOutput]
    faults: SkipJsonSchema[list[dict[str, Any]] | None] = None
    causes_total: SkipJsonSchema[int | None] = None
    advisories: SkipJsonSchema[list[dict[str, Any]]]
    ruled_out: SkipJsonSchema[list[dict[str, Any]]]
    not_proven: list[dict[str, Any]]
    cannot_see: list[dict[str, Any]]
    cut: SkipJsonSchema[str] = ""


class Beside(Struct, frozen=True):
    """A small table that belongs to the question and stands behind the evidence: how what was asked about stands.

    Cells that workloads may have written are fenced with the rest.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    missing: tuple[Missing, ...] = ()


class BesideOutput(Output):
    """The table as data."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    cut: str = ""


def diagnosis_page(found: Investigated, detail: Detail = "summary", beside: Beside | None = None) -> Page:
    """The page of an investigation, and a table that goes with it."""
    told = replace(found.diagnosis, cannot_see=tuple(by_reason(found.diagnosis.cannot_see)))
    document = diagnosis_document(told, found.remedies, seconds=found.seconds)
    whole = DEFAULT_BYTES if detail == "summary" else HARD_BYTES
    table, aside = _beside(beside, whole // 3) if beside else (None, [])
    used = sum(len(line.encode()) + 1 for line in aside) + TAIL_BYTES
    shown = shortened(document, found.diagnosis.causes, whole - used)
    lines = [*_lines(shown), *aside]
    if shown.get("cut"):
        lines.append(f"-- left out: {shown['cut']}" + ("; detail=full shows more" if detail == "summary" else "; ask about one object"))
    if table is not None:
        shown = {**shown, "beside": table.model_dump(mode="json")}
    if found.id:
        lines.append(f"-- kept for you as smokejumper://investigations/{found.id}")
        shown = {**shown, "id": found.id}
    return Page(tuple(lines), shown, budget_bytes=whole)


def _beside(beside: Beside, budget_bytes: int) -> tuple[BesideOutput, list[str]]:
    title = _sentence(beside.title)
    blind = cannot_see(beside.missing, budget_bytes // 3)
    used = sum(len(line.encode()) + 1 for line in (title, *blind, "\t".join(beside.columns))) + TAIL_BYTES
    rows: list[list[str]] = []
    for values in beside.rows:
        row = [cell(value) for value in values]
        used += len("\t".join(row).encode()) + 1
        if rows and used > budget_bytes:
            break
        rows.append(row)
    more = len(beside.rows) - len(rows)
    cut = f"{more} more of {len(beside.rows)} rows" if more else ""
    body = fence(["\t".join(beside.columns), *("\t".join(row) for row in rows)]) if rows else []
    table = BesideOutput(title=title, columns=list(beside.columns), rows=rows, cut=cut)
    return table, [title, *body, *([f"-- {cut}"] if cut else []), *blind]


def shortened(document: dict[str, Any], causes: Sequence[Cause], budget_bytes: int) -> dict[str, Any]:
    """The document with its lists cut to what is worth reading, the less the less room there is. Where its causes do not all fit so, they
    are told by fault, and as many in detail as there is room left for, the first at least."""
    for level in LEVELS[:-1]:
        shown = _cut_to(document, level, budget_bytes)
        if len(shown["causes"]) == len(causes) and _size(shown) <= budget_bytes:
            return shown
    told = overview(causes, budget_bytes * OVERVIEW_SHARE // 100) if len(causes) > 1 else []
    document = {**document, "faults": told, "causes_total": len(causes)} if told else document
    for level in LEVELS:
        shown = _cut_to(document, level, budget_bytes)
        if _size(shown) <= budget_bytes:
            break
    return shown


def _cut_to(document: dict[str, Any], level: _Level, budget_bytes: int) -> dict[str, Any]:
    left_out: dict[str, int] = {}

    def first(items: list[Any], count: int, what: str) -> list[Any]:
        left_out[what] = left_out.get(what, 0) + max(0, len(items) - count)
        return items[:count]

    causes = [
        {
            **cause,
            "evidence": first(cause["evidence"], level.evidence, "evidence"),
            "symptoms": first(cause["symptoms"], level.symptoms, "symptoms"),
            "remedies": first(cause["remedies"], level.remedies, "remedies"),
        }
        for cause in document["causes"]
    ]
    rest = {what: first(document[what], level.rest, LEFT_OUT.get(what, what)) for what in REST}
    shown = {**document, **rest, "causes": []}
    used = _size(shown)
    for cause in causes:
        used += _size({**shown, **dict.fromkeys((*rest, "faults"), ()), "causes": [cause]})
        if shown["causes"] and used > budget_bytes:
            break
        shown["causes"].append(cause)
    left_out["causes"] = len(causes) - len(shown["causes"])
    cut = ", ".join(f"{count} {what}" for what, count in left_out.items() if count)
    return {**shown, "cut": cut} if cut else shown


def _size(document: dict[str, Any]) -> int:
    """What the larger of the two forms takes; JSON repeats member names, which the budget of text does not pay for."""
    return max(sum(len(line.encode()) + 1 for line in _lines(document)), len(msgspec.json.encode(document)) // 2)


def _lines(document: dict[str, Any]) -> list[str]:
    now = datetime.fromisoformat(document["now"])
    lines = [_verdict(document), *overview_lines(document.get("faults", ()), document.get("causes_total", 0))]
    evidence: list[str] = []
    for number, cause in enumerate(document["causes"], 1):
        lines += _cause(number, cause, now)
        evidence += [_evidence(number, item, now) for item in cause["evidence"]]
    if evidence:
        lines += fence(["cause\tevidence\tsource\tobject\tpath\tage\tquote", *evidence])
    for item in document["advisories"]:
        lines.append(_sentence(f"advisory: {named(item['object'])} {item['code']}: {item['explanation']}"))
    for item in document["not_proven"]:
        lines.append(_sentence(f"not proven: {named(item['object'])} {item['code']}: {item['text']} Lacks: {item['lacks']}"))
    for item in document["ruled_out"]:
        lines.append(_sentence(f"ruled out: {named(item['object'])} {item['code']}: {item['why']}"))
    for item in document["cannot_see"]:
        why = "; ".join(part for part in (item["why"], item["detail"], item["next_step"]) if part)
        lines.append(_sentence(f"cannot see: {item['what']} ({why})"))
    return lines


def _verdict(document: dict[str, Any]) -> str:
    if document["healthy"]:
        verdict = "healthy: nothing that can be seen is wrong"
    elif document["causes"]:
        count = document.get("causes_total", len(document["causes"]))
        verdict = f"{count} root cause{'s' if count > 1 else ''}"
    else:
        verdict = "no cause proven"
    return _sentence(f"{document['scope']}, as of {document['now']}: {verdict}")


def _cause(number: int, cause: dict[str, Any], now: datetime) -> list[str]:
    since = f", since {age(datetime.fromisoformat(cause['since']), now)}" if cause["since"] else ""
    lines = [
        _sentence(f"{number}. {named(cause['object'])}: {cause['title']} ({cause['certainty']}; {cause['class'] or cause['code']}{since})"),
        _sentence(f"   {cause['explanation']}"),
    ]
    if cause["symptoms"]:
        lines.append(_sentence("   explains " + "; ".join(f"{named(item['object'])} {item['code']}" for item in cause["symptoms"])))
    if cause["impact"]:
        lines.append(_sentence(f"   {cause['impact']['text']}"))
    if cause["handover"]:
        lines.append(_sentence(f"   hand over: {cause['handover']}"))
    for remedy in cause["remedies"]:
        parameters = "".join(f" {name}={value}" for name, value in remedy["parameters"].items() if value is not None)
        lines.append(_sentence(f"   may be proposed: {remedy['action']} {named(remedy['target'])}{parameters}: {remedy['why']}"))
    if cause["page"] in page_names():
        lines.append(f"   runbook://{cause['page']}")
    return lines


def _evidence(number: int, item: dict[str, Any], now: datetime) -> str:
    when = age(datetime.fromisoformat(item["at"]), now) if item["at"] else ""
    return "\t".join((str(number), item["id"], item["source"], cell(named(item["object"])), cell(item["path"]), when, cell(item["quote"])))


def _sentence(text: str) -> str:
    return present(text, SENTENCE_LIMIT).replace("\n", " ")
