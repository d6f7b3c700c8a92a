"""A small Kubernetes client for the lab itself: plain HTTP, plain dicts. The product's own client is never used to set up its tests."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import httpx2

Object = dict[str, Any]
T = TypeVar("T")

POLL_SECONDS = 0.05
REQUEST_TIMEOUT_SECONDS = 60.0
# By this the audit log tells what tests did with their own hands from what the product did as the same user.
USER_AGENT = "smokejumper-lab"


class ApiError(Exception):
    """An answer of the API server that is not a success. `status` is the HTTP status, the message is the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class WaitTimeoutError(Exception):
    """Something that was waited for did not come; the message says what, and what was seen last."""


def wait_for(what: str, probe: Callable[[], T | None], timeout_seconds: float) -> T:
    """Poll until `probe` returns something true. Raises WaitTimeoutError."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"waited {timeout_seconds:.0f} s in vain for {what}; last seen: {found!r}")
        time.sleep(POLL_SECONDS)


class ApiClient:
    """One user's view of the API server. Kinds are given as `apiVersion` and `kind`; paths come from discovery."""

    def __init__(self, server: str, token: str, authority: Path) -> None:
        self._http = httpx2.Client(
            base_url=server,
            headers={"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT},
            verify=_context(authority),
            timeout=REQUEST_TIMEOUT_SECONDS,
        )
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def request(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: object = None, content_type: str = "application/json"
    ) -> httpx2.Response:
        """One request, whatever it answers."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": content_type}
        return self._http.request(method, path, params=query, content=content, headers=headers)

    def json(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: object = None, content_type: str = "application/json"
    ) -> Object:
        """One request that must succeed. Raises ApiError."""
        response = self.request(method, path, query=query, body=body, content_type=content_type)
        if response.status_code >= 400:
            raise ApiError(response.status_code, _message(response))
        return cast("Object", response.json())

    def path(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of a kind's collection or of one object. Raises ApiError(404) for a kind that the server does not know."""
        if (api_version, kind) not in self._resources:
            root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
            for resource in self.json("GET", root)["resources"]:
                if "/" not in resource["name"]:
                    self._resources[api_version, resource["kind"]] = (f"{root}/{{}}{resource['name']}", bool(resource["namespaced"]))
        if (api_version, kind) not in self._resources:
            raise ApiError(404, f"the server has no kind {kind} in {api_version}")
        template, namespaced = self._resources[api_version, kind]
        collection = template.format(f"namespaces/{namespace}/" if namespaced and namespace else "")
        return f"{collection}/{name}" if name else collection

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object; None where there is none."""
        try:
            return self.json("GET", self.path(api_version, kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or all, matching a label selector."""
        query = {"labelSelector": labels} if labels else None
        return cast("list[Object]", self.json("GET", self.path(api_version, kind, namespace), query=query)["items"])

    def apply(self, manifest: Object) -> Object:
        """Server-side apply, as `kubectl apply --server-side --force-conflicts`."""
        metadata = manifest["metadata"]
        path = self.path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": "kubectl", "force": "true"}
        return self.json("PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml")

    def patch(self, api_version: str, kind: str, name: str, body: Object, namespace: str | None = None, subresource: str = "") -> Object:
        """A merge patch."""
        path = self.path(api_version, kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.json("PATCH", path, body=body, content_type="application/merge-patch+json")

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete one object and, in the background, what it owns; an object that is not there is deleted already."""
        response = self.request("DELETE", self.path(api_version, kind, namespace, name), body={"propagationPolicy": "Background"})
        if response.status_code >= 400 and response.status_code != 404:
            raise ApiError(response.status_code, _message(response))

    def log(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        """A container's log. Raises ApiError."""
        query = {"container": container, "previous": str(previous).lower()}
        response = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query=query)
        if response.status_code >= 400:
            raise ApiError(response.status_code, _message(response))
        return response.text


def _context(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _message(response: httpx2.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:300]
