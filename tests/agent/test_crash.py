from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.budget import Limits
from agent.incident import Incident
from agent.investigation import Conclusion, in_process, run
from cluster.reference import Scope
from tests.agent.recordings import BROKEN_ROLLOUT, FileGate, reader, recording
from tests.agent.victim import POINTS


@pytest.fixture(scope="module")
def wrecks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store and the gate of one killed process for each point."""
    folder = tmp_path_factory.mktemp("wrecks")
    recording(folder / "recording", BROKEN_ROLLOUT)
    command = [sys.executable, "-m", "tests.agent.victim", str(folder), str(folder / "recording")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    exits = dict(line.split() for line in done.stdout.splitlines())
    assert exits == {point: str(-signal.SIGKILL) for point in POINTS}, done.stderr
    return folder


@pytest.mark.anyio
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_investigation_goes_on_and_changes_the_cluster_once(wrecks: Path, tmp_path: Path, point: str) -> None:
    shutil.copytree(wrecks, tmp_path, dirs_exist_ok=True)
    gate = FileGate(tmp_path / f"{point}.json")

    async def go_on() -> Conclusion:
        opened = reader(tmp_path / "recording")
        # The question is not said again: the store knows it.
        incident = Incident(point, Scope("recording"))
        return await run(incident, opened, in_process(opened, Limits()), store=tmp_path / f"{point}.sqlite", remediation=gate.ports)

    concluded = await go_on()
    if concluded.waiting:
        assert gate.effects == 0
        gate.decide("approved")
        concluded = await go_on()
    assert gate.effects == 1
    assert len(gate.document) == 1
    assert concluded.incident.question == ("Why is serve broken?")
    assert concluded.proposal is not None
    assert concluded.proposal.state == "succeeded"
    assert str(concluded.diagnosis.causes[0].object) == "Deployment/ml/serve"
