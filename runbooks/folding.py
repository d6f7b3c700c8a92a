"""Which of ranked findings follows from which: the object graph, time, and the role and weight of each code decide.

It names no cause and hides nothing: `runbooks.causes` does. An outage of a large cluster has thousands of findings, so no two of them are
compared: those that say the same of whom they explain stand in one crowd, and a crowd is asked once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from math import inf

from msgspec import Struct

from runbooks.catalogue import Code, Role
from runbooks.finding import Certainty, Finding
from runbooks.graph import Key

# Events and transitions of one fault are stamped by different components; this much disorder is normal.
ONSET_TOLERANCE = timedelta(minutes=5)
# Codes of this weight and less only say that something is wrong with an object.
VAGUE_WEIGHT = 2
ANY_WEIGHT = -1


class Candidate(Struct, frozen=True):
    """A merged finding with what ranking needs of it. `owner` is the workload of its subject, `reach` whatever may break because of it."""

    finding: Finding
    code: Code
    owner: Key
    reach: frozenset[Key]
    focused: bool

    @property
    def strength(self) -> tuple[bool, bool, bool, int, int]:
        return (
            self.code.role is not Role.ADVISORY,
            self.code.role is Role.CAUSE,
            self.finding.certainty > Certainty.POSSIBLE,
            self.code.weight,
            int(self.finding.certainty),
        )

    @property
    def order(self) -> tuple[object, ...]:
        """The strongest sorts first."""
        return (*(-int(part) for part in self.strength), self.finding.code, str(self.finding.subject))


class _Crowd:
    """Candidates that are asked about together, by weight. Who began no earlier than a stronger one of the same weight is left out: it
    explains nothing that the other does not."""

    def __init__(self) -> None:
        # Of each weight (minus the onset, place), so that both ascend. Who does not know its onset may be as old as anything.
        self._lines: dict[int, list[tuple[float, int]]] = {}

    def join(self, place: int, candidate: Candidate) -> None:
        since = candidate.finding.since
        age = -since.timestamp() if since is not None else inf
        line = self._lines.setdefault(candidate.code.weight, [])
        if not line or line[-1][0] < age:
            line.append((age, place))

    def first(self, above: int, until: float) -> float:
        """The place of the strongest one of more than this weight that had begun by then; infinity where there is none."""
        best = inf
        for weight, line in self._lines.items():
            if weight > above and (at := bisect_left(line, (-until, -1))) < len(line):
                best = min(best, line[at][1])
        return best


def roots(candidates: Sequence[Candidate]) -> dict[int, int]:
    """The place of every consequence with the place of the root that it follows from. `candidates` are in order of strength.

    A symptom follows from the strongest finding that reaches it. A cause follows from one with a more telling code that reaches it or is
    of the same workload, or from a stronger one of the same class and object, unless that one began later. Advice takes no part.
    """
    reached: dict[Key, int] = {}
    crowds: dict[Key, list[_Crowd]] = defaultdict(list)
    by_reach: dict[frozenset[Key], _Crowd] = {}
    by_owner: dict[Key, _Crowd] = defaultdict(_Crowd)
    by_class: dict[tuple[Key, str], _Crowd] = defaultdict(_Crowd)
    subjects = {key for candidate in candidates for key in (candidate.finding.subject.key, candidate.owner)}
    explained_by: dict[int, int] = {}
    for place, candidate in enumerate(candidates):
        key, code = candidate.finding.subject.key, candidate.code
        if code.role is Role.ADVISORY:
            continue
        if code.role is Role.SYMPTOM:
            earlier = min(reached.get(key, inf), reached.get(candidate.owner, inf))
        else:
            since = candidate.finding.since
            until = (since + ONSET_TOLERANCE).timestamp() if since is not None else inf
            earlier = min(
                by_class[key, code.class_].first(ANY_WEIGHT, until),
                by_owner[candidate.owner].first(code.weight, until),
                *(crowd.first(code.weight, until) for crowd in crowds[key]),
            )
            if code.weight <= VAGUE_WEIGHT:
                # Of one workload, the words that say least are about what the better ones say, whenever each was first seen: events expire.
                earlier = min(earlier, by_owner[candidate.owner].first(VAGUE_WEIGHT, inf))
        if earlier != inf:
            # What follows from a consequence follows from its cause.
            explained_by[place] = explained_by.get(int(earlier), int(earlier))
        if candidate.reach not in by_reach:
            by_reach[candidate.reach] = crowd = _Crowd()
            for touched in candidate.reach & subjects:
                reached.setdefault(touched, place)
                crowds[touched].append(crowd)
        by_reach[candidate.reach].join(place, candidate)
        by_owner[candidate.owner].join(place, candidate)
        by_class[key, code.class_].join(place, candidate)
    return explained_by
