"""The lab's executor with the role that we print, and nothing else that writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oncall.roles import EXECUTOR, documents
from tests.lab.lab import Lab

API = "rbac.authorization.k8s.io"


@contextmanager
def granted(lab: Lab, user: str = "executor", name: str = "test-actions") -> Iterator[None]:
    """The user holds the role that `smokejumper rbac` prints for the executor, for the length of a block."""
    (role,) = (d for d in documents() if (d["kind"], d["metadata"]["name"]) == ("ClusterRole", EXECUTOR))
    binding = {
        "apiVersion": f"{API}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": API, "kind": "User", "name": user}],
    }
    lab.apply({**role, "metadata": {"name": name}}, binding)
    try:
        yield
    finally:
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            lab.client("lab:loader").delete(f"{API}/v1", kind, name)
