"""The command line: up, load, repair, down, and that a killed `up` leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oncall.cli import run
from tests.lab.api import wait_for
from tests.lab.lab import Lab
from tests.lab.processes import ROOT, alive

# Long: nothing here tests how quick a machine is.
SECONDS = 240


def _run(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.lab", *arguments]
    return subprocess.run(command, cwd=ROOT, env=_environment(cache), capture_output=True, text=True, timeout=SECONDS)


def _environment(cache: Path) -> dict[str, str]:
    """A cache folder of one's own, so that `down` stops no lab of anybody else."""
    return {**os.environ, "XDG_CACHE_HOME": str(cache)}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def up(lab: Lab, cache: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """`up` with the arguments that a test gives, once it has printed its invitation to `tmp_path/output`."""
    assets = {"KUBEBUILDER_ASSETS": str(lab.binaries.kube_apiserver.parent)}
    command = [sys.executable, "-m", "tests.lab", "up", *request.param]
    output = tmp_path / "output"
    with output.open("wb") as handle:
        process = subprocess.Popen(command, cwd=ROOT, env={**_environment(cache), **assets}, stdout=handle, stderr=subprocess.STDOUT)
    try:
        wait_for("the invitation", lambda: "Ctrl-C stops it." in output.read_text() or process.poll() is not None, SECONDS)
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def _notes(cache: Path) -> list[dict[str, str]]:
    return [json.loads(path.read_text()) for path in (cache / "smokejumper" / "lab" / "running").glob("*.json")]


@pytest.mark.parametrize("up", [("--scenario", "config-map-missing")], ids=["a scene"], indirect=True)
def test_up_repair_down(
    up: subprocess.Popen[bytes], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = (tmp_path / "output").read_text()
    [note] = _notes(cache)
    assert f"KUBECONFIG={note['folder']}/credentials/kubeconfig" in output
    assert "SMOKEJUMPER_EXECUTOR_CONTEXT=executor SMOKEJUMPER_DRY_RUN_CONTEXT=dryrun" in output
    assert "smokejumper diagnose -n routing" in output
    monkeypatch.setenv("SMOKEJUMPER_EXECUTOR_CONTEXT", "executor")
    monkeypatch.setenv("SMOKEJUMPER_DRY_RUN_CONTEXT", "dryrun")
    assert run(["--state", str(tmp_path / "state"), "--kubeconfig", f"{note['folder']}/credentials/kubeconfig", "doctor"]) == 0
    said = capsys.readouterr().out
    for deed in ("reads", "tries", "writes"):
        assert f"\nok       account that {deed}: " in said, said
    assert _run(cache, "repair", "config-map-missing").stdout == "config-map-missing: repaired\n"
    assert _run(cache, "load", "service-selector").stdout.startswith("service-selector: A Service has no endpoints")
    stopped = _run(cache, "down")
    assert (stopped.returncode, stopped.stdout) == (0, "1 stopped\n")
    assert up.wait(SECONDS) == 0
    assert not Path(note["folder"]).exists()
    assert _notes(cache) == []


@pytest.mark.skipif(sys.platform != "linux", reason="finds the programs through /proc")
@pytest.mark.parametrize("up", [()], ids=["no scene"], indirect=True)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_killed_up_leaves_nothing(up: subprocess.Popen[bytes], cache: Path, number: signal.Signals, status: int) -> None:
    [note] = _notes(cache)
    supervisor = int(note["supervisor"])
    programs = [int(word) for word in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]
    assert len(programs) == 5
    up.send_signal(number)
    assert up.wait(SECONDS) == status
    wait_for("everything to be gone", lambda: not any(map(alive, [supervisor, *programs])), SECONDS)
    assert not Path(note["folder"]).exists()


def test_load_without_a_lab_says_so(cache: Path) -> None:
    result = _run(cache, "load", "healthy")
    assert result.returncode == 1
    assert result.stderr.startswith("lab: 0 labs run here and this needs exactly one; start one with `make lab`, stop all with ")


def test_unknown_scenario_is_told_before_anything_starts(cache: Path) -> None:
    result = _run(cache, "up", "--scenario", "heathy")
    assert result.returncode == 1
    assert "no scenario 'heathy'; there are: " in result.stderr


def test_help_and_list(cache: Path) -> None:
    assert "set a scene in the lab that runs" in _run(cache, "--help").stdout
    assert "rollout-bad-image" in _run(cache, "list").stdout


def test_a_reader_who_has_seen_enough_is_no_error(cache: Path) -> None:
    command = [sys.executable, "-m", "tests.lab", "list"]
    with subprocess.Popen(command, cwd=ROOT, env=_environment(cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
