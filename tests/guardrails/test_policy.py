"""The engine agrees with the oracle, doubt is a deny, and more rules never allow more."""

from __future__ import annotations

import random
from typing import Any

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from guardrails.action import BY_NAME
from guardrails.bundle import SHIPPED, Source, build, load, read
from guardrails.facts import Circumstances, Facts, NodeFacts, Replicas, WorkloadFacts
from guardrails.policy import ENGINE_ERROR, Policy, Requirement, decide
from tests.guardrails.oracle import expected

REQUESTS = 2_500
REQUESTS_SOAKED = 20_000
RANK = {"deny": 0, "approve": 1, "auto": 2}
GOOD = Circumstances(validated=True, requester_reviewed=True, reversible=True)
STAGING = Facts("rollout_restart", "ada", WorkloadFacts(env="staging", name="web"), GOOD)
TESTS = "cases: [{name: a, do: exec, resource: {name: x}, want: deny}]"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load()


def request(chance: random.Random) -> Facts:
    """One request that fits the schema, each fact near the edge of some rule."""

    calm = chance.random() < 0.4

    def maybe(probability: float) -> bool:
        if calm:
            probability = 0.0 if probability < 0.5 else 1.0
        return chance.random() < probability

    def near(*values: int) -> int:
        return values[0] if calm else chance.choice(values)

    replicas = None
    action = chance.choice(["rollout_restart"] * 8 + ["scale"] * 4 + list(BY_NAME))
    if action == "scale" and maybe(0.9):
        replicas = Replicas(chance.choice([0, 1, 3, 2**62]), chance.choice([0, 1, 10, 11, 30, 31, 2**62]))
    tenant = "other" if maybe(0.2) else "default"
    env = chance.choice(["prod", "staging", "dev"])
    resource: WorkloadFacts | NodeFacts
    if "Node" in BY_NAME[action].traits.kinds:
        resource = NodeFacts(tenant, "c", env, "t", "n", chance.choice(["", "a100"]), maybe(0.3), maybe(0.1))
    else:
        ns = chance.choice(["shop", "shop", "shop", "kube-system", "smokejumper"])
        resource = WorkloadFacts(tenant, "c", env, "t", ns, chance.choice(["Deployment", "Pod"]), "w", maybe(0.2), maybe(0.05))
    circumstances = Circumstances(
        kill_switch=maybe(0.05),
        frozen=maybe(0.1),
        break_glass=maybe(0.2),
        validated=maybe(0.95),
        requester_reviewed=maybe(0.9),
        tainted=maybe(0.1),
        unseen=maybe(0.1),
        reversible=maybe(0.8),
        controlled=maybe(0.1),
        pods_affected=chance.choice([0, 1, 20, 21]),
        gpus=near(0, 0, 0, 8),
        pool_disrupted=near(0, 0, 1),
        serving_after=near(-1, -1, 0, 1),
        namespaces=tuple(chance.sample(["shop", "web", "kube-system"], near(0, 1, 2))),
        protected_affected=maybe(0.05),
        changes_last_hour=near(0, 0, 0, 19, 20),
        automatic_last_hour=near(0, 0, 4, 5),
        failed_last_hour=near(0, 0, 1, 2),
        failed_minutes=near(-1, -1, -1, 0),
        denied_minutes=near(-1, -1, 0, 29, 30),
        evidence_minutes=near(-1, -1, 0, 60, 61),
        replicas=replicas,
    )
    groups = tuple(chance.sample(["sre-oncall", "gpu-oncall"], chance.randint(0, 2)))
    return Facts(action, "ada", resource, circumstances, groups, ("default",))


def test_the_engine_agrees_with_the_oracle(policy: Policy) -> None:
    agree(policy, random.Random(20261125), REQUESTS)


@pytest.mark.soak
def test_the_engine_agrees_with_the_oracle_at_length(policy: Policy) -> None:
    print(f"{REQUESTS_SOAKED} requests, no difference: {agree(policy, random.Random(5), REQUESTS_SOAKED)}")


def agree(policy: Policy, chance: random.Random, requests: int) -> dict[str, int]:
    """Ask both about that many requests; how often each effect was the answer."""
    effects: dict[str, int] = {"deny": 0, "approve": 0, "auto": 0}
    for _ in range(requests):
        facts = request(chance)
        verdict = decide(policy, facts)
        approvals = verdict.requirement.approvals if verdict.effect == "approve" else {}
        assert (verdict.effect, approvals) == expected(facts), (facts, verdict)
        effects[verdict.effect] += 1
    assert min(effects.values()) >= 50, f"each effect is really tried: {effects}"
    return effects


def test_a_forbid_that_cannot_be_evaluated_is_a_deny(policy: Policy) -> None:
    """In Cedar itself the broken forbid is skipped and the request allowed: the trap is real."""
    broken = structs.replace(STAGING, action="scale", circumstances=structs.replace(GOOD, replicas=Replicas(2**62, 2**62)))
    verdict = decide(policy, broken)
    assert (verdict.effect, verdict.rules) == ("deny", (ENGINE_ERROR,))
    raw, entities = broken.question()
    answer = cedarpy.is_authorized(raw, policy.approvable, entities, schema=policy.schema)
    assert answer.allowed
    assert answer.diagnostics.errors


def test_without_its_schema_the_engine_would_ignore_the_kill_switch(policy: Policy) -> None:
    killed = structs.replace(STAGING, circumstances=structs.replace(GOOD, kill_switch=True))
    raw, entities = killed.question()
    assert cedarpy.is_authorized(raw, policy.automatic, entities).allowed, "the trap is real"
    assert decide(policy, killed).rules == ("deny-kill-switch",)


@pytest.mark.parametrize(
    "facts",
    [
        structs.replace(STAGING, action="exec"),
        structs.replace(STAGING, action="cordon"),
        structs.replace(STAGING, circumstances=structs.replace(GOOD, pods_affected=2**63)),
        structs.replace(STAGING, circumstances=structs.replace(GOOD, pods_affected="three")),
        structs.replace(STAGING, resource=structs.replace(STAGING.resource, env=None)),
        structs.replace(STAGING, resource=NodeFacts(name="n")),
    ],
)
def test_what_does_not_fit_the_schema_is_a_deny(policy: Policy, facts: Facts) -> None:
    verdict = decide(policy, facts)
    assert (verdict.effect, verdict.rules) == ("deny", (ENGINE_ERROR,))


def test_a_demoted_automatic_permit_does_not_satisfy_the_approved_question() -> None:
    """The first design asked one set with a mode: an escalated auto rule then allowed without any obligation."""
    source = read(SHIPPED)
    rules = """
@id("auto-all") @effect("auto") permit (principal, action, resource);
@id("escalate-all") @effect("escalate") forbid (principal, action, resource);
"""
    policy = build(Source(rules, source.schema, TESTS), None, isolate=False)
    verdict = decide(policy, STAGING)
    assert (verdict.effect, verdict.rules, verdict.escalated_by) == ("deny", ("default-deny",), ("escalate-all",))


def test_obligations_are_the_maximum_of_all_that_match() -> None:
    source = read(SHIPPED)
    rules = """
@id("a") @effect("approve") @approvals("1") @approvers("x,y") @ttl("60m") permit (principal, action, resource);
@id("b") @effect("approve") @approvals("2") @approvers("y") @ttl("10m") @assurance("2") permit (principal, action, resource);
"""
    policy = build(Source(rules, source.schema, TESTS.replace("deny", "approve").replace("exec", "scale")), None, isolate=False)
    assert decide(policy, STAGING).requirement == Requirement(approvals={"x": 1, "y": 2}, assurance=2, ttl_seconds=600)


def test_the_inputs_are_named(policy: Policy) -> None:
    one, other = decide(policy, STAGING), decide(policy, structs.replace(STAGING, requester="bob"))
    assert one.inputs_digest != other.inputs_digest
    assert one == decide(policy, STAGING)
    assert one.bundle == policy.sha256


_CONDITIONS = (
    "context.tainted",
    "context.gpus > 0",
    'resource.env == "prod"',
    "context.podsAffected >= 10",
    'principal in Smokejumper::Group::"sre-oncall"',
    "context has replicas && context.replicas.to > 3",
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), effect=st.sampled_from(["deny", "escalate"]), condition=st.sampled_from(_CONDITIONS))
def test_another_forbid_never_allows_more(policy: Policy, seed: int, effect: str, condition: str) -> None:
    more = _with(f'@id("more") @effect("{effect}") forbid (principal, action, resource) when {{ {condition} }};')
    chance = random.Random(seed)
    for _ in range(5):
        facts = request(chance)
        before, after = decide(policy, facts), decide(more, facts)
        assert RANK[after.effect] <= RANK[before.effect]
        if effect == "escalate" and before.effect != "auto":
            assert after.effect == before.effect, "an escalation removes the automatic way only"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_order_of_rules_does_not_matter(policy: Policy, seed: int) -> None:
    source, chance = read(SHIPPED), random.Random(seed)
    rules = [f"@id{part}" for part in source.rules.split("@id")[1:]]
    chance.shuffle(rules)
    shuffled = build(Source("\n".join(rules), source.schema, TESTS), None, isolate=False)
    for _ in range(10):
        facts = request(chance)
        one, other = decide(policy, facts), decide(shuffled, facts)
        assert (one.effect, one.rules, one.requirement) == (other.effect, other.rules, other.requirement)


def _with(rule: str) -> Policy:
    source: Any = read(SHIPPED)
    return build(Source(f"{source.rules}\n{rule}", source.schema, TESTS), None, isolate=False)
