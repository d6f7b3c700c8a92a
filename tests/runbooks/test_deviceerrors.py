from __future__ import annotations

from datetime import timedelta

from cluster.reading import Reading, Sample, Series
from cluster.telemetry import Telemetry
from runbooks.detectors.deviceerrors import bus_and_link_errors, device_errors
from runbooks.finding import Certainty, Finding
from tests.runbooks.test_utilisation import replicas
from tests.runbooks.worlds import NOW, world


def errors(name: str, *values: float, **labels: str) -> Series:
    """One sample for each of the last minutes."""
    at = NOW - timedelta(minutes=len(values))
    samples = tuple(Sample(at + timedelta(minutes=index), value) for index, value in enumerate(values))
    return Series({"__name__": name, **labels}, samples)


def found(*series: Series, objects: str = "") -> list[Finding]:
    return list(device_errors(world(objects or replicas(2)).with_telemetry(Reading(Telemetry(series=series)))))


def test_an_error_that_came_is_proven_and_names_who_has_the_device() -> None:
    [finding] = found(errors("DCGM_FI_DEV_XID_ERRORS", 0, 0, 79, 79, pod="chat-1", gpu="3"))
    assert (finding.code, str(finding.subject), finding.certainty) == ("gpu.hardware-fault", "Node/n1", Certainty.PROVEN)
    assert [str(ref) for ref in finding.affects] == ["Pod/ml/chat-1"]
    assert finding.since == NOW - timedelta(minutes=2)
    assert "XID 79 on GPU 3" in finding.explanation


def test_an_error_that_stood_there_all_the_time_may_be_old() -> None:
    [finding] = found(errors("DCGM_FI_DEV_XID_ERRORS", 48, 48, 48, node="n0", gpu="0"))
    assert (finding.code, finding.certainty, finding.since) == ("gpu.memory-fault", Certainty.LIKELY, None)
    assert "before the time" in finding.lacks


def test_several_devices_of_a_node_are_one_finding() -> None:
    [finding] = found(*(errors("DCGM_FI_DEV_XID_ERRORS", 0, 74, node="n0", gpu=str(gpu)) for gpu in range(8)))
    assert finding.code == "gpu.nvlink-fault"
    assert len(finding.evidence) == 5


def test_what_is_over_what_applications_cause_and_whose_node_is_unknown() -> None:
    assert found(errors("DCGM_FI_DEV_XID_ERRORS", 79, 79, 0, node="n0")) == []
    assert found(errors("DCGM_FI_DEV_XID_ERRORS", 0, 31, node="n0")) == []
    assert found(errors("DCGM_FI_DEV_XID_ERRORS", 0, 79, node="n9")) == []
    assert found(errors("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 0, 0, node="n0")) == []
    assert found(Series({"__name__": "DCGM_FI_DEV_XID_ERRORS", "node": "n0"}, ())) == []


def test_uncorrectable_memory_errors_and_a_failed_remapping() -> None:
    for name in ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "DCGM_FI_DEV_ROW_REMAP_FAILURE"):
        [finding] = found(errors(name, 0, 0, 1, node="n1", gpu="0"))
        assert (finding.code, str(finding.subject)) == ("gpu.memory-fault", "Node/n1")


def test_a_row_that_waits_for_a_reset() -> None:
    for name in ("DCGM_FI_DEV_ROW_REMAP_PENDING", "DCGM_FI_DEV_RETIRED_PENDING"):
        [finding] = found(errors(name, 0, 0, 1, node="n1", gpu="0"))
        assert (finding.code, str(finding.subject)) == ("gpu.remap-pending", "Node/n1")


def test_what_only_follows_another_error_does_not_hide_it() -> None:
    [finding] = found(errors("DCGM_FI_DEV_XID_ERRORS", 0, 79, 45, pod="chat-1", gpu="3"))
    assert (finding.code, "XID 79" in finding.explanation) == ("gpu.hardware-fault", True)
    assert found(errors("DCGM_FI_DEV_XID_ERRORS", 0, 45, pod="chat-1", gpu="3")) == []


def test_errors_that_the_exporter_counts_by_number() -> None:
    [finding] = found(errors("DCGM_EXP_XID_ERRORS_COUNT", 0, 2, node="n1", gpu="0", xid="119"))
    assert (finding.code, "GSP RPC timeout" in finding.explanation) == ("gpu.hardware-fault", True)
    assert found(errors("DCGM_EXP_XID_ERRORS_COUNT", 0, 2, node="n1", gpu="0", xid="31")) == []
    assert found(errors("DCGM_EXP_XID_ERRORS_COUNT", 2, 0, node="n1", gpu="0", xid="79")) == []


def test_links_and_slots_that_lose_data() -> None:
    for name, bad, well, code in (
        ("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", 0.5, 0.0, "gpu.nvlink-fault"),
        ("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", 400.0, 3.0, "gpu.nvlink-fault"),
        ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 1.0, 0.05, "gpu.bus-errors"),
    ):
        for rate, codes in ((bad, [code]), (well, [])):
            measured = Telemetry(series=(errors(name, rate, rate, rate, rate, node="n1", gpu="2"),))
            made = world(replicas(2)).with_telemetry(Reading(measured))
            assert [finding.code for finding in bus_and_link_errors(made)] == codes
