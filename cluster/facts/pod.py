"""Pods: spec and status as detectors read them (core/v1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, LabelSelector, SelectorRequirement, condition
from cluster.quantity import Quantity, parse_quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts of a pod share."""


class KeyRef(_Part, frozen=True, kw_only=True):
    name: str = ""
    key: str = ""
    optional: bool = False


class FieldRef(_Part, frozen=True, kw_only=True):
    field_path: str = ""


class EnvValueFrom(_Part, frozen=True, kw_only=True):
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class EnvVar(_Part, frozen=True, kw_only=True):
    name: str
    value: str | None = None
    value_from: EnvValueFrom | None = None


class NameRef(_Part, frozen=True, kw_only=True):
    name: str = ""
    optional: bool = False


class EnvFrom(_Part, frozen=True, kw_only=True):
    prefix: str = ""
    config_map_ref: NameRef | None = None
    secret_ref: NameRef | None = None


class ContainerPort(_Part, frozen=True, kw_only=True):
    container_port: int
    name: str | None = None
    protocol: str = "TCP"
    host_port: int | None = None


class HTTPGet(_Part, frozen=True, kw_only=True):
    port: int | str = 0
    path: str = "/"
    scheme: str = "HTTP"


class TCPSocket(_Part, frozen=True, kw_only=True):
    port: int | str = 0


class GRPCAction(_Part, frozen=True, kw_only=True):
    port: int = 0
    service: str | None = None


class ExecAction(_Part, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class Probe(_Part, frozen=True, kw_only=True):
    """A container probe. Defaults are the API server's (core/v1 defaults.go)."""

    http_get: HTTPGet | None = None
    tcp_socket: TCPSocket | None = None
    grpc: GRPCAction | None = None
    exec: ExecAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3
    success_threshold: int = 1

    @property
    def port(self) -> int | str | None:
        for action in (self.http_get, self.tcp_socket, self.grpc):
            if action is not None:
                return action.port
        return None


class Lifecycle(_Part, frozen=True, kw_only=True):
    post_start: Any = None
    pre_stop: Any = None


class ResourceClaimUse(_Part, frozen=True, kw_only=True):
    name: str = ""
    request: str | None = None


class Resources(_Part, frozen=True, kw_only=True):
    requests: dict[str, Quantity] | None = None
    limits: dict[str, Quantity] | None = None
    claims: tuple[ResourceClaimUse, ...] | None = None

    def request(self, resource: str) -> float | None:
        """The request in base units; an absent request defaults to the limit, as the API server does."""
        value = parse_quantity((self.requests or {}).get(resource))
        return value if value is not None else self.limit(resource)

    def limit(self, resource: str) -> float | None:
        return parse_quantity((self.limits or {}).get(resource))


class VolumeMount(_Part, frozen=True, kw_only=True):
    name: str
    mount_path: str = ""
    sub_path: str | None = None
    read_only: bool = False


class SecurityContext(_Part, frozen=True, kw_only=True):
    privileged: bool | None = None
    run_as_user: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Any = None


class Container(_Part, frozen=True, kw_only=True):
    name: str
    image: str = ""
    image_pull_policy: str | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    working_dir: str | None = None
    env: tuple[EnvVar, ...] | None = None
    env_from: tuple[EnvFrom, ...] | None = None
    ports: tuple[ContainerPort, ...] | None = None
    resources: Resources = field(default_factory=Resources)
    volume_mounts: tuple[VolumeMount, ...] | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str | None = None
    security_context: SecurityContext | None = None

    @property
    def is_sidecar(self) -> bool:
        """A native sidecar: an init container with `restartPolicy: Always`."""
        return self.restart_policy == "Always"


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


class Waiting(_Part, frozen=True, kw_only=True):
    reason: str | None = None
    message: str | None = None


class Running(_Part, frozen=True, kw_only=True):
    started_at: datetime | None = None


class Terminated(_Part, frozen=True, kw_only=True):
    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(_Part, frozen=True, kw_only=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ResourceHealth(_Part, frozen=True, kw_only=True):
    resource_id: str = field(default="", name="resourceID")
    health: str | None = None
    message: str | None = None


class AllocatedResourceStatus(_Part, frozen=True, kw_only=True):
    name: str = ""
    resources: tuple[ResourceHealth, ...] | None = None


class ContainerStatus(_Part, frozen=True, kw_only=True):
    name: str
    image: str = ""
    image_id: str = field(default="", name="imageID")
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = field(default_factory=ContainerState)
    last_state: ContainerState = field(default_factory=ContainerState)
    allocated_resources_status: tuple[AllocatedResourceStatus, ...] | None = None


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
