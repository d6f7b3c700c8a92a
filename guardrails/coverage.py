"""How well a bundle's own tests hold its rules: which case lets which rule decide, and which change of a rule no case would notice.

A mutant is the bundle with one rule taken out, one condition dropped or turned around, one bound moved by one, or fewer approvals asked;
a mutant that passes every test is a mistake that nobody would see. Pure but for the policy engine.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import cedarpy
from msgspec import Struct

from guardrails.bundle import Source, assemble, cases_of, run_tests
from guardrails.errors import BadBundle
from guardrails.policy import Policy, decide

_TURNED = {"when": "unless", "unless": "when"}
_EDGES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


class Covered(Struct, frozen=True):
    """One rule and the names of the cases in which it decided or escalated."""

    rule: str
    cases: tuple[str, ...]


class Mutant(Struct, frozen=True):
    """One change of one rule. `noticed_by` is the first case that fails, empty when none does."""

    rule: str
    change: str
    noticed_by: str = ""


def coverage(policy: Policy, source: Source) -> tuple[Covered, ...]:
    """Every rule, in the order of the bundle. Raises BadBundle when the test file is malformed."""
    found: dict[str, list[str]] = {rule: [] for rule in policy.rules}
    for name, facts in cases_of(source.tests):
        verdict = decide(policy, facts)
        for rule in (*verdict.rules, *verdict.escalated_by):
            if rule in found:
                found[rule].append(name)
    return tuple(Covered(rule, tuple(cases)) for rule, cases in found.items())


def mutants(source: Source) -> Iterator[Mutant]:
    """Every mutant of a bundle that loads, tried against its tests. Raises BadBundle when the bundle does not parse."""
    try:
        rules: dict[str, Any] = json.loads(cedarpy.policies_to_json_str(source.rules))["staticPolicies"]
    except ValueError as error:
        raise BadBundle(f"The policies cannot be parsed: {str(error)[:500]}.") from error
    for key, raw in rules.items():
        for change, changed in _changes(raw):
            others = {name: rule for name, rule in rules.items() if name != key} | ({} if changed is None else {key: changed})
            try:
                failures = run_tests(assemble(source, others, None), source.tests)
            except BadBundle:
                # The engine's validator refuses it: that is noticed before any test runs.
                yield Mutant(raw["annotations"]["id"], change, "the validator")
                continue
            yield Mutant(raw["annotations"]["id"], change, failures[0].name if failures else "")


def _changes(raw: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    yield "taken out", None
    for number, condition in enumerate(raw.get("conditions", ())):
        dropped = copy.deepcopy(raw)
        del dropped["conditions"][number]
        yield f"without its {condition['kind']}", dropped
        turned = copy.deepcopy(raw)
        turned["conditions"][number]["kind"] = _TURNED[condition["kind"]]
        yield f"{condition['kind']} turned into {_TURNED[condition['kind']]}", turned
        for what, body in _moved(condition["body"]):
            moved = copy.deepcopy(raw)
            moved["conditions"][number]["body"] = body
            yield what, moved
    approvals = raw.get("annotations", {}).get("approvals", "")
    if approvals.isdigit() and int(approvals) > 1:
        laxer = copy.deepcopy(raw)
        laxer["annotations"]["approvals"] = str(int(approvals) - 1)
        yield f"asking {int(approvals) - 1} instead of {approvals}", laxer


def _moved(node: Any) -> Iterator[tuple[str, Any]]:
    """The expression with one comparison moved by one: `<` to `<=` and back."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _EDGES:
                yield f"{_EDGES[key]} instead of {key}", {_EDGES[key]: value}
            for what, inner in _moved(value):
                yield what, {**node, key: inner}
    elif isinstance(node, list):
        for number, value in enumerate(node):
            for what, inner in _moved(value):
                yield what, [*node[:number], inner, *node[number + 1 :]]
