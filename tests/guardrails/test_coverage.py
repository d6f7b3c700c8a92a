"""Coverage and mutants tell which rules a bundle's tests hold, and which they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.bundle import SHIPPED, Source, build, load, read
from guardrails.coverage import coverage, mutants

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "policies"
RULES = """
@id("deny-large") @effect("deny") forbid (principal, action, resource) when { context.podsAffected >= 10 };
@id("deny-frozen") @effect("deny") forbid (principal, action, resource) when { context.frozen };
@id("approve") @effect("approve") @approvals("2") @approvers("sre-oncall") permit (principal, action, resource);
"""
TESTS = """
cases:
  - {name: small, do: scale, resource: {name: x}, context: {podsAffected: 3}, want: approve, rule: approve}
  - {name: large, do: scale, resource: {name: x}, context: {podsAffected: 30}, want: deny, rule: deny-large}
"""


def _source(tests: str) -> Source:
    return Source(RULES, read(SHIPPED).schema, tests)


def test_a_rule_that_never_decides_is_shown() -> None:
    source = _source(TESTS)
    covered = {rule.rule: rule.cases for rule in coverage(build(source, None, isolate=False), source)}
    assert covered == {"deny-large": ("large",), "deny-frozen": (), "approve": ("small",)}


def test_what_no_test_would_notice_is_shown() -> None:
    survivors = {(mutant.rule, mutant.change) for mutant in mutants(_source(TESTS)) if not mutant.noticed_by}
    assert survivors == {
        ("deny-large", "> instead of >="),
        ("deny-frozen", "taken out"),
        ("approve", "asking 1 instead of 2"),
    }


def test_better_tests_notice_everything() -> None:
    more = TESTS.replace("podsAffected: 30", "podsAffected: 10").replace("rule: approve}", "rule: approve, approvals: {sre-oncall: 2}}")
    more += "  - {name: frozen, do: scale, resource: {name: x}, context: {frozen: true}, want: deny, rule: deny-frozen}\n"
    assert [mutant for mutant in mutants(_source(more)) if not mutant.noticed_by] == []


@pytest.mark.parametrize("folder", [SHIPPED, EXAMPLES / "sandbox", EXAMPLES / "locked-down"], ids=lambda folder: folder.name)
def test_each_rule_of_our_bundles_decides_in_a_test_and_none_can_be_taken_out(folder: Path) -> None:
    source, policy = read(folder), load(folder, ("sre-oncall", "gpu-oncall"))
    assert [rule.rule for rule in coverage(policy, source) if not rule.cases] == []
    tried = tuple(mutants(source))
    assert len(tried) > len(policy.rules)
    assert [mutant for mutant in tried if not mutant.noticed_by and mutant.change == "taken out"] == []
