"""The Gateway API: Gateways and classes that no controller took up, routes whose parent or backend is missing.

What the controllers report in conditions is believed; where they report nothing, only a proven absence counts.
Limits: what the data plane does with an accepted route is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.meta import Condition, condition
from cluster.facts.network import Gateway, GatewayClass, HTTPRoute, Service
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.conditions import cite_condition
from runbooks.finding import Certainty, Detector, Finding, ObjectsWant, Source, cite
from runbooks.visibility import unreadable

# Conditions of the Gateway API that are good when True; the others are named in `_BAD_WHEN_TRUE`.
_GOOD_WHEN_TRUE = ("Accepted", "Programmed", "ResolvedRefs", "Ready")
# A controller takes up a class or a route within seconds of its making, once it runs.
PATIENCE = timedelta(minutes=5)
_ROUTE_BACKEND_REASONS = frozenset({"BackendNotFound", "InvalidKind", "RefNotPermitted", "UnsupportedProtocol"})


def gateway_not_ready(world: World) -> Iterator[Finding]:
    """A Gateway whose class is missing or not accepted, or that its controller did not accept or program."""
    for gateway in world.all(Gateway):
        name = gateway.spec.gateway_class_name
        bad = [item for item in gateway.status.conditions or () if _unhealthy(item)]
        klass = world.get(GatewayClass, None, name)
        if klass is None and world.presence(GatewayClass.kind, None, name) is Presence.ABSENT:
            yield Finding(
                "gateway.class-missing",
                gateway.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, gateway.ref, "spec.gatewayClassName", name),
                    cite(Source.ABSENCE, ObjectRef(GatewayClass.kind, None, name), "metadata.name", "no such GatewayClass"),
                    *(cite_condition(gateway.ref, item) for item in bad),
                ),
                f"Gateway {gateway.namespace}/{gateway.name} is of class {name}, which does not exist.",
            )
        elif bad:
            worst = bad[0]
            secret = any(item.reason == "InvalidCertificateRef" for item in bad)
            yield Finding(
                "gateway.certificate-missing" if secret else "gateway.not-ready",
                gateway.ref,
                Certainty.PROVEN,
                tuple(cite_condition(gateway.ref, item) for item in bad),
                f"Gateway {gateway.namespace}/{gateway.name} is not {worst.type}: {worst.reason or 'no reason given'}"
                f"{f' ({worst.message})' if worst.message else ''}.",
                affects=tuple(route.ref for route in world.all(HTTPRoute) if _attached(route, gateway)),
                since=worst.last_transition_time,
            )
        elif klass is None and not gateway.status.conditions and not unreadable(world, GatewayClass.kind):
            yield Finding(
                "gateway.class-missing",
                gateway.ref,
                Certainty.POSSIBLE,
                (
                    cite(Source.FIELD, gateway.ref, "spec.gatewayClassName", name),
                    cite(Source.ABSENCE, gateway.ref, "status.conditions", "none"),
                ),
                f"No controller has reported on Gateway {gateway.namespace}/{gateway.name}, and its class {name} was not found.",
                wants=(ObjectsWant(GatewayClass.kind),),
                lacks="a complete list of GatewayClasses",
            )


def gateway_class_not_accepted(world: World) -> Iterator[Finding]:
    """A GatewayClass that its controller refuses, or that no controller has taken up: it is made with Accepted Unknown."""
    for item in world.all(GatewayClass):
        accepted = condition(item.status.conditions, "Accepted")
        if accepted is None or accepted.status == "True":
            continue
        of_class = tuple(gateway.ref for gateway in world.all(Gateway) if gateway.spec.gateway_class_name == item.name)
        refused = accepted.status == "False"
        if not refused and item.created is not None and world.now - item.created < PATIENCE:
            continue
        yield Finding(
            "gateway.class-not-accepted",
            item.ref,
            Certainty.PROVEN if refused else Certainty.LIKELY if of_class else Certainty.POSSIBLE,
            (cite_condition(item.ref, accepted),),
            f"GatewayClass {item.name} is not accepted by {item.spec.controller_name}: {accepted.message or accepted.reason}.",
            affects=of_class,
            since=accepted.last_transition_time,
            lacks="" if refused or of_class else "a Gateway of the class",
        )


def route_unresolved(world: World) -> Iterator[Finding]:
    """An HTTPRoute whose parent or backend is missing, or that its controller refuses."""
    for route in world.all(HTTPRoute):
        yield from _route_backends(world, route)
        yield from _route_parents(world, route)


def _route_backends(world: World, route: HTTPRoute) -> Iterator[Finding]:
    for number, rule in enumerate(route.spec.rules or ()):
        for backend in rule.backend_refs or ():
            if backend.kind != Service.kind or backend.group:
                continue
            namespace = backend.namespace or route.namespace
            service = world.get(Service, namespace, backend.name)
            target = ObjectRef(Service.kind, namespace, backend.name)
            at = f"spec.rules[{number}].backendRefs"
            reported = next((item for item in _route_conditions(route) if item.reason == "BackendNotFound"), None)
            if service is None:
                absent = world.presence(*target.key) is Presence.ABSENT
                if unreadable(world, Service.kind) and reported is None:
                    continue
                yield Finding(
                    "route.backend-missing",
                    route.ref,
                    Certainty.PROVEN if absent or reported else Certainty.POSSIBLE,
                    (
                        cite(Source.FIELD, route.ref, f"{at}.name", f"{namespace}/{backend.name}"),
                        cite(Source.ABSENCE, target, "metadata.name", "no such Service was found"),
                        *((cite_condition(route.ref, reported),) if reported else ()),
                    ),
                    f"HTTPRoute {route.namespace}/{route.name} sends traffic to Service {namespace}/{backend.name}, which was not found.",
                    lacks="" if absent or reported else "a complete list of Services",
                )
            elif backend.port is not None and service.spec.ports and all(item.port != backend.port for item in service.spec.ports):
                offered = ", ".join(str(item.port) for item in service.spec.ports)
                yield Finding(
                    "route.backend-port-missing",
                    route.ref,
                    Certainty.PROVEN,
                    (cite(Source.FIELD, route.ref, f"{at}.port", backend.port), cite(Source.FIELD, service.ref, "spec.ports", offered)),
                    f"HTTPRoute {route.namespace}/{route.name} uses port {backend.port} of Service {backend.name}, which offers {offered}.",
                )


def _route_parents(world: World, route: HTTPRoute) -> Iterator[Finding]:
    for parent in route.spec.parent_refs or ():
        namespace = parent.namespace or route.namespace
        presence = world.presence(Gateway.kind, namespace, parent.name)
        if parent.kind != Gateway.kind or presence is Presence.PRESENT:
            continue
        absent = presence is Presence.ABSENT
        young = route.created is not None and world.now - route.created < PATIENCE
        # A controller that knows the Gateway would have reported on the route.
        if absent or not (young or route.status.parents or unreadable(world, Gateway.kind)):
            yield Finding(
                "route.parent-missing",
                route.ref,
                Certainty.PROVEN if absent else Certainty.POSSIBLE,
                (
                    cite(Source.FIELD, route.ref, "spec.parentRefs", f"{namespace}/{parent.name}"),
                    cite(Source.ABSENCE, ObjectRef(Gateway.kind, namespace, parent.name), "metadata.name", "no such Gateway")
                    if absent
                    else cite(Source.FIELD, route.ref, "status.parents", "absent"),
                ),
                f"HTTPRoute {route.namespace}/{route.name} is attached to Gateway {namespace}/{parent.name}, which "
                f"{'does not exist' if absent else 'was not found, and no controller has reported on the route'}.",
                wants=() if absent else (ObjectsWant(Gateway.kind, namespace),),
                lacks="" if absent else "a complete list of Gateways",
            )
    bad = [item for item in _route_conditions(route) if _unhealthy(item) and item.reason != "BackendNotFound"]
    if bad:
        worst = bad[0]
        yield Finding(
            "route.backend-refused" if worst.reason in _ROUTE_BACKEND_REASONS else "route.not-accepted",
            route.ref,
            Certainty.PROVEN,
            tuple(cite_condition(route.ref, item) for item in bad),
            f"HTTPRoute {route.namespace}/{route.name} is not {worst.type}: {worst.message or worst.reason}.",
            since=worst.last_transition_time,
        )


def _route_conditions(route: HTTPRoute) -> tuple[Condition, ...]:
    return tuple(item for parent in route.status.parents or () for item in parent.conditions or ())


def _attached(route: HTTPRoute, gateway: Gateway) -> bool:
    return any(
        parent.name == gateway.name and (parent.namespace or route.namespace) == gateway.namespace
        for parent in route.spec.parent_refs or ()
    )


def _unhealthy(item: Condition) -> bool:
    if item.type == "Conflicted":
        return item.status == "True"
    return item.type in _GOOD_WHEN_TRUE and item.status == "False"


DETECTORS: tuple[Detector, ...] = (gateway_not_ready, gateway_class_not_accepted, route_unresolved)
