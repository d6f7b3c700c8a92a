"""Events: alike ones fold, warnings and the latest come first."""

from __future__ import annotations

import pytest

from cluster.facts.event import Event
from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.tools.events import grouped
from tests.mcp_server.incident import call
from tests.runbooks.worlds import world

EVENT = """
kind: Event
metadata: {{name: e{number}, namespace: ml}}
involvedObject: {{kind: Pod, namespace: ml, name: {pod}}}
type: Warning
reason: BackOff
message: "{message}"
count: 2
lastTimestamp: "2026-01-15T11:{number:02d}:00Z"
"""


def events(*pairs: tuple[str, str]) -> list[Event]:
    text = "---".join(EVENT.format(number=number, pod=pod, message=message) for number, (pod, message) in enumerate(pairs))
    return list(world(text).all(Event))


def test_replicas_that_say_the_same_are_one_group() -> None:
    (group,) = grouped(
        events(("serve-5c9f7d8b4-abcde", "restarting container after 10s"), ("serve-5c9f7d8b4-fghij", "restarting container after 20s"))
    )
    assert (group.objects, group.times, group.latest.name) == (2, 4, "e1")


def test_other_words_and_other_workloads_are_other_groups() -> None:
    assert len(grouped(events(("a-1", "x failed"), ("a-1", "y failed"), ("b-1", "x failed")))) == 3


@pytest.mark.anyio
async def test_warnings_are_the_default_and_all_can_be_asked_for(reader: RecordedReader) -> None:
    answer = await call(reader, "events_list")
    assert [row[1] for row in answer.render().structured["rows"]] == ["Failed"]
    assert len(answer.growth.kinds[0].facts) == 2
    every = (await call(reader, "events_list", type="all")).render()
    assert [row[1] for row in every.structured["rows"]] == ["Failed", "Started"]


@pytest.mark.anyio
async def test_filters(reader: RecordedReader) -> None:
    async def reasons(**arguments: object) -> list[str]:
        page = (await call(reader, "events_list", type="all", **arguments)).render()
        return [row[1] for row in page.structured["rows"]]

    assert await reasons(since_minutes=10) == ["Failed"]
    assert await reasons(involved_name="shop-1") == ["Started"]
    assert await reasons(involved_kind="node") == []
    with pytest.raises(ToolRefusal, match="kind 'poood'"):
        await reasons(involved_kind="poood")
