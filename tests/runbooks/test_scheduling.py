"""The scheduler's message, the evaluation of nodes, and the blame for pods without a node: one fault and one near miss per code."""

from __future__ import annotations

import pytest

from cluster.facts.node import Taint
from cluster.facts.pod import Pod, Toleration
from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors import scheduling, unscheduled
from runbooks.finding import Certainty, Finding
from runbooks.scheduling import Hurdle, Obstacle, Usage, parse_message, requests_of, tolerates
from tests.runbooks.worlds import told, world


def node(name: str, *, cpu: str = "4", spec: str = "{}", labels: str = "{}", extra: str = "", ready: str = "True") -> str:
    return f"""
---
kind: Node
metadata: {{name: {name}, labels: {labels}}}
spec: {spec}
status:
  capacity: {{cpu: "{cpu}", memory: 8044720Ki, pods: "110"{extra}}}
  allocatable: {{cpu: "{cpu}", memory: 8044720Ki, pods: "110"{extra}}}
  conditions: [{{type: Ready, status: "{ready}"}}]
"""


def waiting(message: str, *, spec: str = "", cpu: str = "1", uid: str = "p1", owner: str = "web-5d") -> str:
    return f"""
---
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec: {{replicas: 3}}
---
kind: ReplicaSet
metadata: {{name: web-5d, namespace: shop, ownerReferences: [{{kind: Deployment, name: web, controller: true}}]}}
---
kind: Pod
metadata:
  name: web-5d-a
  namespace: shop
  uid: {uid}
  labels: {{app: web}}
  creationTimestamp: "2026-01-15T11:30:00Z"
  ownerReferences: [{{kind: ReplicaSet, name: {owner}, controller: true}}]
spec:
  containers: [{{name: c, resources: {{requests: {{cpu: "{cpu}"}}}}}}]
{spec}
status:
  phase: Pending
  conditions:
    - type: PodScheduled
      status: "False"
      reason: Unschedulable
      lastTransitionTime: "2026-01-15T11:30:01Z"
      message: {message!r}
"""


def running(name: str, on: str, *, spec: str = "", cpu: str = "1", labels: str = "{}") -> str:
    return f"""
---
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {labels}}}
spec:
  nodeName: {on}
  containers: [{{name: c, resources: {{requests: {{cpu: "{cpu}"}}}}}}]
{spec}
status: {{phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
"""


def found(made: World) -> list[Finding]:
    return [finding for detector in (*scheduling.DETECTORS, *unscheduled.DETECTORS) for finding in detector(made)]


def gpu_node(name: str, total: int, usable: int, taint: str = "{}") -> str:
    return f"""
---
kind: Node
metadata: {{name: {name}}}
spec: {taint}
status:
  capacity: {{cpu: "64", pods: "110", nvidia.com/gpu: "{total}"}}
  allocatable: {{cpu: "64", pods: "110", nvidia.com/gpu: "{usable}"}}
  conditions: [{{type: Ready, status: "True"}}]
"""


def gpu_pod(message: str, gpus: int) -> str:
    return waiting(message).replace('{requests: {cpu: "1"}}', f'{{limits: {{nvidia.com/gpu: "{gpus}"}}}}')


def gpu_holder(name: str, on: str, gpus: int) -> str:
    return running(name, on).replace('{requests: {cpu: "1"}}', f'{{limits: {{nvidia.com/gpu: "{gpus}"}}}}')


CORDONED = '{unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule, timeAdded: "2026-01-15T11:20:00Z"}]}'
SELECTOR = "node(s) didn't match Pod's node affinity/selector"
EVENT = """
---
kind: Event
metadata: {{name: e{reason}, namespace: shop}}
involvedObject: {{kind: Pod, namespace: shop, name: {pod}}}
reason: {reason}
type: Normal
message: {message!r}
firstTimestamp: "2026-01-15T11:50:00Z"
lastTimestamp: "2026-01-15T11:59:00Z"
"""

FIRES: dict[str, tuple[str, str]] = {
    "scheduling.node-selector-mismatch": (
        "Deployment/shop/web",
        node("a", labels="{pool: cpu}") + waiting(f"0/1 nodes are available: 1 {SELECTOR}.", spec="  nodeSelector: {pool: gpu}"),
    ),
    "scheduling.node-affinity-mismatch": (
        "Deployment/shop/web",
        node("a", labels="{zone: a}")
        + waiting(
            f"0/1 nodes are available: 1 {SELECTOR}.",
            spec="  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "
            "{nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [b]}]}]}}}",
        ),
    ),
    "scheduling.untolerated-taint": (
        "Deployment/shop/web",
        node("a", spec="{taints: [{key: team, value: ml, effect: NoSchedule}]}")
        + waiting("0/1 nodes are available: 1 node(s) had untolerated taint(s)."),
    ),
    "scheduling.pod-anti-affinity": (
        "Deployment/shop/web",
        node("a", labels="{kubernetes.io/hostname: a}")
        + running("web-5d-z", "a", labels="{app: web}")
        + waiting(
            "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
            spec="  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "
            "[{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}}",
        ),
    ),
    "scheduling.pod-affinity": ("Deployment/shop/web", waiting("0/2 nodes are available: 2 node(s) didn't match pod affinity rules.")),
    "scheduling.topology-spread": (
        "Deployment/shop/web",
        waiting("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints (missing required label)."),
    ),
    "scheduling.insufficient-cpu": (
        "Deployment/shop/web",
        node("a") + running("full", "a", cpu="3500m") + waiting("0/1 nodes are available: 1 Insufficient cpu."),
    ),
    "scheduling.insufficient-memory": ("Deployment/shop/web", waiting("0/3 nodes are available: 3 Insufficient memory.")),
    "scheduling.insufficient-extended-resource": (
        "Deployment/shop/web",
        gpu_node("g", 4, 4) + gpu_pod("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 8),
    ),
    "scheduling.insufficient-resource": ("Deployment/shop/web", waiting("0/1 nodes are available: 1 Too many pods.")),
    "scheduling.node-cordoned": (
        "Node/a",
        node("a", spec=CORDONED)
        + node("b", labels="{x: y}")
        + running("full", "b", cpu="4")
        + waiting("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."),
    ),
    "scheduling.nodes-cordoned": ("Deployment/shop/web", waiting("0/2 nodes are available: 2 node(s) were unschedulable.")),
    "scheduling.host-port-conflict": (
        "Deployment/shop/web",
        node("a")
        + running("agent", "a").replace("resources:", "ports: [{containerPort: 9100, hostPort: 9100}], resources:")
        + waiting("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.").replace(
            "resources:", "ports: [{containerPort: 80, hostPort: 9100}], resources:"
        ),
    ),
    "scheduling.gated": ("Deployment/shop/web", waiting("gated", spec="  schedulingGates: [{name: example.com/quota}]")),
    "scheduling.preempted": (
        "Deployment/shop/web",
        waiting("0/1 nodes are available: 1 Insufficient cpu.")
        + running("big", "a").replace("{name: big,", "{name: big, uid: u-big,")
        + EVENT.format(reason="Preempted", pod="web-5d-old", message="Preempted by Pod u-big on node a"),
    ),
    "scheduling.node-name-missing": (
        "Deployment/shop/web",
        node("a") + waiting("x", spec="  nodeName: b").replace("type: PodScheduled", "type: Initialized"),
    ),
    "scheduling.scheduler-missing": (
        "Deployment/shop/web",
        waiting("x", spec="  schedulerName: volcano").split("  conditions:")[0] + EVENT.format(reason="Pulled", pod="other", message="x"),
    ),
    "scheduling.unschedulable": (
        "Deployment/shop/web",
        waiting("0/1 nodes are available: 1 node(s) didn't match Pod's required features."),
    ),
    "scheduling.waits-for-node": (
        "Deployment/shop/web",
        node("a", ready="Unknown", spec="{taints: [{key: node.kubernetes.io/unreachable, effect: NoSchedule}]}")
        + waiting("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }."),
    ),
    "scheduling.waits-for-volume": (
        "Deployment/shop/web",
        waiting("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/3 nodes are available: x."),
    ),
    "scheduling.waits-for-devices": ("Deployment/shop/web", waiting("0/3 nodes are available: 3 cannot allocate all claims.")),
    "scheduling.waits-for-device-plugin": (
        "Deployment/shop/web",
        gpu_node("g", 8, 0) + gpu_pod("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 1),
    ),
    "controlplane.scheduler-down": (
        "Pod/kube-system/kube-scheduler-m",
        waiting("x").split("  conditions:")[0]
        + EVENT.format(reason="Pulled", pod="other", message="x")
        + running("kube-scheduler-m", "m")
        .replace("namespace: shop", "namespace: kube-system")
        .replace('status: "True"', 'status: "False"'),
    ),
    "capacity.limit-reached": (
        "Deployment/shop/web",
        waiting("0/1 nodes are available: 1 Insufficient cpu.")
        + EVENT.format(reason="NotTriggerScaleUp", pod="web-5d-a", message="pod didn't trigger scale-up: 1 max node group size reached"),
    ),
    "capacity.scale-up-backoff": (
        "Deployment/shop/web",
        waiting("0/1 nodes are available: 1 Insufficient cpu.")
        + EVENT.format(
            reason="NotTriggerScaleUp", pod="web-5d-a", message="pod didn't trigger scale-up: 1 in backoff after failed scale-up"
        ),
    ),
    "gpu.fragmentation": (
        "Deployment/shop/web",
        gpu_node("g1", 8, 8)
        + gpu_node("g2", 8, 8)
        + gpu_holder("h1", "g1", 4)
        + gpu_holder("h2", "g2", 4)
        + gpu_pod("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", 8),
    ),
}

# The look-alike of each, which another code explains or which is no fault at all.
NEAR: dict[str, str] = {
    "scheduling.node-selector-mismatch": FIRES["scheduling.node-affinity-mismatch"][1],
    "scheduling.node-affinity-mismatch": FIRES["scheduling.node-selector-mismatch"][1],
    "scheduling.untolerated-taint": node("cp", spec="{taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]}")
    + node("a")
    + running("full", "a", cpu="4")
    + waiting("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."),
    "scheduling.pod-anti-affinity": FIRES["scheduling.pod-affinity"][1],
    "scheduling.pod-affinity": FIRES["scheduling.pod-anti-affinity"][1],
    "scheduling.topology-spread": FIRES["scheduling.pod-affinity"][1],
    "scheduling.insufficient-cpu": FIRES["scheduling.preempted"][1],
    "scheduling.insufficient-memory": FIRES["scheduling.insufficient-cpu"][1],
    "scheduling.insufficient-extended-resource": FIRES["scheduling.waits-for-device-plugin"][1],
    "scheduling.insufficient-resource": FIRES["scheduling.insufficient-memory"][1],
    "scheduling.node-cordoned": node("a", spec=CORDONED) + running("fine", "a"),
    "scheduling.nodes-cordoned": FIRES["scheduling.node-cordoned"][1],
    "scheduling.host-port-conflict": FIRES["scheduling.insufficient-cpu"][1],
    "scheduling.gated": waiting("gated", spec="  schedulingGates: [{name: kueue.x-k8s.io/admission}]"),
    # The victim is back: what was preempted before it does not matter.
    "scheduling.preempted": running("web-5d-a", "a")
    + EVENT.format(reason="Preempted", pod="web-5d-a", message="Preempted by Pod u on node a"),
    "scheduling.node-name-missing": node("b") + waiting("x", spec="  nodeName: b").replace("type: PodScheduled", "type: Initialized"),
    "scheduling.scheduler-missing": FIRES["controlplane.scheduler-down"][1],
    "scheduling.unschedulable": FIRES["scheduling.insufficient-cpu"][1],
    "scheduling.waits-for-node": FIRES["scheduling.untolerated-taint"][1],
    "scheduling.waits-for-volume": FIRES["scheduling.waits-for-devices"][1],
    "scheduling.waits-for-devices": FIRES["scheduling.waits-for-volume"][1],
    "scheduling.waits-for-device-plugin": FIRES["scheduling.insufficient-extended-resource"][1],
    # Made twenty seconds ago.
    "controlplane.scheduler-down": FIRES["controlplane.scheduler-down"][1].replace("11:30:00Z", "11:59:40Z"),
    # No node could ever hold it: the autoscaler is right not to add one.
    "capacity.limit-reached": node("a") + FIRES["capacity.limit-reached"][1].replace('requests: {cpu: "1"}', 'requests: {cpu: "64"}'),
    "capacity.scale-up-backoff": FIRES["capacity.limit-reached"][1],
    "gpu.fragmentation": gpu_node("g1", 8, 8)
    + gpu_holder("h1", "g1", 8)
    + gpu_pod("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 8),
}


def own_codes() -> set[str]:
    areas = ("scheduling.", "capacity.limit-reached", "capacity.scale-up-backoff", "controlplane.scheduler-down", "gpu.fragmentation")
    return {code for code in catalogue() if code.startswith(areas)}


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    assert set(FIRES) == set(NEAR) == own_codes()


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    assert told(code, found(world(text))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert told(code, found(world(NEAR[code]))) == []


def test_healthy_pods_are_silent() -> None:
    assert found(world(node("a") + running("fine", "a") + running("fine2", "a"))) == []


def test_the_explanation_says_the_numbers() -> None:
    made = world(node("a") + running("full", "a", cpu="3500m") + waiting("0/1 nodes are available: 1 Insufficient cpu."))
    assert "asks for 1 cpu; the most free on a usable node is 0.5 cpu" in found(made)[0].explanation
    made = world(gpu_node("g", 4, 4) + gpu_pod("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 8))
    assert "more than any usable node has (largest 4 nvidia.com/gpu)" in found(made)[0].explanation


def test_a_tainted_gpu_pool_is_a_taint_not_a_shortage() -> None:
    made = world(
        gpu_node("g", 8, 8, "{taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]}")
        + node("cpu")
        + gpu_pod("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {nvidia.com/gpu: present}.", 1)
    )
    assert [finding.code for finding in found(made)] == ["scheduling.untolerated-taint"]


def test_without_nodes_the_message_still_tells() -> None:
    made = world(waiting("0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had taint {team: ml}, that the pod didn't tolerate."))
    assert [finding.code for finding in found(made)] == ["scheduling.insufficient-cpu"]


def test_replicas_with_one_reason_are_one_finding() -> None:
    text = waiting("0/3 nodes are available: 3 Insufficient memory.")
    twin = text.replace("web-5d-a", "web-5d-b").split("---\nkind: Pod")[1]
    findings = found(world(text + "\n---\nkind: Pod" + twin))
    assert len(findings) == 1
    assert {ref.name for ref in findings[0].affects} == {"web-5d-a", "web-5d-b"}


def test_a_silent_pod_that_asks_for_gpus_is_only_likely() -> None:
    made = world(gpu_pod("x", 5).split("  conditions:")[0])
    assert [(finding.code, finding.certainty) for finding in found(made)] == [
        ("scheduling.insufficient-extended-resource", Certainty.LIKELY)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "0/3 nodes are available: 3 Insufficient cpu, 1 Insufficient memory.",
            [(3, Obstacle.RESOURCE, "cpu"), (1, Obstacle.RESOURCE, "memory")],
        ),
        (
            "0/1 nodes are available: 1 node(s) had taint {node-role.kubernetes.io/master: }, that the pod didn't tolerate.",
            [(1, Obstacle.TAINT, "node-role.kubernetes.io/master:")],
        ),
        (
            "0/2 nodes are available: 1 node(s) had untolerated taint {a: b}, 1 node(s) were unschedulable. preemption: 0/2 nodes are "
            "available: 2 Preemption is not helpful for scheduling.",
            [(1, Obstacle.TAINT, "a: b"), (1, Obstacle.CORDON, None)],
        ),
        ("0/4 nodes are available: 4 node(s) had untolerated taint(s).", [(4, Obstacle.TAINT, None)]),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: x",
            [(1, Obstacle.SELECTOR, None)],
        ),
        ("0/4 nodes are available: 4 node(s) had volume node affinity conflict.", [(4, Obstacle.VOLUME_PLACE, None)]),
        ('0/1 nodes are available: persistentvolumeclaim "data" not found.', [(1, Obstacle.CLAIM_MISSING, "data")]),
        (
            "0/1 nodes are available: 1 node(s) had taint {node.kubernetes.io/not-ready: }, that the pod didn't tolerate.",
            [(1, Obstacle.SICK_NODE, "node.kubernetes.io/not-ready:")],
        ),
        ("0/2 nodes are available: 2 node(s) exceed max volume count.", [(2, Obstacle.VOLUME_LIMIT, None)]),
        ("no nodes available to schedule pods", []),
        ('request gpu: device class "big" does not exist', [(0, Obstacle.DEVICES, None)]),
    ],
)
def test_parse_message(text: str, expected: list[tuple[int, Obstacle, str | None]]) -> None:
    assert [(item.nodes, item.obstacle, item.detail) for item in parse_message(text).refusals] == expected


def test_parse_message_keeps_the_preemption_tail() -> None:
    parsed = parse_message(
        "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found."
    )
    assert parsed.total == 3
    assert parsed.preemption.startswith("preemption: 0/3")


def test_requests_count_sidecars_init_containers_and_overhead() -> None:
    made = world(
        """
kind: Pod
metadata: {name: p, namespace: n}
spec:
  overhead: {cpu: 100m}
  initContainers:
    - {name: side, restartPolicy: Always, resources: {requests: {cpu: 500m}}}
    - {name: setup, resources: {requests: {cpu: "2"}}}
  containers: [{name: a, resources: {requests: {cpu: "1"}, limits: {nvidia.com/gpu: 2}}}]
"""
    )
    assert requests_of(made.all(Pod)[0].spec) == {"cpu": pytest.approx(2.6), "nvidia.com/gpu": 2.0}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration(key="team", value="ml"), True),
        (Toleration(key="team", value="web"), False),
        (Toleration(key="team", operator="Exists", effect="NoExecute"), False),
        (Toleration(key="other", operator="Exists"), False),
    ],
)
def test_tolerates(toleration: Toleration, tolerated: bool) -> None:
    assert tolerates((toleration,), Taint(key="team", value="ml", effect="NoSchedule")) is tolerated


def test_overdrawn_books_leave_only_the_size_to_judge_by() -> None:
    made = world(node("a") + running("x", "a", cpu="9") + waiting("0/1 nodes are available: 1 Insufficient cpu."))
    usage = Usage(made)
    pod = next(pod for pod in made.all(Pod) if pod.name == "web-5d-a")
    assert usage.hurdles(pod) == {"a": ()}


def test_a_cordoned_node_is_one_hurdle() -> None:
    made = world(node("a", spec=CORDONED) + waiting("x"))
    pod = next(pod for pod in made.all(Pod))
    assert Usage(made).hurdles(pod) == {"a": (Hurdle(Obstacle.CORDON, "spec.unschedulable"),)}


def test_a_taint_that_reserves_devices_is_not_what_keeps_off_a_pod_without_any() -> None:
    reserved = gpu_node("g", 8, 8, "{taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]}")
    message = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."
    [finding] = found(world(node("a", cpu="4") + reserved + waiting(message, cpu="40")))
    assert finding.code == "scheduling.insufficient-cpu"
    dedicated = node("d", cpu="64", spec="{taints: [{key: team, value: ml, effect: NoSchedule}]}")
    [finding] = found(world(node("a", cpu="4") + dedicated + waiting(message, cpu="40")))
    assert finding.code == "scheduling.untolerated-taint"


def test_where_open_nodes_break_the_pods_own_rule_the_taint_of_others_is_not_to_blame() -> None:
    taints = "".join(node(name, spec="{taints: [{key: team, value: ml, effect: NoSchedule}]}") for name in ("b", "c", "d"))
    message = "0/4 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, 3 node(s) had untolerated taint(s)."
    [finding] = found(world(node("a") + taints + waiting(message)))
    assert finding.code == "scheduling.host-port-conflict"


def test_the_taint_of_a_sick_node_hides_in_the_count_of_taints() -> None:
    sick = node("s", labels="{pool: x}", spec="{taints: [{key: node.kubernetes.io/disk-pressure, effect: NoSchedule}]}")
    message = f"0/2 nodes are available: 1 {SELECTOR}, 1 node(s) had untolerated taint(s)."
    [finding] = found(world(node("a") + sick + waiting(message, spec="  nodeSelector: {pool: x}")))
    assert finding.code == "scheduling.waits-for-node"


def test_nodes_that_a_daemon_set_does_not_mean_are_no_obstacle() -> None:
    parsed = parse_message("0/9 nodes are available: 1 Insufficient memory, 8 node(s) didn't satisfy plugin(s) [NodeAffinity].")
    assert [item.obstacle for item in parsed.refusals] == [Obstacle.RESOURCE, Obstacle.SELECTOR]
