"""Who depends on whom: addresses that workloads declare (environment, arguments, ConfigMaps they read) resolved to Services and workloads.

An address in a configuration is a promise that something answers there. This module finds the promises and says what stands behind
each; whether a broken one matters is decided by detectors. A name is called absent only when Services were read completely.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from msgspec import Struct

from cluster.facts.config import ConfigMap
from cluster.facts.container import Container, EnvVar
from cluster.facts.network import Service
from cluster.facts.node import Namespace
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import Presence, World

# Values longer than this are documents, not addresses.
VALUE_LIMIT = 300
ADDRESSES_PER_VALUE = 6
# How alike two names must be to be called a slip of the pen (difflib ratio); 0.8 is one or two letters in ten.
NEAR = 0.8

_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
_ADDRESS = re.compile(
    rf"^(?:(?P<scheme>[a-z][a-z0-9+.:-]*)://)?(?:[^@/\s]*@)?(?P<host>{_HOST})\.?(?::(?P<port>\d{{1,5}}))?(?P<rest>[/?].*)?$", re.I
)
_NAMES_HOST = re.compile(r"(?:^|_)(?:HOST|HOSTNAME|ADDR|ADDRESS|URL|URI|ENDPOINT|SERVER|SERVERS|BROKER|BROKERS|DSN)S?$", re.I)
_NAMES_PORT = re.compile(r"(?:^|_)PORT$", re.I)
_BETWEEN = re.compile(r"[,;\s]+")
_EXPANSION = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_LOCAL = frozenset({"localhost", "host.docker.internal", "kubernetes", "none", "null", "undefined", "true", "false"})
_OWN_ADDRESSES = ("127.", "0.0.0.0", "169.254.")  # noqa: S104 (compared with, never bound)
_NUMBERS = re.compile(r"^[\d.]+$")


class Address(Struct, frozen=True):
    """A host, and a port where one is named."""

    host: str
    port: int | None = None
    scheme: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port is not None else self.host


class Dependency(Struct, frozen=True):
    """One address that a workload declares. `holder` is the object that holds the text (the workload or a ConfigMap), `path` where."""

    workload: ObjectRef
    pod: ObjectRef
    container: str
    holder: ObjectRef
    path: str
    key: str
    text: str
    address: Address


class Stands(enum.Enum):
    """What stands behind a host name."""

    SERVICE = "service"
    ABSENT = "absent"
    EXTERNAL = "external"
    LOCAL = "local"
    UNKNOWN = "unknown"


class Resolution(Struct, frozen=True):
    """What a host name means in a namespace. For ABSENT: the name the Service would have, and Services with nearly that name."""

    stands: Stands
    service: Service | None = None
    name: str = ""
    namespace: str | None = None
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dependencies:
    """The declared dependencies of one world, and the lookup of hosts in it."""

    world: World
    _cache: dict[tuple[str | None, str], Resolution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Hosts are resolved later; asking now makes `World.once` know that they rest on whether Services were listed.
        self.world.presence(Service.kind, None, "")

    @cached_property
    def declared(self) -> tuple[Dependency, ...]:
        """Every address that a workload declares, read off one pod per workload."""
        return tuple(dependency for workload, pod in self.specimens.values() for dependency in _declared(self.world, workload, pod))

    @cached_property
    def specimens(self) -> dict[tuple[str, str | None, str], tuple[ObjectRef, Pod]]:
        """One pod of each workload, the newest: its spec is what the workload runs now."""
        chosen: dict[tuple[str, str | None, str], tuple[ObjectRef, Pod]] = {}
        for workload, pods in self.world.workloads():
            newest: Pod | None = None
            for pod in pods:
                if pod.status.phase == "Succeeded" or not pod.spec.containers:
                    continue
                created = pod.metadata.creation_timestamp
                if newest is None or (created is not None and (newest.created is None or created > newest.created)):
                    newest = pod
            if newest is not None:
                chosen[workload.key] = (self.world.top_owner(newest.ref), newest)
        return chosen

    @cached_property
    def workload_names(self) -> frozenset[tuple[str | None, str]]:
        """(namespace, name) of the workloads that exist, by their pods or by themselves."""
        named = {(ref.namespace, ref.name) for ref, _ in self.specimens.values()}
        for kind in ("Deployment", "StatefulSet", "DaemonSet"):
            named.update((fact.namespace, fact.name) for fact in self.world.custom(kind))
        return frozenset(named)

    def of(self, workload: ObjectRef) -> tuple[Dependency, ...]:
        return self._by_workload.get(workload.key, ())

    @cached_property
    def _by_workload(self) -> dict[tuple[str, str | None, str], tuple[Dependency, ...]]:
        grouped: dict[tuple[str, str | None, str], list[Dependency]] = {}
        for dependency in self.declared:
            grouped.setdefault(dependency.workload.key, []).append(dependency)
        return {key: tuple(items) for key, items in grouped.items()}

    def resolve(self, namespace: str | None, host: str) -> Resolution:
        """What a host name or cluster address means to a pod in `namespace`."""
        key = (namespace, host)
        if key not in self._cache:
            self._cache[key] = self._resolve(namespace, host.lower().rstrip("."))
        return self._cache[key]

    def _resolve(self, namespace: str | None, host: str) -> Resolution:
        if host in _LOCAL or host.startswith(_OWN_ADDRESSES):
            return Resolution(Stands.LOCAL, name=host, namespace=namespace)
        if _NUMBERS.match(host):
            service = self._by_address.get(host)
            found = Stands.SERVICE if service is not None else Stands.EXTERNAL
            return Resolution(found, service, service.name if service else host, service.namespace if service else None)
        parts = host.removesuffix(".cluster.local").removesuffix(".svc").split(".")
        in_cluster = host.endswith((".svc", ".svc.cluster.local"))
        if len(parts) == 1:
            return self._service(namespace, parts[0])
        if len(parts) == 3 and in_cluster:
            return self._service(parts[2], parts[1])
        # Of longer names that of a cluster with a domain of its own, and no name of the world or of several clusters.
        ours = len(parts) == 2 or (parts[2] == "svc" and parts[3:4] != ["clusterset"])
        if len(parts) >= 2 and (in_cluster or (ours and parts[1] in self._namespaces)):
            # NAME.NAMESPACE, or POD.SERVICE of a StatefulSet in the pod's own namespace.
            own = self.world.get(Service, namespace, parts[1]) if len(parts) == 2 else None
            return self._service(namespace, own.name) if own is not None and not in_cluster else self._service(parts[1], parts[0])
        governing = self.world.get(Service, namespace, parts[1]) if len(parts) == 2 else None
        if governing is not None:
            return Resolution(Stands.SERVICE, governing, governing.name, namespace)
        return Resolution(Stands.EXTERNAL, name=host)

    def _service(self, namespace: str | None, name: str) -> Resolution:
        service = self.world.get(Service, namespace, name)
        if service is not None:
            return Resolution(Stands.SERVICE, service, name, namespace)
        absent = self.world.presence("Service", namespace, name) is Presence.ABSENT
        names = [item.name for item in self.world.all(Service) if item.namespace == namespace]
        near = tuple(difflib.get_close_matches(name, names, n=2, cutoff=NEAR))
        return Resolution(Stands.ABSENT if absent else Stands.UNKNOWN, None, name, namespace, near)

    @cached_property
    def _by_address(self) -> dict[str, Service]:
        return {address: service for service in self.world.all(Service) if (address := service.spec.cluster_ip) and address != "None"}

    @cached_property
    def _namespaces(self) -> frozenset[str]:
        known = {fact.name for fact in self.world.all(Namespace)}
        return frozenset(known | {service.namespace for service in self.world.all(Service) if service.namespace})


def serves(service: Service, port: int) -> bool | None:
    """Whether a Service answers on a port; None where that cannot be said (headless and external ones have no ports of their own)."""
    if service.spec.type == "ExternalName" or service.spec.cluster_ip == "None" or not service.spec.ports:
        return None
    return any(item.port == port for item in service.spec.ports)


def answers(world: World, service: Service, port: int) -> bool | None:
    """Whether something answers behind a Service's name on a port. A headless one leads straight to its pods, so there their own ports
    count, if they declare any and the Service agrees with them."""
    known = serves(service, port)
    if known is not None or service.spec.cluster_ip != "None" or service.spec.type == "ExternalName" or not service.spec.ports:
        return known
    pods = world.pods_selected(service.namespace, service.spec.selector or {}) if service.spec.selector else ()
    declared = {item.container_port for pod in pods for container in pod.spec.all_containers for item in container.ports or ()}
    if not declared or port in declared or any(item.port == port for item in service.spec.ports):
        return True if port in declared else None
    return False


def addresses(text: str, *, certain: bool) -> Iterator[Address]:
    """The addresses in a value: URLs, host:port, lists of those. Without `certain` a bare word is no address."""
    # A bare word is an address only where one is certain; most values are such words.
    if len(text) > VALUE_LIMIT or "\n" in text or not (certain or ":" in text):
        return
    found = 0
    for part in _BETWEEN.split(text.strip().removeprefix("jdbc:")):
        match = _ADDRESS.match(part)
        if match is None or found >= ADDRESSES_PER_VALUE:
            continue
        host, port, scheme = match["host"], match["port"], match["scheme"]
        number = int(port) if port else None
        if number is not None and not 0 < number < 65536:
            continue
        plausible = scheme is not None or (number is not None and not host.isdigit()) or (certain and not match["rest"])
        if plausible and not host.isdigit() and (scheme or "") not in ("file", "unix", "sha256"):
            found += 1
            yield Address(host.lower(), number, scheme)


def _declared(world: World, workload: ObjectRef, pod: Pod) -> Iterator[Dependency]:
    for container in pod.spec.all_containers:
        values = dict(_environment(world, workload, pod, container))
        for name, (holder, path, text) in values.items():
            expanded = _expanded(text, values)
            for address in addresses(expanded, certain=bool(_NAMES_HOST.search(name))):
                yield Dependency(workload, pod.ref, container.name, holder, path, name, text, _with_port(address, name, values))
        for position, argument in enumerate((*(container.command or ()), *(container.args or ()))):
            value = argument.partition("=")[2] if argument.startswith("-") else argument
            for address in addresses(value, certain=False):
                path = f"containers[{container.name}].args[{position}]"
                yield Dependency(workload, pod.ref, container.name, workload, path, argument.partition("=")[0], argument, address)


def _expanded(text: str, values: dict[str, tuple[ObjectRef, str, str]]) -> str:
    """A value with its `$(OTHER)` references replaced; an unknown one stays as it is, as the kubelet leaves it."""

    def replacement(found: re.Match[str]) -> str:
        known = values.get(found[1])
        return known[2] if known is not None else found[0]

    return _EXPANSION.sub(replacement, text)


def _with_port(address: Address, name: str, values: dict[str, tuple[ObjectRef, str, str]]) -> Address:
    """The address with the port that a sister variable names: X_HOST and X_PORT."""
    if address.port is not None:
        return address
    stem = re.sub(r"_?(?:HOST|HOSTNAME|ADDR|ADDRESS|SERVER)$", "", name, flags=re.I)
    sister = values.get(f"{stem}_PORT") if stem != name else None
    return Address(address.host, int(sister[2]), address.scheme) if sister and sister[2].isdigit() else address


def _environment(world: World, workload: ObjectRef, pod: Pod, container: Container) -> Iterator[tuple[str, tuple[ObjectRef, str, str]]]:
    """name -> (holder, path, value) of a container's variables, in the order in which later ones win."""
    for source in container.env_from or ():
        reference = source.config_map_ref
        known = world.get(ConfigMap, pod.namespace, reference.name) if reference else None
        for key, value in ((known.data if known else None) or {}).items():
            yield f"{source.prefix}{key}", (known.ref, f"data.{key}", value)  # type: ignore[union-attr]
    for item in container.env or ():
        found = _value(world, workload, pod, container, item)
        if found is not None:
            yield item.name, found


def _value(world: World, workload: ObjectRef, pod: Pod, container: Container, item: EnvVar) -> tuple[ObjectRef, str, str] | None:
    if item.value is not None:
        return workload, f"containers[{container.name}].env[{item.name}]", item.value
    reference = item.value_from.config_map_key_ref if item.value_from else None
    known = world.get(ConfigMap, pod.namespace, reference.name) if reference else None
    value = (known.data or {}).get(reference.key) if known and reference else None
    return (known.ref, f"data.{reference.key}", value) if known and reference and value is not None else None
