"""The recorded scenarios, without the lab: each is diagnosed as it is live, and each repaired twin is called healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.investigation import investigate
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from runbooks.document import diagnosis_document
from tests.lab import scenario, verdict

FOLDER = Path(__file__).parent / "recordings"
REPAIRED = "-repaired"
LIMIT_BYTES = 60_000


def _recorded() -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


async def _document(name: str, namespace: str) -> dict[str, Any]:
    async with RecordedReader.open(FOLDER / name) as reader:
        return diagnosis_document(await investigate(reader, Scope(reader.cluster, (namespace,))))


def test_every_scenario_is_recorded_with_its_twin() -> None:
    scenes = [scenario.read(name) for name in scenario.names()]
    twins = {f"{scene.name}{REPAIRED}" for scene in scenes if scene.expect.cause is not None and scene.leaves_something}
    assert set(_recorded()) == {scene.name for scene in scenes} | twins


@pytest.mark.parametrize("name", scenario.names())
@pytest.mark.anyio
async def test_a_recording_tells_what_the_lab_told(name: str) -> None:
    expect = scenario.read(name).expect
    assert verdict.complaints(await _document(name, expect.namespace), expect) == []


@pytest.mark.parametrize("name", [name for name in _recorded() if name.endswith(REPAIRED)])
@pytest.mark.anyio
async def test_a_repaired_recording_is_healthy(name: str) -> None:
    expect = scenario.read(name.removesuffix(REPAIRED)).expect
    assert verdict.not_healthy(await _document(name, expect.namespace)) == []


@pytest.mark.parametrize("name", _recorded())
def test_a_recording_is_small(name: str) -> None:
    assert sum(path.stat().st_size for path in (FOLDER / name).rglob("*") if path.is_file()) < LIMIT_BYTES
