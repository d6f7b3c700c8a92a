"""How traffic finds pods: Services, endpoints, Ingress, Gateway API, NetworkPolicy."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, LabelSelector


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts share."""


class ServicePort(_Part, frozen=True, kw_only=True):
    port: int
    name: str | None = None
    protocol: str = "TCP"
    target_port: int | str | None = None
    node_port: int | None = None
    app_protocol: str | None = None


class ServiceSpec(_Part, frozen=True, kw_only=True):
    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    ports: tuple[ServicePort, ...] | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    external_name: str | None = None
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    session_affinity: str | None = None


class LoadBalancerIngress(_Part, frozen=True, kw_only=True):
    ip: str | None = None
    hostname: str | None = None


class LoadBalancerStatus(_Part, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] | None = None


class ServiceStatus(_Part, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus = field(default_factory=LoadBalancerStatus)


class Service(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Service"
    spec: ServiceSpec = field(default_factory=ServiceSpec)
    status: ServiceStatus = field(default_factory=ServiceStatus)


class TargetRef(_Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class EndpointConditions(_Part, frozen=True, kw_only=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(_Part, frozen=True, kw_only=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = field(default_factory=EndpointConditions)
    target_ref: TargetRef | None = None
    node_name: str | None = None


class EndpointPort(_Part, frozen=True, kw_only=True):
    port: int | None = None
    name: str | None = None
    protocol: str = "TCP"


class EndpointSlice(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "EndpointSlice"
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None

    @property
    def service_name(self) -> str | None:
        return self.labels.get("kubernetes.io/service-name")


class EndpointAddress(_Part, frozen=True, kw_only=True):
    ip: str = ""
    target_ref: TargetRef | None = None
    node_name: str | None = None


class EndpointSubset(_Part, frozen=True, kw_only=True):
    addresses: tuple[EndpointAddress, ...] | None = None
    not_ready_addresses: tuple[EndpointAddress, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class Endpoints(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Endpoints"
    subsets: tuple[EndpointSubset, ...] | None = None


class BackendPort(_Part, frozen=True, kw_only=True):
    number: int | None = None
    name: str | None = None


class BackendService(_Part, frozen=True, kw_only=True):
    name: str = ""
    port: BackendPort = field(default_factory=BackendPort)


class IngressBackend(_Part, frozen=True, kw_only=True):
    service: BackendService | None = None
    resource: Any = None


class IngressPath(_Part, frozen=True, kw_only=True):
    path: str = ""
    path_type: str = ""
    backend: IngressBackend = field(default_factory=IngressBackend)


class IngressHTTP(_Part, frozen=True, kw_only=True):
    paths: tuple[IngressPath, ...] | None = None


class IngressRule(_Part, frozen=True, kw_only=True):
    host: str | None = None
    http: IngressHTTP | None = None


class IngressTLS(_Part, frozen=True, kw_only=True):
    hosts: tuple[str, ...] | None = None
    secret_name: str | None = None


class IngressSpec(_Part, frozen=True, kw_only=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] | None = None
    tls: tuple[IngressTLS, ...] | None = None


class Ingress(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Ingress"
    spec: IngressSpec = field(default_factory=IngressSpec)
    status: ServiceStatus = field(default_factory=ServiceStatus)


class IngressClassSpec(_Part, frozen=True, kw_only=True):
    controller: str = ""


class IngressClass(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "IngressClass"
    spec: IngressClassSpec = field(default_factory=IngressClassSpec)


class PolicyPeer(_Part, frozen=True, kw_only=True):
    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: Any = None


class PolicyPort(_Part, frozen=True, kw_only=True):
    port: int | str | None = None
    protocol: str = "TCP"
    end_port: int | None = None


class IngressPolicyRule(_Part, frozen=True, kw_only=True):
    peers: tuple[PolicyPeer, ...] | None = field(default=None, name="from")
    ports: tuple[PolicyPort, ...] | None = None


class EgressPolicyRule(_Part, frozen=True, kw_only=True):
    peers: tuple[PolicyPeer, ...] | None = field(default=None, name="to")
    ports: tuple[PolicyPort, ...] | None = None


class NetworkPolicySpec(_Part, frozen=True, kw_only=True):
    pod_selector: LabelSelector = field(default_factory=LabelSelector)
    policy_types: tuple[str, ...] | None = None
    ingress: tuple[IngressPolicyRule, ...] | None = None
    egress: tuple[EgressPolicyRule, ...] | None = None


class NetworkPolicy(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "NetworkPolicy"
    spec: NetworkPolicySpec = field(default_factory=NetworkPolicySpec)


class GatewayListener(_Part, frozen=True, kw_only=True):
    name: str = ""
    port: int = 0
    protocol: str = ""
    hostname: str | None = None
    tls: Any = None


class GatewaySpec(_Part, frozen=True, kw_only=True):
    gateway_class_name: str = ""
    listeners: tuple[GatewayListener, ...] | None = None


class ConditionedStatus(_Part, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] | None = None


class Gateway(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Gateway"
    spec: GatewaySpec = field(default_factory=GatewaySpec)
    status: ConditionedStatus = field(default_factory=ConditionedStatus)


class GatewayClassSpec(_Part, frozen=True, kw_only=True):
    controller_name: str = ""


class GatewayClass(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "GatewayClass"
    spec: GatewayClassSpec = field(default_factory=GatewayClassSpec)
    status: ConditionedStatus = field(default_factory=ConditionedStatus)


class ParentRef(_Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str | None = None
    kind: str = "Gateway"
    section_name: str | None = None


class BackendRef(_Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str | None = None
    kind: str = "Service"
    group: str = ""
    port: int | None = None
    weight: int | None = None


class RouteRule(_Part, frozen=True, kw_only=True):
    backend_refs: tuple[BackendRef, ...] | None = None
    matches: Any = None


class RouteSpec(_Part, frozen=True, kw_only=True):
    parent_refs: tuple[ParentRef, ...] | None = None
    hostnames: tuple[str, ...] | None = None
    rules: tuple[RouteRule, ...] | None = None


class RouteParentStatus(_Part, frozen=True, kw_only=True):
    parent_ref: ParentRef = field(default_factory=ParentRef)
    conditions: tuple[Condition, ...] | None = None


class RouteStatus(_Part, frozen=True, kw_only=True):
    parents: tuple[RouteParentStatus, ...] | None = None


class HTTPRoute(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "HTTPRoute"
    spec: RouteSpec = field(default_factory=RouteSpec)
    status: RouteStatus = field(default_factory=RouteStatus)
