"""What is built to mislead does not: the right cause, as certain as the evidence allows, and nobody else."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from agent.investigation import investigate
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from runbooks.document import diagnosis_document
from runbooks.finding import Certainty, Diagnosis
from tests.adversarial.worlds import Adversary, names, read

pytestmark = pytest.mark.anyio
DOCUMENT_BYTES = 200_000


async def diagnosed(world: Adversary, folder: Path) -> Diagnosis:
    reader = RecordedReader.open(world.unpack(folder / world.name))
    scope = Scope("recording", (world.namespace,) if world.namespace else ())
    return await investigate(reader, scope, world.question)


@pytest.mark.parametrize("name", names())
async def test_is_not_misled(name: str, tmp_path: Path) -> None:
    world = read(name)
    diagnosis = await diagnosed(world, tmp_path)
    expect = world.expect
    accused = [str(cause.object) for cause in diagnosis.causes]
    told = [f"{cause.code} of {cause.object} ({cause.certainty.word}): {cause.explanation}" for cause in diagnosis.causes]
    allowed = {*expect.others, *(one for wanted in expect.causes for one in wanted.objects)}
    assert set(accused) <= allowed, told
    assert not set(accused) & set(expect.innocent), told
    for wanted in expect.causes:
        found = [cause for cause in diagnosis.causes if str(cause.object) in wanted.objects]
        assert wanted.optional or found, f"nothing is said of {wanted.objects}: {told}, not proven: {diagnosis.not_proven}"
        assert len(found) <= 1, told
        for cause in found:
            assert wanted.class_ in (None, cause.class_), told
            assert cause.certainty <= Certainty[(wanted.at_most or "proven").upper()], told
    if expect.causes and expect.first and diagnosis.causes:
        assert accused[0] in expect.causes[0].objects, told
    assert all(cause.certainty <= Certainty[(expect.at_most or "proven").upper()] for cause in diagnosis.causes), told
    assert not {cause.class_ for cause in diagnosis.causes} & set(expect.not_classes), told
    assert diagnosis.healthy == expect.healthy, told
    assert set(expect.cannot_see) <= {gap.kind for gap in diagnosis.cannot_see}
    text = json.dumps(diagnosis_document(diagnosis), ensure_ascii=False)
    assert [words for words in expect.said if words not in text] == []


@pytest.mark.parametrize("name", names())
async def test_says_it_in_bounds_and_in_plain_text(name: str, tmp_path: Path) -> None:
    document = diagnosis_document(await diagnosed(read(name), tmp_path))
    text = json.dumps(document, ensure_ascii=False)
    assert len(text) < DOCUMENT_BYTES
    # Cc are control characters and Cf such as bidirectional overrides: neither may reach a terminal or a page.
    assert sorted({char for char in text if unicodedata.category(char) in ("Cc", "Cf")}) == []


def test_covers_the_ways_of_misleading() -> None:
    families = {name.partition("-")[0] for name in names()}
    assert families == {"clock", "cut", "flood", "herring", "hidden", "names", "newer", "odd", "orders", "two", "under"}
    assert len(names()) >= 30
