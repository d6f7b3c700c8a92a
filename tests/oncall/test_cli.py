"""The command line over a recording and over servers that do not answer: exit codes, one clear sentence, never a stack trace."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from guardrails.stepup import code_at, period_of
from oncall.cli import sentence_of
from oncall.errors import UsageError
from tests.oncall.conftest import RECORDING, ROOT, Run


def kubeconfig(tmp_path: Path, server: str) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: dead\n"
        f"clusters: [{{name: dead, cluster: {{server: '{server}'}}}}]\n"
        "users: [{name: nobody, user: {token: not-a-token}}]\n"
        "contexts: [{name: dead, context: {cluster: dead, user: nobody}}]\n"
    )
    return str(path)


def test_a_diagnosis_names_the_rollout_with_event_and_both_revisions(smokejumper: Run) -> None:
    code, out, _ = smokejumper("diagnose", "--recording", RECORDING)
    assert code == 0
    assert "1. Deployment/ml/serve" in out
    assert "event Failed" in out
    assert "v0.33.0-cu13x" in out
    assert "revision 1" in out
    assert f"smokejumper propose rollout_undo Deployment/serve -n ml --to-revision 1 --recording {RECORDING}" in out.replace("\n", "")


def test_json_is_the_documented_form(smokejumper: Run) -> None:
    code, out, _ = smokejumper("diagnose", "--recording", RECORDING, "-o", "json")
    document = json.loads(out)
    jsonschema.validate(document, json.loads((ROOT / "docs" / "diagnosis.schema.json").read_text(encoding="utf-8")))
    assert code == 0
    assert document["causes"][0]["class"] == "image/bad-reference"
    assert document["causes"][0]["remedies"][0]["action"] == "rollout_undo"


def test_two_runs_say_the_same_but_for_the_seconds(smokejumper: Run) -> None:
    first, second = (json.loads(smokejumper("diagnose", "--recording", RECORDING, "-o", "json")[1]) for _ in range(2))
    for document in (first, second):
        document["cost"].pop("seconds")
    assert first == second


def test_exit_code_tells_of_a_cause_only_when_asked(smokejumper: Run) -> None:
    assert smokejumper("diagnose", "--recording", RECORDING)[0] == 0
    assert smokejumper("diagnose", "--recording", RECORDING, "--exit-code")[0] == 1
    assert smokejumper("diagnose", "deploy/tokenizer", "-n", "ml", "--recording", RECORDING, "--exit-code")[0] == 0


def test_markdown_is_a_report(smokejumper: Run) -> None:
    assert smokejumper("diagnose", "--recording", RECORDING, "-o", "markdown")[1].startswith("# ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("diagnose", "deploy/serv", "-n", "ml", "--recording", RECORDING), "serve"),
        (("diagnose", "deploi/serve", "-n", "ml", "--recording", RECORDING), "nearest kinds: Deployment"),
        (("diagnose", "-n", "mll", "--recording", RECORDING), "ml"),
        (("diagnose", "serve", "-n", "ml", "--recording", RECORDING), "KIND/NAME"),
        (("diagnose", "deploy/serve", "--recording", RECORDING), "-n NAMESPACE. One of that name is in ml."),
        (("diagnose", "deploy/absent", "--recording", RECORDING), "-n NAMESPACE"),
        (("diagnose", "secret/token", "-n", "ml", "--recording", RECORDING), "Secrets are never read"),
        (("diagnose", "-A", "-n", "ml", "--recording", RECORDING), "contradict"),
        (("diagnose", "--now", "2026-01-15T12:00:00Z"), "--recording"),
        (("diagnose", "--recording", RECORDING, "--now", "yesterday"), "RFC 3339"),
        (("diagnose", "--recording", RECORDING, "--now", "2026-01-15T12:00:00"), "time zone"),
        (("diagnose", "--recording", "/nowhere"), "/nowhere"),
        (("diagnose", "--recording", str(ROOT / "docs")), "is no recording"),
        (("diagnose",), "no cluster is configured"),
        (("diagnose", "--recording", RECORDING, "-o", "yaml"), "yaml"),
        (("execute", "p-nothing", "--recording", RECORDING), "p-nothing"),
        (("audit", "verify"), "no ledger"),
        (("people", "remove", "nobody"), "List them: smokejumper people list."),
        (("people", "add", "no body"), "error: not a legal name"),
        (("frobnicate",), "No such command 'frobnicate'. See: smokejumper --help"),
        (("policy", "tes"), "Did you mean 'test'? See: smokejumper policy --help"),
        (
            ("why", "broken", "serve", "-n", "ml"),
            "'complaint': 'broken' is not one of 'pending', 'slow', 'failed'. See: smokejumper why --help",
        ),
    ],
)
def test_bad_input_is_one_sentence_with_a_next_step(smokejumper: Run, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = smokejumper(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert says in err


def test_a_server_that_does_not_answer_is_no_healthy_cluster(smokejumper: Run, tmp_path: Path) -> None:
    config = kubeconfig(tmp_path, "https://127.0.0.1:1")
    code, out, err = smokejumper("--kubeconfig", config, "diagnose")
    assert code == 2
    assert "dead" in err
    assert "unreachable" in err
    assert "healthy" not in out


def test_an_unknown_context_names_the_near_ones(smokejumper: Run, tmp_path: Path) -> None:
    code, _, err = smokejumper("--kubeconfig", kubeconfig(tmp_path, "https://127.0.0.1:1"), "diagnose", "--context", "deed")
    assert code == 2
    assert "dead" in err


def test_a_half_written_recording_is_an_error(smokejumper: Run, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(RECORDING, half)
    text = (half / "objects.yaml").read_text(encoding="utf-8")
    (half / "objects.yaml").write_text(text[: len(text) // 2], encoding="utf-8")
    code, out, err = smokejumper("diagnose", "--recording", str(half))
    assert code == 2
    assert "objects.yaml" in err
    assert "healthy" not in out


def test_a_recording_that_lost_its_end_is_not_called_healthy(smokejumper: Run, tmp_path: Path) -> None:
    shutil.copytree(RECORDING, tmp_path / "half")
    path = tmp_path / "half" / "objects.yaml"
    items = path.read_text().split("\n- ")
    path.write_text("\n- ".join(items[:2]) + "\n")
    code, out, _ = smokejumper("diagnose", "--recording", str(tmp_path / "half"))
    assert code == 0
    assert "healthy:" not in out
    assert "objects that were recorded are left" in out


def test_a_recording_of_one_namespace_says_nothing_of_the_others(smokejumper: Run, tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text("kind: List\nitems: [{kind: Namespace, metadata: {name: ml}}]\n", "utf-8")
    (tmp_path / "recording.yaml").write_text("namespaces: [ml]\nkinds_read: [Namespace, Pod]\n", "utf-8")
    code, out, _ = smokejumper("diagnose", "--recording", str(tmp_path))
    assert (code, out.startswith("ml in recording  ")) == (0, True)
    code, out, _ = smokejumper("diagnose", "-A", "--recording", str(tmp_path))
    assert (code, "healthy" in out, "(no-source: other namespaces than ml were not recorded)" in out) == (0, False, True), out


def test_config_show_masks_and_names_sources(smokejumper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_MODEL__API_KEY", "sk-never-shown")
    code, out, _ = smokejumper("config", "show")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert code == 0
    assert rows["model.api_key"] == ["********", "environment"]
    assert rows["state_dir"][1] == "flag"


def test_doctor_says_what_is_missing(smokejumper: Run, tmp_path: Path) -> None:
    code, out, _ = smokejumper("--kubeconfig", kubeconfig(tmp_path, "https://127.0.0.1:1"), "doctor")
    assert code == 2
    assert "people" in out
    assert "smokejumper people add" in out
    assert "broken   cluster" in out


def test_a_group_that_no_rule_asks_for_is_noted(smokejumper: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = smokejumper("people", "add", "carol", "--group", "sre")
    assert (code, len(out.split())) == (0, 1)
    assert "note: no rule of the policy asks for the group 'sre'; nearest groups: sre-oncall" in err
    assert "note:" not in smokejumper("people", "add", "dave", "--group", "sre-oncall", "--group", "break-glass")[2]
    (tmp_path / "no-policy").mkdir()
    monkeypatch.setenv("SMOKEJUMPER_POLICY_BUNDLE", str(tmp_path / "no-policy"))
    code, _, err = smokejumper("people", "add", "frank", "--group", "other")
    assert code == 0
    assert "note: whether a rule asks for other cannot be told" in err


def test_a_group_that_a_rule_of_ones_own_names_is_no_stranger(smokejumper: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule may ask who somebody is without ever asking for their approval."""
    folder = tmp_path / "own"
    assert smokejumper("policy", "new", str(folder))[0] == 0
    with (folder / "default.cedar").open("a") as rules:
        rules.write('@id("deny-interns") @effect("deny") forbid (principal in Smokejumper::Group::"interns", action, resource);\n')
    assert smokejumper("people", "add", "ivy", "--group", "interns")[2].count("note:") == 1
    monkeypatch.setenv("SMOKEJUMPER_POLICY_BUNDLE", str(folder))
    code, _, err = smokejumper("people", "add", "ian", "--group", "interns", "--group", "interms")
    assert code == 0
    assert "note: no rule of the policy asks for the group 'interms'" in err
    assert "'interns'" not in err


def test_a_command_without_words_lists_them(smokejumper: Run) -> None:
    code, _, err = smokejumper("policy")
    assert (code, err.startswith("Usage: smokejumper policy ")) == (2, True), err


def test_nothing_to_show_is_said(smokejumper: Run, tmp_path: Path) -> None:
    assert "nobody yet" in smokejumper("people", "list")[2]
    for words in (("people", "delegations"), ("audit", "export"), ("audit", "export", "--format", "ocsf")):
        code, out, err = smokejumper(*words)
        assert (code, out) == (2, ""), words
        assert "there is no ledger in" in err
    assert not (tmp_path / "state" / "smokejumper.db").exists()
    assert smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())[0] == 0
    assert smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING)[0] == 0
    code, _, err = smokejumper("audit", "show", "p-nothing")
    assert (code, "smokejumper proposals list --all" in err) == (2, True), err
    (tmp_path / "pinned").write_text("garbage", "utf-8")
    code, _, err = smokejumper("audit", "verify", "--key", str(tmp_path / "pinned"))
    assert (code, "pinned cannot be read: This is no verifier key" in err, "--key FILE" in err) == (2, True, True), err
    code, out, err = smokejumper("people", "delegations")
    assert (code, out) == (0, "")
    assert "nobody stands in for anybody" in err


class Approval:
    """alice asks from this account; bob approves. The proposal is pending."""

    def __init__(self, smokejumper: Run) -> None:
        account = getpass.getuser()
        self.alice = smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", account)[1].strip()
        self.bob = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
        self.carol = smokejumper("people", "add", "carol")[1].strip()
        code, out, _ = smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING)
        assert code == 0
        self.id = out.split()[0]
        self.digest = next(line.split()[1] for line in out.splitlines() if line.split()[:1] == ["digest"])


@pytest.fixture
def pending(smokejumper: Run) -> Approval:
    return Approval(smokejumper)


def test_nobody_asks_anonymously(smokejumper: Run) -> None:
    code, _, err = smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING)
    assert code == 2
    assert "people add" in err


def test_execution_without_approval_is_refused(smokejumper: Run, pending: Approval) -> None:
    code, _, err = smokejumper("execute", pending.id, "--recording", RECORDING)
    assert code == 2
    assert "needs approval" in err


@pytest.mark.parametrize(
    ("who", "digest", "says"),
    [
        ("alice", None, "Somebody else must decide"),
        ("carol", None, "sre-oncall"),
        ("bob", "0" * 64, "digest"),
        ("nobody", None, "belongs to nobody"),
    ],
)
def test_approvals_that_do_not_count(smokejumper: Run, pending: Approval, who: str, digest: str | None, says: str) -> None:
    token = {"alice": pending.alice, "bob": pending.bob, "carol": pending.carol}.get(who, "sj_made-up")
    code, _, err = smokejumper("approve", pending.id, "--digest", digest or pending.digest, token=token)
    assert code == 2
    assert says in err
    assert smokejumper("execute", pending.id, "--recording", RECORDING)[0] == 2


def test_an_approval_through_a_pipe_names_what_was_looked_at(smokejumper: Run, pending: Approval) -> None:
    code, _, err = smokejumper("approve", pending.id, token=pending.bob)
    assert code == 2
    assert "--digest" in err


def test_what_was_approved_is_rehearsed_once(smokejumper: Run, pending: Approval) -> None:
    assert smokejumper("approve", pending.id, "--digest", pending.digest, token=pending.bob)[0] == 0
    code, out, _ = smokejumper("execute", pending.id, "--recording", RECORDING)
    assert code == 0
    assert "Nothing was sent" in out
    assert '\n      "metadata": {\n' in out
    assert "PATCH /apis/apps/v1/namespaces/ml/deployments/serve" in out
    assert smokejumper("execute", pending.id, "--recording", RECORDING)[0] == 2
    assert smokejumper("audit", "verify")[0] == 0


def test_whoever_meets_a_rehearsal_is_told(smokejumper: Run, pending: Approval) -> None:
    mark = "[rehearsal on a recording] "
    for words in (("proposals", "list"), ("proposals", "show", pending.id), ("policy", "explain", pending.id, "--recording", RECORDING)):
        assert mark in smokejumper(*words)[1].splitlines()[0], words
    approved = smokejumper("approve", pending.id, "--digest", pending.digest, token=pending.bob)[1]
    assert mark in approved.splitlines()[0]
    assert f"smokejumper execute {pending.id} --recording DIR" in approved
    shown = json.loads(smokejumper("proposals", "show", pending.id, "--json")[1])
    assert (shown["rehearsal"], shown["summary"].startswith(mark)) == (True, True)


def test_a_denied_proposal_stays_denied(smokejumper: Run, pending: Approval) -> None:
    assert smokejumper("deny", pending.id, "--digest", pending.digest, "--reason", "not now", token=pending.bob)[0] == 0
    assert "not now" in smokejumper("proposals", "show", pending.id)[1]
    assert smokejumper("execute", pending.id, "--recording", RECORDING)[0] == 2


def test_only_the_requester_withdraws(smokejumper: Run, pending: Approval) -> None:
    assert smokejumper("proposals", "withdraw", pending.id, token=pending.bob)[0] == 2
    assert smokejumper("proposals", "withdraw", pending.id, token=pending.alice)[0] == 0


def test_what_an_investigation_proposed_on_can_be_read_and_forgotten(smokejumper: Run) -> None:
    account = getpass.getuser()
    smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", account)
    token = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
    code, _, err = smokejumper("diagnose", "deploy/tokenizer", "-n", "ml", "--propose", "--recording", RECORDING)
    assert (code, "nothing was proposed: there is no cause to remedy" in err) == (0, True), err
    code, _, err = smokejumper("diagnose", "deploy/serve", "-n", "ml", "--propose", "--recording", RECORDING)
    assert code == 0, err
    shown = smokejumper("audit", "show")[1]
    commitment = re.search(r'"commitment": "([0-9a-f]{64})"', shown)
    assert commitment is not None, shown
    code, kept, _ = smokejumper("audit", "text", commitment[1])
    assert code == 0
    assert kept.startswith("image.not-found of Deployment/ml/serve")
    assert "\nev:" in kept
    assert smokejumper("audit", "erase", commitment[1], "--reason", "a name stood in it", token=token)[0] == 0
    assert smokejumper("audit", "text", commitment[1])[0] == 2
    assert smokejumper("audit", "verify")[0] == 0


def test_a_second_proof_is_a_code_of_an_authenticator(smokejumper: Run, pending: Approval) -> None:
    code, out, err = smokejumper("people", "step-up", "bob")
    assert code == 0
    assert "shown once" in err
    secret = re.search(r"secret=([A-Z2-7]+)&", out)
    assert secret is not None
    words = ("approve", pending.id, "--digest", pending.digest)
    good = code_at(secret[1], period_of(datetime.now(UTC)))
    assert "is wrong" in smokejumper(*words, "--code", "12345", token=pending.bob)[2]
    assert smokejumper(*words, "--code", good, token=pending.bob)[0] == 0
    shown = json.loads(smokejumper("proposals", "show", pending.id, "--json")[1])
    assert [one["assurance"] for one in shown["approvals"]] == [2]
    assert "was used already" in smokejumper(*words, "--code", good, token=pending.bob)[2]


def test_an_approver_reads_what_is_checked_afterwards(smokejumper: Run, pending: Approval) -> None:
    assert "  then checks  rollout_complete within 300 s" in smokejumper("proposals", "show", pending.id)[1]
    out = smokejumper("propose", "cordon", "node/gpu-0", "--recording", RECORDING)[1]
    assert "  then checks  node_schedulable (schedulable false) within 30 s" in out


def test_a_deputy_approves_for_a_time(smokejumper: Run, pending: Approval) -> None:
    words = ("people", "delegate", "carol", "--group", "sre-oncall", "--reason", "on leave")
    assert smokejumper(*words, "--for", "a week", token=pending.bob)[0] == 2
    assert "within 14 days" in smokejumper(*words, "--for", "15d", token=pending.bob)[2]
    code, out, err = smokejumper(*words, "--for", "7d", token=pending.bob)
    assert (code, err) == (0, "")
    loan = out.split()[0]
    assert smokejumper("people", "delegations")[1] == out
    assert "carol for bob\tsre-oncall\tuntil" in out
    assert smokejumper("approve", pending.id, "--digest", pending.digest, token=pending.carol)[0] == 0
    assert smokejumper("people", "end-delegation", loan, token=pending.alice)[0] == 2
    assert smokejumper("people", "end-delegation", loan, token=pending.bob)[0] == 0
    assert "ended by bob" in smokejumper("people", "delegations")[1]
    code, _, err = smokejumper("execute", pending.id, "--recording", RECORDING)
    assert code == 2
    assert "carol does not count" in err


def test_asking_again_and_asking_for_something_else(smokejumper: Run, pending: Approval) -> None:
    assert smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", RECORDING)[1].split()[0] == pending.id
    other = ("propose", "rollout_undo", "deploy/serve", "-n", "ml", "--to-revision", "1", "--recording", RECORDING)
    later = smokejumper(*other)[1].split()[0]
    assert later != pending.id
    assert smokejumper("proposals", "list")[1].split()[0] == later
    lines = {line.split("\t")[0]: line.split("\t")[1] for line in smokejumper("proposals", "list", "--all")[1].splitlines()}
    assert lines == {later: "pending", pending.id: "superseded"}
    assert f"alice asked anew: {later}" in smokejumper("proposals", "show", pending.id)[1]


def test_the_policy_explains_itself(smokejumper: Run, pending: Approval) -> None:
    code, out, _ = smokejumper("policy", "explain", pending.id, "--recording", RECORDING)
    assert code == 0
    lines = out.splitlines()
    assert lines[1].startswith("  policy       approve by approve-workload-change, ")
    assert lines[2:4] == [
        "  because      Needs approval: 1 of sre-oncall.",
        "  no single fact and no two would have led to more than approve",
    ]
    assert "  if context.killSwitch were true: deny by deny-kill-switch" in lines
    facts = [next(line for line in lines if line.startswith(f"  {label} ")) for label in ("is", "is not", "facts", "unknown", "request")]
    assert sorted(facts, key=lines.index) == facts, "the answer, then what it rests on, and the request last"
    assert "context.requesterReviewed" in facts[1]
    assert "context.podsAffected 3" in facts[2]
    assert sum(line.startswith("  because ") for line in lines) == 1
    assert smokejumper("policy", "test")[0] == 0


def test_a_policy_whose_tests_fail_is_refused(smokejumper: Run, tmp_path: Path) -> None:
    import guardrails.bundle

    bundle = tmp_path / "bundle"
    shutil.copytree(guardrails.bundle.SHIPPED, bundle)
    rules = next(bundle.glob("*.cedar"))
    rules.write_text(rules.read_text(encoding="utf-8").replace('@approvals("1")', '@approvals("2")'), encoding="utf-8")
    code, _, err = smokejumper("policy", "test", str(bundle))
    assert code == 2
    assert "own tests fail" in err


def test_a_tampered_ledger_is_caught(smokejumper: Run, pending: Approval, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state" / "smokejumper.db")) as database, database:
        database.execute("UPDATE proposal SET state = 'approved'")
    code, out, _ = smokejumper("audit", "verify")
    assert code == 1
    assert pending.id in out


def test_a_database_that_is_none_is_one_sentence(smokejumper: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "smokejumper.db").write_bytes(b"this is no database" * 100)
    code, _, err = smokejumper("proposals", "list", state=broken)
    assert code == 2
    assert "smokejumper.db" in err


def test_a_terminal_that_knows_only_ascii_gets_every_sentence(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", "from oncall.cli import main; main()", "diagnose", "--recording", RECORDING]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=True)
    assert b"1. Deployment/ml/serve" in done.stdout
    assert b"\\u2026 1 more" in done.stdout
    assert done.stderr == b""


@pytest.mark.parametrize("closed", ["1", "2"])
def test_an_output_that_is_closed_does_not_fail_a_command(tmp_path: Path, closed: str) -> None:
    command = ["sh", "-c", f'exec "$0" -c "from oncall.cli import main; main()" --version {closed}>&-', sys.executable]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_errors_of_ours_that_came_together_are_sentences_and_a_bug_among_them_is_none() -> None:
    ours = ExceptionGroup("tasks", [UsageError("one"), ExceptionGroup("inner", [UsageError("two"), UsageError("one")])])
    assert sentence_of(ours) == "error: one\nerror: two\nerror: one"
    assert sentence_of(ExceptionGroup("tasks", [UsageError("one"), ValueError("a bug")])) is None
