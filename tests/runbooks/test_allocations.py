"""Who holds which accelerators, by device plugin and by claim, in one list."""

from __future__ import annotations

from runbooks.allocations import allocations
from tests.runbooks.worlds import world

NODE = """
kind: Node
metadata: {name: g, labels: {nvidia.com/gpu.sharing-strategy: time-slicing, nvidia.com/gpu.replicas: "4"}}
status: {capacity: {nvidia.com/gpu: 8, nvidia.com/mig-1g.10gb: 7}, allocatable: {nvidia.com/gpu: 8, nvidia.com/mig-1g.10gb: 7}}
---
kind: Pod
metadata: {name: shared, namespace: ml}
spec: {nodeName: g, containers: [{name: c, resources: {limits: {nvidia.com/gpu: 2}}}]}
status:
  phase: Running
  containerStatuses:
  - name: c
    allocatedResourcesStatus:
    - name: nvidia.com/gpu
      resources: [{resourceID: GPU-1, health: Healthy}, {resourceID: GPU-2, health: Unhealthy}]
---
kind: Pod
metadata: {name: slice, namespace: ml}
spec: {nodeName: g, containers: [{name: c, resources: {limits: {nvidia.com/mig-1g.10gb: 1}}}]}
status: {phase: Running}
---
kind: Pod
metadata: {name: over, namespace: ml}
spec: {nodeName: g, containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}
status: {phase: Succeeded}
"""
CLAIM = """
---
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: gpu.nvidia.com
  nodeName: d
  pool: {name: d, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0, taints: [{key: x, effect: None}]}, {name: gpu-1, taints: [{key: x, effect: NoExecute}]}, {name: gpu-2}]
---
kind: DeviceTaintRule
metadata: {name: repair}
spec: {deviceSelector: {driver: gpu.nvidia.com, device: gpu-2}, taint: {key: y, effect: NoSchedule}}
---
kind: Pod
metadata: {name: one, namespace: ml}
spec: {nodeName: d, containers: [{name: c}]}
status: {phase: Running}
---
kind: ResourceClaim
metadata: {name: both, namespace: ml}
status:
  allocation:
    devices:
      results:
      - {request: r, driver: gpu.nvidia.com, pool: d, device: gpu-0}
      - {request: r, driver: gpu.nvidia.com, pool: d, device: gpu-1}
      - {request: r, driver: gpu.nvidia.com, pool: d, device: gpu-2}
      - {request: r, driver: network.example, pool: d, device: nic}
  reservedFor: [{resource: pods, name: one, uid: u}, {resource: pods, name: two, uid: v}]
"""


def test_plugins_say_how_devices_are_divided_and_which_are_sick() -> None:
    shared, slice_ = allocations(world(NODE))
    assert (shared.pod.name, shared.count, shared.way, shared.devices, shared.sick) == (
        "shared",
        2,
        "device plugin, time-slicing x4",
        ("GPU-1", "GPU-2"),
        ("GPU-2",),
    )
    assert (slice_.pod.name, slice_.resource, slice_.way, slice_.devices) == ("slice", "nvidia.com/mig-1g.10gb", "device plugin, MIG", ())


def test_claims_name_their_devices_and_every_pod_that_shares_them() -> None:
    one, two = allocations(world(CLAIM))
    assert (one.pod.name, two.pod.name) == ("one", "two")
    for item in (one, two):
        assert (item.node, item.resource, item.count, item.way) == ("d", "gpu.nvidia.com", 3, "claim both")
        assert (item.devices, item.sick) == (("gpu-0", "gpu-1", "gpu-2"), ("gpu-1", "gpu-2"))
        assert item.claim is not None
        assert item.claim.name == "both"
