"""Objects that are being deleted and do not go, drains that cannot finish, and parts of the API that do not answer.

Limits: deletion is only stuck once its grace period and some patience have passed. What keeps an object is named; removing a finalizer is
never suggested here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from cluster.facts.config import APIService
from cluster.facts.event import Event
from cluster.facts.meta import Fact, condition
from cluster.facts.network import Service
from cluster.facts.node import Namespace, Node
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim
from cluster.facts.workload import HorizontalPodAutoscaler, PodDisruptionBudget
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

PATIENCE = timedelta(minutes=5)
DEFAULT_GRACE_SECONDS = 30
RECENT = timedelta(hours=1)
# Metrics APIs, and the metric types of an autoscaler that are read from each.
METRICS_APIS = {
    "metrics.k8s.io": frozenset({"Resource", "ContainerResource"}),
    "custom.metrics.k8s.io": frozenset({"Pods", "Object"}),
    "external.metrics.k8s.io": frozenset({"External"}),
}


def deletion_stuck(world: World) -> Iterable[Finding]:
    """Objects with a deletion timestamp and a finalizer that nobody clears."""
    lost = {node.name for node in world.all(Node) if not node.ready and node.condition("Ready") is not None}
    for kind, facts in world.facts.items():
        if kind in ("Event", "Namespace"):
            continue
        for fact in facts:
            at = fact.metadata.deletion_timestamp
            if at is None or world.now - at < PATIENCE:
                continue
            yield from _stuck(world, fact, lost)


def _stuck(world: World, fact: Fact, lost: set[str]) -> Iterable[Finding]:
    at = fact.metadata.deletion_timestamp
    finalizers = fact.metadata.finalizers or ()
    waited = f"{(world.now - at).total_seconds() / 60:.0f} minutes" if at else "a while"
    evidence: tuple[Evidence, ...] = (
        cite(Source.FIELD, fact.ref, "metadata.deletionTimestamp", f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "", at),
    )
    if finalizers:
        named = ", ".join(finalizers)
        evidence = (*evidence, cite(Source.FIELD, fact.ref, "metadata.finalizers", named))
        users = _claim_users(world, fact)
        if users:
            evidence = (*evidence, cite(Source.FIELD, users[0].ref, "spec.volumes[].persistentVolumeClaim", fact.name))
            text = f"{fact.ref} waits to be deleted for {waited} because {users[0].ref} still uses it (finalizer {named})."
        else:
            text = f"{fact.ref} waits to be deleted for {waited}: finalizer {named} has not been cleared by its controller."
        yield Finding("lifecycle.finalizer-stuck", fact.ref, Certainty.PROVEN, evidence, text, since=at)
    elif isinstance(fact, Pod) and not fact.finished:
        if fact.spec.node_name in lost:
            node = fact.spec.node_name
            text = f"{fact.ref} waits to be deleted for {waited}; its node {node} does not answer, so nobody confirms that it ended."
            yield Finding("lifecycle.pod-on-lost-node", fact.ref, Certainty.PROVEN, evidence, text, since=at)
            return
        killed = world.events(fact.ref, "FailedKillPod", "ExceededGracePeriod")
        why = f": {killed[-1].text}" if killed else ""
        evidence = (*evidence, *(cite(Source.EVENT, fact.ref, event.reason, event.text, event.last_seen) for event in killed[-1:]))
        text = f"{fact.ref} waits to be deleted for {waited}; the kubelet of {fact.spec.node_name} has not stopped it{why}."
        yield Finding("lifecycle.pod-not-stopping", fact.ref, Certainty.PROVEN if killed else Certainty.LIKELY, evidence, text, since=at)


def _claim_users(world: World, fact: Fact) -> tuple[Pod, ...]:
    if not isinstance(fact, PersistentVolumeClaim):
        return ()
    return tuple(
        pod
        for pod in world.pods_in(fact.namespace)
        if not pod.finished
        and any(item.persistent_volume_claim and item.persistent_volume_claim.claim_name == fact.name for item in pod.spec.volumes or ())
    )


def namespace_stuck(world: World) -> Iterable[Finding]:
    """Namespaces that have been terminating for too long, with what the namespace controller still finds in them."""
    for namespace in world.all(Namespace):
        at = namespace.metadata.deletion_timestamp
        if namespace.status.phase != "Terminating" or (at is not None and world.now - at < PATIENCE):
            continue
        telling = [
            item
            for item in namespace.status.conditions or ()
            if item.status == "True" and item.type.startswith("Namespace") and item.message
        ]
        evidence = tuple(cite(Source.FIELD, namespace.ref, f"status.conditions[{item.type}]", item.message) for item in telling) or (
            cite(Source.FIELD, namespace.ref, "status.phase", "Terminating", at),
        )
        inside = [fact.ref for facts in world.facts.values() for fact in facts if fact.namespace == namespace.name and fact.deleting]
        why = "; ".join(item.message or "" for item in telling)[:300] or "the namespace controller gives no reason"
        text = f"Namespace {namespace.name} cannot be deleted: {why}."
        yield Finding("lifecycle.namespace-stuck", namespace.ref, Certainty.PROVEN, evidence, text, tuple(inside), at)


def drain_blocked(world: World) -> Iterable[Finding]:
    """Disruption budgets that allow no eviction on a node that is being emptied."""
    cordoned = [node for node in world.all(Node) if node.spec.unschedulable]
    refused = {
        event.subject.key: event
        for event in world.all(Event)
        if "disruption budget" in event.text and event.last_seen and world.now - event.last_seen < RECENT
    }
    for budget in world.all(PodDisruptionBudget):
        if budget.spec.selector is None or budget.status.disruptions_allowed > 0 or budget.status.expected_pods == 0:
            continue
        held = [
            pod
            for node in cordoned
            for pod in world.pods_on(node.name)
            if pod.namespace == budget.namespace and not pod.finished and budget.spec.selector.matches(pod.labels)
        ]
        told = [event for key, event in refused.items() if budget.name in event.text or any(pod.ref.key == key for pod in held)]
        if not held and not told:
            continue
        state = f"{budget.status.current_healthy} healthy, {budget.status.desired_healthy} required, 0 disruptions allowed"
        evidence = (
            cite(Source.FIELD, budget.ref, "status", state),
            *(cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen) for event in told[-1:]),
        )
        where = f" from node {held[0].spec.node_name}" if held else ""
        text = f"PodDisruptionBudget {budget.namespace}/{budget.name} allows no eviction{where} ({state}), so the drain cannot finish."
        certainty = Certainty.PROVEN if told else Certainty.LIKELY
        yield Finding("lifecycle.drain-blocked", budget.ref, certainty, evidence, text, tuple(pod.ref for pod in held))


def _without_metrics(scaler: HorizontalPodAutoscaler, group: str) -> bool:
    """Whether an autoscaler that asks this metrics API computes nothing. A metric's type says which API it comes from (autoscaling/v2)."""
    active = condition(scaler.status.conditions, "ScalingActive")
    metrics = scaler.spec.metrics if isinstance(scaler.spec.metrics, list) else ()
    asked = {str(item.get("type")) for item in metrics if isinstance(item, dict)} or {"Resource"}
    return active is not None and active.status == "False" and bool(asked & METRICS_APIS[group])


def api_unavailable(world: World) -> Iterable[Finding]:
    """Aggregated APIs that do not answer: what they serve, and deletion of every namespace, stops."""
    for service in world.all(APIService):
        available = condition(service.status.conditions, "Available")
        if available is None or available.status == "True" or service.spec.service is None:
            continue
        backend = ObjectRef(Service.kind, service.spec.service.namespace, service.spec.service.name)
        fact = world.get(Service, backend.namespace, backend.name)
        pods = world.pods_selected(backend.namespace, (fact.spec.selector if fact else None) or {})
        state = f"{sum(pod.ready for pod in pods)} of {len(pods)} pods ready" if fact else "not seen here"
        evidence = (
            cite(
                Source.FIELD,
                service.ref,
                "status.conditions[Available]",
                f"{available.reason}: {available.message}",
                available.last_transition_time,
            ),
            cite(Source.FIELD if fact else Source.ABSENCE, backend, "spec.selector" if fact else "", state),
        )
        stuck = tuple(item.ref for item in world.all(Namespace) if item.status.phase == "Terminating")
        if service.spec.group in METRICS_APIS:
            stuck += tuple(item.ref for item in world.all(HorizontalPodAutoscaler) if _without_metrics(item, service.spec.group))
        text = f"APIService {service.name} does not answer ({available.reason}): {(available.message or '')[:200]}. Its {backend}: {state}."
        certainty = Certainty.PROVEN if not pods or any(pod.ready for pod in pods) else Certainty.LIKELY
        yield Finding("controlplane.api-unavailable", service.ref, certainty, evidence, text, stuck, available.last_transition_time)


DETECTORS: tuple[Detector, ...] = (deletion_stuck, namespace_stuck, drain_blocked, api_unavailable)
