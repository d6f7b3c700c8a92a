"""The corpus is whole, and no surface has appeared without its attacks being run."""

from __future__ import annotations

import pytest

from tests.attacks.corpus import FILES, ROOT, SIGNS, appeared, everything, read


def test_all_sixty_are_there_once() -> None:
    assert sorted(attack.id for attack in everything()) == list(range(1, 61))
    assert {file: len(read(file)) for file in FILES} == {"text": 14, "arguments": 16, "approvals": 18, "sinks": 12}


@pytest.mark.parametrize("surface", sorted(SIGNS))
def test_a_surface_that_appears_brings_its_attacks_along(surface: str) -> None:
    waiting = [attack.id for attack in everything() if attack.missing == surface]
    assert waiting, f"every attack on {surface} runs by now: take it off the list of signs"
    assert appeared(surface) == [], f"{surface} exists: run the attacks {waiting} against it"


def test_every_missing_surface_would_be_noticed() -> None:
    assert {attack.missing for attack in everything()} - {""} == set(SIGNS)
    # Each sign is looked for where the code of that room really is.
    for signs in SIGNS.values():
        for pattern, _ in signs:
            assert (ROOT / pattern.split("/")[0] / "__init__.py").is_file(), pattern
