"""Whole objects as plain dictionaries, for people, for actions and for recordings: what is taken out before they go anywhere."""

from __future__ import annotations

from typing import Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def tidy(document: dict[str, Any]) -> dict[str, Any]:
    """The object without the two copies of itself that only machines read: managedFields and the last-applied annotation."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return document
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    annotations = kept.get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        kept["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return {**document, "metadata": kept}


# Fields that the API declares as map[string]string: a hand-written `version: 1` means "1" there.
_TEXT_MAPS = frozenset({"labels", "annotations", "matchLabels", "nodeSelector", "data", "selector"})
_TEXT_FIELDS = frozenset({"value", "name", "resourceVersion", "uid", "key", "operator", "effect"})


def pruned(value: Any) -> Any:
    """Without nulls: recordings write `labels: null` where an API server leaves the field out."""
    if isinstance(value, dict):
        return {key: pruned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [pruned(item) for item in value if item is not None]
    return value


def lenient(value: Any) -> Any:
    """The object with numbers and booleans turned into text where the API has text."""
    if isinstance(value, list):
        return [lenient(item) for item in value]
    if not isinstance(value, dict):
        return value
    turned: dict[str, Any] = {}
    for key, item in value.items():
        if key in _TEXT_MAPS and isinstance(item, dict):
            turned[key] = {name: _text(inner) if not isinstance(inner, dict | list) else lenient(inner) for name, inner in item.items()}
        elif key in _TEXT_FIELDS and isinstance(item, int | float | bool):
            turned[key] = _text(item)
        elif key in ("command", "args") and isinstance(item, list):
            turned[key] = [_text(part) if not isinstance(part, dict | list) else part for part in item]
        else:
            turned[key] = lenient(item)
    return turned


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
