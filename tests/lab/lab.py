"""A control plane with scenarios: what the `lab` fixture gives to tests and what the command line runs."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import scenario as scenarios
from tests.lab.api import Object
from tests.lab.build import Binaries
from tests.lab.cluster import ControlPlane
from tests.lab.loopback import LoopbackServer
from tests.lab.scenario import Scenario

if TYPE_CHECKING:
    from tests.lab.witness import Account, Permission


class Lab(ControlPlane):
    """`with lab.loaded("oom-killed") as scene:` sets a scene and clears it; `lab.kubeconfig("reader")` is the way in."""

    _server: LoopbackServer | None = None

    def __init__(self, binaries: Binaries, *, keep_logs_in: Path | None = None) -> None:
        # For the witness, what no database below the tests' folders knows: grants made by tests of the writer, and ledgers on a server.
        self.permitted_elsewhere: list[Permission] = []
        super().__init__(binaries, keep_logs_in=keep_logs_in)

    @property
    def container_logs(self) -> Path:
        """The folder of log files that the played kubelets serve, one folder per namespace."""
        return self.folder / "container-logs"

    def load(self, *names: str) -> tuple[Scenario, ...]:
        """Set scenes of different namespaces and return when their faults show."""
        scenes = tuple(scenarios.read(name) for name in names)
        scenarios.load(self.client("lab:loader"), self.container_logs, scenes, self._loopback(scenes))
        return scenes

    def repair(self, *scenes: Scenario) -> None:
        """Apply the scenarios' own repairs and return when they have worked."""
        scenarios.repair(self.client("lab:loader"), scenes, self._loopback(scenes))

    def _loopback(self, scenes: tuple[Scenario, ...]) -> dict[str, str]:
        """The words of the loopback server, which starts when the first scene needs it."""
        if self._server is None and any(scene.needs_loopback for scene in scenes):
            self._server = LoopbackServer(self.folder / "loopback", functools.partial(self.client("lab:loader").list, "v1", "Pod"))
        return self._server.words if self._server else {}

    def account(self, folder: Path) -> Account:
        """What the witness says about all that was written here, by the audit log and the databases below a folder."""
        # Only here: a lab by hand needs nothing of the product.
        from tests.lab.witness import account_for, permitted_below

        system = self.client("lab:loader").get("v1", "Namespace", "kube-system")
        assert system is not None
        permitted, _ = permitted_below(folder, system["metadata"]["uid"])
        return account_for(self.audit.writes(machinery=True), (*self.permitted_elsewhere, *permitted))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        super().close()

    def wait_repaired(self, scene: Scenario) -> None:
        """Return when the scenario's fault is gone, whoever repaired it."""
        scenarios.wait_repaired(self.client("lab:loader"), scene)

    def unload(self, scene: Scenario) -> None:
        """Delete what the scenario applied."""
        scenarios.unload(self.client("lab:loader"), scene)

    @contextlib.contextmanager
    def loaded(self, name: str) -> Iterator[Scenario]:
        """A scene for the length of a block. What was applied is deleted even when loading fails half way."""
        scene = scenarios.read(name)
        try:
            yield self.load(name)[0]
        finally:
            self.unload(scene)

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test") -> Iterator[str]:
        """A namespace of one's own, deleted afterwards."""
        name = f"{prefix}-{secrets.token_hex(3)}"
        scenarios.apply(self.client("lab:loader"), [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
        try:
            yield name
        finally:
            scenarios.delete_namespace(self.client("lab:loader"), name)

    def apply(self, *manifests: Object) -> None:
        """Apply objects as the lab's own loader, so that they do not count as anybody's writes."""
        scenarios.apply(self.client("lab:loader"), list(manifests))
