"""Dynamic Resource Allocation (resource.k8s.io): claims, templates, classes and the devices that drivers publish.

Fields are named as in v1. What v1beta1 holds elsewhere is moved to its place when it is read: requests without `exactly`, devices
under `basic` (k8s.io/api/resource/v1beta1/types.go).
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct, field
from msgspec.structs import force_setattr

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


class CapacityRequirements(_Part, frozen=True, kw_only=True):
    requests: dict[str, Quantity] | None = None


class ExactRequest(_Part, frozen=True, kw_only=True):
    device_class_name: str = ""
    selectors: tuple[DeviceSelector, ...] | None = None
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool | None = None
    tolerations: tuple[DeviceToleration, ...] | None = None
    capacity: CapacityRequirements | None = None


class SubRequest(ExactRequest, frozen=True, kw_only=True):
    name: str = ""


_NOTHING_ASKED = ExactRequest()


class DeviceRequest(ExactRequest, frozen=True, kw_only=True):
    """The fields of an ExactRequest itself are v1beta1's only, and moved to `exactly`."""

    name: str = ""
    exactly: ExactRequest | None = None
    first_available: tuple[SubRequest, ...] | None = None

    def __post_init__(self) -> None:
        if self.exactly is None and self.device_class_name:
            parts = {part: getattr(self, part) for part in ExactRequest.__struct_fields__}
            force_setattr(self, "exactly", ExactRequest(**parts))
            for part in parts:
                force_setattr(self, part, getattr(_NOTHING_ASKED, part))

    @property
    def alternatives(self) -> tuple[tuple[str, ExactRequest], ...]:
        """What would do, best first, by the name that results carry: the request's, or `REQUEST/SUBREQUEST`."""
        if self.exactly is not None:
            return ((self.name, self.exactly),)
        return tuple((f"{self.name}/{item.name}", item) for item in self.first_available or ())


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
    admin_access: bool | None = None
    share_id: str | None = field(default=None, name="shareID")
    consumed_capacity: dict[str, Quantity] | None = None
    binding_conditions: tuple[str, ...] | None = None
    binding_failure_conditions: tuple[str, ...] | None = None


class AllocatedDevices(_Part, frozen=True, kw_only=True):
    results: tuple[AllocationResult, ...] | None = None


class Allocation(_Part, frozen=True, kw_only=True):
    devices: AllocatedDevices = field(default_factory=AllocatedDevices)
    node_selector: NodeSelector | None = None
    allocation_timestamp: datetime | None = None


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


class CapacityRange(_Part, frozen=True, kw_only=True):
    min: Quantity | None = None
    max: Quantity | None = None
    step: Quantity | None = None


class CapacityPolicy(_Part, frozen=True, kw_only=True):
    """Which shares of a capacity may be asked for, and how large one is that nobody sized."""

    default: Quantity | None = None
    valid_values: tuple[Quantity, ...] | None = None
    valid_range: CapacityRange | None = None


class DeviceCapacity(_Part, frozen=True, kw_only=True):
    value: Quantity = 0
    request_policy: CapacityPolicy | None = None


class DeviceTaint(_Part, frozen=True, kw_only=True):
    key: str = ""
    effect: str = ""
    value: str | None = None


class DeviceTaintSelector(_Part, frozen=True, kw_only=True):
    """All that is named has to be the device's; with nothing named, every device is meant. Class and selectors are v1alpha3's only, up to
    1.34 (k8s.io/api/resource/v1alpha3/types.go)."""

    driver: str | None = None
    pool: str | None = None
    device: str | None = None
    device_class_name: str | None = None
    selectors: tuple[DeviceSelector, ...] | None = None


class DeviceTaintRuleSpec(_Part, frozen=True, kw_only=True):
    """Without a selector it is about no device."""

    device_selector: DeviceTaintSelector | None = None
    taint: DeviceTaint = field(default_factory=DeviceTaint)


class DeviceTaintRule(Fact, frozen=True, kw_only=True):
    """An administrator's taint of published devices, as if their driver had set it."""

    kind: ClassVar[str] = "DeviceTaintRule"
    spec: DeviceTaintRuleSpec = field(default_factory=DeviceTaintRuleSpec)

    def may_taint(self, driver: str, pool: str, device: str) -> bool:
        """Whether the names in it are that device's, which is then tainted if it meets its class and selectors too."""
        chosen = self.spec.device_selector
        return chosen is not None and all(
            wanted in (None, have) for wanted, have in ((chosen.driver, driver), (chosen.pool, pool), (chosen.device, device))
        )


class Counter(_Part, frozen=True, kw_only=True):
    value: Quantity = 0


class CounterSet(_Part, frozen=True, kw_only=True):
    """What the partitions of one piece of silicon share."""

    name: str = ""
    counters: dict[str, Counter] | None = None


class CounterConsumption(_Part, frozen=True, kw_only=True):
    counter_set: str = ""
    counters: dict[str, Counter] | None = None


class BasicDevice(_Part, frozen=True, kw_only=True):
    """v1beta1 only: everything of a device but its name."""

    attributes: dict[str, DeviceAttribute] | None = None
    capacity: dict[str, DeviceCapacity] | None = None
    taints: tuple[DeviceTaint, ...] | None = None
    consumes_counters: tuple[CounterConsumption, ...] | None = None
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    allow_multiple_allocations: bool | None = None


class Device(BasicDevice, frozen=True, kw_only=True):
    name: str = ""
    basic: BasicDevice | None = None

    def __post_init__(self) -> None:
        if self.basic is not None:
            for part in BasicDevice.__struct_fields__:
                force_setattr(self, part, getattr(self.basic, part))
            force_setattr(self, "basic", None)


class ResourcePool(_Part, frozen=True, kw_only=True):
    name: str = ""
    generation: int = 0
    resource_slice_count: int = 1


class ResourceSliceSpec(_Part, frozen=True, kw_only=True):
    driver: str = ""
    pool: ResourcePool = field(default_factory=ResourcePool)
    node_name: str | None = None
    all_nodes: bool | None = None
    node_selector: NodeSelector | None = None
    per_device_node_selection: bool | None = None
    devices: tuple[Device, ...] | None = None
    shared_counters: tuple[CounterSet, ...] | None = None


class ResourceSlice(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ResourceSlice"
    spec: ResourceSliceSpec = field(default_factory=ResourceSliceSpec)
