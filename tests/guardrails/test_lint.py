"""The linter asks what a careful bundle answers with no, and says nothing about bundles that do."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.bundle import SHIPPED, Source, build, load, read
from guardrails.lint import actions_of, lint

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "policies"
SCHEMA = read(SHIPPED).schema
TESTS = "cases: [{name: a, do: exec, resource: {name: x}, want: deny}]"
CARELESS = '@id("auto-all") @effect("auto") permit (principal, action, resource);'


def _codes(rules: str) -> set[str]:
    return {remark.code for remark in lint(build(Source(rules, SCHEMA, TESTS), None, isolate=False), SCHEMA)}


def test_actions_are_those_of_the_schema() -> None:
    actions = actions_of(SCHEMA)
    assert actions["scale"] == "Workload"
    assert actions["cordon"] == "Node"
    assert "mutate" not in actions


def test_a_careless_bundle_is_told_everything() -> None:
    assert _codes(CARELESS) == {"auto-in-production", "allowed", "auto", "tenant", "system-namespace", "no-approve"}


def test_an_approval_for_more_than_a_day() -> None:
    rules = '@id("a") @effect("approve") @approvals("1") @approvers("x") @ttl("25h") permit (principal, action, resource);'
    assert "long-lived" in _codes(rules)
    assert "long-lived" not in _codes(rules.replace("25h", "24h"))


@pytest.mark.parametrize("folder", [SHIPPED, EXAMPLES / "sandbox", EXAMPLES / "locked-down"], ids=lambda folder: folder.name)
def test_our_bundles_are_careful(folder: Path) -> None:
    assert {remark.code for remark in lint(load(folder), SCHEMA)} <= {"never"}
