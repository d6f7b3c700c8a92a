from __future__ import annotations

from runbooks.catalogue import catalogue
from runbooks.detectors.registry import ALL
from tests.runbooks.failures_page import PAGE, entries, page


def test_the_page_is_what_codes_and_detectors_say() -> None:
    """Run `make docs` after a change of either."""
    assert PAGE.read_text("utf-8") == page()


def test_every_code_is_made_by_a_detector() -> None:
    assert catalogue().keys() - {code for entry in entries() for code in entry.codes} == set()


def test_every_detector_is_listed_makes_codes_and_no_other_than_the_catalogue_has() -> None:
    assert sorted((entry.module, entry.name) for entry in entries()) == sorted(
        (detector.__module__.rpartition(".")[2], detector.__name__) for detector in ALL
    )
    assert [(entry.module, entry.name) for entry in entries() if not entry.codes] == []
    assert [(entry.module, entry.name, entry.unknown) for entry in entries() if entry.unknown] == []


def test_every_detector_says_its_signal_and_its_limits() -> None:
    assert [(entry.module, entry.name) for entry in entries() if len(entry.signal) < 20 or len(entry.limits) < 20] == []


def test_what_a_detector_reads_is_seen() -> None:
    told = {entry.name: entry.sources for entry in entries()}
    assert told["failed_pulls"] == ("fields", "events")
    assert "logs" in told["peer_faults"]
    assert "metrics" in told["memory_leaking"]
