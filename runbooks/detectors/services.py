"""Services that lead nowhere or to the wrong place: selector, target port, protocol, a Service that is gone, local traffic policy.

containerPort is informational in Kubernetes, so a target port that no container declares is only suspicious: how sure the finding is
depends on what else tells where the pods listen (probes, logs, configuration, the last applied manifest). Which callers
write a wrong address is the dependency detectors' matter; here a name is missed only when the workload behind it exists.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator

from cluster.facts.event import Event
from cluster.facts.network import Service, ServicePort
from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment, StatefulSet
from cluster.reading import Why
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, ObjectsWant, Source, cite
from runbooks.traffic import Backing, Listening, Traffic, Workload, last_applied, listening, target_of

NEAREST_LIMIT = 3
CALLERS_LIMIT = 8
# Below this likeness two label values are unrelated words (difflib ratio).
LIKENESS = 0.6
_NO_READ = frozenset({Why.FORBIDDEN, Why.TIMEOUT, Why.UNREACHABLE, Why.UNAUTHENTICATED, Why.TRUNCATED})


def unreadable(world: World, kind: str) -> bool:
    """Whether a kind was asked for and refused or cut, so that not seeing an object of it means nothing at all."""
    return any(item.kind == kind and item.why in _NO_READ for item in world.missing)


def selector_matches_nothing(world: World) -> Iterator[Finding]:
    """A Service whose selector fits no pod and no pod template."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        if traffic.pods(service) or traffic.workloads_matching(service):
            continue
        backing = traffic.backing(service)
        if backing.ready or backing.not_ready or unreadable(world, Pod.kind):
            continue
        pods_seen = Pod.kind in world.read_kinds or bool(world.all(Pod))
        if not pods_seen and not backing.known:
            continue
        yield _unmatched(world, traffic, service, backing, pods_seen)


def _unmatched(world: World, traffic: Traffic, service: Service, backing: Backing, pods_seen: bool) -> Finding:
    selector = service.spec.selector or {}
    near = nearest(service, traffic.workloads(service.namespace), traffic.claimed(service.namespace))
    applied = _applied_selector(service)
    changed = applied not in ({}, selector)
    evidence = [cite(Source.FIELD, service.ref, "spec.selector", _labels(selector))]
    if pods_seen:
        evidence.append(cite(Source.ABSENCE, service.ref, "pods", f"no pod in namespace {service.namespace} carries {_labels(selector)}"))
    if backing.known:
        evidence.append(cite(Source.FIELD, ObjectRef("Endpoints", service.namespace, service.name), "subsets", "no addresses"))
    evidence += [cite(Source.FIELD, item.ref, "labels", _labels(item.labels)) for item in near]
    if changed:
        evidence.append(cite(Source.FIELD, service.ref, "metadata.annotations[last-applied]", f"selector was {_labels(applied)}"))
    text = f"Service {service.namespace}/{service.name} selects {_labels(selector)}, which no pod carries, so it has no endpoints."
    if near:
        text += f" The nearest is {near[0].ref.kind} {near[0].ref.name} with {_difference(selector, near[0].labels)}."
    called = bool(traffic.callers_of(service.namespace, service.name))
    if (near and Pod.kind in world.read_kinds) or changed:
        certainty = Certainty.PROVEN
    else:
        certainty = Certainty.LIKELY if near or called else Certainty.POSSIBLE
    return Finding(
        "service.selector-mismatch",
        service.ref,
        certainty,
        tuple(evidence),
        text,
        affects=_callers(traffic, service),
        wants=() if pods_seen else (ObjectsWant(Pod.kind, service.namespace),),
        lacks="" if near else "which workload the Service was meant for",
    )


def nearest(service: Service, workloads: Iterable[Workload], claimed: frozenset[ObjectRef] = frozenset()) -> tuple[Workload, ...]:
    """The workloads that the Service was probably meant for, best first: same name, most labels in common, likest values."""
    selector = service.spec.selector or {}
    scored: list[tuple[float, Workload]] = []
    for item in workloads:
        if item.ref.kind in ("Job", "CronJob"):
            continue
        score = sum(_likeness(value, item.labels.get(key)) for key, value in selector.items())
        if item.ref.name == service.name or service.name in item.labels.values():
            score += 2.0
        elif item.ref.name.startswith(f"{service.name}-") or service.name.startswith(f"{item.ref.name}-"):
            score += 1.0
        # What another Service already selects is less likely to be what this one misses.
        if item.ref in claimed:
            score -= 1.0
        if score >= LIKENESS:
            scored.append((score, item))
    best = sorted(scored, key=lambda pair: (-pair[0], str(pair[1].ref)))
    return tuple(item for score, item in best if score >= best[0][0] - 0.5)[:NEAREST_LIMIT]


def selects_another_workload(world: World) -> Iterator[Finding]:
    """A Service that selects the pods of another application, while the workload of its own name stands beside it unselected."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        pods = traffic.pods(service)
        own = [item for item in traffic.workloads(service.namespace) if item.ref.name == service.name and item.labels]
        if not pods or not own or any(item in traffic.workloads_matching(service) for item in own):
            continue
        owners = {world.top_owner(pod.ref) for pod in pods}
        others = [world.get(Service, service.namespace, owner.name) for owner in owners]
        if not all(other is not None and pods[0] in traffic.pods(other) for other in others):
            continue
        selector, served = service.spec.selector or {}, sorted(owners)[0]
        applied = _applied_selector(service)
        changed = applied not in ({}, selector)
        yield Finding(
            "service.selects-another-workload",
            service.ref,
            Certainty.PROVEN if changed else Certainty.LIKELY,
            (
                cite(Source.FIELD, service.ref, "spec.selector", _labels(selector)),
                cite(Source.FIELD, own[0].ref, "spec.template.metadata.labels", _labels(own[0].labels)),
                cite(Source.FIELD, pods[0].ref, "metadata.labels", _labels(pods[0].labels)),
            ),
            f"Service {service.namespace}/{service.name} selects {_labels(selector)}: its traffic goes to {served.kind} {served.name}, "
            f"which has a Service of its own, while {own[0].ref.kind} {service.name} gets none.",
            affects=(own[0].ref, *_callers(traffic, service)),
        )


def target_port_mismatch(world: World) -> Iterator[Finding]:
    """A Service port whose target none of the selected pods listens on, as far as that can be known."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        pods = traffic.pods(service)
        if not pods:
            continue
        samples = _one_per_owner(world, pods)
        for port in service.spec.ports or ():
            found = _wrong_target(world, traffic, service, port, samples)
            if found is not None:
                yield found


def _wrong_target(world: World, traffic: Traffic, service: Service, port: ServicePort, samples: tuple[Pod, ...]) -> Finding | None:
    wanted = target_of(port)
    known = [listening(world, pod) for pod in samples]
    if isinstance(wanted, str):
        if any(wanted in item.named for item in known):
            return None
        certainty, why = Certainty.PROVEN, f"no container of its pods has a port named {wanted!r}"
    else:
        if any(wanted in item.declared or wanted in item.proven for item in known) or not any(item.declared for item in known):
            return None
        if any(pod.spec.host_network for pod in samples):
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
    if any(call.port == number for call in traffic.calls(service.namespace)):
        return True
    return any(
        other.namespace == service.namespace and other.name != service.name and number in (item.port, target_of(item))
        for other in world.all(Service)
        for item in other.spec.ports or ()
    )


def _applied_selector(service: Service) -> dict[str, str]:
    selector = (last_applied(service).get("spec") or {}).get("selector")
    return {str(key): str(value) for key, value in selector.items()} if isinstance(selector, dict) else {}


def _applied_target(service: Service, port: ServicePort) -> int | str | None:
    ports = (last_applied(service).get("spec") or {}).get("ports")
    for item in ports if isinstance(ports, list) else ():
        if isinstance(item, dict) and item.get("port") == port.port:
            target = item.get("targetPort", port.port)
            return target if isinstance(target, int | str) else None
    return None


def _refusals(world: World, traffic: Traffic, service: Service, port: ServicePort) -> Evidence | None:
    """A line in the log of a caller in which a connection to this Service's port was refused."""
    for call in traffic.callers_of(service.namespace, service.name):
        for pod in world.pods_of(call.caller):
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
    for service in _selecting(world):
        pods = traffic.pods(service)
        if not pods:
            continue
        known = [listening(world, pod) for pod in _one_per_owner(world, pods)]
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
                    cite(Source.FIELD, pods[0].ref, f"spec.containers[*].ports[{wanted}].protocol", has),
                ),
                f"Service {service.namespace}/{service.name} forwards port {port.port} as {port.protocol}, "
                f"but its pods serve target port {wanted} as {has}.",
                affects=_callers(traffic, service),
            )


def port_not_offered(world: World) -> Iterator[Finding]:
    """A Service that does not offer the port which all of several callers use and which its pods declare."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        calls = [call for call in traffic.callers_of(service.namespace, service.name) if call.port is not None]
        used = Counter(call.port for call in calls)
        offered = {port.port for port in service.spec.ports or ()}
        pods = traffic.pods(service)
        if len(used) != 1 or not offered or not pods:
            continue
        number, callers = next(iter(used)), {call.caller for call in calls}
        if number is None or number in offered:
            continue
        targets = {target_of(port) for port in service.spec.ports or ()}
        declared = {port for item in (listening(world, pod) for pod in pods[:1]) for port in item.declared}
        # One caller with another port is a wrong caller; several that agree, or one that names the port the Service itself targets,
        # speak against the Service.
        if len(callers) < 2 and not (number in declared and number in targets):
            continue
        yield Finding(
            "service.port-not-offered",
            service.ref,
            Certainty.LIKELY,
            (
                cite(Source.FIELD, service.ref, "spec.ports", ", ".join(map(str, sorted(offered)))),
                *(cite(Source.FIELD, call.caller, call.at, call.text) for call in calls[:CALLERS_LIMIT]),
            ),
            f"{len(callers)} workload(s) call Service {service.namespace}/{service.name} on port {number}, "
            f"but it offers only {', '.join(map(str, sorted(offered)))}.",
            affects=_callers(traffic, service),
        )


def no_ready_endpoints(world: World) -> Iterator[Finding]:
    """A Service whose pods exist and none of which is ready: a consequence of what ails the pods."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        if service.spec.publish_not_ready_addresses:
            continue
        pods = traffic.pods(service)
        backing = traffic.backing(service)
        if backing.ready or any(pod.ready for pod in pods) or not (pods or backing.not_ready or traffic.workloads_matching(service)):
            continue
        # A pod without conditions says nothing about its readiness: recordings leave them out.
        if pods and not backing.known and all(pod.condition("Ready") is None for pod in pods):
            continue
        if pods and backing.known and not backing.not_ready and all(pod.condition("Ready") is None for pod in pods):
            continue
        count = len(pods) or backing.not_ready
        yield Finding(
            "service.no-ready-endpoints",
            service.ref,
            Certainty.PROVEN,
            (
                cite(Source.FIELD, service.ref, "spec.selector", _labels(service.spec.selector or {})),
                cite(Source.FIELD, service.ref, "endpoints", f"0 ready, {count} not ready"),
            ),
            f"Service {service.namespace}/{service.name} has no ready endpoint: none of its {count} pod(s) is ready."
            if count
            else f"Service {service.namespace}/{service.name} has no endpoint: the workload that it selects has no pods.",
            affects=_callers(traffic, service),
        )


def called_service_missing(world: World) -> Iterator[Finding]:
    """A host that callers are configured with, for which a workload of that name runs but no Service exists."""
    if Service.kind not in world.read_kinds:
        return
    traffic = world.once(Traffic)
    seen: set[tuple[str | None, str]] = set()
    for namespace in {fact.namespace for fact in (*world.all(Pod), *world.all(Deployment), *world.all(StatefulSet))}:
        names = {item.ref.name: item for item in traffic.workloads(namespace) if item.ref.kind not in ("Job", "CronJob", "Pod")}
        for call in traffic.calls(namespace):
            first, _, rest = call.host.partition(".")
            if rest and rest.split(".")[0] != namespace:
                continue
            target = names.get(first)
            if target is None or (namespace, first) in seen or target.ref.same(call.caller):
                continue
            seen.add((namespace, first))
            if world.presence(Service.kind, namespace, first) is Presence.ABSENT:
                yield _gone(traffic, target, namespace, first)


def _gone(traffic: Traffic, target: Workload, namespace: str | None, name: str) -> Finding:
    calls = traffic.callers_of(namespace, name)
    subject = ObjectRef(Service.kind, namespace, name)
    callers = tuple(dict.fromkeys(call.caller for call in calls))
    return Finding(
        "service.missing",
        subject,
        Certainty.PROVEN,
        (
            cite(Source.ABSENCE, subject, "metadata.name", f"no Service named {name} in namespace {namespace}"),
            *(cite(Source.FIELD, call.caller, call.at, call.text) for call in calls[:CALLERS_LIMIT]),
        ),
        f"Service {namespace}/{name} does not exist, though {target.ref.kind} {name} runs and "
        f"{len(callers)} workload(s) are configured to call it ({', '.join(ref.name for ref in callers[:CALLERS_LIMIT])}).",
        affects=callers,
        wants=(),
    )


def governing_service_missing(world: World) -> Iterator[Finding]:
    """A StatefulSet whose `serviceName` names no Service: its pods get no DNS names."""
    for workload in world.all(StatefulSet):
        name = workload.spec.service_name
        if not name:
            continue
        presence = world.presence(Service.kind, workload.namespace, name)
        if presence is Presence.PRESENT or unreadable(world, Service.kind):
            continue
        proven = presence is Presence.ABSENT
        yield Finding(
            "service.governing-missing",
            workload.ref,
            Certainty.LIKELY if proven else Certainty.POSSIBLE,
            (
                cite(Source.FIELD, workload.ref, "spec.serviceName", name),
                cite(Source.ABSENCE, ObjectRef(Service.kind, workload.namespace, name), "metadata.name", "no such Service was found"),
            ),
            f"StatefulSet {workload.namespace}/{workload.name} names Service {name} as its governing Service, which "
            f"{'does not exist' if proven else 'was not found'}; its pods have no DNS names of their own.",
            wants=() if proven else (ObjectsWant(Service.kind, workload.namespace),),
            lacks="" if proven else "a complete list of Services",
        )


def external_name_missing(world: World) -> Iterator[Finding]:
    """An ExternalName Service that points at a cluster-internal name which does not exist."""
    for service in world.all(Service):
        host = service.spec.external_name or ""
        parts = host.rstrip(".").split(".")
        if service.spec.type != "ExternalName" or len(parts) < 3 or parts[2] != "svc":
            continue
        if world.presence(Service.kind, parts[1], parts[0]) is Presence.ABSENT:
            yield Finding(
                "service.external-name-missing",
                service.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, service.ref, "spec.externalName", host),
                    cite(Source.ABSENCE, ObjectRef(Service.kind, parts[1], parts[0]), "metadata.name", "no such Service"),
                ),
                f"Service {service.namespace}/{service.name} is an alias of {host}, and no such Service exists.",
                affects=_callers(world.once(Traffic), service),
            )


def local_traffic_without_endpoint(world: World) -> Iterator[Finding]:
    """`internalTrafficPolicy: Local` while a caller runs on a node without a ready endpoint: its connections are dropped."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        pods = traffic.pods(service)
        if service.spec.internal_traffic_policy != "Local" or not pods:
            continue
        served = {pod.spec.node_name for pod in pods if pod.ready}
        stranded = [
            pod
            for caller in dict.fromkeys(call.caller for call in traffic.callers_of(service.namespace, service.name))
            for pod in world.pods_of(caller)
            if pod.spec.node_name and pod.spec.node_name not in served and not pod.finished
        ]
        if not served or not stranded:
            continue
        nodes = sorted({pod.spec.node_name or "" for pod in stranded})
        yield Finding(
            "service.local-traffic-policy",
            service.ref,
            Certainty.LIKELY,
            (
                cite(Source.FIELD, service.ref, "spec.internalTrafficPolicy", "Local"),
                cite(Source.FIELD, service.ref, "endpoints[*].nodeName", ", ".join(sorted(name or "" for name in served))),
                *(cite(Source.FIELD, pod.ref, "spec.nodeName", pod.spec.node_name) for pod in stranded[:3]),
            ),
            f"Service {service.namespace}/{service.name} serves only callers on a node of its own pods (internalTrafficPolicy Local); "
            f"{len(stranded)} calling pod(s) run on {', '.join(nodes[:5])}, where it has none.",
            affects=tuple(pod.ref for pod in stranded[:CALLERS_LIMIT]),
        )


def load_balancer_failed(world: World) -> Iterator[Finding]:
    """A LoadBalancer Service for which the cloud controller reports errors and that still has no address."""
    for service in world.all(Service):
        if service.spec.type != "LoadBalancer" or service.status.load_balancer.ingress:
            continue
        events = world.events(service.ref, "SyncLoadBalancerFailed", "CreatingLoadBalancerFailed", "UpdateLoadBalancerFailed")
        if events:
            last: Event = events[-1]
            yield Finding(
                "service.load-balancer-failed",
                service.ref,
                Certainty.PROVEN,
                (
                    cite(Source.EVENT, service.ref, last.reason, last.text, last.last_seen),
                    cite(Source.FIELD, service.ref, "status.loadBalancer.ingress", "empty"),
                ),
                f"Service {service.namespace}/{service.name} waits for a load balancer that cannot be made: {last.text}",
                since=events[0].first_seen,
            )


def _selecting(world: World) -> Iterator[Service]:
    return (item for item in world.all(Service) if item.spec.selector and item.spec.type != "ExternalName" and not item.deleting)


def _one_per_owner(world: World, pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """One pod per workload, a ready one where there is one: their templates are alike."""
    chosen: dict[ObjectRef, Pod] = {}
    for pod in pods:
        owner = world.top_owner(pod.ref)
        if owner not in chosen or (pod.ready and not chosen[owner].ready):
            chosen[owner] = pod
    return tuple(chosen.values())


def _callers(traffic: Traffic, service: Service) -> tuple[ObjectRef, ...]:
    return tuple(dict.fromkeys(call.caller for call in traffic.callers_of(service.namespace, service.name)))


def _logs_of(pod: Pod) -> tuple[LogWant, ...]:
    return tuple(LogWant(ContainerRef(pod.namespace or "", pod.name, item.name)) for item in pod.spec.containers[:1])


def _likeness(wanted: str, found: str | None) -> float:
    if found is None:
        return 0.0
    if wanted == found:
        return 1.0
    return difflib.SequenceMatcher(None, wanted, found).ratio() if wanted and found else 0.0


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "(none)"


def _difference(selector: dict[str, str], labels: dict[str, str]) -> str:
    differing = [
        f"{key}={labels[key]}" if key in labels else f"no label {key}" for key in sorted(selector) if labels.get(key) != selector[key]
    ]
    return ", ".join(differing)


DETECTORS: tuple[Detector, ...] = (
    selector_matches_nothing,
    selects_another_workload,
    target_port_mismatch,
    protocol_mismatch,
    port_not_offered,
    no_ready_endpoints,
    called_service_missing,
    governing_service_missing,
    external_name_missing,
    local_traffic_without_endpoint,
    load_balancer_failed,
)
