"""The state machine, whole: every pair of states, and what a digest covers."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from guardrails.action import Scale, target
from guardrails.change import Change
from guardrails.errors import IllegalTransition
from guardrails.policy import Requirement
from guardrails.proposal import NEEDS_A_HUMAN, RUNNING, TERMINAL, TRANSITIONS, Evidence, Proposal, State, check_transition
from guardrails.request import MERGE_PATCH, ApiRequest
from tests.guardrails.conftest import START

# The design's section 2 once more, as it is written there, with `rehearsed`, `superseded`, and a withdrawal until it is executed.
WRITTEN = """
proposed → validating
validating → rejected denied pending approved
pending → approved denied expired withdrawn superseded
approved → executing stale expired pending withdrawn superseded
executing → verifying failed unknown rehearsed
verifying → succeeded failed inconclusive
failed → rolling_back closed
rolling_back → rolled_back rollback_failed
"""
LEGAL = {(State(a.strip()), State(b)) for line in WRITTEN.strip().splitlines() for a, _, bs in [line.partition("→")] for b in bs.split()}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)), ids=lambda state: state.value)
def test_every_pair(before: State, after: State) -> None:
    if (before, after) in LEGAL:
        check_transition(before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"is {before} cannot become {after}"):
            check_transition(before, after)


def test_every_state_can_be_reached_and_ends() -> None:
    reached = {State.PROPOSED}
    while more := {b for a in reached for b in TRANSITIONS.get(a, frozenset())} - reached:
        reached |= more
    assert reached == set(State)
    assert not TERMINAL & RUNNING
    assert NEEDS_A_HUMAN <= TERMINAL


def proposal(replicas: int = 3) -> Proposal:
    on = target("Deployment", "shop", "web").model_copy(update={"uid": "u", "generation": 4})

    def patch(count: int) -> ApiRequest:
        return ApiRequest(method="PATCH", path=on.path, content_type=MERGE_PATCH, body={"spec": {"replicas": count}})

    change = Change(requests=(patch(replicas),), inverse=(patch(1),), checks=(), observed={"spec.replicas": 1}, summary="s")
    return Proposal(
        id="p-1",
        tenant="default",
        cluster="lab",
        cluster_uid="c",
        action=Scale(replicas=replicas),
        target=on,
        change=change,
        evidence=Evidence(root="r"),
        requester="ada",
        not_after=START,
        requirement=Requirement(approvals={"sre-oncall": 1}),
        automatic=False,
        bundle="b",
    )


def test_the_digest_survives_storage_and_order() -> None:
    one = proposal()
    assert Proposal.model_validate_json(one.model_dump_json()).digest == one.digest
    assert Proposal.model_validate(dict(reversed(one.model_dump().items()))).digest == one.digest
    assert len(one.digest) == 64


def test_the_digest_covers_every_field() -> None:
    one = proposal()
    change = one.change
    others = {
        "v": 2,
        "id": "p-2",
        "tenant": "other",
        "cluster": "other",
        "cluster_uid": "other",
        "action": Scale(replicas=4),
        "target": one.target.model_copy(update={"generation": 5}),
        "change": change.model_copy(update={"observed": {"spec.replicas": 2}}),
        "field_manager": "other",
        "evidence": Evidence(root="other"),
        "requester": "bob",
        "contributors": ("bob",),
        "reason": "other",
        "not_after": START + timedelta(seconds=1),
        "requirement": Requirement(),
        "automatic": True,
        "bundle": "other",
    }
    assert set(others) == set(Proposal.model_fields)
    digests = {one.model_copy(update={name: value}).digest for name, value in others.items()}
    digests |= {one.model_copy(update={"change": change.model_copy(update={"inverse": ()})}).digest}
    digests |= {one.model_copy(update={"change": proposal(5).change}).digest, one.digest}
    assert len(digests) == len(others) + 3


def test_what_is_not_known_about_evidence_is_not_in_the_digest() -> None:
    """So that proposals of before it was asked for keep their digests."""
    one = proposal()
    assert b"read_at" not in one.canonical()
    read = one.model_copy(update={"evidence": Evidence(root="r", read_at=START)})
    assert read.digest != one.digest
    assert Proposal.model_validate_json(read.model_dump_json()).digest == read.digest


def test_integers_that_json_cannot_carry_do_not_break_it() -> None:
    one = proposal()
    big = one.model_copy(update={"change": one.change.model_copy(update={"observed": {"x": [2**60, True, -(2**60)]}})})
    assert b'"int:1152921504606846976"' in big.canonical()
    assert b"true" in big.canonical()
