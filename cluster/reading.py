"""The reading Protocol: what a live cluster and a recording both answer. A thing that cannot be seen is a value, never an exception."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from msgspec import Struct

from cluster.facts.meta import Fact
from cluster.kinds import Kind
from cluster.reference import ContainerRef, Scope, Window

if TYPE_CHECKING:
    from cluster.telemetry import Telemetry

LABEL_LIMIT = 300
T = TypeVar("T", covariant=True)


class Why(enum.Enum):
    """Why something could not be read, or not all of it. OTHER_VERSION: the kind is served, and in no version whose fields are known."""

    FORBIDDEN = "forbidden"
    ABSENT_KIND = "absent-kind"
    OTHER_VERSION = "other-version"
    NOT_FOUND = "not-found"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNAUTHENTICATED = "unauthenticated"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    NO_SOURCE = "no-source"


class Missing(Struct, frozen=True):
    """What could not be seen: `what` names it ("pods in ml", "log of Pod/ml/x[c]"), `next_step` says what would make it visible."""

    what: str
    why: Why
    detail: str = ""
    next_step: str = ""
    kind: str | None = None
    namespace: str | None = None


class Cost(Struct, frozen=True):
    """What a reading took."""

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.bytes + other.bytes)


class Reading(Struct, Generic[T], frozen=True):
    """A value, and what is missing from it. `value` is empty, never None, where nothing could be read; then `missing` says why."""

    value: T
    missing: tuple[Missing, ...] = ()
    cost: Cost = Cost()


class LogText(Struct, frozen=True):
    """Lines of one container's log, oldest first, after redaction. `cut` says how much was left out, None when nothing was."""

    lines: tuple[str, ...] = ()
    cut: str | None = None


class MetricQuery(Struct, frozen=True):
    """One metric by name and label values, or an expression in PromQL; a reader renders it for its source. A recording matches name and
    labels literally. `namespaces` narrows what belongs to a namespace; an expression has selectors of its own."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    expression: str | None = None
    namespaces: tuple[str, ...] = ()


class Sample(Struct, frozen=True, gc=False):
    at: datetime
    value: float


class Series(Struct, frozen=True):
    """One time series, oldest sample first. Values of labels are cut at LABEL_LIMIT."""

    labels: dict[str, str]
    samples: tuple[Sample, ...]


class Reader(Protocol):
    """Implemented by `cluster.kube.KubeReader` (live) and `cluster.recorded.RecordedReader`; nothing above can tell which it has."""

    @property
    def cluster(self) -> str:
        """The name of the cluster, for people."""
        ...

    def now(self) -> datetime:
        """The clock that event ages are measured against; of a recording, the moment it was taken."""
        ...

    async def find_kind(self, word: str) -> Kind | None:
        """The kind a person means by a word, also a custom one that is there. Never Secret."""
        ...

    async def objects(self, kind: Kind, scope: Scope, name: str | None = None) -> Reading[tuple[Fact, ...]]:
        """All objects of a kind in the scope's namespaces, or the one called `name`."""
        ...

    async def raw(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | Missing:
        """One whole object as the API gives it, not yet redacted, without managedFields. RefusedReadError for a Secret."""
        ...

    async def logs(self, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None = None) -> Reading[LogText]:
        """The tail of a container's log, redacted, at most `limit_bytes`."""
        ...

    async def metric(self, query: MetricQuery, window: Window) -> Reading[tuple[Series, ...]]:
        """The matching series over the window; without a metric source, `missing` says so."""
        ...

    async def telemetry(self, scope: Scope) -> Reading[Telemetry]:
        """Alerts, node services, reachability and dependencies, as far as a source of them is at hand."""
        ...
