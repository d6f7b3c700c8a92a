"""YAML from strangers, bounded before and while it is parsed, with the scalars that Kubernetes means.

Built on libyaml's events instead of `yaml.SafeLoader` for three reasons: aliases are counted as what they expand to, so ten lines
cannot become a billion nodes; depth is checked before the recursion; and plain scalars are read as kubectl reads them. SafeLoader
turns `2026-01-02T03:04:05Z` into a datetime and `1:30` into 90, which breaks every field that is declared as a string.
JSON is YAML, and is decoded as JSON when a text begins like it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from cluster.errors import RecordingError

BYTES_LIMIT = 256 * 1024 * 1024
NODES_LIMIT = 20_000_000
DEPTH_LIMIT = 100
DOCUMENTS_LIMIT = 50_000

try:
    from yaml._yaml import CParser as _Parser
except ImportError:
    # A PyYAML that was built without libyaml: some four times slower, the same events.
    from yaml import Loader as _Parser  # type: ignore[assignment]
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_OCTAL = re.compile(r"0[0-7]+\Z")
# As PyYAML reads and kubectl writes them: what has no point is no float, so that a commit id such as 12345e7 stays text.
_FLOAT = re.compile(r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?\Z")
_NUMBERS = frozenset("0123456789+-.")


class _Collection:
    """One open mapping or list. `pending` is the key of a mapping that waits for its value."""

    __slots__ = ("anchor", "key", "pending", "size", "value")

    def __init__(self, value: dict[Any, Any] | list[Any], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.pending = False
        self.key: Any = None
        self.size = 1


def load_documents(content: bytes, where: str) -> list[Any]:
    """Every document of a text. RecordingError names `where`, the line and what to do when it is too large, deep or broken."""
    if len(content) > BYTES_LIMIT:
        raise RecordingError(f"{where} has {len(content)} bytes, more than {BYTES_LIMIT} are not read. Record fewer namespaces.")
    start = content.lstrip()[:1]
    if start in (b"{", b"["):
        try:
            document = msgspec.json.decode(content)
            _check_depth(document, where)
            return [document]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Flow-style YAML also begins with a brace; if it is neither, the YAML parser gives the better message.
            pass
    try:
        return _events(_Parser(content), where)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise RecordingError(f"{place} is no YAML: {problem}. If it was cut off, record it again.") from error


def _check_depth(document: Any, where: str) -> None:
    level = [document]
    for _ in range(DEPTH_LIMIT):
        level = [
            inner for item in level for inner in (item.values() if item.__class__ is dict else item) if inner.__class__ in (dict, list)
        ]
        if not level:
            return
    raise RecordingError(f"{where} is nested deeper than {DEPTH_LIMIT} levels, which no Kubernetes object is.")


def _events(parser: Any, where: str) -> list[Any]:
    documents: list[Any] = []
    stack: list[_Collection] = []
    anchors: dict[str, tuple[Any, int]] = {}
    nodes = 0
    next_event = parser.get_event
    while True:
        event = next_event()
        kind = type(event)
        size = 1
        if kind is yaml.ScalarEvent:
            value = event.value if not event.implicit[0] else _scalar(event.value)
            if event.anchor is not None:
                anchors[event.anchor] = (value, 1)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if len(stack) >= DEPTH_LIMIT:
                raise RecordingError(f"{where} is nested deeper than {DEPTH_LIMIT} levels, which no Kubernetes object is.")
            stack.append(_Collection({} if kind is yaml.MappingStartEvent else [], event.anchor))
            continue
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            done = stack.pop()
            value, size = done.value, done.size
            if done.anchor is not None:
                anchors[done.anchor] = (value, size)
        elif kind is yaml.AliasEvent:
            if event.anchor not in anchors:
                raise RecordingError(f"{where} uses the alias *{event.anchor} before or inside what it names.")
            value, size = anchors[event.anchor]
        elif kind is yaml.StreamEndEvent:
            return documents
        else:
            if kind is yaml.DocumentStartEvent:
                anchors = {}
            continue
        # Ends of collections were counted child by child; what an alias stands for counts again each time.
        nodes += size if kind is yaml.AliasEvent else 1
        if nodes > NODES_LIMIT:
            raise RecordingError(f"{where} expands to more than {NODES_LIMIT} values. It may be made to exhaust memory.")
        if not stack:
            if len(documents) >= DOCUMENTS_LIMIT:
                raise RecordingError(f"{where} has more than {DOCUMENTS_LIMIT} documents.")
            documents.append(value)
            continue
        top = stack[-1]
        top.size += size
        if top.value.__class__ is list:
            top.value.append(value)
        elif top.pending:
            top.value[top.key] = value
            top.pending = False
        else:
            top.key = value if isinstance(value, str) else _key(value, where)
            top.pending = True


def _key(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise RecordingError(f"{where} has a mapping key that is no text, which no Kubernetes object has.")


def _scalar(text: str) -> str | int | float | bool | None:
    first = text[:1]
    if first in _NUMBERS:
        if _INTEGER.match(text):
            return int(text) if len(text) < 20 else text
        if _OCTAL.match(text):
            return int(text, 8)
        if _FLOAT.match(text):
            return float(text)
        return text
    return _WORDS.get(text, text) if len(text) <= 5 else text
