"""Pods that no scheduler decides on: none looks at them, a gate holds them, or they are pinned to a node that does not exist.

What a scheduler has refused is the scheduling family's.
Limits: a pod younger than a minute is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Finding, Source, cite

# The scheduler answers within a second; a pod it has not looked at after this long is not being looked at.
SILENCE = timedelta(seconds=60)
DEFAULT_SCHEDULER = "default-scheduler"


def scheduler_silent(world: World) -> Iterable[Finding]:
    """Pods that no scheduler has looked at: no PodScheduled condition and no event, a minute after they were made."""
    silent: dict[str, list[Pod]] = {}
    if "Event" not in world.read_kinds and not world.all(Event):
        return
    for pod in world.unready_pods():
        waiting = pod.status.phase == "Pending" and not pod.spec.node_name and not pod.deleting and not pod.spec.scheduling_gates
        if waiting and not pod.status.conditions and pod.created and world.now - pod.created > SILENCE and not world.events(pod.ref):
            silent.setdefault(pod.spec.scheduler_name or DEFAULT_SCHEDULER, []).append(pod)
    for name, pods in silent.items():
        since = min(pod.created for pod in pods if pod.created)
        owners = tuple(dict.fromkeys(world.top_owner(pod.ref) for pod in pods))
        seen = cite(
            Source.ABSENCE, pods[0].ref, "status.conditions[PodScheduled]", "no scheduler has set it and there are no events", since
        )
        affects = (*(pod.ref for pod in pods), *owners)
        if name == DEFAULT_SCHEDULER:
            subject, certainty, shown = _default_scheduler(world, owners[0])
            text = f"{len(pods)} pods wait and no scheduler has looked at them since {since:%H:%M}: {shown}."
            yield Finding("controlplane.scheduler-down", subject, certainty, (seen,), text, affects=affects, since=since)
            continue
        for owner in owners:
            evidence = (seen, cite(Source.FIELD, pods[0].ref, "spec.schedulerName", name))
            text = f"{owner} asks for scheduler {name}, which has not looked at its pods: it is not running here or not installed."
            yield Finding("scheduling.scheduler-missing", owner, Certainty.LIKELY, evidence, text, affects=affects, since=since)


def _default_scheduler(world: World, fallback: ObjectRef) -> tuple[ObjectRef, Certainty, str]:
    """The scheduler's own pod where the control plane is visible, and what is wrong with it."""
    pods = [pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == "kube-scheduler" or "kube-scheduler" in pod.name]
    if pods:
        ready = [pod for pod in pods if pod.ready]
        subject = world.top_owner((ready or pods)[0].ref)
        word = "its pod says ready but it does not schedule" if ready else f"{subject} is not ready"
        return subject, Certainty.LIKELY if ready else Certainty.PROVEN, word
    if any("kube-apiserver" in pod.name for pod in world.pods_in("kube-system")):
        return ObjectRef("Pod", "kube-system", "kube-scheduler"), Certainty.PROVEN, "kube-system has no kube-scheduler pod"
    return fallback, Certainty.LIKELY, "the scheduler itself cannot be seen from here"


def gated(world: World) -> Iterable[Finding]:
    """Pods held by a scheduling gate. Kueue's own gates are its queue's business: see the queue detectors."""
    held: dict[tuple[ObjectRef, tuple[str, ...]], list[Pod]] = {}
    for pod in world.unready_pods():
        gates = tuple(item.name for item in pod.spec.scheduling_gates or ())
        if gates and not pod.deleting and not all(name.startswith("kueue.x-k8s.io/") for name in gates):
            held.setdefault((world.top_owner(pod.ref), gates), []).append(pod)
    for (owner, gates), pods in held.items():
        since = min((pod.created for pod in pods if pod.created), default=None)
        if since is not None and world.now - since < SILENCE:
            continue
        names = ", ".join(gates)
        evidence = (cite(Source.FIELD, pods[0].ref, "spec.schedulingGates", names, since),)
        text = f"{len(pods)} pods of {owner} are held by scheduling gate {names}; the scheduler waits until its controller removes it."
        affects = tuple(pod.ref for pod in pods)
        yield Finding("scheduling.gated", owner, Certainty.PROVEN, evidence, text, affects=affects, since=since)


def node_name_missing(world: World) -> Iterable[Finding]:
    """Pods pinned by spec.nodeName to a node that does not exist: no scheduler is asked, no kubelet ever answers."""
    for pod in world.unready_pods():
        name = pod.spec.node_name
        if (
            not name
            or pod.deleting
            or pod.status.start_time
            or pod.all_statuses
            or world.presence("Node", None, name) is not Presence.ABSENT
        ):
            continue
        if world.events(pod.ref, "Scheduled"):
            continue
        owner = world.top_owner(pod.ref)
        evidence = (
            cite(Source.FIELD, pod.ref, "spec.nodeName", name, pod.created),
            cite(Source.ABSENCE, ObjectRef("Node", None, name), "", "no such node"),
        )
        text = f"{owner} pins its pod to node {name} (spec.nodeName), and there is no such node."
        yield Finding("scheduling.node-name-missing", owner, Certainty.PROVEN, evidence, text, affects=(pod.ref,), since=pod.created)


DETECTORS: tuple[Detector, ...] = (scheduler_silent, gated, node_name_missing)
