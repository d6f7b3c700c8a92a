"""Our explanation of device claims against the real scheduler, over generated claims. `python -m benchmarks.dra` plays more of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbooks.device_request import Reason, Verdict
from tests.lab.devicecases import THEMES, generate
from tests.lab.deviceplay import Judged, Stage, play
from tests.lab.lab import Lab

SEED = 1
# Of the last three, a device has to be attached, a rule's taint decides, and a constraint does.
FEW = (*(THEMES.index(theme) for theme in ("taint", "counters", "shares", "pool", "node", "class")), 19, 39, 41)
MANY = 216


def complaints(judged: list[Judged]) -> list[str]:
    return [f"{item.case.name} ({item.case.theme}): {item.complaint}" for item in judged if item.complaint]


@pytest.fixture
def stage(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Stage]:
    made = Stage(lab.client("lab:loader"), request.param)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


def test_the_same_seed_makes_the_same_case() -> None:
    assert generate(SEED, 17, 4) == generate(SEED, 17, 4)
    assert generate(SEED, 17, 4) != generate(SEED + 1, 17, 4)


@pytest.mark.parametrize("stage", [len(FEW)], indirect=True)
def test_a_sample_is_allocated_or_not_as_we_say_and_for_the_reason_that_we_name(stage: Stage) -> None:
    judged = list(play(stage, (generate(SEED, number, slot) for slot, number in enumerate(FEW))))
    assert complaints(judged) == []
    assert {item.said[0].verdict for item in judged} == {Verdict.ALLOCATABLE, Verdict.PENDING}
    of_rule, of_constraint = judged[-2].said[0].decisions[0], judged[-1].said[0].decisions[0]
    assert judged[-3].bound == ["Attached is not set", "Warm is not set"] * (len(judged[-3].bound) // 2) != []
    assert "by DeviceTaintRule/c39-rule-0" in of_rule.text
    assert of_constraint.reason is Reason.CONSTRAINT


@pytest.mark.soak
@pytest.mark.parametrize("stage", [18], indirect=True)
def test_two_hundred_claims_are_allocated_or_not_as_we_say(stage: Stage) -> None:
    judged = list(play(stage, (generate(SEED, number, number % stage.slots) for number in range(MANY))))
    assert complaints(judged) == []
    assert len(judged) == MANY
    assert len({one.reason for item in judged for one in item.said[0].decisions}) >= 10
