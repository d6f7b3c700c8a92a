"""A workbench in the lab: a namespace, and people who propose, approve and execute in it by the command line."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oncall.cli import run
from tests.lab.api import ApiError, wait_for
from tests.lab.lab import Lab

ROOT = Path(__file__).parents[3]
LOADER = "lab:loader"
# Long: nothing here tests how quick a machine is.
WAIT_SECONDS = 240
NODE_LABEL = "actions.smokejumper.dev/bench"


class Bench:
    """A namespace, and people who ask, approve and execute in it by the command line."""

    def __init__(self, lab: Lab, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, space: str) -> None:
        self.lab, self.state, self.space = lab, state, space
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self.client = lab.client(LOADER)
        self.say("people", "add", "alice", "--group", "sre-oncall", "--group", "break-glass", "--os-user", getpass.getuser())
        self.tokens = [self.say("people", "add", name, "--group", "sre-oncall")[1].strip() for name in ("bob", "carol")]
        self.since = lab.audit.mark()

    def say(self, *words: str, token: str | None = None) -> tuple[int, str, str]:
        self._monkeypatch.delenv("SMOKEJUMPER_TOKEN", raising=False)
        if token is not None:
            self._monkeypatch.setenv("SMOKEJUMPER_TOKEN", token)
        self._capsys.readouterr()
        code = run(["--state", str(self.state), "--kubeconfig", str(self.lab.kubeconfig("executor")), *words])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def propose(self, action: str, subject: str, *settings: str) -> tuple[str, str]:
        """(id, digest) of a proposal that everybody who must has approved."""
        words = [word for setting in settings for word in ("--set", setting)]
        code, out, err = self.say("propose", action, subject, "-n", self.space, *words)
        assert code == 0, out + err
        proposal = out.split()[0]
        shown = json.loads(self.say("proposals", "show", proposal, "--json")[1])
        for token in self.tokens[: sum(shown["requirement"]["approvals"].values())]:
            code, out, err = self.say("approve", proposal, "--digest", shown["digest"], token=token)
            assert code == 0, out + err
        return proposal, shown["digest"]

    def refused(self, action: str, subject: str, *settings: str) -> str:
        words = [word for setting in settings for word in ("--set", setting)]
        code, out, err = self.say("propose", action, subject, "-n", self.space, *words)
        assert code in (1, 2), out + err
        return out + err

    def do(self, action: str, subject: str, *settings: str, ends: str = "succeeded") -> str:
        proposal, _ = self.propose(action, subject, *settings)
        code, out, err = self.say("execute", proposal)
        assert out.split()[1:2] == [ends], out + err
        assert (code == 0) == (ends == "succeeded")
        return out

    def state_of(self, proposal: str) -> str:
        return str(json.loads(self.say("proposals", "show", proposal, "--json")[1])["state"])

    def elsewhere(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Execute or recover in a process of its own, which can die and whose clock can be ahead."""
        command = [sys.executable, "-m", "tests.oncall.executing", str(self.state), str(self.lab.kubeconfig("executor")), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)

    def writes(self) -> list[tuple[str, str, str, int | None]]:
        """(verb, resource, name, answer) of all that our account wrote since the last time this was asked.

        A conflict is no write: a controller had just written the status, and the executor looked again.
        """
        found = [write for write in self.lab.audit.writes("executor", self.since) if write.code != 409]
        self.since = self.lab.audit.mark()
        resource = [f"{w.resource}/{w.subresource}" if w.subresource else w.resource for w in found]
        return [(w.verb, kind, w.name or "", w.code) for w, kind in zip(found, resource, strict=True)]

    def get(self, version: str, kind: str, name: str, *, cluster_wide: bool = False) -> dict[str, Any]:
        found = self.client.get(version, kind, name, None if cluster_wide else self.space)
        assert found is not None
        return found

    def apply(self, version: str, kind: str, name: str, **parts: Any) -> None:
        labels = parts.pop("metadata", {})
        where = {} if kind == "Node" else {"namespace": self.space}
        self.client.apply({"apiVersion": version, "kind": kind, "metadata": {"name": name, **where, **labels}, **parts})

    def deployment(
        self,
        name: str = "web",
        image: str = "example.com/web:v1",
        replicas: int = 1,
        ready: int | None = None,
        deadline_seconds: int = 600,
        **pod: Any,
    ) -> None:
        """A Deployment, once it is rolled out. A short deadline is for rollouts that shall fail: a busy machine misses it, too."""
        annotations = pod.pop("annotations", {})
        template = {
            "metadata": {"labels": {"app": name}, "annotations": annotations},
            "spec": {"containers": [{"name": "server", "image": image, **pod.pop("container", {})}], **pod},
        }
        spec = {
            "replicas": replicas,
            "progressDeadlineSeconds": deadline_seconds,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        }
        self.apply("apps/v1", "Deployment", name, spec=spec)
        wanted = replicas if ready is None else ready
        wait_for(f"{wanted} ready of {name}", lambda: self._is_rolled_out(name, wanted), WAIT_SECONDS)

    def _is_rolled_out(self, name: str, ready: int) -> bool:
        found = self.get("apps/v1", "Deployment", name)
        status = found.get("status", {})
        return bool(status.get("observedGeneration") == found["metadata"]["generation"] and status.get("readyReplicas", 0) >= ready)

    def budget(self, allowed: int, **bound: int) -> None:
        """A disruption budget over the pods of `web`, once its controller allows so many disruptions."""
        self.apply("policy/v1", "PodDisruptionBudget", "web", spec={**bound, "selector": {"matchLabels": {"app": "web"}}})

        def says() -> bool:
            found = self.get("policy/v1", "PodDisruptionBudget", "web")
            status = found.get("status", {})
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return bool(seen and status.get("disruptionsAllowed") == allowed and status.get("currentHealthy", 0) > 0)

        wait_for("the budget", says, WAIT_SECONDS)

    def is_bound(self, name: str) -> bool:
        return bool(self.get("v1", "PersistentVolumeClaim", name).get("status", {}).get("phase") == "Bound")

    def pods(self, name: str = "web") -> list[dict[str, Any]]:
        return [p for p in self.client.list("v1", "Pod", self.space, f"app={name}") if "deletionTimestamp" not in p["metadata"]]

    @contextlib.contextmanager
    def played(self, turn: Callable[[], None]) -> Iterator[None]:
        """Somebody's part in the cluster (a kubelet's, an operator's), played until the block ends."""
        over = threading.Event()

        def play() -> None:
            while not over.wait(0.3):
                with contextlib.suppress(ApiError):
                    turn()

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
