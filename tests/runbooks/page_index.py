"""What the catalogue of codes says about the pages: their front matter.

`python -m tests.runbooks.page_index` writes it after a code was added, moved or retitled; the tests compare and never write. It
writes nothing else: a page is prose, and a page for a new slug is for a person to write.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from runbooks.catalogue import Code, catalogue

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "runbooks" / "pages"
FENCE = "---\n"


def codes_by_page() -> dict[str, dict[str, Code]]:
    """Codes by the slug of their page, both in order."""
    pages: dict[str, dict[str, Code]] = {}
    for name, code in sorted(catalogue().items()):
        pages.setdefault(code.page, {})[name] = code
    return dict(sorted(pages.items()))


def split(text: str) -> tuple[dict[str, object], str]:
    """Front matter and body of a page. Raises ValueError or TypeError when the text does not begin with front matter."""
    before, front, body = text.split(FENCE, 2)
    if before:
        raise ValueError("text before the front matter")
    data = yaml.safe_load(front)
    if not isinstance(data, dict):
        raise TypeError("the front matter is no mapping")
    return data, body


def front_matter(title: str, slug: str) -> str:
    """The front matter that a page should have."""
    listed = "".join(f"  - {name}\n" for name in codes_by_page().get(slug, {}))
    return f"{FENCE}title: {title}\ncodes:\n{listed}{FENCE}"


def main() -> int:
    """Rewrite it; says which pages still have to be written."""
    missing = []
    for slug in codes_by_page():
        path = PAGES / f"{slug}.md"
        if not path.exists():
            missing.append(slug)
            continue
        front, body = split(path.read_text("utf-8"))
        path.write_text(front_matter(str(front["title"]), slug) + body, "utf-8")
    for slug in missing:
        print(f"runbooks/pages/{slug}.md has to be written")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
