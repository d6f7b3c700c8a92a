"""`smokejumper policy` as the author of a bundle types it: begin one, spoil it, and be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oncall.conftest import Run

RULES = """
@id("deny-large") @effect("deny") forbid (principal, action, resource) when { context.podsAffected >= 10 };
@id("approve") @effect("approve") @approvals("2") @approvers("sre-oncall") permit (principal, action, resource);
"""
CASES = """
cases:
  - {name: small, do: scale, resource: {name: x}, context: {podsAffected: 3}, want: approve, rule: approve, approvals: {sre-oncall: 2}}
  - {name: large, do: scale, resource: {name: x}, context: {podsAffected: 10}, want: deny, rule: deny-large}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle that loads, forgets a lot, and whose tests hold all that it says."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "rules.cedar").write_text(RULES)
    (folder / "policy_test.yaml").write_text(CASES)
    return folder


def test_a_new_bundle_is_the_shipped_one_until_it_is_changed(smokejumper: Run, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    code, out, _ = smokejumper("policy", "new", str(folder))
    assert code == 0
    assert f"smokejumper policy test {folder}" in out
    code, out, _ = smokejumper("policy", "test", str(folder))
    assert (code, out.split(":")[0]) == (0, "good")
    code, out, err = smokejumper("policy", "lint", str(folder))
    assert (code, out) == (0, "")
    assert err.startswith("0 remarks on ")
    code, _, err = smokejumper("policy", "new", str(folder))
    assert code == 2
    assert "does not exist yet" in err


def test_a_new_bundle_from_another(smokejumper: Run, tmp_path: Path, bundle: Path) -> None:
    assert smokejumper("policy", "new", str(tmp_path / "own"), "--from", str(bundle))[0] == 0
    assert (tmp_path / "own" / "rules.cedar").read_text() == RULES
    code, _, err = smokejumper("policy", "new", str(tmp_path / "other"), "--from", str(tmp_path))
    assert code == 2
    assert "is no policy bundle" in err
    assert not (tmp_path / "other").exists()


def test_lint_tells_what_was_forgotten(smokejumper: Run, bundle: Path) -> None:
    code, out, err = smokejumper("policy", "lint", str(bundle))
    assert code == 1
    assert "allowed\tscale is possible while the kill switch is on." in out.splitlines()
    assert err.endswith("remarks on 2 rules\n")


def test_coverage_tells_what_no_test_holds(smokejumper: Run, bundle: Path) -> None:
    code, out, err = smokejumper("policy", "coverage", str(bundle), "--mutate")
    assert code == 0, out
    assert out.splitlines() == ["1\tdeny-large\tlarge", "1\tapprove\tsmall"]
    assert " 0 not noticed" in err
    (bundle / "policy_test.yaml").write_text(
        CASES.replace("podsAffected: 10", "podsAffected: 30").replace(", approvals: {sre-oncall: 2}", "")
    )
    code, out, _ = smokejumper("policy", "coverage", str(bundle), "--mutate")
    assert code == 1
    assert "no test notices deny-large > instead of >=" in out
    assert "no test notices approve asking 1 instead of 2" in out
    assert smokejumper("policy", "coverage", str(bundle))[0] == 0
    (bundle / "policy_test.yaml").write_text("\n".join(CASES.splitlines()[:3]))
    code, out, _ = smokejumper("policy", "coverage", str(bundle))
    assert code == 1
    assert "0\tdeny-large\tno test lets it decide" in out


@pytest.mark.parametrize("command", ["test", "lint", "coverage"])
def test_a_folder_that_is_no_bundle_is_one_sentence(smokejumper: Run, tmp_path: Path, command: str) -> None:
    code, _, err = smokejumper("policy", command, str(tmp_path / "nowhere"))
    assert code == 2
    assert "nowhere" in err
