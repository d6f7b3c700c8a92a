"""The way in from outside: Ingress classes, backends, routes and certificates, Gateways and HTTPRoutes.

Secrets are never read, so a missing TLS Secret is known only from what controllers write about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.event import Event
from cluster.facts.meta import Condition, condition
from cluster.facts.network import (
    BackendService,
    Gateway,
    GatewayClass,
    HTTPRoute,
    Ingress,
    IngressClass,
    Service,
)
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.detectors.services import unreadable
from runbooks.finding import Certainty, Detector, Evidence, Finding, ObjectsWant, Source, cite
from runbooks.traffic import Traffic, last_applied

LEGACY_CLASS = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
# Controllers that act on these names without an IngressClass object (https://cloud.google.com/kubernetes-engine/docs/concepts/ingress).
CLASSES_WITHOUT_OBJECT = frozenset({"gce", "gce-internal", "gke", "gke-internal"})
_SECRET_PROBLEM = re.compile(
    r"(?i)(?:secret|certificate|tls).{0,160}(?:not found|does not exist|no such|missing|could not find)"
    r"|(?:not found|could not find|missing).{0,80}(?:secret|tls cert)"
)
_SECRET_NAME = re.compile(r"(?i)secret[s]?[ :=]+[\"']?(?:[a-z0-9-]+/)?([a-z0-9][a-z0-9.-]+[a-z0-9])[\"']?")
# Conditions of the Gateway API that are good when True; the others are named in `_BAD_WHEN_TRUE`.
_GOOD_WHEN_TRUE = ("Accepted", "Programmed", "ResolvedRefs", "Ready")
_ROUTE_BACKEND_REASONS = frozenset({"BackendNotFound", "InvalidKind", "RefNotPermitted", "UnsupportedProtocol"})


def ingress_class_missing(world: World) -> Iterator[Finding]:
    """An Ingress of a class that does not exist, or of no class where none is the default."""
    classes = world.all(IngressClass)
    default = any(item.annotations.get(DEFAULT_CLASS) == "true" for item in classes)
    names = ", ".join(sorted(item.name for item in classes)) or "none"
    for ingress in world.all(Ingress):
        wanted = ingress.spec.ingress_class_name
        legacy = ingress.annotations.get(LEGACY_CLASS)
        if wanted in CLASSES_WITHOUT_OBJECT or legacy or ingress.status.load_balancer.ingress:
            continue
        if unreadable(world, IngressClass.kind) or (wanted is None and default):
            continue
        if wanted is not None:
            presence = world.presence(IngressClass.kind, None, wanted)
            if presence is Presence.PRESENT:
                continue
            proven = presence is Presence.ABSENT
            text = f"names class {wanted}, which {'does not exist' if proven else 'was not found'} (classes: {names})"
            absent = ObjectRef(IngressClass.kind, None, wanted)
        else:
            proven = IngressClass.kind in world.read_kinds
            text = f"names no class, and no IngressClass is the default (classes: {names})"
            absent = ObjectRef(IngressClass.kind, None, "*")
        yield Finding(
            "ingress.class-missing",
            ingress.ref,
            (Certainty.PROVEN if wanted else Certainty.LIKELY) if proven else Certainty.POSSIBLE,
            (
                cite(Source.FIELD, ingress.ref, "spec.ingressClassName", wanted or "(not set)"),
                cite(Source.ABSENCE, absent, "metadata.name", f"classes: {names}"),
            ),
            f"Ingress {ingress.namespace}/{ingress.name} {text}, so no controller serves it.",
            wants=() if proven else (ObjectsWant(IngressClass.kind),),
            lacks="" if proven else "a complete list of IngressClasses",
        )


def ingress_backend_missing(world: World) -> Iterator[Finding]:
    """An Ingress that routes to a Service that does not exist, or to a port which the Service does not offer."""
    for ingress in world.all(Ingress):
        for at, backend in _backends(ingress):
            yield from _backend_findings(world, ingress, at, backend)


def _backend_findings(world: World, ingress: Ingress, at: str, backend: BackendService) -> Iterator[Finding]:
    service = world.get(Service, ingress.namespace, backend.name)
    target = ObjectRef(Service.kind, ingress.namespace, backend.name)
    if service is None:
        if unreadable(world, Service.kind):
            return
        proven = world.presence(*target.key) is Presence.ABSENT
        near = sorted(item.name for item in world.all(Service) if item.namespace == ingress.namespace)
        yield Finding(
            "ingress.backend-missing",
            ingress.ref,
            Certainty.PROVEN if proven else Certainty.POSSIBLE,
            (
                cite(Source.FIELD, ingress.ref, f"{at}.backend.service.name", backend.name),
                cite(Source.ABSENCE, target, "metadata.name", f"Services in the namespace: {', '.join(near[:20]) or 'none seen'}"),
            ),
            f"Ingress {ingress.namespace}/{ingress.name} routes {at} to Service {backend.name}, which "
            f"{'does not exist' if proven else 'was not found'}.",
            affects=(target,),
            wants=() if proven else (ObjectsWant(Service.kind, ingress.namespace),),
            lacks="" if proven else "a complete list of Services",
        )
        return
    ports = service.spec.ports or ()
    offered = ", ".join(f"{item.name or '-'}:{item.port}" for item in ports)
    wanted = backend.port.name or backend.port.number
    if wanted and ports and not any(wanted in (item.name, item.port) for item in ports):
        yield Finding(
            "ingress.backend-port-missing",
            ingress.ref,
            Certainty.PROVEN,
            (
                cite(Source.FIELD, ingress.ref, f"{at}.backend.service.port", wanted),
                cite(Source.FIELD, service.ref, "spec.ports", offered),
            ),
            f"Ingress {ingress.namespace}/{ingress.name} routes {at} to port {wanted} of Service {backend.name}, which offers {offered}.",
        )


def ingress_misroute(world: World) -> Iterator[Finding]:
    """An Ingress that sends a path or host that names one Service to another, or whose backend differs from what was applied."""
    traffic = world.once(Traffic)
    for ingress in world.all(Ingress):
        applied = _applied_backends(ingress)
        services = {item.name for item in world.all(Service) if item.namespace == ingress.namespace}
        for at, host, path, name in _routes(ingress):
            before = applied.get((host, path))
            if name not in services:
                continue
            if before is not None and before != name:
                yield _misroute(ingress, at, name, before, Certainty.PROVEN, f"last applied with backend {before}")
                continue
            named = {part for part in re.split(r"[/.]", f"{host or ''}{path}") if part} & services
            if len(named) == 1 and name not in named:
                meant = next(iter(named))
                yield _misroute(ingress, at, name, meant, Certainty.LIKELY, f"the route names {meant}")
                continue
            entry = _entry(traffic, ingress, services)
            if entry is not None and name != entry and len(_routes(ingress)) == 1 and traffic.callers_of(ingress.namespace, name):
                yield _misroute(ingress, at, name, entry, Certainty.POSSIBLE, f"{entry} is the Service that calls the others")


def _entry(traffic: Traffic, ingress: Ingress, services: set[str]) -> str | None:
    """The one Service whose workload calls others and that nobody calls; None unless there is exactly one."""
    calling = {call.caller.name for call in traffic.calls(ingress.namespace)}
    entries = [name for name in services & calling if not traffic.callers_of(ingress.namespace, name)]
    return entries[0] if len(entries) == 1 else None


def _misroute(ingress: Ingress, at: str, name: str, meant: str, certainty: Certainty, why: str) -> Finding:
    return Finding(
        "ingress.misroute",
        ingress.ref,
        certainty,
        (cite(Source.FIELD, ingress.ref, f"{at}.backend.service.name", name), cite(Source.FIELD, ingress.ref, at, why)),
        f"Ingress {ingress.namespace}/{ingress.name} sends {at} to Service {name}, probably meant for {meant}: {why}.",
        affects=(ObjectRef(Service.kind, ingress.namespace, meant),),
        lacks="" if certainty > Certainty.POSSIBLE else "the route before the last change",
    )


def tls_secret_missing(world: World) -> Iterator[Finding]:
    """A certificate Secret that a controller says is missing, in an event, a condition or its log."""
    for ingress in world.all(Ingress):
        secrets = {item.secret_name for item in ingress.spec.tls or () if item.secret_name}
        for event in world.events(ingress.ref):
            if _SECRET_PROBLEM.search(event.text) and (event.warning or not secrets or any(name in event.text for name in secrets)):
                name = next((item for item in sorted(secrets) if item in event.text), None)
                yield _tls(ingress.ref, name, event)
                break
        else:
            yield from _tls_from_log(world, ingress, secrets)


def _tls_from_log(world: World, ingress: Ingress, secrets: set[str]) -> Iterator[Finding]:
    for (container, _), reading in world.logs.items():
        for line in reading.value.lines:
            name = next((item for item in secrets if f"{ingress.namespace}/{item}" in line), None)
            if name is not None and _SECRET_PROBLEM.search(line):
                evidence = cite(Source.LOG, container.pod_ref, f"log[{container.container}]", line)
                yield Finding(
                    "ingress.tls-secret-missing",
                    ingress.ref,
                    Certainty.PROVEN,
                    (cite(Source.FIELD, ingress.ref, "spec.tls[*].secretName", name), evidence),
                    f"The controller of Ingress {ingress.namespace}/{ingress.name} cannot find its TLS Secret {name}.",
                )
                return


def _tls(ref: ObjectRef, name: str | None, event: Event) -> Finding:
    found = name or next(iter(_SECRET_NAME.findall(event.text)), "")
    return Finding(
        "ingress.tls-secret-missing",
        ref,
        Certainty.PROVEN,
        (cite(Source.EVENT, ref, event.reason, event.text, event.last_seen),),
        f"{ref.kind} {ref.namespace}/{ref.name} has no usable TLS Secret{f' {found}' if found else ''}: {event.text}",
        since=event.first_seen,
    )


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
                    *(_condition(gateway.ref, item) for item in bad),
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
                tuple(_condition(gateway.ref, item) for item in bad),
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
    """A GatewayClass that its controller refuses."""
    for item in world.all(GatewayClass):
        accepted = condition(item.status.conditions, "Accepted")
        if accepted is not None and accepted.status == "False":
            yield Finding(
                "gateway.class-not-accepted",
                item.ref,
                Certainty.PROVEN,
                (_condition(item.ref, accepted),),
                f"GatewayClass {item.name} is not accepted by {item.spec.controller_name}: {accepted.message or accepted.reason}.",
                affects=tuple(gateway.ref for gateway in world.all(Gateway) if gateway.spec.gateway_class_name == item.name),
                since=accepted.last_transition_time,
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
                        *((_condition(route.ref, reported),) if reported else ()),
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
        if parent.kind == Gateway.kind and world.presence(Gateway.kind, namespace, parent.name) is Presence.ABSENT:
            yield Finding(
                "route.parent-missing",
                route.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, route.ref, "spec.parentRefs", f"{namespace}/{parent.name}"),
                    cite(Source.ABSENCE, ObjectRef(Gateway.kind, namespace, parent.name), "metadata.name", "no such Gateway"),
                ),
                f"HTTPRoute {route.namespace}/{route.name} is attached to Gateway {namespace}/{parent.name}, which does not exist.",
            )
    bad = [item for item in _route_conditions(route) if _unhealthy(item) and item.reason != "BackendNotFound"]
    if bad:
        worst = bad[0]
        yield Finding(
            "route.backend-refused" if worst.reason in _ROUTE_BACKEND_REASONS else "route.not-accepted",
            route.ref,
            Certainty.PROVEN,
            tuple(_condition(route.ref, item) for item in bad),
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


def _condition(ref: ObjectRef, item: Condition) -> Evidence:
    quote = f"{item.status} {item.reason or ''} {item.message or ''}".strip()
    return cite(Source.FIELD, ref, f"status.conditions[{item.type}]", quote, item.last_transition_time)


def _backends(ingress: Ingress) -> Iterator[tuple[str, BackendService]]:
    """(where, Service) of each backend, once per Service and port."""
    default = ingress.spec.default_backend
    if default is not None and default.service is not None:
        yield ("default backend", default.service)
    seen: set[tuple[str, object]] = set()
    for rule in ingress.spec.rules or ():
        for path in (rule.http.paths if rule.http else None) or ():
            service = path.backend.service
            if service is not None and (service.name, service.port) not in seen:
                seen.add((service.name, service.port))
                yield (f"{rule.host or '*'}{path.path or '/'}", service)


def _routes(ingress: Ingress) -> tuple[tuple[str, str | None, str, str], ...]:
    """(where, host, path, Service name) of each path."""
    return tuple(
        (f"{rule.host or '*'}{path.path or '/'}", rule.host, path.path, path.backend.service.name)
        for rule in ingress.spec.rules or ()
        for path in (rule.http.paths if rule.http else None) or ()
        if path.backend.service is not None
    )


def _applied_backends(ingress: Ingress) -> dict[tuple[str | None, str], str]:
    """The Service name of each (host, path) in the manifest last applied with kubectl."""
    found: dict[tuple[str | None, str], str] = {}
    rules = (last_applied(ingress).get("spec") or {}).get("rules")
    for rule in rules if isinstance(rules, list) else ():
        for path in (rule.get("http") or {}).get("paths") or () if isinstance(rule, dict) else ():
            name = ((path.get("backend") or {}).get("service") or {}).get("name") if isinstance(path, dict) else None
            if isinstance(name, str):
                found[(rule.get("host"), str(path.get("path", "")))] = name
    return found


DETECTORS: tuple[Detector, ...] = (
    ingress_class_missing,
    ingress_backend_missing,
    ingress_misroute,
    tls_secret_missing,
    gateway_not_ready,
    gateway_class_not_accepted,
    route_unresolved,
)
