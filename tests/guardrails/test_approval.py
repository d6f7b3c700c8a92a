"""Who counts, how often, and whose time is over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.approval import Approval, tally
from guardrails.policy import Requirement
from tests.guardrails.conftest import START

MEMBERS = {"bob": ("sre",), "cleo": ("sre", "gpu"), "dan": ("gpu",), "eve": ()}


def said(name: str, **other: Any) -> Approval:
    return Approval.model_validate({"proposal_id": "p", "digest": "d", "approver": name, "channel": "cli", "at": START} | other)


def missing(requirement: Requirement, *given_: Approval, contributors: tuple[str, ...] = ()) -> dict[str, int]:
    return tally(requirement, given_, MEMBERS, digest="d", requester="ada", contributors=contributors).missing


ONE, TWO = Requirement(approvals={"sre": 1}), Requirement(approvals={"sre": 2})
BOTH = Requirement(approvals={"sre": 1, "gpu": 1})


@pytest.mark.parametrize(
    ("requirement", "approvals", "short"),
    [
        (ONE, (), {"sre": 1}),
        (ONE, (said("bob"),), {}),
        (ONE, (said("ada"),), {"sre": 1}),
        (ONE, (said("ADA"),), {"sre": 1}),
        (ONE, (said("dan"),), {"sre": 1}),
        (ONE, (said("eve"),), {"sre": 1}),
        (ONE, (said("stranger"),), {"sre": 1}),
        (ONE, (said("bob", digest="other"),), {"sre": 1}),
        (ONE, (said("bob", verdict="deny"),), {"sre": 1}),
        (ONE, (said("bob", assurance=0),), {"sre": 1}),
        (Requirement(approvals={"sre": 1}, assurance=2), (said("bob"),), {"sre": 1}),
        (TWO, (said("bob"), said("bob", channel="slack")), {"sre": 1}),
        (TWO, (said("bob"), said("cleo")), {}),
        (BOTH, (said("cleo"),), {"gpu": 1}),
        (BOTH, (said("cleo"), said("bob")), {}),
        (BOTH, (said("cleo"), said("dan")), {}),
        (Requirement(), (), {}),
    ],
)
def test_counting(requirement: Requirement, approvals: tuple[Approval, ...], short: dict[str, int]) -> None:
    assert missing(requirement, *approvals) == short


def test_one_person_never_fills_two_places() -> None:
    assert sum(missing(BOTH, said("cleo")).values()) == 1


def test_contributors_do_not_count() -> None:
    counted = tally(ONE, (said("bob"),), MEMBERS, digest="d", requester="ada", contributors=("Bob",))
    assert counted.missing == {"sre": 1}
    assert counted.void == {"bob": "asked for it or contributed"}


@given(
    groups=st.dictionaries(st.sampled_from("pqrstu"), st.sets(st.sampled_from("xyz")), max_size=6),
    places=st.dictionaries(st.sampled_from("xyz"), st.integers(1, 2), max_size=3),
)
def test_as_many_places_are_filled_as_can_be(groups: dict[str, set[str]], places: dict[str, int]) -> None:
    members = {name: tuple(sorted(of)) for name, of in groups.items()}
    approvals = tuple(said(name) for name in members)
    short = tally(Requirement(approvals=places), approvals, members, digest="d", requester="ada", contributors=()).missing
    slots = [group for group, count in places.items() for _ in range(count)]

    def best(index: int, used: frozenset[str]) -> int:
        if index == len(slots):
            return 0
        choices = [best(index + 1, used | {name}) + 1 for name in members if name not in used and slots[index] in members[name]]
        return max([best(index + 1, used), *choices])

    assert len(slots) - sum(short.values()) == best(0, frozenset())
