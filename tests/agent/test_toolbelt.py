from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from pydantic import BaseModel

from agent.budget import Limits
from agent.toolbelt import ToolsetBelt, tool_call
from cluster.reading import MetricQuery, Why
from cluster.reference import ContainerRef, Scope
from cluster.world import World
from mcp_server.registry import Access, Answer, Caller, ToolContext, ToolRefusal, Toolset, ToolSpec
from mcp_server.tools.primitive import PRIMITIVE
from runbooks.finding import LogWant, MetricWant, ObjectsWant, TelemetryWant, Want
from tests.agent.recordings import HEALTHY, reader, recording

pytestmark = pytest.mark.anyio
ML = Scope("recording", ("ml",))
LOG = LogWant(ContainerRef("ml", "quiet", "main"))
WANTS: tuple[Want, ...] = (
    ObjectsWant("Pod"),
    ObjectsWant("Event"),
    ObjectsWant("Deployment"),
    ObjectsWant("Node", None),
    LOG,
    LogWant(LOG.container, previous=True),
    TelemetryWant(),
    MetricWant(MetricQuery("up", (("job", "x"),), namespaces=("ml",))),
    MetricWant(MetricQuery("lit", expression="sum(up)")),
)


def context(folder: Path) -> ToolContext:
    opened = reader(recording(folder, HEALTHY))
    return ToolContext(opened, Caller("test"), opened.now)


@pytest.mark.parametrize("want", WANTS, ids=str)
async def test_the_tools_take_every_want(want: Want, tmp_path: Path) -> None:
    probed = await ToolsetBelt(Toolset(PRIMITIVE), context(tmp_path), Limits()).probe(want, ML)
    assert probed.failure == ""


def test_a_want_of_a_namespace_asks_for_that_one() -> None:
    assert tool_call(ObjectsWant("Pod", "other"), ML) == ("pods_list", {"namespace": ["other"]})
    assert tool_call(ObjectsWant("Service"), ML) == ("resources_list", {"kind": "Service", "namespace": ["ml"]})


async def test_a_want_without_a_tool_is_missing(tmp_path: Path) -> None:
    want = MetricWant(MetricQuery("up"))
    probed = await ToolsetBelt(Toolset(()), context(tmp_path), Limits()).probe(want, ML)
    world = probed.growth.grow(World("c", datetime(2026, 1, 1, tzinfo=UTC), ML))
    assert probed.failure.startswith("no-source")
    assert world.missing[0].why is Why.NO_SOURCE


class Nothing(BaseModel):
    namespace: list[str] = []


def tool(name: str, run: object) -> ToolSpec:
    return ToolSpec(name, name, "test", name, Nothing, Nothing, Access.READ, (), run)  # type: ignore[arg-type]


async def test_a_probe_has_a_deadline(tmp_path: Path) -> None:
    async def hang(_context: ToolContext, _arguments: Nothing) -> Answer:
        await anyio.sleep_forever()
        raise AssertionError

    belt = ToolsetBelt(Toolset((tool("pods_list", hang),)), context(tmp_path), Limits(probe_seconds=0.01))
    probed = await belt.probe(ObjectsWant("Pod"), ML)
    world = probed.growth.grow(World("c", datetime(2026, 1, 1, tzinfo=UTC), ML))
    assert world.missing[0].why is Why.TIMEOUT
    assert "Pod" not in world.read_kinds


async def test_a_refusal_is_said_and_proves_nothing(tmp_path: Path) -> None:
    async def refuse(_context: ToolContext, _arguments: Nothing) -> Answer:
        raise ToolRefusal("no such thing; nearest: another thing")

    probed = await ToolsetBelt(Toolset((tool("pods_list", refuse),)), context(tmp_path), Limits()).probe(ObjectsWant("Pod"), ML)
    assert "nearest: another thing" in probed.failure
    assert not probed.growth.kinds[0].complete


async def test_only_so_many_probes_run_at_once(tmp_path: Path) -> None:
    running, most = 0, 0

    async def count(_context: ToolContext, _arguments: Nothing) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        raise ToolRefusal("counted")

    belt = ToolsetBelt(Toolset((tool("pods_list", count),)), context(tmp_path), Limits(parallel_probes=3))
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(belt.probe, ObjectsWant("Pod", f"ns-{number}"), ML)
    assert most == 3
