from __future__ import annotations

from typing import Any

from runbooks.detectors import autoscaling
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import deployment, manifest, pod
from tests.runbooks.worlds import codes, world

TARGET = deployment("web", {"app": "web"}, container={"resources": {"requests": {"cpu": "100m"}}})


def scaler(*conditions: dict[str, str], name: str = "web", **spec: Any) -> str:
    body = {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5, **spec}
    return manifest("HorizontalPodAutoscaler", name, spec=body, status={"conditions": list(conditions)})


def budget(**fields: Any) -> str:
    return manifest("PodDisruptionBudget", "web", spec={"selector": {"matchLabels": {"app": "web"}}}, **fields)


def found(text: str, *complete: str) -> list[Finding]:
    made = world(text, complete=complete)
    return [finding for detector in autoscaling.DETECTORS for finding in detector(made)]


def test_a_target_that_does_not_exist() -> None:
    assert [(finding.code, finding.certainty) for finding in found(scaler(), "Deployment")] == [("hpa.target-missing", Certainty.PROVEN)]
    assert [finding.certainty for finding in found(scaler())] == [Certainty.POSSIBLE]
    assert found(scaler() + TARGET) == []


def test_the_controllers_word_proves_a_missing_target() -> None:
    said = {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": 'deployments/scale.apps "web" not found'}
    assert [(finding.code, finding.certainty) for finding in found(scaler(said))] == [("hpa.target-missing", Certainty.PROVEN)]


def test_a_target_that_cannot_be_scaled() -> None:
    assert codes(found(scaler(scaleTargetRef={"kind": "DaemonSet", "name": "web", "apiVersion": "apps/v1"}))) == {"hpa.target-missing"}
    assert found(scaler(scaleTargetRef={"kind": "Rollout", "name": "web", "apiVersion": "argoproj.io/v1alpha1"})) == []
    assert found(scaler(scaleTargetRef={"kind": "ReplicationController", "name": "web", "apiVersion": "v1"})) == []


def test_utilisation_needs_requests() -> None:
    bare = deployment("web", {"app": "web"})
    assert codes(found(scaler() + bare)) == {"hpa.no-resource-requests"}
    limited = deployment("web", {"app": "web"}, container={"resources": {"limits": {"cpu": "1"}}})
    assert found(scaler() + limited) == []
    external = scaler(metrics=[{"type": "External", "external": {"metric": {"name": "queue"}}}])
    assert found(external + bare) == []
    value = scaler(metrics=[{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}}])
    assert found(value + bare) == []


def test_the_controllers_word_on_missing_requests() -> None:
    message = "failed to get cpu utilization: missing request for cpu in container main of Pod web-1"
    said = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": message}
    findings = found(scaler(said) + deployment("web", {"app": "web"}))
    assert [(finding.code, finding.certainty) for finding in findings] == [("hpa.no-resource-requests", Certainty.PROVEN)]


def test_conditions_that_are_faults() -> None:
    def coded(kind: str, status: str, reason: str, message: str = "") -> set[str]:
        return codes(found(scaler({"type": kind, "status": status, "reason": reason, "message": message}) + TARGET))

    assert coded("ScalingActive", "False", "FailedGetResourceMetric", "unable to fetch metrics") == {"hpa.metrics-unavailable"}
    assert coded("ScalingActive", "False", "AmbiguousSelector") == {"hpa.ambiguous-selector"}
    assert coded("AbleToScale", "False", "FailedUpdateScale") == {"hpa.cannot-scale"}
    assert coded("ScalingLimited", "True", "TooManyReplicas") == {"hpa.at-maximum"}


def test_conditions_that_are_none() -> None:
    for kind, status, reason in (
        ("ScalingLimited", "True", "TooFewReplicas"),
        ("ScalingLimited", "False", "DesiredWithinRange"),
        ("ScalingActive", "False", "ScalingDisabled"),
        ("ScalingActive", "True", "ValidMetricFound"),
        ("AbleToScale", "True", "ReadyForNewScale"),
    ):
        assert found(scaler({"type": kind, "status": status, "reason": reason}) + TARGET) == []


def test_missing_metrics_of_unready_pods_are_a_symptom() -> None:
    said = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}
    said["message"] = "did not receive metrics for targeted pods (pods might be unready)"
    unready = pod("web-1", {"app": "web"}, ready=False, owner=("Deployment", "web"))
    ready = pod("web-1", {"app": "web"}, owner=("Deployment", "web"))
    assert codes(found(scaler(said) + TARGET + unready)) == {"hpa.pods-unready"}
    assert codes(found(scaler(said) + TARGET + ready)) == {"hpa.metrics-unavailable"}


def test_two_autoscalers_on_one_target() -> None:
    assert codes(found(TARGET + scaler() + scaler(name="other"))) == {"hpa.duplicate"}
    other = scaler(name="other", scaleTargetRef={"kind": "Deployment", "name": "api"})
    api = deployment("api", {"app": "api"}, container={"resources": {"requests": {"cpu": "1"}}})
    assert found(TARGET + scaler() + api + other) == []


def test_a_budget_that_protects_nothing() -> None:
    assert [(finding.code, finding.certainty) for finding in found(budget(), "Pod")] == [("pdb.no-match", Certainty.PROVEN)]
    denied = {"conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods"}]}
    assert [finding.certainty for finding in found(budget(status=denied))] == [Certainty.LIKELY]
    assert found(budget() + pod("web-1", {"app": "web"})) == []
    assert found(budget() + TARGET, "Pod") == []
    assert found(budget(status={"expectedPods": 2})) == []


def test_a_model_server_at_its_maximum_is_told_apart_by_its_metric_or_its_image() -> None:
    limited = {"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "the desired replica count is more"}
    queue = [{"type": "Pods", "pods": {"metric": {"name": "vllm:num_requests_waiting"}, "target": {"type": "AverageValue"}}}]
    server = deployment("web", {"app": "web"}, container={"image": "vllm/vllm-openai:v0.11", "resources": {"requests": {"cpu": "1"}}})
    assert codes(found(scaler(limited, metrics=queue) + TARGET)) == {"hpa.serving-at-maximum"}
    assert codes(found(scaler(limited) + server)) == {"hpa.serving-at-maximum"}
    assert codes(found(scaler(limited) + TARGET)) == {"hpa.at-maximum"}
    assert found(scaler({**limited, "status": "False"}, metrics=queue) + TARGET) == []
