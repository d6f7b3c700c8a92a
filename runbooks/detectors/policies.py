"""Network policies that cut declared traffic or select nothing, meshes that refuse it, and admission policies that refused an object.

Limits: a blocked connection leaves no trace in the API: the finding is the evaluation of the policies between a declared caller and its
target. It never claims more than the declared calls support.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from cluster.facts.event import CustomObject, Event
from cluster.facts.network import NetworkPolicy, PolicyPeer, PolicyPort, Service
from cluster.facts.node import Namespace
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, ObjectsWant, Source, cite
from runbooks.traffic import Traffic, is_system, target_of
from runbooks.visibility import unreadable

DNS_PORT = 53
EXAMPLES_LIMIT = 6
NAMESPACE_NAME = "kubernetes.io/metadata.name"
# Envoy's own words (RBAC filter; upstream TLS failure), whichever mesh runs it.
_MESH = re.compile(r"RBAC: access denied|upstream connect error or disconnect/reset before headers.{0,120}TLS[_ ]error", re.IGNORECASE)
_WORDS = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_DENIALS = (
    re.compile(r"admission webhook \"(?P<by>[^\"]+)\" denied the request: (?P<why>.*)", re.DOTALL),
    re.compile(r"ValidatingAdmissionPolicy '(?P<by>[^']+)'.* denied request: (?P<why>.*)", re.DOTALL),
)


def policy_blocks_traffic(world: World) -> Iterator[Finding]:
    """A policy that isolates pods which others are declared to call (or which are served by a Service), and lets none of them in."""
    policies = world.all(NetworkPolicy)
    if not policies:
        return
    traffic = world.once(Traffic)
    grouped: dict[str | None, list[NetworkPolicy]] = defaultdict(list)
    for policy in policies:
        grouped[policy.namespace].append(policy)
    for policy in policies:
        if policy.spec.pod_selector.empty and is_system(policy.namespace):
            continue
        pods = [pod for pod in world.pods_in(policy.namespace) if not pod.finished and policy.spec.pod_selector.matches(pod.labels)]
        if pods:
            yield from _blocked(world, traffic, policy, pods, grouped[policy.namespace])


def _blocked(world: World, traffic: Traffic, policy: NetworkPolicy, pods: list[Pod], peers: list[NetworkPolicy]) -> Iterator[Finding]:
    cut: list[str] = []
    affected: list[ObjectRef] = []
    if "Ingress" in directions(policy):
        for service in _services_of(world, pods):
            target = next(pod for pod in pods if service in world.services_selecting(pod))
            for caller in _callers(world, traffic, service):
                if not _lets_in(world, peers, target, caller, service):
                    cut.append(f"{caller.name} -> Service {service.name}")
                    affected += [world.top_owner(caller.ref), service.ref]
            # Nobody is declared to call it, but a Service exists so that somebody can.
            if not _callers(world, traffic, service) and not _allows_any_ingress(world, peers, target):
                cut.append(f"anything -> Service {service.name}")
                affected.append(service.ref)
    if "Egress" in directions(policy):
        for caller, host, service in _outgoing(world, traffic, pods):
            if not any(_allows_dns(item) for item in peers if _selects(item, caller, "Egress")):
                cut.append(f"{caller.name} -> DNS (port {DNS_PORT}), needed to find {host}")
                affected.append(world.top_owner(caller.ref))
            elif not _lets_out(world, peers, caller, service):
                cut.append(f"{caller.name} -> Service {service.name}")
                affected.append(world.top_owner(caller.ref))
    if not cut:
        return
    named = any("anything" not in item for item in cut)
    total = "Ingress" in directions(policy) and not _allows_any_ingress(world, [policy], pods[0])
    denies_all_by_design = policy.spec.pod_selector.empty and len(peers) > 1
    certainty = Certainty.LIKELY if (named or total) and not denies_all_by_design else Certainty.POSSIBLE
    owners = sorted({world.top_owner(pod.ref).name for pod in pods})
    yield Finding(
        "policy.blocks-traffic",
        policy.ref,
        certainty,
        (
            cite(Source.FIELD, policy.ref, "spec.podSelector", _selector(policy)),
            cite(Source.FIELD, policy.ref, "spec.ingress", _rules(policy.spec.ingress)),
            cite(Source.FIELD, policy.ref, "spec.egress", _rules(policy.spec.egress)),
            *(cite(Source.FIELD, policy.ref, "evaluation", item) for item in cut[:EXAMPLES_LIMIT]),
        ),
        f"NetworkPolicy {policy.namespace}/{policy.name} isolates {len(pods)} pod(s) of {', '.join(owners[:5])} "
        f"({' and '.join(directions(policy)).lower()}) and no policy allows: {'; '.join(cut[:EXAMPLES_LIMIT])}.",
        affects=tuple(dict.fromkeys((*(pod.ref for pod in pods[:50]), *affected))),
        since=policy.created,
        lacks="" if certainty > Certainty.POSSIBLE else "a failed connection, or a caller that is declared to need it",
    )


def cut_from_dns(world: World, pod: Pod) -> NetworkPolicy | None:
    """The policy that isolates a pod's outgoing traffic when no policy lets it ask the DNS; None when it may."""
    isolating = [item for item in world.all(NetworkPolicy) if item.namespace == pod.namespace and _selects(item, pod, "Egress")]
    return isolating[0] if isolating and not any(_allows_dns(item) for item in isolating) else None


def directions(policy: NetworkPolicy) -> tuple[str, ...]:
    """Where a policy isolates its pods; defaulted as the API server does (Egress only when egress rules are given)."""
    if policy.spec.policy_types is not None:
        return policy.spec.policy_types
    return ("Ingress", "Egress") if policy.spec.egress else ("Ingress",)


def _selects(policy: NetworkPolicy, pod: Pod, direction: str) -> bool:
    return direction in directions(policy) and policy.spec.pod_selector.matches(pod.labels)


def _services_of(world: World, pods: Iterable[Pod]) -> tuple[Service, ...]:
    return tuple({service.ref: service for pod in pods for service in world.services_selecting(pod)}.values())


def _callers(world: World, traffic: Traffic, service: Service) -> tuple[Pod, ...]:
    """One living pod of each workload that is declared to call a Service."""
    callers = dict.fromkeys(call.workload for call in traffic.callers_of(service.namespace, service.name))
    found = (next((pod for pod in world.pods_of(caller) if not pod.finished), None) for caller in callers)
    return tuple(pod for pod in found if pod is not None)


def _lets_in(world: World, policies: list[NetworkPolicy], target: Pod, caller: Pod, service: Service) -> bool:
    ports = {target_of(port) for port in service.spec.ports or ()}
    return any(
        _peer_matches(world, rule.peers, caller, target.namespace) and _port_matches(rule.ports, ports, target)
        for policy in policies
        if _selects(policy, target, "Ingress")
        for rule in policy.spec.ingress or ()
    )


def _outgoing(world: World, traffic: Traffic, pods: list[Pod]) -> Iterator[tuple[Pod, str, Service]]:
    """(pod, host, Service) of the declared calls of some pods to Services of their own namespace, one pod per workload."""
    callers = {world.top_owner(pod.ref).key: pod for pod in pods}
    for call in traffic.calls(pods[0].namespace):
        caller = callers.get(call.workload.key)
        service = world.get(Service, pods[0].namespace, call.address.host.partition(".")[0])
        if caller is not None and service is not None:
            yield (caller, call.address.host, service)


def _lets_out(world: World, policies: list[NetworkPolicy], caller: Pod, service: Service) -> bool:
    targets = [pod for pod in world.pods_selected(service.namespace, service.spec.selector or {}) if not pod.finished]
    if not targets:
        return True
    ports = {target_of(port) for port in service.spec.ports or ()}
    return any(
        _peer_matches(world, rule.peers, targets[0], caller.namespace) and _port_matches(rule.ports, ports, targets[0])
        for policy in policies
        if _selects(policy, caller, "Egress")
        for rule in policy.spec.egress or ()
    )


def _allows_any_ingress(world: World, policies: list[NetworkPolicy], target: Pod) -> bool:
    """Whether some rule lets in somebody who may exist: a rule for namespaces of which there is none lets in nobody."""
    rules = [rule for policy in policies if _selects(policy, target, "Ingress") for rule in policy.spec.ingress or ()]
    return any(not rule.peers or any(_may_exist(world, peer) for peer in rule.peers) for rule in rules)


def _may_exist(world: World, peer: PolicyPeer) -> bool:
    if peer.namespace_selector is None or Namespace.kind not in world.read_kinds or unreadable(world, Namespace.kind):
        return True
    return any(peer.namespace_selector.matches({NAMESPACE_NAME: item.name, **item.labels}) for item in world.all(Namespace))


def _peer_matches(world: World, peers: tuple[PolicyPeer, ...] | None, pod: Pod, home: str | None) -> bool:
    if not peers:
        return True
    for peer in peers:
        if peer.ip_block is not None:
            # Pod addresses against CIDRs are not evaluated: an address block counts as letting the caller in.
            return True
        if peer.namespace_selector is None:
            inside = pod.namespace == home
        else:
            namespace = world.get(Namespace, None, pod.namespace or "")
            labels = {NAMESPACE_NAME: pod.namespace or "", **(namespace.labels if namespace else {})}
            inside = peer.namespace_selector.matches(labels)
        if inside and (peer.pod_selector is None or peer.pod_selector.matches(pod.labels)):
            return True
    return False


def _port_matches(allowed: tuple[PolicyPort, ...] | None, wanted: set[int | str], target: Pod) -> bool:
    if not allowed or not wanted:
        return True
    numbers = {port.name: port.container_port for container in target.spec.containers for port in container.ports or () if port.name}
    resolved = {numbers.get(item, item) if isinstance(item, str) else item for item in wanted}
    for port in allowed:
        first = numbers.get(port.port, port.port) if isinstance(port.port, str) else port.port
        if first is None or first in resolved:
            return True
        if port.end_port and isinstance(first, int) and any(isinstance(item, int) and first <= item <= port.end_port for item in resolved):
            return True
    return False


def _allows_dns(policy: NetworkPolicy) -> bool:
    for rule in policy.spec.egress or ():
        # A peer by its pod labels alone is one of the policy's own namespace, and the DNS server lives in another.
        if rule.peers and policy.namespace != "kube-system" and not any(peer.ip_block or peer.namespace_selector for peer in rule.peers):
            continue
        if not rule.ports:
            return True
        if any(port.port in (DNS_PORT, "dns", None) or (port.end_port or 0) >= DNS_PORT >= _number(port.port) for port in rule.ports):
            return True
    return False


def _number(port: int | str | None) -> int:
    return port if isinstance(port, int) else 65_536


def policy_selects_nothing(world: World) -> Iterator[Finding]:
    """A NetworkPolicy whose selector fits no pod and no pod template: it protects nothing."""
    traffic = world.once(Traffic)
    for policy in world.all(NetworkPolicy):
        selector = policy.spec.pod_selector
        if selector.empty or unreadable(world, Pod.kind):
            continue
        if any(selector.matches(pod.labels) for pod in world.pods_in(policy.namespace)):
            continue
        if any(selector.matches(item.labels) for item in traffic.workloads(policy.namespace)):
            continue
        seen = Pod.kind in world.read_kinds
        yield Finding(
            "policy.no-match",
            policy.ref,
            Certainty.PROVEN if seen else Certainty.POSSIBLE,
            (
                cite(Source.FIELD, policy.ref, "spec.podSelector", _selector(policy)),
                cite(Source.ABSENCE, policy.ref, "pods", f"no pod in namespace {policy.namespace} matches"),
            ),
            f"NetworkPolicy {policy.namespace}/{policy.name} selects {_selector(policy)}, which no pod in its namespace carries.",
            wants=() if seen else (ObjectsWant(Pod.kind, policy.namespace),),
            lacks="" if seen else "the pods of the namespace",
        )


def admission_policy_violation(world: World) -> Iterator[Finding]:
    """Something that a policy engine refused: the event carries the rule's own words."""
    seen: set[tuple[ObjectRef, str]] = set()
    for event in world.all(Event):
        if not event.warning and event.reason != "PolicyViolation":
            continue
        # A controller's refused creations are the admission family's, which knows when they are over.
        if event.reason == "FailedCreate" and world.find(event.subject) is not None:
            continue
        match = next((found for pattern in _DENIALS if (found := pattern.search(event.text))), None)
        if match is None and event.reason != "PolicyViolation":
            continue
        by = match["by"] if match else event.source.component or event.reporting_component or "a policy"
        why = match["why"] if match else event.text
        subject = world.top_owner(event.subject)
        if (subject, by) in seen:
            continue
        seen.add((subject, by))
        yield Finding(
            "policy.violation",
            subject,
            Certainty.PROVEN if match else Certainty.LIKELY,
            (cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen),),
            f"{subject.kind} {subject.namespace or ''}/{subject.name} violates a policy enforced by {by}: {why}",
            since=event.first_seen,
        )


def mesh_denies(world: World) -> Iterator[Finding]:
    """A proxy of the service mesh that refuses or breaks connections, by its own words in a log."""
    for (container, _), reading in world.logs.items():
        lines = [line for line in reading.value.lines if _MESH.search(line)]
        if lines:
            speaker = subject = world.top_owner(container.pod_ref)
            denying = _denying_policies(world, subject.namespace, lines[-1]) if any("RBAC" in line for line in lines) else ()
            subject = denying[0] if len(denying) == 1 else speaker
            yield Finding(
                "mesh.connection-denied",
                subject,
                Certainty.LIKELY,
                (cite(Source.LOG, container.pod_ref, f"log[{container.container}]", lines[-1]),),
                f"The service mesh refuses connections of {speaker.kind} {speaker.namespace}/{speaker.name} ({len(lines)} log line(s)): "
                f"{lines[-1].strip()[:160]}",
                affects=(speaker,),
            )


def _denying_policies(world: World, namespace: str | None, line: str) -> tuple[ObjectRef, ...]:
    """The AuthorizationPolicies of a namespace that deny: by their action, or because they allow only others to reach the pods behind the
    Service that a line names (istio.io/latest/docs/reference/config/security/authorization-policy: one ALLOW closes the rest)."""
    words = set(_WORDS.findall(line))
    named = [service for service in world.all(Service) if service.namespace == namespace and service.name in words]
    called = [pod.labels for service in named if service.spec.selector for pod in world.pods_selected(namespace, service.spec.selector)]
    denying = []
    for item in world.custom("AuthorizationPolicy"):
        if item.namespace != namespace or not isinstance(item, CustomObject) or not isinstance(item.spec, dict):
            continue
        selector = (item.spec.get("selector") or {}).get("matchLabels") or {}
        reaches = any(selector.items() <= labels.items() for labels in called)
        if item.spec.get("action") == "DENY" or (item.spec.get("action", "ALLOW") == "ALLOW" and reaches):
            denying.append(item.ref)
    return tuple(denying)


def _selector(policy: NetworkPolicy) -> str:
    selector = policy.spec.pod_selector
    parts = [f"{key}={value}" for key, value in sorted((selector.match_labels or {}).items())]
    parts += [f"{item.key} {item.operator} {','.join(item.values or ())}".strip() for item in selector.match_expressions or ()]
    return "; ".join(parts) or "all pods"


def _rules(rules: tuple[object, ...] | None) -> str:
    return f"{len(rules)} rule(s)" if rules else "no rule, so nothing is allowed"


DETECTORS: tuple[Detector, ...] = (
    policy_blocks_traffic,
    policy_selects_nothing,
    admission_policy_violation,
    mesh_denies,
)
