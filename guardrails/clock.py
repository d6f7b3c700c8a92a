"""The one clock of guardrails, as a parameter: time and waiting. Tests own theirs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """Implemented by `SystemClock` and by the tests' clock, which moves only when it is told to."""

    def now(self) -> datetime:
        """This moment, timezone-aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


def random_id(prefix: str) -> str:
    """A new id that cannot be guessed: `prefix-` and 12 hexadecimal digits."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
