from __future__ import annotations

import pytest

from runbooks import xid
from runbooks.detectors.devices import code_of_xid


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *((number, None) for number in (0, 13, 31, 43, 45, 14, 165)),
        *((number, "gpu.memory-fault") for number in (48, 64, 94, 95, 140, 172)),
        (63, "gpu.remap-pending"),
        *((number, "gpu.nvlink-fault") for number in (74, 144, 150)),
        *((number, "gpu.hardware-fault") for number in (79, 109, 119, 154, 999)),
    ],
)
def test_what_a_number_is(number: int, code: str | None) -> None:
    assert code_of_xid(number) == code


def test_every_row_says_what_it_is_and_what_it_asks_for() -> None:
    assert len(xid.table()) > 70
    assert all(row.name and row.asks for row in xid.table().values())


def test_words_for_people() -> None:
    assert "fallen off the bus" in xid.words(79)
    assert xid.words(999) == ""
    line = "NVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
    assert xid.words_in(line) == " (the GPU's recovery action changed; the driver says: Node Reboot Required)"
    assert xid.words_in("nothing of the kind") == ""


def test_the_driver_calls_some_link_errors_minor() -> None:
    line = "NVRM: Xid (PCI:0018:01:00): 149, pid=<unknown>, name=<unknown>, NETIR_LINK_EVT  {} XC0 i0 Link 05 (0x1 0x2)"
    assert xid.is_minor(line.format("Nonfatal"))
    assert not xid.is_minor(line.format("Fatal"))
