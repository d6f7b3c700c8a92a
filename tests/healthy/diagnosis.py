"""What a diagnosis says against a healthy world, in lines that name the false accusation."""

from __future__ import annotations

from pathlib import Path

from agent.investigation import investigate
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from runbooks.finding import Diagnosis
from tests.healthy.worlds import HealthyWorld


async def diagnosed(world: HealthyWorld, folder: Path, question: str | None = None) -> Diagnosis:
    """The diagnosis of a world, which is unpacked below `folder` for it."""
    recording = world.unpack(folder / f"{world.about['seed']}")
    return await investigate(RecordedReader.open(recording), Scope("recording", (world.namespace,)), question)


async def accusations(world: HealthyWorld, folder: Path, question: str | None = None) -> tuple[str, ...]:
    """Every cause, or that it is not called healthy. Empty is right."""
    return against(await diagnosed(world, folder, question))


def against(diagnosis: Diagnosis) -> tuple[str, ...]:
    said = [f"{cause.code} of {cause.object} ({cause.certainty.word}): {cause.explanation}" for cause in diagnosis.causes]
    if not diagnosis.healthy and not said:
        said.append(f"not called healthy; cannot see {[gap.what for gap in diagnosis.cannot_see]}")
    return tuple(said)
