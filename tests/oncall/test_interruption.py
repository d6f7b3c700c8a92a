"""Ctrl-C: a word and an exit code, never a stack trace; and in the middle of a change, how to look and how to go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from oncall.interruption import change_under_way
from tests.oncall.test_cli import kubeconfig

# Long: nothing here tests how quick a machine is.
WAIT_SECONDS = 240


def test_an_interrupted_change_says_how_to_look_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), change_under_way("The execution of p-1", "LOOK", "FINISH"):
        raise KeyboardInterrupt
    said = capsys.readouterr().err
    assert "The execution of p-1 was interrupted" in said
    assert "none is sent twice" in said
    assert "LOOK" in said
    assert "'FINISH'" in said


def test_nothing_is_said_of_what_was_not_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="other"), change_under_way("x", "x", "x"):
        raise ValueError("other")
    assert capsys.readouterr().err == ""


def test_ctrl_c_while_a_server_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(WAIT_SECONDS)
        config = kubeconfig(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with subprocess.Popen(
            [sys.executable, "-c", "from oncall.cli import main; main()", "--kubeconfig", config, "diagnose"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        ) as process:
            accepted, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_SECONDS)
            accepted.close()
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted\n"
