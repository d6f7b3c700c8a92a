"""How one object, container, scope or time window is named. Names only: nothing here reads anything."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

CLUSTER_SCOPED = None


class ObjectRef(Struct, frozen=True, order=True, gc=False):
    """One Kubernetes object. `namespace` is None for cluster-scoped kinds. `uid` takes no part in equality of names: see `same`."""

    kind: str
    namespace: str | None
    name: str
    uid: str | None = None

    def same(self, other: ObjectRef) -> bool:
        """Whether both name the same object, whatever uid each carries."""
        return self.key == other.key

    @property
    def key(self) -> tuple[str, str | None, str]:
        return (self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


class ContainerRef(Struct, frozen=True, order=True, gc=False):
    """One container of one pod."""

    namespace: str
    pod: str
    container: str

    @property
    def pod_ref(self) -> ObjectRef:
        return ObjectRef("Pod", self.namespace, self.pod)

    def __str__(self) -> str:
        return f"Pod/{self.namespace}/{self.pod}[{self.container}]"


class Scope(Struct, frozen=True, gc=False):
    """What an investigation may look at. Empty `namespaces` means all of them; `subject` narrows the question to one object."""

    cluster: str
    namespaces: tuple[str, ...] = ()
    subject: ObjectRef | None = None

    def includes(self, namespace: str | None) -> bool:
        return namespace is None or not self.namespaces or namespace in self.namespaces


class Window(Struct, frozen=True, gc=False):
    """A span of time, `start` inclusive to `end` inclusive, both timezone-aware."""

    start: datetime
    end: datetime
