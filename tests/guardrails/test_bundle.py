"""The loader refuses what the engine's own validator lets through, and keeps the last good bundle."""

from __future__ import annotations

from pathlib import Path

import cedarpy
import pytest
import yaml

from guardrails.bundle import SHIPPED, Bundles, Source, build, load, read, run_tests, warnings
from guardrails.errors import BadBundle

GROUPS = ("sre-oncall", "gpu-oncall")
GOOD = '@id("a") @effect("approve") @approvals("1") @approvers("sre-oncall") permit (principal, action, resource);'
TESTS = "cases: [{name: a, do: scale, resource: {name: x}, want: approve}]"
ALWAYS_DENIED = "cases: [{name: a, do: exec, resource: {name: x}, want: deny}]"
SCHEMA = read(SHIPPED).schema


def _build(rules: str, tests: str = TESTS, *, isolate: bool = False) -> None:
    build(Source(rules, SCHEMA, tests), GROUPS, isolate=isolate)


def test_the_shipped_bundle_loads_and_every_rule_is_tested() -> None:
    policy = load(SHIPPED, GROUPS)
    assert warnings(policy) == ()
    source = read(SHIPPED)
    undetected = []
    for rule in policy.rules:
        before, _, rest = source.rules.partition(f'@id("{rule}")')
        without = build(Source(before + rest.partition(";\n")[2], source.schema, ALWAYS_DENIED), GROUPS, isolate=False)
        assert rule not in without.rules
        if not run_tests(without, source.tests):
            undetected.append(rule)
    assert undetected == [], "removing a rule must fail the bundle's own tests"


def test_what_was_checked_is_not_checked_again_and_what_changed_is(tmp_path: Path) -> None:
    rules = tmp_path / "own.cedar"
    rules.write_text(GOOD, "utf-8")
    (tmp_path / "policy_test.yaml").write_text(TESTS, "utf-8")
    first = load(tmp_path, GROUPS)
    assert load(tmp_path, reversed(GROUPS)) is first
    with pytest.raises(BadBundle, match="knows no group sre-oncall"):
        load(tmp_path, ("gpu-oncall",))
    rules.write_text(GOOD.replace("permit", "forbid"), "utf-8")
    with pytest.raises(BadBundle, match="does not fit forbid"):
        load(tmp_path, GROUPS)
    rules.write_text(GOOD.replace('"a"', '"b"'), "utf-8")
    assert set(load(tmp_path, GROUPS).rules) == {"b"}


def test_a_good_bundle_loads_in_a_process_of_its_own() -> None:
    _build(GOOD, isolate=True)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (GOOD + GOOD, "Two rules have the id a"),
        (GOOD.replace('@id("a") ', ""), "no legal @id"),
        (GOOD.replace('"a"', '"A b"'), "no legal @id"),
        (GOOD.replace('@effect("approve") ', ""), "@effect is None"),
        (GOOD.replace('"approve"', '"allow"'), "@effect is 'allow'"),
        (GOOD.replace("permit", "forbid"), "does not fit forbid"),
        ('@id("a") @effect("deny") permit (principal, action, resource);', "does not fit permit"),
        (GOOD.replace('@approvals("1") ', ""), "needs @approvals"),
        (GOOD.replace('"1"', '"0"'), "needs @approvals"),
        (GOOD.replace('"1"', '"one"'), "needs @approvals"),
        (GOOD.replace('@approvers("sre-oncall") ', ""), "needs @approvals"),
        (GOOD.replace("sre-oncall", "sre-onkall"), "knows no group sre-onkall"),
        (GOOD.replace("permit", '@ttl("soon") permit'), "@ttl"),
        (GOOD.replace("permit", '@assurance("9") permit'), "@assurance"),
        (GOOD.replace("permit", '@efect("deny") permit'), "unknown annotations"),
        ('@id("a") @effect("auto") @approvals("1") permit (principal, action, resource);', "belong to approve rules"),
        (GOOD.replace("resource)", "resource) when { context.killSwich }"), "killSwich"),
        (GOOD.replace("resource)", 'resource) when { resource.ns == "kub\u0435-system" }'), "outside ASCII"),
        (GOOD.replace("a", "\u0430", 1), "outside ASCII"),
        (GOOD.replace("resource)", "resource\u202e)"), "invisible"),
        (GOOD.replace("resource)", "resource\u200b)"), "invisible"),
        (GOOD + "//" + "x" * (1 << 20), "over 1 MiB"),
        (GOOD.replace("resource)", f"resource) when {{ {'(' * 65}true{')' * 65} }}"), "nests deeper than 64"),
        (GOOD.replace("resource)", 'resource) when { "'), "unfinished string"),
        ("permit (principal", "parse"),
        ('@id("t") @effect("deny") forbid (principal == ?principal, action, resource);', "templates"),
    ],
)
def test_refused(rules: str, why: str) -> None:
    with pytest.raises(BadBundle, match=why):
        _build(rules)


def test_what_does_not_parse_is_said_in_the_parsers_words() -> None:
    with pytest.raises(BadBundle) as refused:
        _build("permit (principal", isolate=True)
    assert "unexpected end of input" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_thousand_parentheses_end_no_process() -> None:
    """The engine segfaults on them: they never reach it here, and if they did it would be in a process of its own."""
    deep = GOOD.replace("resource)", f"resource) when {{ {'(' * 1000}true{')' * 1000} }}")
    with pytest.raises(BadBundle, match="nests deeper"):
        _build(deep, isolate=True)


def test_recursion_that_no_bracket_shows_ends_only_the_other_process() -> None:
    deep = GOOD.replace("resource)", f"resource) when {{ {'if true then ' * 20_000}true{' else false' * 20_000} }}")
    with pytest.raises(BadBundle):
        _build(deep, isolate=True)


@pytest.mark.parametrize(
    "text", ["(((", "[1, 2", "x: [", "cases: []", "cases: [{nam: a}]", "- a", "cases: [{name: a, want: deny, context: {x: 1}}]"]
)
def test_a_malformed_test_file_is_refused(text: str) -> None:
    with pytest.raises(BadBundle, match=r"policy_test\.yaml"):
        _build(GOOD, text)


def test_a_bundle_whose_own_tests_fail_is_refused() -> None:
    with pytest.raises(BadBundle, match="want deny, got approve"):
        _build(GOOD, TESTS.replace("want: approve", "want: deny"))


def test_a_bundle_without_a_schema_has_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "policy_test.yaml").write_text(TESTS)
    assert read(tmp_path).schema == SCHEMA
    (tmp_path / "schema.cedarschema").write_text(SCHEMA + "// ours\n")
    assert read(tmp_path).schema.endswith("// ours\n")


def test_a_bad_bundle_leaves_the_last_good_one(tmp_path: Path) -> None:
    bundles = Bundles(load(SHIPPED, GROUPS))
    before = bundles.policy
    for name in ("schema.cedarschema", "policy_test.yaml"):
        (tmp_path / name).write_text((SHIPPED / name).read_text())
    (tmp_path / "a.cedar").write_text(GOOD)
    with pytest.raises(BadBundle, match="own tests fail"):
        bundles.reload(tmp_path, GROUPS)
    assert bundles.policy is before
    (tmp_path / "policy_test.yaml").write_text(TESTS)
    assert bundles.reload(tmp_path, GROUPS).sha256 != before.sha256
    assert set(bundles.policy.rules) == {"a"}


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="no \\*\\.cedar file"):
        read(tmp_path)
    (tmp_path / "a.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(BadBundle, match="cannot be read"):
        read(tmp_path)


def test_the_validator_itself_lets_duplicates_and_unknown_annotations_pass() -> None:
    """Why the loader exists: if the engine learns these, its rules here may go."""
    assert cedarpy.validate_policies(GOOD + GOOD.replace("permit", '@efect("deny") permit'), SCHEMA).validation_passed


def test_the_shipped_tests_name_every_rule() -> None:
    cases = yaml.safe_load(read(SHIPPED).tests)["cases"]
    assert len({case["name"] for case in cases}) == len(cases)
