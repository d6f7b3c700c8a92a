"""Pages are decoded in slices, between which everybody else has a turn."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import msgspec
import pytest

from cluster.pages import decode_items


@pytest.mark.anyio
async def test_a_large_page_never_holds_the_loop() -> None:
    """Counted in objects between two turns of somebody else: a clock cannot tell a long slice from a busy machine."""
    between = [0]

    def decode(raw: msgspec.Raw) -> bytes:
        between[-1] += 1
        return bytes(raw)

    async def somebody_else() -> None:
        while True:
            between.append(0)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(somebody_else)
        decoded, complaints = await decode_items(tuple(msgspec.Raw(b"{}") for _ in range(500)), decode)
        tasks.cancel_scope.cancel()
    assert (len(decoded), complaints, sum(between)) == (500, [], 500)
    assert max(between) <= 100
