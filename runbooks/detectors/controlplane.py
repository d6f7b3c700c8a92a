"""The control plane itself: an API server that turns requests away, components that lost their lease, controllers that stand still.

Limits: seen from a client this is indirect: what components write in events and logs, how old their leases are, what nobody reconciles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from cluster.facts.event import Event
from cluster.facts.meta import Fact
from cluster.facts.node import Lease
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet, Deployment, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.logs import moment_in

RECENT = timedelta(hours=1)
# Leader election renews every few seconds and gives up after leaseDurationSeconds (15 by default): several times that is a dead leader.
DEAD_LEASE = timedelta(seconds=90)
RECONCILE_PATIENCE = timedelta(minutes=5)
ENOUGH = 3
# K apiserver filters/priority-and-fairness.go and the client side of an overloaded server.
_OVERLOAD = re.compile(
    r"Too many requests, please try again later|http2: client connection lost|the server is currently unable to handle the request|"
    r"the server has received too many requests and has asked us to try again later"
)
# What client-go says to a 429 of priority and fairness; no other answer of the API server is worded so.
_TURNED_AWAY = "the server has received too many requests"
# etcd server/etcdserver/api/v3alarm, errors.go (ErrNoSpace), as etcd and the API server repeat it.
_ETCD_FULL = re.compile(r"mvcc: database space exceeded|alarm raised[^\n]*NOSPACE")
# etcd server/storage/wal/wal.go, etcdserver/raft.go, v3_server.go, and the API server that passes its errors on (client/v3).
_ETCD_SLOW = re.compile(
    r"slow fdatasync|failed to send out heartbeat on time|waiting for ReadIndex response took too long|etcdserver: request timed out"
)
# etcd says now and then that a write was slow; of the last lines of its present run, this many at most are what it does now.
_ETCD_LINES = 200
# Alerts of kubernetes-mixin (alerts/kube_apiserver.libsonnet) and their like.
_ALERT = re.compile(r"KubeAPIErrorBudgetBurn|KubeAPITerminatedRequests|api-?server.{0,20}(?:overload|saturat|high ?latency)", re.IGNORECASE)
_COMPONENTS = {"kube-controller-manager": "controlplane.component-down", "kube-scheduler": "controlplane.scheduler-down"}


def api_overloaded(world: World) -> Iterator[Finding]:
    """Several components that were turned away by the API server for load."""
    told: dict[ObjectRef, Evidence] = {}
    again = 0
    for event in world.all(Event):
        if _OVERLOAD.search(event.text) and event.last_seen is not None and world.now - event.last_seen < RECENT:
            told.setdefault(world.top_owner(event.subject), cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen))
    for (container, _), reading in world.logs.items():
        lines = [line for line in reading.value.lines if _OVERLOAD.search(line)]
        again = max(again, sum(_TURNED_AWAY in line for line in lines))
        if lines:
            line = lines[-1]
            told.setdefault(world.top_owner(container.pod_ref), cite(Source.LOG, container.pod_ref, f"log[{container.container}]", line))
    alerts = [
        alert for alert in world.telemetry.alerts if _ALERT.search(alert.name) and alert.state.lower() not in ("resolved", "inactive")
    ]
    about = ObjectRef(Pod.kind, "kube-system", "kube-apiserver")
    if len(told) < ENOUGH and again < ENOUGH and not alerts:
        return
    servers = [pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == "kube-apiserver"]
    subject = world.top_owner(servers[0].ref) if servers else ObjectRef(Pod.kind, "kube-system", "kube-apiserver")
    yield Finding(
        "controlplane.overload",
        subject,
        Certainty.LIKELY,
        (*(cite(Source.ALERT, about, item.name, item.text or "firing", item.since) for item in alerts[:3]), *tuple(told.values())[:5]),
        f"The API server is overloaded: {len(told)} component(s) were turned away within the last hour"
        + (f", and monitoring says so ({', '.join(sorted({item.name for item in alerts}))})." if alerts else "."),
        affects=(*tuple(told)[:20], *(_clients(world) if alerts else ())),
        since=min((item.at for item in told.values() if item.at is not None), default=None),
        lacks="the rejected-request metrics of the API server",
    )


def _clients(world: World) -> tuple[ObjectRef, ...]:
    """The other components of the control plane: they live by the API server and restart without it."""
    named = [pod for pod in world.pods_in("kube-system") if pod.labels.get("tier") == "control-plane"]
    return tuple(pod.ref for pod in named if pod.labels.get("component") in _COMPONENTS)


def etcd_refuses_writes(world: World) -> Iterator[Finding]:
    """etcd, or an API server that asks it, says in its log that no more is written."""
    told = [
        (container.pod_ref, line.strip(), f"log[{container.container}]")
        for (container, _), reading in world.logs.items()
        if (line := next((line for line in reversed(reading.value.lines) if _ETCD_FULL.search(line)), None)) is not None
    ]
    if not told:
        return
    servers = [pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == "etcd"]
    yield Finding(
        "controlplane.etcd",
        servers[0].ref if servers else ObjectRef(Pod.kind, "kube-system", "etcd"),
        Certainty.PROVEN,
        tuple(cite(Source.LOG, pod, path, line) for pod, line, path in told[:4]),
        "etcd has reached its space quota and takes no writes: nothing in the cluster can be changed until it is compacted and its alarm"
        " is disarmed.",
        affects=tuple(dict.fromkeys(world.top_owner(pod) for pod, _, _ in told)),
    )


def etcd_slow(world: World) -> Iterator[Finding]:
    """etcd says again and again that it is slow to write or to answer, or an API server that it let its requests time out."""
    told: list[Evidence] = []
    for (container, previous), reading in world.logs.items():
        if container.namespace != "kube-system" or previous:
            continue
        recent = reading.value.lines[-_ETCD_LINES:]
        ended = moment_in(recent[-1]) if recent else None
        lines = [line for line in recent if _ETCD_SLOW.search(line) and not _long_before(line, ended)]
        if len(lines) >= ENOUGH:
            words = f"{lines[-1].strip()} ({len(lines)} such lines)"
            told.append(cite(Source.LOG, container.pod_ref, f"log[{container.container}]", words))
    if not told:
        return
    said = {item.object.key for item in told}
    members = (pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == "etcd")
    servers = sorted(members, key=lambda pod: pod.key not in said)
    yield Finding(
        "controlplane.etcd-slow",
        servers[0].ref if servers else ObjectRef(Pod.kind, "kube-system", "etcd"),
        Certainty.LIKELY,
        tuple(told[:4]),
        "etcd is slow to write or to answer: its disk or the network between its members does not keep up, and whatever asks the API"
        " server waits.",
        affects=tuple(dict.fromkeys(world.top_owner(item.object) for item in told)),
        lacks="etcd's own disk and peer latencies",
    )


def _long_before(line: str, ended: datetime | None) -> bool:
    """Whether a line was logged more than RECENT before its log ended, by its own timestamps."""
    moment = moment_in(line) if ended is not None else None
    return ended is not None and moment is not None and ended - moment > RECENT


def leader_lost(world: World) -> Iterator[Finding]:
    """A control plane component whose leader lease nobody renews."""
    for lease in world.all(Lease):
        code = _COMPONENTS.get(lease.name)
        renewed = lease.spec.renew_time
        if lease.namespace != "kube-system" or code is None or renewed is None or world.now - renewed < DEAD_LEASE:
            continue
        # A recording's clock may be off as a whole: some other lease must be fresh.
        others = [item.spec.renew_time for item in world.all(Lease) if item.ref != lease.ref and item.spec.renew_time is not None]
        if not any(world.now - moment < DEAD_LEASE for moment in others):
            continue
        pods = [pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == lease.name]
        seconds = int((world.now - renewed).total_seconds())
        yield Finding(
            code,
            world.top_owner(pods[0].ref) if pods else ObjectRef(Pod.kind, "kube-system", lease.name),
            Certainty.PROVEN,
            (cite(Source.FIELD, lease.ref, "spec.renewTime", renewed.isoformat(), renewed),),
            f"{lease.name} has not renewed its leader lease for {seconds} s (holder {lease.spec.holder_identity}): nobody does its work.",
            affects=tuple(ref for ref, _ in _unreconciled(world)),
            since=renewed,
        )


def controllers_stand_still(world: World) -> Iterator[Finding]:
    """Several workloads whose latest change no controller has seen."""
    behind = list(_unreconciled(world))
    if len(behind) < ENOUGH:
        return
    managers = [pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == "kube-controller-manager"]
    subject = world.top_owner(managers[0].ref) if managers else ObjectRef(Pod.kind, "kube-system", "kube-controller-manager")
    yield Finding(
        "controlplane.component-down",
        subject,
        Certainty.LIKELY,
        tuple(evidence for _, evidence in behind[:4]),
        f"{len(behind)} workloads changed and no controller has looked at them: kube-controller-manager does not work.",
        affects=tuple(ref for ref, _ in behind),
    )


def _unreconciled(world: World) -> Iterator[tuple[ObjectRef, Evidence]]:
    workloads: tuple[Deployment | StatefulSet | DaemonSet, ...] = (*world.all(Deployment), *world.all(StatefulSet), *world.all(DaemonSet))
    for item in workloads:
        generation, observed = item.metadata.generation, item.status.observed_generation
        if generation is None or generation <= observed or item.deleting or not _settled(world, item):
            continue
        yield item.ref, cite(Source.FIELD, item.ref, "status.observedGeneration", f"{observed}, generation {generation}")


def _settled(world: World, item: Fact) -> bool:
    """Whether its latest change is old enough that a controller must have seen it; unknown times count as old."""
    times = [entry.time for entry in item.metadata.managed_fields or () if entry.time is not None and not entry.subresource]
    latest = max(times, default=item.created)
    return latest is None or world.now - latest > RECONCILE_PATIENCE


DETECTORS: tuple[Detector, ...] = (api_overloaded, etcd_refuses_writes, etcd_slow, leader_lost, controllers_stand_still)
