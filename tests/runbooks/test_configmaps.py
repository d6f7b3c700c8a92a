from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors import configmaps
from runbooks.finding import Finding
from tests.runbooks.manifests import deployment, manifest, pod
from tests.runbooks.worlds import codes, world

SETTINGS = manifest("ConfigMap", "settings", data={"a": "1"})
ENVIRONMENT = {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]}


def found(text: str) -> list[Finding]:
    made = world(text)
    return [finding for detector in configmaps.DETECTORS for finding in detector(made)]


def test_a_config_map_that_nobody_names() -> None:
    assert codes(found(SETTINGS + pod("web"))) == {"configuration.unused"}


@pytest.mark.parametrize(
    "user",
    [
        pod("web", container=ENVIRONMENT),
        pod("web", container={"envFrom": [{"configMapRef": {"name": "settings"}}]}),
        pod("web", volumes=[{"name": "v", "configMap": {"name": "settings"}}]),
        pod("web", volumes=[{"name": "v", "projected": {"sources": [{"configMap": {"name": "settings"}}]}}]),
        pod("web", container={"args": ["--config-map=settings"]}),
        pod("other") + deployment("web", {"app": "web"}, container=ENVIRONMENT, replicas=0),
    ],
)
def test_a_config_map_that_somebody_names(user: str) -> None:
    assert found(SETTINGS + user) == []


def test_without_pods_in_sight_nothing_is_unused() -> None:
    assert found(SETTINGS) == []


def test_what_the_cluster_or_a_controller_keeps_is_left_alone() -> None:
    owned = manifest("ConfigMap", "x", metadata={"ownerReferences": [{"kind": "Rollout", "name": "x"}]})
    lock = manifest("ConfigMap", "y", metadata={"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}})
    system = manifest("ConfigMap", "coredns", namespace="kube-system")
    assert found(pod("web") + owned + lock + system + manifest("ConfigMap", "kube-root-ca.crt")) == []


def written(at: str) -> str:
    metadata = {"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "kubectl-edit", "time": at}]}
    return manifest("ConfigMap", "settings", metadata=metadata, data={"a": "2"})


def running(container: dict[str, Any]) -> str:
    status = {"phase": "Running", "startTime": "2026-01-15T10:00:00Z"}
    return pod("web", container=container, status=status)


def test_environment_from_a_config_map_that_changed_since() -> None:
    assert codes(found(written("2026-01-15T11:00:00Z") + running(ENVIRONMENT))) == {"configuration.not-reloaded"}
    assert found(written("2026-01-15T09:00:00Z") + running(ENVIRONMENT)) == []


def test_a_mounted_config_map_reloads_by_itself() -> None:
    mounted = pod(
        "web", status={"phase": "Running", "startTime": "2026-01-15T10:00:00Z"}, volumes=[{"name": "v", "configMap": {"name": "settings"}}]
    )
    assert found(written("2026-01-15T11:00:00Z") + mounted) == []
