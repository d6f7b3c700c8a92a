"""Courses of numbers in logs: which count as growth that goes on."""

from __future__ import annotations

import pytest

from runbooks import logs


def grown(form: str, values: list[int]) -> list[tuple[str, bool]]:
    report = logs.read_lines([form.format(value=value, number=number) for number, value in enumerate(values)])
    return [(gauge.name, gauge.memory) for gauge in report.growing]


LINEAR = [1200 + 340 * step for step in range(40)]


@pytest.mark.parametrize(
    ("form", "name", "memory"),
    [
        ("INFO [consumer] processed batch {number} of 10, lag={value}", "lag", False),
        ('{{"level":"info","msg":"tick {number}","queue_depth":{value}}}', "queue_depth", False),
        ("INFO [gc] heap used {value}MB / 204800MB, sessions retained {number}", "heap used", True),
        ("INFO stats {number}: rss={value}", "rss", True),
    ],
)
def test_a_number_that_grows_to_the_end_is_told(form: str, name: str, memory: bool) -> None:
    assert grown(form, LINEAR) == [(name, memory)]


@pytest.mark.parametrize(
    "values",
    [
        [1200] * 40,
        # A start that fills caches and settles.
        [int(1000 * (1 - 0.9**step)) for step in range(40)],
        # A collector that frees again and again.
        [400 + 200 * (step % 5) for step in range(40)],
        # A backlog that is worked off.
        LINEAR[::-1],
        # Too short to tell.
        LINEAR[:12],
    ],
)
def test_other_courses_are_ordinary(values: list[int]) -> None:
    assert grown("INFO stats {number}: heap used {value} MB, free many", values) == []


def test_a_handful_that_waits_is_no_backlog() -> None:
    assert grown("INFO queue size {value}, tick {number}", [step // 10 for step in range(40)]) == []
    assert grown("INFO heap used {value} GB, tick {number}", [1 + step // 10 for step in range(40)]) == [("heap used", True)]


@pytest.mark.parametrize("form", ["INFO lag {value}ms on tick {number}", "INFO memory usage: {value}% on tick {number}"])
def test_a_delay_and_a_share_are_no_amounts(form: str) -> None:
    assert grown(form, LINEAR) == []
