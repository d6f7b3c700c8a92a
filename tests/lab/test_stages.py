"""Played kubelets: each fault's statuses and events, worded as kubelet 1.37 words them, and a repaired spec clears the fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.api import Object, wait_for
from tests.lab.lab import Lab

IMAGE = "registry.example.com/lab/main:1"
PULL_ERROR = (
    f'rpc error: code = NotFound desc = failed to pull and unpack image "{IMAGE}": '
    f'failed to resolve reference "{IMAGE}": {IMAGE}: not found'
)
SIDECAR = {"name": "sidecar", "image": "registry.example.com/lab/sidecar:1"}
# Long: nothing here tests how quick a machine is.
SECONDS = 240


@pytest.fixture(scope="module")
def space(lab: Lab) -> Iterator[str]:
    """A namespace for this file; afterwards no template may have failed."""
    with lab.namespace("stages") as name:
        yield name
    assert lab.stage_errors() == []


class Played:
    """One pod with a fault."""

    def __init__(self, lab: Lab, space: str, name: str, faults: dict[str, str], container: Object | None = None, **spec: Any) -> None:
        self.lab, self.space, self.name = lab, space, name
        annotations = {f"fault.smokejumper.dev/{key}": value for key, value in faults.items()}
        main = {"name": "main", "image": IMAGE, **(container or {})}
        lab.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": space, "annotations": annotations},
                "spec": {"containers": [main, SIDECAR], **spec},
            }
        )

    def status(self) -> Object:
        pod = self.lab.client().get("v1", "Pod", self.name, self.space)
        assert pod is not None
        return dict(pod["status"])

    def main(self) -> Object:
        found = [one for one in self.status().get("containerStatuses", ()) if one["name"] == "main"]
        return dict(found[0]) if found else {"state": {}, "restartCount": 0}

    def waiting(self, reason: str) -> Object:
        """The container's status once it waits for this reason."""

        def seen() -> Object | None:
            status = self.main()
            return status if status["state"].get("waiting", {}).get("reason") == reason else None

        return wait_for(f"{self.name} to wait: {reason}", seen, SECONDS)

    def condition(self, kind: str) -> Object:
        found = [one for one in self.status().get("conditions", ()) if one["type"] == kind]
        return dict(found[0]) if found else {}

    def ready(self) -> bool:
        return self.condition("Ready").get("status") == "True"

    def events(self) -> set[tuple[str, str, str]]:
        """(type, reason, message) of the kubelet's events on this pod."""
        events = self.lab.client().list("v1", "Event", self.space)
        mine = (one for one in events if one["involvedObject"]["name"] == self.name and one["source"].get("component") == "kubelet")
        return {(one["type"], one["reason"], one["message"]) for one in mine}

    @property
    def full_name(self) -> str:
        pod = self.lab.client().get("v1", "Pod", self.name, self.space)
        assert pod is not None
        return f"{self.name}_{self.space}({pod['metadata']['uid']})"


def test_healthy(lab: Lab, space: str) -> None:
    pod = Played(lab, space, "healthy", {})
    wait_for("the pod to be ready", pod.ready, SECONDS)
    status = pod.status()
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("10.244.")
    assert {("Normal", "Created", "Container created"), ("Normal", "Started", "Container started")} <= pod.events()


def test_image_pull(lab: Lab, space: str) -> None:
    pod = Played(lab, space, "image-pull", {"kind": "image-pull"})
    status = pod.waiting("ImagePullBackOff")
    assert status["state"]["waiting"]["message"] == f'Back-off pulling image "{IMAGE}": ErrImagePull: {PULL_ERROR}'
    assert pod.status()["phase"] == "Pending"
    assert pod.condition("Ready")["message"] == "containers with unready status: [main]"
    assert pod.events() >= {
        ("Normal", "Pulling", f'Pulling image "{IMAGE}"'),
        ("Warning", "Failed", f'Failed to pull image "{IMAGE}": {PULL_ERROR}'),
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", f'Back-off pulling image "{IMAGE}"'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
    }


def test_image_pull_is_cleared_by_another_image(lab: Lab, space: str) -> None:
    pod = Played(lab, space, "image-repaired", {"kind": "image-pull", "while": "main:1", "message": "manifest unknown"})
    assert pod.waiting("ErrImagePull")["state"]["waiting"]["message"] == "manifest unknown"
    pod.waiting("ImagePullBackOff")
    containers = [{"name": "main", "image": "registry.example.com/lab/main:2"}, SIDECAR]
    lab.client("lab:loader").json(
        "PATCH",
        f"/api/v1/namespaces/{space}/pods/image-repaired",
        body={"spec": {"containers": containers}},
        content_type="application/strategic-merge-patch+json",
    )
    wait_for("the pod to be ready", pod.ready, SECONDS)
    assert pod.main()["image"] == "registry.example.com/lab/main:2"


def test_config_error(lab: Lab, space: str) -> None:
    container = {"envFrom": [{"configMapRef": {"name": "settings"}}]}
    pod = Played(lab, space, "config-error", {"kind": "config-error", "missing-config": "settings"}, container)
    assert pod.waiting("CreateContainerConfigError")["state"]["waiting"]["message"] == 'configmap "settings" not found'
    assert ("Warning", "Failed", 'Error: configmap "settings" not found') in pod.events()
    other = Played(lab, space, "config-fine", {"kind": "config-error", "missing-config": "settings"})
    wait_for("the pod without the reference to be ready", other.ready, SECONDS)


def test_crash_loop(lab: Lab, space: str) -> None:
    pod = Played(lab, space, "crash-loop", {"kind": "crash-loop", "exit-code": "3", "message": "no such table"})
    first = pod.waiting("CrashLoopBackOff")
    died = first["lastState"]["terminated"]
    assert (died["exitCode"], died["reason"], died["message"]) == (3, "Error", "no such table")
    assert first["restartCount"] == 1
    message = f"back-off 10s restarting failed container=main pod={pod.full_name}"
    assert first["state"]["waiting"]["message"] == message
    assert ("Warning", "BackOff", f"Back-off restarting failed container main in pod {pod.full_name}") in pod.events()
    wait_for("another restart", lambda: pod.main()["restartCount"] >= 2, SECONDS)
    assert pod.waiting("CrashLoopBackOff")["state"]["waiting"]["message"].startswith("back-off 20s ")
    sidecar = [one for one in pod.status()["containerStatuses"] if one["name"] == "sidecar"]
    assert (sidecar[0]["ready"], sidecar[0]["restartCount"]) == (True, 0)


def test_crash_for_good(lab: Lab, space: str) -> None:
    pod = Played(lab, space, "crash-for-good", {"kind": "crash-loop"}, restartPolicy="Never")
    wait_for("the pod to fail", lambda: pod.status()["phase"] == "Failed", SECONDS)
    assert pod.main()["state"]["terminated"]["exitCode"] == 1
    assert pod.condition("Ready")["reason"] == "PodFailed"


@pytest.mark.parametrize(("limit", "dies"), [("1Gi", True), ("1800M", True), ("2Gi", False), ("4096Mi", False)])
def test_out_of_memory_below_what_it_needs(lab: Lab, space: str, limit: str, *, dies: bool) -> None:
    container = {"resources": {"limits": {"memory": limit}, "requests": {"memory": "1M"}}}
    pod = Played(lab, space, f"memory-{limit.lower()}", {"kind": "oom-killed", "needs-memory": "2Gi"}, container)
    if dies:
        died = pod.waiting("CrashLoopBackOff")["lastState"]["terminated"]
        assert (died["exitCode"], died["reason"]) == (137, "OOMKilled")
    else:
        wait_for("the pod to be ready", pod.ready, SECONDS)
        assert pod.main()["restartCount"] == 0


def test_liveness(lab: Lab, space: str) -> None:
    container = {"livenessProbe": {"httpGet": {"path": "/live", "port": 8080}}}
    pod = Played(lab, space, "liveness", {"kind": "liveness", "listens-on": "9090"}, container)
    died = pod.waiting("CrashLoopBackOff")["lastState"]["terminated"]
    assert (died["exitCode"], died["reason"]) == (137, "Error")
    refused = f'Get "http://{pod.status()["podIP"]}:8080/live": dial tcp {pod.status()["podIP"]}:8080: connect: connection refused'
    assert pod.events() >= {
        ("Warning", "Unhealthy", f"Liveness probe failed: {refused}"),
        ("Normal", "Killing", "Container main failed liveness probe, will be restarted"),
    }


def test_readiness_follows_the_probe_to_a_named_port(lab: Lab, space: str) -> None:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]
    faults = {"kind": "readiness", "listens-on": "8080"}
    wrong = Played(lab, space, "unready", faults, {"ports": ports, "readinessProbe": {"httpGet": {"path": "/ready", "port": "admin"}}})
    right = Played(lab, space, "readied", faults, {"ports": ports, "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}})
    wait_for("the pod with the right port to be ready", right.ready, SECONDS)
    wait_for("the other to run", lambda: wrong.main()["state"].get("running"), SECONDS)
    assert not wrong.ready()
    assert wrong.main()["restartCount"] == 0
    address = wrong.status()["podIP"]
    refused = f'Readiness probe failed: Get "http://{address}:9090/ready": dial tcp {address}:9090: connect: connection refused'
    assert ("Warning", "Unhealthy", refused) in wrong.events()


def test_never_ready(lab: Lab, space: str) -> None:
    message = 'MountVolume.SetUp failed for volume "data" : secret "data" not found'
    pod = Played(lab, space, "never-ready", {"kind": "never-ready", "event-reason": "FailedMount", "event-message": message})
    wait_for("the event", lambda: ("Warning", "FailedMount", message) in pod.events(), SECONDS)
    assert pod.main()["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_log_of_a_container_that_has_not_started_is_refused(lab: Lab, space: str) -> None:
    pod = Played(lab, space, "no-log", {"kind": "image-pull"})
    pod.waiting("ImagePullBackOff")
    response = lab.client("reader").request("GET", f"/api/v1/namespaces/{space}/pods/no-log/log", query={"container": "main"})
    assert response.status_code == 400


def test_job_completes(lab: Lab, space: str) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": IMAGE}]}}
    lab.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": space}, "spec": {"template": template}})

    def completed() -> bool:
        job = lab.client().get("batch/v1", "Job", "job", space)
        return bool(job and job["status"].get("succeeded") == 1)

    wait_for("the job to complete", completed, SECONDS)


def test_node_condition_and_its_repair(lab: Lab) -> None:
    loader = lab.client("lab:loader")

    def annotate(**faults: str | None) -> None:
        annotations = {f"fault.smokejumper.dev/{key}": value for key, value in faults.items()}
        loader.patch("v1", "Node", "cpu-1", {"metadata": {"annotations": annotations}})

    def condition(kind: str) -> Object:
        node = loader.get("v1", "Node", "cpu-1")
        assert node is not None
        return next(one for one in node["status"]["conditions"] if one["type"] == kind)

    def taints() -> set[str]:
        node = loader.get("v1", "Node", "cpu-1")
        assert node is not None
        return {one["key"] for one in node["spec"].get("taints", ())}

    try:
        annotate(condition="Ready=False", reason="KubeletNotReady", message="container runtime is down")
        wait_for("Ready=False", lambda: condition("Ready")["status"] == "False", SECONDS)
        assert (condition("Ready")["reason"], condition("Ready")["message"]) == ("KubeletNotReady", "container runtime is down")
        wait_for("the real controller's taint", lambda: "node.kubernetes.io/not-ready" in taints(), SECONDS)
        annotate(condition="DiskPressure=True", reason="KubeletHasDiskPressure", message="kubelet has disk pressure")
        wait_for("DiskPressure", lambda: condition("DiskPressure")["status"] == "True", SECONDS)
        assert condition("Ready")["status"] == "True"
    finally:
        annotate(condition=None, reason=None, message=None)
    wait_for("no pressure", lambda: condition("DiskPressure")["status"] == "False", SECONDS)
    wait_for("no taint", lambda: not taints(), SECONDS)


def test_gpus_that_a_node_does_not_offer(lab: Lab) -> None:
    loader = lab.client("lab:loader")

    def offered() -> tuple[str, str]:
        node = loader.get("v1", "Node", "gpu-1")
        assert node is not None
        return node["status"]["capacity"]["nvidia.com/gpu"], node["status"]["allocatable"]["nvidia.com/gpu"]

    try:
        loader.patch("v1", "Node", "gpu-1", {"metadata": {"annotations": {"fault.smokejumper.dev/gpus": "7"}}})
        wait_for("seven of eight", lambda: offered() == ("8", "7"), SECONDS)
    finally:
        loader.patch("v1", "Node", "gpu-1", {"metadata": {"annotations": {"fault.smokejumper.dev/gpus": None}}})
    wait_for("all eight", lambda: offered() == ("8", "8"), SECONDS)
