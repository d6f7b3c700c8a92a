"""Devices of AMD, Intel, Gaudi and Neuron: each row with a fault and a near miss, and labels and conditions of their agents."""

from __future__ import annotations

import pytest

from cluster.reading import Reading, Sample, Series
from cluster.telemetry import Telemetry
from runbooks.detectors.accelerators import DETECTORS, SIGNS
from runbooks.detectors.devices import device_unhealthy
from runbooks.finding import Certainty, Finding
from tests.runbooks.measured import flat, risen
from tests.runbooks.worlds import world

NODE = """
kind: Node
metadata: {{name: n1, labels: {labels}}}
status:
  capacity: {{{resource}: 8}}
  allocatable: {{{resource}: 8}}
  conditions: [{{type: Ready, status: "True"}}{condition}]
---
kind: Pod
metadata: {{name: fit-0, namespace: ml, ownerReferences: [{{kind: Job, name: fit, controller: true}}]}}
spec: {{nodeName: n1, containers: [{{name: c, resources: {{limits: {{{resource}: 1}}}}}}]}}
status: {{phase: Running}}
---
kind: Pod
metadata: {{name: exporter, namespace: monitoring}}
spec: {{nodeName: n1, containers: [{{name: c}}]}}
status: {{phase: Running}}
"""


def machine(resource: str, labels: str = "{}", condition: str = "") -> str:
    return NODE.format(resource=resource, labels=labels, condition=condition)


AMD, GAUDI, NEURON, XE = "amd.com/gpu", "habana.ai/gaudi", "aws.amazon.com/neuron", "gpu.intel.com/xe"
HEAT = "gpu_violation_gfx_clock_below_host_limit_thermal_percentage"
# metric, resource, what is well, what is not, the code; labels beside the exporter's own pod.
ROWS: tuple[tuple[str, str, float, float, str, dict[str, str]], ...] = (
    ("gpu_health", AMD, 1, 0, "gpu.hardware-fault", {"gpu_id": "3"}),
    ("gpu_ecc_uncorrect_total", AMD, 0, 2, "gpu.memory-fault", {"gpu_id": "3"}),
    (HEAT, AMD, 2, 40, "gpu.thermal-throttle", {"gpu_id": "3"}),
    ("gpu_violation_socket_thermal_residency_percentage", AMD, 2, 40, "gpu.thermal-throttle", {"gpu_id": "3"}),
    ("xpum_cache_errors_total", XE, 0, 1, "gpu.memory-fault", {"pci_bdf": "0000:4d:00.0", "type": "uncorrectable"}),
    ("habanalabs_pending_rows_with_double_bit_ecc_errors", GAUDI, 0, 1, "gpu.remap-pending", {"id": "5"}),
    ("habanalabs_temperature_slowdown_ratio", GAUDI, 0.8, 1.02, "gpu.thermal-throttle", {"id": "5"}),
    ("hardware_ecc_events_total", NEURON, 0, 3, "gpu.memory-fault", {"neuron_device_index": "7", "event_type": "sram_ecc_uncorrected"}),
    ("execution_errors_total", NEURON, 0, 3, "gpu.hardware-fault", {"error_type": "hardware"}),
)
EXPORTER = {"pod": "exporter", "namespace": "monitoring"}


def found(objects: str, *series: object) -> list[Finding]:
    made = world(objects).with_telemetry(Reading(Telemetry(series=series)))  # type: ignore[arg-type]
    return [finding for detector in DETECTORS for finding in detector(made)]


def test_every_row_is_tried() -> None:
    assert {row[0] for row in ROWS} == set(SIGNS)


@pytest.mark.parametrize(("name", "resource", "well", "bad", "code", "labels"), ROWS, ids=[row[0] for row in ROWS])
def test_a_measurement_that_became_bad(name: str, resource: str, well: float, bad: float, code: str, labels: dict[str, str]) -> None:
    [finding] = found(machine(resource), risen(name, well, bad, **EXPORTER, **labels))
    assert (finding.code, str(finding.subject), finding.certainty) == (code, "Node/n1", Certainty.PROVEN)
    assert finding.since is not None
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/fit-0"]
    assert finding.evidence[0].path.startswith(name)
    assert found(machine(resource), flat(name, well, **EXPORTER, **labels)) == []
    # The same name from who knows what: the node has no such device.
    assert found(machine("nvidia.com/gpu"), risen(name, well, bad, **EXPORTER, **labels)) == []


def test_what_was_corrected_or_is_the_programs_own_accuses_no_device() -> None:
    for name, resource, labels in (
        ("hardware_ecc_events_total", NEURON, {"event_type": "mem_ecc_corrected"}),
        ("execution_errors_total", NEURON, {"error_type": "model"}),
        ("xpum_cache_errors_total", XE, {"type": "correctable"}),
    ):
        assert found(machine(resource), risen(name, 0, 9, **EXPORTER, **labels)) == []


def test_a_count_that_stood_there_may_be_old_and_a_prefix_changes_nothing() -> None:
    [finding] = found(machine(AMD), flat("amd_gpu_ecc_uncorrect_total", 2, **EXPORTER, gpu_id="0"))
    assert (finding.code, finding.certainty, finding.since) == ("gpu.memory-fault", Certainty.LIKELY, None)
    assert "before the time" in finding.lacks


@pytest.mark.parametrize(("name", "resource", "hot"), [(HEAT, AMD, 40.0), ("habanalabs_temperature_slowdown_ratio", GAUDI, 1.02)])
def test_heat_is_a_state_and_a_moment_of_it_is_none(name: str, resource: str, hot: float) -> None:
    [finding] = found(machine(resource), flat(name, hot, **EXPORTER))
    assert (finding.certainty, finding.since, finding.lacks) == (Certainty.PROVEN, None, "")
    assert " is at 102% of" in finding.explanation or " is below its clock for 40 %" in finding.explanation
    level = risen(name, 0.5, 0.5, **EXPORTER)
    moment = Series(level.labels, (*level.samples[:-1], Sample(level.samples[-1].at, hot)))
    assert found(machine(resource), moment) == []


def test_the_pod_that_has_the_device_is_named_alone() -> None:
    second = machine(AMD).split("---")[1].replace("fit-0", "fit-1")
    [finding] = found(f"{machine(AMD)}---{second}", risen("gpu_health", 1, 0, pod="fit-1", namespace="ml", gpu_id="2"))
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/fit-1"]
    assert "GPU 2 is called unhealthy" in finding.explanation


def test_a_label_of_the_exporter_calls_a_device_unhealthy() -> None:
    key = "metricsexporter.amd.com.gpu.3.state"
    [finding] = device_unhealthy(world(machine(AMD, f"{{{key}: unhealthy}}")))
    assert (finding.code, finding.evidence[0].path) == ("gpu.hardware-fault", f"metadata.labels[{key}]")
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/fit-0"]
    assert list(device_unhealthy(world(machine(AMD, f"{{{key}: healthy}}")))) == []


@pytest.mark.parametrize(
    ("kind", "bad", "reason", "code"),
    [
        ("NeuronHealth", "True", "NeuronHasError_HBM_UNCORRECTABLE_ERROR", "gpu.memory-fault"),
        ("NeuronHealth", "True", "NeuronHasError_DMA_ERROR", "gpu.hardware-fault"),
        ("AcceleratedHardwareReady", "False", "NeuronSRAMUncorrectableError", "gpu.memory-fault"),
        ("AcceleratedHardwareReady", "False", "NeuronDMAError", "gpu.hardware-fault"),
        ("AMDGPUProblem", "True", "AMDGPUIsDown", "gpu.hardware-fault"),
    ],
)
def test_a_condition_says_by_its_reason_what_failed(kind: str, bad: str, reason: str, code: str) -> None:
    def told(status: str) -> list[tuple[str, bool]]:
        condition = f', {{type: {kind}, status: "{status}", reason: {reason}}}'
        made = world(machine(AMD if kind.startswith("AMD") else NEURON, condition=condition))
        return [(finding.code, "Neuron device" in finding.explanation) for finding in device_unhealthy(made)]

    assert told(bad) == [(code, not kind.startswith("AMD"))]
    assert told("False" if bad == "True" else "True") == []
