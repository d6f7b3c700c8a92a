"""Addresses in configurations behind which nothing answers: a port that the Service lacks, a host that no Service has.

Only what is declared is judged here; a caller's log that confirms it raises the certainty in `applications`.
Limits: a host that nothing in the cluster resembles stays unmentioned: many charts name optional backends that were never installed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from cluster.facts.network import Service
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies, Dependency, Stands, addresses, answers
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite
from runbooks.revisions import rollout_of

# Names of Services and variables that mean a database or a store; a broker is none.
DATABASE = re.compile(
    r"postgres|pgsql|(?:^|[\s_-])pg|mysql|maria|mongo|redis|valkey|memcache|database|sql|(?:^|[\s_-])db|db(?:[\s_-]|$)", re.I
)


def broken_addresses(world: World) -> Iterator[Finding]:
    """Every declared address that cannot work, blamed on the configuration, or on the Service where its callers agree."""
    if not world.all(Service):
        return
    dependencies = world.once(Dependencies)
    ports: dict[ObjectRef, list[Dependency]] = defaultdict(list)
    absent: dict[tuple[str | None, str], list[Dependency]] = defaultdict(list)
    for dependency in dependencies.declared:
        found = dependencies.resolve(dependency.workload.namespace, dependency.address.host)
        if found.service is not None:
            ports[found.service.ref].append(dependency)
        elif found.stands is Stands.ABSENT:
            absent[(found.namespace, found.name)].append(dependency)
    for reference, callers in ports.items():
        service = world.get(Service, reference.namespace, reference.name)
        if service is not None:
            yield from _wrong_ports(world, service, callers)
    for (namespace, name), callers in absent.items():
        yield from _absent_hosts(dependencies, namespace, name, callers)


def _wrong_ports(world: World, service: Service, callers: list[Dependency]) -> Iterator[Finding]:
    wrong = [caller for caller in callers if caller.address.port is not None and answers(world, service, caller.address.port) is False]
    right = [caller for caller in callers if caller.address.port is not None and answers(world, service, caller.address.port)]
    used = {caller.address.port for caller in wrong}
    served = ", ".join(str(port.port) for port in service.spec.ports or ())
    if len({caller.workload.key for caller in wrong}) > 1 and len(used) == 1 and not right:
        port = next(iter(used))
        names = sorted({caller.workload.name for caller in wrong})
        yield Finding(
            code="config.service-lacks-port",
            subject=service.ref,
            certainty=Certainty.LIKELY,
            evidence=(
                cite(Source.FIELD, service.ref, "spec.ports", served),
                *(cite(Source.FIELD, caller.holder, caller.path, caller.text) for caller in wrong[:3]),
            ),
            explanation=f"Service {service.namespace}/{service.name} serves port {served}, but {', '.join(names[:4])} are configured"
            f" to call it on port {port}.",
            affects=tuple(dict.fromkeys(caller.workload for caller in wrong)),
        )
        return
    for caller in wrong:
        yield wrong_port(service, caller, Certainty.LIKELY)


def wrong_port(service: Service, caller: Dependency, certainty: Certainty, *more: Evidence) -> Finding:
    """A configuration that names a port which its Service does not serve."""
    served = ", ".join(str(port.port) for port in service.spec.ports or ())
    return Finding(
        code="app.database-port" if DATABASE.search(f"{service.name} {caller.key}") else "config.wrong-port",
        subject=caller.holder,
        certainty=certainty,
        evidence=(
            cite(Source.FIELD, caller.holder, caller.path, f"{caller.key}={caller.text}"),
            cite(Source.FIELD, service.ref, "spec.ports", served),
            *more,
        ),
        explanation=f"{caller.workload} is configured to call {caller.address} ({caller.key}), but Service"
        f" {service.namespace}/{service.name} serves only port {served}.",
        affects=(caller.workload, caller.pod),
        wants=()
        if certainty is Certainty.PROVEN
        else (LogWant(ContainerRef(caller.pod.namespace or "", caller.pod.name, caller.container)),),
    )


def _absent_hosts(dependencies: Dependencies, namespace: str | None, name: str, callers: list[Dependency]) -> Iterator[Finding]:
    found = dependencies.resolve(namespace, name)
    if (namespace, name) in dependencies.workload_names:
        yield absent_service(namespace, name, callers, Certainty.LIKELY)
    elif found.near and all(caller.workload.name != name for caller in callers):
        for caller in callers:
            yield wrong_host(caller, found.near, Certainty.LIKELY)


def absent_service(namespace: str | None, name: str, callers: list[Dependency], certainty: Certainty, *more: Evidence) -> Finding:
    """A Service that does not exist although others are configured to call it."""
    reference = ObjectRef("Service", namespace, name)
    names = sorted({caller.workload.name for caller in callers})
    return Finding(
        code="config.service-absent",
        subject=reference,
        certainty=certainty,
        evidence=(
            cite(Source.ABSENCE, reference, "services", f"no Service {name} in namespace {namespace}"),
            *(cite(Source.FIELD, caller.holder, caller.path, f"{caller.key}={caller.text}") for caller in callers[:3]),
            *more,
        ),
        explanation=f"Service {namespace}/{name} does not exist, but {', '.join(names[:4]) or 'a workload'} "
        + ("are" if len(names) > 1 else "is")
        + " configured to call it.",
        affects=tuple(dict.fromkeys(caller.workload for caller in callers)),
    )


def wrong_host(caller: Dependency, near: tuple[str, ...], certainty: Certainty, *more: Evidence) -> Finding:
    """A configuration that names a host which does not exist, while one with nearly that name does."""
    hint = f"; there is {' and '.join(near)}" if near else ""
    return Finding(
        code="config.wrong-host",
        subject=caller.holder,
        certainty=certainty,
        evidence=(cite(Source.FIELD, caller.holder, caller.path, f"{caller.key}={caller.text}"), *more),
        explanation=f"{caller.workload} is configured to call {caller.address} ({caller.key}), but no Service has that name{hint}.",
        affects=(caller.workload, caller.pod),
    )


def changed_address(world: World, code: str, workload: ObjectRef, declared: tuple[Dependency, ...], quote: Evidence) -> Finding | None:
    """The declared address at which a program was heard to fail, when its variable got that value with the latest revision, which took it
    elsewhere before, under the code that the caller gives it; None otherwise. A new value that merely differs in its path leads to where
    the old one led."""
    rollout = rollout_of(world, workload) if declared else None
    if rollout is None:
        return None
    for caller in declared:
        for change in rollout.touching(f"env[{caller.key}].value"):
            former = next(addresses(change.before, certain=True), None) if change.before is not None else None
            if change.after != caller.text or former is None or (former.host, former.port) == (caller.address.host, caller.address.port):
                continue
            return Finding(
                code=code,
                subject=caller.holder,
                certainty=Certainty.LIKELY,
                evidence=(quote, cite(Source.FIELD, rollout.current, change.path, f"{change.before} -> {change.after}", rollout.at)),
                explanation=f"{workload} fails at {caller.address}, to which its variable {caller.key} was changed with revision"
                f" {rollout.revision}; before, it led to {former}.",
                affects=(caller.workload, caller.pod),
                since=rollout.at,
                lacks="whether the former address still serves",
            )
    return None


DETECTORS: tuple[Detector, ...] = (broken_addresses,)
