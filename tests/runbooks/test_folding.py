"""Crowds against the plain rule, which compares every two candidates."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from cluster.reference import ObjectRef
from runbooks.catalogue import Role, catalogue
from runbooks.finding import Certainty, Finding
from runbooks.folding import ONSET_TOLERANCE, VAGUE_WEIGHT, Candidate, roots
from tests.runbooks.worlds import NOW

CODES = sorted(catalogue())
OBJECTS = [ObjectRef(kind, "shop", f"{kind.lower()}-{number}") for kind in ("Pod", "Deployment", "Service") for number in range(3)]


def candidates(seed: int) -> list[Candidate]:
    """Sixty candidates that crowd: nine objects of three workloads, few onsets."""
    draw = random.Random(seed)
    made = []
    for code in draw.sample(CODES, 60):
        place = draw.randrange(len(OBJECTS))
        subject, owner = OBJECTS[place], OBJECTS[3 + place % 3]
        since = draw.choice([None, *(NOW - timedelta(minutes=minutes) for minutes in (0, 5, 10, 60))])
        reach = frozenset(ref.key for ref in (subject, *draw.sample(OBJECTS, draw.randint(0, 3))))
        found = Finding(code, subject, draw.choice(list(Certainty)), (), code, since=since)
        made.append(Candidate(found, catalogue()[code], owner.key, reach, focused=False))
    return sorted(made, key=lambda candidate: candidate.order)


def explains(stronger: Candidate, weaker: Candidate) -> bool:
    """Whether the stronger one makes the weaker one a consequence: downstream of it, not older, and no rival of its own."""
    first, second = stronger.finding, weaker.finding
    if Role.ADVISORY in (stronger.code.role, weaker.code.role):
        return False
    if weaker.code.role is Role.SYMPTOM:
        return not stronger.reach.isdisjoint({second.subject.key, weaker.owner})
    same = first.subject.same(second.subject) or stronger.owner == weaker.owner
    vague = same and weaker.code.weight <= VAGUE_WEIGHT < stronger.code.weight
    if first.since is not None and second.since is not None and first.since > second.since + ONSET_TOLERANCE and not vague:
        return False
    if first.subject.same(second.subject) and stronger.code.class_ == weaker.code.class_:
        return True
    return (second.subject.key in stronger.reach or same) and stronger.code.weight > weaker.code.weight


@pytest.mark.parametrize("seed", range(20))
def test_crowds_find_what_comparing_every_two_finds(seed: int) -> None:
    ranked = candidates(seed)
    plain: dict[int, int] = {}
    for place, candidate in enumerate(ranked):
        strongest = next((earlier for earlier in range(place) if explains(ranked[earlier], candidate)), None)
        if strongest is not None:
            plain[place] = plain.get(strongest, strongest)
    assert plain
    assert roots(ranked) == plain
