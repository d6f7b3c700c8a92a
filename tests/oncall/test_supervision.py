"""The whole path on a real API server, its audit log the witness: propose, be refused, approve, execute once, verify, prove."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import commandline
from tests.lab.commandline import Run
from tests.lab.lab import Lab

ROOT = Path(__file__).parent.parent.parent
smokejumper = commandline.smokejumper


class Case:
    """A stuck rollout in the lab, and alice's pending proposal to undo it."""

    def __init__(self, lab: Lab, smokejumper: Run, state: Path) -> None:
        self.lab, self.smokejumper, self.state = lab, smokejumper, state
        self.alice = smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())[1].strip()
        self.bob = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
        code, self.text, err = smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml")
        assert code == 0, err
        self.id = self.text.split()[0]
        self.digest = next(line.split()[1] for line in self.text.splitlines() if line.split()[:1] == ["digest"])
        self.since = lab.audit.mark()

    def approved(self) -> None:
        code, _, err = self.smokejumper("approve", self.id, "--digest", self.digest, token=self.bob)
        assert code == 0, err

    def writes(self) -> list[tuple[str, str, int | None]]:
        """(verb, resource, answer) of everything that our account really tried to write.

        A conflict is no write: a controller had just written the status, and the executor looked again.
        """
        return [(write.verb, write.resource, write.code) for write in self.lab.audit.writes("executor", self.since) if write.code != 409]

    def elsewhere(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Execute or recover in a process of its own."""
        command = [sys.executable, "-m", "tests.oncall.executing", str(self.state), str(self.lab.kubeconfig("executor")), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)

    def state_shown(self) -> str:
        return self.smokejumper("proposals", "show", self.id)[1].split()[1]


@pytest.fixture
def case(lab: Lab, smokejumper: Run, tmp_path: Path) -> Iterator[Case]:
    with lab.loaded("rollout-bad-image"):
        yield Case(lab, smokejumper, tmp_path / "state")


def test_refused_until_another_person_approved_then_once(case: Case, lab: Lab) -> None:
    assert "spec.template.spec.containers[name=server].image" in case.text
    forged = ("approve", case.id, "--digest", case.digest)
    assert case.smokejumper("execute", case.id)[0] == 2
    assert case.smokejumper(*forged, token="sj_forged")[0] == 2
    assert case.smokejumper(*forged, token=case.alice)[0] == 2
    assert case.smokejumper("execute", case.id)[0] == 2
    assert case.writes() == []
    case.approved()
    code, out, err = case.smokejumper("execute", case.id)
    assert code == 0, out + err
    assert "succeeded" in out
    assert case.smokejumper("execute", case.id)[0] == 2
    assert case.writes() == [("patch", "deployments", 200)]
    assert _ready_replicas(lab) == 3
    assert case.smokejumper("audit", "verify")[1].startswith("intact")


def _ready_replicas(lab: Lab) -> int:
    found = lab.client().get("apps/v1", "Deployment", "serve", "ml")
    assert found is not None
    return int(found["status"]["readyReplicas"])


def test_an_approval_does_not_outlive_its_time(case: Case) -> None:
    case.approved()
    late = case.elsewhere("execute", case.id, case.digest, "--seconds-later", "3600")
    assert late.returncode != 0
    assert "expired" in late.stderr
    assert case.writes() == []
    assert case.state_shown() == "expired"


def test_an_object_that_changed_since_is_left_alone(case: Case, lab: Lab) -> None:
    case.approved()
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "registry.example.com/other:v1"}]}}}}
    lab.client().patch("apps/v1", "Deployment", "serve", patch, "ml")
    code, _, err = case.smokejumper("execute", case.id)
    assert code == 2
    assert "no longer fits" in err
    assert case.writes() == []
    assert case.state_shown() == "stale"


@pytest.mark.parametrize("step", ["claimed", "change:intended", "change:sent", "change:recorded", "verifying"])
def test_killed_at_any_step_the_change_happens_at_most_once(case: Case, step: str) -> None:
    case.approved()
    killed = case.elsewhere("execute", case.id, case.digest, "--die-at", step)
    assert killed.returncode == -9, killed.stderr
    # A clock that is behind: however slow this machine is, the lease of the dead process still runs.
    assert case.elsewhere("recover", "--seconds-later", "-600").stdout == ""
    recovered = case.elsewhere("recover", "--seconds-later", "90")
    assert recovered.stdout.split() == [case.id, "succeeded"], recovered.stdout + recovered.stderr
    assert case.writes() == [("patch", "deployments", 200)]
    assert case.smokejumper("audit", "verify")[0] == 0


def test_killed_while_it_waits_for_approval_nothing_is_lost(case: Case) -> None:
    assert case.elsewhere("recover").returncode == 0
    assert case.state_shown() == "pending"
    case.approved()
    assert case.smokejumper("execute", case.id)[0] == 0
    assert case.writes() == [("patch", "deployments", 200)]


def test_an_investigation_proposes_waits_and_goes_on_in_another_process(lab: Lab, smokejumper: Run) -> None:
    with lab.loaded("rollout-bad-image"):
        smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())
        bob = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
        admin = smokejumper("diagnose", "deploy/serve", "-n", "ml", "--propose", user="admin")
        proposal = admin[2].split("proposed ")[1].split(":")[0]
        investigation = admin[2].split("smokejumper resume ")[1].split()[0]
        since = lab.audit.mark()
        assert "Then go on" in smokejumper("resume", investigation, user="admin")[2]
        assert lab.audit.writes("admin", since) == ()
        shown = json.loads(smokejumper("proposals", "show", proposal, "--json")[1])
        assert smokejumper("approve", proposal, "--digest", shown["digest"], token=bob)[0] == 0
        code, out, err = smokejumper("resume", investigation, user="admin")
        assert code == 0, err
        assert "succeeded" in out + err
        assert [(write.verb, write.code) for write in lab.audit.writes("admin", since)] == [("patch", 200)]
        assert _ready_replicas(lab) == 3


def test_configmaps_are_not_read_when_that_is_switched_off(lab: Lab, smokejumper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_READ_CONFIGMAPS", "false")
    with lab.namespace("quiet") as space:
        document = json.loads(smokejumper("diagnose", "-n", space, "-o", "json", user="reader")[1])
    assert [item["detail"] for item in document["cannot_see"] if item["kind"] == "ConfigMap"] == ["reading them is switched off"]
    assert document["healthy"] is True


def test_a_kind_that_may_not_be_read_is_named_and_never_called_healthy(lab: Lab, smokejumper: Run) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "test-pods-only"},
        "rules": [{"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-pods-only"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-pods-only"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "executor"}],
    }
    lab.apply(role, binding)
    try:
        with lab.namespace("quiet") as space:
            code, out, err = smokejumper("diagnose", "-n", space, "-o", "json")
    finally:
        lab.client().delete("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "test-pods-only")
        lab.client().delete("rbac.authorization.k8s.io/v1", "ClusterRole", "test-pods-only")
    document = json.loads(out)
    assert (code, document["healthy"], document["causes"]) == (0, False, []), err
    refused = {item["kind"]: item for item in document["cannot_see"] if item["why"] == "forbidden"}
    assert "list" in refused["Event"]["next_step"]
