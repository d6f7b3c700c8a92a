"""Nothing outlives whoever started the lab, whatever it died of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.api import wait_for
from tests.lab.processes import ROOT, LabStartError, Processes, alive

# Long: nothing here tests how quick a machine is.
SECONDS = 240

# Holds two programs, one of which ignores SIGTERM, and says their pids; then waits to be killed.
HOLDER = """
import pathlib, sys, time
from tests.lab.processes import Processes
folder = pathlib.Path(sys.argv[1])
held = Processes(folder, folder)
pids = [held.start("sleeper", ["sleep", "600"]), held.start("stubborn", ["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"])]
print(held.supervisor_pid, *pids, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "lab"
    made.mkdir()
    return made


@pytest.fixture
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that holds programs, and the pids of its supervisor and programs."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 3
    yield process, pids
    process.kill()
    process.wait()
    process.stdout.close()


def _gone(pids: list[int]) -> None:
    wait_for(f"{pids} to be gone", lambda: not any(map(alive, pids)), SECONDS)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_programs_end_with_their_holder(holder: tuple[subprocess.Popen[str], list[int]], folder: Path, number: signal.Signals) -> None:
    process, pids = holder
    assert all(map(alive, pids))
    process.send_signal(number)
    process.wait(SECONDS)
    _gone(pids)
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_programs_end_with_a_killed_supervisor(holder: tuple[subprocess.Popen[str], list[int]]) -> None:
    _, (supervisor, *programs) = holder
    os.kill(supervisor, signal.SIGKILL)
    _gone(programs)


def test_close_stops_all_and_deletes_the_folder(folder: Path) -> None:
    held = Processes(folder, folder)
    pid = held.start("sleeper", ["sleep", "600"])
    held.close()
    held.close()
    assert not alive(pid)
    assert not folder.exists()


def test_a_program_that_cannot_be_executed(folder: Path) -> None:
    with Processes(folder, folder) as held, pytest.raises(LabStartError, match="nothing cannot be executed"):
        held.start("nothing", [str(folder / "nothing")])


def test_a_program_that_exits_is_told_with_its_last_words(folder: Path) -> None:
    with Processes(folder, folder) as held:
        pid = held.start("quitter", ["sh", "-c", "echo no such flag; exit 3"])
        wait_for("the quitter to quit", lambda: not alive(pid), SECONDS)
        with pytest.raises(LabStartError, match=r"(?s)quitter has exited.*no such flag"):
            held.require_alive()
