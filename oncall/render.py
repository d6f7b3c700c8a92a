"""A diagnosis for a terminal: what broke, why, on what evidence, what explains it, what the safe fix is. Wording only."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from cluster.gaps import by_reason
from cluster.reading import Missing
from cluster.timestamps import age
from runbooks.candidate import Candidate
from runbooks.faults import faults
from runbooks.finding import Cause, Certainty, Diagnosis, Evidence

CAUSES_SHOWN = 10
EVIDENCE_SHOWN = 5
SYMPTOMS_SHOWN = 5
REST_SHOWN = 8
NAMES_SHOWN = 12
STYLES = {Certainty.PROVEN: "bold green", Certainty.LIKELY: "bold yellow", Certainty.POSSIBLE: "bold"}


def print_diagnosis(
    console: Console, diagnosis: Diagnosis, remedies: Sequence[tuple[Candidate, ...]], recording: Path | None = None
) -> None:
    """The whole diagnosis, bounded; `remedies` are the candidates of each cause, in the same order, of a cluster or of a recording."""
    console.print(_headline(diagnosis))
    for number, (cause, candidates) in enumerate(zip(diagnosis.causes[:CAUSES_SHOWN], remedies, strict=False), start=1):
        console.print()
        _print_cause(console, number, cause, candidates, diagnosis.now, recording)
    _print_others(console, diagnosis.causes[CAUSES_SHOWN:])
    if diagnosis.advisories:
        console.print("\nadvisories (nothing fails because of these)", style="bold")
        for advisory in diagnosis.advisories[:REST_SHOWN]:
            console.print(_indented(f"{advisory.object}: {advisory.title}. {advisory.explanation}"))
        _rest(console, "advisories", len(diagnosis.advisories) - REST_SHOWN, "-o json shows all")
    if diagnosis.not_proven:
        console.print("\nnot proven", style="bold")
        for item in diagnosis.not_proven[:REST_SHOWN]:
            console.print(_indented(f"{item.object}: {item.text} Lacks: {item.lacks}."))
        _rest(console, "suspicions", len(diagnosis.not_proven) - REST_SHOWN, "-o json shows all")
    if diagnosis.ruled_out:
        console.print("\nruled out", style="bold")
        for ruled in diagnosis.ruled_out[:REST_SHOWN]:
            console.print(_indented(f"{ruled.object} {ruled.code}: {ruled.why}"))
        _rest(console, "ruled out", len(diagnosis.ruled_out) - REST_SHOWN, "-o json shows all")
    if diagnosis.cannot_see:
        console.print("\ncannot see", style="bold")
        lines = gaps(diagnosis.cannot_see)
        for line in lines[:REST_SHOWN]:
            console.print(_indented(line))
        _rest(console, "gaps", len(lines) - REST_SHOWN, "-o json shows all")


def gaps(missing: Sequence[Missing]) -> list[str]:
    """What could not be seen, a line for each reason."""
    return [missing_line(gap) for gap in by_reason(missing)]


def missing_line(missing: Missing) -> str:
    """What could not be seen, why, and what would make it visible."""
    detail = f": {missing.detail}" if missing.detail else ""
    step = f" — {missing.next_step}" if missing.next_step else ""
    return f"{missing.what} ({missing.why.value}{detail}){step}"


def propose_command(candidate: Candidate, recording: Path | None = None) -> str:
    """The command line that proposes a candidate, or rehearses it on the recording that it was found in."""
    target = candidate.target
    where = f" -n {target.namespace}" if target.namespace else ""
    options = "".join(_option(name, value) for name, value in candidate.parameters.items() if value is not None)
    rehearsed = f" --recording {shlex.quote(str(recording))}" if recording is not None else ""
    return f"smokejumper propose {candidate.action} {target.kind}/{target.name}{where}{options}{rehearsed}"


def _option(name: str, value: object) -> str:
    """A parameter as `propose` takes it: two have options of their own, the rest go through --set."""
    return f" --{name.replace('_', '-')} {value}" if name in ("to_revision", "replicas") else f" --set {name}={value}"


def _headline(diagnosis: Diagnosis) -> Text:
    if diagnosis.healthy:
        verdict, style = "healthy: nothing that this can see is wrong", "bold green"
    elif diagnosis.causes:
        count = len(diagnosis.causes)
        verdict, style = f"{count} cause{'s' if count > 1 else ''}", "bold red"
    else:
        verdict, style = "no cause proven", "bold yellow"
    return Text.assemble((diagnosis.scope, "bold"), "  ", (verdict, style), f"  at {diagnosis.now.isoformat(timespec='seconds')}")


def _print_cause(
    console: Console, number: int, cause: Cause, candidates: tuple[Candidate, ...], now: datetime, recording: Path | None
) -> None:
    since = f"  since {age(cause.since, now)}" if cause.since else ""
    console.print(
        Text.assemble(
            (f"{number}. {cause.object}", "bold"),
            f"  {cause.title}  ",
            (cause.certainty.word, STYLES[cause.certainty]),
            f"  {cause.class_}{since}",
        )
    )
    console.print(_indented(cause.explanation))
    for item in cause.evidence[:EVIDENCE_SHOWN]:
        console.print(_indented(_evidence_line(item, now)))
    _rest(console, "pieces of evidence", len(cause.evidence) - EVIDENCE_SHOWN, "-o json shows all")
    if cause.symptoms:
        console.print(_indented(f"explains {len(cause.symptoms)} more:"))
        for symptom in cause.symptoms[:SYMPTOMS_SHOWN]:
            console.print(Padding(Text(f"{symptom.object}: {symptom.text}"), (0, 0, 0, 5), expand=False))
        _rest(console, "symptoms", len(cause.symptoms) - SYMPTOMS_SHOWN, "-o json shows all")
    if cause.impact:
        console.print(_indented(f"costs: {cause.impact.text}"))
    if cause.handover:
        console.print(_indented(f"hand over: {cause.handover}"))
    for candidate in candidates[:2]:
        console.print(_indented(f"fix: {candidate.why}"))
        console.print(Padding(Text(propose_command(candidate, recording), style="cyan"), (0, 0, 0, 5), expand=False), soft_wrap=True)


def _print_others(console: Console, causes: Sequence[Cause]) -> None:
    """The causes that are not told one by one: a line for each fault, with whom it befalls."""
    if not causes:
        return
    told = faults(causes)
    console.print(f"\n{len(causes)} more causes (-o json shows all)", style="bold")
    for fault in told[:REST_SHOWN]:
        left = len(fault.causes) - NAMES_SHOWN
        names = ", ".join(str(cause.object) for cause in fault.causes[:NAMES_SHOWN]) + (f" and {left} more" if left > 0 else "")
        console.print(_indented(f"{len(fault.causes)} x {fault.first.title} ({fault.first.certainty.word}): {names}"))
    _rest(console, "kinds of fault", len(told) - REST_SHOWN, "-o json shows all")


def _evidence_line(item: Evidence, now: datetime) -> str:
    when = f" {age(item.at, now)} ago" if item.at else ""
    return f"{item.id} {item.source.value} {item.object} {item.path}{when}: {item.quote}"


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 3), expand=False)


def _rest(console: Console, what: str, count: int, how: str) -> None:
    if count > 0:
        console.print(_indented(f"… {count} more {what}; {how}"))
