"""Claims with what they are bound to, how full they are, and who mounts them."""

from __future__ import annotations

from cluster.reading import Reading, Sample, Series
from cluster.reference import ObjectRef
from cluster.telemetry import Telemetry
from runbooks.volumeclaims import claims, claims_of
from tests.runbooks.worlds import NOW, world

TEXT = """
kind: StorageClass
metadata: {name: fast}
provisioner: x
allowVolumeExpansion: true
---
kind: PersistentVolume
metadata: {name: pv-1}
spec: {csi: {driver: ebs.csi.example}}
---
kind: PersistentVolumeClaim
metadata: {name: weights, namespace: ml}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, volumeName: pv-1, resources: {requests: {storage: 100Gi}}}
status: {phase: Bound, capacity: {storage: 120Gi}}
---
kind: PersistentVolumeClaim
metadata: {name: waiting, namespace: ml}
spec: {accessModes: [ReadWriteMany]}
---
kind: Pod
metadata: {name: p, namespace: ml}
spec:
  nodeName: g
  containers: [{name: c}]
  volumes: [{name: w, persistentVolumeClaim: {claimName: weights}}, {name: scratch, ephemeral: {}}]
status: {phase: Running}
"""


def stat(name: str, value: float) -> Series:
    return Series({"__name__": name, "namespace": "ml", "persistentvolumeclaim": "weights"}, (Sample(NOW, value),))


def test_unbound_claims_come_first_and_bound_ones_say_to_what() -> None:
    waiting, weights = claims(world(TEXT))
    assert (waiting.ref.name, waiting.phase, waiting.volume, waiting.driver, waiting.expandable) == ("waiting", "Pending", "", "", False)
    assert (weights.driver, weights.expandable, weights.modes) == ("ebs.csi.example", True, ("ReadWriteOnce",))
    assert (weights.requested_bytes, weights.capacity_bytes, weights.full) == (100 * 2.0**30, 120 * 2.0**30, None)
    assert weights.mounts == ((ObjectRef("Pod", "ml", "p"), "g"),)


def test_fullness_is_the_kubelets_under_either_name() -> None:
    both = (stat("kubelet_volume_stats_used_bytes", 90.0), stat("kubelet_volume_stats_capacity_bytes", 100.0))
    ratio = (stat("kubelet_volume_stats_used_ratio", 0.95), stat("kubelet_volume_stats_inodes_used_ratio", 0.1))
    for series, full in ((both, 0.9), (ratio, 0.95), ((*both, *ratio), 0.95), (both[:1], None)):
        grown = world(TEXT).with_telemetry(Reading(Telemetry(series=series)))
        assert claims(grown)[-1].full == full


def test_ephemeral_volumes_have_claims_of_their_own() -> None:
    [pod] = world(TEXT).pods_in("ml")
    assert claims_of(pod) == ("weights", "p-scratch")
