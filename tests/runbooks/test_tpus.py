"""TPU slices: a pod takes the chips of exactly one host, and a slice works with all its hosts or not at all."""

from __future__ import annotations

import pytest

from runbooks.detectors.tpus import DETECTORS
from runbooks.finding import Certainty, Finding
from tests.runbooks.worlds import world

HOST = """
---
kind: Node
metadata: {{name: {name}, labels: {{cloud.google.com/gke-nodepool: {pool}, cloud.google.com/gke-tpu-topology: {topology}}}}}
status:
  capacity: {{google.com/tpu: 4}}
  allocatable: {{google.com/tpu: {usable}}}
  conditions: [{{type: Ready, status: "{ready}"}}]
"""
POD = """
---
kind: Pod
metadata: {{name: {name}, namespace: ml, ownerReferences: [{{kind: Job, name: fit, controller: true}}]}}
spec:
  nodeSelector: {{cloud.google.com/gke-tpu-topology: {topology}}}
  containers: [{{name: c, resources: {{limits: {{google.com/tpu: {chips}}}}}}}]
status:
  phase: Pending
  conditions: [{{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/4 nodes: 4 Insufficient google.com/tpu."}}]
"""


def hosts(count: int, topology: str = "4x4", *, sick: str = "", usable: int = 4) -> str:
    names = [f"h{index}" for index in range(count)]
    return "".join(
        HOST.format(
            name=name,
            pool="p",
            topology=topology,
            usable=usable if name == sick else 4,
            ready="False" if name == sick and usable else "True",
        )
        for name in names
    )


def waits(chips: int = 4, topology: str = "4x4", name: str = "fit-0") -> str:
    return POD.format(chips=chips, topology=topology, name=name)


def found(text: str) -> list[Finding]:
    made = world(text)
    return [finding for detector in DETECTORS for finding in detector(made)]


def test_a_pod_that_asks_for_the_chips_of_the_whole_slice() -> None:
    [finding] = found(hosts(4) + waits(16))
    assert (finding.code, str(finding.subject), finding.certainty) == ("tpu.part-of-a-host", "Job/ml/fit", Certainty.PROVEN)
    assert "Ask for 4 pods of 4 chips each" in finding.explanation
    assert "Insufficient google.com/tpu" in finding.evidence[2].quote


def test_a_pod_that_asks_for_less_than_a_host() -> None:
    [finding] = found(hosts(1, "2x2") + waits(1, "2x2"))
    assert (finding.code, finding.certainty) == ("tpu.part-of-a-host", Certainty.LIKELY)
    refused = waits(1, "2x2").replace("phase: Pending", "phase: Failed\n  reason: UnexpectedAdmissionError")
    assert [item.code for item in found(hosts(1, "2x2") + refused)] == ["tpu.part-of-a-host"]


def test_a_whole_host_other_topologies_and_pods_that_run_are_no_mistake() -> None:
    assert found(hosts(4) + waits(4)) == []
    assert found(hosts(4) + waits(16, "8x8")) == []
    assert found(hosts(1, "2x2") + waits(1, "2x2").replace("Pending", "Running")) == []


def test_a_host_that_is_out_takes_its_slice_with_it() -> None:
    down, withdrawn = hosts(4, sick="h2"), hosts(4, sick="h2", usable=0)
    shut = hosts(4).replace("metadata: {name: h2,", "spec: {unschedulable: true}\nmetadata: {name: h2,")
    for sick, path in ((down, "status.conditions[Ready]"), (withdrawn, "status.allocatable[google.com/tpu]"), (shut, "spec.unschedulable")):
        [finding] = found(sick + waits(4))
        assert finding.evidence[1].path == path
        assert (finding.code, str(finding.subject)) == ("tpu.slice-broken", "Node/h2")
        assert {str(ref) for ref in finding.affects} == {"Job/ml/fit", "Pod/ml/fit-0"}


def test_a_host_that_is_not_there() -> None:
    [finding] = found(hosts(3) + waits(4))
    assert (finding.code, str(finding.subject)) == ("tpu.slice-short", "Job/ml/fit")
    assert "3 of 4 hosts" in finding.evidence[1].quote


def test_a_slice_is_judged_by_those_who_wait_for_it() -> None:
    assert found(hosts(3)) == []
    assert found(hosts(4, sick="h2")) == []
    assert found(hosts(3) + waits(4, "2x2")) == []
    # Hosts of a single-host pool are no slice: each stands for itself.
    assert found(hosts(3, "2x2", sick="h1") + waits(4, "2x2")) == []


JOB = """
---
kind: Job
metadata: {{name: {name}, namespace: ml, uid: {name}}}
spec:
  parallelism: {pods}
  completions: {pods}
  template:
    spec:
      nodeSelector: {{cloud.google.com/gke-tpu-topology: {topology}}}
      containers: [{{name: c{env}, resources: {{limits: {{google.com/tpu: {chips}}}}}}}]
status: {{active: {pods}{status}}}
"""


def job(pods: int = 4, *, chips: int = 4, topology: str = "4x4", env: str = "", status: str = "", name: str = "fit") -> str:
    return JOB.format(pods=pods, chips=chips, topology=topology, env=env, status=status, name=name)


def runs(name: str, node: str, owner: str = "fit") -> str:
    placed = waits(name=name).replace("name: fit,", f"name: {owner},").replace("spec:\n", f"spec:\n  nodeName: {node}\n")
    return placed.replace("phase: Pending", "phase: Running").partition("  conditions: [{type: PodScheduled")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (job(2), "which has 4 hosts of that many, and runs 2 pod(s) at once"),
        (job(5), "Set parallelism and completions to 4"),
        (job(2, topology="2x2x4"), "has 4 hosts"),
        (job(1, chips=8, topology="2x2"), "such a slice has 4 in all: no hosts can have that many each"),
        (job(5, chips=3), "such a slice has 16 in all"),
    ],
)
def test_a_job_that_does_not_fill_its_slices(text: str, said: str) -> None:
    [finding] = found(text)
    assert (finding.code, str(finding.subject), said in finding.explanation) == ("tpu.workers-differ", "Job/ml/fit", True)


@pytest.mark.parametrize(
    "text",
    [
        job(4),
        # Two slices, and as many single hosts as somebody likes.
        job(8),
        job(3, topology="2x2"),
        job(1, chips=8, topology="2x4"),
        # Half of the one host that such a slice has.
        hosts(1, "2x4").replace("tpu: 4", "tpu: 8") + job(1, chips=4, topology="2x4"),
        job(2, env=", env: [{name: TPU_PROCESS_BOUNDS, value: '1,1,1'}]"),
        job(2, status=", conditions: [{type: Complete, status: 'True'}]"),
        job(2).replace("parallelism: 2", "parallelism: 2\n  suspend: true"),
        job(2).replace("gke-tpu-topology", "other"),
    ],
)
def test_a_job_that_fills_its_slices_or_chooses_its_hosts_itself(text: str) -> None:
    assert found(text) == []


def two_pools() -> str:
    return hosts(4) + hosts(4).replace("name: h", "name: g").replace("nodepool: p", "nodepool: q")


def test_the_pods_of_one_slice_on_two() -> None:
    [finding] = found(two_pools() + job() + runs("fit-0", "h0") + runs("fit-1", "h1") + runs("fit-2", "g0") + runs("fit-3", "g1"))
    assert (finding.code, str(finding.subject)) == ("tpu.slice-split", "Job/ml/fit")
    assert "on hosts of 2 (2 in p; 2 in q)" in finding.explanation
    together = "".join(runs(f"fit-{place}", f"h{place}") for place in range(4))
    assert found(two_pools() + job() + together) == []
    # Of the run before, on its way out.
    leaving = runs("fit-9", "g0").replace("name: fit-9,", "name: fit-9, deletionTimestamp: '2026-01-15T11:59:50Z',")
    assert found(two_pools() + job() + together + leaving) == []
    # Two slices is what a Job of eight pods asks for.
    assert found(two_pools() + job(8) + together + "".join(runs(f"fit-{place + 4}", f"g{place}") for place in range(4))) == []


def test_two_workloads_on_one_slice() -> None:
    half = runs("fit-0", "h0") + runs("fit-1", "h1")
    other = runs("eval-0", "h2", "eval") + runs("eval-1", "h3", "eval")
    [finding] = found(hosts(4) + job() + half + waits(name="fit-2") + job(name="eval") + other)
    assert (finding.code, str(finding.subject)) == ("tpu.slice-shared", "Job/ml/fit")
    assert "has 2 of the 4 hosts" in finding.explanation
    assert "held by Job/ml/eval" in finding.explanation
    leaving = other.replace("namespace: ml,", "namespace: ml, deletionTimestamp: '2026-01-15T11:59:50Z',")
    assert found(hosts(4) + job() + half + waits(name="fit-2") + job(name="eval") + leaving) == []
    # One that waits for a whole slice, one that has one, and two that want nothing more.
    whole = "".join(runs(f"eval-{place}", f"h{place}", "eval") for place in range(4))
    assert found(hosts(4) + job() + waits(name="fit-2") + job(name="eval") + whole) == []
    assert found(hosts(4) + job() + half + job(name="eval") + other) == []
    assert found(hosts(4) + job() + half + waits(topology="8x8", name="fit-2") + job(name="eval") + other) == []
