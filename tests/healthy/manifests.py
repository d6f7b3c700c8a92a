"""Short ways to write the manifests of which healthy worlds are made. Every function returns one new object and knows no randomness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

REGISTRY = "registry.example.com"


def metadata(
    name: str, namespace: str | None, labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None
) -> Object:
    """An object's metadata, empty parts left out."""
    made: Object = {"name": name}
    if namespace is not None:
        made["namespace"] = namespace
    if labels:
        made["labels"] = dict(labels)
    if annotations:
        made["annotations"] = dict(annotations)
    return made


def thing(kind: str, api_version: str, name: str, namespace: str | None, **members: Any) -> Object:
    """An object of any kind; `members` are its top-level fields beside metadata."""
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata(name, namespace), **members}


def container(name: str, image: str, port: int | None = None, **more: Any) -> Object:
    """A container with modest requests; with a port it has a readiness probe on it."""
    made: Object = {"name": name, "image": f"{REGISTRY}/{image}", "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}}
    if port is not None:
        made["ports"] = [{"name": "http", "containerPort": port}]
        made["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10}
    return {**made, **more}


def template(name: str, containers: list[Object], annotations: Mapping[str, str] | None = None, **spec: Any) -> Object:
    """A pod template labelled `app=name`."""
    made: Object = {"labels": {"app": name}}
    if annotations:
        made["annotations"] = dict(annotations)
    return {"metadata": made, "spec": {"containers": containers, **spec}}


def deployment(namespace: str, name: str, replicas: int, pod: Object, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": name}}
    return thing("Deployment", "apps/v1", name, namespace, spec={"replicas": replicas, "selector": selector, "template": pod, **spec})


def stateful_set(namespace: str, name: str, replicas: int, pod: Object, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": name}}
    whole = {"replicas": replicas, "serviceName": name, "selector": selector, "template": pod, **spec}
    return thing("StatefulSet", "apps/v1", name, namespace, spec=whole)


def daemon_set(namespace: str, name: str, pod: Object) -> Object:
    return thing("DaemonSet", "apps/v1", name, namespace, spec={"selector": {"matchLabels": {"app": name}}, "template": pod})


def job(namespace: str, name: str, pod: Object, **spec: Any) -> Object:
    pod["spec"].setdefault("restartPolicy", "Never")
    return thing("Job", "batch/v1", name, namespace, spec={"template": pod, **spec})


def service(namespace: str, name: str, port: int, target: int | str | None = None, *, selects: str | None = None, **spec: Any) -> Object:
    """A Service of the pods labelled `app=selects`, by default those of its own name."""
    ports = [{"name": "http", "port": port, "targetPort": target or port}]
    return thing("Service", "v1", name, namespace, spec={"selector": {"app": selects or name}, "ports": ports, **spec})


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    return thing("ConfigMap", "v1", name, namespace, data=dict(data))


def event(namespace: str, kind: str, name: str, reason: str, message: str, **more: Any) -> Object:
    """A Warning about an object. Its moments come from `more` or are filled in by whoever uses it."""
    about = {"kind": kind, "namespace": namespace, "name": name}
    body: Object = {"involvedObject": about, "type": "Warning", "reason": reason, "message": message, "count": 1, **more}
    return thing("Event", "v1", f"{name[:200]}.{reason.lower()}", namespace, **body)
