"""GPU nodes and device claims: one fault and one near miss per code."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors import claims, devices, gpunodes
from runbooks.finding import Finding
from tests.runbooks.worlds import told, world


def found(made: World) -> list[Finding]:
    return [finding for detector in (*devices.DETECTORS, *gpunodes.DETECTORS, *claims.DETECTORS) for finding in detector(made)]


def node(total: int | None = 8, usable: int = 8, *, conditions: str = "", labels: str = "{}") -> str:
    capacity = f", nvidia.com/gpu: {total}" if total is not None else ""
    allocatable = f", nvidia.com/gpu: {usable}" if total is not None else ""
    return f"""
---
kind: Node
metadata: {{name: g, labels: {labels}}}
status:
  capacity: {{cpu: 64{capacity}}}
  allocatable: {{cpu: 64{allocatable}}}
  conditions: [{{type: Ready, status: "True"}}{conditions}]
"""


def condition(kind: str, message: str, status: str = "True") -> str:
    return f', {{type: {kind}, status: "{status}", reason: r, message: {message!r}}}'


def started(message: str) -> str:
    return f"""
---
kind: Pod
metadata: {{name: p, namespace: ml}}
spec: {{nodeName: g, containers: [{{name: c}}]}}
status:
  phase: Pending
  containerStatuses: [{{name: c, ready: false, state: {{waiting: {{reason: RunContainerError, message: {message!r}}}}}}}]
"""


def waits(resource: str) -> str:
    return f"""
---
kind: Pod
metadata: {{name: p, namespace: ml}}
spec: {{containers: [{{name: c, resources: {{limits: {{{resource}: 1}}}}}}]}}
status:
  phase: Pending
  conditions:
    - {{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes are available: 1 Insufficient {resource}."}}
"""


POLICY = "\n---\nkind: ClusterPolicy\napiVersion: nvidia.com/v1\nmetadata: {name: cluster-policy}\nstatus: {state: %s}\n"
UPGRADE = "{nvidia.com/gpu-driver-upgrade-state: %s}"
MIG = "{nvidia.com/mig.config.state: %s, nvidia.com/mig.config: all-1g.10gb}"

# ---- device claims
CLASS = """
---
kind: DeviceClass
metadata: {name: gpu.example.com}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]}
"""
TAINT = "taints: [{key: gpu.example.com/xid, value: '79', effect: NoSchedule}]"


def slice_(count: int = 2, *, product: str = "A100", extra: str = "", roots: str = "r", complete: int = 1, counters: str = "") -> str:
    listed = ", ".join(
        f"{{name: gpu-{index}, attributes: {{productName: {{string: {product}}}, root: {{string: r{roots if roots != '*' else index}}}}}, "
        f"capacity: {{memory: {{value: 80Gi}}}}{', ' + extra if extra else ''}}}"
        for index in range(count)
    )
    return f"""
---
kind: ResourceSlice
metadata: {{name: g-slice}}
spec:
  driver: gpu.example.com
  nodeName: g
  pool: {{name: g, generation: 1, resourceSliceCount: {complete}}}
{counters}
  devices: [{listed}]
"""


def claim(
    *, name: str = "c1", selector: str = "", count: int = 1, class_: str = "gpu.example.com", status: str = "{}", constraint: str = ""
) -> str:
    selectors = f", selectors: [{{cel: {{expression: '{selector}'}}}}]" if selector else ""
    return f"""
---
kind: ResourceClaim
metadata: {{name: {name}, namespace: ml}}
spec:
  devices:
    requests: [{{name: gpu, exactly: {{deviceClassName: {class_}, count: {count}{selectors}}}}}]
{constraint}
status: {status}
"""


USER = """
---
kind: Pod
metadata: {name: p, namespace: ml, uid: u-p}
spec: {containers: [{name: c}], resourceClaims: [{name: gpu, %s}]}
status:
  phase: %s
  conditions:
    - {type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes are available: 1 cannot allocate all claims."}
"""
WAITS = USER % ("resourceClaimName: c1", "Pending")
TEMPLATED = USER % ("resourceClaimTemplateName: t1", "Pending")
H100 = 'device.attributes["gpu.example.com"].productName == "H100"'
A100 = H100.replace("H100", "A100")
HELD = (
    "{allocation: {devices: {results: [{request: gpu, driver: gpu.example.com, pool: g, device: gpu-%d}]}}, "
    "reservedFor: [{resource: pods, name: other, uid: u-o}]}"
)
SHARED = "  sharedCounters: [{name: g0, counters: {memory: {value: 80Gi}}}]"
EATS = "consumesCounters: [{counterSet: g0, counters: {memory: {value: 60Gi}}}]"
SAME_ROOT = "    constraints: [{requests: [gpu], matchAttribute: gpu.example.com/root}]"


def event(reason: str, message: str) -> str:
    return f"""
---
kind: Event
metadata: {{name: e, namespace: ml}}
involvedObject: {{kind: Pod, name: p, namespace: ml}}
reason: {reason}
type: Warning
message: {message!r}
lastTimestamp: "2026-01-15T11:59:00Z"
"""


# Allocated on node g, and the scheduler waits for condition Attached.
BINDS = (
    CLASS
    + slice_()
    + claim(
        status="""
  allocation:
    allocationTimestamp: "2026-01-15T11:55:00Z"
    devices:
      results:
      - request: gpu
        driver: gpu.example.com
        pool: g
        device: gpu-0
        bindingConditions: [Attached]
        bindingFailureConditions: [AttachFailed]
  reservedFor: [{resource: pods, name: p, uid: u-p}]
  devices: [{driver: gpu.example.com, pool: g, device: gpu-0, conditions: [%s]}]
"""
    )
)
UNBOUND = WAITS[: WAITS.index("  conditions:")]
PREPARE = "Failed to prepare dynamic resources: prepare dynamic resources: DRA driver gpu.example.com is not registered"
ADMIN = "PodResourceClaim gpu: spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the label"
ON_NODE = WAITS.replace("spec: {", "spec: {nodeName: g, ")

FIRES: dict[str, tuple[str, str]] = {
    "gpu.device-plugin-down": ("Node/g", node(8, 0)),
    "gpu.device-withdrawn": ("Node/g", node(8, 7)),
    "gpu.hardware-fault": ("Node/g", node(conditions=condition("SysLogsGPUFallenOff", "Xid 79: GPU has fallen off the bus"))),
    "gpu.memory-fault": ("Node/g", node(conditions=condition("GpuMemWatch", "DCGM_FR_VOLATILE_DBE_DETECTED"))),
    "gpu.nvlink-fault": ("Node/g", node(conditions=condition("GpuNvlinkWatch", "link down"))),
    "gpu.thermal": ("Node/g", node(conditions=condition("GpuThermalWatch", "hot"))),
    "gpu.driver-mismatch": ("Node/g", started("nvml error: driver/library version mismatch: unknown")),
    "gpu.driver-upgrade-failed": ("Node/g", node(labels=UPGRADE % "upgrade-failed")),
    "gpu.toolkit-missing": ("Node/g", started("unresolvable CDI devices nvidia.com/gpu=0")),
    "gpu.mig-failed": ("Node/g", node(labels=MIG % "failed")),
    "gpu.mig-mismatch": ("Pod/ml/p", node() + waits("nvidia.com/mig-1g.10gb")),
    "gpu.operator-not-ready": ("ClusterPolicy/cluster-policy", POLICY % "notReady"),
    "dra.class-missing": ("ResourceClaim/ml/c1", CLASS + claim(class_="gpu.exmaple.com") + WAITS),
    "dra.template-missing": ("ResourceClaimTemplate/ml/t1", TEMPLATED + event("FailedResourceClaimCreation", 'template "t1": not found')),
    "dra.claim-missing": ("ResourceClaim/ml/c1", WAITS.replace("cannot allocate all claims", "resourceclaim 'c1' x").replace("1 r", "r")),
    "dra.slice-missing": ("ResourceClaim/ml/c1", CLASS + claim() + WAITS),
    "dra.pool-incomplete": ("Node/g", slice_(complete=2)),
    "dra.no-matching-device": ("ResourceClaim/ml/c1", CLASS + slice_() + claim(selector=H100) + WAITS),
    "dra.device-tainted": ("ResourceSlice/g-slice", CLASS + slice_(extra=TAINT) + claim() + WAITS),
    "dra.devices-in-use": ("ResourceClaim/ml/c1", CLASS + slice_(1) + claim(name="c0", status=HELD % 0) + claim() + WAITS),
    "dra.claim-in-use": ("ResourceClaim/ml/c1", CLASS + slice_() + claim(status=HELD % 0) + WAITS),
    "dra.counters-exhausted": (
        "ResourceClaim/ml/c1",
        CLASS + slice_(2, counters=SHARED, extra=EATS) + claim(name="c0", status=HELD % 0) + claim() + WAITS,
    ),
    "dra.constraint-unsatisfiable": ("ResourceClaim/ml/c1", CLASS + slice_(2, roots="*") + claim(count=2, constraint=SAME_ROOT) + WAITS),
    "dra.binding-failed": (
        "ResourceClaim/ml/c1",
        BINDS % "{type: AttachFailed, status: 'True', reason: NoPort, message: fabric is full}" + UNBOUND,
    ),
    "dra.binding-pending": ("ResourceClaim/ml/c1", BINDS % "{type: Attached, status: 'False', reason: Attaching}" + UNBOUND),
    "dra.prepare-failed": ("Node/g", ON_NODE + event("FailedPrepareDynamicResources", PREPARE)),
    "dra.admin-access": ("ResourceClaimTemplate/ml/t1", TEMPLATED + event("FailedResourceClaimCreation", ADMIN)),
}
NEAR: dict[str, str] = {
    # Served by Dynamic Resource Allocation: no extended resource is wanted.
    "gpu.device-plugin-down": node(None, labels="{nvidia.com/gpu.present: 'true'}") + slice_(),
    "gpu.device-withdrawn": node(8, 8),
    "gpu.hardware-fault": node(conditions=condition("SysLogsGPUFallenOff", "fine", "False")),
    "gpu.memory-fault": node(conditions=condition("GpuMemWatch", "fine", "False")),
    "gpu.nvlink-fault": node(conditions=condition("GpuNvlinkWatch", "fine", "False")),
    "gpu.thermal": node(conditions=condition("GpuThermalWatch", "fine", "False")),
    "gpu.driver-mismatch": started("unresolvable CDI devices nvidia.com/gpu=0"),
    "gpu.driver-upgrade-failed": node(labels=UPGRADE % "upgrade-done"),
    "gpu.toolkit-missing": started("exec: app: not found"),
    "gpu.mig-failed": node(labels=MIG % "success"),
    "gpu.mig-mismatch": node() + waits("nvidia.com/gpu"),
    "gpu.operator-not-ready": POLICY % "ready",
    "dra.class-missing": CLASS + slice_() + claim(selector=A100) + WAITS,
    "dra.template-missing": TEMPLATED,
    "dra.claim-missing": CLASS + slice_() + claim() + WAITS,
    "dra.slice-missing": CLASS + slice_() + claim() + WAITS,
    "dra.pool-incomplete": slice_(),
    "dra.no-matching-device": CLASS + slice_() + claim(selector=A100) + WAITS,
    "dra.device-tainted": CLASS + slice_(extra=TAINT.replace("NoSchedule", "None")) + claim() + WAITS,
    "dra.devices-in-use": CLASS + slice_(2) + claim(name="c0", status=HELD % 0) + claim() + WAITS,
    "dra.claim-in-use": CLASS + slice_() + claim(status=(HELD % 0).replace("u-o", "u-p")) + WAITS,
    "dra.counters-exhausted": CLASS + slice_(2, counters=SHARED, extra=EATS.replace("60Gi", "20Gi")) + claim() + WAITS,
    "dra.constraint-unsatisfiable": CLASS + slice_(2) + claim(count=2, constraint=SAME_ROOT) + WAITS,
    "dra.binding-failed": BINDS % "{type: Attached, status: 'True'}" + UNBOUND,
    "dra.binding-pending": BINDS.replace("11:55:00", "11:59:30") % "{type: Attached, status: 'False'}" + UNBOUND,
    "dra.prepare-failed": ON_NODE,
    "dra.admin-access": FIRES["dra.template-missing"][1],
}
COMPLETE: dict[str, tuple[str, ...]] = {"dra.slice-missing": ("ResourceSlice",), "dra.claim-missing": ("ResourceClaim",)}


def test_a_condition_about_an_error_of_a_program_accuses_no_device() -> None:
    text = """
kind: Node
metadata: {name: n0}
status: {conditions: [{type: SysLogsXIDError, status: "True", reason: X, message: "Xid (PCI:0000:05:00): %s, pid=812"}]}
"""
    assert {finding.code for finding in found(world(text % 79))} == {"gpu.hardware-fault"}
    assert found(world(text % 31)) == []


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    elsewhere = {"gpu.fragmentation", "gpu.runtimeclass-missing"}
    assert set(FIRES) == set(NEAR)
    assert {code for code in catalogue() if code.startswith("dra.")} <= set(FIRES)
    assert set(FIRES) & elsewhere == set()


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    assert told(code, found(world(text, complete=COMPLETE.get(code, ())))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert told(code, found(world(NEAR[code], complete=COMPLETE.get(code, ())))) == []


def test_no_matching_device_shows_what_was_asked_and_what_there_is() -> None:
    text = found(world(FIRES["dra.no-matching-device"][1]))[0].explanation
    assert 'productName == "H100"' in text
    assert "2 × productName=A100" in text


def test_a_template_is_what_a_person_edits() -> None:
    template = claim(selector=H100).replace("kind: ResourceClaim\n", "kind: ResourceClaimTemplate\n").replace("name: c1", "name: t1")
    template = template.replace("spec:\n  devices:", "spec:\n  spec:\n   devices:").replace("status: {}", "")
    findings = found(world(CLASS + slice_() + template + TEMPLATED))
    assert [(finding.code, str(finding.subject)) for finding in findings] == [("dra.no-matching-device", "ResourceClaimTemplate/ml/t1")]


def test_what_a_device_says_of_a_condition_is_shown_and_nothing_said_is_too() -> None:
    waits = FIRES["dra.binding-pending"][1]
    event_ = event("BindingConditionsPending", "waiting for binding conditions for device on node g")
    [finding] = found(world(waits + event_))
    assert "gpu.example.com/g/gpu-0 since 5 min: Attached is False (Attaching)" in finding.explanation
    assert [item.path for item in finding.evidence] == ["status.devices[gpu.example.com/g/gpu-0].conditions", "BindingConditionsPending"]
    [finding] = found(world(waits.replace("conditions: [{type: Attached", "conditions: [{type: Other")))
    assert "Attached is not set" in finding.explanation


def test_a_device_without_binding_conditions_is_waited_for_by_nobody() -> None:
    assert found(world(FIRES["dra.binding-failed"][1].replace("        bindingConditions: [Attached]\n", ""))) == []


@pytest.mark.parametrize(
    ("said", "code", "shown"),
    [
        ('device binding failed: claim=c1, reason=NoPort, message="fabric is full"', "dra.binding-failed", "(NoPort: fabric is full)"),
        ("device binding timeout: claim=c1", "dra.binding-pending", "in the time that the scheduler waits"),
        ("device binding timeout: context deadline exceeded", "dra.binding-pending", "in the time that the scheduler waits"),
    ],
)
def test_a_device_that_was_given_back_is_told_by_the_schedulers_words(said: str, code: str, shown: str) -> None:
    failed = event("FailedScheduling", f'running PreBind plugin "DynamicResources": {said}')
    [finding] = found(world(CLASS + slice_() + claim() + UNBOUND + failed))
    assert (finding.code, str(finding.subject)) == (code, "ResourceClaim/ml/c1")
    assert shown in finding.explanation
    # What keeps it from being allocated again is the cause, once it is known.
    assert {item.code for item in found(world(CLASS + slice_(extra=TAINT) + claim() + UNBOUND + failed))} == {"dra.device-tainted"}


def test_a_selector_that_cannot_be_evaluated_is_not_guessed() -> None:
    assert found(world(CLASS + slice_() + claim(selector='cel.bind(x, device.driver, x == "y")') + WAITS)) == []


def test_a_gone_plugin_names_who_waits() -> None:
    finding = found(world(node(8, 0) + waits("nvidia.com/gpu")))[0]
    assert finding.code == "gpu.device-plugin-down"
    assert {str(ref) for ref in finding.affects} == {"Pod/ml/p"}


def test_application_xids_accuse_no_hardware() -> None:
    xid = event("GPUXid", "NVRM: Xid (PCI:0000:05:00): 31, MMU fault").replace("kind: Pod, name: p, namespace: ml", "kind: Node, name: g")
    assert found(world(node() + xid)) == []
    assert [item.code for item in found(world(node() + xid.replace("31,", "79,")))] == ["gpu.hardware-fault"]
