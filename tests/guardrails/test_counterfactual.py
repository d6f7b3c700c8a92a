"""What would have been enough: one fact where one is enough, the nearest number, two where none is, and no more questions than facts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec import structs

from guardrails.bundle import SHIPPED, Source, build, load, read
from guardrails.counterfactual import NearMiss, allows_more, near_misses
from guardrails.facts import Replicas
from guardrails.policy import Policy, decide
from tests.guardrails.test_policy import GOOD, STAGING

CLOSED = """
@id("deny-frozen-or-tainted") @effect("deny") forbid (principal, action, resource) when { context.frozen };
@id("deny-tainted") @effect("deny") forbid (principal, action, resource) when { context.tainted };
@id("deny-night") @effect("deny") forbid (principal, action, resource) when { context.minuteOfDay < 360 };
@id("deny-many-gpus") @effect("deny") forbid (principal, action, resource) when { context.gpus > 8 };
@id("approve") @effect("approve") @approvals("1") @approvers("x") permit (principal, action, resource);
"""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load()


@pytest.fixture(scope="module")
def closed() -> Policy:
    cases = "cases: [{name: a, do: scale, resource: {name: x}, context: {minuteOfDay: 600}, want: approve}]"
    return build(Source(CLOSED, read(SHIPPED).schema, cases), None, isolate=False)


def by_fact(found: tuple[NearMiss, ...]) -> dict[str, tuple[str, str]]:
    """Of single facts: the value and the effect."""
    return {miss.changes[0][0]: (miss.changes[0][1], miss.effect) for miss in found if len(miss.changes) == 1}


def test_the_one_fact_is_named(policy: Policy) -> None:
    found = by_fact(near_misses(policy, STAGING))
    assert found["resource.env"] == ("prod", "approve")
    assert found["context.killSwitch"] == ("true", "deny")
    assert found["context.failedMinutes"] == ("0", "approve")
    assert "context.breakGlass" not in found


def test_what_happened_need_not_have_happened(policy: Policy) -> None:
    denied = structs.replace(STAGING, circumstances=structs.replace(GOOD, tainted=True, denied_minutes=12))
    assert by_fact(near_misses(policy, denied))["context.deniedMinutes"] == ("-1", "approve")


def test_of_a_number_the_nearest_that_is_enough(policy: Policy, closed: Policy) -> None:
    """Found by halving, on the side of where it stands."""
    many = structs.replace(STAGING, circumstances=structs.replace(GOOD, changes_last_hour=900))
    assert by_fact(near_misses(policy, many))["context.changesLastHour"][0] == "19"
    gpus = structs.replace(STAGING, action="scale", circumstances=structs.replace(GOOD, gpus=64, minute_of_day=600))
    assert by_fact(near_misses(closed, gpus))["context.gpus"] == ("8", "approve")
    tenfold = structs.replace(STAGING, action="scale", circumstances=structs.replace(GOOD, replicas=Replicas(3, 300)))
    assert by_fact(near_misses(policy, tenfold))["context.replicas.to"] == ("30", "approve")


def test_another_hour_namespace_and_tenant(policy: Policy, closed: Policy) -> None:
    night = structs.replace(STAGING, action="scale", circumstances=structs.replace(GOOD, minute_of_day=185))
    assert by_fact(near_misses(closed, night))["context.minuteOfDay"] == ("360", "approve")
    system = structs.replace(STAGING, resource=structs.replace(STAGING.resource, ns="kube-system"))
    assert by_fact(near_misses(policy, system))["resource.ns"] == ("another-namespace", "auto")
    foreign = structs.replace(STAGING, tenants=("acme",))
    assert by_fact(near_misses(policy, foreign))["principal.tenants"] == ("acme, default", "auto")


def test_two_facts_where_no_single_one_is_enough(closed: Policy) -> None:
    twice = structs.replace(STAGING, action="scale", circumstances=structs.replace(GOOD, frozen=True, tainted=True, minute_of_day=600))
    found = near_misses(closed, twice)
    assert [miss.changes for miss in found] == [(("context.frozen", "false"), ("context.tainted", "false"))]
    assert str(found[0]) == "if context.frozen were false and context.tainted were false: approve by approve"
    assert (found[0].effect, found[0].rules, allows_more(found[0], "deny")) == ("approve", ("approve",), True)
    once = structs.replace(twice, circumstances=structs.replace(twice.circumstances, frozen=False))
    assert all(len(miss.changes) == 1 for miss in near_misses(closed, once)), "a pair is no news where one fact is enough"


def test_three_are_too_many_and_what_is_automatic_needs_none(policy: Policy, closed: Policy) -> None:
    thrice = structs.replace(GOOD, frozen=True, tainted=True, gpus=9, minute_of_day=600)
    assert near_misses(closed, structs.replace(STAGING, action="scale", circumstances=thrice)) == ()
    assert decide(policy, STAGING).effect == "auto"
    assert all(len(miss.changes) == 1 for miss in near_misses(policy, STAGING))


def test_another_thread_finds_the_same(policy: Policy) -> None:
    # Servers ask on a thread of their own, so that hundreds of questions keep nobody else waiting.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(near_misses, policy, STAGING).result() == near_misses(policy, STAGING) != ()
