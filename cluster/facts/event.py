"""Events in either API's shape (core/v1 and events.k8s.io/v1 share one storage), and the generic custom object."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, condition
from cluster.reference import ObjectRef
from cluster.timestamps import parse_time


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts share."""


class InvolvedObject(_Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    field_path: str | None = None


class EventSeries(_Part, frozen=True, kw_only=True):
    count: int = 0
    last_observed_time: datetime | None = None


class EventSource(_Part, frozen=True, kw_only=True):
    component: str = ""
    host: str = ""


class Event(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Event"
    involved_object: InvolvedObject | None = None
    regarding: InvolvedObject | None = None
    type: str = "Normal"
    reason: str = ""
    message: str | None = None
    note: str | None = None
    count: int | None = None
    deprecated_count: int | None = None
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    deprecated_first_timestamp: datetime | None = None
    deprecated_last_timestamp: datetime | None = None
    event_time: datetime | None = None
    series: EventSeries | None = None
    source: EventSource = field(default_factory=EventSource)
    reporting_component: str | None = None

    @property
    def subject(self) -> ObjectRef:
        about = self.involved_object or self.regarding or InvolvedObject()
        return ObjectRef(about.kind, about.namespace, about.name, about.uid)

    @property
    def text(self) -> str:
        return self.message or self.note or ""

    @property
    def times(self) -> int:
        """How often it was seen."""
        return (self.series.count if self.series else 0) or self.count or self.deprecated_count or 1

    @property
    def first_seen(self) -> datetime | None:
        return self.first_timestamp or self.deprecated_first_timestamp or self.event_time or self.created

    @property
    def last_seen(self) -> datetime | None:
        latest = self.series.last_observed_time if self.series else None
        return latest or self.last_timestamp or self.deprecated_last_timestamp or self.event_time or self.created

    @property
    def warning(self) -> bool:
        return self.type == "Warning"


def items_of(value: Any) -> tuple[dict[str, Any], ...]:
    """The objects of a list that was decoded without a schema; whatever is not of that shape is left out."""
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list | tuple) else ()


class CustomObject(Fact, frozen=True, kw_only=True):
    """An object of a kind that has no fact of its own: conditions typed, the rest as plain data."""

    api_version: str = ""
    object_kind: str = field(default="", name="kind")
    spec: Any = None
    status: Any = None

    @property
    def key(self) -> tuple[str, str | None, str]:
        return (self.object_kind, self.metadata.namespace, self.metadata.name)

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.object_kind, self.metadata.namespace, self.metadata.name, self.metadata.uid)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Conditions as far as they have the usual shape; entries that do not are left out."""
        entries = self.status.get("conditions") if isinstance(self.status, dict) else None
        return tuple(
            Condition(
                type=str(entry["type"]),
                status=str(entry.get("status", "Unknown")),
                reason=entry.get("reason"),
                message=entry.get("message"),
                last_transition_time=parse_time(entry.get("lastTransitionTime")),
            )
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict) and "type" in entry
        )

    def condition(self, kind: str) -> Condition | None:
        return condition(self.conditions, kind)
