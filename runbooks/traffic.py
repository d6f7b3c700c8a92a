"""What a Service serves: the pods and workloads behind it, its endpoints, who calls it, and where its pods are known to listen.

One place for the rules of selection and target ports that the network detectors share. It judges nothing and reads nothing.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from msgspec import Struct, structs

from cluster.facts.config import ConfigMap
from cluster.facts.container import Container
from cluster.facts.meta import Fact
from cluster.facts.network import Endpoints, EndpointSlice, Service, ServicePort
from cluster.facts.pod import Pod, PodSpec
from cluster.facts.workload import CronJob, DaemonSet, Deployment, Job, PodTemplate, ReplicaSet, StatefulSet
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies, Dependency, Stands

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Workloads of the platform itself: hygiene advice about them is noise for the people who read it.
_SYSTEM = re.compile(r"^(kube-.*|openshift-.*|.*-system|gatekeeper.*|istio.*|cert-manager|calico.*|cilium.*|tigera.*|local-path-storage)$")
_CONFIGURED_PORT = re.compile(r"(?i)(?:\blisten\b|port|bind|addr(?:ess)?)[^\n\d]{0,40}?\b(\d{2,5})\b")
_OWN_ADDRESS = re.compile(r"(?:[\d.]*|\[::\]|localhost):(\d{2,5})")
_NUMBER = re.compile(r"(?:^|[=: ])(\d{2,5})(?=$|[ ,;])")
_LISTENING = re.compile(r"(?i)\b(?:listening|listen|serving|started|running|bound|ready)\b[^\n]{0,80}?(?:\bport[ :=(]+|:)(\d{2,5})\b")

WORKLOADS: tuple[type[Deployment] | type[StatefulSet] | type[DaemonSet] | type[ReplicaSet] | type[Job] | type[CronJob], ...] = (
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
)


class Backing(Struct, frozen=True):
    """The addresses behind a Service: counts of ready and not ready ones; `known` is False when no endpoints were read for it."""

    known: bool
    ready: int = 0
    not_ready: int = 0


class Workload(Struct, frozen=True):
    """Something that makes pods, by its template or, where the workload was not read, one of its pods. What another workload owns is
    left out. `replicas` is None where the kind has none."""

    ref: ObjectRef
    labels: dict[str, str]
    spec: PodSpec
    replicas: int | None


class Listening(Struct, frozen=True):
    """The ports of one pod by how they are known: declared (informational), proven (a passing probe or a log), configured (a text
    that the pod is given mentions them). `declared` maps number to protocols, `named` name to (number, protocol)."""

    declared: dict[int, frozenset[str]]
    named: dict[str, tuple[int, str]]
    proven: frozenset[int] = frozenset()
    configured: frozenset[int] = frozenset()


def is_system(namespace: str | None) -> bool:
    """Whether a namespace belongs to the platform rather than to its users."""
    return namespace is not None and _SYSTEM.match(namespace) is not None


def last_applied(fact: Fact) -> dict[str, Any]:
    """The manifest that was last applied with kubectl, from its annotation; empty where there is none that can be read."""
    text = fact.annotations.get(LAST_APPLIED)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def target_of(port: ServicePort) -> int | str:
    """The target port of a Service port: the port itself where none is given, as the API server defaults it."""
    return port.target_port or port.port


class Traffic:
    """Selection and calls over one world; indexes are built on first use. Get it by `world.once(Traffic)`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dependencies = world.once(Dependencies)
        self._pods: dict[tuple[str | None, str], tuple[Pod, ...]] = {}

    def backing(self, service: Service) -> Backing:
        """From EndpointSlices or, where only those were read, Endpoints."""
        key = (service.namespace, service.name)
        slices = self._slices.get(key, ())
        if slices:
            ready = sum(item.conditions.ready is not False for part in slices for item in part.endpoints or ())
            return Backing(True, ready, sum(len(part.endpoints or ()) for part in slices) - ready)
        legacy = self._world.get(Endpoints, service.namespace, service.name)
        if legacy is None:
            return Backing(False)
        subsets = legacy.subsets or ()
        ready = sum(len(part.addresses or ()) for part in subsets)
        return Backing(True, ready, sum(len(part.not_ready_addresses or ()) for part in subsets))

    def pods(self, service: Service) -> tuple[Pod, ...]:
        """The living pods that a Service selects."""
        key = (service.namespace, service.name)
        known = self._pods.get(key)
        if known is None:
            selected = self._world.pods_selected(service.namespace, service.spec.selector or {})
            known = self._pods[key] = tuple(pod for pod in selected if not pod.finished and not pod.deleting)
        return known

    def workloads(self, namespace: str | None) -> tuple[Workload, ...]:
        return tuple(self._workloads.get(namespace, ()))

    def workloads_matching(self, service: Service) -> tuple[Workload, ...]:
        """The workloads whose pods the Service would select, whether such pods exist or not."""
        wanted = service.spec.selector or {}
        if not wanted:
            return ()
        candidates = min((self._workloads_by_label.get((service.namespace, item), []) for item in wanted.items()), key=len)
        return tuple(item for item in candidates if wanted.items() <= item.labels.items())

    def claimed(self, namespace: str | None) -> frozenset[ObjectRef]:
        """The workloads of a namespace that some Service selects."""
        return frozenset(self._claimed.get(namespace, ()))

    def services_of(self, workload: ObjectRef) -> tuple[ObjectRef, ...]:
        """The Services that would select a workload's pods, whether it has any or not."""
        return tuple(self._services_by_workload.get(workload.key, ()))

    def calls(self, namespace: str | None) -> tuple[Dependency, ...]:
        """The addresses that the workloads of a namespace are configured with."""
        return tuple(self._calls.get(namespace, ()))

    def callers_of(self, namespace: str | None, name: str) -> tuple[Dependency, ...]:
        """The configured addresses that mean a Service, from whichever namespace."""
        return tuple(self._calls_by_service.get((namespace, name), ()))

    @cached_property
    def _slices(self) -> dict[tuple[str | None, str], list[EndpointSlice]]:
        grouped: dict[tuple[str | None, str], list[EndpointSlice]] = defaultdict(list)
        for item in self._world.all(EndpointSlice):
            if item.service_name is not None:
                grouped[(item.namespace, item.service_name)].append(item)
        return grouped

    @cached_property
    def _workloads(self) -> dict[str | None, list[Workload]]:
        grouped: dict[str | None, list[Workload]] = defaultdict(list)
        for kind in WORKLOADS:
            for fact in self._world.all(kind):
                if kind in (ReplicaSet, Job) and fact.controller is not None:
                    continue
                template: PodTemplate = fact.template
                replicas = fact.spec.replicas if isinstance(fact, Deployment | StatefulSet | ReplicaSet) else None
                grouped[fact.namespace].append(Workload(fact.ref, template.metadata.labels or {}, template.spec, replicas))
        for top, (pod, *_) in self._world.workloads():
            if self._world.find(top) is None or top.same(pod.ref):
                grouped[pod.namespace].append(Workload(top, pod.labels, pod.spec, None))
        return grouped

    @cached_property
    def _workloads_by_label(self) -> dict[tuple[str | None, tuple[str, str]], list[Workload]]:
        grouped: dict[tuple[str | None, tuple[str, str]], list[Workload]] = defaultdict(list)
        for namespace, workloads in self._workloads.items():
            for workload in workloads:
                for item in workload.labels.items():
                    grouped[(namespace, item)].append(workload)
        return grouped

    @cached_property
    def _claimed(self) -> dict[str | None, set[ObjectRef]]:
        grouped: dict[str | None, set[ObjectRef]] = defaultdict(set)
        for service in self._world.all(Service):
            grouped[service.namespace].update(item.ref for item in self.workloads_matching(service))
        return grouped

    @cached_property
    def _services_by_workload(self) -> dict[tuple[str, str | None, str], list[ObjectRef]]:
        grouped: dict[tuple[str, str | None, str], list[ObjectRef]] = defaultdict(list)
        for service in self._world.all(Service):
            for item in self.workloads_matching(service):
                grouped[item.ref.key].append(service.ref)
        return grouped

    @cached_property
    def _calls(self) -> dict[str | None, list[Dependency]]:
        grouped: dict[str | None, list[Dependency]] = defaultdict(list)
        for call in self._dependencies.declared:
            grouped[call.workload.namespace].append(call)
        return grouped

    @cached_property
    def _calls_by_service(self) -> dict[tuple[str | None, str], list[Dependency]]:
        grouped: dict[tuple[str | None, str], list[Dependency]] = defaultdict(list)
        for call in self._dependencies.declared:
            found = self._dependencies.resolve(call.workload.namespace, call.address.host)
            if found.stands in (Stands.SERVICE, Stands.ABSENT):
                grouped[(found.namespace, found.name)].append(call)
        return grouped


def declaring(pod: Pod) -> Listening:
    """Where the containers of a pod listen, as far as they declare it."""
    declared: dict[int, set[str]] = defaultdict(set)
    named: dict[str, tuple[int, str]] = {}
    for container in _lasting(pod):
        for port in container.ports or ():
            declared[port.container_port].add(port.protocol)
            if port.name:
                named.setdefault(port.name, (port.container_port, port.protocol))
    return Listening({port: frozenset(names) for port, names in declared.items()}, named)


def _lasting(pod: Pod) -> tuple[Container, ...]:
    """The containers that run as long as the pod."""
    return (*pod.spec.containers, *(item for item in pod.spec.init_containers or () if item.is_sidecar))


def listening(world: World, pod: Pod) -> Listening:
    """Where the containers of a pod listen, as far as its spec, its probes, the texts it is given and its logs tell."""
    proven: set[int] = set()
    configured: set[int] = set()
    for container in _lasting(pod):
        status = pod.container_status(container.name)
        if status is not None and status.ready and container.readiness_probe is not None:
            probed = container.readiness_probe.port
            number = next((item.container_port for item in container.ports or () if item.name == probed), probed)
            if isinstance(number, int) and number:
                proven.add(number)
        configured.update(_configured_ports(container))
        if pod.namespace is not None:
            reading = world.logs.get((ContainerRef(pod.namespace, pod.name, container.name), False))
            for line in reading.value.lines if reading is not None else ():
                proven.update(int(item) for item in _LISTENING.findall(line))
    for volume in pod.spec.volumes or ():
        mounted = world.get(ConfigMap, pod.namespace, volume.config_map.name) if volume.config_map else None
        for text in (mounted.data or {}).values() if mounted is not None else ():
            configured.update(int(item) for item in _CONFIGURED_PORT.findall(text[:20_000]))
    return structs.replace(declaring(pod), proven=frozenset(proven), configured=frozenset(configured))


def _configured_ports(container: Container) -> Iterator[int]:
    for env in container.env or ():
        if env.value and env.value.isdigit() and "PORT" in env.name.upper():
            yield int(env.value)
        elif env.value and (found := _OWN_ADDRESS.fullmatch(env.value)):
            yield int(found[1])
    for text in (*(container.command or ()), *(container.args or ())):
        yield from (int(item) for item in _NUMBER.findall(text[:2000]))
