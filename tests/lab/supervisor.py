"""The one process that owns the control plane's processes, so that nothing outlives whoever started the lab.

Run as `python -m tests.lab.supervisor FOLDER`. It reads commands as JSON lines on stdin (`{"name", "argv", "log"}` starts one
program) and answers each with a JSON line (`{"name", "pid"}` or `{"name", "error"}`). When stdin closes, which the kernel does for
a parent that died of anything, SIGKILL included, it stops every program, deletes FOLDER and exits. Should it be killed
itself, the kernel kills its programs (PR_SET_PDEATHSIG, Linux). It knows nothing of Kubernetes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
GRACE_SECONDS = 3.0
WATCH_SECONDS = 0.5


def _die_with_parent() -> None:
    """In the child, before exec: own session, and death with the supervisor."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(command: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start one program, its output appended to the file `log`."""
    with Path(command["log"]).open("ab") as log:
        # preexec_fn is safe here: this process has one thread.
        return subprocess.Popen(
            command["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
        )


def stop(programs: list[subprocess.Popen[bytes]]) -> None:
    """Ask all programs to stop, kill the process groups of those that have not within GRACE_SECONDS. Newest first."""
    for program in reversed(programs):
        _signal_group(program, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for program in reversed(programs):
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(timeout=max(0.0, deadline - time.monotonic()))
    for program in programs:
        _signal_group(program, signal.SIGKILL)
        program.wait()


def _signal_group(program: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, number)


def serve(folder: Path) -> None:
    """Read commands until stdin closes or SIGTERM comes, then stop everything and delete the folder."""
    programs: list[subprocess.Popen[bytes]] = []
    pending = b""
    try:
        while True:
            readable, _, _ = select.select([0], [], [], WATCH_SECONDS)
            for program in programs:
                program.poll()  # reaps what died, so that its log is complete and its pid is not a zombie
            if not readable:
                continue
            chunk = os.read(0, 65536)
            if not chunk:
                return
            pending += chunk
            while b"\n" in pending:
                line, pending = pending.split(b"\n", 1)
                command = json.loads(line)
                try:
                    program = start(command)
                except OSError as error:
                    _answer({"name": command["name"], "error": str(error)})
                    continue
                programs.append(program)
                _answer({"name": command["name"], "pid": program.pid})
    finally:
        stop(programs)
        shutil.rmtree(folder, ignore_errors=True)


def _answer(message: dict[str, Any]) -> None:
    # A parent that is gone cannot read the answer; the closed stdin ends the loop.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(message).encode() + b"\n")


def _exit_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it closes our stdin
    signal.signal(signal.SIGTERM, _exit_on_signal)
    signal.signal(signal.SIGHUP, _exit_on_signal)
    serve(Path(sys.argv[1]))
