"""How long ago something was, as people read it. The forms of moments that tools write are tested where they are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster.timestamps import age

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (259_200, "3d"), (-90, "0s")])
def test_an_age_is_in_its_largest_unit_and_never_negative(seconds: int, said: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == said


def test_an_unknown_moment_has_an_unknown_age() -> None:
    assert age(None, NOW) == "?"
