"""Nodes unfit for work, deletions that hang, drains: one fault and one near miss per code."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors import lifecycle, nodes
from runbooks.finding import Finding
from tests.runbooks.worlds import told, world


def found(made: World) -> list[Finding]:
    return [finding for detector in (*nodes.DETECTORS, *lifecycle.DETECTORS) for finding in detector(made)]


def node(name: str, *conditions: str, spec: str = "{}") -> str:
    listed = ", ".join(f"{{{item}}}" for item in conditions or (READY,))
    return f"\n---\nkind: Node\nmetadata: {{name: {name}}}\nspec: {spec}\nstatus: {{conditions: [{listed}]}}\n"


def pod(name: str, on: str, *, status: str = "phase: Running, conditions: [{type: Ready, status: 'True'}]", meta: str = "") -> str:
    return f"""
---
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: web}}{meta}}}
spec: {{nodeName: {on}}}
status: {{{status}}}
"""


def lease(name: str, renewed: str) -> str:
    return f'\n---\nkind: Lease\nmetadata: {{name: {name}, namespace: kube-node-lease}}\nspec: {{renewTime: "{renewed}"}}\n'


def condition(kind: str, status: str = "True", reason: str = "r", message: str = "m") -> str:
    return f'type: {kind}, status: "{status}", reason: {reason}, message: {message!r}, lastTransitionTime: "2026-01-15T11:40:00Z"'


READY = 'type: Ready, status: "True"'
SILENT = condition("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
RUNTIME = condition("Ready", "False", "KubeletNotReady", "PLEG is not healthy: pleg was last seen active 3m5s ago; threshold is 3m0s")
NETWORK = condition(
    "Ready", "False", "KubeletNotReady", "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"
)
PROXY = """
---
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system}
status: {desiredNumberScheduled: 3, numberReady: %d}
"""
EVICTED = "phase: Failed, reason: Evicted, message: 'The node was low on resource: memory.'"
DEPLOYMENT = "\n---\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 2}\nstatus: {readyReplicas: %d}\n"
OWNED = ", ownerReferences: [{kind: Deployment, name: web, controller: true}]"
GONE = ', deletionTimestamp: "%s"'
OLD, FRESH = GONE % "2026-01-15T11:30:00Z", GONE % "2026-01-15T11:58:00Z"
BUDGET = """
---
kind: PodDisruptionBudget
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}}
status: {disruptionsAllowed: %d, currentHealthy: 1, desiredHealthy: 1, expectedPods: 1}
"""
OOM = """
---
kind: Event
metadata: {name: oom}
involvedObject: {kind: Node, name: a}
reason: SystemOOM
type: Warning
message: "System OOM encountered, victim process: python, pid: 123"
firstTimestamp: "2026-01-15T%s:00Z"
lastTimestamp: "2026-01-15T%s:00Z"
"""
API = """
---
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec: {service: {name: metrics-server, namespace: kube-system}}
status: {conditions: [{type: Available, status: "%s", reason: FailedDiscoveryCheck, message: no response}]}
"""
TERMINATING = """
---
kind: Namespace
metadata: {name: old, deletionTimestamp: "%s"}
status:
  phase: Terminating
  conditions:
    - {type: NamespaceFinalizersRemaining, status: "True", message: "Some content has finalizers remaining: x in 2 resource instances"}
"""
SHUTDOWN = "phase: Failed, reason: NodeShutdown, message: 'Pod was rejected as the node is shutting down.'"
NO_DEVICE = (
    "phase: Failed, reason: UnexpectedAdmissionError, message: 'Allocate failed due to no healthy devices present; "
    "cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected'"
)

FIRES: dict[str, tuple[str, str]] = {
    "node.not-ready": ("Node/a", node("a", SILENT) + pod("p", "a")),
    "node.kubelet-down": (
        "Node/a",
        node("a", SILENT, 'type: KernelDeadlock, status: "False", lastHeartbeatTime: "2026-01-15T11:59:30Z"'),
    ),
    "node.runtime-down": ("Node/a", node("a", RUNTIME)),
    "node.network-not-ready": ("Node/a", node("a", NETWORK)),
    "node.kernel-fault": ("Node/a", node("a", READY, condition("KernelDeadlock"))),
    "node.read-only-disk": ("Node/a", node("a", READY, condition("ReadonlyFilesystem"))),
    "node.pressure": ("Node/a", node("a", READY, condition("DiskPressure", reason="KubeletHasDiskPressure"))),
    "node.out-of-memory": ("Node/a", node("a") + OOM % ("11:50", "11:55")),
    "node.clock-skew": (
        "Node/a",
        node("a")
        + node("b")
        + node("c")
        + lease("a", "2026-01-15T12:07:00Z")
        + lease("b", "2026-01-15T11:59:55Z")
        + lease("c", "2026-01-15T11:59:58Z"),
    ),
    "node.kube-proxy-down": ("DaemonSet/kube-system/kube-proxy", node("a") + PROXY % 1),
    "node.evicted": ("Pod/shop/p", pod("p", "a", status=EVICTED)),
    "node.evicted-recovered": ("Deployment/shop/web", DEPLOYMENT % 2 + pod("p", "a", status=EVICTED, meta=OWNED)),
    "node.pod-rejected": ("Pod/shop/p", pod("p", "a", status=SHUTDOWN)),
    "node.pod-rejected-devices": ("Node/a", pod("p", "a", status=NO_DEVICE)),
    "lifecycle.finalizer-stuck": ("Pod/shop/p", pod("p", "a", meta=f"{OLD}, finalizers: [example.com/guard]")),
    "lifecycle.pod-on-lost-node": ("Pod/shop/p", node("a", SILENT) + pod("p", "a", meta=OLD)),
    "lifecycle.pod-not-stopping": ("Pod/shop/p", node("a") + pod("p", "a", meta=OLD)),
    "lifecycle.namespace-stuck": ("Namespace/old", TERMINATING % "2026-01-15T11:00:00Z"),
    "lifecycle.drain-blocked": ("PodDisruptionBudget/shop/web", node("a", spec="{unschedulable: true}") + BUDGET % 0 + pod("p", "a")),
    "controlplane.api-unavailable": ("APIService/v1beta1.metrics.k8s.io", API % "False"),
}
NEAR: dict[str, str] = {
    "node.not-ready": node("a") + pod("p", "a"),
    # Nothing else on the machine reports either: it may be the machine or its network.
    "node.kubelet-down": node("a", SILENT, 'type: KernelDeadlock, status: "False", lastHeartbeatTime: "2026-01-15T11:39:30Z"'),
    "node.runtime-down": node("a", NETWORK),
    "node.network-not-ready": node("a", RUNTIME),
    "node.kernel-fault": node("a", READY, condition("KernelDeadlock", "False")),
    "node.read-only-disk": node("a", READY, condition("ReadonlyFilesystem", "False")),
    "node.pressure": node("a", READY, condition("DiskPressure", "False")),
    # Three hours ago.
    "node.out-of-memory": node("a") + OOM % ("08:50", "08:55"),
    # Every lease is as old: the recording is, not a clock.
    "node.clock-skew": node("a") + node("b") + lease("a", "2026-01-15T11:50:00Z") + lease("b", "2026-01-15T11:50:00Z"),
    "node.kube-proxy-down": node("a") + PROXY % 3,
    "node.evicted": FIRES["node.evicted-recovered"][1],
    "node.evicted-recovered": DEPLOYMENT % 1 + pod("p", "a", status=EVICTED, meta=OWNED),
    "node.pod-rejected": DEPLOYMENT % 2 + pod("p", "a", status=SHUTDOWN, meta=OWNED),
    "node.pod-rejected-devices": FIRES["node.pod-rejected"][1],
    "lifecycle.finalizer-stuck": pod("p", "a", meta=f"{FRESH}, finalizers: [example.com/guard]"),
    "lifecycle.pod-on-lost-node": node("a") + pod("p", "a", meta=OLD),
    "lifecycle.pod-not-stopping": node("a") + pod("p", "a", meta=FRESH),
    "lifecycle.namespace-stuck": TERMINATING % "2026-01-15T11:58:00Z",
    # Nobody empties the node.
    "lifecycle.drain-blocked": node("a") + BUDGET % 0 + pod("p", "a"),
    "controlplane.api-unavailable": API % "True",
}


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    own = {code for code in catalogue() if code.startswith(("node.", "lifecycle."))} | {"controlplane.api-unavailable"}
    assert set(FIRES) == set(NEAR) == own


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    assert told(code, found(world(text))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert told(code, found(world(NEAR[code]))) == []


def test_a_joining_node_is_given_time() -> None:
    joining = node("a", NETWORK).replace("{name: a}", '{name: a, creationTimestamp: "2026-01-15T11:58:30Z"}')
    assert found(world(joining)) == []


def test_a_lost_node_names_its_pods_and_what_waits_for_it() -> None:
    waiting = """
---
kind: Pod
metadata: {name: q, namespace: shop}
status:
  phase: Pending
  conditions:
    - type: PodScheduled
      status: "False"
      reason: Unschedulable
      message: "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }."
"""
    tainted = node("a", SILENT, spec="{taints: [{key: node.kubernetes.io/unreachable, effect: NoSchedule}]}")
    findings = found(world(tainted + pod("p", "a") + waiting + lease("a", "2026-01-15T11:39:00Z")))
    assert {ref.name for ref in findings[0].affects} == {"p", "q"}
    assert "renewed 1260 s ago" in {item.quote for item in findings[0].evidence}


def test_a_claim_in_use_says_by_whom() -> None:
    claim = (
        f"\n---\nkind: PersistentVolumeClaim\nmetadata: {{name: data, namespace: shop{OLD}, finalizers: [kubernetes.io/pvc-protection]}}\n"
    )
    user = pod("p", "a").replace("nodeName: a", "nodeName: a, volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]")
    findings = found(world(claim + user))
    assert [str(finding.subject) for finding in findings] == ["PersistentVolumeClaim/shop/data"]
    assert "because Pod/shop/p still uses it" in findings[0].explanation


def test_a_pressed_node_names_what_waits_for_it() -> None:
    taint = "{taints: [{key: node.kubernetes.io/disk-pressure, effect: NoSchedule}]}"
    pressed = node("n1", condition("Ready"), condition("DiskPressure"), spec=taint)
    waits = """
---
kind: Pod
metadata: {name: p, namespace: shop}
spec: {containers: [{name: c}]}
status:
  phase: Pending
  conditions:
    - {type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes are available: 1 node(s) had untolerated taint(s)."}
"""
    [finding] = [item for item in found(world(pressed + waits)) if item.code == "node.pressure"]
    assert [ref.name for ref in finding.affects] == ["p"]


def test_evictions_for_a_limit_of_its_own_that_recur_are_no_history() -> None:
    def evictions(message: str, *, times: int) -> set[str]:
        status = (
            f"phase: Failed, reason: Evicted, message: '{message}', conditions: [{{type: DisruptionTarget, status: \"True\", "
            'lastTransitionTime: "2026-01-15T11:30:00Z"}]'
        )
        pods = "".join(pod(f"p{number}", "a", status=status, meta=OWNED) for number in range(times))
        return {finding.code for finding in found(world(DEPLOYMENT % 2 + pods))}

    own = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '
    assert evictions(own, times=2) == {"node.evicted"}
    assert evictions(own, times=1) == {"node.evicted-recovered"}
    assert evictions("The node was low on resource: memory.", times=2) == {"node.evicted-recovered"}


@pytest.mark.parametrize(("other", "subjects"), [("READY", {"Node/b"}), ("SILENT", set())])
def test_a_lost_node_has_no_kube_proxy_and_that_is_not_kube_proxys_fault(other: str, subjects: set[str]) -> None:
    owned = ", ownerReferences: [{kind: DaemonSet, name: kube-proxy, controller: true}]"
    broken = "phase: Running, conditions: [{type: Ready, status: 'False'}]"
    pods = (pod("kp-a", "a", meta=owned) + pod("kp-b", "b", status=broken, meta=owned)).replace("namespace: shop", "namespace: kube-system")
    nodes_there = node("a") + node("b", {"READY": READY, "SILENT": SILENT}[other])
    said = found(world(nodes_there + (PROXY % 1).replace("desiredNumberScheduled: 3", "desiredNumberScheduled: 2") + pods))
    assert {str(finding.subject) for finding in said if finding.code == "node.kube-proxy-down"} == subjects


@pytest.mark.parametrize(("moment", "told"), [("2026-01-15T11:00:00Z", {"node.evicted-recovered"}), ("2026-01-15T05:00:00Z", set())])
def test_evicted_pods_that_were_left_over_long_ago_are_not_told(moment: str, told: set[str]) -> None:
    status = f'{EVICTED}, startTime: "{moment}"'
    assert {finding.code for finding in found(world(DEPLOYMENT % 2 + pod("p", "a", status=status, meta=OWNED)))} == told


REPLICA_SETS = """
---
kind: ReplicaSet
metadata: {name: web-5d4f8, namespace: shop, ownerReferences: [{kind: Deployment, name: web, controller: true}]}
spec: {replicas: %d}
status: {replicas: %d, readyReplicas: 0}
"""


@pytest.mark.parametrize(("wanted", "told"), [(1, ["Deployment/shop/web"]), (0, [])])
def test_a_refused_revision_is_told_while_the_old_one_serves(wanted: int, told: list[str]) -> None:
    refused = "phase: Failed, reason: TopologyAffinityError, message: 'Resources cannot be allocated with Topology locality'"
    made_by = OWNED.replace("kind: Deployment, name: web", "kind: ReplicaSet, name: web-5d4f8")
    text = DEPLOYMENT % 2 + REPLICA_SETS % (wanted, wanted) + pod("p", "a", status=refused, meta=made_by)
    assert [str(finding.subject) for finding in found(world(text)) if finding.code == "node.pod-rejected"] == told


TABLE_FULL = OOM.replace("SystemOOM", "ConntrackFull").replace(
    "System OOM encountered, victim process: python, pid: 123", "nf_conntrack: nf_conntrack: table full, dropping packet"
)


def test_a_full_table_of_connections_is_the_node_s() -> None:
    now, long_ago = TABLE_FULL % ("11:40", "11:58"), TABLE_FULL % ("09:40", "09:58")
    (finding,) = [item for item in found(world(node("a") + pod("p", "a") + now)) if item.code == "network.packet-loss"]
    assert (str(finding.subject), {ref.name for ref in finding.affects}) == ("Node/a", {"p"})
    assert found(world(node("a") + pod("p", "a") + long_ago)) == []
