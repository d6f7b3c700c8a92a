"""Candidate actions on nodes and their devices: keep pods off a broken node, restart what serves its devices, free what hangs on it.

Never an uncordon while a fault of that node is open, and never a cordon where a fifth of the nodes alike are out of service already: then
the fault is not in the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cluster.facts.event import CustomObject
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.vocabulary import Suspend
from runbooks.candidate import Candidate, evidence_of
from runbooks.detectors.devices import PLUGIN_NAME
from runbooks.finding import Cause

SUSPENDABLE = frozenset(Suspend.traits.kinds)
# The share of the nodes of one kind that may be out of service before taking out another is no remedy.
BREAKER_SHARE = 0.2
_HARDWARE = frozenset({"gpu/xid-hardware", "gpu/ecc", "gpu/nvlink", "gpu/thermal-throttle", "node/runtime-down", "node/clock-skew"})
_FAULT_AREAS = frozenset({"gpu", "node"})
# What serves the devices of a node, by the names that the GPU operator and the plugins' own manifests give their DaemonSets.
_OPERANDS: dict[str, re.Pattern[str]] = {
    "gpu/device-plugin-down": PLUGIN_NAME,
    "gpu/driver-mismatch": re.compile(f"nvidia-driver|container-toolkit|{PLUGIN_NAME.pattern}"),
    "gpu/toolkit-missing": re.compile(r"container-toolkit"),
}
_OWNERS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})
_PRODUCT_LABELS = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "node.kubernetes.io/instance-type")


def node_candidates(cause: Cause, world: World, others: Iterable[Cause]) -> Iterator[Candidate]:
    """What could be done about a cause that is a node; nothing for others."""
    node = world.find(cause.object)
    if not isinstance(node, Node):
        return
    yield from _operands(cause, node, world)
    if cause.class_ in _HARDWARE:
        yield from _quarantine(cause, node, world)
        for symptom in dict.fromkeys(item.object for item in cause.symptoms):
            if symptom.kind in SUSPENDABLE:
                why = f"{symptom} waits for a worker on {node.name}. Suspended, and resumed when no pod can land there, it starts elsewhere"
                yield from suspension(cause, symptom, f"{why} from its last checkpoint.", world)
    if cause.class_ == "scheduling/node-cordoned" and node.spec.unschedulable and not _unsound(node, others):
        yield Candidate(
            "uncordon",
            cause.object,
            {},
            f"{node.name} is cordoned, ready, and pods wait for it; no fault of it is open.",
            f"{node.name} is still cordoned and Ready.",
            "Cordon the node again.",
            "The node is schedulable.",
            evidence_of(cause),
        )


def _quarantine(cause: Cause, node: Node, world: World) -> Iterator[Candidate]:
    alike = [item for item in world.all(Node) if _product(item) == _product(node)]
    out = [item for item in alike if item.name != node.name and (item.spec.unschedulable or not item.ready)]
    if node.spec.unschedulable or len(out) > BREAKER_SHARE * len(alike):
        return
    yield Candidate(
        "cordon",
        cause.object,
        {},
        f"{cause.title} on {node.name}: new pods would land on a broken node.",
        f"{node.name} is schedulable; of {len(alike)} nodes alike, {len(out)} others are out of service, and at most a fifth may be.",
        "Uncordon the node.",
        "The node is unschedulable.",
        evidence_of(cause),
    )


def _product(node: Node) -> str:
    return next((node.labels[key] for key in _PRODUCT_LABELS if node.labels.get(key)), "")


def _operands(cause: Cause, node: Node, world: World) -> Iterator[Candidate]:
    """The pods that serve the node's devices: those that are not ready, or the plugin that runs and yet offers nothing."""
    pattern = _OPERANDS.get(cause.class_)
    pods = [pod for pod in world.pods_on(node.name) if pattern is not None and pattern.search(pod.name) and recreated(pod)]
    broken = [pod for pod in pods if not pod.ready]
    for pod in broken:
        yield delete(cause, pod, f"{pod.ref} on {node.name} is not ready, so the node offers no devices.")
    if cause.class_ == "gpu/device-plugin-down" and not broken:
        for pod in pods:
            yield delete(cause, pod, f"{pod.ref} runs on {node.name} and offers no devices. A new one looks for them and registers again.")


def suspension(cause: Cause, job: ObjectRef, why: str, world: World) -> Iterator[Candidate]:
    """Suspend a batch workload, by its Kueue Workload where Kueue owns the field."""
    admitted = next((item for item in world.custom("Workload") if isinstance(item, CustomObject) and _made_for(item, job)), None)
    target = admitted.ref if admitted is not None else job
    if target.kind in SUSPENDABLE:
        yield Candidate(
            "suspend",
            target,
            {},
            why,
            f"{target} is not suspended, and what it did since its last checkpoint may be lost.",
            "Resume it.",
            "It is suspended and its pods are gone.",
            evidence_of(cause),
        )


def _made_for(workload: CustomObject, job: ObjectRef) -> bool:
    owner = workload.controller
    return owner is not None and (owner.kind, owner.name, workload.namespace) == (job.kind, job.name, job.namespace)


def recreated(pod: Pod) -> bool:
    """Whether a controller makes a new one when it is gone."""
    owner = pod.controller
    return owner is not None and owner.controller is True and owner.kind in _OWNERS and not pod.deleting


def delete(cause: Cause, pod: Pod, why: str) -> Candidate:
    return Candidate(
        "delete_pod",
        pod.ref,
        {},
        why,
        f"The pod still has uid {pod.metadata.uid or '(unknown)'} and a controller.",
        f"Recreated by its owner {pod.controller.kind}/{pod.controller.name}." if pod.controller else "None.",
        "A pod of the same owner becomes ready.",
        evidence_of(cause),
    )


def _unsound(node: Node, others: Iterable[Cause]) -> bool:
    """Whether something else is wrong with the node, so that keeping pods off it is right."""
    if not node.ready or any(item.status == "True" for item in node.status.conditions or () if item.type != "Ready"):
        return True
    return any(item.object.same(node.ref) and item.class_.partition("/")[0] in _FAULT_AREAS for item in others)
