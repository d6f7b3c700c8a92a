"""Our command line against the lab, as a fixture: `smokejumper = commandline.smokejumper` in a test's module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oncall.cli import run
from tests.lab.lab import Lab

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def smokejumper(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lab: Lab) -> Run:
    """Runs one command line against the lab as one of its users."""

    def call(*arguments: str, user: str = "executor", token: str | None = None) -> tuple[int, str, str]:
        monkeypatch.delenv("SMOKEJUMPER_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("SMOKEJUMPER_TOKEN", token)
        capsys.readouterr()
        code = run(["--state", str(tmp_path / "state"), "--kubeconfig", str(lab.kubeconfig(user)), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
