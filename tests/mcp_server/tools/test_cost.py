"""What devices cost, as a tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcp_server.tools.catalogue import toolset
from runbooks.cost import Tariff
from tests.mcp_server.incident import call, context
from tests.mcp_server.tools.test_gpus import node, pod, recorded

pytestmark = pytest.mark.anyio


async def test_without_prices_devices_are_counted_and_the_product_named(tmp_path: Path) -> None:
    page = (await call(recorded(tmp_path, node("a"), node("b", 7), pod("p", "a", 8)), "cost_report")).render()
    assert "without a price: H100. Set prices.per_device_hour." in page.lines
    assert [row[:5] for row in page.structured["rows"]] == [["not ready", "Pod/ml/p", "ml", "8", ""], ["sick", "Node/b", "", "1", ""]]


async def test_the_dearest_come_first_by_the_owners_tariff(tmp_path: Path) -> None:
    reader = recorded(tmp_path, node("a"), node("b", unschedulable=True), node("c", 7))
    held = replace(context(reader), tariff=Tariff("EUR", {"H*": 2.0}, lambda _: "ml-platform"))
    page = (await toolset().call("cost_report", {}, held)).render()
    assert [(row[0], row[1], row[4]) for row in page.structured["rows"]] == [
        ("closed", "Node/b", "16.00 EUR"),
        ("sick", "Node/c", "2.00 EUR"),
    ]
    assert any(line.startswith("free") and "15 devices, 30.00 EUR" in line for line in page.lines)
