"""A crowd in the lab: Deployments of ten pods on a real control plane, some of them broken, as a benchmark's cluster.

Everything is played as in any scene of the lab: controllers make the pods, the scheduler places them and kwok's kubelets report. Unlike
`benchmarks.synthetic` this is a real API server, and costs about a minute for a thousand pods.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.lab.api import ApiClient, Object, wait_for
from tests.lab.lab import Lab

REPLICAS = 10
NAMESPACES = 20
PODS_PER_NODE = 100
FILL_SECONDS = 1_800.0
NAME = re.compile(r"workload-\d{5}")
FAULT = "fault.smokejumper.dev"
LOG = "crash.log"


@dataclass(frozen=True)
class Fault:
    """One way to be broken. `reasons` are words of which an answer that gives the reason contains one (case does not count); `where` says
    what holds them: events, the pod's status or its log."""

    name: str
    where: str
    reasons: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Broken:
    """A broken Deployment of the crowd."""

    namespace: str
    name: str
    fault: Fault


FAULTS = (
    Fault("image", "events", ("not found", "does not exist"), (("kind", "image-pull"),)),
    Fault("crash", "log", ("QUEUE_URL",), (("kind", "crash-loop"), ("log", LOG))),
    Fault("memory", "status", ("OOMKilled", "out of memory", "memory limit"), (("kind", "oom-killed"), ("needs-memory", "2Gi"))),
    Fault("request", "events", ("Insufficient memory", "enough free memory")),
    Fault("configuration", "events", ("NAME-settings",), (("kind", "config-error"), ("missing-config", "NAME-settings"))),
    Fault("probe", "events", ("readiness probe failed", "readiness probe"), (("kind", "readiness"), ("listens-on", "8080"))),
)


def broken(pods: int, count: int) -> tuple[Broken, ...]:
    """The Deployments that `fill` breaks, spread evenly, the faults in turn."""
    every = max(1, pods // REPLICAS // max(1, count))
    return tuple(Broken(*_place(index * every), FAULTS[index % len(FAULTS)]) for index in range(count))


def fill(lab: Lab, pods: int, count: int) -> float:
    """Apply the crowd and return the seconds until all of it has come to rest."""
    began = time.monotonic()
    client = lab.client("lab:loader")
    for number in range(-(-pods // PODS_PER_NODE)):
        client.apply(_node(number))
    faults = {(one.namespace, one.name): one.fault for one in broken(pods, count)}
    for number in range(NAMESPACES):
        name = f"team-{number:02}"
        client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        folder = lab.container_logs / name
        folder.mkdir(parents=True, exist_ok=True)
        line = "2026-01-15T11:55:01.000000000Z stderr F FATAL: environment variable QUEUE_URL is not set\n"
        (folder / LOG).write_text(line, encoding="utf-8")
    for number in range(NAMESPACES):
        account = partial(client.get, "v1", "ServiceAccount", "default", f"team-{number:02}")
        wait_for(f"the service account of team-{number:02}", account, FILL_SECONDS)
    for number in range(pods // REPLICAS):
        namespace, name = _place(number)
        client.apply(_deployment(namespace, name, faults.get((namespace, name))))
    quiet: Counter[str] = Counter()

    def settled() -> bool:
        quiet.clear()
        quiet.update(_state(client))
        return quiet["ready"] >= pods // REPLICAS - count and quiet["pods"] >= pods // REPLICAS * REPLICAS and not quiet["waiting"]

    deadline = time.monotonic() + FILL_SECONDS
    while not settled():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the crowd has not come to rest within {FILL_SECONDS:.0f} s: {dict(quiet)}")
        time.sleep(2)
    return time.monotonic() - began


def _state(client: ApiClient) -> Counter[str]:
    """How many Deployments are ready, how many pods there are, and how many broken ones do not show their fault yet."""
    counted: Counter[str] = Counter()
    for one in client.list("apps/v1", "Deployment"):
        counted["ready"] += one.get("status", {}).get("readyReplicas", 0) == REPLICAS
        counted["pods"] += one.get("status", {}).get("replicas", 0)
    # The status of a pod whose probe fails is that of one that starts.
    unhealthy = {event["involvedObject"].get("name") for event in client.list("v1", "Event") if event.get("reason") == "Unhealthy"}
    for pod in client.list("v1", "Pod", labels="crowd=broken"):
        shown = str(pod.get("status", {}))
        counted["waiting"] += pod["metadata"]["name"] not in unhealthy and not any(word in shown for word in SHOWN)
    return counted


# What the status of a broken pod says once its fault shows.
SHOWN = ("ImagePullBackOff", "CrashLoopBackOff", "CreateContainerConfigError", "Unschedulable")


def _place(number: int) -> tuple[str, str]:
    return f"team-{(number + number // NAMESPACES) % NAMESPACES:02}", f"workload-{number:05}"


def _node(number: int) -> Object:
    name = f"crowd-{number:03}"
    labels = {
        "kubernetes.io/hostname": name,
        "lab.smokejumper.dev/kubelet": "played",
        "lab.smokejumper.dev/machine": "cpu",
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def _deployment(namespace: str, name: str, fault: Fault | None) -> Object:
    annotations = {f"{FAULT}/{key}": value.replace("NAME", name) for key, value in fault.annotations} if fault else {}
    labels = {"app": name, "crowd": "broken" if fault else "healthy"}
    kind = fault.name if fault else ""
    container: dict[str, Any] = {
        "name": "main",
        "image": f"registry.example.com/{namespace}/{name}:1.4.2",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": f"SETTING_{index}", "value": f"value-{index}"} for index in range(8)],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8081 if kind == "probe" else 8080}, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "100m", "memory": "4000Gi" if kind == "request" else "512Mi"}},
    }
    if kind == "memory":
        container["resources"]["limits"] = {"memory": "512Mi"}
    if kind == "configuration":
        container["envFrom"] = [{"configMapRef": {"name": f"{name}-settings"}}]
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [container]}}
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }
