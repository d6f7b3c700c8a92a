"""What counts as the fence that this version prints; the doctor on a real cluster is tested in `tests/deploy/test_accounts.py`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from oncall.accounts import OURS, holds, strangers
from oncall.fence import documents

BOUNDS, BOUNDS_BINDING, FENCE, FENCE_BINDING = (document["spec"] for document in documents()[:4])
Spec = dict[str, Any]


def as_stored(spec: Spec) -> Spec:
    """With what the API server fills in."""
    stored = copy.deepcopy(spec)
    if constraints := stored.get("matchConstraints"):
        constraints |= {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
        for rule in constraints["resourceRules"]:
            rule["scope"] = "*"
    return stored


@pytest.mark.parametrize("spec", [BOUNDS, BOUNDS_BINDING, FENCE, FENCE_BINDING])
def test_what_the_server_fills_in_is_no_difference(spec: Spec) -> None:
    assert holds(spec, spec)
    assert holds(spec, as_stored(spec))


@pytest.mark.parametrize(
    ("spec", "spoil"),
    [
        (BOUNDS, lambda spec: spec.update(failurePolicy="Ignore")),
        (BOUNDS, lambda spec: spec.pop("failurePolicy")),
        (BOUNDS, lambda spec: spec["matchConstraints"].update(resourceRules=[])),
        (BOUNDS, lambda spec: spec["matchConstraints"].update(matchPolicy="Exact")),
        (BOUNDS, lambda spec: spec["matchConstraints"].update(namespaceSelector={"matchLabels": {"team": "none"}})),
        (BOUNDS, lambda spec: spec["matchConstraints"].update(objectSelector={"matchLabels": {"team": "none"}})),
        (BOUNDS, lambda spec: spec["matchConstraints"].update(excludeResourceRules=spec["matchConstraints"]["resourceRules"])),
        (BOUNDS, lambda spec: spec["matchConstraints"]["resourceRules"][0].update(scope="Cluster")),
        (BOUNDS, lambda spec: spec["matchConstraints"]["resourceRules"][0].update(resourceNames=["nothing"])),
        (BOUNDS, lambda spec: spec["matchConditions"].append({"name": "never", "expression": "false"})),
        (BOUNDS, lambda spec: spec["matchConditions"][0].update(expression="false")),
        (BOUNDS, lambda spec: spec["variables"][0].update(expression="true")),
        (BOUNDS, lambda spec: spec["validations"].pop()),
        (BOUNDS, lambda spec: spec["validations"][0].update(expression="true")),
        (BOUNDS, lambda spec: spec.pop("auditAnnotations")),
        (FENCE, lambda spec: spec["variables"][2].update(expression="999999")),
        (FENCE, lambda spec: spec.pop("paramKind")),
        (BOUNDS_BINDING, lambda spec: spec.update(policyName="another")),
        (BOUNDS_BINDING, lambda spec: spec.update(validationActions=["Audit"])),
        (BOUNDS_BINDING, lambda spec: spec.update(matchResources={"namespaceSelector": {"matchLabels": {"team": "none"}}})),
        (FENCE_BINDING, lambda spec: spec["paramRef"].update(name="kube-public")),
        (FENCE_BINDING, lambda spec: spec["paramRef"].update(parameterNotFoundAction="Allow")),
        (FENCE_BINDING, lambda spec: spec.pop("paramRef")),
    ],
)
def test_a_fence_that_holds_less_is_another(spec: Spec, spoil: Callable[[Spec], object]) -> None:
    spoiled = as_stored(spec)
    spoil(spoiled)
    assert not holds(spec, spoiled)


def test_nothing_is_no_fence() -> None:
    assert not holds(BOUNDS, None)
    assert not holds(BOUNDS_BINDING, {})


def test_who_is_not_told_is_no_stranger() -> None:
    assert strangers([f"{OURS}executor", ""]) == []
    assert strangers(["alice", f"{OURS}executor", "alice"]) == ["alice"]
