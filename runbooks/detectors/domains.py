"""Compute domains (multi-node NVLink) that are not ready on the nodes where their workload stands, so that its pods do not start.

A domain without a workload has no daemons and is not ready by design, so it is judged by the pods that hold a claim for its channel and
have a node. Source: NVIDIA k8s-dra-driver-gpu,
compute-domain-kubelet-plugin computedomain.go (a channel is prepared once the node is Ready in `status.nodes`)
and its API, resource.nvidia.com/v1beta1.
A pod that does not start for another reason, which lies before the channel or after it, waits for no channel.
Limits: why a daemon is not ready is in its log, which is asked for; cliques are compared, the NVLink fabric itself is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from cluster.facts.dra import ResourceClaimTemplate
from cluster.facts.event import CustomObject, items_of
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.device_request import claim_of
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite

KIND = "ComputeDomain"
# What the driver puts on its daemons' pods: the uid of their domain.
DAEMON_LABEL = "resource.nvidia.com/computeDomain"
# How the driver refuses a channel as long as the node's daemon is not ready.
NOT_READY = "not ready in ComputeDomain"
# What the kubelet says of a container before anything of it began, and what it warns of where it is held up elsewhere. It refuses devices
# in the same event for another driver.
_STARTING = (None, "", "ContainerCreating", "PodInitializing")
_OTHER_REASONS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedPrepareDynamicResources", "Failed", "BackOff")
# The daemons of a domain start with its first workload pod, and need an image and some seconds.
PATIENCE = timedelta(minutes=3)


class _Waiter(Struct, frozen=True):
    """A pod that has a node, holds a claim for the domain's channel and does not start; `said` is where the driver says why."""

    pod: Pod
    said: Evidence | None


def domain_not_ready(world: World) -> Iterator[Finding]:
    """ComputeDomains of which a node is not ready while pods on it wait for their channel."""
    for item in world.custom(KIND):
        if not isinstance(item, CustomObject) or item.deleting:
            continue
        template = _template(item)
        waiters = tuple(_waiters(world, item, template)) if template else ()
        if not waiters:
            continue
        told = {str(node.get("name", "")): node for node in items_of(_mapping(item.status).get("nodes"))}
        here = {waiter.pod.spec.node_name or "" for waiter in waiters}
        lame = sorted(name for name in here if str(told.get(name, {}).get("status", "")) != "Ready")
        said = [waiter.said for waiter in waiters if waiter.said is not None]
        if not lame:
            continue
        name = lame[0]
        how = f"is {told[name].get('status', 'not said to be ready')}" if name in told else "has not joined it"
        uid = item.metadata.uid or ""
        daemon = next((pod for pod in world.pods_on(name) if uid and pod.labels.get(DAEMON_LABEL) == uid), None)
        yield Finding(
            "domain.not-ready",
            item.ref,
            Certainty.PROVEN if said else Certainty.LIKELY,
            (
                cite(
                    Source.FIELD, item.ref, f"status.nodes[{name}]", str(told[name].get("status", "absent")) if name in told else "absent"
                ),
                *said[:1],
                *_of_daemon(daemon),
            ),
            f"{item.ref}: node {name} {how}{f', and {len(lame) - 1} more' if lame[1:] else ''}, so {len(waiters)} pod(s) wait for their "
            f"channel.{_daemon(daemon)}{_cliques(told)}",
            affects=tuple(_affected(world, waiters, ObjectRef(ResourceClaimTemplate.kind, item.namespace, template))),
            since=min((waiter.pod.status.start_time for waiter in waiters if waiter.pod.status.start_time), default=None),
            wants=_logs(daemon),
            lacks="" if said else "what the driver says of it: an event of the pod, or the log of the domain's daemon",
        )


def _waiters(world: World, item: CustomObject, template: str) -> Iterator[_Waiter]:
    for pod in world.unready_pods():
        uses = pod.namespace == item.namespace and any(
            use.resource_claim_template_name == template for use in pod.spec.resource_claims or ()
        )
        if not uses or not pod.spec.node_name or pod.status.phase != "Pending" or pod.deleting:
            continue
        events = [event for event in world.events(pod.ref, "FailedPrepareDynamicResources") if NOT_READY in event.text]
        said = cite(Source.EVENT, pod.ref, events[-1].reason, events[-1].text, events[-1].last_seen) if events else None
        if said is not None or (_long(pod, world.now) and not _held_elsewhere(world, pod)):
            yield _Waiter(pod, said)


def _held_elsewhere(world: World, pod: Pod) -> bool:
    """Whether a pod that does not start was told another reason. Its volumes come before its devices; its sandbox, images and init
    containers after them (kubernetes/kubernetes pkg/kubelet, SyncPod of the kubelet and of kuberuntime)."""
    # On the network of its node a pod has the node's address before anything began.
    further = (pod.status.pod_ip and not pod.spec.host_network) or any(
        status.state.running or status.state.terminated or (status.state.waiting and status.state.waiting.reason not in _STARTING)
        for status in pod.all_statuses
    )
    return bool(further) or bool(world.events(pod.ref, *_OTHER_REASONS))


def _long(pod: Pod, now: datetime) -> bool:
    begun = pod.status.start_time or pod.created
    return begun is not None and now - begun > PATIENCE


def _affected(world: World, waiters: tuple[_Waiter, ...], template: ObjectRef) -> Iterator[ObjectRef]:
    found: dict[ObjectRef, None] = {template: None}
    for waiter in waiters:
        claims = (claim_of(world, waiter.pod, use)[2] for use in waiter.pod.spec.resource_claims or ())
        found.update((ref, None) for ref in (waiter.pod.ref, world.top_owner(waiter.pod.ref)))
        found.update((claim.ref, None) for claim in claims if claim is not None)
        if waiter.pod.spec.node_name and waiter.said is not None:
            # Where the driver refuses to prepare, the node is what others suspect.
            found.setdefault(ObjectRef(Node.kind, None, waiter.pod.spec.node_name))
    return iter(found)


def _of_daemon(daemon: Pod | None) -> tuple[Evidence, ...]:
    if daemon is None or daemon.ready:
        return ()
    return (cite(Source.FIELD, daemon.ref, "status.phase", f"{daemon.status.phase}, not ready"),)


def _daemon(daemon: Pod | None) -> str:
    if daemon is None:
        return " No daemon of the domain runs on that node."
    return f" Its daemon there, {daemon.ref}, is not ready." if not daemon.ready else ""


def _logs(daemon: Pod | None) -> tuple[LogWant, ...]:
    if daemon is None or daemon.ready:
        return ()
    return tuple(LogWant(ContainerRef(daemon.namespace or "", daemon.name, item.name)) for item in daemon.spec.containers[:1])


def _cliques(told: dict[str, dict[str, Any]]) -> str:
    """Nodes of several cliques are no one NVLink partition."""
    counted = Counter(str(node["cliqueID"]) for node in told.values() if node.get("cliqueID"))
    return f" Its nodes belong to {len(counted)} NVLink partitions ({', '.join(sorted(counted)[:3])})." if len(counted) > 1 else ""


def _template(item: CustomObject) -> str:
    return str(_mapping(_mapping(_mapping(item.spec).get("channel")).get("resourceClaimTemplate")).get("name", ""))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DETECTORS: tuple[Detector, ...] = (domain_not_ready,)
