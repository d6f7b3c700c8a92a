from __future__ import annotations

import pytest

from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.action import BY_NAME, check_target, parse_action, target
from runbooks.finding import Cause, Certainty, Source, cite
from runbooks.remedies import Candidate, candidates
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
