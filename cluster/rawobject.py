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
