"""What an account is to a cluster: by which name, and which of some things it may do. It asks reviews, and changes nothing.

A review is a POST that stores nothing (SelfSubjectReview, SelfSubjectAccessReview); the cluster's own authorizers answer it, so webhooks
and other modes than RBAC count, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from cluster.connection import Connection
from cluster.errors import ClusterError
from cluster.response import Response, decode_status
from guardrails.redact import present

AT_ONCE = 8
DETAIL_LIMIT = 300


class Identity(Struct, frozen=True):
    """How the cluster's authenticators name who asks."""

    user: str
    groups: tuple[str, ...] = ()


class Deed(Struct, frozen=True, order=True):
    """One atom of RBAC: a verb on a resource (`pods/exec` with its subresource) of a group, of one object where there is a `name`."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        resource, _, subresource = self.resource.partition("/")
        whole = f"{resource}.{self.group}" if self.group not in ("", "*") else resource
        return f"{self.verb} {whole}{'/' + subresource if subresource else ''}{' ' + self.name if self.name else ''}"


async def identity(connection: Connection) -> Identity | None:
    """Who asks; None where the cluster does not say (before Kubernetes 1.28). Raises ClusterError when it refuses or is silent."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    response = await connection.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
    if response.status == 404:
        return None
    status = _answered(connection, response, "who asks")
    info = status.get("userInfo")
    if not isinstance(info, dict):
        return None
    return Identity(str(info.get("username", "")), tuple(str(group) for group in info.get("groups") or ()))


async def permitted(connection: Connection, deeds: Iterable[Deed], namespace: str | None = None) -> frozenset[Deed]:
    """Which of them the account may do, in a namespace or in all. Raises ClusterError when the cluster refuses to say."""
    asked = sorted(set(deeds))
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(deed: Deed) -> bool:
        async with slots:
            return await _may(connection, deed, namespace)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(deed)) for deed in asked]
    except* ClusterError as errors:
        raise errors.exceptions[0] from None
    return frozenset(deed for deed, task in zip(asked, tasks, strict=True) if task.result())


async def _may(connection: Connection, deed: Deed, namespace: str | None) -> bool:
    resource, _, subresource = deed.resource.partition("/")
    attributes = {"verb": deed.verb, "group": deed.group, "resource": resource, "subresource": subresource, "name": deed.name}
    # A request for a namespace by name is judged as one inside it (k8s.io/apiserver, pkg/endpoints/request/requestinfo.go).
    inside = deed.name if resource == "namespaces" and deed.name else namespace
    if inside:
        attributes["namespace"] = inside
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    response = await connection.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    status = _answered(connection, response, f"whether its account may {deed}")
    return status.get("allowed") is True and status.get("denied") is not True


def _answered(connection: Connection, response: Response, what: str) -> dict[str, Any]:
    """The status of a review. Raises ClusterError."""
    if not response.ok:
        said = response.detail or decode_status(response.body).message or f"HTTP {response.status}"
        raise ClusterError(f"{connection.cluster} does not say {what}: {present(said, DETAIL_LIMIT)}. Check its credential and address.")
    try:
        document = json.loads(response.body)
    except ValueError as error:
        raise ClusterError(f"{connection.cluster} answers no JSON when asked {what}. Look for a proxy that answers for it.") from error
    status = document.get("status") if isinstance(document, dict) else None
    return status if isinstance(status, dict) else {}
