"""The command line as a test types it, in a state folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from oncall.cli import run

ROOT = Path(__file__).parent.parent.parent
RECORDING = str(ROOT / "examples" / "serve-rollout")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def smokejumper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line in a state folder of its own; answers (exit code, stdout, stderr)."""
    return command_line(tmp_path, monkeypatch)


def command_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same at home in a folder of the caller's, for fixtures that outlive a test."""
    for name in [name for name in os.environ if name.startswith(("SMOKEJUMPER_", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)

    def call(*arguments: str, token: str | None = None, state: Path | None = None) -> tuple[int, str, str]:
        if token is None:
            monkeypatch.delenv("SMOKEJUMPER_TOKEN", raising=False)
        else:
            monkeypatch.setenv("SMOKEJUMPER_TOKEN", token)
        printed, complained = BytesIO(), BytesIO()
        with _text(printed) as stdout, _text(complained) as stderr, redirect_stdout(stdout), redirect_stderr(stderr):
            code = run(["--state", str(state or home / "state"), *arguments])
            out, err = printed.getvalue().decode(), complained.getvalue().decode()
        assert "Traceback" not in out + err
        return code, out, err

    return call


def _text(into: BytesIO) -> TextIOWrapper:
    return TextIOWrapper(into, encoding="utf-8", newline="", write_through=True)
