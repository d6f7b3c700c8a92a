"""What could be done about a cause: candidate actions from the closed vocabulary, each with why, precondition, inverse and check.

A candidate is a suggestion. The gate observes the object again, plans the exact request and decides. An undo is offered only when
an earlier revision is known to have worked; a restart never for a broken spec, which would only break again; nothing where somebody
else acts (`handover`). Nodes, their devices and what runs there are `noderemedies`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from math import ceil

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim, StorageClass
from cluster.facts.workload import DaemonSet, Deployment, HorizontalPodAutoscaler, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.candidate import Candidate, evidence_of
from runbooks.finding import Cause, Certainty
from runbooks.handover import operator_of
from runbooks.noderemedies import delete, node_candidates, recreated, suspension
from runbooks.revisions import Rollout, failing, pods_of_revision, rollout_of

# A revision that was the current one this long before it was replaced counts as having worked.
PROBATION = timedelta(minutes=15)
GROWTH = 1.5
GIBIBYTE = 2**30

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
_REPLICA_AMONG_OTHERS = frozenset({"inference/slow-replica"})
# Workers or pods that wait for others that cannot come.
_HOLDS_FOR_NOTHING = frozenset({"training/gang-partial", "queue/pods-ready-timeout"})
_REPLACE_POD_HELPS = frozenset({"runtime/sandbox-failed", "inference/slow-replica", "training/straggler", "config/stale-secret"})
_SCALED_DOWN = re.compile(r"Scaled down replica set \S+ (?:from (\d+) to 0|to 0 from (\d+))")


def candidates(cause: Cause, world: World, others: Iterable[Cause] = ()) -> tuple[Candidate, ...]:
    """What could be done, best first; empty when no word of the vocabulary treats it. `others` are the diagnosis's other causes:
    they can forbid a remedy. A cause that is only possible gets none."""
    if cause.certainty is Certainty.POSSIBLE:
        return ()
    if cause.handover and cause.object.kind == Node.kind:
        return ()
    template = () if cause.handover else (_undo(cause, world), _scale_up(cause, world), _restart(cause, world))
    makers = (
        *template,
        _replace_pod(cause, world),
        _bounds(cause, world),
        _expand(cause, world),
        _batch(cause, world),
        node_candidates(cause, world, others),
    )
    return tuple(candidate.fit_to_show for made in makers for candidate in made)


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
        evidence_of(cause),
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
        evidence_of(cause),
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
        evidence_of(cause),
    )


def _replace_pod(cause: Cause, world: World) -> Iterator[Candidate]:
    if cause.class_ not in _REPLACE_POD_HELPS:
        return
    fact = world.find(cause.object)
    if isinstance(fact, Pod) and recreated(fact):
        yield delete(cause, fact, f"{cause.object} is stuck: {cause.title.lower()}. Its controller makes a new one.")
    elif cause.class_ in _REPLICA_AMONG_OTHERS:
        yield from _evict_replica(cause, world)


def _evict_replica(cause: Cause, world: World) -> Iterator[Candidate]:
    """One replica of a model server, where others serve meanwhile: the one that the cause's first evidence is about."""
    pods = {pod.ref.key: pod for pod in world.pods_of(cause.object)}
    accused = next((pods[item.object.key] for item in cause.evidence if item.object.key in pods), None)
    serving = [pod for pod in pods.values() if pod.ready and pod is not accused]
    if accused is None or not serving or not recreated(accused):
        return
    yield Candidate(
        "evict_pod",
        accused.ref,
        {},
        f"{accused.name} is the one that lags, and {len(serving)} other replica(s) serve. A new one starts afresh.",
        f"At least one other replica of {cause.object} is ready, and no disruption budget refuses.",
        f"Recreated by its owner {accused.controller.kind}/{accused.controller.name}." if accused.controller else "None.",
        "A pod of the same owner becomes ready.",
        evidence_of(cause),
    )


def _bounds(cause: Cause, world: World) -> Iterator[Candidate]:
    """Room for half as many replicas more, where an autoscaler stands at its limit and the load is real."""
    if cause.class_ != "inference/autoscaler-limit":
        return
    for hpa in (item for item in world.all(HorizontalPodAutoscaler) if operator_of(item.ref, world) is None):
        on = hpa.spec.scale_target_ref
        scaled = ObjectRef(on.kind, hpa.namespace, on.name)
        if cause.object.same(hpa.ref) or cause.object.same(scaled):
            raised = ceil(hpa.spec.max_replicas * GROWTH)
            yield Candidate(
                "set_replica_bounds",
                hpa.ref,
                {"maximum": raised},
                f"{scaled} runs at the maximum of {hpa.spec.max_replicas} that {hpa.ref} allows, and its load asks for more.",
                f"{hpa.ref} still has a maximum of {hpa.spec.max_replicas}, and there are devices for more replicas.",
                f"Set the maximum to {hpa.spec.max_replicas} again.",
                f"{hpa.ref} has a maximum of {raised}.",
                evidence_of(cause),
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
        evidence_of(cause),
    )


def _batch(cause: Cause, world: World) -> Iterator[Candidate]:
    """Stop what holds devices and gets nowhere."""
    if cause.class_ in _HOLDS_FOR_NOTHING:
        yield from suspension(cause, cause.object, f"{cause.object} holds devices and gets nowhere: {cause.title.lower()}.", world)


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 1440} days" if minutes >= 2880 else f"{minutes // 60} hours" if minutes >= 120 else f"{minutes} minutes"
