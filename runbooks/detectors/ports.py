"""Service ports that lead to a port where nobody listens, or that speak another protocol than the pods.

Limits: containerPort is informational in Kubernetes, so a target port that no container declares is only suspicious: how sure the finding
is depends on what else tells where the pods listen (probes, logs, configuration, connection tests, the last applied manifest).
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.facts.network import Service, ServicePort
from cluster.facts.pod import Pod
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import Key, World, siblings
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite
from runbooks.traffic import Listening, Traffic, declaring, last_applied, listening, target_of


def target_port_mismatch(world: World) -> Iterator[Finding]:
    """A Service port whose target none of the selected pods listens on, as far as that can be known."""
    traffic = world.once(Traffic)
    for service, samples, known in world.once(_declarations):
        for port in service.spec.ports or ():
            found = _wrong_target(world, traffic, service, port, samples, known)
            if found is not None:
                yield found


def _wrong_target(
    world: World, traffic: Traffic, service: Service, port: ServicePort, samples: tuple[Pod, ...], known: list[Listening]
) -> Finding | None:
    wanted = target_of(port)
    if isinstance(wanted, str):
        if any(wanted in item.named for item in known):
            return None
        certainty, why = Certainty.PROVEN, f"no container of its pods has a port named {wanted!r}"
    else:
        if any(wanted in item.declared for item in known) or not any(item.declared for item in known):
            return None
        if any(pod.spec.host_network for pod in samples):
            return None
        known = [listening(world, pod) for pod in samples]
        if any(wanted in item.proven for item in known):
            return None
        judged = _numeric(world, traffic, service, port, wanted, samples, known)
        if judged is None:
            return None
        certainty, why = judged
    declared = sorted({number for item in known for number in item.declared})
    pod = samples[0]
    evidence = [
        cite(Source.FIELD, service.ref, f"spec.ports[{port.name or port.port}].targetPort", wanted),
        cite(Source.FIELD, pod.ref, "spec.containers[*].ports", ", ".join(map(str, declared)) or "no ports declared"),
    ]
    applied = _applied_target(service, port)
    if applied is not None and applied != wanted:
        evidence.append(cite(Source.FIELD, service.ref, "metadata.annotations[last-applied]", f"targetPort was {applied}"))
        certainty = Certainty.PROVEN
    refused = _refusals(world, traffic, service, port)
    if refused is not None:
        evidence.append(refused)
        certainty = Certainty.PROVEN
    return Finding(
        "service.port-mismatch",
        service.ref,
        certainty,
        tuple(evidence),
        f"Service {service.namespace}/{service.name} sends port {port.port} to target port {wanted}, but {why}; "
        f"they declare {', '.join(map(str, declared)) or 'none'}.",
        affects=_callers(traffic, service),
        wants=_logs_of(pod) if certainty < Certainty.PROVEN else (),
        lacks=""
        if certainty > Certainty.POSSIBLE
        else f"a log, probe or refused connection that tells whether the pods listen on {wanted}",
    )


def _numeric(
    world: World, traffic: Traffic, service: Service, port: ServicePort, wanted: int, samples: tuple[Pod, ...], known: list[Listening]
) -> tuple[Certainty, str] | None:
    """How sure it is that a numeric target nobody declares is wrong, and in which words; None when nothing speaks against it."""
    if any(wanted in item.configured for item in known):
        return None
    proven = sorted({number for item in known for number in item.proven})
    several = [target_of(item) for item in service.spec.ports or ()]
    all_wrong = not any(isinstance(item, int) and any(item in one.declared for one in known) for item in several)
    if proven:
        return (
            Certainty.LIKELY if all_wrong else Certainty.POSSIBLE,
            f"no container declares it and they are known to listen on {', '.join(map(str, proven))}",
        )
    stray = not _used_elsewhere(world, traffic, service, wanted)
    fits = any(port.port in item.declared for item in known)
    if all_wrong and stray and (fits or len(several) == 1):
        return Certainty.LIKELY, "no container declares it and nothing else in the namespace uses it"
    # A server that reads its configuration from a mounted file may listen anywhere, whatever its containers declare.
    configured_by_file = any(volume.config_map for pod in samples for volume in pod.spec.volumes or ())
    return None if configured_by_file or not all_wrong else (Certainty.POSSIBLE, "no container declares it")


def _used_elsewhere(world: World, traffic: Traffic, service: Service, number: int) -> bool:
    """Whether a port number occurs in the ports or configured addresses of anything else in the namespace."""
    for workload in traffic.workloads(service.namespace):
        for container in workload.spec.all_containers:
            if any(item.container_port == number for item in container.ports or ()):
                return True
    if any(call.address.port == number for call in traffic.calls(service.namespace)):
        return True
    return any(
        other.namespace == service.namespace and other.name != service.name and number in (item.port, target_of(item))
        for other in world.all(Service)
        for item in other.spec.ports or ()
    )


def _applied_target(service: Service, port: ServicePort) -> int | str | None:
    ports = (last_applied(service).get("spec") or {}).get("ports")
    for item in ports if isinstance(ports, list) else ():
        if isinstance(item, dict) and item.get("port") == port.port:
            target = item.get("targetPort", port.port)
            return target if isinstance(target, int | str) else None
    return None


def _refusals(world: World, traffic: Traffic, service: Service, port: ServicePort) -> Evidence | None:
    """A connection test or a line in a caller's log in which a connection to this Service's port failed."""
    for item in world.telemetry.connectivity:
        name = item.target.rpartition("/")[2].partition(".")[0]
        if item.reachable is False and name == service.name and item.port in (None, port.port):
            return cite(Source.METRIC, service.ref, f"connect {item.target}:{port.port}", item.text or "failed")
    for call in traffic.callers_of(service.namespace, service.name):
        for pod in world.pods_of(call.workload):
            for container in pod.spec.containers:
                reading = world.logs.get((ContainerRef(pod.namespace or "", pod.name, container.name), False))
                for line in reading.value.lines if reading is not None else ():
                    lowered = line.lower()
                    if "refused" in lowered and f"{service.name}:{port.port}" in lowered:
                        return cite(Source.LOG, pod.ref, f"log[{container.name}]", line)
    return None


def protocol_mismatch(world: World) -> Iterator[Finding]:
    """A Service port whose protocol differs from the one that its target container port declares."""
    traffic = world.once(Traffic)
    for service, samples, known in world.once(_declarations):
        offered = {(port.protocol, target_of(port)) for port in service.spec.ports or ()}
        for port in service.spec.ports or ():
            wanted = target_of(port)
            protocols: set[str] = set()
            for item in known:
                if isinstance(wanted, int):
                    protocols |= item.declared.get(wanted, frozenset())
                elif wanted in item.named:
                    protocols.add(item.named[wanted][1])
            if not protocols or port.protocol in protocols or any((protocol, wanted) in offered for protocol in protocols):
                continue
            has = ", ".join(sorted(protocols))
            yield Finding(
                "service.protocol-mismatch",
                service.ref,
                Certainty.PROVEN if isinstance(wanted, str) else Certainty.LIKELY,
                (
                    cite(Source.FIELD, service.ref, f"spec.ports[{port.name or port.port}].protocol", port.protocol),
                    cite(Source.FIELD, samples[0].ref, f"spec.containers[*].ports[{wanted}].protocol", has),
                ),
                f"Service {service.namespace}/{service.name} forwards port {port.port} as {port.protocol}, "
                f"but its pods serve target port {wanted} as {has}.",
                affects=_callers(traffic, service),
            )


def _selecting(world: World) -> Iterator[Service]:
    return (item for item in world.all(Service) if item.spec.selector and item.spec.type != "ExternalName" and not item.deleting)


def _declarations(world: World) -> list[tuple[Service, tuple[Pod, ...], list[Listening]]]:
    """Each Service that selects living pods, with one pod of each workload behind it and what those declare."""
    traffic = world.once(Traffic)
    sampled = ((service, _one_per_owner(world, traffic.pods(service))) for service in _selecting(world))
    return [(service, samples, [declaring(pod) for pod in samples]) for service, samples in sampled if samples]


def _one_per_owner(world: World, pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """One pod per workload, a ready one where there is one: their templates are alike."""
    chosen: dict[Key, Pod] = {}
    for group in siblings(pods):
        pod = next((item for item in group if item.ready), group[0])
        owner = world.top_owner(pod.ref).key
        known = chosen.get(owner)
        if known is None or (not known.ready and pod.ready):
            chosen[owner] = pod
    return tuple(chosen.values())


def _callers(traffic: Traffic, service: Service) -> tuple[ObjectRef, ...]:
    return tuple(dict.fromkeys(call.workload for call in traffic.callers_of(service.namespace, service.name)))


def _logs_of(pod: Pod) -> tuple[LogWant, ...]:
    return tuple(LogWant(ContainerRef(pod.namespace or "", pod.name, item.name)) for item in pod.spec.containers[:1])


DETECTORS: tuple[Detector, ...] = (target_port_mismatch, protocol_mismatch)
