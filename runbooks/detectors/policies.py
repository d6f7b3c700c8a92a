"""Network policies that cut declared traffic or select nothing, DNS that cannot answer, and admission policies that refused something.

A blocked connection leaves no trace in the API: the finding is the evaluation of the policies between a declared caller and its
target. It never claims more than the declared calls support.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from cluster.facts.config import ConfigMap
from cluster.facts.event import Event
from cluster.facts.network import NetworkPolicy, PolicyPeer, PolicyPort, Service
from cluster.facts.node import Namespace
from cluster.facts.pod import Pod, PodSpec
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.detectors.services import unreadable
from runbooks.finding import Certainty, Detector, Finding, LogWant, ObjectsWant, Source, cite
from runbooks.traffic import Traffic, is_system, target_of

DNS_PORT = 53
EXAMPLES_LIMIT = 6
NAMESPACE_NAME = "kubernetes.io/metadata.name"
_DNS_NAMES = ("coredns", "kube-dns")
_LOOP = re.compile(r"plugin/loop: Loop \(.*\) detected")
_DNS_FAILURE = re.compile(r"\[(?:FATAL|ERROR)\]|SERVFAIL|i/o timeout")
# `template` answers of the Corefile that deny names instead of resolving them (https://coredns.io/plugins/template/).
_DENIED_ZONE = re.compile(
    r"template\s+\S+\s+\S+(?:\s+(?P<zone>[^\s{]+))?\s*\{(?P<body>[^}]*)\brcode\s+(?P<rcode>NXDOMAIN|SERVFAIL|REFUSED)", re.DOTALL
)
_MATCHED = re.compile(r"^\s*match\s+(\S+)", re.MULTILINE)
_HARMLESS_ZONES = re.compile(r"in-addr\.arpa|ip6\.arpa|\.local\.$|^AAAA$")
# Envoy's own words (RBAC filter; upstream TLS failure), whichever mesh runs it.
_MESH = re.compile(r"RBAC: access denied|upstream connect error or disconnect/reset before headers.{0,120}TLS[_ ]error", re.IGNORECASE)
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
            if not _callers(world, traffic, service) and not _allows_any_ingress(peers, target):
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
    total = not policy.spec.ingress and "Ingress" in directions(policy)
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
    callers = dict.fromkeys(call.caller for call in traffic.callers_of(service.namespace, service.name))
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
        caller = callers.get(call.caller.key)
        service = world.get(Service, pods[0].namespace, call.host.partition(".")[0])
        if caller is not None and service is not None:
            yield (caller, call.host, service)


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


def _allows_any_ingress(policies: list[NetworkPolicy], target: Pod) -> bool:
    return any(policy.spec.ingress for policy in policies if _selects(policy, target, "Ingress"))


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


def dns_policy(world: World) -> Iterator[Finding]:
    """Workloads that bypass the cluster's DNS although they call Services by name, or ask a public resolver instead."""
    traffic = world.once(Traffic)
    services = world.all(Service)
    names = {(service.namespace, service.name) for service in services}
    addresses = [service.spec.cluster_ip or "" for service in services]
    for namespace in {namespace for namespace, _ in names if not is_system(namespace)}:
        calls: dict[ObjectRef, list[str]] = defaultdict(list)
        for call in traffic.calls(namespace):
            first, _, rest = call.host.partition(".")
            if ((rest.split(".")[0] if rest else namespace), first) in names:
                calls[call.caller].append(call.host)
        for workload in traffic.workloads(namespace):
            hosts = sorted(set(calls.get(workload.ref, ())))
            servers = (workload.spec.dns_config.nameservers if workload.spec.dns_config else None) or ()
            why = _bypass(workload.spec, servers, addresses)
            if why is None or not (hosts or any(_public(item) for item in servers)):
                continue
            yield Finding(
                "dns.policy-bypasses-cluster",
                workload.ref,
                Certainty.LIKELY,
                (
                    cite(Source.FIELD, workload.ref, "spec.template.spec.dnsPolicy", workload.spec.dns_policy or "ClusterFirst"),
                    cite(Source.FIELD, workload.ref, "spec.template.spec.dnsConfig.nameservers", ", ".join(servers) or "(none)"),
                    *(cite(Source.FIELD, workload.ref, "env", host) for host in hosts[:3]),
                ),
                f"{workload.ref.kind} {namespace}/{workload.ref.name} does not use the cluster's DNS ({why}); names of Services"
                f"{f', such as {hosts[0]} which it calls,' if hosts else ''} do not resolve in its pods.",
            )


def _bypass(spec: PodSpec, servers: tuple[str, ...], addresses: list[str]) -> str | None:
    """In which way a pod spec goes around the cluster's DNS; None when it does not."""
    policy = spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirst" and spec.host_network:
        # The kubelet treats ClusterFirst as Default on the host's network (K pkg/kubelet/network/dns/dns.go).
        return "hostNetwork with dnsPolicy ClusterFirst; ClusterFirstWithHostNet would use it"
    inside = any(address.split(".")[:2] == server.split(".")[:2] for server in servers for address in addresses if address.count(".") == 3)
    if policy not in ("Default", "None") or inside:
        return None
    return f"dnsPolicy {policy} with nameservers {', '.join(servers)}" if servers else f"dnsPolicy {policy}"


def _public(server: str) -> bool:
    try:
        return ipaddress.ip_address(server).is_global
    except ValueError:
        return False


def dns_configuration_denies(world: World) -> Iterator[Finding]:
    """A Corefile that answers NXDOMAIN, SERVFAIL or REFUSED for names of the cluster itself."""
    for config in world.all(ConfigMap):
        for key, text in (config.data or {}).items():
            if not ("Corefile" in key or (key.endswith((".server", ".override")) and config.name.startswith(_DNS_NAMES))):
                continue
            for found in _DENIED_ZONE.finditer(text):
                names = [*([found["zone"]] if found["zone"] else []), *_MATCHED.findall(found["body"])]
                inside = [name for name in names if "svc" in name or "cluster" in name]
                if not inside:
                    continue
                yield Finding(
                    "dns.configuration-denies",
                    config.ref,
                    Certainty.PROVEN,
                    (cite(Source.FIELD, config.ref, f"data[{key}]", " ".join(found[0].split())),),
                    f"The DNS configuration in ConfigMap {config.namespace}/{config.name} answers {found['rcode']} "
                    f"for {', '.join(inside[:3])}: "
                    "those Services cannot be found by name.",
                    affects=tuple(_denied_services(world, inside)),
                    since=_changed(config),
                )


def _denied_services(world: World, patterns: list[str]) -> Iterator[ObjectRef]:
    for service in world.all(Service):
        name = f"{service.name}.{service.namespace}.svc"
        if any(name in pattern.replace("\\", "") for pattern in patterns) and service.spec.type != "ExternalName":
            yield service.ref


def _changed(config: ConfigMap) -> datetime | None:
    """When it was last written, as far as its managed fields tell."""
    times = [item.time for item in config.metadata.managed_fields or () if item.time is not None]
    return max(times, default=config.created)


def dns_server_failing(world: World) -> Iterator[Finding]:
    """The cluster's DNS server is not running, or its log says that it cannot answer."""
    for service in world.all(Service):
        if service.name not in _DNS_NAMES or service.namespace != "kube-system":
            continue
        pods = [pod for pod in world.pods_selected(service.namespace, service.spec.selector or {}) if not pod.finished and not pod.deleting]
        ready = [pod for pod in pods if pod.ready]
        logged = next(iter(_dns_log(world, pods)), None)
        if ready and logged is None:
            continue
        if not pods and Pod.kind not in world.read_kinds:
            continue
        subject = world.top_owner(pods[0].ref) if pods else service.ref
        evidence = [cite(Source.FIELD, service.ref, "endpoints", f"{len(ready)} of {len(pods)} DNS pods are ready")]
        if logged is not None:
            evidence.append(cite(Source.LOG, logged[0].pod_ref, f"log[{logged[0].container}]", logged[1]))
        yield Finding(
            "dns.server-failing",
            subject,
            Certainty.PROVEN if not ready else Certainty.LIKELY,
            tuple(evidence),
            f"The cluster's DNS ({subject.kind} {subject.namespace}/{subject.name}) has {len(ready)} of {len(pods)} pods ready"
            f"{f' and logs: {logged[1][:160]}' if logged else ''}. Names do not resolve anywhere in the cluster.",
            affects=(service.ref,),
            wants=tuple(
                LogWant(ContainerRef(pod.namespace or "", pod.name, pod.spec.containers[0].name)) for pod in pods[:1] if pod.spec.containers
            ),
        )


def _dns_log(world: World, pods: list[Pod]) -> Iterator[tuple[ContainerRef, str]]:
    for pod in pods:
        for container in pod.spec.containers:
            ref = ContainerRef(pod.namespace or "", pod.name, container.name)
            for previous in (False, True):
                reading = world.logs.get((ref, previous))
                for line in reading.value.lines if reading is not None else ():
                    if _LOOP.search(line) or (_DNS_FAILURE.search(line) and "FATAL" in line):
                        yield (ref, line)


def admission_policy_violation(world: World) -> Iterator[Finding]:
    """Something that a policy engine refused: the event carries the rule's own words."""
    seen: set[tuple[ObjectRef, str]] = set()
    for event in world.all(Event):
        if not event.warning and event.reason != "PolicyViolation":
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
            subject = world.top_owner(container.pod_ref)
            yield Finding(
                "mesh.connection-denied",
                subject,
                Certainty.LIKELY,
                (cite(Source.LOG, container.pod_ref, f"log[{container.container}]", lines[-1]),),
                f"The service mesh refuses connections of {subject.kind} {subject.namespace}/{subject.name} ({len(lines)} log line(s)): "
                f"{lines[-1].strip()[:160]}",
            )


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
    dns_policy,
    dns_configuration_denies,
    dns_server_failing,
    admission_policy_violation,
    mesh_denies,
)
