"""A fault is of one vendor's devices: a node that has devices of two is not suspected whole."""

from __future__ import annotations

import pytest

from cluster.reading import Reading, Series
from cluster.telemetry import Telemetry
from mcp_server.tools.gpus import notes_of, place_of, state_of
from runbooks.inventory import inventory, notes
from tests.runbooks.measured import grown
from tests.runbooks.worlds import world

MIXED = """
kind: Node
metadata: {{name: mixed, labels: {{{labels}}}}}
status:
  capacity: {{nvidia.com/gpu: 4, amd.com/gpu: 4, aws.amazon.com/neuron: 4}}
  allocatable: {{nvidia.com/gpu: 4, amd.com/gpu: 4, aws.amazon.com/neuron: 4}}
  conditions: [{{type: Ready, status: "True"}}{condition}]
"""
USER = """
---
kind: Pod
metadata: {{name: fit, namespace: ml}}
spec: {{nodeName: mixed, containers: [{{name: c, image: i, resources: {{requests: {{{resource}: 1}}, limits: {{{resource}: 1}}}}}}]}}
status:
  phase: Running
  containerStatuses:
  - {{name: c, ready: true, allocatedResourcesStatus: [{{name: {resource}, resources: [{{resourceID: d0, health: Unhealthy}}]}}]}}
"""


def mixed(kind: str = "", reason: str = "r", message: str = "m", status: str = "True", labels: str = "") -> str:
    said = f', {{type: {kind}, status: "{status}", reason: {reason}, message: "{message}"}}' if kind else ""
    return MIXED.format(condition=said, labels=labels)


def suspects(text: str, *series: Series) -> set[str]:
    made = world(text).with_telemetry(Reading(Telemetry(series=series)))
    offers = inventory(made)
    said = notes_of(offers, notes(made))
    assert {place_of(offer) for offer in offers} == {("mixed", "NVIDIA"), ("mixed", "AMD"), ("mixed", "AWS Neuron")}
    return {offer.vendor for offer in offers if state_of(offer, said) == "suspect"}


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        (mixed("GpuMemWatch"), "NVIDIA"),
        (mixed("SysLogsXIDError", message="XID 79"), "NVIDIA"),
        (mixed("NVSwitchDown"), "NVIDIA"),
        (mixed("NeuronHealth"), "AWS Neuron"),
        (mixed("AMDGPUProblem"), "AMD"),
        (mixed("AcceleratedHardwareReady", "NvidiaDoubleBitError", status="False"), "NVIDIA"),
        (mixed("AcceleratedHardwareReady", "NeuronHBMUncorrectableError", status="False"), "AWS Neuron"),
        (mixed(labels='metricsexporter.amd.com.gpu.0.state: "unhealthy"'), "AMD"),
        (mixed() + USER.format(resource="amd.com/gpu"), "AMD"),
        (mixed() + USER.format(resource="nvidia.com/gpu"), "NVIDIA"),
    ],
)
def test_only_the_devices_of_the_vendor_that_is_named_are_suspect(text: str, vendor: str) -> None:
    assert suspects(text) == {vendor}


@pytest.mark.parametrize(
    ("series", "vendor"),
    [
        (grown("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 0, 3, Hostname="mixed", gpu="1"), "NVIDIA"),
        (grown("gpu_ecc_uncorrect_total", 0, 3, node="mixed", gpu_id="1"), "AMD"),
        (grown("amd_gpu_ecc_uncorrect_total", 0, 3, node="mixed", gpu_id="1"), "AMD"),
    ],
)
def test_a_measurement_is_of_its_exporters_vendor(series: Series, vendor: str) -> None:
    assert suspects(mixed(), series) == {vendor}


def test_a_fault_that_names_no_vendor_is_of_all() -> None:
    text = mixed("AcceleratedHardwareReady", "HardwareError", status="False")
    assert suspects(text) == {"NVIDIA", "AMD", "AWS Neuron"}


def test_a_healthy_node_is_suspected_of_nothing() -> None:
    assert suspects(mixed("GpuMemWatch", status="False")) == set()
