"""Where a Service, an Ingress or a route sends its traffic: service by service, what it selects and how much of that is ready.

Pure over a World; what is wrong with it is for the detectors. A name that leads to no Service is a row, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.network import HTTPRoute, Ingress, Service
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.traffic import Traffic

ROUTED_KINDS = ("Service", "Ingress", "HTTPRoute", "Gateway")


class Backend(Struct, frozen=True):
    """One way in. `via` is the host and path or the rule that leads there, "" for a Service itself; `exists` is False when there is no
    such Service, None when Services could not be read. Counts of addresses are None where no endpoints were read."""

    via: str
    service: ObjectRef
    ports: str
    exists: bool | None
    pods: int = 0
    ready: int | None = None
    not_ready: int | None = None


def backends(world: World, ref: ObjectRef) -> tuple[Backend, ...]:
    """The backends of a Service, Ingress, HTTPRoute or Gateway, in the order of its rules."""
    return tuple(dict.fromkeys(_backend(world, *way) for way in _ways(world, ref)))


def _ways(world: World, ref: ObjectRef) -> Iterator[tuple[str, str | None, str, str]]:
    """(via, namespace, service, port)"""
    match world.find(ref):
        case Service() as service:
            yield "", service.namespace, service.name, ""
        case Ingress() as ingress:
            default = ingress.spec.default_backend
            if default is not None and default.service is not None:
                yield "default", ingress.namespace, default.service.name, _port(default.service.port.number, default.service.port.name)
            for rule in ingress.spec.rules or ():
                for path in (rule.http.paths or ()) if rule.http else ():
                    if path.backend.service is not None:
                        port = path.backend.service.port
                        yield f"{rule.host or '*'}{path.path}", ingress.namespace, path.backend.service.name, _port(port.number, port.name)
        case HTTPRoute() as route:
            hosts = ", ".join(route.spec.hostnames or ()) or "*"
            for number, routing in enumerate(route.spec.rules or ()):
                for backend in routing.backend_refs or ():
                    if backend.kind == Service.kind:
                        weight = f" weight {backend.weight}" if backend.weight is not None else ""
                        yield (
                            f"{hosts} rule {number}{weight}",
                            backend.namespace or route.namespace,
                            backend.name,
                            _port(backend.port, None),
                        )
        case _:
            # A Gateway routes by what is attached to it.
            for route in world.all(HTTPRoute):
                parents = route.spec.parent_refs or ()
                if any((parent.namespace or route.namespace, parent.name) == (ref.namespace, ref.name) for parent in parents):
                    yield from _ways(world, route.ref)


def _port(number: int | None, name: str | None) -> str:
    return str(number) if number is not None else name or ""


def _backend(world: World, via: str, namespace: str | None, name: str, port: str) -> Backend:
    ref = ObjectRef(Service.kind, namespace, name)
    service = world.get(Service, namespace, name)
    if service is None:
        exists = False if world.presence(Service.kind, namespace, name) is Presence.ABSENT else None
        return Backend(via, ref, port, exists)
    traffic = world.once(Traffic)
    backing = traffic.backing(service)
    counts = (backing.ready, backing.not_ready) if backing.known else (None, None)
    ports = port or ", ".join(f"{item.port}->{item.target_port or item.port}" for item in service.spec.ports or ())
    return Backend(via, ref, ports, True, len(traffic.pods(service)), *counts)
