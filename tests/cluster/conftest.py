"""Fixtures of the room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from tests.cluster.fake_api import FakeApi, running


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running() as api:
        yield api


@pytest.fixture
def imports_of() -> Callable[[str], set[str]]:
    """The modules that importing one module loads, in a fresh interpreter."""

    def loaded(module: str) -> set[str]:
        script = f"import sys, {module}; print('\\n'.join(sys.modules))"
        return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout.split())

    return loaded
