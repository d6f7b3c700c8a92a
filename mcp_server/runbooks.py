"""The runbook pages by name, for resources. Pages are files that ship with the product; no other file can be named."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from mcp_server.errors import ToolRefusal

ASKERS_SECTION = "## If you are a data scientist\n"


def page_names() -> list[str]:
    """Names of all pages, in order."""
    folder = _folder()
    return sorted(file.name.removesuffix(".md") for file in folder.iterdir() if file.name.endswith(".md")) if folder.is_dir() else []


def read_page(name: str) -> str:
    """The Markdown of one page. Raises ToolRefusal for a name that `page_names` does not give."""
    if name not in page_names():
        raise ToolRefusal(f"there is no runbook page {name!r:.80}")
    return (_folder() / f"{name}.md").read_text(encoding="utf-8")


def asker_advice(name: str) -> str:
    """What a page says to data scientists, as one line; "" where it says nothing to them or there is no such page."""
    text = read_page(name) if name in page_names() else ""
    _, _, section = text.partition(ASKERS_SECTION)
    return " ".join(section.partition("\n## ")[0].split())


def _folder() -> Traversable:
    return resources.files("runbooks") / "pages"
