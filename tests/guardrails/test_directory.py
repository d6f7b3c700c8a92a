"""People, their groups and their tokens in one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardrails.directory import AUTHENTICATORS, DEFAULT_GROUPS, Directory
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


def test_second_secrets_lie_apart_where_only_their_owner_reads(path: Path) -> None:
    directory = Directory.load(path)
    directory.add("ada")
    secret = directory.enrol("ada")
    apart = path.with_name(AUTHENTICATORS)
    assert apart.stat().st_mode & 0o777 == 0o600
    assert secret in apart.read_text()
    assert secret not in path.read_text()
    assert Directory.load(path).step_up_secret("ada") == secret
    for mode in (0o640, 0o604, 0o620):
        apart.chmod(mode)
        for use in (lambda: Directory.load(path), lambda: directory.step_up_secret("ada")):
            with pytest.raises(BadDirectory, match=r"Others may read the secrets of one-time codes.*chmod 600"):
                use()
    apart.chmod(0o600)
    apart.write_text('{"secrets": {"ada": ["JBSWY3DPEHPK3PXP"]}}')
    with pytest.raises(BadDirectory, match="damaged") as damaged:
        Directory.load(path)
    assert "JBSWY" not in str(damaged.value)


@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_who_takes_over_a_name_gets_no_authenticator_with_it(path: Path, name: str) -> None:
    directory = Directory.load(path)
    directory.add("ada")
    secret = directory.enrol("ada")
    directory.remove("ada")
    assert secret not in path.with_name(AUTHENTICATORS).read_text()
    # Nor when the process died between the two files.
    path.with_name(AUTHENTICATORS).write_text(json.dumps({"secrets": {"ada": secret}}))
    directory.add(name)
    assert directory.step_up_secret(name) is None


def test_a_directory_of_before_gives_its_secrets_up(path: Path) -> None:
    directory = Directory.load(path)
    token = directory.add("ada", ["sre-oncall"])
    directory.add("bob")
    before = json.loads(path.read_text())
    before["people"][0]["step_up"] = "JBSWY3DPEHPK3PXP"
    before["people"][1]["step_up"] = None
    path.write_text(json.dumps(before))
    moved = Directory.load(path)
    assert (moved.step_up_secret("ada"), moved.step_up_secret("bob")) == ("JBSWY3DPEHPK3PXP", None)
    assert "JBSWY" not in path.read_text() + repr(moved.people())
    assert moved.authenticate(token).groups == ("sre-oncall",)
