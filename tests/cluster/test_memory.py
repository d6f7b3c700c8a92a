"""The collector's settings, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

from cluster.memory import THRESHOLDS


def test_what_was_imported_is_frozen_and_the_thresholds_hold() -> None:
    script = "import gc, cluster.memory as m; m.settle_collector(); print(gc.get_threshold(), gc.get_freeze_count() > 1000)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.strip() == f"{THRESHOLDS} True"
