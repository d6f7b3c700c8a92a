"""Dynamic Resource Allocation (resource.k8s.io/v1): claims, templates, classes and the devices that drivers publish."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, Metadata
from cluster.facts.pod import NodeSelector
from cluster.quantity import Quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts share."""


class CELSelector(_Part, frozen=True, kw_only=True):
    expression: str = ""


class DeviceSelector(_Part, frozen=True, kw_only=True):
    cel: CELSelector | None = None


class DeviceToleration(_Part, frozen=True, kw_only=True):
    key: str | None = None
    operator: str = "Equal"
    value: str | None = None
    effect: str | None = None


class ExactRequest(_Part, frozen=True, kw_only=True):
    device_class_name: str = ""
    selectors: tuple[DeviceSelector, ...] | None = None
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool | None = None
    tolerations: tuple[DeviceToleration, ...] | None = None


class SubRequest(ExactRequest, frozen=True, kw_only=True):
    name: str = ""


class DeviceRequest(_Part, frozen=True, kw_only=True):
    name: str = ""
    exactly: ExactRequest | None = None
    first_available: tuple[SubRequest, ...] | None = None


class DeviceConstraint(_Part, frozen=True, kw_only=True):
    requests: tuple[str, ...] | None = None
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaim(_Part, frozen=True, kw_only=True):
    requests: tuple[DeviceRequest, ...] | None = None
    constraints: tuple[DeviceConstraint, ...] | None = None


class ResourceClaimSpec(_Part, frozen=True, kw_only=True):
    devices: DeviceClaim = field(default_factory=DeviceClaim)


class AllocationResult(_Part, frozen=True, kw_only=True):
    request: str = ""
    driver: str = ""
    pool: str = ""
    device: str = ""


class AllocatedDevices(_Part, frozen=True, kw_only=True):
    results: tuple[AllocationResult, ...] | None = None


class Allocation(_Part, frozen=True, kw_only=True):
    devices: AllocatedDevices = field(default_factory=AllocatedDevices)


class ClaimConsumer(_Part, frozen=True, kw_only=True):
    resource: str = ""
    name: str = ""
    uid: str = ""


class AllocatedDeviceStatus(_Part, frozen=True, kw_only=True):
    driver: str = ""
    pool: str = ""
    device: str = ""
    conditions: tuple[Condition, ...] | None = None


class ResourceClaimStatusBody(_Part, frozen=True, kw_only=True):
    allocation: Allocation | None = None
    reserved_for: tuple[ClaimConsumer, ...] | None = None
    devices: tuple[AllocatedDeviceStatus, ...] | None = None


class ResourceClaim(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ResourceClaim"
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)
    status: ResourceClaimStatusBody = field(default_factory=ResourceClaimStatusBody)


class ResourceClaimTemplateSpec(_Part, frozen=True, kw_only=True):
    metadata: Metadata = field(default_factory=Metadata)
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)


class ResourceClaimTemplate(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ResourceClaimTemplate"
    spec: ResourceClaimTemplateSpec = field(default_factory=ResourceClaimTemplateSpec)


class DeviceClassSpec(_Part, frozen=True, kw_only=True):
    selectors: tuple[DeviceSelector, ...] | None = None
    extended_resource_name: str | None = None


class DeviceClass(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "DeviceClass"
    spec: DeviceClassSpec = field(default_factory=DeviceClassSpec)


class DeviceAttribute(_Part, frozen=True, kw_only=True):
    """One typed value; exactly one of the fields is set."""

    string: str | None = None
    int_: int | None = field(default=None, name="int")
    bool_: bool | None = field(default=None, name="bool")
    version: str | None = None

    @property
    def value(self) -> str | int | bool | None:
        return next((v for v in (self.string, self.int_, self.bool_, self.version) if v is not None), None)


class DeviceCapacity(_Part, frozen=True, kw_only=True):
    value: Quantity = 0


class DeviceTaint(_Part, frozen=True, kw_only=True):
    key: str = ""
    effect: str = ""
    value: str | None = None


class Device(_Part, frozen=True, kw_only=True):
    name: str = ""
    attributes: dict[str, DeviceAttribute] | None = None
    capacity: dict[str, DeviceCapacity] | None = None
    taints: tuple[DeviceTaint, ...] | None = None
    consumes_counters: Any = None


class ResourcePool(_Part, frozen=True, kw_only=True):
    name: str = ""
    generation: int = 0
    resource_slice_count: int = 1


class ResourceSliceSpec(_Part, frozen=True, kw_only=True):
    driver: str = ""
    pool: ResourcePool = field(default_factory=ResourcePool)
    node_name: str | None = None
    all_nodes: bool = False
    node_selector: NodeSelector | None = None
    devices: tuple[Device, ...] | None = None
    shared_counters: Any = None


class ResourceSlice(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ResourceSlice"
    spec: ResourceSliceSpec = field(default_factory=ResourceSliceSpec)
