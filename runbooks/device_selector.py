"""Whether the CEL selectors of device requests accept published devices, answered once for all devices that are alike.

The scheduler only says "cannot allocate all claims"; which of the selectors no device meets has to be computed here. What cannot be
evaluated is UNKNOWN, never a guess. `selector_language` knows the language; this module only decides what to ask it, and how often.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Hashable

from cluster.facts.dra import Device
from cluster.world import World

# Of different devices or expressions in one world: half a millisecond each, twenty times that for the dearest.
EVALUATION_LIMIT = 4_000
_NAMED = re.compile(r"(?:attributes|capacity)\s*\[[^\]]+\]\s*\.\s*(\w+)")
# What asks a device for names that it spells out; whatever else touches the maps may depend on all of them.
_SPELLED = re.compile(r"(?:\"[^\"]*\"\s+in\s+)?device\.(?:attributes|capacity)\s*\[\s*\"[^\"]*\"\s*\](?:\s*\.\s*(\w+)\b(?!\s*\())?")
_IN = re.compile(r"\"([^\"]*)\"\s+in\s+device\.(?:attributes|capacity)")


class Answer(enum.Enum):
    """MISSING_KEY and FAILS abort the whole scheduling attempt: an attribute that the device lacks, or an operation on the wrong type."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    MISSING_KEY = "missing key"
    FAILS = "fails"

    @property
    def aborts(self) -> bool:
        return self in (Answer.MISSING_KEY, Answer.FAILS)


class Selection:
    """The answers of one world; use it through `world.once`."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, Hashable], Answer] = {}
        self._names: dict[str, frozenset[str] | None] = {}

    @property
    def evaluations(self) -> int:
        return len(self._answers)

    def answer(self, expression: str, device: Device, driver: str) -> Answer:
        """Whether a selector accepts a device of that driver."""
        key = (expression, self._alike(expression, device, driver))
        known = self._answers.get(key)
        if known is None:
            known = selects(expression, device, driver) if len(self._answers) < EVALUATION_LIMIT else Answer.UNKNOWN
            self._answers[key] = known
        return known

    def names(self, expression: str) -> frozenset[str] | None:
        """The short names that an expression asks devices for; None where it may ask for any."""
        if expression not in self._names:
            self._names[expression] = _names(expression)
        return self._names[expression]

    def _alike(self, expression: str, device: Device, driver: str) -> Hashable:
        """What the answer rests on: the driver, and of the device what the expression names, or everything."""
        names = self.names(expression)
        attributes = tuple(
            (name, item) for name, item in (device.attributes or {}).items() if names is None or name.rpartition("/")[2] in names
        )
        capacity = tuple(
            (name, item.value) for name, item in (device.capacity or {}).items() if names is None or name.rpartition("/")[2] in names
        )
        return driver, attributes, capacity, device.allow_multiple_allocations


def selection(_world: World) -> Selection:
    """The answers of selectors in one world, for `world.once`."""
    return Selection()


def _names(expression: str) -> frozenset[str] | None:
    rest = _SPELLED.sub("", expression)
    if "attributes" in rest or "capacity" in rest or re.search(r"\bdevice\b(?!\.(?:driver|allowMultipleAllocations)\b)", rest):
        return None
    found = {item[1] for item in _SPELLED.finditer(expression)}
    asked = {item[1] for item in _IN.finditer(expression)}
    # A bare map, as of `size()`, is spelled without a name and without `in`.
    bare = sum(item[1] is None and not item[0].startswith('"') for item in _SPELLED.finditer(expression))
    return None if bare else frozenset(found | asked) - {None}


def selects(expression: str, device: Device, driver: str) -> Answer:
    """Whether a selector accepts a device of that driver."""
    # Here: reading the language takes a third of a second, and most clusters have no selector to evaluate.
    from runbooks import selector_language as language

    compiled = language.program(expression)
    if compiled is None:
        return Answer.UNKNOWN
    try:
        return Answer.YES if compiled.evaluate(language.device_value(device, driver)) else Answer.NO
    except language.AbsentKeyError:
        return Answer.MISSING_KEY
    except language.EvaluationError:
        return Answer.FAILS
    except language.UnknownAnswerError:
        return Answer.UNKNOWN


def attributes_named(expression: str) -> tuple[str, ...]:
    """The attribute and capacity names that an expression asks for, to show beside what devices have."""
    return tuple(dict.fromkeys((*_NAMED.findall(expression), *_IN.findall(expression))))
