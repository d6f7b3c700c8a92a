from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors.probes import kills, silently_unready, unready
from tests.runbooks.specimens import STARTED, event, pod, terminated, waiting
from tests.runbooks.worlds import codes, world

KILLING = event("Killing", "Container app failed liveness probe, will be restarted")
REFUSED = 'Liveness probe failed: Get "http://10.0.0.1:{port}/healthz": dial tcp 10.0.0.1:{port}: connect: connection refused'


def killed(answer: str, probe: dict[str, Any] | None = None, *, ready: bool = False, **container: Any) -> str:
    liveness = {"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 30, **(probe or {})}
    spec = {"livenessProbe": liveness, "ports": [{"containerPort": 8080}], **container}
    return (
        pod(state=waiting("CrashLoopBackOff"), last=terminated(137), restarts=6, ready=ready, container=spec)
        + event("Unhealthy", answer)
        + KILLING
    )


@pytest.mark.parametrize(
    ("answer", "probe", "code"),
    [
        ("Liveness probe failed: HTTP probe failed with statuscode: 404", {}, "probe.liveness-misconfigured"),
        ("Liveness probe failed: HTTP probe failed with statuscode: 401", {}, "probe.liveness-misconfigured"),
        (REFUSED.format(port=9999), {"httpGet": {"path": "/healthz", "port": 9999}}, "probe.liveness-misconfigured"),
        ("Liveness probe failed: http: server gave HTTP response to HTTPS client", {}, "probe.liveness-misconfigured"),
        (REFUSED.format(port=8080), {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 1}, "probe.liveness-too-aggressive"),
        ("Liveness probe failed: context deadline exceeded", {}, "probe.liveness-too-aggressive"),
        ("Liveness probe failed: HTTP probe failed with statuscode: 500", {}, "probe.liveness-failing"),
    ],
)
def test_why_a_liveness_probe_kills(answer: str, probe: dict[str, Any], code: str) -> None:
    assert codes(kills(world(killed(answer, probe)))) == {code}


def test_a_command_that_does_not_exist() -> None:
    answer = 'Liveness probe failed: OCI runtime exec failed: exec: "/bin/health": no such file or directory'
    made = world(
        pod(restarts=3, last=terminated(137), container={"livenessProbe": {"exec": {"command": ["/bin/health"]}}})
        + event("Unhealthy", answer)
        + KILLING
    )
    assert codes(kills(made)) == {"probe.liveness-misconfigured"}


def test_a_named_port_that_the_container_lacks() -> None:
    probe = {"httpGet": {"path": "/", "port": "admin"}}
    assert codes(kills(world(killed(REFUSED.format(port=80), probe)))) == {"probe.liveness-misconfigured"}


def test_a_model_server_is_killed_while_it_loads() -> None:
    made = world(killed(REFUSED.format(port=8080), image="vllm/vllm-openai:v0.33.0"))
    assert codes(kills(made)) == {"probe.kills-model-load"}


def test_a_port_of_a_sidecar_is_offered_too() -> None:
    spec: dict[str, Any] = {
        "containers": [
            {"name": "app", "livenessProbe": {"tcpSocket": {"port": 15020}, "initialDelaySeconds": 30}, "ports": [{"containerPort": 80}]},
            {"name": "proxy", "ports": [{"containerPort": 15020}]},
        ]
    }
    refused = "Liveness probe failed: dial tcp 10.0.0.1:15020: connect: connection refused"
    made = world(pod(restarts=3, last=terminated(137), **spec) + event("Unhealthy", refused) + KILLING)
    assert codes(kills(made)) == {"probe.liveness-failing"}


@pytest.mark.parametrize(
    "quiet",
    [
        pod(ready=True, container={"livenessProbe": {"tcpSocket": {"port": 80}}}) + event("Unhealthy", REFUSED.format(port=80)),
        pod(state=waiting("CrashLoopBackOff"), last=terminated(1), restarts=5) + event("Unhealthy", REFUSED.format(port=80)),
        killed("Liveness probe failed: HTTP probe failed with statuscode: 404", ready=True).replace("T11:59", "T10:59"),
    ],
)
def test_a_probe_that_killed_nothing_or_long_ago_accuses_nobody(quiet: str) -> None:
    assert not list(kills(world(quiet)))


READINESS = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}, "ports": [{"containerPort": 8080}]}


@pytest.mark.parametrize(
    ("answer", "container", "code"),
    [
        ("Readiness probe failed: HTTP probe failed with statuscode: 404", READINESS, "probe.readiness-misconfigured"),
        (
            'Readiness probe failed: Get "http://10.0.0.1:40/ready": dial tcp 10.0.0.1:40: connect: connection refused',
            {**READINESS, "readinessProbe": {"httpGet": {"path": "/ready", "port": 40}}},
            "probe.readiness-misconfigured",
        ),
        ("Readiness probe failed: HTTP probe failed with statuscode: 503", READINESS, "probe.readiness-failing"),
        ("Readiness probe failed: ", {"readinessProbe": {"exec": {"command": ["false"]}}}, "probe.readiness-failing"),
        ("readiness probe failed: the old words", {}, "probe.readiness-failing"),
    ],
)
def test_why_a_container_is_not_ready(answer: str, container: dict[str, Any], code: str) -> None:
    assert codes(unready(world(pod(container=container) + event("Unhealthy", answer)))) == {code}


@pytest.mark.parametrize(
    "quiet", [pod(ready=True, container=READINESS), pod(state=waiting("CrashLoopBackOff"), last=terminated(1), restarts=2)]
)
def test_a_ready_or_crashing_container_has_no_readiness_fault(quiet: str) -> None:
    made = world(quiet + event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"))
    assert not list(unready(made))


def test_an_event_is_about_the_container_that_it_names() -> None:
    other = event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404").replace(
        '"involvedObject": {', '"involvedObject": {"fieldPath": "spec.containers{other}", '
    )
    assert not list(unready(world(pod(container=READINESS) + other)))


@pytest.mark.parametrize(("started", "found"), [(STARTED, {"pod.not-ready"}), ("2026-01-15T11:59:30Z", set())])
def test_not_ready_without_a_word(started: str, found: set[str]) -> None:
    assert codes(silently_unready(world(pod(state={"running": {"startedAt": started}}, container=READINESS)))) == found


def test_a_port_on_which_another_pod_of_the_workload_answers_is_right() -> None:
    probes = {"readinessProbe": {"httpGet": {"path": "/", "port": 8080}}, "ports": [{"containerPort": 8080}]}
    other = pod("web-5d4f8-zzzzz", ready=True, container=probes)
    assert codes(kills(world(killed(REFUSED.format(port=8080)) + other))) == {"probe.liveness-too-aggressive"}
    silent = pod("web-5d4f8-zzzzz", ready=True, container={"ports": [{"containerPort": 8080}]})
    assert codes(kills(world(killed(REFUSED.format(port=8080)) + silent))) == {"probe.liveness-failing"}
