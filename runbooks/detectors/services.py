"""Services that lead nowhere or to the wrong pods: selectors, missing governing Services and aliases, local traffic policy.

Ports are judged in `ports`; addresses that callers are configured with, in `addresses`.
Limits: no traffic is measured; selectors, endpoints and declared calls tell.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from cluster.facts.event import Event
from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.facts.workload import StatefulSet
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Finding, ObjectsWant, Source, cite
from runbooks.traffic import Backing, Traffic, Workload, is_system, last_applied, target_of
from runbooks.visibility import unreadable

NEAREST_LIMIT = 3
CALLERS_LIMIT = 8
# Below this likeness two label values are unrelated words (difflib ratio).
LIKENESS = 0.6


def selector_matches_nothing(world: World) -> Iterator[Finding]:
    """A Service whose selector fits no pod and no pod template."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        if traffic.pods(service) or traffic.workloads_matching(service):
            continue
        # Pods that have done their work still show whom it was meant for.
        if world.pods_selected(service.namespace, service.spec.selector or {}):
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
        if not pods or any(item.ref.name == service.name for item in traffic.workloads_matching(service)):
            continue
        own = [item for item in traffic.workloads(service.namespace) if item.ref.name == service.name and item.labels]
        if not own:
            continue
        owners = {world.top_owner(pod.ref) for pod in pods}
        # Labels that a controller adds to pods (job-name, ordinals) stand in no template.
        if any(owner.name == service.name for owner in owners):
            continue
        others = [world.get(Service, service.namespace, owner.name) for owner in owners]
        if not all(other is not None and pods[0] in traffic.pods(other) for other in others):
            continue
        selector, served = service.spec.selector or {}, min(owners, key=str)
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


def selects_others_too(world: World) -> Iterator[Finding]:
    """A Service that selects, beside the workload of its name, pods of others that have Services of their own and do not listen where it
    sends: part of its traffic is lost."""
    traffic = world.once(Traffic)
    for service in _selecting(world):
        matching = traffic.workloads_matching(service)
        own = next((item for item in matching if item.ref.name == service.name), None)
        if own is None or len(matching) < 2 or service.spec.cluster_ip == "None":
            continue
        served = traffic.services_of(own.ref)
        wanted = _targets(service, own)
        strangers = [
            item
            for item in matching
            if item is not own
            and any(other not in served and other.name == item.ref.name for other in traffic.services_of(item.ref))
            and any(pod.ready for pod in world.pods_of(item.ref))
            and wanted
            and _container_ports(item)
            and not wanted <= _container_ports(item)
        ]
        if not strangers:
            continue
        selector = service.spec.selector or {}
        applied = _applied_selector(service)
        names = ", ".join(item.ref.name for item in strangers[:5])
        yield Finding(
            "service.selects-others-too",
            service.ref,
            Certainty.PROVEN if applied not in ({}, selector) else Certainty.LIKELY,
            (
                cite(Source.FIELD, service.ref, "spec.selector", _labels(selector)),
                cite(Source.FIELD, own.ref, "spec.template.metadata.labels", _labels(own.labels)),
                *(cite(Source.FIELD, item.ref, "spec.template.metadata.labels", _labels(item.labels)) for item in strangers[:3]),
            ),
            f"Service {service.namespace}/{service.name} selects {_labels(selector)}, which the pods of {names} carry too; they do not "
            f"listen on {', '.join(map(str, sorted(wanted)))}, so that part of its traffic is lost.",
            affects=(own.ref, *_callers(traffic, service)),
        )


def _targets(service: Service, workload: Workload) -> frozenset[int]:
    """The container ports of a workload to which a Service sends; empty when one of its named ports is not known."""
    named = {port.name: port.container_port for item in workload.spec.containers for port in item.ports or () if port.name}
    resolved = {named.get(target, 0) if isinstance(target, str) else target for target in map(target_of, service.spec.ports or ())}
    return frozenset() if 0 in resolved else frozenset(resolved)


def _container_ports(workload: Workload) -> frozenset[int]:
    return frozenset(port.container_port for item in workload.spec.containers for port in item.ports or ())


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
        if not count and not backing.known and unreadable(world, Pod.kind):
            continue
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


def no_endpoints_given(world: World) -> Iterator[Finding]:
    """A Service without a selector that others call and for which nobody has written endpoints."""
    traffic = world.once(Traffic)
    for service in world.all(Service):
        if service.spec.selector or service.spec.type == "ExternalName" or is_system(service.namespace):
            continue
        backing = traffic.backing(service)
        callers = _callers(traffic, service)
        if not backing.known or backing.ready or backing.not_ready or not callers:
            continue
        yield Finding(
            "service.no-endpoints-given",
            service.ref,
            Certainty.LIKELY,
            (
                cite(Source.FIELD, service.ref, "spec.selector", "none"),
                cite(Source.FIELD, service.ref, "endpoints", "0 addresses"),
            ),
            f"Service {service.namespace}/{service.name} has no selector and nobody has given it endpoints, though it is called.",
            affects=callers,
        )


def governing_service_missing(world: World) -> Iterator[Finding]:
    """A StatefulSet whose `serviceName` names no Service: its pods get no DNS names. One that is scaled to zero has no pods to name."""
    for workload in world.all(StatefulSet):
        name = workload.spec.service_name
        if not name or workload.spec.replicas == 0:
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
            for caller in dict.fromkeys(call.workload for call in traffic.callers_of(service.namespace, service.name))
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


def _callers(traffic: Traffic, service: Service) -> tuple[ObjectRef, ...]:
    return tuple(dict.fromkeys(call.workload for call in traffic.callers_of(service.namespace, service.name)))


def _applied_selector(service: Service) -> dict[str, str]:
    selector = (last_applied(service).get("spec") or {}).get("selector")
    return {str(key): str(value) for key, value in selector.items()} if isinstance(selector, dict) else {}


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
    selects_others_too,
    no_ready_endpoints,
    no_endpoints_given,
    governing_service_missing,
    external_name_missing,
    local_traffic_without_endpoint,
    load_balancer_failed,
)
