"""Pods that have a node and are not ready for long, whatever the reason: so that a state nobody foresaw is never called healthy.

Limits: it says that something is wrong, never what. Any cause that reaches the pod explains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.pod import Pod
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, Source, cite

# Longer than a rollout's default progress deadline (apps/v1: 600 s), so that slow starts are not accused.
PATIENCE = timedelta(minutes=15)


def not_ready(world: World) -> Iterator[Finding]:
    """Pods bound to a node that have not been ready for 15 minutes, with what their containers say they wait for."""
    for pod in world.unready_pods():
        if pod.deleting or not pod.spec.node_name:
            continue
        ready = pod.condition("Ready")
        since = (ready.last_transition_time if ready else None) or pod.created
        if ready is None or since is None or world.now - since < PATIENCE:
            continue
        says = _says(pod)
        yield Finding(
            "pod.stuck",
            world.top_owner(pod.ref),
            Certainty.LIKELY,
            (cite(Source.FIELD, pod.ref, "status.conditions[Ready]", f"{ready.status} {ready.reason or ''} {ready.message or ''}", since),),
            f"Pod {pod.namespace}/{pod.name} is {pod.status.phase} and has not been ready for {_minutes(world.now - since)}: {says}.",
            affects=(pod.ref,),
            since=since,
            lacks="a reason that is known here",
        )


def _says(pod: Pod) -> str:
    waiting = [(status.name, status.state.waiting) for status in pod.all_statuses if status.state.waiting is not None]
    if not waiting:
        return "none of its containers says why"
    name, state = waiting[0]
    return f"container {name} waits with {state.reason or 'no reason'}{': ' + state.message if state.message else ''}"


def _minutes(span: timedelta) -> str:
    return f"{int(span.total_seconds() // 60)} minutes"


DETECTORS: tuple[Detector, ...] = (not_ready,)
