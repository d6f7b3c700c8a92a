"""TPU slices of GKE: pods that ask for other than a whole host, and slices of several hosts of which one is missing.

"The number of requested google.com/tpu must be equal to the total number of available TPU chips on the TPU slice node", and the hosts of a
multi-host slice are one atomic unit (Google Cloud, "About TPUs in GKE"): while one is out, the chips of the others are of no use.
Limits: how many hosts a slice has follows from its topology label and the chips of a host; a pool whose nodes nobody may list is not
judged, and neither is one for whose chips nobody waits. Slices put together by a scheduler (dynamic slicing) name no topology.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
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


def _proof(node: Node, why: str) -> tuple[str, str]:
    """The field that shows why a host is out of use, and what stands in it."""
    ready = node.condition("Ready")
    if ready is not None and not node.ready:
        return "status.conditions[Ready]", f"{ready.status}: {ready.message or ready.reason or ''}"
    return ("spec.unschedulable", "true") if node.spec.unschedulable else (f"status.allocatable[{CHIPS}]", why)


def _waiters(world: World, one: Slice) -> tuple[ObjectRef, ...]:
    return waiting_for(world, one.nodes[0], lambda name: name == CHIPS)


def _asks(pod: Pod) -> bool:
    return requests_of(pod.spec).get(CHIPS, 0) > 0


DETECTORS: tuple[Detector, ...] = (part_of_a_host, slice_incomplete)
