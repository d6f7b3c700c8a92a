"""Workloads as wholes: scaled to nothing, or short of pods by their own status.

Limits: that a workload is short of pods is only ever a consequence: it becomes a cause of last resort when nothing else explains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cluster.facts.event import CustomObject, Event
from cluster.facts.meta import condition
from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet, Deployment, HorizontalPodAutoscaler, ReplicaSet, StatefulSet
from cluster.world import World
from runbooks.conditions import cite_condition
from runbooks.detectors.pods import cite_event, short
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.traffic import Traffic

# Event-driven autoscalers and Knative scale to zero on purpose.
_SCALES_TO_ZERO = frozenset({"ScaledObject", "HTTPScaledObject", "ScaledJob"})
_KNATIVE = "serving.knative.dev/service"
PODS_QUOTED = 3

Replicated = Deployment | StatefulSet | DaemonSet | ReplicaSet


def zero_replicas(world: World) -> Iterator[Finding]:
    """A workload of 0 replicas that a Service selects or that others are configured to call."""
    traffic = world.once(Traffic)
    on_demand = _scaled_on_demand(world)
    scalable: tuple[Deployment | StatefulSet, ...] = (*world.all(Deployment), *world.all(StatefulSet))
    for workload in scalable:
        if workload.spec.replicas != 0 or workload.deleting or workload.ref.key in on_demand or _KNATIVE in workload.labels:
            continue
        labels = (workload.template.metadata.labels or {}).items()
        services = [
            service
            for service in world.all(Service)
            if service.namespace == workload.namespace and service.spec.selector and service.spec.selector.items() <= labels
        ]
        callers = {call.workload: call for service in services for call in traffic.callers_of(service.namespace, service.name)}
        alone = [service for service in services if not traffic.pods(service)]
        if not alone:
            continue
        scaled = [event for event in world.events(workload.ref, "ScalingReplicaSet", "SuccessfulDelete") if "to 0" in event.text]
        evidence: list[Evidence] = [
            cite(Source.FIELD, workload.ref, "spec.replicas", 0),
            *(cite(Source.FIELD, service.ref, "spec.selector", "selects only this workload, which has no pods") for service in alone),
            *(cite(Source.EVENT, workload.ref, event.reason, event.text, event.last_seen) for event in scaled[-1:]),
            *(cite(Source.FIELD, call.workload, call.path, call.text) for call in list(callers.values())[:3]),
        ]
        names = ", ".join(service.name for service in alone)
        yield Finding(
            "workload.zero-replicas",
            workload.ref,
            Certainty.PROVEN if callers or scaled else Certainty.LIKELY,
            tuple(evidence),
            f"{workload.kind} {workload.namespace}/{workload.name} is scaled to 0 replicas, so Service {names} has no endpoints"
            f"{f' and {len(callers)} calling workload(s) fail' if callers else ''}.",
            affects=(*(service.ref for service in alone), *callers),
            since=scaled[-1].first_seen if scaled else None,
        )


def _scaled_on_demand(world: World) -> frozenset[tuple[str, str | None, str]]:
    """Workloads that an event-driven autoscaler may scale to zero."""
    keys = set()
    for kind in _SCALES_TO_ZERO:
        for item in world.custom(kind):
            target = item.spec.get("scaleTargetRef") if isinstance(item, CustomObject) and isinstance(item.spec, dict) else None
            if isinstance(target, dict):
                keys.add((str(target.get("kind", "Deployment")), item.namespace, str(target.get("name", ""))))
    for scaler in world.all(HorizontalPodAutoscaler):
        if scaler.spec.min_replicas == 0:
            keys.add((scaler.spec.scale_target_ref.kind, scaler.namespace, scaler.spec.scale_target_ref.name))
    return frozenset(keys)


def unavailable(world: World) -> Iterator[Finding]:
    """A workload short of ready pods, by its own status."""
    for deployment in world.all(Deployment):
        yield from _short(world, deployment, deployment.spec.replicas, deployment.status.available_replicas, deployment.status.replicas)
    for stateful in world.all(StatefulSet):
        ready = max(stateful.status.available_replicas, stateful.status.ready_replicas)
        yield from _short(world, stateful, stateful.spec.replicas, ready, stateful.status.replicas)
    for daemon in world.all(DaemonSet):
        wanted = daemon.status.desired_number_scheduled
        yield from _short(world, daemon, wanted, daemon.status.number_ready, daemon.status.current_number_scheduled or wanted)
    for replicas in world.all(ReplicaSet):
        if replicas.controller is None:
            yield from _short(world, replicas, replicas.spec.replicas, replicas.status.available_replicas, replicas.status.replicas)


def _short(world: World, workload: Replicated, wanted: int, ready: int, made: int) -> Iterator[Finding]:
    if ready >= wanted or workload.deleting:
        return
    pods = [pod for pod in world.pods_of(workload.ref) if not pod.finished]
    available = condition(workload.status.conditions, "Available")
    reported = bool(workload.status.observed_generation or made or ready or workload.status.conditions)
    # A status that no controller has written (a manifest, a recording without status) says nothing.
    unready = [pod for pod in _nearby(world, workload) if pod.status.phase in ("Pending", "Failed")]
    if not reported and not (pods and not any(pod.ready for pod in pods)) and not unready:
        return
    if pods and sum(pod.ready for pod in pods) >= wanted:
        return
    warned = list(islice((events[-1] for pod in pods if not pod.ready and (events := _warnings(world, pod))), PODS_QUOTED))
    told = f" The last warning about one of them: {short(warned[0].text)}" if warned else ""
    yield Finding(
        "workload.unavailable",
        workload.ref,
        Certainty.PROVEN if reported else Certainty.LIKELY,
        (
            cite(Source.FIELD, workload.ref, "status", f"{ready} of {wanted} pods ready, {made} made"),
            *((cite_condition(workload.ref, available),) if available and available.status == "False" else ()),
            *(cite_event(event) for event in warned),
            *(cite(Source.FIELD, pod.ref, "status.phase", pod.status.phase) for pod in (pods or unready)[:PODS_QUOTED] if not pod.ready),
        ),
        f"{workload.kind} {workload.namespace}/{workload.name} has {ready} of {wanted} pods ready.{told}",
        affects=tuple(pod.ref for pod in pods if not pod.ready)[:50],
        since=available.last_transition_time if available and available.status == "False" else None,
        lacks="why the pods are not ready",
    )


def _warnings(world: World, pod: Pod) -> list[Event]:
    return [event for event in world.events(pod.ref) if event.type == "Warning"]


def _nearby(world: World, workload: Replicated) -> Iterator[Pod]:
    """Pods that carry a StatefulSet's name and ordinal though a recording lost their owner."""
    if isinstance(workload, StatefulSet):
        for ordinal in range(min(workload.spec.replicas, 100)):
            pod = world.get(Pod, workload.namespace, f"{workload.name}-{ordinal}")
            if pod is not None:
                yield pod


def replica_failure(world: World) -> Iterator[Finding]:
    """A controller that says it cannot create pods: a consequence of what refused them."""
    owners: tuple[ReplicaSet | Deployment, ...] = (*world.all(ReplicaSet), *world.all(Deployment))
    for workload in owners:
        failure = condition(workload.status.conditions, "ReplicaFailure")
        if failure is not None and failure.status == "True":
            yield Finding(
                "workload.create-failed",
                world.top_owner(workload.ref),
                Certainty.PROVEN,
                (cite_condition(workload.ref, failure),),
                f"{workload.kind} {workload.namespace}/{workload.name} cannot create pods: {failure.message or failure.reason}",
                since=failure.last_transition_time,
            )


DETECTORS: tuple[Detector, ...] = (zero_replicas, unavailable, replica_failure)
