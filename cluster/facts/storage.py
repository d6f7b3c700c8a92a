"""Claims, volumes, classes and CSI objects (core/v1, storage.k8s.io/v1)."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, LabelSelector
from cluster.facts.pod import NodeSelector
from cluster.quantity import Quantity, parse_quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts share."""


class ClaimResources(_Part, frozen=True, kw_only=True):
    requests: dict[str, Quantity] | None = None


class ClaimSpec(_Part, frozen=True, kw_only=True):
    access_modes: tuple[str, ...] | None = None
    storage_class_name: str | None = None
    volume_name: str | None = None
    volume_mode: str | None = None
    selector: LabelSelector | None = None
    resources: ClaimResources = field(default_factory=ClaimResources)
    data_source: Any = None


class ClaimStatus(_Part, frozen=True, kw_only=True):
    phase: str = "Pending"
    access_modes: tuple[str, ...] | None = None
    capacity: dict[str, Quantity] | None = None
    conditions: tuple[Condition, ...] | None = None


class PersistentVolumeClaim(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "PersistentVolumeClaim"
    spec: ClaimSpec = field(default_factory=ClaimSpec)
    status: ClaimStatus = field(default_factory=ClaimStatus)

    @property
    def requested_bytes(self) -> float | None:
        return parse_quantity((self.spec.resources.requests or {}).get("storage"))


class ClaimRef(_Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str | None = None
    uid: str | None = None


class VolumeNodeAffinity(_Part, frozen=True, kw_only=True):
    required: NodeSelector | None = None


class VolumeCSI(_Part, frozen=True, kw_only=True):
    driver: str = ""


class VolumeSpec(_Part, frozen=True, kw_only=True):
    capacity: dict[str, Quantity] | None = None
    access_modes: tuple[str, ...] | None = None
    storage_class_name: str | None = None
    claim_ref: ClaimRef | None = None
    persistent_volume_reclaim_policy: str | None = None
    node_affinity: VolumeNodeAffinity | None = None
    volume_mode: str | None = None
    csi: VolumeCSI | None = None
    nfs: Any = None
    host_path: Any = None
    local: Any = None


class VolumeStatus(_Part, frozen=True, kw_only=True):
    phase: str = "Available"
    reason: str | None = None
    message: str | None = None


class PersistentVolume(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "PersistentVolume"
    spec: VolumeSpec = field(default_factory=VolumeSpec)
    status: VolumeStatus = field(default_factory=VolumeStatus)

    @property
    def capacity_bytes(self) -> float | None:
        return parse_quantity((self.spec.capacity or {}).get("storage"))


class StorageClass(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "StorageClass"
    provisioner: str = ""
    volume_binding_mode: str = "Immediate"
    reclaim_policy: str | None = None
    allow_volume_expansion: bool = False
    parameters: dict[str, str] | None = None

    @property
    def is_default(self) -> bool:
        return self.annotations.get("storageclass.kubernetes.io/is-default-class") == "true"


class CSIDriver(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "CSIDriver"


class CSINodeDriver(_Part, frozen=True, kw_only=True):
    name: str = ""
    allocatable: Any = None


class CSINodeSpec(_Part, frozen=True, kw_only=True):
    drivers: tuple[CSINodeDriver, ...] | None = None


class CSINode(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "CSINode"
    spec: CSINodeSpec = field(default_factory=CSINodeSpec)


class AttachmentSource(_Part, frozen=True, kw_only=True):
    persistent_volume_name: str | None = None


class AttachmentSpec(_Part, frozen=True, kw_only=True):
    attacher: str = ""
    node_name: str = ""
    source: AttachmentSource = field(default_factory=AttachmentSource)


class AttachmentError(_Part, frozen=True, kw_only=True):
    message: str | None = None


class AttachmentStatus(_Part, frozen=True, kw_only=True):
    attached: bool = False
    attach_error: AttachmentError | None = None
    detach_error: AttachmentError | None = None


class VolumeAttachment(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "VolumeAttachment"
    spec: AttachmentSpec = field(default_factory=AttachmentSpec)
    status: AttachmentStatus = field(default_factory=AttachmentStatus)
