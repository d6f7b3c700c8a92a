"""YAML in tests: quick, by libyaml where PyYAML has it, and without timestamps, because the API sends them as strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        key: [item for item in resolvers if item[0] != "tag:yaml.org,2002:timestamp"]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def document(text: str) -> Any:
    """What a text says, which is one document."""
    return yaml.load(text, Loader=_Loader)


def documents(text: str | Path) -> list[Any]:
    """The documents of a text, or of a file, that are not empty."""
    whole = text.read_text("utf-8") if isinstance(text, Path) else text
    return [one for one in yaml.load_all(whole, Loader=_Loader) if one is not None]
