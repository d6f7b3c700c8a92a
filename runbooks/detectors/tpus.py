"""TPU slices of GKE: pods that ask for other than a whole host, slices of which a host is missing, Jobs that do not fill one slice.

"The number of requested google.com/tpu must be equal to the total number of available TPU chips on the TPU slice node", and the hosts of a
multi-host slice are one atomic unit (Google Cloud, "About TPUs in GKE"): while one is out, the chips of the others are of no use, and a Job
on it has one pod for each host ("Deploy TPU workloads": parallelism is the chips of the topology by the chips of a host).
Limits: how many hosts a slice has follows from its topology label and the chips of a host; a pool whose nodes nobody may list is not
judged, and neither is one for whose chips nobody waits. Slices put together by a scheduler (dynamic slicing) name no topology. A program
that is told its bounds by hand (`TPU_PROCESS_BOUNDS` and its like) may use part of a slice, and its Job is left alone.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.workload import Job
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.inventory import closed_because
from runbooks.pending import pending_groups, waiting_for
from runbooks.scheduling import requests_of, unmet_labels

CHIPS = "google.com/tpu"
TOPOLOGY = "cloud.google.com/gke-tpu-topology"
POOL = "cloud.google.com/gke-nodepool"
_SHAPE = re.compile(r"\d+(?:x\d+){1,2}")
# What tells the runtime which hosts and chips to use, instead of all of the slice (libtpu; GKE sets what is not set).
_BY_HAND = re.compile(r"TPU_(?:\w+_BOUNDS|VISIBLE_\w+|WORKER_HOSTNAMES|PROCESS_ADDRESSES)$")
# What the kubelet says of a pod that its device plugin refuses (kubernetes pkg/kubelet/cm/devicemanager).
_REFUSED = "UnexpectedAdmissionError"


class Slice(Struct, frozen=True):
    """The nodes of one multi-host slice: `hosts` is how many its topology needs, each with `chips`."""

    pool: str
    topology: str
    hosts: int
    chips: int
    nodes: tuple[Node, ...]

    @property
    def broken(self) -> tuple[tuple[Node, str], ...]:
        """Hosts that are of no use, and why."""
        found = []
        for node in self.nodes:
            usable = int(node.allocatable(CHIPS) or 0)
            why = closed_because(node) or (f"{usable} of {self.chips} chips usable" if usable < self.chips else "")
            if why:
                found.append((node, why))
        return tuple(found)


def slices(world: World) -> tuple[Slice, ...]:
    """Every multi-host slice, by the node pools that GKE makes of them."""
    pools: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in world.all(Node):
        pool, topology = node.labels.get(POOL, ""), node.labels.get(TOPOLOGY, "")
        if pool and _SHAPE.fullmatch(topology):
            pools[pool, topology].append(node)
    found = []
    for (pool, topology), nodes in sorted(pools.items()):
        chips = max(int(node.capacity(CHIPS) or 0) for node in nodes)
        hosts = math.prod(int(side) for side in topology.split("x")) // chips if chips else 0
        if hosts > 1:
            found.append(Slice(pool, topology, hosts, chips, tuple(nodes)))
    return tuple(found)


def part_of_a_host(world: World) -> Iterator[Finding]:
    """Pods that ask for more or fewer TPU chips than one host has, and wait or are refused for it."""
    hosts = [node for node in world.all(Node) if (node.capacity(CHIPS) or 0) > 0]
    waiting = [(group.sample, group.owner, group.affected, group.evidence) for group in world.once(pending_groups)]
    refused = [
        (pod, world.top_owner(pod.ref), (pod.ref,), (cite(Source.FIELD, pod.ref, "status.reason", _REFUSED),))
        for pod in world.pods_not_ready()
        if pod.status.phase == "Failed" and pod.status.reason == _REFUSED
    ]
    for pod, owner, affected, said in (*waiting, *refused):
        wanted = int(requests_of(pod.spec).get(CHIPS, 0))
        fitting = [node for node in hosts if unmet_labels(pod.spec, node) is None] if wanted else []
        sizes = sorted({int(node.capacity(CHIPS) or 0) for node in fitting})
        if not sizes or wanted in sizes:
            continue
        topology = (pod.spec.node_selector or {}).get(TOPOLOGY) or fitting[0].labels.get(TOPOLOGY, "")
        size = sizes[-1]
        advice = f"{math.ceil(wanted / size)} pods of {size} chips each" if wanted > size else f"all {size} chips"
        yield Finding(
            "tpu.part-of-a-host",
            owner,
            Certainty.PROVEN if wanted > size else Certainty.LIKELY,
            (
                cite(Source.FIELD, pod.ref, f"spec.containers[].resources.requests[{CHIPS}]", str(wanted)),
                cite(Source.FIELD, fitting[0].ref, f"status.capacity[{CHIPS}]", str(size)),
                *said,
            ),
            f"{owner} asks for {wanted} TPU chips in one pod, and a host{f' of topology {topology}' if topology else ''} has {size}: a pod "
            f"gets the chips of exactly one host. Ask for {advice}.",
            affects=affected,
        )


def slice_incomplete(world: World) -> Iterator[Finding]:
    """Slices of several hosts of which one is out of use or missing, while somebody waits for their chips or is not ready on them."""
    for one in world.once(slices):
        broken, absent = one.broken, one.hosts - len(one.nodes)
        unready = (pod for node in one.nodes for pod in world.pods_on(node.name) if not pod.finished and not pod.ready and _asks(pod))
        stuck = dict.fromkeys((*(ref for pod in unready for ref in (pod.ref, world.top_owner(pod.ref))), *_waiters(world, one)))
        if not stuck or (not broken and absent <= 0):
            continue
        what = f"The TPU slice of node pool {one.pool} (topology {one.topology}) needs {one.hosts} hosts"
        for node, why in broken[:1]:
            yield Finding(
                "tpu.slice-broken",
                node.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, node.ref, f"metadata.labels[{TOPOLOGY}]", one.topology),
                    cite(Source.FIELD, node.ref, *_proof(node, why)),
                ),
                f"{what}, and {node.name} is out of use ({why}): the chips of the others are of no use until it is back.",
                affects=tuple(stuck),
            )
        if not broken and Node.kind in world.read_kinds:
            # A node pool is no object of Kubernetes: what can be shown is who waits, and one of the hosts that are there.
            owner = next((ref for ref in stuck if ref.kind != Pod.kind), next(iter(stuck)))
            yield Finding(
                "tpu.slice-short",
                owner,
                Certainty.LIKELY,
                (
                    cite(Source.FIELD, one.nodes[0].ref, f"metadata.labels[{TOPOLOGY}]", one.topology),
                    cite(Source.ABSENCE, one.nodes[0].ref, f"metadata.labels[{POOL}]", f"{len(one.nodes)} of {one.hosts} hosts are there"),
                ),
                f"{what}, and {len(one.nodes)} are there: GKE makes or repairs the slice as a whole, so {owner} waits until all are.",
                affects=tuple(ref for ref in stuck if ref != owner),
            )


class _Gang(Struct, frozen=True):
    """A Job that works on slices of a topology: `workers` is how many pods it has at once, each with `chips`."""

    job: Job
    topology: str
    chips: int
    workers: int

    @property
    def size(self) -> int:
        """The chips of one slice."""
        return math.prod(int(side) for side in self.topology.split("x"))

    @property
    def hosts(self) -> int:
        """How many hosts of that many chips one slice has; 0 where it cannot be made of such."""
        return 0 if self.size % self.chips else self.size // self.chips


def _gangs(world: World) -> tuple[_Gang, ...]:
    """Jobs that are not over and name the topology of the slice that they want; use it through `world.once`."""
    found = []
    for job in world.all(Job):
        spec = job.template.spec
        topology = (spec.node_selector or {}).get(TOPOLOGY, "")
        chips = int(requests_of(spec).get(CHIPS, 0)) if _SHAPE.fullmatch(topology) else 0
        over = any((item := job.condition(kind)) is not None and item.status == "True" for kind in ("Complete", "Failed"))
        by_hand = any(_BY_HAND.match(item.name) for container in spec.containers for item in container.env or ())
        if chips and not over and not job.spec.suspend and not by_hand:
            wanted = job.spec.parallelism if job.spec.parallelism is not None else 1
            found.append(_Gang(job, topology, chips, min(wanted, job.spec.completions or wanted)))
    return tuple(found)


def workers_differ(world: World) -> Iterator[Finding]:
    """Jobs whose pods are not as many as the slices that they ask for have hosts, or ask for more chips than such a slice has."""
    for gang in world.once(_gangs):
        job, hosts = gang.job, gang.hosts
        if not gang.workers or (hosts and gang.workers % hosts == 0):
            continue
        sizes = {int(node.capacity(CHIPS) or 0) for node in world.all(Node) if node.labels.get(TOPOLOGY) == gang.topology}
        if sizes and gang.chips not in sizes:
            # Its hosts have other numbers of chips, so how many of them there are does not follow from what a pod asks for.
            continue
        pods = tuple(pod.ref for pod in world.pods_of(job.ref) if not pod.finished)
        asked = f"{job.ref} asks for {gang.chips} TPU chips in each pod of a slice of topology {gang.topology}"
        text = (
            f"{asked}, and such a slice has {gang.size} in all: no hosts can have that many each."
            if not hosts
            else f"{asked}, which has {hosts} hosts of that many, and runs {gang.workers} pod(s) at once: a slice works when there "
            f"is one on each of its hosts. Set parallelism and completions to {hosts}, or ask for a smaller topology."
        )
        yield Finding(
            "tpu.workers-differ",
            job.ref,
            Certainty.LIKELY,
            (
                cite(Source.FIELD, job.ref, f"spec.template.spec.nodeSelector[{TOPOLOGY}]", gang.topology),
                cite(Source.FIELD, job.ref, f"spec.template.spec.containers[].resources.requests[{CHIPS}]", str(gang.chips)),
                cite(Source.FIELD, job.ref, "spec.parallelism", str(gang.workers)),
            ),
            text,
            affects=(*pods, world.top_owner(job.ref)),
            since=job.status.start_time,
        )


def slice_split(world: World) -> Iterator[Finding]:
    """Jobs for one slice whose pods stand on hosts of several: those are joined by no interconnect, and the program does not begin."""
    multi_host = {one.pool for one in world.once(slices)}
    for gang in world.once(_gangs):
        if gang.hosts < 2 or gang.workers != gang.hosts:
            continue
        places: dict[str, list[Pod]] = defaultdict(list)
        for pod in world.pods_of(gang.job.ref):
            node = world.get(Node, None, pod.spec.node_name) if pod.spec.node_name and _stays(pod) else None
            if node is not None and node.labels.get(POOL) in multi_host:
                places[node.labels[POOL]].append(pod)
        if len(places) > 1:
            spread = "; ".join(f"{len(pods)} in {pool}" for pool, pods in sorted(places.items()))
            yield Finding(
                "tpu.slice-split",
                gang.job.ref,
                Certainty.LIKELY,
                tuple(
                    cite(Source.FIELD, pods[0].ref, "spec.nodeName", f"{pods[0].spec.node_name} of {pool}")
                    for pool, pods in sorted(places.items())
                ),
                f"{gang.job.ref} needs the {gang.hosts} hosts of one TPU slice, and its pods stand on hosts of {len(places)} ({spread}): "
                "chips of different slices are not joined. Keep them together by affinity to the node pool, as JobSet's exclusive topology "
                "does.",
                affects=(*(pod.ref for pods in places.values() for pod in pods), world.top_owner(gang.job.ref)),
            )


def slice_shared(world: World) -> Iterator[Finding]:
    """Slices of which several workloads hold hosts while one of them waits for the rest: a slice serves one, and none can begin."""
    waiting = {group.owner: group for group in world.once(pending_groups) if _asks(group.sample)}
    for one in world.once(slices) if waiting else ():
        holders: dict[ObjectRef, list[Pod]] = defaultdict(list)
        for pod in (pod for node in one.nodes for pod in world.pods_on(node.name) if _stays(pod) and _asks(pod)):
            holders[world.top_owner(pod.ref)].append(pod)
        short = next(
            (owner for owner in holders if owner in waiting and unmet_labels(waiting[owner].sample.spec, one.nodes[0]) is None), None
        )
        if short is None or len(holders) < 2:
            continue
        others = [owner for owner in holders if owner != short]
        yield Finding(
            "tpu.slice-shared",
            short,
            Certainty.LIKELY,
            (
                *(cite(Source.FIELD, pods[0].ref, "spec.nodeName", pods[0].spec.node_name or "") for pods in list(holders.values())[:4]),
                *waiting[short].evidence[:1],
            ),
            f"{short} has {len(holders[short])} of the {one.hosts} hosts of the TPU slice of node pool {one.pool} and waits for more, and "
            f"others of it are held by {', '.join(map(str, others[:3]))}: a slice serves one workload, and none begins on part of one.",
            affects=(*waiting[short].affected, *(pod.ref for pods in holders.values() for pod in pods), *others),
            since=waiting[short].since,
        )


def _proof(node: Node, why: str) -> tuple[str, str]:
    """The field that shows why a host is out of use, and what stands in it."""
    ready = node.condition("Ready")
    if ready is not None and not node.ready:
        return "status.conditions[Ready]", f"{ready.status}: {ready.message or ready.reason or ''}"
    return ("spec.unschedulable", "true") if node.spec.unschedulable else (f"status.allocatable[{CHIPS}]", why)


def _waiters(world: World, one: Slice) -> tuple[ObjectRef, ...]:
    return waiting_for(world, one.nodes[0], lambda name: name == CHIPS)


def _stays(pod: Pod) -> bool:
    """Whether it keeps its host: what is being deleted makes room within its grace period."""
    return not pod.finished and not pod.deleting


def _asks(pod: Pod) -> bool:
    return requests_of(pod.spec).get(CHIPS, 0) > 0


DETECTORS: tuple[Detector, ...] = (part_of_a_host, slice_incomplete, workers_differ, slice_split, slice_shared)
