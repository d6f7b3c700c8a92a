"""What could be done about a cause: candidate actions from the closed vocabulary, each with why, precondition, inverse and check.

A candidate is a suggestion. The gate observes the object again, plans the exact request and decides. An undo is offered only when
an earlier revision is known to have worked; a restart never for a broken spec, which would only break again; an uncordon never
while a fault of that node's hardware or kubelet is open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from math import ceil
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim, StorageClass
from cluster.facts.workload import DaemonSet, Deployment, HorizontalPodAutoscaler, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.redact import present
from runbooks.finding import Cause, Certainty
from runbooks.revisions import Rollout, failing, pods_of_revision, rollout_of

# A revision that was the current one this long before it was replaced counts as having worked.
PROBATION = timedelta(minutes=15)
GROWTH = 1.5
GIBIBYTE = 2**30
TEXT_LIMIT = 2_000

_ROLLOUT_KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
# Areas whose causes lie in the pod template, so that an earlier template is a remedy.
_TEMPLATE_AREAS = frozenset({"image", "config", "probe", "rollout", "inference", "scheduling", "runtime", "network", "training", "scaling"})
_NOT_IN_TEMPLATE = frozenset(
    {
        "scaling/zero-replicas", "config/suspended", "config/unused", "config/stale-secret", "config/missing-configmap",
        "config/missing-secret", "runtime/evicted", "runtime/sandbox-failed", "image/registry-unreachable", "scheduling/preempted",
        "scheduling/node-cordoned", "inference/saturated", "inference/slow-replica", "inference/autoscaler-limit",
    }
)  # fmt: skip
# A process that went wrong while its spec is right: a new one starts clean.
_RESTART_HELPS = frozenset({"config/stale-secret", "app/memory-leak", "inference/kv-transfer-failing"})
_REPLACE_POD_HELPS = frozenset({"runtime/sandbox-failed", "inference/slow-replica", "training/straggler", "config/stale-secret"})
_NODE_HARDWARE = frozenset({"gpu/xid-hardware", "gpu/ecc", "gpu/nvlink", "gpu/thermal-throttle", "node/runtime-down", "node/clock-skew"})
_NODE_FAULT_AREAS = frozenset({"gpu", "node"})
_SCALED_DOWN = re.compile(r"Scaled down replica set \S+ (?:from (\d+) to 0|to 0 from (\d+))")


class Candidate(Struct, frozen=True):
    """One action that would treat a cause. `action` and `parameters` are words of `guardrails.action`; the rest is for people."""

    action: str
    target: ObjectRef
    parameters: dict[str, Any]
    why: str
    precondition: str
    inverse: str
    verification: str
    evidence: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The action as `guardrails.action.parse_action` reads it."""
        return {"action": self.action, **self.parameters}


def candidates(cause: Cause, world: World, others: Iterable[Cause] = ()) -> tuple[Candidate, ...]:
    """What could be done, best first; empty when no word of the vocabulary treats it. `others` are the diagnosis's other causes:
    they can forbid a remedy. A cause that is only possible gets none."""
    if cause.certainty is Certainty.POSSIBLE:
        return ()
    makers = (
        _undo(cause, world),
        _scale_up(cause, world),
        _restart(cause, world),
        _replace_pod(cause, world),
        _expand(cause, world),
        _node(cause, world, others),
    )
    return tuple(_shown(candidate) for made in makers for candidate in made)


def _shown(candidate: Candidate) -> Candidate:
    """The candidate with its texts fit to show: they quote fields of the cluster."""
    texts = {name: present(getattr(candidate, name), TEXT_LIMIT) for name in ("why", "precondition", "inverse", "verification")}
    return replace(candidate, **texts)


def _undo(cause: Cause, world: World) -> Iterator[Candidate]:
    area = cause.class_.partition("/")[0]
    if cause.object.kind not in _ROLLOUT_KINDS or area not in _TEMPLATE_AREAS or cause.class_ in _NOT_IN_TEMPLATE:
        return
    rollout = rollout_of(world, cause.object)
    if rollout is None or not rollout.changes:
        return
    proof = _worked(world, rollout)
    if proof is None:
        return
    changed = "; ".join(str(change) for change in rollout.changes[:3])
    yield Candidate(
        "rollout_undo",
        cause.object,
        {"to_revision": rollout.previous_revision},
        f"Revision {rollout.revision} brought {changed}. Revision {rollout.previous_revision} worked: {proof}.",
        f"{cause.object} is still at revision {rollout.revision} and revision {rollout.previous_revision} still exists.",
        f"Roll forward to revision {rollout.revision} again.",
        "The rollout completes: all replicas are updated and ready.",
        tuple(item.id for item in cause.evidence),
    )


def _worked(world: World, rollout: Rollout) -> str | None:
    """How one knows that the earlier revision worked; None when one does not."""
    current, earlier = pods_of_revision(world, rollout)
    ready = sum(pod.ready for pod in earlier)
    if ready:
        return f"{ready} of its pods still run and are ready"
    before = world.find(rollout.previous)
    if not any(failing(pod, world.now) for pod in current) or before is None or before.created is None or rollout.at is None:
        return None
    served = rollout.at - before.created
    if served < PROBATION or any(failing(pod, world.now) for pod in earlier):
        return None
    return f"it was in service for {_span(served)} before it was replaced"


def _scale_up(cause: Cause, world: World) -> Iterator[Candidate]:
    fact = world.find(cause.object)
    if cause.class_ != "scaling/zero-replicas" or not isinstance(fact, Deployment | StatefulSet) or fact.spec.replicas != 0:
        return
    autoscaled = any(
        (hpa.spec.scale_target_ref.kind, hpa.spec.scale_target_ref.name, hpa.namespace) == (fact.ref.kind, fact.name, fact.namespace)
        for hpa in world.all(HorizontalPodAutoscaler)
    )
    before = _replicas_before(world, fact)
    replicas, reason = (before, f"it had {before} replicas before") if before else (1, "how many it had is not known, so one")
    note = " An autoscaler takes over from there." if autoscaled else ""
    yield Candidate(
        "scale",
        cause.object,
        {"replicas": replicas},
        f"{cause.object} has no replicas and others depend on it; {reason}.{note}",
        f"{cause.object} still has 0 replicas.",
        "Scale to 0 again.",
        f"{replicas} replicas become ready.",
        tuple(item.id for item in cause.evidence),
    )


def _replicas_before(world: World, workload: Deployment | StatefulSet) -> int | None:
    """The replicas before a scale to zero, as the controller's event tells."""
    for event in reversed(world.events(workload.ref, "ScalingReplicaSet")):
        found = _SCALED_DOWN.search(event.text)
        if found:
            return int(found[1] or found[2])
    return None


def _restart(cause: Cause, world: World) -> Iterator[Candidate]:
    if cause.class_ not in _RESTART_HELPS or not isinstance(world.find(cause.object), Deployment | StatefulSet | DaemonSet):
        return
    yield Candidate(
        "rollout_restart",
        cause.object,
        {},
        f"The spec of {cause.object} is right and its processes are not: {cause.title.lower()}. New ones start clean.",
        f"The pods of {cause.object} are the ones that were observed.",
        "None is needed: the template stays the same but for the restart annotation.",
        "All replicas are replaced and ready.",
        tuple(item.id for item in cause.evidence),
    )


def _replace_pod(cause: Cause, world: World) -> Iterator[Candidate]:
    pod = world.find(cause.object)
    if isinstance(pod, Pod) and cause.class_ in _REPLACE_POD_HELPS and _recreated(pod):
        yield _delete(cause, pod, f"{cause.object} is stuck: {cause.title.lower()}. Its controller makes a new one.")
    if isinstance(pod, Node) and cause.class_ == "gpu/device-plugin-down":
        for plugin in world.pods_on(pod.name):
            if "device-plugin" in plugin.name and not plugin.ready and _recreated(plugin):
                yield _delete(cause, plugin, f"The device plugin on {pod.name} is not ready, so the node offers no devices.")


def _recreated(pod: Pod) -> bool:
    owner = pod.controller
    return owner is not None and owner.controller is True and owner.kind in {*_ROLLOUT_KINDS, ReplicaSet.kind, "Job"} and not pod.deleting


def _delete(cause: Cause, pod: Pod, why: str) -> Candidate:
    return Candidate(
        "delete_pod",
        pod.ref,
        {},
        why,
        f"The pod still has uid {pod.metadata.uid or '(unknown)'} and a controller.",
        f"Recreated by its owner {pod.controller.kind}/{pod.controller.name}." if pod.controller else "None.",
        "A pod of the same owner becomes ready.",
        tuple(item.id for item in cause.evidence),
    )


def _expand(cause: Cause, world: World) -> Iterator[Candidate]:
    """Half as much again for a full volume, where its class allows that; what fills it may fill that too, so a person decides."""
    claim = world.find(cause.object)
    if cause.class_ != "storage/volume-full" or not isinstance(claim, PersistentVolumeClaim) or claim.status.phase != "Bound":
        return
    allowed = any(item.name == claim.spec.storage_class_name and item.allow_volume_expansion for item in world.all(StorageClass))
    if not allowed or claim.requested_bytes is None:
        return
    size = f"{ceil(claim.requested_bytes * GROWTH / GIBIBYTE)}Gi"
    yield Candidate(
        "expand_pvc",
        cause.object,
        {"size": size},
        f"{cause.object} is full, and StorageClass/{claim.spec.storage_class_name} lets it grow. What fills it may fill {size} too.",
        f"{cause.object} is bound and asks for less than {size}.",
        "None: a volume never shrinks.",
        f"The volume has {size}.",
        tuple(item.id for item in cause.evidence),
    )


def _node(cause: Cause, world: World, others: Iterable[Cause]) -> Iterator[Candidate]:
    node = world.find(cause.object)
    if not isinstance(node, Node):
        return
    evidence = tuple(item.id for item in cause.evidence)
    if cause.class_ in _NODE_HARDWARE and not node.spec.unschedulable:
        yield Candidate(
            "cordon",
            cause.object,
            {},
            f"{cause.title} on {node.name}: new pods would land on a broken node.",
            f"{node.name} is schedulable and other nodes can take its pods.",
            "Uncordon the node.",
            "The node is unschedulable.",
            evidence,
        )
    if cause.class_ == "scheduling/node-cordoned" and node.spec.unschedulable and not _unsound(node, others):
        yield Candidate(
            "uncordon",
            cause.object,
            {},
            f"{node.name} is cordoned, ready, and pods wait for it; no fault of it is open.",
            f"{node.name} is still cordoned and Ready.",
            "Cordon the node again.",
            "The node is schedulable.",
            evidence,
        )


def _unsound(node: Node, others: Iterable[Cause]) -> bool:
    """Whether something else is wrong with the node, so that keeping pods off it is right."""
    if not node.ready or any(item.status == "True" for item in node.status.conditions or () if item.type != "Ready"):
        return True
    return any(item.object.same(node.ref) and item.class_.partition("/")[0] in _NODE_FAULT_AREAS for item in others)


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 1440} days" if minutes >= 2880 else f"{minutes // 60} hours" if minutes >= 120 else f"{minutes} minutes"
