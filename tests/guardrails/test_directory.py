"""People, their groups and their tokens in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.directory import DEFAULT_GROUPS, Directory
from guardrails.errors import BadDirectory, NotAuthenticated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "people.json"


def test_a_token_names_its_person_and_is_stored_nowhere(path: Path) -> None:
    directory = Directory.load(path)
    token, other = directory.add("ada", ["sre-oncall"]), directory.add("bob")
    assert token != other
    assert token not in path.read_text()
    again = Directory.load(path)
    assert again.authenticate(token).name == "ada"
    assert again.authenticate(other).groups == ()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("spoil", [lambda t: "", lambda t: t[:-1], lambda t: t + "x", lambda t: t.swapcase()])
def test_another_token_is_nobody(path: Path, spoil: object) -> None:
    directory = Directory.load(path)
    token = directory.add("ada")
    assert callable(spoil)
    with pytest.raises(NotAuthenticated):
        directory.authenticate(spoil(token))


def test_groups_change_for_everybody_who_has_it_open(path: Path) -> None:
    one = Directory.load(path)
    one.add("ada", ["sre-oncall"])
    two = Directory.load(path)
    two.set_groups("ada", ["new-group"])
    one.refresh()
    assert one.find("ada") == two.find("ada")
    assert one.groups == {*DEFAULT_GROUPS, "new-group"}
    two.remove("ada")
    one.refresh()
    assert one.people() == ()


@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_a_name_is_taken_once(path: Path, name: str) -> None:
    directory = Directory.load(path)
    directory.add("ada")
    with pytest.raises(BadDirectory, match="already"):
        directory.add(name)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "-x", "x" * 129, "\u0430da"])
def test_names_that_are_none(path: Path, name: str) -> None:
    with pytest.raises(BadDirectory):
        Directory.load(path).add(name)


def test_unknown_people(path: Path) -> None:
    directory = Directory.load(path)
    with pytest.raises(BadDirectory, match="Nobody"):
        directory.remove("ada")
    with pytest.raises(BadDirectory, match="Nobody"):
        directory.set_groups("ada", [])


def test_a_damaged_or_open_file_is_refused(path: Path) -> None:
    Directory.load(path).add("ada")
    path.chmod(0o666)
    with pytest.raises(BadDirectory, match="chmod 600"):
        Directory.load(path)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(BadDirectory, match="damaged"):
        Directory.load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadDirectory):
        Directory.load(path)
