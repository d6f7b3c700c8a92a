"""A synthetic cluster behind a loopback API server: many healthy Deployments of ten pods, some broken ones, 8 kB for each pod.

    python -m benchmarks.synthetic --pods 10000 --broken 20

prints the server's URL and serves until it is stopped. It answers lists with limit and continue, discovery and pod logs, from
pages that were made before; it is a load for a reader and no Kubernetes. The mix of faults repeats: a tag that does not exist, a
crash with its log, memory, an unschedulable request, a missing ConfigMap, a readiness probe that fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPLICAS = 10
NAMESPACES = 20
NODES = 100
PAGE_LIMIT = 500
# A live cluster is diagnosed by the wall clock, so this one is three hours old when its process starts.
NOW = datetime.now(UTC).replace(microsecond=0)
START = NOW - timedelta(hours=3)
PADDING_BYTES = 5_200


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Fault:
    """One way to be broken: the container's state, and what else the API server shows of it."""

    name: str
    phase: str
    state: dict[str, Any] | None
    last_state: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    events: tuple[tuple[str, str], ...] = ()
    log: str = ""
    scheduled: bool = True


def _ended(reason: str, code: int) -> dict[str, Any]:
    at = {"startedAt": stamp(NOW - timedelta(minutes=6)), "finishedAt": stamp(NOW - timedelta(minutes=5))}
    return {"terminated": {"reason": reason, "exitCode": code, **at}}


_BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container=main"}}
_RESTARTING = ("BackOff", "Back-off restarting failed container main")
FAULTS = (
    Fault(
        "tag",
        "Pending",
        {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry.example/IMAGE"'}},
        events=(
            ("Failed", 'Failed to pull image "registry.example/IMAGE": rpc error: code = NotFound desc = manifest unknown: not found'),
            ("Failed", "Error: ImagePullBackOff"),
        ),
    ),
    Fault(
        "crash",
        "Running",
        _BACK_OFF,
        _ended("Error", 1),
        7,
        events=(_RESTARTING,),
        log="2026-01-15T11:55:00Z starting\n2026-01-15T11:55:01Z FATAL: environment variable QUEUE_URL is not set\n",
    ),
    Fault("memory", "Running", _BACK_OFF, _ended("OOMKilled", 137), 5, events=(_RESTARTING,), log="2026-01-15T11:55:00Z loading\n"),
    Fault(
        "request",
        "Pending",
        None,
        events=(
            ("FailedScheduling", f"0/{NODES} nodes are available: {NODES} Insufficient memory. preemption: 0/{NODES} nodes are available."),
        ),
        scheduled=False,
    ),
    Fault(
        "configuration",
        "Pending",
        {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "NAME-settings" not found'}},
        events=(("Failed", 'Error: configmap "NAME-settings" not found'),),
    ),
    Fault(
        "probe",
        "Running",
        {"running": {"startedAt": stamp(START)}},
        events=(("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),),
        log="2026-01-15T11:55:00Z GET /ready 503\n",
    ),
)
HEALTHY = Fault("none", "Running", {"running": {"startedAt": stamp(START)}})


@dataclass
class Cluster:
    """Objects by API path, each already JSON; logs by (namespace, pod)."""

    objects: dict[str, list[bytes]] = field(default_factory=dict)
    logs: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def add(self, path: str, document: dict[str, Any]) -> None:
        self.objects.setdefault(path, []).append(json.dumps(document, separators=(",", ":")).encode())


def build(pods: int, broken: int) -> Cluster:
    """A cluster of `pods` pods (rounded down to whole Deployments) of which `broken` Deployments are broken."""
    cluster = Cluster()
    for number in range(NAMESPACES):
        cluster.add("/api/v1/namespaces", {"metadata": _metadata(f"team-{number:02}", None), "status": {"phase": "Active"}})
    for number in range(NODES):
        cluster.add("/api/v1/nodes", _node(f"node-{number:03}"))
    faults = _faults(pods, broken)
    for number in range(pods // REPLICAS):
        _deploy(cluster, number, faults.get(number, HEALTHY))
    return cluster


def broken_workloads(pods: int, broken: int) -> tuple[tuple[str, str], ...]:
    """(namespace, name) of the Deployments that `build` breaks."""
    return tuple(_place(number) for number in _faults(pods, broken))


def _faults(pods: int, broken: int) -> dict[int, Fault]:
    """The fault of each broken Deployment by its number, spread evenly, the kinds in turn."""
    every = max(1, pods // REPLICAS // broken) if broken else 0
    return {index * every: FAULTS[index % len(FAULTS)] for index in range(broken)}


def _place(number: int) -> tuple[str, str]:
    return f"team-{(number + number // NAMESPACES) % NAMESPACES:02}", f"workload-{number:05}"


def _deploy(cluster: Cluster, number: int, fault: Fault) -> None:
    namespace, name = _place(number)
    image = f"{name}:v{2 + number % 7}"
    template = {"metadata": {"labels": {"app": name}}, "spec": _pod_spec(name, image, fault, None)}
    ready = REPLICAS if fault is HEALTHY else 0
    counts = {"replicas": REPLICAS, "readyReplicas": ready, "availableReplicas": ready, "observedGeneration": 1}
    available = {
        "type": "Available",
        "status": "True" if ready else "False",
        "reason": "MinimumReplicasAvailable" if ready else "MinimumReplicasUnavailable",
    }
    revision = {"annotations": {"deployment.kubernetes.io/revision": "1"}}
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": {"app": name}}, "template": template}
    cluster.add(
        "/apis/apps/v1/deployments",
        {
            "metadata": _metadata(name, namespace) | revision | {"generation": 1},
            "spec": spec,
            "status": counts | {"updatedReplicas": REPLICAS, "unavailableReplicas": REPLICAS - ready, "conditions": [available]},
        },
    )
    owner = _owner("Deployment", name)
    set_name = f"{name}-7d9c5b8f64"
    cluster.add(
        "/apis/apps/v1/replicasets",
        {"metadata": _metadata(set_name, namespace) | revision | owner, "spec": spec, "status": counts},
    )
    cluster.add(
        "/api/v1/services",
        {"metadata": _metadata(name, namespace), "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}},
    )
    if fault is not HEALTHY:
        for index in range(REPLICAS):
            for reason, message in fault.events:
                _event(cluster, namespace, _pod_name(set_name, index), reason, message.replace("IMAGE", image).replace("NAME", name))
    make = _pods(namespace, name, set_name, image, fault)
    for index in range(REPLICAS):
        cluster.objects.setdefault("/api/v1/pods", []).append(make(index))
        if fault.log:
            cluster.logs[(namespace, _pod_name(set_name, index))] = fault.log.encode()


def _pod_name(set_name: str, index: int) -> str:
    return f"{set_name}-{'bcdfghjklm'[index] * 5}"


def _pods(namespace: str, name: str, set_name: str, image: str, fault: Fault) -> Callable[[int], bytes]:
    """The pods of one ReplicaSet: one document, its name and node filled in for each."""
    document = json.dumps(
        {
            "metadata": _metadata("POD-NAME", namespace) | {"labels": {"app": name}} | _owner("ReplicaSet", set_name) | _managed_fields(),
            "spec": _pod_spec(name, image, fault, "NODE-NAME" if fault.scheduled else None),
            "status": _pod_status(name, image, fault),
        },
        separators=(",", ":"),
    )

    document = document.replace("IMAGE", image).replace("NAME-settings", f"{name}-settings")

    def make(index: int) -> bytes:
        pod = _pod_name(set_name, index)
        return document.replace("POD-NAME", pod).replace("NODE-NAME", f"node-{hash_of(pod) % NODES:03}").encode()

    return make


def hash_of(text: str) -> int:
    """The same number in every process, unlike `hash`."""
    return sum(byte * (position + 1) for position, byte in enumerate(text.encode()))


def _pod_spec(name: str, image: str, fault: Fault, node: str | None) -> dict[str, Any]:
    memory = "4Ti" if fault.name == "request" else "512Mi"
    container: dict[str, Any] = {
        "name": "main",
        "image": f"registry.example/{image}",
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}},
        "env": [{"name": f"SETTING_{number}", "value": f"value-{number}"} for number in range(8)],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 10, "failureThreshold": 3},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}],
    }
    if fault.name == "configuration":
        container["envFrom"] = [{"configMapRef": {"name": f"{name}-settings"}}]
    spec: dict[str, Any] = {
        "containers": [container],
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "tolerations": [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in ("not-ready", "unreachable")
        ],
        "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    }
    return spec | ({"nodeName": node} if node else {})


def _pod_status(name: str, image: str, fault: Fault) -> dict[str, Any]:
    ready = fault is HEALTHY
    at = {"lastTransitionTime": stamp(START)}
    if not fault.scheduled:
        message = fault.events[0][1]
        return {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, **at}],
        }
    flag = "True" if ready else "False"
    return {
        "phase": fault.phase,
        "startTime": stamp(START),
        "podIP": "10.0.0.1",
        "hostIP": "10.1.0.1",
        "qosClass": "Burstable",
        "conditions": [
            {"type": "PodScheduled", "status": "True", **at},
            {"type": "Initialized", "status": "True", **at},
            {"type": "ContainersReady", "status": flag, **at},
            {"type": "Ready", "status": flag, **at},
        ],
        "containerStatuses": [
            {
                "name": "main",
                "image": f"registry.example/{image}",
                "imageID": "" if fault.name == "tag" else f"registry.example/{name}@sha256:{'0' * 64}",
                "ready": ready,
                "started": fault.phase == "Running",
                "restartCount": fault.restarts,
                "state": fault.state or {},
                "lastState": fault.last_state,
            }
        ],
    }


def _node(name: str) -> dict[str, Any]:
    size = {"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "900Gi"}
    healthy = ("MemoryPressure", "DiskPressure", "PIDPressure")
    at = {"lastTransitionTime": stamp(START), "lastHeartbeatTime": stamp(NOW)}
    conditions = [{"type": kind, "status": "False", **at} for kind in healthy] + [{"type": "Ready", "status": "True", **at}]
    info = {"kubeletVersion": "v1.37.2", "architecture": "amd64", "operatingSystem": "linux"}
    return {
        "metadata": _metadata(name, None) | {"labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"capacity": size, "allocatable": size, "conditions": conditions, "nodeInfo": info},
    }


def _event(cluster: Cluster, namespace: str, pod: str, reason: str, message: str) -> None:
    number = len(cluster.objects.get("/api/v1/events", ()))
    cluster.add(
        "/api/v1/events",
        {
            "metadata": _metadata(f"{pod}.{number:x}", namespace),
            "involvedObject": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": f"uid-{pod}"},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "count": 12,
            "firstTimestamp": stamp(START + timedelta(hours=1)),
            "lastTimestamp": stamp(NOW - timedelta(minutes=2)),
        },
    )


def _metadata(name: str, namespace: str | None) -> dict[str, Any]:
    made = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1000", "creationTimestamp": stamp(START)}
    return made | ({"namespace": namespace} if namespace else {})


def _owner(kind: str, name: str) -> dict[str, Any]:
    return {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}]}


def _managed_fields() -> dict[str, Any]:
    """What the API server keeps about who wrote which field: most of a pod's bytes."""
    fields: dict[str, Any] = {f"f:field-{number:03}": {".": {}, "f:value": {}, "f:source": {}} for number in range(PADDING_BYTES // 52)}
    return {
        "managedFields": [{"manager": "kubelet", "operation": "Update", "time": stamp(START), "fieldsType": "FieldsV1", "fieldsV1": fields}]
    }


_APPS = {"Deployment": "deployments", "ReplicaSet": "replicasets", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


def discovery() -> bytes:
    """The aggregated discovery document: of the named groups, `apps` only."""
    resources = [
        {"resource": plural, "scope": "Namespaced", "responseKind": {"kind": kind}, "verbs": ["list"]} for kind, plural in _APPS.items()
    ]
    group = {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": resources}]}
    return json.dumps({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [group]}).encode()


class Server:
    """HTTP/1.1 with keep-alive, as much of it as a Kubernetes client needs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._discovery = discovery()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                status, kind, parts = self._answer(target)
                length = sum(len(part) for part in parts)
                writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode())
                writer.writelines(parts)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, target: str) -> tuple[str, str, list[bytes]]:
        url = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if url.path == "/apis":
            return "200 OK", "application/json", [self._discovery]
        if url.path.endswith("/log"):
            _, _, _, _, namespace, _, pod, _ = unquote(url.path).split("/")
            return "200 OK", "text/plain", [self._cluster.logs.get((namespace, pod), b"")]
        if url.path == "/version":
            return "200 OK", "application/json", [b'{"major":"1","minor":"37","gitVersion":"v1.37.2"}']
        return "200 OK", "application/json", list(self._page(url.path, int(query.get("continue", 0)), int(query.get("limit", PAGE_LIMIT))))

    def _page(self, path: str, start: int, limit: int) -> Iterator[bytes]:
        items = self._cluster.objects.get(path, [])
        end = start + limit
        onward = f',"continue":"{end}"' if end < len(items) else ""
        yield f'{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"1000"{onward}}},"items":['.encode()
        for position, item in enumerate(items[start:end]):
            if position:
                yield b","
            yield item
        yield b"]}"


async def _run(pods: int, broken: int) -> None:
    server = await asyncio.start_server(Server(build(pods, broken)).serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"http://{host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.synthetic")
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=20)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(options.pods, options.broken))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
