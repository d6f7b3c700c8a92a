"""A proposal and its outcome as lines of text: what would change, by which rule, who agreed. Wording only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guardrails.counterfactual import PAIRS_MAX, Explanation, allows_more
from guardrails.executor import Outcome
from guardrails.facts import UNKNOWN
from guardrails.policy import Verdict
from guardrails.proposal import State
from guardrails.redact import present
from guardrails.view import ProposalView

CHANGES_SHOWN = 20
BODY_LIMIT = 1_500
BODY_LINES = 60
VALUE_LIMIT = 200
LINE_LIMIT = 2_500


def proposal_lines(shown: ProposalView) -> Iterator[str]:
    """One screen about one proposal, every line fit to show: names, reasons and details come from clusters and requesters."""
    return (_shown(line) for line in _proposal(shown))


def explanation_lines(shown: ProposalView, explained: Explanation) -> Iterator[str]:
    """Why the policy says what it says: the answer first, then what it rests on, what is proposed, and the request last."""
    return (_shown(line) for line in _explanation(shown, explained))


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """What came of an execution, with the requests as sent, or as they would be sent."""
    return (_shown(line) for line in _outcome(outcome))


def _shown(line: str) -> str:
    return present(line, LINE_LIMIT).replace("\n", " ")


def _proposal(shown: ProposalView) -> Iterator[str]:
    yield _head(shown)
    yield from _asked(shown)
    yield from _plan(shown)
    if shown.verdict is not None:
        yield f"  policy       {_decided(shown.verdict)}"
    yield from _standing(shown)


def _explanation(shown: ProposalView, explained: Explanation) -> Iterator[str]:
    verdict, near, then = explained.verdict, explained.near, shown.verdict
    yield _head(shown)
    yield f"  policy       {_decided(verdict)}"
    because = f"  because      {verdict.reason}"
    yield because
    if then is not None and (then.effect, then.rules, then.escalated_by) != (verdict.effect, verdict.rules, verdict.escalated_by):
        yield f"  said before  {_decided(then)}"
    enough = [miss for miss in near if allows_more(miss, verdict.effect)]
    yield from (f"  {miss}" for miss in enough)
    if sum(len(miss.changes) > 1 for miss in near) == PAIRS_MAX:
        yield f"  … only the first {PAIRS_MAX} pairs are shown"
    if verdict.effect != "auto" and not enough:
        yield f"  no single fact and no two would have led to more than {verdict.effect}"
    yield from (f"  {miss}" for miss in near if miss not in enough)
    yield from _facts(explained.facts.named())
    yield from _asked(shown)
    yield from (line for line in _standing(shown) if line != because)
    yield from _plan(shown)


def _facts(named: dict[str, Any]) -> Iterator[str]:
    """The facts in four lines: what is so, what is not, names and numbers, and what nobody knows or what means nothing here."""
    groups: dict[str, list[str]] = {"is": [], "is not": [], "facts": [], "unknown": []}
    for name, value in named.items():
        if isinstance(value, bool):
            groups["is" if value else "is not"].append(name)
        elif value == UNKNOWN or value in ("", [], ()):
            groups["unknown"].append(name)
        else:
            groups["facts"].append(f"{name} {json.dumps(value) if isinstance(value, list | tuple | dict) else value}")
    yield from (f"  {label:12} {', '.join(names)}" for label, names in groups.items() if names)


def _head(shown: ProposalView) -> str:
    return f"{shown.id}  {shown.state}  {shown.summary}"


def _decided(verdict: Verdict) -> str:
    rules = ", ".join((*verdict.rules, *(f"{rule} (escalates)" for rule in verdict.escalated_by)))
    return f"{verdict.effect} by {rules or 'no rule'}"


def _asked(shown: ProposalView) -> Iterator[str]:
    """Who asks for what, and what it puts at stake."""
    yield f"  cluster      {shown.cluster}"
    yield f"  requested by {shown.requester}{', with ' + ', '.join(shown.contributors) if shown.contributors else ''}"
    if shown.reason:
        yield f"  in their words (unverified): {shown.reason}"
    for change in shown.changes[:CHANGES_SHOWN]:
        before, after = _value(change.get("before")), _value(change.get("after"))
        yield f"  changes      {change.get('path')}: {before} -> {after}"
    if len(shown.changes) > CHANGES_SHOWN:
        yield f"  … {len(shown.changes) - CHANGES_SHOWN} more changes: smokejumper proposals show {shown.id} --json"
    if shown.stake:
        yield f"  at stake     {stake_words(shown.stake)}"


def _plan(shown: ProposalView) -> Iterator[str]:
    """What is sent, how it is taken back, and how one sees that it worked."""
    for request in shown.requests:
        yield from _request(request)
    if shown.requests:
        yield f"  undo         {shown.reversibility}{': ' + _method(shown.inverse[0]) if shown.inverse else ''}"
    for check in shown.checks:
        yield f"  then checks  {check.get('check')}{_wanted(check)} within {check.get('timeout_seconds')} s"
    yield from (f"  note         {note}" for note in shown.notes)


def _wanted(check: dict[str, Any]) -> str:
    """What a check holds the object to: the name alone would say of a cordon that the node is to be schedulable."""
    told = []
    for name, value in check.items():
        if name in ("check", "timeout_seconds", "target", "since") or (value is None and name != "value"):
            continue
        if isinstance(value, list | tuple):
            value = ".".join(map(str, value)) if name == "path" else len(value)
        told.append(f"{name.replace('_', ' ')} {_value(str(value).lower() if isinstance(value, bool) else value)}")
    return f" ({', '.join(told)})" if told else ""


def _standing(shown: ProposalView) -> Iterator[str]:
    """Who agreed, and what is next."""
    for approval in shown.approvals:
        void = f", does not count: {shown.void[approval.approver]}" if approval.approver in shown.void else ""
        yield f"  {approval.verdict:12} {approval.approver} at {approval.at.isoformat(timespec='seconds')} by {approval.channel}{void}"
    if shown.detail:
        yield f"  because      {shown.detail}"
    if shown.digest:
        yield f"  digest       {shown.digest}"
    if shown.expires_at is not None:
        yield f"  expires      {shown.expires_at.isoformat(timespec='seconds')}"
    if shown.next_step:
        yield f"  next         {shown.next_step}"


def stake_words(stake: dict[str, Any]) -> str:
    """What a change puts at stake, in the order of the numbers."""
    return ", ".join(
        f"{name.replace('_', ' ')} {', '.join(value) if isinstance(value, list | tuple) else value}" for name, value in stake.items()
    )


def _outcome(outcome: Outcome) -> Iterator[str]:
    if outcome.state is State.REHEARSED:
        yield f"{outcome.id}  {outcome.state}  A recording cannot change. Nothing was sent; this is what a live cluster would get:"
        yield from _rehearsed(outcome.detail)
        return
    yield f"{outcome.id}  {outcome.state}  {outcome.detail}"
    for request in outcome.requests:
        yield from _request(request)
    for check in outcome.checks:
        yield f"  {check.get('status', ''):12} {check.get('check', '')}: {check.get('detail', '')}"


def _rehearsed(detail: str) -> Iterator[str]:
    """The requests as the rehearsal wrote them: of each its head, and the body with precondition and receipt, its first lines."""
    parts = detail.split("\n\n")
    for head, body in zip(parts[::2], parts[1::2], strict=False):
        yield from (f"  {line.removeprefix('Rehearsed: ')}" for line in head.splitlines())
        # Whole, before it is cut into lines: a value is told to be a secret by the name on the line before.
        lines = present(body, BODY_LINES * LINE_LIMIT).splitlines()
        yield from (f"    {line}" for line in lines[:BODY_LINES])
        if len(lines) > BODY_LINES:
            yield f"    … {len(lines) - BODY_LINES} more lines"


def _request(request: dict[str, Any]) -> Iterator[str]:
    yield f"  request      {_method(request)}"
    body = json.dumps(request.get("body", {}), ensure_ascii=False, sort_keys=True)
    yield f"               {present(body, BODY_LIMIT)}"


def _method(request: dict[str, Any]) -> str:
    return f"{request.get('method')} {request.get('path')}"


def _value(value: Any) -> str:
    return "(absent)" if value is None else present(str(value), VALUE_LIMIT)
