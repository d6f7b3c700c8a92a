"""Causes told by fault: none is lost, the order stays, and what one says beyond the first is kept."""

from __future__ import annotations

from cluster.reference import ObjectRef
from runbooks.faults import faults
from runbooks.finding import Cause, Certainty


def cause(code: str, name: str, explanation: str, certainty: Certainty = Certainty.PROVEN) -> Cause:
    return Cause(ObjectRef("Deployment", "ml", name), code, "", code, explanation, certainty, ())


def test_causes_of_one_code_and_certainty_are_one_fault_in_the_order_of_the_first() -> None:
    causes = (
        cause("image", "a", "x"),
        cause("memory", "b", "x"),
        cause("image", "c", "x"),
        cause("image", "d", "x", Certainty.LIKELY),
    )
    found = faults(causes)
    assert [[item.object.name for item in fault.causes] for fault in found] == [["a", "c"], ["b"], ["d"]]
    assert [fault.first for fault in found] == [causes[0], causes[1], causes[3]]
    assert faults(()) == ()


def test_a_difference_is_what_the_first_does_not_say_without_the_own_name() -> None:
    (fault,) = faults(
        (
            cause("config", "a", "Deployment/ml/a needs ConfigMap a-settings, which does not exist."),
            cause("config", "b", "Deployment/ml/b needs ConfigMap b-settings, which does not exist."),
            cause("config", "c", "Deployment/ml/c needs ConfigMap a-settings, which does not exist."),
        )
    )
    assert [fault.difference(item) for item in fault.causes] == ["", "b-settings", ""]
