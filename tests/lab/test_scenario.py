"""Scenario folders: well-formed, and their checks look where they say."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tests.lab import scenario
from tests.lab.scenario import UnknownScenarioError

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize("name", scenario.names())
def test_folder_is_whole(name: str) -> None:
    scene = scenario.read(name)
    manifests = scene.manifests("manifests.yaml", NOW)
    assert scene.expect.namespace in {one["metadata"]["name"] for one in manifests if one["kind"] == "Namespace"}
    assert scene.expect.settled
    assert (scene.expect.cause is None) == (scene.expect.cause_class == "healthy") == (scene.expect.repair is None)
    if scene.expect.cause is not None:
        assert scene.expect.evidence
        assert scene.expect.repaired
        assert scene.manifests("repair.yaml", NOW)
    served = {path.name for path in (scene.folder / "logs").glob("*.log")}
    named = {
        value
        for file in ("manifests.yaml", "change.yaml", "repair.yaml")
        for one in scene.manifests(file, NOW)
        for key, value in one.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {}).items()
        if key.endswith("/log")
    }
    assert named == served


def test_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(UnknownScenarioError, match=r"no scenario 'oom'; there are: .*oom-killed"):
        scenario.read("oom")


def test_moments_in_the_past() -> None:
    [event] = [one for one in scenario.read("healthy").manifests("manifests.yaml", NOW) if one["kind"] == "Event"]
    assert event["lastTimestamp"] == "2026-11-24T11:06:00Z"


def test_values_walk_into_lists_and_keep_what_matches() -> None:
    pod = {"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}]}}
    assert list(scenario.values(pod, ("status", "conditions", "status"))) == ["False", "True"]
    assert list(scenario.values(pod, ("status", "conditions", {"type": "Ready"}, "status"))) == ["False"]
    assert list(scenario.values(pod, ("status", "phase"))) == []


def test_logs_become_cri_lines(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.log").write_text("first\nsecond\n")
    scenario.write_logs(source, tmp_path / "ml", NOW)
    assert (tmp_path / "ml" / "a.log").read_text() == (
        "2026-11-24T11:59:59.000000000Z stdout F first\n2026-11-24T12:00:00.000000000Z stdout F second\n"
    )
