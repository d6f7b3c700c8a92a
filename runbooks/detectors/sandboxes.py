"""Pod sandboxes that the runtime cannot create, on one workload, on one node, or for want of addresses (failures.md A24).

Limits: the runtime's message is all there is; the state of the network plugin is not read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.pods import cite_event, current_events, short, troubled_pods
from runbooks.finding import Certainty, Detector, Finding

NO_ADDRESS = re.compile(
    r"no IP addresses available|failed to assign an IP address|no available IP|no addresses available|address pool exhausted|"
    r"IPAM.*(?:exhausted|no free)|"
    r"all \d+ available addresses are in use|Insufficient(?:Free)?Addresses|no podCIDRs? available",
    re.I,
)


def failed_sandboxes(world: World) -> Iterator[Finding]:
    """Pods whose sandbox the runtime cannot create; several workloads on one node accuse the node."""
    found: dict[str, list[tuple[Pod, Event]]] = defaultdict(list)
    for pod in troubled_pods(world):
        if any(status.restart_count for status in pod.all_statuses):
            continue
        events = current_events(world, pod, "FailedCreatePodSandBox", "FailedPodSandBoxStatus")
        started = world.events(pod.ref, "Started")
        if events and not started:
            found[pod.spec.node_name or ""].append((pod, events[0]))
    for node, hits in found.items():
        owners = {world.top_owner(pod.ref).key for pod, _ in hits}
        for pod, event in hits:
            exhausted = NO_ADDRESS.search(event.text)
            shared = bool(node) and (len(owners) > 1 or exhausted is not None)
            owner = world.top_owner(pod.ref)
            yield Finding(
                code="sandbox.addresses-exhausted" if exhausted else "sandbox.failed",
                subject=ObjectRef("Node", None, node) if shared else owner,
                certainty=Certainty.PROVEN if exhausted else Certainty.LIKELY,
                evidence=(cite_event(event),),
                explanation=f"No sandbox can be created for {pod.ref}"
                + (f" on node {node}" if node else "")
                + (": the node has no pod address left." if exhausted else f": {short(event.text)}")
                + (f" {len(owners)} workloads on this node are affected." if len(owners) > 1 else ""),
                affects=(pod.ref,),
                since=event.first_seen,
            )


DETECTORS: tuple[Detector, ...] = (failed_sandboxes,)
