"""The lab's Prometheus: what is written can be asked for, and nothing of it outlives its maker."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tests.lab import build
from tests.lab.build import LabUnavailableError
from tests.lab.monitoring import STALE, Line, Prometheus
from tests.lab.processes import LabStartError, alive
from tests.lab.shapes import counter, level, ramp, skewed, steady, step, without

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ask(prometheus: Prometheus, query: str, minutes: int = 60) -> list[tuple[dict[str, str], list[float]]]:
    """The matrix that a range query answers: labels and values, a point for each ten minutes up to NOW."""
    start = NOW - timedelta(minutes=minutes)
    parameters: dict[str, str | float] = {"query": query, "start": start.timestamp(), "end": NOW.timestamp(), "step": 600}
    answer = httpx2.get(f"{prometheus.url}/api/v1/query_range", params=parameters, timeout=120).json()
    assert answer["status"] == "success", answer
    return [(item["metric"], [float(value) for _, value in item["values"]]) for item in answer["data"]["result"]]


def test_series_of_any_past_are_stored_in_any_order(prometheus: Prometheus) -> None:
    for days in (0, 400, 30):
        moments = [NOW - timedelta(days=days, minutes=minutes) for minutes in range(60, -1, -10)]
        prometheus.write([Line({"__name__": "lab_past", "day": str(days)}, [(at, float(days)) for at in moments])])
    assert ask(prometheus, "lab_past") == [({"__name__": "lab_past", "day": "0"}, [0.0] * 7)]
    assert ask(prometheus, "lab_past offset 400d") == [({"__name__": "lab_past", "day": "400"}, [400.0] * 7)]


def test_a_counter_that_starts_again_and_a_series_that_ends(prometheus: Prometheus) -> None:
    counted = [(NOW - timedelta(minutes=60 - minute), float(minute % 30) * 60) for minute in range(61)]
    ended = [(NOW - timedelta(minutes=60), 1.0), (NOW - timedelta(minutes=59), STALE)]
    prometheus.write([Line({"__name__": "lab_count_total"}, counted), Line({"__name__": "lab_ended"}, ended)])
    [(_, rates)] = ask(prometheus, "rate(lab_count_total[5m])")
    assert all(math.isclose(rate, 1.0, abs_tol=0.25) for rate in rates[1:])
    assert ask(prometheus, "lab_ended") == [({"__name__": "lab_ended"}, [1.0])]


def test_many_series_at_once(prometheus: Prometheus) -> None:
    prometheus.write(Line({"__name__": "lab_many", "series": f"{number:04}" * 20}, [(NOW, number)]) for number in range(2_000))
    [(_, values)] = ask(prometheus, "count(lab_many)", 0)
    assert values == [2_000.0]


def test_what_has_not_happened_yet_is_refused(prometheus: Prometheus) -> None:
    with pytest.raises(LabStartError, match="did not take the series: HTTP 400"):
        prometheus.write([Line({"__name__": "lab_future"}, [(datetime(2199, 1, 1, tzinfo=UTC), 1.0)])])


def test_nothing_is_left_behind(prometheus: Prometheus) -> None:
    with Prometheus(prometheus.binary) as other:
        assert other.url != prometheus.url
        assert httpx2.get(f"{other.url}/-/ready", timeout=120).status_code == 200
        pid, folder = other.pid, other.folder
    assert not alive(pid)
    assert not folder.exists()


def test_a_program_that_is_no_prometheus_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("bin") / "prometheus"
    program.write_text("#!/bin/sh\necho cannot open the block\nexit 1\n", "utf-8")
    program.chmod(0o755)
    with pytest.raises(LabStartError, match=r"prometheus-\d+ has exited[\s\S]*cannot open the block"):
        Prometheus(program)


def test_it_cannot_be_built_without_go(tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(LabUnavailableError, match=r"no Go 1\.26\.7 or newer to build Prometheus with: install Go"):
        build.find_or_build_prometheus({"PATH": str(empty)}, empty / "cache" / "key", empty)
    line = next(line for line in (build.PROMETHEUS_SOURCE / "go.mod").read_text("utf-8").splitlines() if line.startswith("go "))
    assert line.removeprefix("go ") == ".".join(map(str, build.PROMETHEUS_GO_MINIMUM))


def test_shapes_are_what_the_query_engine_sees(prometheus: Prometheus) -> None:
    reset = [NOW - timedelta(minutes=25)]
    shapes = {
        "level": level(NOW, 100.0),
        "step": step(NOW, 10.0, 50.0, ago=30),
        "ramp": ramp(NOW, 0.0, 90.0),
        "gap": without(steady(NOW, 7.0), ago=40, minutes=20),
        "late": skewed(steady(NOW, 3.0), seconds=-900),
        "count_total": counter(steady(NOW, 2.0), resets=reset),
    }
    prometheus.write(Line({"__name__": f"lab_shape_{name}"}, samples) for name, samples in shapes.items())

    def seen(query: str) -> list[float]:
        [(_, values)] = ask(prometheus, query)
        return values

    assert all(97.0 <= value <= 103.0 for value in seen("lab_shape_level"))
    assert [value > 30 for value in seen("lab_shape_step")] == [False, False, False, True, True, True, True]
    assert seen("lab_shape_ramp")[-3:] == [90.0, 90.0, 90.0]
    assert len(seen("lab_shape_gap")) == 6
    assert len(seen("lab_shape_late")) == 5
    assert all(math.isclose(rate, 2.0, rel_tol=0.2) for rate in seen("rate(lab_shape_count_total[5m])"))
    assert min(seen("delta(lab_shape_count_total[10m])")) < 0
