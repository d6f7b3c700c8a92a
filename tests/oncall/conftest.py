"""The command line as a test types it, in a state folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from oncall.cli import run

ROOT = Path(__file__).parent.parent.parent
RECORDING = str(ROOT / "examples" / "serve-rollout")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def smokejumper(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line in a state folder of its own; answers (exit code, stdout, stderr)."""
    for name in [name for name in os.environ if name.startswith(("SMOKEJUMPER_", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, token: str | None = None, state: Path | None = None) -> tuple[int, str, str]:
        if token is None:
            monkeypatch.delenv("SMOKEJUMPER_TOKEN", raising=False)
        else:
            monkeypatch.setenv("SMOKEJUMPER_TOKEN", token)
        capsys.readouterr()
        code = run(["--state", str(state or tmp_path / "state"), *arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out, printed.err

    return call
