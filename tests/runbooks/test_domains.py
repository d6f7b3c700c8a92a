"""Compute domains: judged by the pods that wait for their channel, never for having no workload."""

from __future__ import annotations

import pytest

from runbooks.detectors.domains import DETECTORS
from runbooks.finding import Certainty, Finding, LogWant
from tests.runbooks.worlds import world

DOMAIN = """
---
kind: ComputeDomain
metadata: {name: ring, namespace: ml, uid: cd-1}
spec: {numNodes: 2, channel: {resourceClaimTemplate: {name: ring-channel}}}
status: {status: NotReady, nodes: [{name: g0, status: Ready, cliqueID: a.1}%s]}
"""
LAME = ", {name: g1, status: NotReady, cliqueID: a.1}"
POD = """
---
kind: Pod
metadata: {name: fit-1, namespace: ml, uid: u1, ownerReferences: [{kind: Job, name: fit, controller: true}]}
spec: {nodeName: g1, containers: [{name: c}], resourceClaims: [{name: channel, resourceClaimTemplateName: ring-channel}]}
status: {phase: %s, startTime: "2026-01-15T%s:00Z"}
"""
WAITS = POD % ("Pending", "11:50")
DAEMON = """
---
kind: Pod
metadata: {name: ring-daemon-x, namespace: nvidia-dra, labels: {resource.nvidia.com/computeDomain: cd-1}}
spec: {nodeName: g1, containers: [{name: daemon}]}
status: {phase: Running, conditions: [{type: Ready, status: "False"}]}
"""
REFUSED = """
---
kind: Event
metadata: {name: e, namespace: ml}
involvedObject: {kind: Pod, name: fit-1, namespace: ml}
reason: FailedPrepareDynamicResources
type: Warning
message: "error asserting ComputeDomain Ready: current node not ready in ComputeDomain"
lastTimestamp: "2026-01-15T11:59:00Z"
"""


def found(text: str) -> list[Finding]:
    made = world(text)
    return [finding for detector in DETECTORS for finding in detector(made)]


def test_a_node_that_is_not_ready_holds_the_pods_up() -> None:
    [finding] = found(DOMAIN % LAME + WAITS + REFUSED + DAEMON)
    assert (finding.code, str(finding.subject), finding.certainty) == ("domain.not-ready", "ComputeDomain/ml/ring", Certainty.PROVEN)
    assert {"Pod/ml/fit-1", "Job/ml/fit", "ResourceClaimTemplate/ml/ring-channel"} <= {str(ref) for ref in finding.affects}
    assert "ring-daemon-x, is not ready" in finding.explanation
    assert [item.container.pod for item in finding.wants if isinstance(item, LogWant)] == ["ring-daemon-x"]


def test_without_the_drivers_word_it_is_likely() -> None:
    [finding] = found(DOMAIN % "" + WAITS)
    assert (finding.certainty, bool(finding.lacks)) == (Certainty.LIKELY, True)
    assert "g1 has not joined it" in finding.explanation
    assert "No daemon" in finding.explanation
    # A recording may lack uids: then no pod is a daemon, least of all one without their label.
    [unnamed] = found((DOMAIN % "").replace(", uid: cd-1", "") + WAITS)
    assert "No daemon" in unnamed.explanation


OTHERWISE = REFUSED.replace("FailedPrepareDynamicResources", "%s").replace(
    "error asserting ComputeDomain Ready: current node not ready", "%s"
)


@pytest.mark.parametrize(
    "held",
    [
        OTHERWISE % ("FailedMount", "MountVolume failed"),
        OTHERWISE % ("FailedAttachVolume", "Multi-Attach error"),
        OTHERWISE % ("FailedCreatePodSandBox", "no IP left"),
        OTHERWISE.replace("in ComputeDomain", "") % ("FailedPrepareDynamicResources", "rpc error of gpu.nvidia.com: no such device"),
    ],
)
def test_what_is_told_another_reason_waits_for_no_channel(held: str) -> None:
    assert found(DOMAIN % "" + WAITS + held) == []
    # Also where the domain is not ready: unless the driver says that it refuses for this.
    assert [item.certainty for item in found(DOMAIN % LAME + WAITS + held + REFUSED.replace("name: e,", "name: later,"))] == [
        Certainty.PROVEN
    ]


@pytest.mark.parametrize(
    ("state", "codes"),
    [
        ("waiting: {reason: ImagePullBackOff}", []),
        ("waiting: {reason: CreateContainerConfigError}", []),
        ("running: {startedAt: '2026-01-15T11:51:00Z'}", []),
        ("waiting: {reason: ContainerCreating}", ["domain.not-ready"]),
        ("waiting: {reason: PodInitializing}", ["domain.not-ready"]),
    ],
)
def test_what_has_come_past_its_devices_waits_for_no_channel(state: str, codes: list[str]) -> None:
    begun = WAITS.replace("phase: Pending,", f"phase: Pending, initContainerStatuses: [{{name: i, state: {{{state}}}}}],")
    assert [item.code for item in found(DOMAIN % LAME + begun)] == codes


def test_an_address_tells_that_a_pod_has_come_past_its_devices_unless_it_is_its_nodes() -> None:
    begun = WAITS.replace("phase: Pending,", "phase: Pending, podIP: 10.0.0.7,")
    assert found(DOMAIN % LAME + begun) == []
    on_node = begun.replace("nodeName: ", "hostNetwork: true, nodeName: ")
    assert [item.code for item in found(DOMAIN % LAME + on_node)] == ["domain.not-ready"]


def test_several_partitions_are_told() -> None:
    [finding] = found(DOMAIN % LAME.replace("a.1", "b.2") + WAITS)
    assert "2 NVLink partitions" in finding.explanation


def test_a_domain_without_a_workload_and_pods_that_start_or_run_are_well() -> None:
    assert found(DOMAIN % LAME) == []
    assert found(DOMAIN % LAME + POD % ("Pending", "11:59")) == []
    assert found(DOMAIN % LAME + POD % ("Running", "11:50")) == []
    assert found(DOMAIN % LAME + WAITS.replace("nodeName: g1", "nodeName: g0")) == []
    assert found(DOMAIN % LAME + WAITS.replace("ring-channel", "other")) == []
