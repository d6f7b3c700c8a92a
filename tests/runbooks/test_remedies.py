from __future__ import annotations

import pytest
from msgspec import structs

from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.action import BY_NAME, check_target, parse_action, target
from runbooks.candidate import Candidate
from runbooks.finding import Cause, Certainty, Source, Symptom, cite
from runbooks.remedies import candidates
from tests.agent.recordings import BROKEN_ROLLOUT
from tests.runbooks.worlds import world

SERVE = ObjectRef("Deployment", "ml", "serve")


def cause(ref: ObjectRef, class_: str, certainty: Certainty = Certainty.PROVEN) -> Cause:
    return Cause(ref, "code", class_, "Title", "It is so.", certainty, (cite(Source.FIELD, ref, "spec", "x"),))


def remedies(made: World, ref: ObjectRef, class_: str, *others: Cause) -> tuple[Candidate, ...]:
    found = candidates(cause(ref, class_), made, others)
    for item in found:
        action = parse_action(item.document)
        check_target(action, target(item.target.kind, item.target.namespace, item.target.name))
        assert item.action in BY_NAME
        assert all((item.why, item.precondition, item.inverse, item.verification))
        assert item.evidence
    return found


def test_a_bad_revision_is_undone_to_the_one_that_still_serves() -> None:
    found = remedies(world(BROKEN_ROLLOUT), SERVE, "image/bad-reference")
    assert [item.document for item in found] == [{"action": "rollout_undo", "to_revision": 6}]
    assert "1 of its pods still run and are ready" in found[0].why
    assert "v2.1-typo" in found[0].why


def test_no_undo_to_a_revision_that_is_not_known_to_have_worked() -> None:
    broken_before = BROKEN_ROLLOUT.replace('conditions: [{type: Ready, status: "True"}]', 'conditions: [{type: Ready, status: "False"}]')
    assert broken_before != BROKEN_ROLLOUT
    assert remedies(world(broken_before), SERVE, "image/bad-reference") == ()


def test_no_undo_without_an_earlier_revision() -> None:
    documents = [part for part in BROKEN_ROLLOUT.split("---") if "aaaaaaaaaa" not in part]
    assert remedies(world("---".join(documents)), SERVE, "image/bad-reference") == ()


def test_a_suspicion_gets_no_remedy() -> None:
    assert candidates(cause(SERVE, "image/bad-reference", Certainty.POSSIBLE), world(BROKEN_ROLLOUT)) == ()


@pytest.mark.parametrize("class_", ["image/bad-reference", "config/bad-command", "runtime/crash-app-error"])
def test_a_broken_spec_is_never_restarted(class_: str) -> None:
    made = world("kind: Deployment\nmetadata: {name: serve, namespace: ml}\n")
    assert remedies(made, SERVE, class_) == ()


def test_a_stale_secret_is_cured_by_a_restart() -> None:
    made = world("kind: Deployment\nmetadata: {name: serve, namespace: ml}\n")
    assert [item.action for item in remedies(made, SERVE, "config/stale-secret")] == ["rollout_restart"]


SCALED = """
kind: Deployment
metadata: {name: serve, namespace: ml}
spec: {replicas: 0}
---
kind: Event
metadata: {name: e, namespace: ml}
involvedObject: {kind: Deployment, namespace: ml, name: serve}
reason: ScalingReplicaSet
message: Scaled down replica set serve-abc from 4 to 0
"""


def test_zero_replicas_go_back_to_what_they_were() -> None:
    assert remedies(world(SCALED), SERVE, "scaling/zero-replicas")[0].document == {"action": "scale", "replicas": 4}
    unknown = world(SCALED.split("---")[0])
    assert remedies(unknown, SERVE, "scaling/zero-replicas")[0].document == {"action": "scale", "replicas": 1}
    running = world(SCALED.replace("replicas: 0", "replicas: 2"))
    assert remedies(running, SERVE, "scaling/zero-replicas") == ()


NODE = """
kind: Node
metadata: {name: n1}
spec: {unschedulable: true}
status: {conditions: [{type: Ready, status: "True"}, {type: MemoryPressure, status: "False"}]}
"""
N1 = ObjectRef("Node", None, "n1")


def test_a_sound_cordoned_node_is_uncordoned() -> None:
    assert [item.action for item in remedies(world(NODE), N1, "scheduling/node-cordoned")] == ["uncordon"]


def test_a_node_with_an_open_fault_stays_cordoned() -> None:
    assert remedies(world(NODE), N1, "scheduling/node-cordoned", cause(N1, "gpu/xid-hardware")) == ()
    not_ready = world(NODE.replace('{type: Ready, status: "True"}', '{type: Ready, status: "False"}'))
    assert remedies(not_ready, N1, "scheduling/node-cordoned") == ()
    pressed = world(NODE.replace('{type: MemoryPressure, status: "False"}', '{type: MemoryPressure, status: "True"}'))
    assert remedies(pressed, N1, "scheduling/node-cordoned") == ()


def test_broken_hardware_is_cordoned_once() -> None:
    open_node = world(NODE.replace("unschedulable: true", "unschedulable: false"))
    assert [item.action for item in remedies(open_node, N1, "gpu/xid-hardware")] == ["cordon"]
    assert remedies(world(NODE), N1, "gpu/xid-hardware") == ()


PLUGIN = (
    NODE.replace("unschedulable: true", "unschedulable: false")
    + """
---
kind: Pod
metadata:
  name: nvidia-device-plugin-x1
  namespace: gpu
  uid: u1
  ownerReferences: [{kind: DaemonSet, name: nvidia-device-plugin, controller: true}]
spec: {nodeName: n1}
status: {phase: Running, conditions: [{type: Ready, status: "False"}]}
"""
)


def test_a_dead_device_plugin_is_replaced_only_where_a_controller_makes_another() -> None:
    found = remedies(world(PLUGIN), N1, "gpu/device-plugin-down")
    assert [(item.action, str(item.target)) for item in found] == [("delete_pod", "Pod/gpu/nvidia-device-plugin-x1")]
    assert "Recreated by its owner DaemonSet" in found[0].inverse
    assert remedies(world(PLUGIN.replace(", controller: true", "")), N1, "gpu/device-plugin-down") == ()


FULL = """
kind: PersistentVolumeClaim
metadata: {name: models, namespace: ml}
spec: {storageClassName: fast, resources: {requests: {storage: 100Gi}}}
status: {phase: Bound}
---
kind: StorageClass
metadata: {name: fast}
provisioner: disk.example.com
allowVolumeExpansion: true
"""
MODELS = ObjectRef("PersistentVolumeClaim", "ml", "models")


def test_a_full_volume_may_grow_where_its_class_allows_it() -> None:
    (found,) = remedies(world(FULL), MODELS, "storage/volume-full")
    assert found.document == {"action": "expand_pvc", "size": "150Gi"}
    assert "never shrinks" in found.inverse


@pytest.mark.parametrize(
    "change", [("Expansion: true", "Expansion: false"), ("name: fast", "name: other"), ("Bound", "Lost"), ("storage: 100Gi", "storage: x")]
)
def test_a_volume_that_cannot_grow_is_not_offered_to(change: tuple[str, str]) -> None:
    assert FULL.replace(*change) != FULL
    assert remedies(world(FULL.replace(*change)), MODELS, "storage/volume-full") == ()


def test_a_full_disk_that_is_no_claim_cannot_grow() -> None:
    assert remedies(world(FULL), MODELS, "storage/disk-full") == ()


POOL = "\n---\n".join(
    f"kind: Node\nmetadata: {{name: n{number}, labels: {{nvidia.com/gpu.product: H100}}}}\n"
    f"spec: {{unschedulable: {str(number < 2).lower()}}}\nstatus: {{conditions: [{{type: Ready, status: 'True'}}]}}"
    for number in range(10)
)
N9 = ObjectRef("Node", None, "n9")


def test_a_node_is_quarantined_until_a_fifth_of_its_like_is_out() -> None:
    [cordon] = remedies(world(POOL), N9, "gpu/xid-hardware")
    assert cordon.action == "cordon"
    assert "of 10 nodes alike, 2 others are out of service" in cordon.precondition
    parts = POOL.split("\n---\n")
    parts[2] = parts[2].replace("unschedulable: false", "unschedulable: true")
    assert remedies(world("\n---\n".join(parts)), N9, "gpu/xid-hardware") == ()
    parts[:2] = [part.replace("H100", "T4") for part in parts[:2]]
    assert [item.action for item in remedies(world("\n---\n".join(parts)), N9, "gpu/xid-hardware")] == ["cordon"]


TRAIN = ObjectRef("JobSet", "ml", "train")
QUEUED = """
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: jobset-train-1, namespace: ml, ownerReferences: [{kind: JobSet, name: train, controller: true}]}
spec: {active: true}
"""


def test_a_training_that_hangs_on_a_dead_gpu_may_be_suspended_after_the_cordon() -> None:
    stalled = structs.replace(cause(N9, "gpu/xid-hardware"), symptoms=(Symptom("x", TRAIN, "It waits."), Symptom("y", TRAIN, "Again.")))
    found = candidates(stalled, world(POOL))
    assert [(item.action, item.target.kind) for item in found] == [("cordon", "Node"), ("suspend", "JobSet")]
    queued = candidates(stalled, world(f"{POOL}\n---\n{QUEUED}"))
    assert [(item.action, item.target) for item in queued][1:] == [("suspend", ObjectRef("Workload", "ml", "jobset-train-1"))]


def test_a_gang_that_holds_devices_for_nothing_may_be_suspended() -> None:
    assert [item.action for item in remedies(world(POOL), TRAIN, "training/gang-partial")] == ["suspend"]
    assert remedies(world(POOL), ObjectRef("Deployment", "ml", "serve"), "training/gang-partial") == ()


SERVED = """
kind: Deployment
metadata: {name: chat, namespace: ml}
---
kind: ReplicaSet
metadata: {name: chat-1, namespace: ml, ownerReferences: [{kind: Deployment, name: chat, controller: true}]}
---
kind: Pod
metadata: {name: chat-1-a, namespace: ml, ownerReferences: [{kind: ReplicaSet, name: chat-1, controller: true}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
kind: Pod
metadata: {name: chat-1-b, namespace: ml, ownerReferences: [{kind: ReplicaSet, name: chat-1, controller: true}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
"""


def slow_replica() -> Cause:
    chat, pod = ObjectRef("Deployment", "ml", "chat"), ObjectRef("Pod", "ml", "chat-1-b")
    return structs.replace(cause(chat, "inference/slow-replica"), evidence=(cite(Source.METRIC, pod, "seconds", "4"),))


def test_the_replica_that_lags_is_evicted_where_another_serves() -> None:
    [evict] = candidates(slow_replica(), world(SERVED))
    assert (evict.action, evict.target.name) == ("evict_pod", "chat-1-b")
    alone = SERVED.replace('status: {phase: Running, conditions: [{type: Ready, status: "True"}]}', "status: {phase: Running}", 1)
    assert alone != SERVED
    assert candidates(slow_replica(), world(alone)) == ()


SCALED_MODEL = """
kind: HorizontalPodAutoscaler
apiVersion: autoscaling/v2
metadata: {name: chat, namespace: ml}
spec: {scaleTargetRef: {kind: Deployment, name: chat}, maxReplicas: 4}
"""


def test_an_autoscaler_at_its_limit_gets_room_unless_somebody_makes_it() -> None:
    chat = ObjectRef("HorizontalPodAutoscaler", "ml", "chat")
    [raised] = remedies(world(SCALED_MODEL), chat, "inference/autoscaler-limit")
    assert raised.document == {"action": "set_replica_bounds", "maximum": 6}
    owner = "ownerReferences: [{kind: ScaledObject, apiVersion: keda.sh/v1alpha1, name: chat, controller: true}]"
    made = world(SCALED_MODEL.replace("namespace: ml}", f"namespace: ml, {owner}}}"))
    assert remedies(made, chat, "inference/autoscaler-limit") == ()


def test_a_plugin_that_runs_and_offers_nothing_is_restarted() -> None:
    running = PLUGIN.replace('[{type: Ready, status: "False"}]', '[{type: Ready, status: "True"}]')
    [restart] = remedies(world(running), N1, "gpu/device-plugin-down")
    assert "registers again" in restart.why
    assert remedies(world(running.replace("nvidia-device-plugin-x1", "sriov-device-plugin-x1")), N1, "gpu/device-plugin-down") == ()
