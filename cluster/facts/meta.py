"""What every Kubernetes object carries: metadata, conditions, label selectors, and `Fact`, which all facts share."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct, field

from cluster.reference import ObjectRef


class OwnerReference(Struct, frozen=True, gc=False, rename="camel"):
    kind: str
    name: str
    uid: str | None = None
    api_version: str = ""
    controller: bool | None = None


class ManagedFields(Struct, frozen=True, gc=False, rename="camel"):
    """Who wrote last and when; the field sets themselves are never decoded (they are most of an object's bytes)."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: datetime | None = None


class Metadata(Struct, frozen=True, gc=False, rename="camel"):
    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    finalizers: tuple[str, ...] | None = None
    managed_fields: tuple[ManagedFields, ...] | None = None


class Condition(Struct, frozen=True, gc=False, rename="camel"):
    """One entry of `status.conditions[]`, the same shape for every kind."""

    type: str
    status: str = "Unknown"
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None
    last_heartbeat_time: datetime | None = None
    last_update_time: datetime | None = None
    observed_generation: int | None = None


class SelectorRequirement(Struct, frozen=True, gc=False, rename="camel"):
    key: str
    operator: str
    values: tuple[str, ...] | None = None

    def matches(self, labels: dict[str, str]) -> bool:
        """Set-based requirement; Gt and Lt compare integers, as node affinity does."""
        value = labels.get(self.key)
        wanted = self.values or ()
        match self.operator:
            case "In":
                return value is not None and value in wanted
            case "NotIn":
                return value is None or value not in wanted
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                try:
                    left, right = int(value or ""), int(wanted[0])
                except (ValueError, IndexError):
                    return False
                return left > right if self.operator == "Gt" else left < right
        return False


class LabelSelector(Struct, frozen=True, gc=False, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: tuple[SelectorRequirement, ...] | None = None

    @property
    def empty(self) -> bool:
        return not self.match_labels and not self.match_expressions

    def matches(self, labels: dict[str, str] | None) -> bool:
        """An empty selector matches everything, as in the API."""
        have = labels or {}
        return all(have.get(key) == value for key, value in (self.match_labels or {}).items()) and all(
            requirement.matches(have) for requirement in self.match_expressions or ()
        )


class Fact(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """What all facts share. `kind` is the Kubernetes kind, the key under which a World holds them."""

    kind: ClassVar[str] = ""
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str | None:
        return self.metadata.namespace

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.annotations or {}

    @property
    def created(self) -> datetime | None:
        return self.metadata.creation_timestamp

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def key(self) -> tuple[str, str | None, str]:
        """The key of `ref`, which a large world asks of every object again and again, without the reference."""
        return (self.kind, self.metadata.namespace, self.metadata.name)

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.kind, self.metadata.namespace, self.metadata.name, self.metadata.uid)

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object; where none is marked, the first owner."""
        owners = self.metadata.owner_references
        if not owners:
            return None
        for owner in owners:
            if owner.controller:
                return owner
        return owners[0]


def condition(conditions: tuple[Condition, ...] | None, kind: str) -> Condition | None:
    """The condition of that type, or None."""
    for item in conditions or ():
        if item.type == kind:
            return item
    return None
