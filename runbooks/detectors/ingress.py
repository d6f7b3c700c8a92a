"""The way in from outside through Ingress: classes, backends, routes and certificates.

Limits: Secrets are never read, so a missing TLS Secret is known only from what controllers write about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.event import Event
from cluster.facts.network import (
    BackendService,
    Ingress,
    IngressClass,
    Service,
)
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Finding, ObjectsWant, Source, cite
from runbooks.traffic import Traffic, last_applied
from runbooks.visibility import unreadable

LEGACY_CLASS = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
# Controllers that act on these names without an IngressClass object (https://cloud.google.com/kubernetes-engine/docs/concepts/ingress).
CLASSES_WITHOUT_OBJECT = frozenset({"gce", "gce-internal", "gke", "gke-internal"})
_SECRET_PROBLEM = re.compile(
    r"(?i)(?:secret|certificate|tls).{0,160}(?:not found|does not exist|no such|missing|could not find)"
    r"|(?:not found|could not find|missing).{0,80}(?:secret|tls cert)"
)
_SECRET_NAME = re.compile(r"(?i)secret[s]?[ :=]+[\"']?(?:[a-z0-9-]+/)?([a-z0-9][a-z0-9.-]+[a-z0-9])[\"']?")


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
            named = _named(host, path) & services
            if len(named) == 1 and name not in named:
                meant = next(iter(named))
                yield _misroute(ingress, at, name, meant, Certainty.LIKELY, f"the route names {meant}")
                continue
            entry = _entry(traffic, ingress, services)
            if entry is not None and name != entry and len(_routes(ingress)) == 1 and traffic.callers_of(ingress.namespace, name):
                yield _misroute(ingress, at, name, entry, Certainty.POSSIBLE, f"{entry} is the Service that calls the others")


def _named(host: str | None, path: str) -> set[str]:
    """The words by which a route may name a Service: those of its path, of its host only where the path is the whole site, since the
    other paths of a site go anywhere."""
    return set(re.findall(r"[\w-]+", path)) or set((host or "").split("."))


def _entry(traffic: Traffic, ingress: Ingress, services: set[str]) -> str | None:
    """The one Service whose workload calls others and that nobody calls; None unless there is exactly one."""
    calling = {call.workload.name for call in traffic.calls(ingress.namespace)}
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
)
