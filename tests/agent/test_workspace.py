from __future__ import annotations

import asyncio
import gc
import itertools
from pathlib import Path

import msgspec
import pytest

from agent.budget import Limits
from agent.incident import Incident
from agent.investigation import in_process
from agent.toolbelt import Probed
from agent.workspace import Workspace
from cluster.reading import Cost
from cluster.reference import Scope
from cluster.world import World
from runbooks.finding import ObjectsWant, Want
from tests.agent.recordings import BROKEN_ROLLOUT, NOW, reader, recording

pytestmark = pytest.mark.anyio
SCOPE = Scope("recording")
WANTS: tuple[Want, ...] = tuple(ObjectsWant(kind) for kind in ("Pod", "Event", "Deployment", "ReplicaSet"))


class Counting:
    """The real toolbelt, counting what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._inner = in_process(reader(folder), Limits())
        self.asked: list[Want] = []

    async def probe(self, want: Want, scope: Scope) -> Probed:
        self.asked.append(want)
        return await self._inner.probe(want, scope)


async def test_only_what_this_process_does_not_know_is_asked_again(tmp_path: Path) -> None:
    belt = Counting(recording(tmp_path, BROKEN_ROLLOUT))
    workspace = Workspace(NOW, Incident("i", SCOPE))
    workspace.add(WANTS[0], await belt.probe(WANTS[0], SCOPE))
    belt.asked.clear()
    await workspace.ensure(WANTS, belt)
    await workspace.ensure(WANTS, belt)
    assert belt.asked == list(WANTS[1:])


async def test_the_order_of_arrival_changes_nothing(tmp_path: Path) -> None:
    belt = Counting(recording(tmp_path, BROKEN_ROLLOUT))
    answers = {want: await belt.probe(want, SCOPE) for want in WANTS}
    said = set()
    for order in itertools.permutations(WANTS):
        workspace = Workspace(NOW, Incident("i", SCOPE))
        for want in order:
            workspace.add(want, answers[want])
        said.add(msgspec.json.encode((await workspace.judge(WANTS, Cost())).diagnosis))
    assert len(said) == 1


async def test_a_judgement_is_kept_until_something_new_is_known(tmp_path: Path) -> None:
    belt = Counting(recording(tmp_path, BROKEN_ROLLOUT))
    workspace = Workspace(NOW, Incident("i", SCOPE))
    await workspace.ensure(WANTS[:1], belt)
    first = await workspace.judge(WANTS, Cost())
    assert await workspace.judge(WANTS, Cost()) is first
    await workspace.ensure(WANTS, belt)
    second = await workspace.judge(WANTS, Cost())
    assert second is not first
    assert str(second.diagnosis.causes[0].object) == "Deployment/ml/serve"


def worlds() -> list[World]:
    return [found for found in gc.get_objects() if isinstance(found, World) and found.facts]


@pytest.mark.parametrize("hung_up", [False, True])
async def test_nothing_of_a_world_waits_for_the_collector(tmp_path: Path, hung_up: bool) -> None:
    belt = Counting(recording(tmp_path, BROKEN_ROLLOUT))
    gc.collect()
    others = worlds()
    gc.disable()
    try:
        workspace = Workspace(NOW, Incident("i", SCOPE))
        await workspace.ensure(WANTS, belt)
        judging = asyncio.create_task(workspace.judge(WANTS, Cost()))
        if hung_up:
            await asyncio.sleep(0)
            judging.cancel()
        await asyncio.wait([judging])
        assert judging.cancelled() is hung_up
        del judging
        await workspace.forget()
        left = [found for found in worlds() if not any(found is other for other in others)]
    finally:
        gc.enable()
    assert not left
