"""The same observations say the same, to the byte: over five processes, and in whatever order the objects come."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.runbooks.shuffled import ROOT, names

RUNS = 5


@pytest.fixture(scope="module")
def runs() -> list[dict[str, str]]:
    """What five processes say of every world, each with hashes and an order of objects of its own."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.runbooks.shuffled", str(seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(RUNS)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * RUNS
    return [json.loads(output) for output in outputs]


@pytest.mark.parametrize("name", names())
def test_says_the_same_in_any_order(name: str, runs: list[dict[str, str]]) -> None:
    assert len(runs[0][name]) > 100
    for seed, run in enumerate(runs):
        assert run[name] == runs[0][name], f"objects and hashes of seed {seed}"
