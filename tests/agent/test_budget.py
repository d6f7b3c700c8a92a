from __future__ import annotations

import pytest

from agent.budget import Limits, Spent, exhausted
from cluster.reading import Cost


def test_there_is_budget_until_a_limit_is_reached() -> None:
    limits = Limits(probes=10, rounds=3, bytes=1_000, seconds=5)
    assert exhausted(limits, Spent(9, 2, Cost(9, 999), 4.9)) is None


@pytest.mark.parametrize(
    ("spent", "word"),
    [
        (Spent(10, 0, Cost(), 0), "10 probes"),
        (Spent(0, 3, Cost(), 0), "3 rounds"),
        (Spent(0, 0, Cost(1, 1_000), 0), "1000 bytes"),
        (Spent(0, 0, Cost(), 5), "5 seconds"),
    ],
)
def test_each_limit_is_named_when_it_is_reached(spent: Spent, word: str) -> None:
    said = exhausted(Limits(probes=10, rounds=3, bytes=1_000, seconds=5), spent)
    assert said is not None
    assert word in said
