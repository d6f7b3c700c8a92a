from __future__ import annotations

from runbooks.detectors.gpunodes import DETECTORS
from runbooks.finding import Certainty
from tests.runbooks.measured import findings, told

NODE = """
kind: Node
metadata: {{name: {name}, labels: {{{labels}}}}}
spec: {{unschedulable: {closed}}}
status:
  capacity: {{nvidia.com/gpu: "1", cpu: "8", memory: 32Gi, pods: "110"}}
  allocatable: {{nvidia.com/gpu: "1", cpu: "8", memory: 32Gi, pods: "110"}}
  conditions: [{{type: Ready, status: "True"}}]
"""
POD = """
kind: Pod
metadata: {{name: {name}, namespace: ml, ownerReferences: [{{kind: Job, name: {owner}, controller: true}}]}}
spec: {{nodeName: {node}, containers: [{{name: main, image: x, resources: {{requests: {{nvidia.com/gpu: "1"}}}}}}]}}
status: {status}
"""
RUNS = '{phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: main, ready: true}]}'
WAITS = (
    '{phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: '
    '"0/1 nodes are available: 1 node(s) were unschedulable."}]}'
)


def died(code: int = 1, reason: str = "Error", ago: str = "11:00") -> str:
    ended = f'{{exitCode: {code}, reason: {reason}, finishedAt: "2026-01-15T{ago}:00Z"}}'
    return f"{{phase: Failed, containerStatuses: [{{name: main, ready: false, state: {{terminated: {ended}}}}}]}}"


def node(name: str, labels: str = "", *, closed: bool = False) -> str:
    return NODE.format(name=name, labels=labels, closed=str(closed).lower())


def pod(name: str, on: str, status: str, owner: str = "") -> str:
    return POD.format(name=name, owner=owner or name, node=on or "''", status=status)


def test_an_upgrade_that_does_not_end_while_somebody_waits() -> None:
    state = "nvidia.com/gpu-driver-upgrade-state: wait-for-jobs-required"
    closed, holder, waiting = node("n0", state, closed=True), pod("old", "n0", RUNS), pod("new", "", WAITS)
    assert told(DETECTORS, "---".join((closed, holder, waiting))) == {("gpu.driver-upgrade-stuck", "Node/n0")}
    # Nobody waits, it has just ended, or it never closed the node.
    assert told(DETECTORS, "---".join((closed, holder))) == set()
    done = node("n0", "nvidia.com/gpu-driver-upgrade-state: upgrade-done", closed=True)
    assert told(DETECTORS, "---".join((done, holder, waiting))) == set()
    assert told(DETECTORS, "---".join((node("n0", state), holder, waiting))) == set()


def test_operands_that_stay_paused() -> None:
    paused = 'nvidia.com/gpu.deploy.device-plugin: paused-for-mig-change, nvidia.com/mig.config.state: "{}"'
    assert told(DETECTORS, node("n0", paused.format("failed"))) == {("gpu.operand-paused", "Node/n0")}
    assert told(DETECTORS, node("n0", paused.format("pending"))) == set()
    assert told(DETECTORS, node("n0", 'nvidia.com/gpu.deploy.device-plugin: "true"')) == set()


def deaths(*where: str, status: str = "") -> str:
    parts = [node("n0"), node("n1"), pod("well", "n1", RUNS)]
    parts += [pod(f"fit-{index}", on, status or died(), owner=f"fit-{index % 2}") for index, on in enumerate(where)]
    return "---".join(parts)


def test_a_node_that_fails_one_workload_after_another() -> None:
    assert told(DETECTORS, deaths("n0", "n0", "n0")) == {("gpu.node-keeps-failing", "Node/n0")}
    # They fail elsewhere too, there are too few, they are over, or the program ends by its own fault.
    assert told(DETECTORS, deaths("n0", "n0", "n0", "n1")) == set()
    assert told(DETECTORS, deaths("n0", "n0")) == set()
    assert told(DETECTORS, deaths("n0", "n0", "n0", status=died(ago="01:00"))) == set()
    assert told(DETECTORS, deaths("n0", "n0", "n0", status=died(137, "OOMKilled"))) == set()


def test_programs_that_ran_well_nowhere_may_be_to_blame_themselves() -> None:
    [doubtful] = findings(DETECTORS, deaths("n0", "n0", "n0"), [])
    assert doubtful.certainty is Certainty.POSSIBLE
    assert doubtful.explanation.endswith("or each of these programs.")
    [likely] = findings(DETECTORS, "---".join((deaths("n0", "n0", "n0"), pod("fit-9", "n1", RUNS, owner="fit-1"))), [])
    assert likely.certainty is Certainty.LIKELY
    assert likely.explanation.endswith("the node is to blame, not the programs.")


def test_how_the_program_ended_is_cited_and_not_its_init_container() -> None:
    began = "initContainerStatuses: [{name: init, ready: true, state: {terminated: {exitCode: 0, reason: Completed}}}], "
    [finding] = findings(DETECTORS, deaths("n0", "n0", "n0", status=died().replace("containerS", f"{began}containerS", 1)), [])
    assert {item.quote for item in finding.evidence} == {"Error, exit code 1"}


def test_a_program_that_fails_wherever_it_runs_is_one_owner() -> None:
    parts = [node("n0"), node("n1"), pod("well", "n1", RUNS), *(pod(f"fit-{index}", "n0", died(), owner="fit") for index in range(4))]
    assert told(DETECTORS, "---".join(parts)) == set()
