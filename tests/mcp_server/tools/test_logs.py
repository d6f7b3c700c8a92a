"""Logs: folded, alarming first, rare before common; wrong pods and containers are named."""

from __future__ import annotations

import pytest

from cluster.recorded import RecordedReader
from cluster.reference import ContainerRef
from mcp_server.errors import ToolRefusal
from mcp_server.tools.logs import folded
from tests.mcp_server.incident import call, text

pytestmark = pytest.mark.anyio
SHOP = ContainerRef("web", "shop-1", "shop")


def test_lines_that_differ_in_numbers_fold() -> None:
    lines = folded(SHOP, ["a 1", "b", "a 22", "", "a 0x1f"], ())
    assert [(line.number, line.text, line.times) for line in lines] == [(5, "a 0x1f", 3), (2, "b", 1)]


def test_words_filter_without_case() -> None:
    assert [line.text for line in folded(SHOP, ["Fatal x", "ok", "timeout"], ("fatal", "time"))] == ["Fatal x", "timeout"]


async def test_alarming_lines_come_first_then_the_rarest(reader: RecordedReader) -> None:
    page = (await call(reader, "logs_search", namespace="web", pod="shop-1")).render()
    rows = page.structured["rows"]
    assert "ERROR cannot reach upstream" in rows[0][2]
    assert rows[-1][1] == "60"
    assert page.structured["columns"] == ["line", "times", "text", "evidence"]


async def test_a_huge_line_is_cut_and_the_page_stays_small(reader: RecordedReader) -> None:
    shown = await text(reader, "logs_search", namespace="web", pod="shop-1", limit=200)
    assert "more characters)" in shown
    assert len(shown) < 3_000


async def test_the_growth_holds_the_whole_log(reader: RecordedReader) -> None:
    answer = await call(reader, "logs_search", namespace="web", pod="shop-1", container="shop", pattern="nothing of this")
    (read,) = answer.growth.logs
    assert read.container == SHOP
    assert len(read.log.value.lines) == 63
    assert answer.render().structured["rows"] == []


async def test_the_pods_of_a_workload_are_read(reader: RecordedReader) -> None:
    answer = await call(reader, "logs_search", namespace="ml", workload="deploy/serve")
    assert [entry.container.pod for entry in answer.growth.logs] == ["serve-5c9f7-abcde"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"namespace": "web"}, "exactly one of 'pod' and 'workload'"),
        ({"namespace": "web", "pod": "a", "workload": "Deployment/a"}, "exactly one of"),
        ({"namespace": "web", "pod": "shop-2"}, "nearest pods: shop-1"),
        ({"namespace": "web", "pod": "shop-1", "pattern": "|"}, "holds no words"),
        ({"namespace": "web", "pod": "shop-1", "pattern": "x" * 201}, "at most 200"),
        ({"namespace": "ml", "workload": "serve"}, "KIND/NAME"),
        ({"namespace": "ml", "workload": "Deployment/serv"}, "nearest deployments: serve"),
        ({"namespace": "ml", "workload": "Deployment/serve", "container": "sidecar"}, "containers: server"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_what_can(reader: RecordedReader, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ToolRefusal, match=message.replace("|", r"\|")):
        await call(reader, "logs_search", **arguments)


async def test_a_log_that_was_not_recorded_is_said_to_be_missing(reader: RecordedReader) -> None:
    assert "cannot see: log of Pod/ml/train-0[trainer]" in await text(reader, "logs_search", namespace="ml", pod="train-0")
