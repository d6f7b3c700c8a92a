"""Starting programs through the supervisor, and telling what they said when they fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
LOG_TAIL_LINES = 15


class LabStartError(Exception):
    """A program of the lab did not start. The message ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports that were free a moment ago, all different: each is held until all are found."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def alive(pid: int) -> bool:
    """Whether a process with this id exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


class Processes:
    """Programs that stop when this object is closed, or with the process that holds it. `folder` is deleted with them."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = folder
        self.logs = logs
        self.pids: dict[str, int] = {}
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.supervisor", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def supervisor_pid(self) -> int:
        return self._supervisor.pid

    def start(self, name: str, argv: list[str]) -> int:
        """Start a program, output to `logs/NAME.log`; returns its pid. Raises LabStartError when it cannot be executed."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        command = {"name": name, "argv": argv, "log": str(self.logs / f"{name}.log")}
        self._supervisor.stdin.write(json.dumps(command).encode() + b"\n")
        self._supervisor.stdin.flush()
        line = self._supervisor.stdout.readline()
        if not line:
            raise LabStartError(f"the lab's supervisor died while starting {name}")
        answer = json.loads(line)
        if "error" in answer:
            raise LabStartError(f"{name} cannot be executed: {answer['error']}")
        self.pids[name] = answer["pid"]
        return self.pids[name]

    def require_alive(self) -> None:
        """Raises LabStartError, with the end of its log, for a program that has died."""
        for name, pid in self.pids.items():
            if not alive(pid):
                raise LabStartError(f"{name} has exited\n{self.tail(name)}")

    def tail(self, name: str, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of a program's log."""
        path = self.logs / f"{name}.log"
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        return f"--- last lines of {path.name} ---\n" + "\n".join(text.splitlines()[-lines:])

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the supervisor to end; False when it still runs after the timeout."""
        try:
            self._supervisor.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Stop all programs and delete the folder; returns when that is done. May be called twice."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.close()
        self._supervisor.wait()
        self._supervisor.stdout.close()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
