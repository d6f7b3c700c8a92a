"""Pods and their surroundings as YAML, for tests: one call per object, everything beside the point left out."""

from __future__ import annotations

import json
import zlib
from typing import Any

STARTED = "2026-01-15T11:30:00Z"


def document(**fields: Any) -> str:
    """One YAML document (JSON is YAML)."""
    return f"---\n{json.dumps(fields)}\n"


def pod(
    name: str = "web-5d4f8-abcde",
    *,
    state: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    ready: bool = False,
    restarts: int = 0,
    phase: str = "Running",
    container: dict[str, Any] | None = None,
    init: bool = False,
    owned: bool = True,
    **spec: Any,
) -> str:
    """A pod with one container called `app` of Deployment `web` in namespace `shop`; `spec` adds pod fields. With `init` the state is that
    of an init container and the main container waits."""
    own = {"name": "app", "image": "registry.example/web:1", **(container or {})}
    status = {"name": own["name"], "ready": ready, "restartCount": restarts, "state": state or {"running": {"startedAt": STARTED}}}
    status["lastState"] = last or {}
    main = {"name": "main", "image": "registry.example/main:1"}
    waiting = {"name": "main", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-01-15T11:00:00Z"}
    if owned:
        stem, _, _ = name.rpartition("-")
        metadata["labels"] = {"app": stem.rpartition("-")[0], "pod-template-hash": stem.rpartition("-")[2]}
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": stem, "controller": True}]
    return document(
        kind="Pod",
        metadata=metadata,
        spec={"nodeName": "node-1", "containers": [main] if init else [own], **({"initContainers": [own]} if init else {}), **spec},
        status={
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [waiting] if init else [status],
            **({"initContainerStatuses": [status]} if init else {}),
        },
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated(exit_code: int, reason: str = "Error", message: str = "", finished: str = "2026-01-15T11:58:00Z") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": finished, **({"message": message} if message else {})}}


CRASHING: dict[str, Any] = {"state": waiting("CrashLoopBackOff"), "last": terminated(1), "restarts": 6}


def event(reason: str, message: str, *, about: str = "web-5d4f8-abcde", kind: str = "Pod", count: int = 3, minutes_ago: int = 1) -> str:
    moment = f"2026-01-15T11:{60 - minutes_ago:02d}:00Z"
    return document(
        kind="Event",
        metadata={"name": f"{about}.{reason}.{zlib.crc32(message.encode()):x}", "namespace": "shop"},
        involvedObject={"kind": kind, "name": about, "namespace": "shop"},
        reason=reason,
        message=message,
        type="Warning",
        count=count,
        firstTimestamp=moment,
        lastTimestamp=moment,
    )


def service(name: str, *, port: int = 80, selector: dict[str, str] | None = None, address: str = "", **spec: Any) -> str:
    return document(
        kind="Service",
        metadata={"name": name, "namespace": "shop"},
        spec={"selector": selector or {"app": name}, "ports": [{"port": port}], **({"clusterIP": address} if address else {}), **spec},
    )


def configmap(name: str, data: dict[str, str] | None = None, **metadata: Any) -> str:
    return document(kind="ConfigMap", metadata={"name": name, "namespace": "shop", **metadata}, data=data or {})


def replica_set(name: str, revision: int, container: dict[str, Any], owner: str = "web") -> str:
    return document(
        kind="ReplicaSet",
        metadata={
            "name": name,
            "namespace": "shop",
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"kind": "Deployment", "name": owner, "controller": True}],
        },
        spec={"template": {"spec": {"containers": [{"name": "app", **container}]}}},
    )


def deployment(name: str = "web", *, replicas: int = 1) -> str:
    return document(kind="Deployment", metadata={"name": name, "namespace": "shop"}, spec={"replicas": replicas})
