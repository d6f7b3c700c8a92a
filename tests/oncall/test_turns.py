"""Which investigations of one server share a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup

from cluster.errors import UnreachableClusterError
from cluster.reading import Reader
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from mcp_server.registry import Investigated
from oncall.turns import Turns
from runbooks.finding import Diagnosis

pytestmark = pytest.mark.anyio
RECORDING = Path(__file__).parents[2] / "examples" / "serve-rollout"
SCOPE = Scope("lab", ("ml",))
SAME = "another call waits with the same question; its answer will be this one's too"


class Desk:
    """Callers of one server whose only slot is taken until `open` is left, and what each got."""

    def __init__(self) -> None:
        self.turns = Turns(1)
        self.reader: Reader = RecordedReader.open(RECORDING)
        self.runs = 0
        self.said: list[str] = []
        self.got: dict[str, Investigated] = {}
        self.fail = False

    async def ask(
        self, name: str, question: str, reader: Reader | None = None, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        async def investigate() -> Investigated:
            self.runs += 1
            if meanwhile is not None:
                await meanwhile()
            if self.fail:
                self.fail = False
                raise UnreachableClusterError("gone")
            now = datetime(2026, 1, 15, tzinfo=UTC)
            return Investigated(Diagnosis("lab", "namespace ml", now, healthy=True, causes=()), seconds=float(self.runs))

        async def progress(text: str) -> None:
            self.said.append(text)

        try:
            self.got[name] = await self.turns.take(reader or self.reader, SCOPE, question, investigate, progress)
        except UnreachableClusterError:
            self.said.append(f"{name} failed")

    async def queue(self, tasks: TaskGroup, name: str, question: str, reader: Reader | None = None) -> None:
        """Have somebody ask, and go on when they wait."""
        before = len(self.said)
        tasks.start_soon(self.ask, name, question, reader)
        while len(self.said) == before:
            await anyio.lowlevel.checkpoint()


async def test_who_waits_with_the_same_question_gets_the_same_answer() -> None:
    desk = Desk()
    async with anyio.create_task_group() as tasks, desk.turns.slots:
        for name, question in (("first", "why"), ("second", "why"), ("third", "else"), ("fourth", "why")):
            await desk.queue(tasks, name, question)
    assert desk.said == ["other investigations come first", SAME, "other investigations come first", SAME]
    assert desk.runs == 2
    assert desk.got["first"] is desk.got["second"] is desk.got["fourth"]
    assert desk.got["third"] is not desk.got["first"]


async def test_nothing_is_shared_between_readers() -> None:
    """Each caller who is impersonated has a reader of their own."""
    desk = Desk()
    async with anyio.create_task_group() as tasks, desk.turns.slots:
        await desk.queue(tasks, "first", "why")
        await desk.queue(tasks, "second", "why", RecordedReader.open(RECORDING))
    assert (desk.runs, SAME in desk.said) == (2, False)


async def test_what_has_begun_to_read_is_not_shared() -> None:
    desk = Desk()
    async with anyio.create_task_group() as tasks:

        async def meanwhile() -> None:
            await desk.queue(tasks, "late", "why")

        await desk.ask("early", "why", meanwhile=meanwhile)
    assert desk.runs == 2
    assert desk.got["early"] is not desk.got["late"]


async def test_who_waited_for_another_that_hung_up_asks_alone() -> None:
    desk = Desk()
    async with anyio.create_task_group() as others, desk.turns.slots, anyio.create_task_group() as first:
        await desk.queue(first, "first", "why")
        await desk.queue(others, "second", "why")
        await desk.queue(others, "third", "why")
        first.cancel_scope.cancel()
    assert desk.runs == 1
    assert sorted(desk.got) == ["second", "third"]


async def test_who_waited_for_another_that_failed_is_told_the_same() -> None:
    desk = Desk()
    desk.fail = True
    async with anyio.create_task_group() as tasks, desk.turns.slots:
        await desk.queue(tasks, "first", "why")
        await desk.queue(tasks, "second", "why")
    assert {"first failed", "second failed"} <= set(desk.said)
    assert (desk.runs, desk.got) == (1, {})
