"""Nodes and their leases (core/v1, coordination.k8s.io/v1)."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, condition
from cluster.quantity import Quantity, parse_quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts of a node share."""


class Taint(_Part, frozen=True, kw_only=True):
    key: str
    effect: str = ""
    value: str | None = None
    time_added: datetime | None = None

    def __str__(self) -> str:
        return f"{self.key}{'=' + self.value if self.value else ''}:{self.effect}"


class NodeSpec(_Part, frozen=True, kw_only=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] | None = None
    provider_id: str | None = field(default=None, name="providerID")


class NodeInfo(_Part, frozen=True, kw_only=True):
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    container_runtime_version: str = ""
    architecture: str = ""
    operating_system: str = ""
    os_image: str = ""
    kernel_version: str = ""
    boot_id: str = field(default="", name="bootID")


class NodeStatus(_Part, frozen=True, kw_only=True):
    capacity: dict[str, Quantity] | None = None
    allocatable: dict[str, Quantity] | None = None
    conditions: tuple[Condition, ...] | None = None
    node_info: NodeInfo = field(default_factory=NodeInfo)


class Node(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Node"
    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)

    def condition(self, kind: str) -> Condition | None:
        return condition(self.status.conditions, kind)

    @property
    def ready(self) -> bool:
        found = self.condition("Ready")
        return found is not None and found.status == "True"

    def capacity(self, resource: str) -> float | None:
        """In base units; None when the node does not list the resource."""
        return parse_quantity((self.status.capacity or {}).get(resource))

    def allocatable(self, resource: str) -> float | None:
        return parse_quantity((self.status.allocatable or {}).get(resource))


class LeaseSpec(_Part, frozen=True, kw_only=True):
    holder_identity: str | None = None
    renew_time: datetime | None = None
    lease_duration_seconds: int | None = None


class Lease(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Lease"
    spec: LeaseSpec = field(default_factory=LeaseSpec)


class NamespaceStatus(_Part, frozen=True, kw_only=True):
    phase: str = "Active"
    conditions: tuple[Condition, ...] | None = None


class Namespace(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Namespace"
    status: NamespaceStatus = field(default_factory=NamespaceStatus)
