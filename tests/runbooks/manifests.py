"""Manifests as text for detector tests: the few fields that these tests vary, everything else left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def manifest(kind: str, name: str, *, namespace: str | None = "shop", **fields: Any) -> str:
    """One YAML document (JSON is YAML). `metadata` in `fields` is merged into name and namespace."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
    return "---\n" + json.dumps({"kind": kind, "metadata": metadata, **fields}) + "\n"


def pod(
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    ready: bool = True,
    namespace: str = "shop",
    owner: tuple[str, str] | None = None,
    node: str = "node-1",
    port: int | None = 8080,
    container: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    created: str = "2026-01-15T11:00:00Z",
    **spec: Any,
) -> str:
    """A running pod of one container called `main`."""
    ports = [{"containerPort": port}] if port else []
    metadata: dict[str, Any] = {"labels": dict(labels or {}), "creationTimestamp": created}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    default = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"name": "main", "ready": ready}],
    }
    containers = [{"name": "main", "image": "app:1", "ports": ports, **(container or {})}]
    body = {"containers": containers, "nodeName": node, **spec}
    return manifest("Pod", name, namespace=namespace, metadata=metadata, spec=body, status=status or default)


def service(name: str, selector: Mapping[str, str] | None, *, namespace: str = "shop", ports: Any = None, **spec: Any) -> str:
    body = {"ports": ports if ports is not None else [{"port": 80, "targetPort": 8080}], **spec}
    if selector is not None:
        body["selector"] = dict(selector)
    return manifest("Service", name, namespace=namespace, spec=body)


def deployment(
    name: str,
    labels: Mapping[str, str],
    *,
    replicas: int = 1,
    container: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    namespace: str = "shop",
    template_spec: Mapping[str, Any] | None = None,
    **spec: Any,
) -> str:
    template = {
        "metadata": {"labels": dict(labels)},
        "spec": {"containers": [{"name": "main", "image": "app:1", **(container or {})}], **(template_spec or {})},
    }
    body = {"replicas": replicas, "selector": {"matchLabels": dict(labels)}, "template": template, **spec}
    return manifest("Deployment", name, namespace=namespace, metadata=dict(metadata or {}), spec=body, status=dict(status or {}))


def replica_set(name: str, owner: str, revision: int, image: str, *, created: str = "2026-01-15T11:00:00Z", **container: Any) -> str:
    metadata = {
        "creationTimestamp": created,
        "annotations": {"deployment.kubernetes.io/revision": str(revision)},
        "ownerReferences": [{"kind": "Deployment", "name": owner, "controller": True}],
    }
    template = {"spec": {"containers": [{"name": "main", "image": image, **container}]}}
    return manifest("ReplicaSet", name, metadata=metadata, spec={"template": template})


def event(
    kind: str, name: str, reason: str, message: str, *, namespace: str = "shop", at: str = "2026-01-15T11:50:00Z", count: int = 1
) -> str:
    return manifest(
        "Event",
        f"{name}.{reason.lower()}",
        namespace=namespace,
        involvedObject={"kind": kind, "name": name, "namespace": namespace},
        type="Warning",
        reason=reason,
        message=message,
        count=count,
        firstTimestamp=at,
        lastTimestamp=at,
    )
