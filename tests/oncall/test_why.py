"""`smokejumper why`: the same diagnosis, said to somebody who knows a name and not Kubernetes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from oncall.cli import run
from oncall.commands.why import KINDS, SAYS, in_plain_words, responsible, standing
from runbooks.finding import Source
from tests.runbooks.worlds import world

ROOT = Path(__file__).parent.parent.parent
ROLLOUT = str(ROOT / "examples" / "serve-rollout")
RECORDINGS = ROOT / "tests" / "recordings"


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    code = run(["--state", str(tmp_path), "why", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_how_it_stands_why_and_who_can_change_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, tmp_path, "failed", "serve", "-n", "ml", "--recording", ROLLOUT)
    assert code == 0
    assert out.splitlines()[0] == "serve (Deployment in ml): 3 of 4 pods working; 1 of 4 pods starting."
    assert "Because: Image does not exist (proven)" in out
    assert "who can change it: you, in namespace ml (Deployment/ml/serve)" in out
    assert "to ask for it: smokejumper propose rollout_undo Deployment/serve -n ml --to-revision 1" in out


def test_a_pod_that_waits_is_told_in_its_owners_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, tmp_path, "pending", "finetune", "-n", "training", "--recording", str(RECORDINGS / "insufficient-gpu"))
    assert "1 of 3 pods waiting for a machine" in out
    assert "No node has enough free devices (proven)" in out
    assert "finetune asks for 8 GPUs; the most free on a usable node is 0 GPUs." in out
    assert "the state of Pod/training/finetune-" in out
    assert "good to know: Compare what you ask for with the largest node" in out
    assert max(map(len, out.splitlines())) < 400


def test_a_quota_is_for_who_administers_the_namespace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, tmp_path, "pending", "trainer", "-n", "team-a", "--recording", str(RECORDINGS / "quota-exceeded"))
    assert "who can change it: whoever administers namespace team-a (ResourceQuota/team-a/" in out


def test_what_is_well_is_said_to_be_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, tmp_path, "slow", "finetune", "-n", "training", "--recording", str(RECORDINGS / "insufficient-gpu-repaired"))
    assert "Because" not in out
    assert "Nothing that can be seen is wrong with it." in out or "Why is not proven." in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pending", "serv", "-n", "ml"], "nothing that can be seen in ml is called 'serv'; nearest names: serve"),
        (["pending", "serve", "-n", "mll"], "namespace 'mll' does not exist"),
        (["pending", "serv"], "nothing that can be seen in ml is called 'serv'"),
        (["broken", "serve", "-n", "ml"], "broken"),
    ],
)
def test_what_cannot_be_found_is_said(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, tmp_path, *arguments, "--recording", ROLLOUT)
    assert code == 2
    assert words in err


def recorded(tmp_path: Path, missing: str) -> str:
    folder = tmp_path / "recorded"
    folder.mkdir()
    (folder / "objects.yaml").write_text("kind: List\nitems:\n- {kind: Namespace, metadata: {name: ml}}\n")
    (folder / "recording.yaml").write_text(f"kinds_read: [Namespace, {', '.join((*KINDS, 'ReplicaSet'))}]\nmissing: [{missing}]\n")
    return str(folder)


def test_what_may_not_be_listed_is_not_said_to_be_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = "{what: deployments in ml, why: forbidden, kind: Deployment, namespace: ml, next_step: Grant list on deployments.}"
    code, _, err = said(capsys, tmp_path, "slow", "serve", "-n", "ml", "--recording", recorded(tmp_path, hidden))
    assert code == 2
    assert "nothing that can be seen in ml is called 'serve'." in err
    assert "could not look at: deployments in ml (forbidden) — Grant list on deployments." in err
    assert "there are no names" not in err


def test_who_names_no_namespace_where_several_may_be_meant_is_asked_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, tmp_path, "slow", "serve", "--recording", recorded(tmp_path, ""))
    assert (code, "in which namespace is it? Add -n NAMESPACE" in err) == (2, True), err


def test_where_all_could_be_listed_there_are_no_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, tmp_path, "slow", "serve", "-n", "ml", "--recording", recorded(tmp_path, ""))
    assert (code, err) == (2, "error: nothing in ml is called 'serve'; there are no names.\n")


@pytest.mark.parametrize(
    ("at_fault", "who"),
    [
        (ObjectRef("Node", None, "gpu-1"), "whoever runs the cluster (Node/gpu-1)"),
        (ObjectRef("Service", "shared", "models"), "the team of namespace shared (Service/shared/models)"),
        (ObjectRef("NetworkPolicy", "ml", "deny"), "whoever administers namespace ml (NetworkPolicy/ml/deny)"),
        (ObjectRef("ConfigMap", "ml", "settings"), "you, in namespace ml (ConfigMap/ml/settings)"),
    ],
)
def test_who_is_to_be_asked(at_fault: ObjectRef, who: str) -> None:
    assert responsible(at_fault, ObjectRef("Job", "ml", "train")) == who


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Job/ml/fit asks for 1 nvidia.com/gpu", "fit asks for 1 GPU"),
        ("RayJob/ml/fit made Job/ml/fit-2 and Job/ml/fit.", "RayJob/ml/fit made Job/ml/fit-2 and fit."),
        ("Job/ml/other asks for 16 google.com/tpu", "Job/ml/other asks for 16 TPU chips"),
        ("asks for requests.nvidia.com/gpu=2 more.", "asks for 2 GPUs more."),
        ("2 nvidia.com/mig-1g.10gb, 4 aws.amazon.com/neuroncore", "2 nvidia.com/mig-1g.10gb, 4 aws.amazon.com/neuroncore"),
    ],
)
def test_names_and_devices_are_those_of_people(text: str, plain: str) -> None:
    assert in_plain_words(text, ObjectRef("Job", "ml", "fit")) == plain


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ("status: {phase: Pending}", "1 of 1 pods waiting for a machine."),
        (
            "spec: {schedulingGates: [{name: kueue.x-k8s.io/admission}]}\nstatus: {phase: Pending}",
            "1 of 1 pods held back, waiting to be admitted.",
        ),
        ("spec: {nodeName: n}\nstatus: {phase: Pending}", "1 of 1 pods starting."),
        ("status: {phase: Succeeded}", "1 of 1 pods finished."),
        ("status: {phase: Failed}", "1 of 1 pods failed."),
        ("status: {phase: Running}", "1 of 1 pods running and not ready."),
        (
            "status: {phase: Running, containerStatuses: [{name: c, state: {waiting: {reason: CrashLoopBackOff}}}]}",
            "1 of 1 pods crashing again and again.",
        ),
        ('status: {phase: Running, conditions: [{type: Ready, status: "True"}]}', "1 of 1 pods working."),
    ],
)
def test_how_a_pod_stands(pod: str, words: str) -> None:
    assert standing(world(f"kind: Pod\nmetadata: {{name: p, namespace: ml}}\n{pod}").all(Pod)) == words


def test_something_without_pods_has_none() -> None:
    assert standing(()) == "it has no pods."


def test_every_source_of_evidence_has_words() -> None:
    assert set(SAYS) == {source.value for source in Source}
