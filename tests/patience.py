"""Waiting for something that another process, thread or task does."""

from __future__ import annotations

from collections.abc import Callable

import anyio

# Long: nothing here tests how quick a machine is.
WAIT_SECONDS = 240


async def until(what: str, holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    deadline = anyio.current_time() + WAIT_SECONDS
    while True:
        if holds():
            return
        assert anyio.current_time() < deadline, f"{what}: in vain"
        await anyio.sleep(0.02)
