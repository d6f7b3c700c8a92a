from __future__ import annotations

import pytest

from runbooks.cron import fault_of


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *",
        "*/5 * * * *",
        "0 9-17/2 * * mon-fri",
        "0,30 * 1,15 JAN-jun *",
        "15 10 ? * 0",
        "5/15 * * * *",
        "0 0 31 2 1",
        "0 0 29 2 *",
        "@hourly",
        "@every 1h30m",
        "TZ=Europe/Berlin 0 6 * * *",
        "CRON_TZ=UTC 0 6 * * *",
    ],
)
def test_schedules_that_the_controller_accepts(schedule: str) -> None:
    assert fault_of(schedule) is None


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("invalid-cron", "1 field(s) instead of 5"),
        ("", "empty"),
        ("* * * *", "4 field(s)"),
        ("0 0 * * * *", "6 field(s)"),
        ("60 * * * *", "outside 0 to 59"),
        ("0 24 * * *", "outside 0 to 23"),
        ("0 0 0 * *", "outside 1 to 31"),
        ("0 0 * * 7", "outside 0 to 6"),
        ("*/0 * * * *", "step"),
        ("*/x * * * *", "step"),
        ("20-10 * * * *", "after its end"),
        ("0 0 * foo *", "no number, range or name"),
        ("1- * * * *", "no number, range or name"),
        ("0 0 31 2 *", "never fires"),
        ("0 0 31 4,6 *", "never fires"),
        ("@fortnightly", "no known descriptor"),
        ("@every soon", "cannot be parsed"),
    ],
)
def test_schedules_that_it_refuses_or_that_never_fire(schedule: str, words: str) -> None:
    fault = fault_of(schedule)
    assert fault is not None
    assert words in fault
