"""Who else acts on a cause, so that nothing is offered which they would undo."""

from __future__ import annotations

import pytest

from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Cause, Diagnosis
from runbooks.handover import handover, with_handovers
from runbooks.remedies import candidates
from tests.agent.recordings import BROKEN_ROLLOUT
from tests.runbooks.test_remedies import SERVE, cause
from tests.runbooks.worlds import world


def diagnosis(made: World, *causes: Cause) -> Diagnosis:
    return Diagnosis("c", "everything", made.now, healthy=False, causes=causes)


NODE = """
kind: Node
metadata: {{name: gpu-1, labels: {{{label}}}}}
status: {{conditions: [{{type: Ready, status: "True"}}]}}
"""
GPU_1 = ObjectRef("Node", None, "gpu-1")
SENTINEL, UPGRADE = "dgxc.nvidia.com/nvsentinel-state", "nvidia.com/gpu-driver-upgrade-state"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (f"{SENTINEL}: quarantined", "NVSentinel acts on gpu-1"),
        (f"{SENTINEL}: draining", "Leave the node to it"),
        (f"{SENTINEL}: drain-failed", ""),
        (f"{UPGRADE}: drain-required", "The GPU operator upgrades the driver"),
        (f"{UPGRADE}: upgrade-required", ""),
        (f"{UPGRADE}: upgrade-done", ""),
        (f"{UPGRADE}: upgrade-failed", ""),
        ("zone: a", ""),
    ],
)
def test_a_node_that_an_operator_repairs_is_left_to_it(label: str, words: str) -> None:
    made = world(NODE.format(label=label))
    said = handover(cause(GPU_1, "gpu/xid-hardware"), made)
    assert (words in said) if words else said == ""
    assert handover(cause(GPU_1, "scheduling/insufficient-cpu"), made) == "", "only faults of the node are the operator's"
    [handed] = with_handovers(diagnosis(made, cause(GPU_1, "gpu/xid-hardware")), made).causes
    assert [item.action for item in candidates(handed, made)] == ([] if words else ["cordon"])


def test_a_workload_that_a_custom_resource_makes_is_changed_there() -> None:
    owner = "ownerReferences: [{kind: InferenceService, apiVersion: serving.kserve.io/v1beta1, name: chat, controller: true}]"
    theirs = BROKEN_ROLLOUT.replace("uid: d1, generation: 7,", f"uid: d1, generation: 7, {owner},", 1)
    assert theirs != BROKEN_ROLLOUT
    bad = cause(SERVE, "image/bad-reference")
    assert candidates(bad, world(BROKEN_ROLLOUT)) != ()
    [handed] = with_handovers(diagnosis(world(theirs), bad), world(theirs)).causes
    assert "InferenceService/ml/chat makes Deployment/ml/serve" in handed.handover
    assert candidates(handed, world(theirs)) == ()
