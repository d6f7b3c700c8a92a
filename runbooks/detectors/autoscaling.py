"""Autoscalers that cannot scale and disruption budgets that protect nothing.

Being at the lower bound is an autoscaler's rest, not a fault; being at the upper bound is reported as what it is, a limit.
Limits: metrics are not read here, only what the autoscaler says of them in its conditions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from cluster.facts.container import Container
from cluster.facts.meta import Condition, Fact, condition
from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment, HorizontalPodAutoscaler, PodDisruptionBudget, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.conditions import cite_condition
from runbooks.detectors.probes import MODEL_SERVER
from runbooks.finding import Certainty, Detector, Evidence, Finding, ObjectsWant, Source, cite
from runbooks.traffic import Traffic
from runbooks.visibility import unreadable

# Kinds of the core APIs with a scale subresource; another kind needs a custom resource's API group to be a target.
_SCALABLE = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"})
_READ = frozenset({"Deployment", "ReplicaSet", "StatefulSet"})
_NO_REQUEST = re.compile(r"missing request for (?P<resource>\S+)(?: in container (?P<container>\S+))?")
_SERVING_METRIC = re.compile(r"vllm:|sglang:|\btgi_|num_requests_(?:waiting|running)|kv_cache_usage|wva_desired|trtllm_")
_UNREADY = "did not receive metrics for"


def target_missing(world: World) -> Iterator[Finding]:
    """An autoscaler whose target does not exist or cannot be scaled."""
    for scaler in world.all(HorizontalPodAutoscaler):
        target = scaler.spec.scale_target_ref
        if target.kind not in _SCALABLE and ("/" not in target.api_version or target.api_version == "apps/v1"):
            yield _no_target(scaler, Certainty.LIKELY, f"is of kind {target.kind}, which cannot be scaled", ())
            continue
        presence = world.presence(target.kind, scaler.namespace, target.name) if target.kind in _READ else Presence.UNKNOWN
        able = condition(scaler.status.conditions, "AbleToScale")
        said = able is not None and able.status == "False" and able.reason == "FailedGetScale"
        if presence is Presence.PRESENT or (presence is Presence.UNKNOWN and target.kind not in _READ and not said):
            continue
        if presence is Presence.UNKNOWN and unreadable(world, target.kind) and not said:
            continue
        certainty = Certainty.PROVEN if said or presence is Presence.ABSENT else Certainty.POSSIBLE
        evidence = (cite_condition(scaler.ref, able),) if said and able is not None else ()
        yield _no_target(scaler, certainty, "does not exist" if certainty is Certainty.PROVEN else "was not found", evidence)


def _no_target(scaler: HorizontalPodAutoscaler, certainty: Certainty, how: str, more: tuple[Evidence, ...]) -> Finding:
    target = scaler.spec.scale_target_ref
    ref = ObjectRef(target.kind, scaler.namespace, target.name)
    return Finding(
        "hpa.target-missing",
        scaler.ref,
        certainty,
        (
            cite(Source.FIELD, scaler.ref, "spec.scaleTargetRef", f"{target.kind}/{target.name}"),
            cite(Source.ABSENCE, ref, "metadata.name", f"the target {how}"),
            *more,
        ),
        f"HorizontalPodAutoscaler {scaler.namespace}/{scaler.name} scales {target.kind} {target.name}, which {how}.",
        wants=() if certainty > Certainty.POSSIBLE else (ObjectsWant(target.kind, scaler.namespace),),
        lacks="" if certainty > Certainty.POSSIBLE else f"a complete list of {target.kind} objects",
    )


def no_resource_requests(world: World) -> Iterator[Finding]:
    """An autoscaler by utilisation whose target states no request to compute the utilisation from."""
    for scaler in world.all(HorizontalPodAutoscaler):
        target = scaler.spec.scale_target_ref
        workload = world.find(ObjectRef(target.kind, scaler.namespace, target.name))
        active = condition(scaler.status.conditions, "ScalingActive")
        said = _NO_REQUEST.search(active.message or "") if active is not None and active.status == "False" else None
        lacking = sorted(_lacking(scaler, workload))
        if not lacking and said is None:
            continue
        names = ", ".join(f"{name}: {resource}" for name, resource in lacking[:5]) or (said[0] if said else "")
        subject = workload.ref if workload is not None else scaler.ref
        yield Finding(
            "hpa.no-resource-requests",
            scaler.ref,
            Certainty.PROVEN if said else Certainty.LIKELY,
            (
                cite(Source.FIELD, scaler.ref, "spec.metrics", _metrics_text(scaler)),
                cite(Source.FIELD, subject, "spec.template.spec.containers[*].resources.requests", f"no request for {names}"),
                *((cite_condition(scaler.ref, active),) if said and active is not None else ()),
            ),
            f"HorizontalPodAutoscaler {scaler.namespace}/{scaler.name} scales {target.kind} {target.name} by utilisation, but its "
            f"containers state no request ({names}), so no utilisation can be computed.",
            affects=(subject,),
            since=active.last_transition_time if said and active else None,
        )


def _lacking(scaler: HorizontalPodAutoscaler, workload: Fact | None) -> Iterator[tuple[str, str]]:
    """(container, resource) without a request that a metric of the autoscaler needs."""
    if not isinstance(workload, Deployment | StatefulSet | ReplicaSet):
        return
    containers = workload.template.spec.containers
    for resource, name in _utilisations(scaler):
        for container in containers:
            if (name is None or container.name == name) and not _requests(container, resource):
                yield (container.name, resource)


def _requests(container: Container, resource: str) -> bool:
    return (container.resources.request(resource) or 0.0) > 0.0


def _utilisations(scaler: HorizontalPodAutoscaler) -> Iterator[tuple[str, str | None]]:
    """(resource, container or None for all) of each utilisation metric; without metrics the default is CPU at 80 % (autoscaling/v2)."""
    metrics = scaler.spec.metrics
    if not isinstance(metrics, list) or not metrics:
        yield ("cpu", None)
        return
    for metric in metrics:
        body: Any = metric.get("resource") or metric.get("containerResource") if isinstance(metric, dict) else None
        if isinstance(body, dict) and (body.get("target") or {}).get("type", "Utilization") == "Utilization":
            yield (str(body.get("name", "cpu")), body.get("container"))


def _metrics_text(scaler: HorizontalPodAutoscaler) -> str:
    return ", ".join(f"{resource} utilisation{f' of {name}' if name else ''}" for resource, name in _utilisations(scaler)) or "none"


def scaling_condition(world: World) -> Iterator[Finding]:
    """An autoscaler whose own conditions say that it cannot compute, cannot act or is at its upper limit."""
    for scaler in world.all(HorizontalPodAutoscaler):
        for item in scaler.status.conditions or ():
            code, text = _judge(world, scaler, item)
            if code is not None:
                yield Finding(
                    code,
                    scaler.ref,
                    Certainty.PROVEN,
                    (
                        cite_condition(scaler.ref, item),
                        cite(
                            Source.FIELD,
                            scaler.ref,
                            "status",
                            f"{scaler.status.current_replicas} replicas, {scaler.status.desired_replicas} desired, "
                            f"{scaler.spec.min_replicas} to {scaler.spec.max_replicas} allowed",
                        ),
                    ),
                    f"HorizontalPodAutoscaler {scaler.namespace}/{scaler.name} {text}: {item.message or item.reason or item.type}",
                    affects=(ObjectRef(scaler.spec.scale_target_ref.kind, scaler.namespace, scaler.spec.scale_target_ref.name),),
                    since=item.last_transition_time,
                )


def _judge(world: World, scaler: HorizontalPodAutoscaler, item: Condition) -> tuple[str | None, str]:
    message = item.message or ""
    match item.type, item.status:
        case "ScalingActive", "False":
            if item.reason == "ScalingDisabled" or _NO_REQUEST.search(message):
                return None, ""
            if item.reason in ("AmbiguousSelector", "InvalidSelector"):
                return "hpa.ambiguous-selector", "shares its pods with another autoscaler"
            if _UNREADY in message and not _any_ready(world, scaler):
                return "hpa.pods-unready", "gets no metrics because no pod of its target is ready"
            return "hpa.metrics-unavailable", "cannot compute a replica count"
        case "AbleToScale", "False":
            if item.reason == "FailedGetScale":
                return None, ""
            return "hpa.cannot-scale", "cannot change the replica count"
        case "ScalingLimited", "True":
            if item.reason == "TooManyReplicas":
                code = "hpa.serving-at-maximum" if _scales_serving(world, scaler) else "hpa.at-maximum"
                return code, f"wants more than its maximum of {scaler.spec.max_replicas} replicas"
    return None, ""


def _scales_serving(world: World, scaler: HorizontalPodAutoscaler) -> bool:
    target = scaler.spec.scale_target_ref
    return serves_models(world, ObjectRef(target.kind, scaler.namespace, target.name), str(scaler.spec.metrics))


def serves_models(world: World, target: ObjectRef, scaled_by: str) -> bool:
    """Whether an autoscaler scales a model server: by a metric of one in `scaled_by`, or by what its target runs."""
    if _SERVING_METRIC.search(scaled_by):
        return True
    workload = world.find(target)
    containers = workload.template.spec.containers if isinstance(workload, Deployment | StatefulSet) else ()
    return any(MODEL_SERVER.search(" ".join((item.image, *(item.command or ())))) for item in containers)


def _any_ready(world: World, scaler: HorizontalPodAutoscaler) -> bool:
    target = scaler.spec.scale_target_ref
    return any(pod.ready for pod in world.pods_of(ObjectRef(target.kind, scaler.namespace, target.name)))


def duplicate_autoscalers(world: World) -> Iterator[Finding]:
    """Two autoscalers on one target fight each other."""
    grouped: dict[tuple[str, str | None, str], list[HorizontalPodAutoscaler]] = defaultdict(list)
    for scaler in world.all(HorizontalPodAutoscaler):
        target = scaler.spec.scale_target_ref
        grouped[(target.kind, scaler.namespace, target.name)].append(scaler)
    for (kind, namespace, name), scalers in grouped.items():
        if len(scalers) > 1 and name:
            names = ", ".join(sorted(scaler.name for scaler in scalers))
            newest = max(scalers, key=lambda scaler: (scaler.created.timestamp() if scaler.created else 0.0, scaler.name))
            yield Finding(
                "hpa.duplicate",
                newest.ref,
                Certainty.LIKELY,
                tuple(cite(Source.FIELD, scaler.ref, "spec.scaleTargetRef", f"{kind}/{name}") for scaler in scalers),
                f"{len(scalers)} autoscalers ({names}) scale {kind} {namespace}/{name}: each undoes what the other sets.",
                affects=(ObjectRef(kind, namespace, name),),
                since=newest.created,
            )


def budget_matches_nothing(world: World) -> Iterator[Finding]:
    """A PodDisruptionBudget whose selector fits no pod and no pod template."""
    traffic = world.once(Traffic)
    for budget in world.all(PodDisruptionBudget):
        selector = budget.spec.selector
        if budget.status.expected_pods or unreadable(world, Pod.kind) or (selector is not None and selector.empty):
            continue
        if selector is not None:
            if any(selector.matches(pod.labels) for pod in world.pods_in(budget.namespace)):
                continue
            if any(selector.matches(item.labels) for item in traffic.workloads(budget.namespace)):
                continue
        allowed = condition(budget.status.conditions, "DisruptionAllowed")
        events = world.events(budget.ref, "NoPods")
        labels = (
            ", ".join(f"{key}={value}" for key, value in sorted((selector.match_labels or {}).items())) if selector else "(no selector)"
        )
        seen = Pod.kind in world.read_kinds or bool(events)
        yield Finding(
            "pdb.no-match",
            budget.ref,
            Certainty.PROVEN if seen else Certainty.LIKELY if allowed is not None else Certainty.POSSIBLE,
            (
                cite(Source.FIELD, budget.ref, "spec.selector", labels or "expressions"),
                cite(Source.FIELD, budget.ref, "status.expectedPods", budget.status.expected_pods),
                *(cite(Source.EVENT, budget.ref, event.reason, event.text, event.last_seen) for event in events[-1:]),
                *((cite_condition(budget.ref, allowed),) if allowed is not None else ()),
            ),
            f"PodDisruptionBudget {budget.namespace}/{budget.name} selects {labels or 'pods by expression'}, which no pod matches: "
            "it protects nothing.",
            wants=() if seen else (ObjectsWant(Pod.kind, budget.namespace),),
            lacks="" if seen else "the pods of the namespace",
        )


DETECTORS: tuple[Detector, ...] = (
    target_missing,
    no_resource_requests,
    scaling_condition,
    duplicate_autoscalers,
    budget_matches_nothing,
)
