"""The approval card: a page that a client shows beside a proposal, for whoever has to explain it or ask somebody to approve it.

It shows what a tool already answered and asks for nothing: it calls no tool, opens no link, loads nothing and sends no message, so it
cannot approve. Its words come from clusters and requesters and are only ever set as text.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from mcp.server.apps import Apps, ResourceCsp

URI = "ui://smokejumper/proposal"
# The tools whose answer is one proposal.
TOOLS = ("remediation_propose", "remediation_status", "remediation_execute")
_PAGE = Path(__file__).with_name("card.html")


@cache
def card_page() -> str:
    """The page, whole: style and script are in it."""
    return _PAGE.read_text(encoding="utf-8")


def card() -> Apps:
    """The extension that clients ask for; the host is told that the page connects to nothing and loads nothing."""
    apps = Apps()
    apps.add_html_resource(
        URI,
        card_page(),
        name="proposal-card",
        title="A proposed remedy",
        description="What would change, what is at stake, what the policy says and who may approve. It cannot approve.",
        csp=ResourceCsp(connect_domains=[], resource_domains=[], frame_domains=[], base_uri_domains=[]),
        prefers_border=True,
    )
    return apps


def card_meta(tool: str) -> dict[str, Any]:
    """What a tool's `_meta` says of the card; nothing for tools without it. Only the model calls these tools, never a page."""
    return {"ui": {"resourceUri": URI, "visibility": ["model"]}} if tool in TOOLS else {}
