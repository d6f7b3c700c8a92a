"""The approval card as a host shows it: what it says, what hostile words cannot do to it, and that nothing on it can be pressed."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.server.apps import APP_MIME_TYPE

from cluster.recorded import RecordedReader
from mcp_server.card import TOOLS, URI, card_page
from mcp_server.tools.remediation import document_answer
from tests.conformance.node import Node, find_or_install
from tests.mcp_server.incident import open_incident
from tests.mcp_server.test_gate import open_desk

HERE = Path(__file__).parent
CARD = HERE.parents[1] / "mcp_server" / "card.html"
WAIT_SECONDS = 120
MADE = {"main", "h1", "h2", "p", "span", "ul", "li", "table", "tr", "th", "td", "code", "div"}
HOSTILE = (
    "<img src=x onerror=\"window.harmed='img'\">",
    "<script>window.harmed='script'</script>",
    "</script><script>window.harmed='closed'</script>",
    "<a href=\"javascript:window.harmed='link'\">approve</a>",
    "<form action=https://evil.example><button>Approve</button></form>",
    "\u202eevorppa\u202c",
)


class Parts(HTMLParser):
    """The elements and attributes of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def node() -> Node:
    return find_or_install()


@pytest.fixture
def reader(tmp_path: Path) -> RecordedReader:
    return open_incident(tmp_path)


def shown(node: Node, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What the card became by a tool's result."""
    file = folder / "result.json"
    file.write_text(json.dumps(result), encoding="utf-8")
    command = [node.node, str(HERE / "render_card.mjs"), str(node.modules / "jsdom" / "lib" / "api.js"), str(CARD), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["errors"] == []
    return found


def only_words(found: dict[str, Any]) -> None:
    """Nothing on the card can be pressed, loaded or run, and it told its host nothing but that it is there and how high it is."""
    for tag, attributes in Parts(found["html"]).elements:
        assert tag in MADE
        assert set(attributes) <= {"class", "id", "aria-live"}
    assert found["harmed"] is None
    said = [message.get("method") for message in found["posted"]]
    assert set(said) <= {"ui/initialize", "ui/notifications/initialized", "ui/notifications/size-changed"}


@pytest.mark.anyio
async def test_a_proposal_of_the_gate_is_shown_whole(node: Node, tmp_path: Path, reader: RecordedReader) -> None:
    async with open_desk(tmp_path / "state", reader) as desk:
        proposal = await desk.propose()
    found = shown(node, tmp_path, {"structuredContent": {"proposal": proposal}})
    only_words(found)
    for words in (proposal["summary"], proposal["digest"], "pods affected", "1 of sre-oncall must agree", proposal["next_step"], "PATCH"):
        assert words in found["text"], words
    assert "Nothing on this card approves" in found["text"]


def test_what_was_cut_is_said(node: Node, tmp_path: Path) -> None:
    whole = {
        **{"id": "p-1", "state": "pending", "summary": "Drain n1", "digest": "0" * 64, "stake": {"pods_affected": 80}},
        **{"verdict": {"effect": "approve", "reason": "Needs approval"}, "requirement": {"approvals": {"sre-oncall": 1}}},
        "changes": [{"path": f"/spec/taints/{number}", "before": None, "after": "x" * 40} for number in range(300)],
    }
    page = document_answer(whole, "summary").render()
    assert page.structured["cut"]
    found = shown(node, tmp_path, {"structuredContent": page.structured})
    only_words(found)
    for words in (
        "pods affected: 80",
        "Needs approval",
        "1 of sre-oncall must agree",
        "/spec/taints/0",
        f"Left out here: {page.structured['cut']}",
    ):
        assert words in found["text"], words
    assert "Left out here" not in shown(node, tmp_path, {"structuredContent": {"proposal": whole, "cut": ""}})["text"]


def test_hostile_words_are_words(node: Node, tmp_path: Path) -> None:
    every = " ".join(HOSTILE)
    lists = ("notes", "changes", "requests", "approvals")
    proposal: dict[str, Any] = {
        **dict.fromkeys(("id", "state", "cluster", "requester", "summary", "reason", "digest", "next_step", "reversibility"), every),
        **{name: [{"path": word, "before": word, "after": word, "approver": word, "verdict": word} for word in HOSTILE] for name in lists},
        "notes": list(HOSTILE),
        "stake": {every: list(HOSTILE)},
        "missing": {every: 1},
        "requirement": {"approvals": {every: 1}},
        "verdict": {"effect": every, "reason": every, "rules": list(HOSTILE), "escalated_by": list(HOSTILE)},
    }
    found = shown(node, tmp_path, {"structuredContent": {"proposal": proposal}})
    only_words(found)
    for word in HOSTILE:
        assert word in found["text"]


@pytest.mark.parametrize("proposal", [{}, {"changes": 7, "verdict": "x", "approvals": {"a": 1}, "missing": []}, {"summary": "x" * 100_000}])
def test_a_proposal_of_another_shape_breaks_nothing(node: Node, tmp_path: Path, proposal: dict[str, Any]) -> None:
    found = shown(node, tmp_path, {"structuredContent": {"proposal": proposal}})
    only_words(found)
    assert len(found["text"]) < 20_000


def test_a_refusal_is_shown_in_its_words_and_only_the_host_is_heard(node: Node, tmp_path: Path) -> None:
    found = shown(node, tmp_path, {"isError": True, "content": [{"type": "text", "text": "p-1 needs approval"}]})
    only_words(found)
    assert found["text"] == "p-1 needs approval"
    assert found["fromElsewhere"] == "Waiting for the proposal…"


def test_the_page_has_no_way_to_act() -> None:
    page = card_page()
    for way in (
        "tools/call",
        "ui/open-link",
        "ui/message",
        "ui/update-model-context",
        "fetch(",
        "XMLHttp",
        "innerHTML",
        "http:",
        "https:",
        "eval(",
    ):
        assert way not in page
    assert not [tag for tag, _ in Parts(page).elements if tag in ("button", "a", "form", "input", "iframe", "img", "link", "object")]
    assert re.search(r"default-src 'none'", page)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_clients_are_told_of_the_card_and_hosts_that_it_connects_to_nothing(
    tmp_path: Path, reader: RecordedReader, mode: str
) -> None:
    async with open_desk(tmp_path / "state", reader, mode=mode) as desk:
        client: Client = desk.client
        tools = {tool.name: (tool.meta or {}).get("ui") for tool in (await client.list_tools()).tools}
        assert {name: ui for name, ui in tools.items() if ui} == {name: {"resourceUri": URI, "visibility": ["model"]} for name in TOOLS}
        [page] = (await client.read_resource(URI)).contents
        assert page.mime_type == APP_MIME_TYPE
        assert page.meta is not None
        assert page.meta["ui"]["csp"] == {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []}
        if mode == "auto":
            # The older era's handshake has no word for extensions; hosts go by the tool's metadata there.
            assert client.server_capabilities.extensions is not None
            assert "io.modelcontextprotocol/ui" in client.server_capabilities.extensions
