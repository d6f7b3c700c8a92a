"""Claims and volumes: one fault and one near miss per code of claims, mounts and logs."""

from __future__ import annotations

import json

import pytest

from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors import buckets, mounts, snapshots, storage
from runbooks.finding import Finding
from tests.runbooks.worlds import told, world

Logs = dict[tuple[str, str, str] | tuple[str, str, str, bool], str]


def found(made: World) -> list[Finding]:
    detectors = (*storage.DETECTORS, *mounts.DETECTORS, *snapshots.DETECTORS, *buckets.DETECTORS)
    return [finding for detector in detectors for finding in detector(made)]


def claim(*, spec: str = "storageClassName: fast", phase: str = "Pending", size: str = "1Gi", modes: str = "[ReadWriteOnce]") -> str:
    return f"""
---
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: shop, uid: c1, creationTimestamp: "2026-01-15T11:30:00Z"}}
spec: {{{spec}, accessModes: {modes}, resources: {{requests: {{storage: {size}}}}}}}
status: {{phase: {phase}}}
"""


def class_(name: str = "fast", *, provisioner: str = "csi.example.com", mode: str = "Immediate") -> str:
    return f"\n---\nkind: StorageClass\nmetadata: {{name: {name}}}\nprovisioner: {provisioner}\nvolumeBindingMode: {mode}\n"


def volume(*, size: str = "1Gi", modes: str = "[ReadWriteOnce]", extra: str = "", labels: str = "{}", phase: str = "Available") -> str:
    return f"""
---
kind: PersistentVolume
metadata: {{name: pv1, labels: {labels}}}
spec: {{capacity: {{storage: {size}}}, accessModes: {modes}, storageClassName: fast{extra}}}
status: {{phase: {phase}}}
"""


def event(reason: str, message: str, *, kind: str = "PersistentVolumeClaim", name: str = "data", first: str = "11:40") -> str:
    return f"""
---
kind: Event
metadata: {{name: {reason.lower()}, namespace: shop}}
involvedObject: {{kind: {kind}, name: {name}, namespace: shop}}
reason: {reason}
type: Warning
message: {json.dumps(message)}
firstTimestamp: "2026-01-15T{first}:00Z"
lastTimestamp: "2026-01-15T11:59:00Z"
"""


def pod(
    *, name: str = "web", spec: str = "nodeName: n1", status: str = "phase: Pending", mount: str = "/data", read_only: str = "false"
) -> str:
    return f"""
---
kind: Pod
metadata: {{name: {name}, namespace: shop, creationTimestamp: "2026-01-15T11:30:00Z"}}
spec:
  {spec}
  containers: [{{name: c, volumeMounts: [{{name: v, mountPath: {mount}, readOnly: {read_only}}}]}}]
  volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]
status: {{{status}}}
"""


CRASHED = (
    "phase: Running, containerStatuses: [{name: c, ready: false, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}, "
    "lastState: {terminated: {exitCode: 1}}}]"
)
MISSING = 'storageclass.storage.k8s.io "fast" not found'
UNREACHABLE = "0/1 nodes are available: 1 node(s) didn''t match PersistentVolume''s node affinity."
AFFINITY = ", nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [b]}]}]}}"
PENDING = f"phase: Pending, conditions: [{{type: PodScheduled, status: 'False', reason: Unschedulable, message: '{UNREACHABLE}'}}]"
BOUND = claim(spec="storageClassName: fast, volumeName: pv1", phase="Bound")
MULTI = 'Multi-Attach error for volume "pv1" Volume is already exclusively attached to one node and can\'t be attached to another'
NODE = "\n---\nkind: Node\nmetadata: {name: n1, labels: {zone: a}}\nstatus: {conditions: [{type: Ready, status: 'True'}]}\n"
LOG = ("shop", "web", "c")
POD_EVENT = {"kind": "Pod", "name": "web"}


def asked(kind: str, spec: str, status: str, at: str = "11:30", day: str = "2026-01-15", name: str = "want") -> str:
    """A custom resource that somebody asked for at that time."""
    head = f"metadata: {{name: {name}, namespace: shop, uid: {name}, creationTimestamp: '{day}T{at}:00Z'}}"
    return f"\n---\nkind: {kind}\n{head}\nspec: {{{spec}}}\nstatus: {{{status}}}\n"


SNAPSHOT = "volumeSnapshotClassName: fast, source: {persistentVolumeClaimName: data}"
BUCKET, ACCESS = "bucketClassName: fast", "bucketClaims: [{bucketClaimName: want, accessSecretName: keys}]"
REFUSED = "readyToUse: false, error: {time: '2026-01-15T11:40:00Z', message: 'rpc error: code = ResourceExhausted desc = too many'}"
OLD = REFUSED.replace("2026-01-15", "2025-12-20")
RESTORED = claim(spec="storageClassName: fast, dataSource: {kind: VolumeSnapshot, name: want}")

FIRES: dict[str, tuple[str, str, Logs]] = {
    "storage.snapshot-failed": ("VolumeSnapshot/shop/want", asked("VolumeSnapshot", SNAPSHOT, REFUSED), {}),
    "storage.snapshot-left": ("VolumeSnapshot/shop/want", asked("VolumeSnapshot", SNAPSHOT, OLD, day="2025-12-20"), {}),
    "storage.bucket-not-ready": ("BucketClaim/shop/want", asked("BucketClaim", BUCKET, REFUSED), {}),
    "storage.bucket-access": ("BucketAccess/shop/want", asked("BucketAccess", ACCESS, "readyToUse: false"), {}),
    "storage.class-missing": ("PersistentVolumeClaim/shop/data", claim() + event("ProvisioningFailed", MISSING), {}),
    "storage.provisioning-failed": (
        "PersistentVolumeClaim/shop/data",
        claim()
        + class_()
        + event("ProvisioningFailed", 'failed to provision volume with StorageClass "fast": rpc error: code = ResourceExhausted desc = x'),
        {},
    ),
    "storage.csi-driver-missing": (
        "CSIDriver/csi.example.com",
        BOUND
        + pod()
        + event(
            "FailedMount",
            'MountVolume.MountDevice failed for volume "pv1" : driver name csi.example.com not found in the list of registered CSI drivers',
            **POD_EVENT,
        ),
        {},
    ),
    "storage.claim-unbound": ("PersistentVolumeClaim/shop/data", claim() + class_(), {}),
    "storage.claim-access-mode": ("PersistentVolumeClaim/shop/data", claim(modes="[ReadWriteMany]") + volume(), {}),
    "storage.claim-capacity": ("PersistentVolumeClaim/shop/data", claim(size="10Gi") + volume(), {}),
    "storage.claim-selector": (
        "PersistentVolumeClaim/shop/data",
        claim(spec="storageClassName: fast, selector: {matchLabels: {disk: ssd}}") + volume(labels="{disk: hdd}"),
        {},
    ),
    "storage.volume-taken": (
        "PersistentVolumeClaim/shop/data",
        claim(spec="storageClassName: fast, volumeName: pv1") + volume(extra=", claimRef: {name: other, namespace: shop}", phase="Bound"),
        {},
    ),
    "storage.claim-missing": (
        "PersistentVolumeClaim/shop/data",
        pod(spec="priority: 0", status=PENDING.replace(UNREACHABLE, '0/1 nodes are available: persistentvolumeclaim "data" not found.')),
        {},
    ),
    "storage.claim-lost": ("PersistentVolumeClaim/shop/data", claim(phase="Lost"), {}),
    "storage.volume-failed": ("PersistentVolume/pv1", volume(phase="Failed"), {}),
    "storage.volume-released": ("PersistentVolume/pv1", volume(phase="Released"), {}),
    "storage.volume-elsewhere": (
        "PersistentVolume/pv1",
        NODE + BOUND + volume(extra=AFFINITY, phase="Bound") + pod(spec="priority: 0", status=PENDING),
        {},
    ),
    "storage.multi-attach": ("PersistentVolumeClaim/shop/data", BOUND + pod() + event("FailedAttachVolume", MULTI, **POD_EVENT), {}),
    "storage.attach-failed": (
        "PersistentVolumeClaim/shop/data",
        BOUND
        + pod()
        + event("FailedAttachVolume", 'AttachVolume.Attach failed for volume "pv1" : rpc error: code = Internal', **POD_EVENT),
        {},
    ),
    "storage.mount-failed": (
        "PersistentVolumeClaim/shop/data",
        BOUND
        + pod()
        + event("FailedMount", 'MountVolume.SetUp failed for volume "pv1" : mount failed: exit status 32: wrong fs type', **POD_EVENT),
        {},
    ),
    "storage.mount-permission": (
        "Pod/shop/web",
        BOUND + pod(status=CRASHED),
        {LOG: "starting\nopen /data/db.lock: permission denied\n"},
    ),
    "storage.host-path-missing": (
        "Pod/shop/web",
        pod()
        + event("FailedMount", 'MountVolume.SetUp failed for volume "v" : hostPath type check failed: /x is not a directory', **POD_EVENT),
        {},
    ),
    "storage.volume-full": (
        "PersistentVolumeClaim/shop/data",
        BOUND + pod(status=CRASHED),
        {LOG: "write /data/wal/0001: no space left on device\n"},
    ),
    "storage.disk-full": ("Pod/shop/web", BOUND + pod(status=CRASHED), {LOG: "write failed: No space left on device\n"}),
    "storage.read-only": (
        "PersistentVolumeClaim/shop/data",
        BOUND + pod(status=CRASHED),
        {LOG: "mkdir /data/tmp: read-only file system\n"},
    ),
    "storage.resize-failed": (
        "PersistentVolumeClaim/shop/data",
        BOUND.replace("phase: Bound", "phase: Bound, capacity: {storage: 500Mi}") + event("VolumeResizeFailed", "cannot expand"),
        {},
    ),
}
NEAR: dict[str, tuple[str, Logs]] = {
    # Bound and not ready: it is being copied, for as long as that takes.
    "storage.snapshot-failed": (asked("VolumeSnapshot", SNAPSHOT, "readyToUse: false, boundVolumeSnapshotContentName: s1"), {}),
    # Its tries go on, and each of them fails.
    "storage.snapshot-left": (asked("VolumeSnapshot", SNAPSHOT, REFUSED, day="2025-12-20"), {}),
    # An error that a later try got over.
    "storage.bucket-not-ready": (asked("BucketClaim", BUCKET, REFUSED.replace("false", "true")), {}),
    "storage.bucket-access": (asked("BucketAccess", ACCESS, "readyToUse: false", at="11:58"), {}),
    # Static volumes of a class name without a StorageClass object are usual.
    "storage.class-missing": (claim() + volume(), {}),
    "storage.provisioning-failed": (claim() + class_() + event("ExternalProvisioning", "waiting", first="11:59"), {}),
    "storage.csi-driver-missing": (FIRES["storage.mount-failed"][1], {}),
    # Waiting for the first consumer is healthy.
    "storage.claim-unbound": (claim() + class_(mode="WaitForFirstConsumer"), {}),
    "storage.claim-access-mode": (FIRES["storage.claim-capacity"][1], {}),
    "storage.claim-capacity": (FIRES["storage.claim-access-mode"][1], {}),
    "storage.claim-selector": (FIRES["storage.claim-capacity"][1], {}),
    "storage.volume-taken": (claim(spec="storageClassName: fast, volumeName: pv1") + volume(), {}),
    "storage.claim-missing": (BOUND + pod(), {}),
    "storage.claim-lost": (BOUND, {}),
    "storage.volume-failed": (volume(phase="Released"), {}),
    "storage.volume-released": (volume(), {}),
    "storage.volume-elsewhere": (
        NODE + BOUND + volume(extra=AFFINITY, phase="Bound") + pod(status="phase: Running, conditions: [{type: Ready, status: 'True'}]"),
        {},
    ),
    "storage.multi-attach": (
        BOUND + pod(status="phase: Running, conditions: [{type: Ready, status: 'True'}]") + event("FailedAttachVolume", MULTI, **POD_EVENT),
        {},
    ),
    "storage.attach-failed": (FIRES["storage.mount-failed"][1], {}),
    # The configuration family's.
    "storage.mount-failed": (
        BOUND + pod() + event("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "x" not found', **POD_EVENT),
        {},
    ),
    "storage.mount-permission": (BOUND + pod(status=CRASHED), {LOG: "open /etc/other: permission denied\n"}),
    "storage.host-path-missing": (FIRES["storage.mount-failed"][1], {}),
    "storage.volume-full": (
        BOUND + pod(status="phase: Running, conditions: [{type: Ready, status: 'True'}]"),
        {LOG: "no space left on device"},
    ),
    "storage.disk-full": (FIRES["storage.volume-full"][1], FIRES["storage.volume-full"][2]),
    "storage.read-only": (BOUND + pod(status=CRASHED), {LOG: "set read-only file system mode on /proc\n"}),
    "storage.resize-failed": (
        BOUND.replace("phase: Bound", "phase: Bound, capacity: {storage: 1Gi}") + event("VolumeResizeFailed", "cannot expand"),
        {},
    ),
}


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    measured = {"storage.volume-filling", "storage.file-server-slow"}
    assert set(FIRES) == set(NEAR) == {code for code in catalogue() if code.startswith("storage.")} - measured


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text, logs = FIRES[code]
    assert told(code, found(world(text, logs=logs))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    text, logs = NEAR[code]
    assert told(code, found(world(text, logs=logs))) == []


def test_what_waits_for_a_snapshot_or_for_the_keys_of_a_bucket_is_named() -> None:
    [restoring] = [item for item in found(world(asked("VolumeSnapshot", SNAPSHOT, REFUSED) + RESTORED + pod())) if "snapshot" in item.code]
    assert {str(ref) for ref in restoring.affects} == {"PersistentVolumeClaim/shop/data", "Pod/shop/web"}
    reader = pod().replace("persistentVolumeClaim: {claimName: data}", "secret: {secretName: keys}")
    [denied] = found(world(asked("BucketAccess", ACCESS, REFUSED) + reader))
    assert {str(ref) for ref in denied.affects} == {"Secret/shop/keys", "Pod/shop/web"}
    # Without a bucket there is nothing to grant access to, and those who wait are its victims too.
    [bucket, access] = found(world(asked("BucketClaim", BUCKET, REFUSED) + asked("BucketAccess", ACCESS, "readyToUse: false") + reader))
    assert bucket.code == "storage.bucket-not-ready"
    assert access.subject in bucket.affects


@pytest.mark.parametrize(("kind", "ready"), [("BucketClaim", "bucketReady: true"), ("BucketAccess", "accessGranted: true")])
def test_buckets_of_the_version_before_say_that_they_are_ready_in_other_words(kind: str, ready: str) -> None:
    spec = "bucketClaimName: want, credentialsSecretName: keys"
    assert found(world(asked(kind, spec, ready))) == []
    reader = pod().replace("persistentVolumeClaim: {claimName: data}", "secret: {secretName: keys}")
    [waiting] = found(world(asked("BucketAccess", spec, ready.replace("true", "false")) + reader))
    assert {str(ref) for ref in waiting.affects} == {"Secret/shop/keys", "Pod/shop/web"}


def later(status: str = "readyToUse: true", *, of: str = "data", at: str = "11:50") -> str:
    return asked("VolumeSnapshot", f"source: {{persistentVolumeClaimName: {of}}}", status, at=at, name="later")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (asked("VolumeSnapshot", SNAPSHOT, REFUSED) + later(), "storage.snapshot-left"),
        (asked("VolumeSnapshot", SNAPSHOT, "") + later(), "storage.snapshot-left"),
        (asked("VolumeSnapshot", SNAPSHOT, "", day="2025-12-20"), "storage.snapshot-left"),
        # Somebody waits for just this one.
        (asked("VolumeSnapshot", SNAPSHOT, REFUSED) + later() + RESTORED, "storage.snapshot-failed"),
        (asked("VolumeSnapshot", SNAPSHOT, OLD, day="2025-12-20") + RESTORED, "storage.snapshot-failed"),
        # An earlier success, one of another claim, and one that is still copied are no later success.
        (asked("VolumeSnapshot", SNAPSHOT, REFUSED) + later(at="11:20"), "storage.snapshot-failed"),
        (asked("VolumeSnapshot", SNAPSHOT, REFUSED) + later(of="other"), "storage.snapshot-failed"),
        (
            asked("VolumeSnapshot", SNAPSHOT, REFUSED) + later("readyToUse: false, boundVolumeSnapshotContentName: s1"),
            "storage.snapshot-failed",
        ),
        # Last night's, and there was none since.
        (asked("VolumeSnapshot", SNAPSHOT, REFUSED.replace("2026-01-15", "2026-01-14"), day="2026-01-14"), "storage.snapshot-failed"),
    ],
)
def test_a_snapshot_that_failed_is_history_once_another_was_taken_or_days_have_passed(text: str, code: str) -> None:
    assert [(item.code, str(item.subject)) for item in found(world(text)) if "snapshot" in item.code] == [
        (code, "VolumeSnapshot/shop/want")
    ]


def test_a_snapshot_that_nobody_takes_up_is_likely_and_names_a_claim_that_is_gone() -> None:
    [finding] = found(world(asked("VolumeSnapshot", SNAPSHOT, ""), complete=("PersistentVolumeClaim",)))
    assert finding.certainty.word == "likely"
    assert "data, does not exist" in finding.explanation
    assert found(world(asked("VolumeSnapshot", SNAPSHOT, "", at="11:58"))) == []


def test_a_class_absent_from_a_complete_listing_needs_no_event() -> None:
    made = world(claim() + class_("slow"))
    assert [finding.code for finding in found(made)] == ["storage.class-missing"]
    assert "There are: slow." in found(made)[0].explanation


def test_a_provisioner_that_is_not_installed_is_told_apart_from_a_slow_one() -> None:
    text = claim() + class_() + event("ExternalProvisioning", "Waiting for a volume to be created")
    assert [finding.code for finding in found(world(text))] == ["storage.claim-unbound"]
    assert [finding.code for finding in found(world(text, complete=("CSIDriver",)))] == ["storage.csi-driver-missing"]


def test_a_template_of_a_missing_class_blames_the_statefulset() -> None:
    text = """
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: fast}}]}
"""
    assert [str(finding.subject) for finding in found(world(text))] == ["StatefulSet/shop/db"]
    assert found(world(text + class_())) == []


def test_a_deployment_that_holds_its_own_volume_is_blamed_for_its_strategy() -> None:
    owner = "\n---\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n"
    owned = "namespace: shop, ownerReferences: [{kind: Deployment, name: web, controller: true}],"
    old = pod(name="old", spec="nodeName: n2", status="phase: Running").replace("namespace: shop,", owned)
    made = world(owner + BOUND + old + pod().replace("namespace: shop,", owned) + event("FailedAttachVolume", MULTI, **POD_EVENT))
    assert [str(finding.subject) for finding in found(made)] == ["Deployment/shop/web"]


def test_a_read_only_mount_is_the_manifests_doing() -> None:
    made = world(BOUND + pod(status=CRASHED, read_only="true"), logs={LOG: "mkdir /data/tmp: read-only file system\n"})
    assert [str(finding.subject) for finding in found(made)] == ["Pod/shop/web"]


def test_a_pod_that_names_its_node_never_triggers_first_consumer_binding() -> None:
    made = world(claim() + class_(mode="WaitForFirstConsumer") + pod())
    assert [finding.code for finding in found(made)] == ["storage.claim-unbound"]


def test_an_attachment_refused_by_the_driver() -> None:
    text = """
kind: VolumeAttachment
metadata: {name: a, creationTimestamp: "2026-01-15T11:30:00Z"}
spec: {attacher: csi.example.com, nodeName: n1, source: {persistentVolumeName: pv1}}
status: {attached: %s, attachError: {message: volume is locked}}
"""
    assert [finding.code for finding in found(world(text % "false"))] == ["storage.attach-failed"]
    assert found(world(text % "true")) == []


def test_replicas_that_share_one_volume_are_told_so() -> None:
    owner = "\n---\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 3}\n"
    owned = "namespace: shop, ownerReferences: [{kind: Deployment, name: web, controller: true}],"
    twin = pod(name="twin", spec="nodeName: n2", status="phase: Running").replace("namespace: shop,", owned)
    made = world(owner + BOUND + twin + pod().replace("namespace: shop,", owned) + event("FailedAttachVolume", MULTI, **POD_EVENT))
    assert "All 3 replicas of Deployment/shop/web share this one volume" in found(made)[0].explanation


def test_a_driver_that_offers_no_shared_access() -> None:
    refused = 'failed to provision volume with StorageClass "fast": rpc error: code = InvalidArgument desc = Volume capabilities '
    refused += "MULTI_NODE_MULTI_WRITER not supported. Only AccessModes[ReadWriteOnce] supported."
    made = world(claim(modes="[ReadWriteMany]") + class_() + event("ProvisioningFailed", refused))
    [finding] = found(made)
    assert (finding.code, "asks for ReadWriteMany" in finding.explanation) == ("storage.claim-access-mode", True)
    other = world(
        claim(modes="[ReadWriteMany]") + class_() + event("ProvisioningFailed", "rpc error: code = ResourceExhausted desc = quota")
    )
    assert [finding.code for finding in found(other)] == ["storage.provisioning-failed"]
