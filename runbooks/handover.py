"""Causes on which somebody else already acts: what they own is theirs to change, and whatever we changed they would undo.

It only names the owner. It does not judge whether the owner will succeed; one that says that it has failed owns nothing any more.
"""

from __future__ import annotations

from msgspec.structs import replace

from cluster.facts.node import Node
from cluster.facts.workload import DaemonSet, Deployment, HorizontalPodAutoscaler, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Cause, Diagnosis

# NVSentinel commons/pkg/statemanager: drain-failed and remediation-failed are where it has given up.
SENTINEL_LABEL = "dgxc.nvidia.com/nvsentinel-state"
SENTINEL_ACTS = frozenset({"quarantined", "draining", "drain-succeeded", "remediating", "remediation-succeeded"})
# NVIDIA k8s-operator-libs pkg/upgrade/consts.go: in all other states it cordons, drains, restarts the driver and uncordons by itself;
# in upgrade-required a node only waits for its turn, and a whole fleet may.
UPGRADE_LABEL = "nvidia.com/gpu-driver-upgrade-state"
UPGRADE_RESTS = frozenset({"", "upgrade-required", "upgrade-done", "upgrade-failed"})
_NODE_AREAS = ("gpu/", "node/", "scheduling/node-cordoned")
_BUILT_IN = frozenset({"apps", "batch", ""})


def with_handovers(diagnosis: Diagnosis, world: World) -> Diagnosis:
    """The diagnosis with every cause saying who else acts on it, where somebody does."""
    return replace(diagnosis, causes=tuple(replace(cause, handover=handover(cause, world)) for cause in diagnosis.causes))


def handover(cause: Cause, world: World) -> str:
    """Who acts on a cause and how one knows; "" where nobody does."""
    fact = world.find(cause.object)
    if isinstance(fact, Node) and cause.class_.startswith(_NODE_AREAS):
        state = fact.labels.get(SENTINEL_LABEL, "")
        if state in SENTINEL_ACTS:
            return (
                f"NVSentinel acts on {fact.name} ({SENTINEL_LABEL}={state}): it cordons, drains, repairs and uncordons by itself. "
                "Leave the node to it, and look at its events on the node when it stops."
            )
        upgrade = fact.labels.get(UPGRADE_LABEL, "")
        if upgrade not in UPGRADE_RESTS:
            return (
                f"The GPU operator upgrades the driver of {fact.name} ({UPGRADE_LABEL}={upgrade}) and uncordons the node when it is done. "
                "Leave the node to it; a step that does not end waits for a job or a disruption budget."
            )
    owner = operator_of(cause.object, world)
    if owner is not None:
        return f"{owner} makes {cause.object} and sets it back to what {owner} says. Change it there."
    return ""


def operator_of(ref: ObjectRef, world: World) -> ObjectRef | None:
    """The custom resource whose controller writes the spec of this workload or autoscaler; None for what people or a pipeline write."""
    fact = world.find(ref)
    if not isinstance(fact, Deployment | StatefulSet | DaemonSet | HorizontalPodAutoscaler):
        return None
    owner = fact.controller
    if owner is None or not owner.controller or (owner.api_version or "").rpartition("/")[0] in _BUILT_IN:
        return None
    return ObjectRef(owner.kind, fact.namespace, owner.name, owner.uid)
