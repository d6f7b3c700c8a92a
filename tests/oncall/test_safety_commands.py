"""`smokejumper kill-switch` and `break-glass` as somebody in a hurry types them: with a wrong name, without a token, one after another."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from tests.oncall.conftest import RECORDING, Run

STOP = ("kill-switch", "on", "--reason", "strange writes")
GO_ON = ("kill-switch", "off", "--reason", "found and mended")


@pytest.fixture
def token(smokejumper: Run) -> str:
    """Of alice, whom the account that runs the tests belongs to."""
    groups = ("--group", "sre-oncall", "--group", "break-glass")
    return smokejumper("people", "add", "alice", *groups, "--os-user", getpass.getuser())[1].strip()


def contexts(folder: Path, *names: str) -> None:
    """A kubeconfig where one is looked for by default. Nobody connects to anything."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in names],
    }
    (folder / ".kube").mkdir()
    (folder / ".kube" / "config").write_text(json.dumps(document))


def test_a_switch_for_a_cluster_that_nobody_knows_is_refused(smokejumper: Run, token: str, tmp_path: Path) -> None:
    contexts(tmp_path, "prod-east", "prod-west")
    code, out, err = smokejumper(*STOP, "--cluster", "prod-eats")
    assert (code, out) == (2, "")
    assert "prod-east" in err
    assert "--anyway" in err
    assert smokejumper("kill-switch", "show")[1] == ""
    assert smokejumper(*STOP, "--cluster", "prod-eats", "--anyway")[0] == 0
    code, out, _ = smokejumper(*STOP, "--cluster", "prod-east")
    assert code == 0
    assert "nothing is written to the cluster prod-east" in out
    assert "smokejumper kill-switch off --cluster prod-east --reason TEXT" in out


def test_a_cluster_of_a_proposal_is_known(smokejumper: Run, token: str, tmp_path: Path) -> None:
    contexts(tmp_path, "prod")
    shown = smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING)[1]
    cluster = next(line.split()[1] for line in shown.splitlines() if line.startswith("  cluster"))
    assert smokejumper(*STOP, "--cluster", cluster)[0] == 0


def test_an_emergency_does_not_wait_for_a_kubeconfig(smokejumper: Run, token: str) -> None:
    """Where no cluster is known the name is taken as it is, and that is said."""
    for words in (STOP, ("break-glass", "open", "--reason", "everything is down")):
        code, _, err = smokejumper(*words, "--cluster", "prod", token=token)
        assert code == 0, err
        assert "nobody can tell whether 'prod' is right" in err
    assert smokejumper(*STOP)[0] == 0


def test_an_emergency_in_a_cluster_that_nobody_knows_is_refused(smokejumper: Run, token: str, tmp_path: Path) -> None:
    contexts(tmp_path, "prod")
    words = ("break-glass", "open", "--reason", "everything is down", "--cluster")
    code, _, err = smokejumper(*words, "prd", token=token)
    assert code == 2
    assert "Known: prod." in err
    assert smokejumper(*words, "prd", "--anyway", token=token)[0] == 0
    assert smokejumper(*words, "prod", token=token)[0] == 0


def test_going_on_names_the_switches_that_stay_on(smokejumper: Run, token: str) -> None:
    smokejumper(*STOP)
    smokejumper(*STOP, "--tenant", "acme")
    code, out, _ = smokejumper(*GO_ON, token=token)
    assert code == 0
    assert out.splitlines()[0] == "off: *"
    assert "still on: tenant:acme" in out
    assert "smokejumper kill-switch off --tenant acme --reason TEXT" in out
    code, out, _ = smokejumper(*GO_ON, token=token)
    assert "there was no switch on for any cluster" in out


def test_going_on_says_whose_token_it_takes(smokejumper: Run, token: str) -> None:
    smokejumper(*STOP)
    code, _, err = smokejumper(*GO_ON)
    assert code == 2
    assert "who lets writing go on?" in err
    assert "your own token" in err
    assert "approver" not in err


def test_an_execution_that_the_switch_refuses_names_what_lifts_it(smokejumper: Run, token: str) -> None:
    bob = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
    shown = smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING)[1]
    name = shown.split()[0]
    digest = next(line.split()[-1] for line in shown.splitlines() if line.startswith("  digest"))
    assert smokejumper("approve", name, "--digest", digest, token=bob)[0] == 0
    smokejumper(*STOP)
    code, _, err = smokejumper("execute", name, "--recording", RECORDING)
    assert code == 2
    assert "strange writes" in err
    assert "smokejumper kill-switch off --reason TEXT" in err


@pytest.mark.parametrize(
    "words",
    [
        ("proposals", "list"),
        ("proposals", "show", "p-1"),
        ("audit", "show"),
        ("audit", "verify"),
        ("audit", "export"),
        ("audit", "checkpoint"),
        ("audit", "prove", "e-1"),
        ("audit", "report", "changes"),
        ("break-glass", "list"),
        ("kill-switch", "show"),
    ],
)
def test_looking_at_a_folder_without_a_ledger_begins_none(smokejumper: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    wrong = tmp_path / "wrong"
    code, out, err = smokejumper(*words, state=wrong)
    assert (code, out) == (2, "")
    assert f"there is no ledger in {wrong}" in err
    assert not wrong.exists()


def test_an_empty_answer_says_that_there_is_nothing(smokejumper: Run, token: str) -> None:
    smokejumper(*STOP, "--tenant", "acme")
    for words, says in (
        (("audit", "show", "p-zzz", "--after", "0"), "no entry about p-zzz"),
        (("proposals", "list"), "none is open; --all"),
        (("proposals", "list", "--all"), "there is none"),
        (("break-glass", "list"), "no emergency was ever declared"),
    ):
        code, out, err = smokejumper(*words)
        assert (code, out) == (0, "")
        assert says in err
    code, out, err = smokejumper("audit", "show", "p-zzz")
    assert (code, out) == (2, "")
    assert "no entry about p-zzz" in err
