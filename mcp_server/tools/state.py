"""The state of an object in a few words, as `kubectl get` columns give it, and whether a list should show it first.

It orders lists and shortens objects; it diagnoses nothing.
"""

from __future__ import annotations

from cluster.facts.config import ConfigMap, ResourceQuota
from cluster.facts.dra import ResourceClaim
from cluster.facts.event import CustomObject, Event
from cluster.facts.meta import Condition, Fact, condition
from cluster.facts.network import EndpointSlice, Service
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim
from cluster.facts.workload import (
    CronJob,
    DaemonSet,
    Deployment,
    HorizontalPodAutoscaler,
    Job,
    PodDisruptionBudget,
    ReplicaSet,
    StatefulSet,
)
from mcp_server.tools.pods import QUIET, severity, status_word

# Condition types whose True is bad news; of the others, False and Unknown are.
BAD_WHEN_TRUE = frozenset({"Degraded", "Stalled", "Failed", "ReplicaFailure", "Suspended", "ScalingLimited", "Conflicted"})
SHOWN = 6


def state_of(fact: Fact) -> str:
    """What one would look at first, in a few words; "" for kinds without a state."""
    match fact:
        case Pod():
            return status_word(fact)
        case Node():
            ready = condition(fact.status.conditions, "Ready")
            word = "Ready" if ready is not None and ready.status == "True" else "NotReady"
            return f"{word},SchedulingDisabled" if fact.spec.unschedulable else word
        case Deployment() | StatefulSet() | ReplicaSet():
            return f"ready {fact.status.ready_replicas}/{fact.spec.replicas}"
        case DaemonSet():
            return f"ready {fact.status.number_ready}/{fact.status.desired_number_scheduled}"
        case Job():
            return f"succeeded {fact.status.succeeded}, failed {fact.status.failed}, active {fact.status.active}"
        case CronJob():
            return f"{fact.spec.schedule}{', suspended' if fact.spec.suspend else ''}"
        case HorizontalPodAutoscaler():
            return f"{fact.status.current_replicas} of {fact.spec.min_replicas}-{fact.spec.max_replicas}"
        case PodDisruptionBudget():
            return f"healthy {fact.status.current_healthy}/{fact.status.desired_healthy}, may disrupt {fact.status.disruptions_allowed}"
        case PersistentVolumeClaim() | PersistentVolume():
            return fact.status.phase
        case Service():
            ports = ", ".join(f"{port.port}->{port.target_port or port.port}" for port in (fact.spec.ports or ())[:SHOWN])
            selector = ",".join(f"{key}={value}" for key, value in sorted((fact.spec.selector or {}).items())[:SHOWN])
            return f"{fact.spec.type} {ports} selects {selector or 'nothing'}"
        case EndpointSlice():
            serving = sum(endpoint.conditions.ready is not False for endpoint in fact.endpoints or ())
            return f"ready {serving}/{len(fact.endpoints or ())}"
        case ConfigMap():
            keys = sorted(fact.keys)
            return f"keys {', '.join(keys[:SHOWN])}" + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
        case ResourceQuota():
            used, hard = fact.status.used or {}, fact.spec.hard or fact.status.hard or {}
            return ", ".join(f"{name} {used.get(name, '?')}/{limit}" for name, limit in sorted(hard.items())[:SHOWN])
        case ResourceClaim():
            return "allocated" if fact.status.allocation else "pending"
        case Event():
            return f"{fact.type} {fact.reason}"
        case _:
            return ""


def troubled(fact: Fact) -> bool:
    """Whether a list should show it first: fewer ready than wanted, unbound, or a condition that is bad news."""
    match fact:
        case Pod():
            return severity(fact) < QUIET
        case Deployment() | StatefulSet() | ReplicaSet():
            return fact.status.ready_replicas < fact.spec.replicas
        case DaemonSet():
            return fact.status.number_ready < fact.status.desired_number_scheduled
        case PersistentVolumeClaim():
            return fact.status.phase != "Bound"
        case PersistentVolume():
            return fact.status.phase in ("Failed", "Released")
        case ResourceClaim():
            return fact.status.allocation is None
        case Event():
            return fact.warning
        case Job():
            failed = condition(fact.status.conditions, "Failed")
            return failed is not None and failed.status == "True"
        case Node():
            return fact.spec.unschedulable or condition(fact.status.conditions, "Ready") is None or bool(bad_conditions(fact))
        case _:
            return bool(bad_conditions(fact))


def bad_conditions(fact: Fact) -> tuple[Condition, ...]:
    """The conditions that say something is not as it should be."""
    if isinstance(fact, Node):
        # Of a node only Ready is good when True (https://kubernetes.io/docs/reference/node/node-status/#condition).
        return tuple(item for item in conditions_of(fact) if item.status != ("True" if item.type == "Ready" else "False"))
    return tuple(item for item in conditions_of(fact) if (item.status == "True") is (item.type in BAD_WHEN_TRUE))


def conditions_of(fact: Fact) -> tuple[Condition, ...]:
    """The conditions of any object that has them."""
    if isinstance(fact, CustomObject):
        return fact.conditions
    found: tuple[Condition, ...] | None = getattr(getattr(fact, "status", None), "conditions", None)
    return found or ()
