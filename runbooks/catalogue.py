"""What each finding code means: class, title, severity and role, read once from `codes/*.yaml`.

Knowledge about who explains whom that is not in the object graph lives here as two numbers of a code, its role and its weight.
"""

from __future__ import annotations

import enum
from functools import cache
from importlib import resources

import msgspec

DEFAULT_WEIGHT = 5


class Role(enum.Enum):
    """CAUSE: may be a root cause. SYMPTOM: a consequence, a cause only when nothing explains it. ADVISORY: hygiene."""

    CAUSE = "cause"
    SYMPTOM = "symptom"
    ADVISORY = "advisory"


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry. `class` is a word of the public vocabulary `area/cause`; `weight` 1 (generic) to 9 (specific) decides between
    two causes on one chain of objects: the heavier explains the lighter. `page` names the runbook page."""

    class_: str = msgspec.field(name="class")
    title: str
    severity: str = "error"
    role: Role = Role.CAUSE
    weight: int = DEFAULT_WEIGHT
    page: str = ""


@cache
def catalogue() -> dict[str, Code]:
    """Every code by name. Raises ValueError when two files define the same code."""
    codes: dict[str, Code] = {}
    for file in _texts():
        entries = _entries(file)
        twice = codes.keys() & entries.keys()
        if twice:
            raise ValueError(f"{file} defines codes again that another file has: {', '.join(sorted(twice))}")
        codes.update(entries)
    return codes


@cache
def code_of(name: str) -> Code:
    """The entry of a code. Raises KeyError with the file to edit when a detector uses an unlisted one."""
    # Reading all files takes as long as judging a thousand pods, and a diagnosis needs the codes of a few.
    file = next((file for file, text in _texts().items() if f"\n{name}:" in f"\n{text}"), None)
    if file is None:
        raise KeyError(f"finding code {name!r} is in no file of runbooks/codes; add it there")
    return _entries(file)[name]


@cache
def _texts() -> dict[str, str]:
    """The files of codes, by name."""
    files = sorted(resources.files("runbooks").joinpath("codes").iterdir(), key=lambda item: item.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(".yaml")}


@cache
def _entries(file: str) -> dict[str, Code]:
    return msgspec.yaml.decode(_texts()[file], type=dict[str, Code])
