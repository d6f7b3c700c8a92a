"""Causes that are the same fault of several objects, told together, so that many causes are told in few words.

Twenty workloads with an image that does not exist are one line to read, not twenty paragraphs. It judges nothing and drops nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from runbooks.finding import Cause, Certainty

_PUNCTUATION = ".,:;()[]'\"`"


class Fault(Struct, frozen=True):
    """One code at one certainty. `causes` are in the diagnosis' order."""

    causes: tuple[Cause, ...]

    @property
    def first(self) -> Cause:
        return self.causes[0]

    def difference(self, cause: Cause) -> str:
        """What the explanation of one of them says that the first one's does not, beside its own name: "" where that is nothing."""
        own = cause.object
        known = {*_words(self.first.explanation), str(own), f"{own.namespace}/{own.name}", own.name, own.namespace}
        return " ".join(word for word in dict.fromkeys(_words(cause.explanation)) if word not in known)


def faults(causes: Sequence[Cause]) -> tuple[Fault, ...]:
    """The causes by what is wrong, in the order of the first of each."""
    groups: dict[tuple[str, Certainty], list[Cause]] = defaultdict(list)
    for cause in causes:
        groups[(cause.code, cause.certainty)].append(cause)
    return tuple(Fault(tuple(group)) for group in groups.values())


def _words(text: str) -> list[str]:
    return [word for word in (raw.strip(_PUNCTUATION) for raw in text.split()) if word]
