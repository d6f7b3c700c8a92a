"""What a write would change, field by field, for people: two objects compared, bounded and fit to show. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guardrails.port import FieldChange
from guardrails.redact import present

VALUE_LIMIT = 200
CHANGES_LIMIT = 100
# The server's own bookkeeping: it changes with every write and says nothing about what was asked for.
_BOOKKEEPING = frozenset({"metadata.managedFields", "metadata.resourceVersion", "metadata.generation"})


def difference(before: dict[str, Any], after: dict[str, Any]) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of `after`. Lists of named things are compared by name. At most 100, then a count."""
    changes: list[FieldChange] = []
    left_out = 0
    for path, old, new in _changed("", before, after):
        if path in _BOOKKEEPING:
            continue
        if len(changes) < CHANGES_LIMIT:
            changes.append(FieldChange(path, _render(old), _render(new)))
        else:
            left_out += 1
    if left_out:
        changes.append(FieldChange("…", None, f"{left_out} more fields"))
    return tuple(changes)


def removal(raw: dict[str, Any]) -> tuple[FieldChange, ...]:
    """What a delete or an eviction changes: the whole object goes."""
    metadata = raw.get("metadata", {})
    place = "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
    return (FieldChange("object", f"{raw.get('kind')} {place}", None),)


def _changed(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*new, *(key for key in old if key not in new)):
            name = f"[{key}]" if "." in key or "/" in key else key
            inner = f"{path}.{name}" if path and not name.startswith("[") else f"{path}{name}"
            yield from _changed(inner, old.get(key), new.get(key))
    elif _named(old) and _named(new):
        olds, news = ({item["name"]: item for item in items} for items in (old, new))
        for name in (*news, *(name for name in olds if name not in news)):
            yield from _changed(f"{path}[name={name}]", olds.get(name), news.get(name))
    elif old != new:
        yield path, old, new


def _named(items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items)


def _render(value: Any) -> str | None:
    if value is None:
        return None
    return present(value if isinstance(value, str) else json.dumps(value, sort_keys=True), VALUE_LIMIT)
