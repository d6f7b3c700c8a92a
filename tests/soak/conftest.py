"""What the storms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.granting import granted
from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def executor_granted(lab: Lab) -> Iterator[None]:
    """The user `executor` holds the role that we print."""
    with granted(lab, name="test-storm"):
        yield
