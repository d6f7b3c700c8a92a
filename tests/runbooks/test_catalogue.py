"""The files of codes: whole, well-formed, and all of it in use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from runbooks.catalogue import Role, catalogue, code_of

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
NAME = re.compile(r"[a-z]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
CLASS = re.compile(r"[a-z]+/[a-z0-9]+(-[a-z0-9]+)*")


@pytest.mark.parametrize("file", sorted((RUNBOOKS / "codes").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_file_defines_each_code_once(file: Path) -> None:
    """A YAML parser silently keeps the last of two equal keys."""
    node = yaml.compose(file.read_text("utf-8"))
    assert isinstance(node, yaml.MappingNode)
    names = [key.value for key, _ in node.value]
    assert len(names) == len(set(names))
    assert set(names) <= catalogue().keys()


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_an_entry_is_well_formed(name: str) -> None:
    code = code_of(name)
    assert NAME.fullmatch(name)
    assert CLASS.fullmatch(code.class_)
    assert code.severity in {"error", "warning", "info"}
    assert 1 <= code.weight <= 9
    assert 10 <= len(code.title) <= 90
    assert code.title[0].isupper() or code.title.startswith(("etcd", "kube-"))
    assert not code.title.endswith(".")
    assert code.page


def test_advice_is_never_an_error() -> None:
    assert [name for name, code in catalogue().items() if code.role is Role.ADVISORY and code.severity == "error"] == []


def test_every_code_is_used() -> None:
    """A code that nobody says is a promise that nobody keeps. (Names are written out, never put together.)"""
    source = "\n".join(path.read_text("utf-8") for path in RUNBOOKS.rglob("*.py"))
    assert [name for name in catalogue() if f'"{name}"' not in source] == []


def test_an_unlisted_code_says_which_folder_to_edit() -> None:
    with pytest.raises(KeyError, match="runbooks/codes"):
        code_of("pod.haunted")
