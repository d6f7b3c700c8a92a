"""Containers: what a pod's template asks of each, and what its kubelet says of it (core/v1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from cluster.quantity import Quantity, parse_quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts of a container share."""


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
