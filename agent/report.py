"""A diagnosis as Markdown for people: causes first, each with its evidence ids, then what else was seen and what could not be.

It words nothing that the diagnosis does not say. Every list is bounded and says what it left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from cluster.gaps import by_reason
from cluster.reading import Missing
from runbooks.finding import Cause, Diagnosis, Evidence

CAUSES_SHOWN = 20
EVIDENCE_SHOWN = 6
SYMPTOMS_SHOWN = 8
ROWS_SHOWN = 12
T = TypeVar("T")


def markdown(
    diagnosis: Diagnosis,
    *,
    notes: Sequence[str] = (),
    proposal: dict[str, Any] | None = None,
    outcome: dict[str, Any] | None = None,
) -> str:
    """The report. `proposal` and `outcome` are the gate's words as the state keeps them."""
    lines = [f"# {_headline(diagnosis)}", "", f"Scope: {diagnosis.scope}, as of {diagnosis.now.isoformat()}", ""]
    for number, cause in enumerate(diagnosis.causes[:CAUSES_SHOWN], 1):
        lines += [*_cause(number, cause), ""]
    if len(diagnosis.causes) > CAUSES_SHOWN:
        lines += [f"{len(diagnosis.causes) - CAUSES_SHOWN} more causes are left out here.", ""]
    lines += _section("Advisories", diagnosis.advisories, lambda item: f"`{item.code}` {item.object}: {item.explanation}")
    lines += _section(
        "Suspected, not proven", diagnosis.not_proven, lambda item: f"`{item.code}` {item.object}: {item.text} Lacks: {item.lacks}"
    )
    lines += _section("Ruled out", diagnosis.ruled_out, lambda item: f"`{item.code}` {item.object}: {item.why}")
    lines += _section("Could not be seen", by_reason(diagnosis.cannot_see), _unseen)
    if proposal:
        lines += [
            "## Remediation",
            "",
            f"- proposal {proposal['id'] or '(refused)'}: {proposal['state']}. {proposal['summary']} {proposal['detail']}".rstrip(),
        ]
        if outcome:
            lines.append(f"- execution: {outcome['state']}. {outcome['detail']}".rstrip())
        lines.append("")
    lines += _section("Notes", tuple(notes), str)
    lines.append(f"Cost: {diagnosis.cost.requests} requests, {diagnosis.cost.bytes} bytes.")
    return "\n".join(lines) + "\n"


def _unseen(gap: Missing) -> str:
    return "; ".join(part for part in (f"{gap.what} ({gap.why.value})", gap.detail, gap.next_step) if part)


def _headline(diagnosis: Diagnosis) -> str:
    if diagnosis.causes:
        first = diagnosis.causes[0]
        more = f" and {len(diagnosis.causes) - 1} more" if len(diagnosis.causes) > 1 else ""
        return f"{first.title}: {first.object}{more}"
    return "Healthy: nothing is wrong in what could be seen" if diagnosis.healthy else "Nothing found, but too little could be seen"


def _cause(number: int, cause: Cause) -> Iterator[str]:
    since = f", since {cause.since.isoformat()}" if cause.since else ""
    yield f"## {number}. {cause.title}: {cause.object}"
    yield ""
    yield f"{cause.explanation} (`{cause.code}`, {cause.class_}, {cause.certainty.word}{since})"
    yield ""
    yield from _bounded(cause.evidence, EVIDENCE_SHOWN, _evidence)
    if cause.impact:
        yield f"- {cause.impact.text}"
    if cause.handover:
        yield f"- hand over: {cause.handover}"
    if cause.symptoms:
        yield ""
        yield "Explains:"
        yield from _bounded(cause.symptoms, SYMPTOMS_SHOWN, lambda item: f"{item.object}: {item.text}")


def _evidence(item: Evidence) -> str:
    at = f" at {item.at.isoformat()}" if item.at else ""
    return f"[{item.id}] {item.source.value} {item.object} `{item.path}`{at}: {item.quote}"


def _section(title: str, items: Sequence[T], line: Callable[[T], str]) -> list[str]:
    return [f"## {title}", "", *_bounded(items, ROWS_SHOWN, line), ""] if items else []


def _bounded(items: Sequence[T], limit: int, line: Callable[[T], str]) -> Iterable[str]:
    yield from (f"- {line(item)}" for item in items[:limit])
    if len(items) > limit:
        yield f"- and {len(items) - limit} more"
