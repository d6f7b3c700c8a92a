from __future__ import annotations

from datetime import timedelta

from cluster.reading import Sample, Series
from runbooks.measurement import Locator, change_of, is_counter, rates, steady_growth
from tests.runbooks.manifests import manifest, pod, service
from tests.runbooks.worlds import NOW, world


def series(*values: float) -> Series:
    return Series({}, tuple(Sample(NOW + timedelta(seconds=10 * at), value) for at, value in enumerate(values)))


def test_a_step_is_dated_at_the_sample_that_crosses_its_middle() -> None:
    change = change_of(series(1, 1, 1, 1, 9, 9, 9, 9))
    assert change is not None
    assert (change.before, change.now, change.factor) == (1, 9, 9)
    assert change.since == NOW + timedelta(seconds=40)


def test_one_outlier_is_no_change() -> None:
    change = change_of(series(1, 1, 1, 50, 1, 1, 1, 1, 1, 1, 1, 1))
    assert change is not None
    assert change.factor == 1


def test_from_zero_the_factor_is_infinite_and_a_fall_has_no_onset() -> None:
    risen, fallen = change_of(series(0, 0, 5, 5)), change_of(series(5, 5, 0, 0))
    assert risen is not None
    assert risen.factor == float("inf")
    assert fallen is not None
    assert fallen.since is None


def test_too_few_samples_say_nothing() -> None:
    assert change_of(series(1, 2, 3)) is None
    assert steady_growth(series(1, 2, 3)) is None
    assert steady_growth(series(*[5] * 10)) is None


def test_a_counters_rate_survives_a_reset() -> None:
    assert [sample.value for sample in rates(series(0, 100, 5, 25)).samples] == [10.0, 0.0, 2.0]
    assert is_counter("http_requests_total")
    assert not is_counter("memory_bytes")


def test_growth_is_told_from_a_saw() -> None:
    line, saw = steady_growth(series(*range(1, 21))), steady_growth(series(*[1 + at % 4 for at in range(20)]))
    assert line is not None
    assert line[1] > 0.99
    assert saw is not None
    assert saw[1] < 0.5


def test_labels_lead_to_the_object_that_they_name() -> None:
    made = world(
        service("cart", {"app": "cart"})
        + pod("cart-1", {"app": "cart"}, owner=("StatefulSet", "cart"))
        + manifest("Node", "n1", namespace=None)
    )
    locator = Locator(made)
    assert str(locator.locate({"pod": "cart-1", "node": "n1"})) == "Pod/shop/cart-1"
    assert str(locator.locate({"service": "cart"})) == "StatefulSet/shop/cart"
    assert str(locator.locate({"instance": "n1:9100"})) == "Node/n1"
    assert locator.locate({"pod": "cart-1", "namespace": "other"}) is None
    assert locator.locate({"job": "x"}) is None
