"""Beside heat, which `test_utilisation` and `test_live_metrics` have."""

from __future__ import annotations

import pytest

from cluster.reading import Reading, Series
from cluster.telemetry import Telemetry
from runbooks.causes import explain
from runbooks.detectors import modelload
from runbooks.detectors.throttling import DETECTORS
from runbooks.finding import Certainty
from tests.runbooks.measured import findings, flat, risen, told
from tests.runbooks.test_utilisation import replicas
from tests.runbooks.worlds import world

SLOW = [flat("vllm:inter_token_latency_seconds", 0.02, pod=f"chat-{pod}", namespace="ml") for pod in (0, 1)]
SLOW.append(risen("vllm:inter_token_latency_seconds", 0.02, 0.2, pod="chat-2", namespace="ml"))
EVENTS = "DCGM_EXP_CLOCK_EVENTS_COUNT"


def test_heat_names_the_device_who_has_it_and_since_when() -> None:
    series = [
        risen("DCGM_FI_DEV_GPU_TEMP", 65, 91, pod="chat-1", namespace="ml", gpu="3"),
        risen("DCGM_FI_DEV_SM_CLOCK", 1980, 700, pod="chat-1", namespace="ml", gpu="3"),
        *(flat("DCGM_FI_DEV_SM_CLOCK", 1980, pod="chat-0", namespace="ml", gpu=str(gpu)) for gpu in range(3)),
    ]
    [finding] = findings(DETECTORS, replicas(2), series)
    assert (finding.code, str(finding.subject)) == ("gpu.thermal-throttle", "Node/n1")
    assert "GPU 3 of node n1 slows down because it is hot since 11:40" in finding.explanation
    assert "chat-1 of StatefulSet/ml/chat runs on it" in finding.explanation
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/chat-1"]


@pytest.mark.parametrize("labels", [{"pod": "chat-2", "namespace": "ml"}, {"node": "n2"}])
@pytest.mark.parametrize(
    ("name", "level", "more", "code"),
    [
        (EVENTS, 9, {"clock_event": "hw_thermal"}, "gpu.thermal-throttle"),
        (EVENTS, 9, {"clock_event": "hw_power_brake"}, "gpu.power-brake"),
    ],
)
def test_the_device_explains_the_replica(labels: dict[str, str], name: str, level: float, more: dict[str, str], code: str) -> None:
    made = world(replicas(3)).with_telemetry(Reading(Telemetry(series=(*SLOW, risen(name, 0, level, gpu="0", **labels, **more)))))
    [cause] = explain(made, tuple(finding for detector in (*DETECTORS, *modelload.DETECTORS) for finding in detector(made))).causes
    assert (cause.code, str(cause.object)) == (code, "Node/n2")
    assert "since 11:40" in cause.explanation
    [symptom] = cause.symptoms
    assert (symptom.code, "chat-2" in symptom.text) == ("serving.replica-on-sick-device", True)


def test_a_device_of_another_node_does_not() -> None:
    hot = risen(EVENTS, 0, 9, gpu="0", node="n0", clock_event="hw_thermal")
    made = world(replicas(3)).with_telemetry(Reading(Telemetry(series=(*SLOW, hot))))
    causes = explain(made, tuple(finding for detector in (*DETECTORS, *modelload.DETECTORS) for finding in detector(made))).causes
    assert ("serving.slow-replica", "StatefulSet/ml/chat") in {(cause.code, str(cause.object)) for cause in causes}


def test_a_brake_of_the_power_supply_and_the_cap_that_is_normal() -> None:
    brake = flat(EVENTS, 4, pod="chat-0", namespace="ml", gpu="0", clock_event="hw_power_brake")
    assert told(DETECTORS, replicas(2), brake) == {("gpu.power-brake", "Node/n0")}
    assert told(DETECTORS, replicas(2), flat(EVENTS, 40, pod="chat-0", namespace="ml", gpu="0", clock_event="power_cap")) == set()


BITS = ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")
CHAT = {"pod": "chat-0", "namespace": "ml", "gpu": "0"}


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize(
    ("bits", "codes"),
    [
        (0x40, {"gpu.thermal-throttle"}),
        (0x20, {"gpu.thermal-throttle"}),
        (0x08, {"gpu.thermal-throttle"}),
        # The brake slows the hardware down, and no heat is in it.
        (0x88, {"gpu.power-brake"}),
        (0xC8, {"gpu.power-brake", "gpu.thermal-throttle"}),
        # Idle, a power cap, no reason, and what DCGM has no value for.
        (0x1, set()),
        (0x4, set()),
        (0, set()),
        (0x7FFFFFFFFFFFFFF0, set()),
    ],
)
def test_reasons_of_a_clock_as_bits(name: str, bits: int, codes: set[str]) -> None:
    assert told(DETECTORS, replicas(2), flat(name, bits, **CHAT)) == {(code, "Node/n0") for code in codes}


def test_bits_tell_since_when_and_a_moment_is_nothing() -> None:
    [finding] = findings(DETECTORS, replicas(2), [risen(BITS[0], 0x4, 0x8C, **CHAT)])
    assert (finding.code, [item.path for item in finding.evidence]) == ("gpu.power-brake", [f"{BITS[0]} hw_power_brake gpu 0"])
    assert "since 11:40" in finding.explanation
    assert told(DETECTORS, replicas(2), risen(BITS[0], 0x88, 0, **CHAT)) == set()


def clocks(slow: float, busy: float = 99.0) -> list[Series]:
    made = [flat("DCGM_FI_DEV_SM_CLOCK", slow if pod == 0 else 1980, pod=f"chat-{pod}", gpu="0") for pod in range(4)]
    return [*made, *(flat("DCGM_FI_DEV_GPU_UTIL", busy if pod == 0 else 99, pod=f"chat-{pod}", gpu="0") for pod in range(4))]


def test_a_clock_that_somebody_set_and_left() -> None:
    cool = flat("DCGM_FI_DEV_GPU_TEMP", 62, pod="chat-0", gpu="0")
    assert told(DETECTORS, replicas(4), *clocks(900), cool) == {("gpu.clock-held", "Node/n0")}
    assert told(DETECTORS, replicas(4), *clocks(1800), cool) == set()
    # A GPU that waits lowers its clock by itself.
    assert told(DETECTORS, replicas(4), *clocks(345, busy=0), cool) == set()
    # Whether it is hot is not measured, or of another GPU.
    assert told(DETECTORS, replicas(4), *clocks(900)) == set()
    assert told(DETECTORS, replicas(4), *clocks(900), flat("DCGM_FI_DEV_GPU_TEMP", 62, pod="chat-1", gpu="0")) == set()
    braked = flat(BITS[0], 0x88, pod="chat-0", gpu="0")
    assert told(DETECTORS, replicas(4), *clocks(900), cool, braked) == {("gpu.power-brake", "Node/n0")}
    assert told(DETECTORS, replicas(4), *clocks(900), flat(BITS[0], 0x4, pod="chat-0", gpu="0")) == set()
    # No reason at all, and the one that names the setting itself.
    assert told(DETECTORS, replicas(4), *clocks(900), flat(BITS[0], 0, pod="chat-0", gpu="0")) == {("gpu.clock-held", "Node/n0")}
    [left] = findings(DETECTORS, replicas(4), [*clocks(900), flat(BITS[0], 0x2, pod="chat-0", gpu="0")])
    assert (left.code, left.certainty, left.lacks) == ("gpu.clock-held", Certainty.PROVEN, "")
    # A GPU of another product has clocks of its own.
    other = [
        Series({**item.labels, "modelName": "V100" if item.labels["pod"] == "chat-0" else "H100"}, item.samples) for item in clocks(900)
    ]
    assert told(DETECTORS, replicas(4), *other, flat(BITS[0], 0x2, pod="chat-0", gpu="0")) == set()
    hot = flat("DCGM_FI_DEV_GPU_TEMP", 92, pod="chat-0", gpu="0")
    assert told(DETECTORS, replicas(4), *clocks(900), hot) == {("gpu.thermal-throttle", "Node/n0")}
