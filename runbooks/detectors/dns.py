"""Names that do not resolve: pods that bypass the cluster's DNS, a configuration that denies names, a server that is down.

Limits: no name is looked up; logs, the server's configuration and its pods tell.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from cluster.facts.config import ConfigMap
from cluster.facts.network import Service
from cluster.facts.pod import Pod, PodSpec
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies
from runbooks.detectors.policies import cut_from_dns
from runbooks.finding import Certainty, Detector, Finding, LogWant, Source, cite
from runbooks.logs import Sign
from runbooks.testimony import Testimony, testimonies
from runbooks.traffic import Traffic, is_system

_DNS_NAMES = ("coredns", "kube-dns")
_LOOP = re.compile(r"plugin/loop: Loop \(.*\) detected")
_DNS_FAILURE = re.compile(r"\[(?:FATAL|ERROR)\]|SERVFAIL|i/o timeout")
# `template` answers of the Corefile that deny names instead of resolving them (https://coredns.io/plugins/template/).
_DENIED_ZONE = re.compile(
    r"template\s+\S+\s+\S+(?:\s+(?P<zone>[^\s{]+))?\s*\{(?P<body>[^}]*)\brcode\s+(?P<rcode>NXDOMAIN|SERVFAIL|REFUSED)", re.DOTALL
)
_MATCHED = re.compile(r"^\s*match\s+(\S+)", re.MULTILINE)
_HARMLESS_ZONES = re.compile(r"in-addr\.arpa|ip6\.arpa|\.local\.$|^AAAA$")


def dns_policy(world: World) -> Iterator[Finding]:
    """Workloads that bypass the cluster's DNS although they call Services by name, or ask a public resolver instead."""
    traffic = world.once(Traffic)
    services = world.all(Service)
    names = {(service.namespace, service.name) for service in services}
    addresses = [service.spec.cluster_ip or "" for service in services]
    for namespace in {namespace for namespace, _ in names if not is_system(namespace)}:
        calls: dict[ObjectRef, list[str]] = defaultdict(list)
        for call in traffic.calls(namespace):
            first, _, rest = call.address.host.partition(".")
            if ((rest.split(".")[0] if rest else namespace), first) in names:
                calls[call.workload].append(call.address.host)
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


def host_alias_shadows_service(world: World) -> Iterator[Finding]:
    """An entry of /etc/hosts (`hostAliases`) that gives the name of a Service another address than the Service has: it is asked first.

    A loopback address is meant where the pod is one of those that the Service selects, or has a proxy beside it.
    """
    traffic, names = world.once(Traffic), world.once(Dependencies)
    for namespace in {service.namespace for service in world.all(Service)}:
        for workload in traffic.workloads(namespace):
            for alias in workload.spec.host_aliases or ():
                shadowed = [
                    (name, service)
                    for name in alias.hostnames or ()
                    if (service := names.resolve(namespace, name).service) is not None
                    and alias.ip not in _addresses(world, service)
                    and not (_loopback(alias.ip) and (_accompanied(workload.spec) or service.ref in traffic.services_of(workload.ref)))
                ]
                if not shadowed:
                    continue
                name, service = shadowed[0]
                yield Finding(
                    "dns.host-alias-shadows-service",
                    workload.ref,
                    Certainty.PROVEN,
                    (
                        cite(Source.FIELD, workload.ref, "spec.template.spec.hostAliases", f"{alias.ip} {' '.join(alias.hostnames or ())}"),
                        cite(Source.FIELD, service.ref, "spec.clusterIP", service.spec.cluster_ip or "(none)"),
                    ),
                    f"{workload.ref.kind} {namespace}/{workload.ref.name} has an entry in /etc/hosts (hostAliases) that leads {name} to "
                    f"{alias.ip} and not to Service {service.namespace}/{service.name}; the DNS is not asked for that name.",
                    affects=(service.ref,),
                )


def _addresses(world: World, service: Service) -> frozenset[str]:
    """The addresses under which a Service answers: its own and those of its pods."""
    own = {service.spec.cluster_ip or "", *(item.ip or "" for item in service.status.load_balancer.ingress or ())}
    pods = world.pods_selected(service.namespace, service.spec.selector or {}) if service.spec.selector else ()
    return frozenset(own | {pod.status.pod_ip or "" for pod in pods})


def _accompanied(spec: PodSpec) -> bool:
    """Whether another program runs beside the first one in the pod."""
    return len(spec.containers) > 1 or any(item.is_sidecar for item in spec.init_containers or ())


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


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


def known_names_unresolved(world: World) -> Iterator[Finding]:
    """Programs that cannot resolve the name of a Service that exists: the name is right, so the resolution is not."""
    if not world.logs:
        return
    dependencies = world.once(Dependencies)
    heard: dict[ObjectRef, list[tuple[Testimony, Sign]]] = defaultdict(list)
    for testimony in world.once(testimonies):
        if _bypass(testimony.pod.spec, (), []) is not None or cut_from_dns(world, testimony.pod) is not None:
            continue
        for sign in testimony.signs:
            if sign.kind == "unknown-host" and sign.host is not None:
                found = dependencies.resolve(testimony.pod.namespace, sign.host)
                if found.service is not None and _resolves(world, found.service) and _well_formed(sign.host):
                    heard[found.service.ref].append((testimony, sign))
    if not heard:
        return
    said = [pair for pairs in heard.values() for pair in pairs]
    subject = _dns_object(world) or min(heard, key=str)
    names = ", ".join(sorted({f"{ref.name}.{ref.namespace}" for ref in heard})[:5])
    callers = tuple(dict.fromkeys(testimony.workload for testimony, _ in said))
    yield Finding(
        "dns.name-unresolved",
        subject,
        Certainty.LIKELY,
        (
            *(testimony.quote(sign) for testimony, sign in said[:4]),
            *(cite(Source.FIELD, ref, "metadata.name", "the Service exists") for ref in sorted(heard, key=str)[:2]),
        ),
        f"{', '.join(ref.name for ref in callers[:4])} cannot resolve {names}, though the Service exists: the DNS does not answer for it.",
        affects=(*callers, *heard),
        lacks="the configuration and the log of the DNS server",
    )


def _resolves(world: World, service: Service) -> bool:
    """Whether the name of a Service should resolve. A headless one has no address but those of its ready pods."""
    if service.spec.type == "ExternalName":
        return False
    if service.spec.cluster_ip != "None" or service.spec.publish_not_ready_addresses or not service.spec.selector:
        return True
    return any(pod.ready for pod in world.pods_selected(service.namespace, service.spec.selector))


def names_unanswered(world: World) -> Iterator[Finding]:
    """Programs whose questions to the DNS get no answer, or SERVFAIL: whatever the name, the server or the way to it is at fault."""
    if not world.logs:
        return
    heard = [
        (testimony, sign)
        for testimony in world.once(testimonies)
        if cut_from_dns(world, testimony.pod) is None
        for sign in testimony.signs[:1]
        if sign.kind == "dns-unanswered"
    ]
    if not heard:
        return
    callers = tuple(dict.fromkeys(testimony.workload for testimony, _ in heard))
    names = ", ".join(sorted({sign.host for _, sign in heard if sign.host})[:5])
    yield Finding(
        "dns.unanswered",
        _dns_object(world) or ObjectRef(Service.kind, "kube-system", "kube-dns"),
        max(testimony.certainty for testimony, _ in heard) if len(callers) > 1 else min(Certainty.LIKELY, heard[0][0].certainty),
        tuple(testimony.quote(sign) for testimony, sign in heard[:6]),
        f"{', '.join(ref.name for ref in callers[:4])} get no answer from the DNS{f' for {names}' if names else ''}: the cluster's DNS"
        " server, the servers that it forwards to or the way to it is at fault.",
        affects=callers,
        lacks="the log of the DNS server",
    )


def _well_formed(host: str) -> bool:
    """Whether a name is one that the cluster's DNS answers for. NAME.NAMESPACE.svc.ANYTHING-ELSE may be a slip of the pen, and then it is
    right that it does not resolve."""
    _, separator, ending = host.rstrip(".").partition(".svc.")
    return not separator or ending == "cluster.local"


def _dns_object(world: World) -> ObjectRef | None:
    """The Corefile's ConfigMap or, failing that, the DNS Service of the cluster, where they can be seen."""
    config = next((item for item in world.all(ConfigMap) if item.namespace == "kube-system" and item.name == "coredns"), None)
    service = next((item for item in world.all(Service) if item.namespace == "kube-system" and item.name in _DNS_NAMES), None)
    return config.ref if config is not None else service.ref if service is not None else None


DETECTORS: tuple[Detector, ...] = (
    dns_policy,
    host_alias_shadows_service,
    dns_configuration_denies,
    dns_server_failing,
    known_names_unresolved,
    names_unanswered,
)
