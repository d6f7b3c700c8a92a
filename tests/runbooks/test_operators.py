from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors import operators
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import manifest
from tests.runbooks.worlds import codes, world


def found(text: str) -> list[Finding]:
    made = world(text)
    return [finding for detector in operators.DETECTORS for finding in detector(made)]


def custom(kind: str, **status: Any) -> str:
    return manifest(kind, "x", status=status)


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (custom("ClusterServiceVersion", phase="Failed", message="missing dep"), "operator.version-failed"),
        (custom("Subscription", state="UpgradeFailed"), "operator.subscription-unhealthy"),
        (custom("Subscription", conditions=[condition("ResolutionFailed", "True", "X")]), "operator.subscription-unhealthy"),
        (custom("Subscription", conditions=[{"status": "False", "reason": "CatalogSourcesUnhealthy"}]), "operator.subscription-unhealthy"),
        (custom("CatalogSource", connectionState={"lastObservedState": "TRANSIENT_FAILURE"}), "operator.catalog-unreachable"),
        (custom("InstallPlan", phase="Failed"), "operator.install-plan-failed"),
        (custom("InstallPlan", phase="RequiresApproval"), "operator.install-plan-waits"),
        (custom("ClusterExtension", conditions=[condition("Installed", "False", "Failed")]), "operator.extension-unhealthy"),
        (custom("ClusterCatalog", conditions=[condition("Progressing", "True", "Retrying")]), "operator.extension-unhealthy"),
        (manifest("OperatorGroup", "a") + manifest("OperatorGroup", "b"), "operator.groups-conflict"),
        (custom("Certificate", conditions=[condition("Ready", "False", "DoesNotExist")]), "certificate.not-issued"),
        (custom("Certificate", conditions=[condition("Ready", "False")], notAfter="2026-01-15T00:00:00Z"), "certificate.expired"),
        (custom("RayService", conditions=[condition("Ready", "False", "TriggerError")]), "operator.resource-unhealthy"),
    ],
)
def test_what_an_operator_reports_as_wrong(text: str, code: str) -> None:
    assert codes(found(text)) == {code}


@pytest.mark.parametrize(
    "text",
    [
        custom("ClusterServiceVersion", phase="Succeeded"),
        custom("ClusterServiceVersion", phase="Replacing"),
        custom(
            "Subscription", state="AtLatestKnown", conditions=[condition("CatalogSourcesUnhealthy", "False", "AllCatalogSourcesHealthy")]
        ),
        custom("Subscription", state="UpgradePending"),
        custom("CatalogSource", connectionState={"lastObservedState": "READY"}),
        custom("CatalogSource"),
        custom("InstallPlan", phase="Complete"),
        custom("ClusterExtension", conditions=[condition("Installed", "True", "Succeeded")]),
        custom("ClusterCatalog", conditions=[condition("Progressing", "True", "Succeeded")]),
        manifest("OperatorGroup", "a") + manifest("OperatorGroup", "b", namespace="other"),
        custom("Certificate", conditions=[condition("Ready", "True")]),
        custom("ScaledObject", conditions=[condition("Ready", "True"), condition("Active", "False")]),
        custom("ScaledObject", conditions="nonsense"),
    ],
)
def test_what_is_no_fault(text: str) -> None:
    assert found(text) == []


def test_a_version_on_its_way_is_less_certain_than_a_failed_one() -> None:
    assert found(custom("ClusterServiceVersion", phase="Pending"))[0].certainty is Certainty.LIKELY
    assert found(custom("ClusterServiceVersion", phase="Failed"))[0].certainty is Certainty.PROVEN
