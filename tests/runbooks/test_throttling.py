"""Beside heat, which `test_utilisation` and `test_live_metrics` have."""

from __future__ import annotations

from cluster.reading import Series
from runbooks.detectors.throttling import DETECTORS
from tests.runbooks.measured import findings, flat, risen, told
from tests.runbooks.test_utilisation import replicas

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


def test_a_brake_of_the_power_supply_and_the_cap_that_is_normal() -> None:
    brake = flat(EVENTS, 4, pod="chat-0", namespace="ml", gpu="0", clock_event="hw_power_brake")
    assert told(DETECTORS, replicas(2), brake) == {("gpu.power-brake", "Node/n0")}
    assert told(DETECTORS, replicas(2), flat(EVENTS, 40, pod="chat-0", namespace="ml", gpu="0", clock_event="power_cap")) == set()


def clocks(slow: float, busy: float = 99.0) -> list[Series]:
    made = [flat("DCGM_FI_DEV_SM_CLOCK", slow if pod == 0 else 1980, pod=f"chat-{pod}", gpu="0") for pod in range(4)]
    return [*made, *(flat("DCGM_FI_DEV_GPU_UTIL", busy if pod == 0 else 99, pod=f"chat-{pod}", gpu="0") for pod in range(4))]


def test_a_clock_that_somebody_set_and_left() -> None:
    assert told(DETECTORS, replicas(4), *clocks(900)) == {("gpu.clock-held", "Node/n0")}
    assert told(DETECTORS, replicas(4), *clocks(1800)) == set()
    # A GPU that waits lowers its clock by itself.
    assert told(DETECTORS, replicas(4), *clocks(345, busy=0)) == set()
    hot = flat("DCGM_FI_DEV_GPU_TEMP", 92, pod="chat-0", gpu="0")
    assert told(DETECTORS, replicas(4), *clocks(900), hot) == {("gpu.thermal-throttle", "Node/n0")}
