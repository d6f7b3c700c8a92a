"""The words of a diagnosis: evidence, findings, wants, causes. Data only; detectors make findings, `causes` folds them."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct

from cluster.reading import Cost, MetricQuery, Missing
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from guardrails.redact import present

QUOTE_LIMIT = 400
PATH_LIMIT = 300


class Certainty(enum.IntEnum):
    """POSSIBLE: a suspicion; LIKELY: the usual reading of the evidence; PROVEN: the evidence admits no other reading."""

    POSSIBLE = 1
    LIKELY = 2
    PROVEN = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Source(enum.Enum):
    FIELD = "field"
    EVENT = "event"
    LOG = "log"
    METRIC = "metric"
    ABSENCE = "absence"
    ALERT = "alert"


class Evidence(Struct, frozen=True):
    """One observed thing that can be looked up again: `path` is the field, the event reason, the log position or the query."""

    id: str
    source: Source
    object: ObjectRef
    path: str
    quote: str
    at: datetime | None = None


def cite(source: Source, subject: ObjectRef, path: str, quote: object, at: datetime | None = None) -> Evidence:
    """Evidence with its id (a short hash of its content); path and quote are made presentable: redacted, sanitised and bounded."""
    text, path = present(str(quote), QUOTE_LIMIT), present(path, PATH_LIMIT)
    digest = hashlib.sha256("\0".join((source.value, str(subject), path, text)).encode()).hexdigest()
    return Evidence(f"ev:{digest[:10]}", source, subject, path, text, at)


class LogWant(Struct, frozen=True, tag="log"):
    """The tail of one container's log would settle it; `deep` reads further back, for what happened before the latest lines.

    `each`: the replicas of its workload say different things, so none stands for the others.
    """

    container: ContainerRef
    previous: bool = False
    deep: bool = False
    each: bool = False


class ObjectsWant(Struct, frozen=True, tag="objects"):
    """The objects of a kind that was not read yet would settle it."""

    kind: str
    namespace: str | None = None


class MetricWant(Struct, frozen=True, tag="metric"):
    """A metric over the last `minutes` would settle it."""

    query: MetricQuery
    minutes: int = 30


class TelemetryWant(Struct, frozen=True, tag="telemetry"):
    """What monitoring says beside the objects: alerts, node services, reachability, who calls whom."""


Want = LogWant | ObjectsWant | MetricWant | TelemetryWant


class Finding(Struct, frozen=True):
    """What one detector says of one object.

    `code` is a key of `codes.yaml`. `explanation` is one or two sentences in plain words. `affects` are the objects that this
    breaks beyond what the subject owns or selects. `since` is the onset, when known. `lacks` says which evidence would prove it.
    """

    code: str
    subject: ObjectRef
    certainty: Certainty
    evidence: tuple[Evidence, ...]
    explanation: str
    affects: tuple[ObjectRef, ...] = ()
    since: datetime | None = None
    wants: tuple[Want, ...] = ()
    lacks: str = ""


Detector = Callable[[World], Iterable[Finding]]


class Symptom(Struct, frozen=True):
    """A finding that a cause explains."""

    code: str
    object: ObjectRef
    text: str


class RuledOut(Struct, frozen=True):
    code: str
    object: ObjectRef
    why: str


class NotProven(Struct, frozen=True):
    """Suspected, and which evidence lacks."""

    code: str
    object: ObjectRef
    text: str
    lacks: str


class Impact(Struct, frozen=True):
    """Accelerators that do no work because of a cause, and what they cost an hour; None where no price is known."""

    devices: float
    per_hour: float | None = None
    currency: str = ""

    @property
    def text(self) -> str:
        """`68 devices do no work because of it: 238.00 USD an hour`."""
        does = "device does" if self.devices == 1 else "devices do"
        money = f": {self.per_hour:.2f} {self.currency} an hour" if self.per_hour is not None else " (no price is configured)"
        return f"{self.devices:g} {does} no work because of it{money}"


class Cause(Struct, frozen=True):
    """One root cause: the object to change, what is wrong with it, what it explains; `handover` is who else already acts on it, `impact`
    what it keeps from work."""

    object: ObjectRef
    code: str
    class_: str
    title: str
    explanation: str
    certainty: Certainty
    evidence: tuple[Evidence, ...]
    symptoms: tuple[Symptom, ...] = ()
    since: datetime | None = None
    severity: str = "error"
    page: str = ""
    handover: str = ""
    impact: Impact | None = None


class Diagnosis(Struct, frozen=True):
    """What was found in a scope. `healthy` is True only when nothing is broken and nothing that matters was hidden.

    `advisories` are hygiene: true and worth mending some day, but no cause of anything that fails now.
    """

    cluster: str
    scope: str
    now: datetime
    healthy: bool
    causes: tuple[Cause, ...]
    ruled_out: tuple[RuledOut, ...] = ()
    not_proven: tuple[NotProven, ...] = ()
    cannot_see: tuple[Missing, ...] = ()
    cost: Cost = Cost()
    advisories: tuple[Cause, ...] = ()
