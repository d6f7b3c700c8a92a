from __future__ import annotations

from runbooks.detectors.volumes import DETECTORS
from tests.runbooks.measured import findings, flat, grown, risen, told

CLAIM = "PersistentVolumeClaim/ml/models"
TEXT = """
kind: PersistentVolumeClaim
metadata: {name: models, namespace: ml}
spec: {storageClassName: nfs, volumeName: pv1, accessModes: [ReadWriteMany]}
status: {phase: Bound}
---
kind: StorageClass
metadata: {name: nfs}
provisioner: nfs.csi.example.com
allowVolumeExpansion: true
---
kind: PersistentVolume
metadata: {name: pv1}
spec: {claimRef: {name: models, namespace: ml}, nfs: {server: 10.2.0.9, path: /models}}
---
kind: Pod
metadata: {name: chat-0, namespace: ml}
spec: {nodeName: n0, containers: [{name: main, image: x}], volumes: [{name: v, persistentVolumeClaim: {claimName: models}}]}
status: {phase: Running}
---
kind: Node
metadata: {name: n0}
"""
LABELS = {"namespace": "ml", "persistentvolumeclaim": "models"}
USED, FILES = "kubelet_volume_stats_used_ratio", "kubelet_volume_stats_inodes_used_ratio"
OPERATION = {"node": "n0", "export": "10.2.0.9:/models"}


def test_a_volume_without_room() -> None:
    [finding] = findings(DETECTORS, TEXT, [flat(USED, 0.991, **LABELS)])
    assert (finding.code, str(finding.subject)) == ("storage.volume-full", CLAIM)
    assert "99.1% of its space is used. StorageClass nfs lets it grow." in finding.explanation
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/chat-0"]
    assert told(DETECTORS, TEXT, flat(FILES, 0.99, **LABELS)) == {("storage.volume-full", CLAIM)}
    assert told(DETECTORS, TEXT, flat(USED, 0.9, **LABELS), flat(FILES, 0.2, **LABELS)) == set()


def test_a_volume_that_was_made_for_a_pod() -> None:
    made = TEXT.replace("name: models, namespace: ml}\nspec", "name: chat-0-v, namespace: ml}\nspec")
    made = made.replace("persistentVolumeClaim: {claimName: models}", "ephemeral: {volumeClaimTemplate: {spec: {}}}")
    [finding] = findings(DETECTORS, made, [flat(USED, 0.991, namespace="ml", persistentvolumeclaim="chat-0-v")])
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/chat-0"]


def test_a_volume_that_will_have_none() -> None:
    assert told(DETECTORS, TEXT, grown(USED, 0.80, 0.90, **LABELS)) == {("storage.volume-filling", CLAIM)}
    # So slowly that nobody has to get up for it, and quickly with much room left.
    assert told(DETECTORS, TEXT, grown(USED, 0.895, 0.90, **LABELS)) == set()
    assert told(DETECTORS, TEXT, grown(USED, 0.20, 0.40, **LABELS)) == set()


def test_a_claim_that_nobody_knows() -> None:
    assert told(DETECTORS, TEXT, flat(USED, 0.99, namespace="ml", persistentvolumeclaim="other")) == set()


def test_a_file_server_that_became_slow() -> None:
    name = "node_mountstats_nfs_operation_seconds"
    [finding] = findings(DETECTORS, TEXT, [risen(name, 0.004, 0.6, **OPERATION)])
    assert (finding.code, str(finding.subject)) == ("storage.file-server-slow", "PersistentVolume/pv1")
    assert {str(ref) for ref in finding.affects} == {CLAIM, "Pod/ml/chat-0"}
    assert told(DETECTORS, TEXT, risen(name, 0.004, 0.6, node="n0", export="10.9.9.9:/other")) == {("storage.file-server-slow", "Node/n0")}
    assert told(DETECTORS, TEXT, risen(name, 0.004, 0.05, **OPERATION)) == set()
    assert told(DETECTORS, TEXT, flat(name, 0.6, **OPERATION)) == set()
