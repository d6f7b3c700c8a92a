"""docs/mcp.md is a contract: its table names every tool with its access, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from mcp_server.tools.catalogue import ALL

TEXT = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")


def test_the_table_lists_every_tool_with_its_access_in_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", TEXT, re.MULTILINE)
    assert rows == [(spec.name, spec.access.value) for spec in ALL]
