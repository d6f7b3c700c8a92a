"""Whose investigation comes next: a few at a time in one server, in the order in which they were asked for, and once for all who wait with
the same question.

What is shared has not begun to read when the last of them asks, so nobody gets an answer older than the question; and only those share
who read through the same reader, so with the same permissions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from cluster.reading import Reader
from cluster.reference import Scope
from mcp_server.registry import Investigated

# Each holds a world of the cluster, and all of them share one interpreter: more at once take more memory and end no sooner.
INVESTIGATIONS_AT_ONCE = 4
Progress = Callable[[str], Awaitable[None]]
Asked = tuple[int, Scope, str | None]


@dataclass
class _Shared:
    """One investigation that waits. Both stay None when whoever began it hangs up."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    found: Investigated | None = None
    failure: Exception | None = None


class Turns:
    """What the investigations of one server share. Made inside the event loop."""

    def __init__(self, at_once: int = INVESTIGATIONS_AT_ONCE) -> None:
        self.slots = anyio.CapacityLimiter(at_once)
        self._waiting: dict[Asked, _Shared] = {}

    async def take(
        self, reader: Reader, scope: Scope, question: str | None, investigate: Callable[[], Awaitable[Investigated]], progress: Progress
    ) -> Investigated:
        """What `investigate` finds when its turn has come, or what another finds that waited with the same question; it fails alike. Who
        waits for another that hangs up asks for itself."""
        asked = (id(reader), scope, question)
        while (other := self._waiting.get(asked)) is not None:
            await progress("another call waits with the same question; its answer will be this one's too")
            await other.ended.wait()
            if other.failure is not None:
                raise other.failure
            if other.found is not None:
                return other.found
        mine = self._waiting[asked] = _Shared()
        try:
            if not self.slots.available_tokens:
                await progress("other investigations come first")
            async with self.slots:
                # It begins to read: whoever asks from now on wants what comes after.
                del self._waiting[asked]
                mine.found = await investigate()
                return mine.found
        except Exception as failure:
            mine.failure = failure
            raise
        finally:
            if self._waiting.get(asked) is mine:
                del self._waiting[asked]
            mine.ended.set()
