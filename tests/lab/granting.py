"""The roles that we print, given to users of the lab: for the length of a block, or for as long as a lab by hand runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oncall.roles import EXECUTOR, documents
from tests.lab.lab import Lab

API = "rbac.authorization.k8s.io"


@contextmanager
def granted(lab: Lab, user: str = "executor", name: str = "test-actions") -> Iterator[None]:
    """The user holds the role that `smokejumper rbac` prints for the executor, for the length of a block."""
    grant(lab, user, EXECUTOR, name)
    try:
        yield
    finally:
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            lab.client("lab:loader").delete(f"{API}/v1", kind, name)


def grant(lab: Lab, user: str, role: str, name: str) -> None:
    """Make the ClusterRole that `smokejumper rbac` prints under that name and bind it to the user."""
    (printed,) = (d for d in documents() if (d["kind"], d["metadata"]["name"]) == ("ClusterRole", role))
    binding = {
        "apiVersion": f"{API}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": API, "kind": "User", "name": user}],
    }
    lab.apply({**printed, "metadata": {"name": name}}, binding)
