"""GPUs and other devices of nodes: withdrawn, unhealthy, misconfigured, without toolkit or driver.

It reads what the API shows: capacity against allocatable, labels, node conditions, kubelet messages, operator status. Kernel logs
and DCGM are other sources. A node served by Dynamic Resource Allocation legitimately lacks the extended resource.
Limits: no kernel logs are read here, and DCGM's counters in `deviceerrors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cluster.facts.dra import ResourceSlice
from cluster.facts.event import CustomObject, Event
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from guardrails.accelerator import Vendor, vendor_of, vendor_of_driver, vendors_by_resource
from runbooks import xid
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite
from runbooks.pending import Group, blame_of, broken_device_nodes, pending_groups, waiting_for
from runbooks.scheduling import Obstacle, Usage, requests_of, unmet_labels

# Labels by which a node says that it has a device, set by feature discovery or the cloud, not by the device plugin.
_PRESENT_LABELS = {"nvidia.com/gpu.present": "nvidia.com/gpu", "feature.node.kubernetes.io/pci-10de.present": "nvidia.com/gpu"}
# Plugins of accelerators, as their projects' manifests name them: network cards and other devices have plugins on the same nodes.
PLUGIN_NAME = re.compile(r"(?:nvidia|amd-?gpu|habana|gaudi|neuron|tpu|gpu)[\w.-]*plugin|^device-?plugin")
# Conditions of health agents, True = fault (NVSentinel), and the class of hardware that each watches.
_HEALTH = {
    "GpuMemWatch": "gpu.memory-fault",
    "GpuThermalWatch": "gpu.thermal",
    "GpuPowerWatch": "gpu.thermal",
    "GpuNvlinkWatch": "gpu.nvlink-fault",
    "NVSwitchFatalError": "gpu.nvlink-fault",
    "NVSwitchDown": "gpu.nvlink-fault",
    "SysLogsSXIDError": "gpu.nvlink-fault",
    "SysLogsXIDError": "gpu.hardware-fault",
    "SysLogsGPUFallenOff": "gpu.hardware-fault",
    "GpuPcieWatch": "gpu.hardware-fault",
    "GpuInforomWatch": "gpu.hardware-fault",
    "GpuSmWatch": "gpu.hardware-fault",
    "GpuMcuWatch": "gpu.hardware-fault",
    "GpuPmuWatch": "gpu.hardware-fault",
    "GpuDriverWatch": "gpu.driver-mismatch",
    # node-problem-detector as AWS sets it up for Neuron, and as ROCm's GPU operator documents it.
    "NeuronHealth": "gpu.hardware-fault",
    "AMDGPUProblem": "gpu.hardware-fault",
}
# What the reason of a condition says more exactly (EKS node monitoring agent pkg/reasons; Neuron's node-problem-detector rules).
_REASONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"Neuron(?:HasError_)?(?:SRAM|HBM)_?UNCORRECTABLE", re.IGNORECASE), "gpu.memory-fault"),
    (re.compile(r"^NvidiaDoubleBitError"), "gpu.memory-fault"),
    (re.compile(r"^NvidiaNVLinkError"), "gpu.nvlink-fault"),
)
# What ROCm's device-metrics-exporter writes on a node of each device that it calls unhealthy, and takes away when it is well.
_UNHEALTHY_LABEL = re.compile(r"metricsexporter\.amd\.com\.gpu\.(?P<device>[\w-]+)\.state$")
_INNOCENT = frozenset({xid.Family.APPLICATION, xid.Family.SYMPATHETIC, xid.Family.HARMLESS})
_OF_FAMILY = {
    xid.Family.MEMORY: "gpu.memory-fault",
    xid.Family.REMAPPED: "gpu.remap-pending",
    xid.Family.LINK: "gpu.nvlink-fault",
}
_STARTUP: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"(?i)driver/library version mismatch"), "gpu.driver-mismatch", "the GPU driver's library and kernel module differ"),
    (
        re.compile(r"(?i)CUDA driver version is insufficient|unsatisfied condition: cuda"),
        "gpu.driver-mismatch",
        "the GPU driver is too old for the image",
    ),
    (
        re.compile(r'no runtime for "nvidia" is configured|RuntimeHandler "nvidia" not supported'),
        "gpu.toolkit-missing",
        "the container runtime has no nvidia handler",
    ),
    (
        re.compile(
            r"(?i)unresolvable CDI devices|CDI device injection failed|failed to inject CDI devices|CDI support is explicitly disabled"
        ),
        "gpu.toolkit-missing",
        "the CDI specification of the device is missing or stale",
    ),
    (
        re.compile(r"(?i)nvidia-container-cli: .*|could not select device driver .*gpu"),
        "gpu.toolkit-missing",
        "the NVIDIA container toolkit cannot set the container up",
    ),
)


def plugin_down(world: World) -> Iterable[Finding]:
    """Nodes that have devices and offer none: the device plugin is gone, not registered, or calls every device unhealthy."""
    resources = {name for node in world.all(Node) for name in (node.status.capacity or {}) if "/" in name}
    resources = {name for name in resources if not name.startswith(("hugepages-", "attachable-volumes"))}
    lost: dict[str, list[Node]] = {}
    for resource in sorted(resources):
        for node in broken_device_nodes(world.all(Node), resource):
            lost.setdefault(resource, []).append(node)
    served = {item.spec.node_name for item in world.all(ResourceSlice) if item.spec.devices}
    for node in world.all(Node):
        for label, resource in _PRESENT_LABELS.items():
            offers = any(name.startswith("nvidia.com/") for name in (node.status.capacity or {}))
            if node.labels.get(label) == "true" and node.status.capacity and not offers and node.name not in served:
                lost.setdefault(resource, []).append(node)
    if not lost:
        return
    waiting = _waiting(world, frozenset(lost))
    for resource, nodes in lost.items():
        for node in {node.name: node for node in nodes}.values():
            if node.ready or node.condition("Ready") is None:
                groups = (group for group in waiting.get(resource, ()) if unmet_labels(group.sample.spec, node) is None)
                yield _plugin_down(world, node, resource, tuple(ref for group in groups for ref in (group.owner, *group.affected)))


def _waiting(world: World, resources: frozenset[str]) -> dict[str, tuple[Group, ...]]:
    """Groups of pods that no node has devices for, by resource."""
    usage, found = world.once(Usage), dict[str, tuple[Group, ...]]()
    for group in world.once(pending_groups):
        wanted = {name for name, value in requests_of(group.sample.spec).items() if value > 0 and name in resources}
        blame = blame_of(group, usage) if wanted else None
        if blame is None or blame.obstacle is not Obstacle.RESOURCE:
            continue
        for resource in wanted:
            found[resource] = (*found.get(resource, ()), group)
    return found


def _is_nvidia(resource: str) -> bool:
    return resource.startswith("nvidia.com/")


def _plugin_down(world: World, node: Node, resource: str, waiting: tuple[ObjectRef, ...]) -> Finding:
    capacity = node.capacity(resource)
    pods = [pod for pod in world.pods_on(node.name) if PLUGIN_NAME.search(pod.name)]
    broken = [pod for pod in pods if not pod.ready]
    evidence: list[Evidence] = [
        cite(
            Source.FIELD, node.ref, f"status.allocatable[{resource}]", f"{node.allocatable(resource) or 0:g} of capacity {capacity or 0:g}"
        )
    ]
    wants: tuple[LogWant, ...] = ()
    if capacity is None:
        evidence.append(cite(Source.FIELD, node.ref, "metadata.labels", "says that a GPU is present"))
        state = f"the node is labelled as having a GPU and has never registered {resource}"
    else:
        state = f"it has {capacity:g} {resource} and offers none"
    if broken:
        evidence.append(cite(Source.FIELD, broken[0].ref, "status.phase", f"{broken[0].status.phase}, not ready"))
        state += f"; its device plugin {broken[0].ref} is not ready"
    elif pods:
        wants = tuple(LogWant(ContainerRef(pod.namespace or "", pod.name, item.name)) for pod in pods[:1] for item in pod.spec.containers)
        state += f"; its device plugin {pods[0].ref} runs, so it finds no healthy device or did not register again"
    elif "Pod" in world.read_kinds and any(PLUGIN_NAME.search(item.name) for item in world.all(DaemonSet)):
        state += "; no device plugin pod runs on it"
    affects = (*waiting, *(pod.ref for pod in broken))
    text = f"Node {node.name} cannot hand out its devices: {state}."
    return Finding(
        "gpu.device-plugin-down", node.ref, Certainty.PROVEN if capacity else Certainty.LIKELY, tuple(evidence), text, affects, wants=wants
    )


def device_unhealthy(world: World) -> Iterable[Finding]:
    """Devices that the plugin, the kubelet or a health agent calls unhealthy while others of the node work."""
    for node in world.all(Node):
        for resource in node.status.capacity or {}:
            if vendor_of(resource) is None:
                continue
            capacity, usable = node.capacity(resource) or 0, node.allocatable(resource) or 0
            if 0 < usable < capacity:
                proof = cite(Source.FIELD, node.ref, f"status.allocatable[{resource}]", f"{usable:g} of capacity {capacity:g}")
                gone = f"{capacity - usable:g} of {capacity:g} {resource}"
                text = f"{gone} of node {node.name} are withdrawn: the device plugin calls them unhealthy."
                failing = tuple(pod.ref for pod in world.pods_on(node.name) if not pod.finished and not pod.ready and uses_device(pod))
                yield Finding("gpu.device-withdrawn", node.ref, Certainty.LIKELY, (proof,), text, failing)
        for item in node.status.conditions or ():
            faulty = item.status == "True" if item.type in _HEALTH else item.type == "AcceleratedHardwareReady" and item.status == "False"
            if not faulty:
                continue
            told = next((code for pattern, code in _REASONS if pattern.search(item.reason or "")), None)
            code = _by_xid(item.message or "", told or _HEALTH.get(item.type, "gpu.hardware-fault"))
            if code is None:
                continue
            proof = cite(
                Source.FIELD, node.ref, f"status.conditions[{item.type}]", f"{item.reason}: {item.message}", item.last_transition_time
            )
            users = tuple(pod.ref for pod in device_users(world, node))
            said = (item.message or item.reason or "no message")[:240]
            text = f"A {device_word(world, node)} of node {node.name} is faulty ({item.type}): {said}"
            text += xid.words_in(item.message or "")
            yield Finding(code, node.ref, Certainty.PROVEN, (proof,), text, users, since=item.last_transition_time)
        yield from _labelled_unhealthy(world, node)
    yield from _unhealthy_in_use(world)


def _labelled_unhealthy(world: World, node: Node) -> Iterable[Finding]:
    found = {match["device"]: key for key, value in node.labels.items() if value == "unhealthy" and (match := _UNHEALTHY_LABEL.match(key))}
    if found:
        names = ", ".join(sorted(found))
        yield Finding(
            "gpu.hardware-fault",
            node.ref,
            Certainty.PROVEN,
            tuple(cite(Source.FIELD, node.ref, f"metadata.labels[{key}]", "unhealthy") for key in sorted(found.values())[:5]),
            f"GPU {names} of node {node.name} is called unhealthy by its exporter: pods that have it keep it, and nobody gets it anew.",
            affects=tuple(pod.ref for pod in device_users(world, node)),
        )


def vendors_of(world: World, node: Node) -> tuple[Vendor, ...]:
    """Whose accelerators a node has, by its resources or by what DRA drivers publish of it."""
    named = vendors_by_resource(node.status.capacity or {}).values()
    return tuple(dict.fromkeys((*named, *world.once(_drivers).get(node.name, ()))))


def _drivers(world: World) -> dict[str, tuple[Vendor, ...]]:
    found: dict[str, tuple[Vendor, ...]] = {}
    for item in world.all(ResourceSlice):
        vendor = vendor_of_driver(item.spec.driver)
        if vendor is not None and item.spec.node_name:
            found[item.spec.node_name] = (*found.get(item.spec.node_name, ()), vendor)
    return found


def device_word(world: World, node: Node) -> str:
    """What people call a device of this node."""
    words = {vendor.device for vendor in vendors_of(world, node)}
    return words.pop() if len(words) == 1 else "GPU"


def device_users(world: World, node: Node) -> tuple[Pod, ...]:
    """The pods on a node that have accelerators and have not ended."""
    return tuple(pod for pod in world.pods_on(node.name) if not pod.finished and uses_device(pod))


def _by_xid(message: str, otherwise: str | None = None) -> str | None:
    """The code that the XID in a message points to, `otherwise` without one; None where it is no fault of the device."""
    number = xid.number_in(message)
    code = code_of_xid(number) if number is not None else otherwise
    return None if code == "gpu.nvlink-fault" and xid.is_minor(message) else code


def code_of_xid(number: int) -> str | None:
    """The code of an XID error; None for 0, which is none, for those of applications and those that only follow another.

    A number that the table does not have counts as a fault of the hardware: the device plugin withdraws the device for it.
    """
    row = xid.table().get(number)
    if not number or (row is not None and row.family in _INNOCENT):
        return None
    return _OF_FAMILY.get(row.family, "gpu.hardware-fault") if row is not None else "gpu.hardware-fault"


def uses_device(pod: Pod) -> bool:
    """Whether a pod asks for an accelerator."""
    return bool(pod.spec.resource_claims) or any(
        vendor_of(name) is not None
        for container in pod.spec.all_containers
        for name in (*(container.resources.requests or ()), *(container.resources.limits or ()))
    )


def _unhealthy_in_use(world: World) -> Iterable[Finding]:
    for pod in world.all(Pod):
        for status in pod.all_statuses:
            for resource in status.allocated_resources_status or ():
                for device in resource.resources or ():
                    if device.health != "Unhealthy":
                        continue
                    subject = ObjectRef("Node", None, pod.spec.node_name) if pod.spec.node_name else pod.ref
                    proof = cite(
                        Source.FIELD,
                        pod.ref,
                        f"status.containerStatuses[{status.name}].allocatedResourcesStatus",
                        f"{device.resource_id}: Unhealthy",
                    )
                    text = f"Device {device.resource_id} ({resource.name}) that {pod.ref} uses on node {pod.spec.node_name} is unhealthy."
                    yield Finding("gpu.hardware-fault", subject, Certainty.PROVEN, (proof,), text, affects=(pod.ref,))


def partition_mismatch(world: World) -> Iterable[Finding]:
    """MIG: a configuration that failed to apply, and pods that ask for a profile that no node offers."""
    for node in world.all(Node):
        if node.labels.get("nvidia.com/mig.config.state") == "failed":
            wanted = node.labels.get("nvidia.com/mig.config", "?")
            proof = cite(Source.FIELD, node.ref, "metadata.labels[nvidia.com/mig.config.state]", f"failed (nvidia.com/mig.config={wanted})")
            text = f"MIG configuration {wanted} could not be applied on node {node.name}; the GPU is usually still in use."
            yield Finding("gpu.mig-failed", node.ref, Certainty.PROVEN, (proof,), text, affects=waiting_for(world, node, _is_nvidia))
    if not world.all(Node):
        return
    offered = {name for node in world.all(Node) for name in (node.status.capacity or {}) if name.startswith("nvidia.com/")}
    for group in world.once(pending_groups):
        wanted_profiles = [name for name in requests_of(group.sample.spec) if name.startswith("nvidia.com/mig-") and name not in offered]
        if wanted_profiles and offered:
            proof = cite(Source.FIELD, group.sample.ref, "spec.containers[].resources.requests", wanted_profiles[0])
            has = ", ".join(sorted(offered))
            text = f"{group.owner} asks for {wanted_profiles[0]}, and the nodes offer {has}: another MIG profile or strategy."
            evidence = (*group.evidence, proof)
            yield Finding("gpu.mig-mismatch", group.owner, Certainty.PROVEN, evidence, text, group.affected, group.since)


def runtime_setup(world: World) -> Iterable[Finding]:
    """Containers that cannot start because driver, toolkit or CDI on the node do not fit, by the runtime's own words."""
    for pod in world.unready_pods():
        for message, proof in _setup_messages(world, pod):
            told = next(((code, words) for pattern, code, words in _STARTUP if pattern.search(message)), None)
            if told is None:
                continue
            code, words = told
            subject = ObjectRef("Node", None, pod.spec.node_name) if pod.spec.node_name else world.top_owner(pod.ref)
            text = f"On node {pod.spec.node_name} {words}, so {pod.ref} cannot start: {message[:200]}"
            yield Finding(code, subject, Certainty.PROVEN, (proof,), text, affects=(pod.ref, world.top_owner(pod.ref)))
            break


def _setup_messages(world: World, pod: Pod) -> Iterable[tuple[str, Evidence]]:
    for status in pod.all_statuses:
        for state in (status.state, status.last_state):
            for item in (state.waiting, state.terminated):
                if item is not None and item.message and item.reason != "CrashLoopBackOff":
                    yield (
                        item.message,
                        cite(Source.FIELD, pod.ref, f"status.containerStatuses[{status.name}]", f"{item.reason}: {item.message}"),
                    )
    for event in reversed(world.events(pod.ref, "FailedCreatePodSandBox", "Failed", "FailedStart")):
        yield event.text, cite(Source.EVENT, pod.ref, event.reason, event.text, event.last_seen)


def operator_not_ready(world: World) -> Iterable[Finding]:
    """The GPU operator's own verdict."""
    for policy in world.custom("ClusterPolicy"):
        if not isinstance(policy, CustomObject):
            continue
        state = policy.status.get("state") if isinstance(policy.status, dict) else None
        failed = next((item for item in policy.conditions if (item.type, item.status) in (("Ready", "False"), ("Error", "True"))), None)
        if state != "notReady" and failed is None:
            continue
        why = f"{failed.reason}: {failed.message}" if failed and failed.message else f"state {state}"
        proof = cite(Source.FIELD, policy.ref, "status", why)
        operands = tuple(pod.ref for pod in world.unready_pods() if "gpu-operator" in (pod.namespace or ""))
        text = f"The GPU operator is not ready ({why[:200]}); {len(operands)} of its pods are not ready."
        certainty = Certainty.LIKELY if operands else Certainty.PROVEN
        yield Finding("gpu.operator-not-ready", policy.ref, certainty, (proof,), text, affects=operands)


def fault_events(world: World) -> Iterable[Finding]:
    """XID errors that an agent reports as events on a node."""
    for event in world.all(Event):
        if event.subject.kind == "Node" and event.warning and "xid" in event.text.lower():
            code = _by_xid(event.text)
            if code is not None:
                proof = cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)
                text = f"The GPU driver of node {event.subject.name} reports {event.text[:240]}{xid.words_in(event.text)}"
                users = tuple(
                    pod.ref for pod in world.pods_on(event.subject.name) if not pod.finished and not pod.ready and uses_device(pod)
                )
                node = ObjectRef("Node", None, event.subject.name)
                yield Finding(code, node, Certainty.PROVEN, (proof,), text, users, since=event.first_seen)


DETECTORS: tuple[Detector, ...] = (
    plugin_down,
    device_unhealthy,
    partition_mismatch,
    runtime_setup,
    operator_not_ready,
    fault_events,
)
