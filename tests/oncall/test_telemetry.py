"""Our own logs: JSON off a terminal, bound with cluster and incident, the standard library's records alike."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from oncall import telemetry


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = before, level


def test_json_off_a_terminal_with_cluster_and_incident(stream: io.StringIO) -> None:
    telemetry.configure("info", stream)
    telemetry.bind(cluster="lab", incident="inc-1")
    logging.getLogger("smokejumper").info("probe")
    logging.getLogger("elsewhere").warning("slow %s", "page")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["cluster"], ours["incident"]) == ("probe", "info", "lab", "inc-1")
    assert (theirs["event"], theirs["level"], theirs["cluster"]) == ("slow page", "warning", "lab")


def test_records_below_the_level_are_dropped(stream: io.StringIO) -> None:
    telemetry.configure("error", stream)
    logging.getLogger("smokejumper").warning("quiet")
    logging.getLogger("elsewhere").warning("quiet too")
    assert stream.getvalue() == ""


def test_a_crash_leaves_its_trace_and_no_secret(stream: io.StringIO) -> None:
    telemetry.configure("error", stream)
    try:
        raise ValueError("password=hunter22 \x1b[31m")
    except ValueError:
        logging.getLogger("elsewhere").exception("it broke, token=hunter22abc")
    for line in stream.getvalue().splitlines():
        record = json.loads(line)
        assert "test_telemetry.py" in record["exception"]
        assert "ValueError: password=REDACTED" in record["exception"]
        assert "hunter22" not in line
        assert "\\u001b" not in line
