"""The demo is a test: each of its steps ends it with an error when it does not behave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_demo_walks_the_whole_path(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("bad-reference", "needs approval by 1 more of sre-oncall", "rehearsed", "intact: ", "tampered:"):
        assert said in done.stdout
    assert "carol" not in done.stdout.split("Somebody edits")[0]
