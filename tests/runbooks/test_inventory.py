"""The inventory of accelerators, over worlds of every way in which devices are offered, held, sick and stranded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runbooks.catalogue import catalogue
from runbooks.inventory import ANY_NODE, FAULTS, UNSEEN, Offer, Total, by_workload, inventory, notes, total
from tests.runbooks.worlds import world

READY = 'conditions: [{type: Ready, status: "True"}]'


def node(
    name: str = "g", devices: str = "nvidia.com/gpu: 8", usable: str = "", *, labels: str = "{}", spec: str = "{}", state: str = READY
) -> str:
    return f"""
---
kind: Node
metadata: {{name: {name}, labels: {labels}}}
spec: {spec}
status:
  capacity: {{cpu: 64, memory: 512Gi, {devices}}}
  allocatable: {{cpu: 64, memory: 512Gi, {usable or devices}}}
  {state}
"""


def pod(
    name: str, limits: str, on: str | None = "g", *, owner: str = "", phase: str = "Running", start: str = "2026-01-15T10:00:00Z"
) -> str:
    controller = f", ownerReferences: [{{kind: Job, name: {owner}, uid: u, controller: true}}]" if owner else ""
    return f"""
---
kind: Pod
metadata: {{name: {name}, namespace: ml{controller}}}
spec: {{{f"nodeName: {on}, " if on else ""}containers: [{{name: c, resources: {{limits: {{{limits}}}}}}}]}}
status: {{phase: {phase}{f", startTime: {start}" if on else ""}}}
"""


def only(text: str) -> Offer:
    [offer] = inventory(world(text))
    return offer


def test_a_node_says_what_it_has_and_who_holds_it() -> None:
    offer = only(
        node(labels='{nvidia.com/gpu.product: "NVIDIA-H100-80GB-HBM3"}')
        + pod("a-0", "nvidia.com/gpu: 2", owner="a")
        + pod("a-1", "nvidia.com/gpu: 2", owner="a", start="2026-01-15T09:00:00Z")
        + pod("b", "nvidia.com/gpu: 1")
        + pod("done", "nvidia.com/gpu: 3", phase="Succeeded")
        + pod("cpu-only", "cpu: 1")
    )
    assert (offer.vendor, offer.model, offer.capacity, offer.held, offer.free, offer.sick) == (
        "NVIDIA",
        "NVIDIA-H100-80GB-HBM3",
        8,
        5,
        3,
        0,
    )
    assert [(holder.workload.kind, holder.workload.name, holder.count, len(holder.pods)) for holder in offer.holders] == [
        ("Job", "a", 4, 2),
        ("Pod", "b", 1, 1),
    ]
    assert offer.holders[0].since == datetime(2026, 1, 15, 9, tzinfo=UTC)
    assert offer.state == "partly-free"
    assert only(node()).state == "free"


def test_devices_that_the_plugin_withdrew_are_sick() -> None:
    offer = only(node(usable="nvidia.com/gpu: 6") + pod("a", "nvidia.com/gpu: 6"))
    assert (offer.sick, offer.free, offer.state) == (2, 0, "sick")


@pytest.mark.parametrize(
    ("spec", "state", "closed"),
    [
        ("{unschedulable: true}", READY, "cordoned"),
        ("{}", 'conditions: [{type: Ready, status: "False"}]', "not ready"),
        ("{taints: [{key: nvidia.com/gpu, effect: NoSchedule}]}", READY, ""),
        ("{}", "conditions: []", ""),
    ],
)
def test_a_closed_node_keeps_its_free_devices_to_itself(spec: str, state: str, closed: str) -> None:
    offer = only(node(spec=spec, state=state))
    assert (offer.closed, offer.free) == (closed, 8)
    assert offer.state == ("closed" if closed else "free")


def test_free_devices_that_nobody_who_waits_can_have_are_stranded() -> None:
    offer = only(node() + pod("eater", "cpu: 60") + pod("wants", "nvidia.com/gpu: 4, cpu: 16", on=None, phase="Pending"))
    assert offer.state == "stranded"
    assert [strand.workload.name for strand in offer.strands] == ["wants"]
    assert offer.strands[0].why == "wants 16 cpu, 4 cpu free"


def test_a_need_for_whole_nodes_strands_the_rest_of_one() -> None:
    offer = only(node() + pod("small", "nvidia.com/gpu: 1") + pod("wants", "nvidia.com/gpu: 8", on=None, phase="Pending"))
    assert offer.state == "stranded"
    assert offer.strands[0].why == "wants 8 nvidia.com/gpu, 7 nvidia.com/gpu free"


def test_devices_that_one_of_those_who_wait_could_have_are_free() -> None:
    waiting = pod("big", "nvidia.com/gpu: 16", on=None, phase="Pending") + pod("fits", "nvidia.com/gpu: 1", on=None, phase="Pending")
    assert only(node() + waiting).state == "free"


def test_who_waits_for_something_else_strands_nothing() -> None:
    assert only(node() + pod("wants", "cpu: 100", on=None, phase="Pending")).state == "free"


def test_shared_replicas_are_told_from_devices() -> None:
    shared = "{nvidia.com/gpu.replicas: '4', nvidia.com/gpu.sharing-strategy: time-slicing, nvidia.com/gpu.count: '2'}"
    offer = only(node(labels=shared))
    assert (offer.sharing, offer.physical, offer.capacity) == ("time-slicing x4", 2, 8)
    alone = only(node(labels="{nvidia.com/gpu.replicas: '1', nvidia.com/gpu.sharing-strategy: none, nvidia.com/gpu.count: '8'}"))
    assert (alone.sharing, alone.physical) == ("", None)


def test_slices_of_a_partitioned_device_are_offers_of_their_own() -> None:
    offers = inventory(world(node(devices="nvidia.com/mig-1g.10gb: 7, nvidia.com/mig-3g.40gb: 2") + pod("a", "nvidia.com/mig-3g.40gb: 1")))
    assert [(offer.resource, offer.sharing, offer.held) for offer in offers] == [
        ("nvidia.com/mig-1g.10gb", "MIG", 0),
        ("nvidia.com/mig-3g.40gb", "MIG", 1),
    ]


def test_cores_are_pieces_of_the_devices_beside_them() -> None:
    offers = inventory(world(node(devices="aws.amazon.com/neuron: 16, aws.amazon.com/neuroncore: 32")))
    assert [(offer.resource, offer.part) for offer in offers] == [("aws.amazon.com/neuron", False), ("aws.amazon.com/neuroncore", True)]
    assert total(offers).capacity == 16


@pytest.mark.parametrize(
    ("devices", "vendor"),
    [
        ("amd.com/gpu: 8", "AMD"),
        ("habana.ai/gaudi: 8", "Intel Gaudi"),
        ("google.com/tpu: 4", "Google TPU"),
        ("gpu.intel.com/xe: 2", "Intel"),
    ],
)
def test_every_vendor_has_the_same_view(devices: str, vendor: str) -> None:
    resource = devices.partition(":")[0]
    offer = only(node(devices=devices) + pod("a", f"{resource}: 1"))
    assert (offer.vendor, offer.held) == (vendor, 1)


def test_what_is_no_accelerator_is_not_listed() -> None:
    assert inventory(world(node(devices="rdma/hca: 8"))) == ()


SLICES = """
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: old}
spec:
  driver: gpu.nvidia.com
  nodeName: g
  pool: {name: g, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-9}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: new}
spec:
  driver: gpu.nvidia.com
  nodeName: g
  pool: {name: g, generation: 2, resourceSliceCount: 1}
  devices:
    - {name: gpu-0, attributes: {productName: {string: NVIDIA H100}}}
    - {name: gpu-1, attributes: {productName: {string: NVIDIA H100}}}
    - {name: gpu-2, taints: [{key: gpu.nvidia.com/unhealthy, effect: NoExecute}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: nic}
spec: {driver: dra.net, nodeName: g, pool: {name: g, generation: 1, resourceSliceCount: 1}, devices: [{name: eth0}]}
"""


def claim(device: str, reserved: str) -> str:
    return f"""
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {{name: c-{device}, namespace: ml}}
status:
  allocation: {{devices: {{results: [{{request: r, driver: gpu.nvidia.com, pool: g, device: {device}}}]}}}}
  reservedFor: {reserved}
"""


def test_claimed_devices_are_read_from_the_newest_pool_and_its_claims() -> None:
    offer = only(
        node(devices="ephemeral-storage: 1Ti")
        + SLICES
        + claim("gpu-0", "[{resource: pods, name: a, uid: u}]")
        + pod("a", "cpu: 1", owner="train")
    )
    assert (offer.node, offer.resource, offer.model) == ("g", "gpu.nvidia.com", "NVIDIA H100")
    assert (offer.capacity, offer.held, offer.free, offer.sick) == (3, 1, 1, 1)
    assert [(holder.workload.kind, holder.workload.name) for holder in offer.holders] == [("Job", "train")]


def test_an_allocated_claim_that_nobody_seen_reserves_is_still_held() -> None:
    offer = only(SLICES + claim("gpu-0", "[]"))
    assert (offer.held, offer.holders[0].workload) == (1, UNSEEN)


def test_what_is_free_of_partitionable_devices_is_not_guessed() -> None:
    offer = only(
        """
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: gpu.nvidia.com
  allNodes: true
  pool: {name: p, generation: 1, resourceSliceCount: 1}
  sharedCounters: [{name: gpu-0, counters: {memory: {value: 80Gi}}}]
  devices:
    - {name: gpu-0, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 80Gi}}}]}
    - {name: gpu-0-mig-1, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 10Gi}}}]}
"""
    )
    assert (offer.node, offer.capacity, offer.overlapping, offer.free) == (ANY_NODE, 1, True, 0)


def test_the_sums_are_those_of_the_offers() -> None:
    offers = inventory(
        world(
            node("a", usable="nvidia.com/gpu: 7")
            + node("b", spec="{unschedulable: true}")
            + pod("x", "nvidia.com/gpu: 4", on="a", owner="t")
            + pod("y", "nvidia.com/gpu: 3", on="b", owner="t")
            + pod("z", "nvidia.com/gpu: 8", on=None, phase="Pending")
        )
    )
    assert total(offers) == Total(capacity=16, held=7, free=8, sick=1, closed=5, stranded=3)
    [holder] = by_workload(offers)
    assert (holder.workload.name, holder.count, len(holder.pods)) == ("t", 7, 2)


def test_health_agents_are_heard() -> None:
    sick = 'conditions: [{type: Ready, status: "True"}, {type: SysLogsXIDError, status: "True", reason: r, message: "XID 79 on gpu 3"}]'
    found = notes(world(node(state=sick)))
    assert [(note.object.name, note.code) for note in found] == [("g", "gpu.hardware-fault")]
    assert found[0].suspects
    assert set(catalogue()) >= FAULTS
    assert notes(world(node())) == ()
