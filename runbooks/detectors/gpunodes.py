"""GPU nodes that stay out of use after an upgrade, whose operands were paused and never resumed, or that fail one workload after another.

Labels of the GPU operator and of the MIG manager, taints, and how pods of different owners ended by node. Limits: a label says no time, so
an upgrade is called stuck only where somebody waits for the node; containers that were deleted since are not counted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import Key, World
from guardrails.accelerator import vendor_of
from runbooks.detectors.devices import uses_device
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.pending import waiting_for

# Of the operator's driver upgrade (k8s-operator-libs upgrade/consts.go): what it waits for in each state.
_UPGRADE = "nvidia.com/gpu-driver-upgrade-state"
_WAITS = {
    "wait-for-jobs-required": "that its jobs end",
    "pod-deletion-required": "that its GPU pods go",
    "drain-required": "that it is drained",
    "pod-restart-required": "the new driver's pod",
    "validation-required": "that the new driver validates",
    "uncordon-required": "that it is uncordoned",
}
_HOLDS = frozenset({"wait-for-jobs-required", "pod-deletion-required", "drain-required"})
# gpu-operator: what the MIG manager sets while it changes the partitions, and takes back when it has (mig-parted nvidia-mig-manager.sh).
_PAUSED = "paused-for-mig-change"
_OPERAND = "nvidia.com/gpu.deploy."
_MIG_STATE = "nvidia.com/mig.config.state"
_MIG_BUSY = frozenset({"pending", "rebooting"})
# Workloads of at least two owners, three failures in all, and no node besides: chance does not do that.
FAILURES = 3
OWNERS = 2
RECENT = timedelta(hours=6)
# What ends a program whatever its hardware: no room, an image, a probe, a person.
_OWN_FAULT = re.compile(r"OOMKilled|Evicted|Completed|StartError|ContainerCannotRun|DeadlineExceeded|Preempt")


def upgrade_failed(world: World) -> Iterator[Finding]:
    """Nodes whose driver upgrade failed: they stay closed until somebody looks."""
    for node in world.all(Node):
        if node.labels.get(_UPGRADE) == "upgrade-failed":
            proof = cite(Source.FIELD, node.ref, f"metadata.labels[{_UPGRADE}]", "upgrade-failed")
            text = f"The GPU driver upgrade of node {node.name} has failed and leaves the node out of use."
            yield Finding("gpu.driver-upgrade-failed", node.ref, Certainty.PROVEN, (proof,), text, affects=_waiters(world, node))


def _waiters(world: World, node: Node) -> tuple[ObjectRef, ...]:
    """Who waits for devices and may stand on this node."""
    return waiting_for(world, node, lambda name: vendor_of(name) is not None)


def upgrade_stuck(world: World) -> Iterator[Finding]:
    """Nodes that a driver upgrade has closed and that it does not finish, while somebody waits for their devices."""
    for node in world.all(Node):
        state = node.labels.get(_UPGRADE, "")
        affected = _waiters(world, node) if state in _WAITS and node.spec.unschedulable else ()
        if not affected:
            continue
        users = [pod for pod in world.pods_on(node.name) if not pod.finished and uses_device(pod)] if state in _HOLDS else []
        held = f"; {len(users)} pod(s) still use its GPUs, the first is {users[0].ref}" if users else ""
        yield Finding(
            "gpu.driver-upgrade-stuck",
            node.ref,
            Certainty.LIKELY,
            (
                cite(Source.FIELD, node.ref, f"metadata.labels[{_UPGRADE}]", state),
                cite(Source.FIELD, node.ref, "spec.unschedulable", "true"),
                *(cite(Source.FIELD, pod.ref, "spec.nodeName", node.name) for pod in users[:2]),
            ),
            f"The GPU driver upgrade of node {node.name} has closed it and waits for {_WAITS[state]}{held}, while pods wait for "
            "such devices.",
            affects=affected,
        )


def operand_paused(world: World) -> Iterator[Finding]:
    """Nodes on which the MIG manager stopped the GPU operator's pods for a change that is over, and did not let them come back."""
    for node in world.all(Node):
        paused = sorted(key for key, value in node.labels.items() if key.startswith(_OPERAND) and value == _PAUSED)
        state = node.labels.get(_MIG_STATE, "")
        if not paused or state in _MIG_BUSY:
            continue
        names = ", ".join(key.removeprefix(_OPERAND) for key in paused)
        yield Finding(
            "gpu.operand-paused",
            node.ref,
            Certainty.LIKELY,
            (
                cite(Source.FIELD, node.ref, f"metadata.labels[{paused[0]}]", _PAUSED),
                cite(Source.FIELD, node.ref, f"metadata.labels[{_MIG_STATE}]", state or "absent"),
            ),
            f"On node {node.name} {names} stay paused for a MIG change that is over (state {state or 'unknown'}): its devices do not come "
            "back by themselves.",
            affects=_waiters(world, node),
        )


def node_keeps_failing(world: World) -> Iterator[Finding]:
    """GPU nodes on which pods of several owners die and none does well: the scheduler chooses such a node again and again. Likely only
    where a program that dies there does well on another node."""
    nodes: dict[str, dict[ObjectRef, list[Pod]]] = defaultdict(lambda: defaultdict(list))
    elsewhere: dict[ObjectRef, set[str]] = defaultdict(set)
    well: dict[Key, set[str]] = defaultdict(set)
    for pod in world.pods_not_ready():
        if pod.spec.node_name and uses_device(pod) and _died(world, pod) is not None:
            owner = world.top_owner(pod.ref)
            nodes[pod.spec.node_name][owner].append(pod)
            elsewhere[owner].add(pod.spec.node_name)
    if not nodes:
        return
    for owner, pods in world.workloads():
        for pod in pods:
            if pod.spec.node_name and (pod.ready or pod.status.phase == "Succeeded") and uses_device(pod) and _died(world, pod) is None:
                well[owner.key].add(pod.spec.node_name)
    others = {node for places in well.values() for node in places}
    for name, owners in nodes.items():
        died = [pod for pods in owners.values() for pod in pods]
        only_here = [owner for owner in owners if elsewhere[owner] == {name}]
        if len(died) < FAILURES or len(only_here) < OWNERS or len(only_here) != len(owners) or name in others or not others:
            continue
        proven = any(well[owner.key] for owner in owners)
        blame = "the node is to blame, not the programs" if proven else "the node is to blame, or each of these programs"
        yield Finding(
            "gpu.node-keeps-failing",
            ObjectRef(Node.kind, None, name),
            Certainty.LIKELY if proven else Certainty.POSSIBLE,
            tuple(proof for pod in died[:5] if (proof := _died(world, pod)) is not None),
            f"{len(died)} GPU pods of {len(owners)} owners died on node {name} in the last {RECENT.total_seconds() / 3600:.0f} h and none "
            f"of theirs elsewhere, while GPU pods of {len(others)} other node(s) do well: {blame}.",
            affects=tuple(dict.fromkeys(ref for pod in died for ref in (pod.ref, world.top_owner(pod.ref)))),
            lacks="what its GPUs report: DCGM, a health agent or its kernel log",
        )


def _died(world: World, pod: Pod) -> Evidence | None:
    """How a container of it ended badly of late, for no reason of its own that is known."""
    if _OWN_FAULT.search(pod.status.reason or ""):
        return None
    for status in pod.all_statuses:
        ended = status.state.terminated or status.last_state.terminated
        if ended is None or ended.exit_code == 0 or _OWN_FAULT.search(ended.reason or ""):
            continue
        if not status.ready and ended.finished_at is not None and world.now - ended.finished_at <= RECENT:
            quote = f"{ended.reason or 'ended'}, exit code {ended.exit_code}"
            return cite(Source.FIELD, pod.ref, f"status.containerStatuses[{status.name}]", quote, ended.finished_at)
    return None


DETECTORS: tuple[Detector, ...] = (upgrade_failed, upgrade_stuck, operand_paused, node_keeps_failing)
