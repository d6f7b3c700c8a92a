"""What the doctor says, on a real API server, of the accounts that read, try and write, and of the fence around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from oncall.cli import run
from oncall.fence import BOUNDS
from oncall.roles import ACCOUNTS, ADMISSION, DRY_RUN, EXECUTOR, NAMESPACE, READER
from tests.deploy.conftest import Fenced, Run


def found(out: str, what: str) -> list[tuple[str, str]]:
    """(mark, the rest) of the lines about something."""
    lines = [(line[:8].strip(), line[9:]) for line in out.splitlines()]
    return [(mark, rest.removeprefix(f"{what}: ")) for mark, rest in lines if rest.startswith(f"{what}: ")]


def test_the_doctor_says_that_there_is_no_fence(
    accounts: Fenced, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First of this file: the fixtures of the others put it up."""
    monkeypatch.setenv("SMOKEJUMPER_EXECUTOR_CONTEXT", ACCOUNTS[EXECUTOR])
    state, kubeconfig = str(tmp_path / "state"), str(accounts.kubeconfig(tmp_path))
    assert run(["--state", state, "--kubeconfig", kubeconfig, "doctor", "--context", ACCOUNTS[READER]]) == 0
    out = capsys.readouterr().out
    ((mark, said),) = found(out, "fence")
    assert mark == "missing"
    assert said.startswith("ValidatingAdmissionPolicy smokejumper-bounds, ")
    assert said.endswith("smokejumper fence | kubectl apply --server-side -f -")
    # The executor tries, too, and may not ask what a human may.
    assert [mark for mark, _ in found(out, "account that tries and writes")] == ["missing"]
    assert "create localsubjectaccessreviews.authorization.k8s.io" in out


def test_the_doctor_knows_our_accounts_and_the_fence(smokejumper: Run) -> None:
    code, out, err = smokejumper("doctor")
    assert code == 0, out + err
    for account, deed in ((READER, "reads"), (DRY_RUN, "tries"), (EXECUTOR, "writes")):
        ((mark, said),) = found(out, f"account that {deed}")
        assert mark == "ok", out
        assert said.startswith(f"system:serviceaccount:{NAMESPACE}:{ACCOUNTS[account]} (context {ACCOUNTS[account]})")
    assert found(out, "fence") == [("ok", "installed")]
    assert "separate accounts" not in out


def test_the_doctor_says_what_accounts_have_too_much(unbounded: Fenced, smokejumper: Run) -> None:
    code, out, _ = smokejumper("doctor")
    assert code == 0
    for deed in ("reads", "tries", "writes"):
        (said,) = (rest for mark, rest in found(out, f"account that {deed}") if mark == "too much")
        assert "may * * in all namespaces" in said
        assert "Take it away" in said


def test_the_doctor_says_what_an_account_lacks(smokejumper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_EXECUTOR_CONTEXT", ACCOUNTS[READER])
    monkeypatch.delenv("SMOKEJUMPER_DRY_RUN_CONTEXT")
    code, out, _ = smokejumper("doctor", "-n", "default")
    assert code == 0
    ((mark, said),) = found(out, "account that reads and tries and writes")
    assert mark == "missing"
    assert said.startswith(f"system:serviceaccount:{NAMESPACE}:reader (context reader) may not patch configmaps, ")
    assert " more in namespace default: " in said
    ((mark, said),) = found(out, "separate accounts")
    assert (mark, "one account reads and writes" in said) == ("missing", True)


def test_the_doctor_asks_nothing_of_writers_where_the_server_only_reads(
    accounts: Fenced, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOKEJUMPER_MCP__GROUPS", '["core", "gpu"]')
    arguments = ["--state", str(tmp_path / "state"), "--kubeconfig", str(accounts.kubeconfig(tmp_path))]
    assert run([*arguments, "doctor", "--context", ACCOUNTS[READER]]) == 0
    out = capsys.readouterr().out
    ((mark, said),) = found(out, "account that reads")
    assert (mark, said) == ("ok", f"system:serviceaccount:{NAMESPACE}:reader (context reader)")
    assert [mark for mark, _ in found(out, "accounts that try and write")] == ["ok"]
    assert found(out, "fence") == found(out, "separate accounts") == []
    # Who sets an account that writes means it to write.
    monkeypatch.setenv("SMOKEJUMPER_EXECUTOR_CONTEXT", ACCOUNTS[EXECUTOR])
    assert run([*arguments, "doctor", "--context", ACCOUNTS[READER]]) == 0
    out = capsys.readouterr().out
    assert len(found(out, "account that tries and writes")) == len(found(out, "fence")) == 1


def test_the_doctor_knows_a_fence_that_holds_nobody(smokejumper: Run, fenced: Fenced) -> None:
    """A binding with `matchResources` still stands, and binds only what it selects."""
    kind = "ValidatingAdmissionPolicyBinding"
    narrowed = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}}}
    try:
        fenced.admin.patch(f"{ADMISSION}/v1", kind, BOUNDS, {"spec": {"matchResources": narrowed}})
        _, out, _ = smokejumper("doctor")
    finally:
        fenced.admin.patch(f"{ADMISSION}/v1", kind, BOUNDS, {"spec": {"matchResources": None}})
    ((mark, said),) = found(out, "fence")
    assert mark == "missing"
    assert said.startswith(f"{kind} {BOUNDS} is not what this version prints")
    assert found(smokejumper("doctor")[1], "fence") == [("ok", "installed")]
