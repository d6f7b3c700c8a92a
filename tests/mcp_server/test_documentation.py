"""docs/mcp-tools.md is a contract: it is what the registry says, with answers that tools really give."""

from __future__ import annotations

from pathlib import Path

from mcp_server.tools.catalogue import ALL
from tests.mcp_server.tools_page import PAGE, page


def test_the_page_is_what_the_registry_says(tmp_path: Path) -> None:
    assert PAGE.read_text("utf-8") == page(tmp_path), "run: make docs"


def test_every_tool_shows_an_answer() -> None:
    text = PAGE.read_text("utf-8")
    for spec in ALL:
        example = text.partition(f"### {spec.name}\n")[2].partition("```text\n")[2].partition("```")[0]
        assert len(example.splitlines()) > 1, spec.name
