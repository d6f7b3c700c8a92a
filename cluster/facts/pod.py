"""Pods: spec and status as detectors read them (core/v1). Their containers are in `cluster.facts.container`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.container import Container, ContainerStatus, NameRef
from cluster.facts.meta import Condition, Fact, LabelSelector, SelectorRequirement, condition
from cluster.quantity import Quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts of a pod share."""


class KeyToPath(_Part, frozen=True, kw_only=True):
    key: str
    path: str = ""


class ConfigMapVolume(_Part, frozen=True, kw_only=True):
    name: str = ""
    optional: bool = False
    items: tuple[KeyToPath, ...] | None = None


class SecretVolume(_Part, frozen=True, kw_only=True):
    secret_name: str = ""
    optional: bool = False
    items: tuple[KeyToPath, ...] | None = None


class ClaimVolume(_Part, frozen=True, kw_only=True):
    claim_name: str = ""
    read_only: bool = False


class EmptyDirVolume(_Part, frozen=True, kw_only=True):
    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolume(_Part, frozen=True, kw_only=True):
    path: str = ""
    type: str | None = None


class ProjectedSource(_Part, frozen=True, kw_only=True):
    config_map: ConfigMapVolume | None = None
    secret: NameRef | None = None
    service_account_token: Any = None


class ProjectedVolume(_Part, frozen=True, kw_only=True):
    sources: tuple[ProjectedSource, ...] | None = None


class CSIVolume(_Part, frozen=True, kw_only=True):
    driver: str = ""


class Volume(_Part, frozen=True, kw_only=True):
    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    persistent_volume_claim: ClaimVolume | None = None
    ephemeral: Any = None
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None
    projected: ProjectedVolume | None = None
    csi: CSIVolume | None = None
    nfs: Any = None


class Toleration(_Part, frozen=True, kw_only=True):
    key: str | None = None
    operator: str = "Equal"
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None


class NodeSelectorTerm(_Part, frozen=True, kw_only=True):
    match_expressions: tuple[SelectorRequirement, ...] | None = None
    match_fields: tuple[SelectorRequirement, ...] | None = None


class NodeSelector(_Part, frozen=True, kw_only=True):
    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(_Part, frozen=True, kw_only=True):
    required: NodeSelector | None = field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: Any = field(default=None, name="preferredDuringSchedulingIgnoredDuringExecution")


class PodAffinityTerm(_Part, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    topology_key: str = ""
    namespaces: tuple[str, ...] | None = None
    namespace_selector: LabelSelector | None = None


class PodAffinity(_Part, frozen=True, kw_only=True):
    required: tuple[PodAffinityTerm, ...] | None = field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: Any = field(default=None, name="preferredDuringSchedulingIgnoredDuringExecution")


class Affinity(_Part, frozen=True, kw_only=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class TopologySpreadConstraint(_Part, frozen=True, kw_only=True):
    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None


class SchedulingGate(_Part, frozen=True, kw_only=True):
    name: str


class PodResourceClaim(_Part, frozen=True, kw_only=True):
    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSecurityContext(_Part, frozen=True, kw_only=True):
    run_as_user: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None


class DNSConfig(_Part, frozen=True, kw_only=True):
    nameservers: tuple[str, ...] | None = None
    searches: tuple[str, ...] | None = None


class HostAlias(_Part, frozen=True, kw_only=True):
    ip: str = ""
    hostnames: tuple[str, ...] | None = None


class PodSpec(_Part, frozen=True, kw_only=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None
    ephemeral_containers: tuple[Container, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    node_name: str | None = None
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] | None = None
    scheduling_gates: tuple[SchedulingGate, ...] | None = None
    scheduler_name: str | None = None
    priority: int | None = None
    priority_class_name: str | None = None
    preemption_policy: str | None = None
    restart_policy: str = "Always"
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    image_pull_secrets: tuple[NameRef, ...] | None = None
    host_network: bool = False
    host_pid: bool = field(default=False, name="hostPID")
    host_ipc: bool = field(default=False, name="hostIPC")
    dns_policy: str | None = None
    dns_config: DNSConfig | None = None
    host_aliases: tuple[HostAlias, ...] | None = None
    runtime_class_name: str | None = None
    security_context: PodSecurityContext | None = None
    resource_claims: tuple[PodResourceClaim, ...] | None = None
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    overhead: dict[str, Quantity] | None = None

    @property
    def all_containers(self) -> tuple[Container, ...]:
        """Init containers first, then containers."""
        return (self.init_containers or ()) + self.containers


class ResourceClaimStatus(_Part, frozen=True, kw_only=True):
    name: str
    resource_claim_name: str | None = None


class PodStatus(_Part, frozen=True, kw_only=True):
    phase: str = "Unknown"
    reason: str | None = None
    message: str | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    ephemeral_container_statuses: tuple[ContainerStatus, ...] | None = None
    resource_claim_statuses: tuple[ResourceClaimStatus, ...] | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    host_ip: str | None = field(default=None, name="hostIP")
    nominated_node_name: str | None = None
    qos_class: str | None = None
    start_time: datetime | None = None


class Pod(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Pod"
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)

    @property
    def all_statuses(self) -> tuple[ContainerStatus, ...]:
        """Init container statuses first, then container statuses."""
        return (self.status.init_container_statuses or ()) + (self.status.container_statuses or ())

    def container(self, name: str) -> Container | None:
        return next((item for item in self.spec.all_containers if item.name == name), None)

    def container_status(self, name: str) -> ContainerStatus | None:
        return next((item for item in self.all_statuses if item.name == name), None)

    def condition(self, kind: str) -> Condition | None:
        return condition(self.status.conditions, kind)

    @property
    def ready(self) -> bool:
        # Asked of every pod by many detectors, hence in one step.
        for item in self.status.conditions or ():
            if item.type == "Ready":
                return item.status == "True"
        return False

    @property
    def finished(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")
