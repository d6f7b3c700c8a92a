"""The lab with our accounts and the fence in it, as an administrator would have set it up, and taken out again afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from oncall.cli import run
from oncall.fence import FENCE, PARAMETER_NAMESPACE, PREFIX, parameters
from oncall.roles import ACCOUNTS, DRY_RUN, EXECUTOR, NAMESPACE, READER
from tests.lab.api import ApiClient, wait_for
from tests.lab.lab import Lab
from tests.yamltext import documents

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
# Long: nothing here tests how quick a machine is.
WAIT_SECONDS = 240.0
Run = Callable[..., tuple[int, str, str]]
MERGE_PATCH = "application/merge-patch+json"
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "registry.example.com/app:v1"}]}}


class Fenced:
    """Clients of our service accounts (tokens by TokenRequest), and the administrator's hand on the fence's parameters."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.admin = lab.client("lab:loader")
        self.clients = {name: ApiClient(lab.server, self._token(name), lab.authority) for name in ACCOUNTS.values()}

    def _token(self, account: str) -> str:
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(self.admin.json("POST", path, body=request)["status"]["token"])

    def kubeconfig(self, folder: Path) -> Path:
        """One context for each account, named after it."""
        accounts = tuple(ACCOUNTS.values())
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": self.lab.server, "certificate-authority": str(self.lab.authority)}}],
            "users": [{"name": name, "user": {"token": self._token(name)}} for name in accounts],
            "contexts": [{"name": name, "context": {"cluster": "lab", "user": name}} for name in accounts],
            "current-context": "reader",
        }
        path = folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def send(self, account: str, method: str, path: str, body: Any = None, **query: str) -> httpx2.Response:
        """One request past every gate of ours; a PATCH is a merge patch."""
        content_type = MERGE_PATCH if method == "PATCH" else "application/json"
        return self.clients[account].request(method, path, query=query, body=body, content_type=content_type)

    @contextlib.contextmanager
    def set(self, annotations: dict[str, str | None], *, trying: str, refused: bool, body: Any) -> Iterator[None]:
        """The parameters changed for the length of a block, which begins when a dry run of the executor shows that they hold."""
        self._annotate(annotations)
        try:
            wait_for(
                "the fence to notice",
                lambda: (self.send("executor", "PATCH", trying, body, dryRun="All").status_code == 422) is refused,
                WAIT_SECONDS,
            )
            yield
        finally:
            self._annotate({**dict.fromkeys(annotations), **parameters()["metadata"]["annotations"]})
            wait_for(
                "the fence to open again",
                lambda: self.send("executor", "PATCH", trying, body, dryRun="All").status_code == 200,
                WAIT_SECONDS,
            )

    def _annotate(self, annotations: dict[str, str | None]) -> None:
        self.admin.patch("v1", "Namespace", PARAMETER_NAMESPACE, {"metadata": {"annotations": annotations}})

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


@pytest.fixture(scope="module")
def accounts(lab: Lab) -> Iterator[Fenced]:
    """Our accounts with the shipped roles, and nothing else."""
    applied = documents(DEPLOY / "rbac" / "cluster.yaml")
    lab.apply(*applied)
    fenced = Fenced(lab)
    try:
        yield fenced
    finally:
        fenced.close()
        _remove(lab, [document for document in applied if document["kind"].startswith("Cluster")])
        lab.client("lab:loader").delete("v1", "Namespace", NAMESPACE)


@pytest.fixture(scope="module")
def fenced(lab: Lab, accounts: Fenced) -> Iterator[Fenced]:
    """The same behind the shipped fence."""
    applied = documents(DEPLOY / "fence" / "fence.yaml")
    lab.apply(*applied)
    try:
        # The reader may not create namespaces, but a refusal by admission comes only after one by RBAC; the executor's patch tells.
        nodes = lab.client("lab:loader").path("v1", "Node", None, "cpu-0")
        wait_for(
            "the fence to stand",
            lambda: (
                FENCE in accounts.send("executor", "PATCH", nodes, {"metadata": {"labels": {"x": "y"}}}, dryRun="All").text
                or accounts.send("executor", "PATCH", nodes, {"metadata": {"labels": {"x": "y"}}}).status_code == 422
            ),
            WAIT_SECONDS,
        )
        yield accounts
    finally:
        _remove(lab, [document for document in applied if document["kind"] != "Namespace"])
        keys = dict.fromkeys(parameters()["metadata"]["annotations"])
        lab.client("lab:loader").patch("v1", "Namespace", PARAMETER_NAMESPACE, {"metadata": {"annotations": keys}})
        lab.client("lab:loader").patch("v1", "Node", "cpu-0", {"metadata": {"labels": {"x": None}}})


@pytest.fixture
def unbounded(lab: Lab, fenced: Fenced) -> Iterator[Fenced]:
    """Behind the fence, with every permission that RBAC can give: only the fence is left."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-everything"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": f"system:serviceaccounts:{NAMESPACE}"}],
    }
    lab.apply(binding)
    try:
        _wait_for_rbac(fenced, 200)
        yield fenced
    finally:
        _remove(lab, [binding])
        _wait_for_rbac(fenced, 403)


def _wait_for_rbac(fenced: Fenced, status: int) -> None:
    def noticed() -> bool:
        return all(fenced.send(account, "GET", "/api/v1/secrets").status_code == status for account in ACCOUNTS.values())

    wait_for("RBAC to notice", noticed, WAIT_SECONDS)


def _remove(lab: Lab, applied: list[dict[str, Any]]) -> None:
    for document in applied:
        lab.client("lab:loader").delete(document["apiVersion"], document["kind"], document["metadata"]["name"])


def deployment(namespace: str, replicas: int = 1, name: str = "web") -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def annotation(key: str) -> str:
    """The full name of a parameter of the fence."""
    return PREFIX + key


@pytest.fixture
def smokejumper(fenced: Fenced, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line with three accounts: one reads, one writes, one tries."""
    monkeypatch.setenv("SMOKEJUMPER_CONTEXT", ACCOUNTS[READER])
    monkeypatch.setenv("SMOKEJUMPER_EXECUTOR_CONTEXT", ACCOUNTS[EXECUTOR])
    monkeypatch.setenv("SMOKEJUMPER_DRY_RUN_CONTEXT", ACCOUNTS[DRY_RUN])
    path = fenced.kubeconfig(tmp_path)

    def call(*arguments: str, token: str = "") -> tuple[int, str, str]:
        monkeypatch.setenv("SMOKEJUMPER_TOKEN", token)
        capsys.readouterr()
        code = run(["--state", str(tmp_path / "state"), "--kubeconfig", str(path), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
