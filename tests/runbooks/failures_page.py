"""What docs/failures.md says: every code, which detectors make it, what their signal is, what they read and where they end.

`python -m tests.runbooks.failures_page` writes it after a code or a detector changed; the test compares and never writes. Codes are
found by reading the source: the string constants in a detector and in what it uses of its own module. A detector's signal is the first
paragraph of its docstring; its limits are what follows "Limits:" in that docstring, else in its module's.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from runbooks.catalogue import Role, catalogue

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failures.md"
DETECTORS = ROOT / "runbooks" / "detectors"
CODES = ROOT / "runbooks" / "codes"
# What cites for a detector without naming its source.
CITING = {"cite_event": "EVENT", "cite_status": "FIELD", "quote": "LOG", "finding_of": "METRIC"}
SOURCES = {"FIELD": "fields", "EVENT": "events", "LOG": "logs", "METRIC": "metrics", "ALERT": "alerts", "ABSENCE": "what is absent"}
INTRODUCTION = """# Failures, and how each is recognised

Written by `make docs` from the catalogue of codes and the detectors; do not edit. A *cause* may be the root of other findings, a
*symptom* counts as one only when nothing explains it, an *advisory* is true and breaks nothing now. What to do about a code is on its
page in [runbooks/pages](../runbooks/pages); what is not recognised yet is in [failures-limits.md](failures-limits.md).

Limits that all share: the API server keeps events for an hour by default; of logs the tail is read, and only where a suspicion asks for
it; metrics and alerts count only where a source is recorded or connected; Secrets are never read. What could not be read is named
under `cannot_see` and lowers the certainty.
"""


@dataclass(frozen=True)
class Entry:
    """One detector as its source tells. `codes` in order; `unknown` are constants shaped like codes that no file of codes has."""

    module: str
    name: str
    codes: tuple[str, ...]
    unknown: tuple[str, ...]
    sources: tuple[str, ...]
    signal: str
    limits: str


def entries() -> tuple[Entry, ...]:
    """Every detector that a module lists in DETECTORS."""
    return tuple(entry for path in sorted(DETECTORS.glob("*.py")) for entry in _of_module(path.stem, ast.parse(path.read_text("utf-8"))))


def _of_module(module: str, tree: ast.Module) -> Iterator[Entry]:
    known = dict(_definitions(tree))
    listed = known.get("DETECTORS")
    if listed is None:
        return
    families = {name.partition(".")[0] for name in catalogue()}
    for item in ast.walk(listed):
        function = known.get(item.id) if isinstance(item, ast.Name) and item.id != "DETECTORS" else None
        if not isinstance(function, ast.FunctionDef):
            continue
        nodes = [node for part in _reach(function.name, known) for node in ast.walk(part)]
        constants = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        shaped = {text for text in constants if re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)+", text) and text.partition(".")[0] in families}
        cited = {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {node.id for node in nodes if isinstance(node, ast.Name)}
        sources = {CITING.get(name, name) for name in cited} & SOURCES.keys()
        text = ast.get_docstring(function) or ""
        yield Entry(
            module,
            function.name,
            tuple(sorted(constants & catalogue().keys())),
            tuple(sorted(shaped - catalogue().keys())),
            tuple(words for source, words in SOURCES.items() if source in sources),
            _line(text.partition("\n\n")[0].partition("Limits:")[0]),
            _limits(text) or _limits(ast.get_docstring(tree) or ""),
        )


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((name.id, node) for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _reach(start: str, known: dict[str, ast.stmt]) -> Iterator[ast.stmt]:
    """A definition and all of its module that it uses, however deep."""
    seen, waiting = {start, "DETECTORS"}, [start]
    while waiting:
        part = known[waiting.pop()]
        yield part
        used = {node.id for node in ast.walk(part) if isinstance(node, ast.Name) and node.id in known} - seen
        seen |= used
        waiting += sorted(used)


def _line(text: str) -> str:
    return " ".join(text.split())


def _limits(docstring: str) -> str:
    return _line(docstring.partition("Limits:")[2].partition("\n\n")[0])


def page() -> str:
    """The whole text, by the files of the catalogue."""
    detectors = entries()
    text = [INTRODUCTION, f"\n{len(catalogue())} codes, {len(detectors)} detectors.\n"]
    for file in sorted(CODES.glob("*.yaml")):
        names = yaml.safe_load(file.read_text("utf-8"))
        here = [entry for entry in detectors if names.keys() & set(entry.codes)]
        text += [f"\n## {file.stem.capitalize()}\n", "\n| code | what it says | class | counts as | found by |\n|---|---|---|---|---|\n"]
        for name in names:
            code = catalogue()[name]
            counts = code.role.value if code.severity == "error" or code.role is Role.ADVISORY else f"{code.role.value}, {code.severity}"
            makers = ", ".join(f"{entry.module}.{entry.name}" for entry in here if name in entry.codes)
            text.append(f"| `{name}` | {code.title} | {code.class_} | {counts} | {makers} |\n")
        text.append("\n")
        for entry in here:
            told = f" Told by {', '.join(entry.sources)}." if entry.sources else ""
            text.append(f"- `{entry.module}.{entry.name}`: {entry.signal}{told} *Limits:* {entry.limits}\n")
    return "".join(text)


def main() -> int:
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
