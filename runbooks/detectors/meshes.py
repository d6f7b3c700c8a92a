"""What a service mesh is configured to do to the calls of a Service: routes into nothing, injected faults, TLS that one side refuses.

Sources: istio.io/latest/docs/reference/config/networking (VirtualService, DestinationRule) and .../security/peer_authentication. What a
proxy says in a log is for `policies`. Limits: routes by gateway, header or weight are not followed; of a question about a namespace the
rules of others are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.facts.event import CustomObject, items_of
from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.traffic import Traffic
from runbooks.visibility import unreadable

# The namespace whose PeerAuthentication counts for the whole mesh.
MESH_ROOT = "istio-system"
_PROTOCOLS = ("http", "tls", "tcp")
# Of a DestinationRule's modes those that do not speak the mesh's own TLS.
_NOT_MUTUAL = frozenset({"DISABLE", "SIMPLE"})
_OPEN = frozenset({"PERMISSIVE", "DISABLE"})
# Of the names of Services that several clusters share (Multi-Cluster Services API).
_SHARED = "svc.clusterset."
# What a match of a route may say of who calls, and not of what is called.
_CALLER = frozenset({"headers", "withoutHeaders", "queryParams", "sourceLabels", "sourceNamespace"})
# The proxy beside a program (sidecar injection), and what istio-cni writes on a pod whose calls go through its node's proxy (ambient).
_PROXY = "istio-proxy"
_AMBIENT = ("ambient.istio.io/redirection", "enabled")


def routes_to_nothing(world: World) -> Iterator[Finding]:
    """A VirtualService that sends to a subset that no DestinationRule of the host defines, or to a Service that does not exist."""
    rules = _custom(world, "DestinationRule")
    read = "DestinationRule" in world.read_kinds and not unreadable(world, "DestinationRule")
    for item in _custom(world, "VirtualService"):
        for path, destination in _destinations(item):
            where, name = _service_name(item, str(destination.get("host") or ""))
            if not name:
                continue
            subset = destination.get("subset")
            absent = world.presence(Service.kind, where, name) is Presence.ABSENT
            known = {
                str(entry.get("name")) for rule in rules if _is_about(rule, where, name) for entry in items_of(_spec(rule).get("subsets"))
            }
            unknown = subset is not None and subset not in known and read
            if not absent and not unknown:
                continue
            why = f"Service {where}/{name} does not exist" if absent else f"no DestinationRule of {name} defines subset {subset}"
            blind = "" if absent or not world.scope.namespaces else "the DestinationRules of other namespaces"
            yield _finding(
                world,
                "mesh.routes-to-nothing",
                item,
                path,
                destination,
                f"sends to nothing: {why}",
                certainty=Certainty.LIKELY if blind else Certainty.PROVEN,
                lacks=blind,
            )
            break


def faults_injected(world: World) -> Iterator[Finding]:
    """A VirtualService that delays or aborts calls on purpose: a test that was left in place."""
    for item in _custom(world, "VirtualService"):
        for number, route in enumerate(items_of(_spec(item).get("http"))):
            fault = route.get("fault")
            if not isinstance(fault, dict):
                continue
            words = [text for text in (_abort(fault.get("abort")), _delay(fault.get("delay"))) if text]
            if words:
                picked = items_of(route.get("match"))
                some = bool(picked) and all(_CALLER & set(match) for match in picked)
                told = f"injects faults: {' and '.join(words)}{', of the calls that its match picks' if some else ''}"
                yield _finding(
                    world,
                    "mesh.fault-injected",
                    item,
                    f"spec.http[{number}].fault",
                    fault,
                    told,
                    certainty=Certainty.POSSIBLE if some else Certainty.PROVEN,
                    lacks="whether those who fail are among the callers that its match picks" if some else "",
                )
                if not some:
                    break


def _abort(fault: Any) -> str:
    if not isinstance(fault, dict) or _share(fault) <= 0:
        return ""
    status = fault.get("httpStatus") or fault.get("grpcStatus") or "an error"
    return f"it answers {_share(fault):g} % of the calls with {status}"


def _delay(fault: Any) -> str:
    if not isinstance(fault, dict) or _share(fault) <= 0:
        return ""
    return f"it holds {_share(fault):g} % of the calls for {fault.get('fixedDelay') or 'a while'}"


def _share(fault: dict[str, Any]) -> float:
    """Of how many calls in a hundred; all of them where it does not say."""
    percentage = fault.get("percentage")
    value = percentage.get("value", 0) if isinstance(percentage, dict) else fault.get("percent", 100)
    return float(value) if isinstance(value, int | float) else 0.0


def tls_refused(world: World) -> Iterator[Finding]:
    """A DestinationRule that calls without the mesh's TLS while the called pods are told to accept nothing else.

    Pods without a proxy demand nothing, and calling them so is what such a rule is for.
    """
    demanded = _custom(world, "PeerAuthentication")
    strict = [item for item in demanded if _mode(item) == "STRICT" and not _spec(item).get("selector")]
    opened = {item.namespace for item in demanded if _mode(item) in _OPEN and not _spec(item).get("selector")}
    for rule in _custom(world, "DestinationRule"):
        policy = _spec(rule).get("trafficPolicy")
        tls = policy.get("tls") if isinstance(policy, dict) else None
        mode = str(tls.get("mode") or "") if isinstance(tls, dict) else ""
        where, name = _service_name(rule, str(_spec(rule).get("host") or ""))
        demands = next((item for item in strict if item.namespace in (where, MESH_ROOT)), None)
        if mode not in _NOT_MUTUAL or demands is None or (demands.namespace != where and where in opened):
            continue
        service = world.get(Service, where, name)
        pods = world.pods_selected(where, service.spec.selector or {}) if service is not None else ()
        if not any(_proxied(pod) and not any(_exempts(item, pod) for item in demanded) for pod in pods):
            continue
        proof = cite(Source.FIELD, demands.ref, "spec.mtls.mode", "STRICT")
        words = f"calls {name} with TLS mode {mode}, and PeerAuthentication {demands.namespace}/{demands.name} lets only mutual TLS in"
        yield _finding(world, "mesh.tls-refused", rule, "spec.trafficPolicy.tls", tls, words, proof)


def _mode(item: CustomObject) -> str:
    mtls = _spec(item).get("mtls")
    return str(mtls.get("mode") or "") if isinstance(mtls, dict) else ""


def _proxied(pod: Pod) -> bool:
    key, value = _AMBIENT
    return pod.annotations.get(key) == value or any(container.name == _PROXY for container in pod.spec.all_containers)


def _exempts(item: CustomObject, pod: Pod) -> bool:
    """Whether a PeerAuthentication for some pods of a namespace, or for a port of them, lets plain calls in to this one."""
    selector = _spec(item).get("selector")
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    if item.namespace != pod.namespace or not isinstance(labels, dict) or not labels.items() <= pod.labels.items():
        return False
    ports = _spec(item).get("portLevelMtls")
    modes = [port.get("mode") for port in ports.values() if isinstance(port, dict)] if isinstance(ports, dict) else []
    return not _OPEN.isdisjoint({_mode(item), *map(str, modes)})


def _destinations(item: CustomObject) -> Iterator[tuple[str, dict[str, Any]]]:
    for protocol in _PROTOCOLS:
        for number, rule in enumerate(items_of(_spec(item).get(protocol))):
            for place, route in enumerate(items_of(rule.get("route"))):
                destination = route.get("destination")
                # A share of nothing is sent nowhere.
                if isinstance(destination, dict) and route.get("weight") != 0:
                    yield f"spec.{protocol}[{number}].route[{place}].destination", destination


def _service_name(item: CustomObject, host: str) -> tuple[str | None, str]:
    """(namespace, name) of the Service that a host of a rule means; (None, "") for one outside the cluster or of several clusters."""
    name, _, rest = host.partition(".")
    where, _, ending = rest.partition(".")
    inside = ending == "svc" or (ending.startswith("svc.") and not ending.startswith(_SHARED))
    return (None, "") if "*" in host or (rest and not inside) else (where or item.namespace, name)


def _is_about(rule: CustomObject, where: str | None, name: str) -> bool:
    """Whether a DestinationRule is about a Service, by its name or by an ending that it shares with others."""
    host = str(_spec(rule).get("host") or "")
    if host.startswith("*"):
        return f"{name}.{where}.svc.cluster.local".endswith(host[1:])
    return _service_name(rule, host) == (where, name)


def _finding(
    world: World,
    code: str,
    item: CustomObject,
    path: str,
    quote: Any,
    words: str,
    *more: Evidence,
    certainty: Certainty = Certainty.PROVEN,
    lacks: str = "",
) -> Finding:
    hosts = _spec(item).get("hosts")
    named = [str(host) for host in hosts] if isinstance(hosts, list | tuple) else [str(_spec(item).get("host") or "")]
    services = [ObjectRef(Service.kind, where, name) for where, name in (_service_name(item, host) for host in named) if name]
    traffic = world.once(Traffic)
    callers = [call.workload for service in services for call in traffic.callers_of(service.namespace, service.name)]
    return Finding(
        code,
        item.ref,
        certainty,
        (cite(Source.FIELD, item.ref, path, quote), *more),
        f"{item.ref.kind} {item.namespace}/{item.name} {words}.",
        affects=tuple(dict.fromkeys((*services, *callers))),
        since=item.created,
        lacks=lacks,
    )


def _custom(world: World, kind: str) -> list[CustomObject]:
    return [item for item in world.custom(kind) if isinstance(item, CustomObject) and not item.deleting]


def _spec(item: CustomObject) -> dict[str, Any]:
    return item.spec if isinstance(item.spec, dict) else {}


DETECTORS: tuple[Detector, ...] = (routes_to_nothing, faults_injected, tls_refused)
