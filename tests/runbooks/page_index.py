"""What the catalogue of codes says about the pages: their front matter, and the table in docs/failures-coverage.md.

`python -m tests.runbooks.page_index` writes both after a code was added, moved or retitled; the tests compare and never write. It
writes nothing else: a page is prose, and a page for a new slug is for a person to write.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from runbooks.catalogue import Code, Role, catalogue

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "runbooks" / "pages"
COVERAGE = ROOT / "docs" / "failures-coverage.md"
FENCE = "---\n"
BEGIN = "<!-- codes: written by python -m tests.runbooks.page_index -->\n"
END = "<!-- end of codes -->\n"


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


def table() -> str:
    """Every code with its class, what it says and how it counts, by page."""
    lines = [f"{len(catalogue())} codes on {len(codes_by_page())} pages, {len({code.class_ for code in catalogue().values()})} classes.\n"]
    for slug, codes in codes_by_page().items():
        lines += [f"\n### [{slug}](../runbooks/pages/{slug}.md)\n", "\n| code | class | what it says |\n|---|---|---|\n"]
        for name, code in codes.items():
            note = "" if code.role is Role.CAUSE else f" ({code.role.value})"
            lines.append(f"| `{name}` | {code.class_} | {code.title}{note} |\n")
    return "".join(lines)


def main() -> int:
    """Rewrite both; says which pages still have to be written."""
    missing = []
    for slug in codes_by_page():
        path = PAGES / f"{slug}.md"
        if not path.exists():
            missing.append(slug)
            continue
        front, body = split(path.read_text("utf-8"))
        path.write_text(front_matter(str(front["title"]), slug) + body, "utf-8")
    before, _, rest = COVERAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    COVERAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", "utf-8")
    for slug in missing:
        print(f"runbooks/pages/{slug}.md has to be written")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
