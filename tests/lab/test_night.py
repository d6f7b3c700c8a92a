"""The fleet's night, smaller than in `benchmarks.fleet_night`: the GPU that died is the only cause, and both victims are under it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oncall.cli import run
from tests.lab.monitoring import Prometheus
from tests.lab.night import Night, complaints, write
from tests.lab.nightseries import lines

NIGHT = Night(nodes=30, pods=300)


def test_the_gpu_that_died_is_the_cause_and_its_victims_are_under_it(
    tmp_path: Path, prometheus: Prometheus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NIGHT, tmp_path / "night")
    prometheus.write(lines(NIGHT))
    monkeypatch.chdir(tmp_path)
    assert run(["--state", "state", "diagnose", "--recording", "night", "--prometheus", prometheus.url, "-o", "json"]) == 0
    assert complaints(NIGHT, json.loads(capsys.readouterr().out)) == []
