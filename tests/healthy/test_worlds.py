"""Nothing is wrong in any of these worlds: whoever is accused in one is accused falsely."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.healthy.diagnosis import against, diagnosed
from tests.healthy.generator import ALL_PARTS, PAST_EVERY, plan
from tests.healthy.past import PASTS
from tests.healthy.worlds import FOLDER, read, seeds, write

# What may be advised about a healthy world, because it is so: somebody suspended it, pods run as the namespace's default account.
SENSIBLE_ADVICE = frozenset({"job.suspended", "cronjob.suspended", "security.default-service-account"})
QUESTION = "Is everything all right here?"


@pytest.mark.anyio
@pytest.mark.parametrize("seed", seeds())
async def test_nobody_is_accused(seed: int, tmp_path: Path) -> None:
    world = read(seed)
    # Every other world is asked about, which makes the agent look through logs that a scan leaves alone.
    diagnosis = await diagnosed(world, tmp_path, QUESTION if seed % 2 else None)
    assert against(diagnosis) == (), world.about
    assert {advice.code for advice in diagnosis.advisories} <= SENSIBLE_ADVICE
    assert {advice.object.namespace for advice in diagnosis.advisories} <= {world.namespace}


def test_most_are_recorded_and_all_parts_and_pasts_are_in() -> None:
    kept = [read(seed).about for seed in seeds()]
    assert len(kept) >= 200
    assert sum(not about["pasts"] for about in kept) >= 150
    assert {part for about in kept for part in about["parts"]} == {part.__name__ for part in ALL_PARTS}
    assert {past for about in kept for past in about["pasts"]} == set(PASTS)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8_000_000


@pytest.mark.parametrize("seed", [0, 1, PAST_EVERY - 1])
def test_a_seed_is_always_the_same_plan_and_that_of_its_world(seed: int) -> None:
    assert plan(seed) == plan(seed)
    assert plan(seed) != plan(seed + PAST_EVERY)
    about = read(seed).about
    assert (tuple(about["parts"]), tuple(about["pasts"])) == (plan(seed).parts, plan(seed).pasts)


def test_packing_is_reproducible(tmp_path: Path) -> None:
    world = read(0)
    first, again = write(world, tmp_path / "a"), write(world, tmp_path / "b")
    assert first.read_bytes() == again.read_bytes()
    assert read(0, tmp_path / "a") == world
