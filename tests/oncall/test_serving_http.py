"""`smokejumper mcp --http` in front of a real cluster: people with tokens of a real issuer, and what each of them may see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from oncall.cli import run
from oncall.roles import FRONT, FRONT_ACCOUNT, NAMESPACE, documents
from tests.lab.api import wait_for
from tests.lab.lab import Lab
from tests.mcp_server.issuer import TokenIssuer, running_issuer

ROOT = Path(__file__).parent.parent.parent
AUDIENCE = "https://sj.example.com/mcp"
# Long: nothing here tests how quick a machine is.
WAIT_SECONDS = 240.0
WISH = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}
ALL_SCOPES = "smokejumper:read smokejumper:propose smokejumper:execute"


@pytest.fixture(scope="module")
def front(lab: Lab) -> Iterator[str]:
    """The token of the front account, with the shipped role. Alice may look into `ml` and nowhere else."""
    applied = [document for document in documents(callers=True) if document["metadata"]["name"] in (NAMESPACE, FRONT_ACCOUNT, FRONT)]
    loader = lab.client("lab:loader")
    lab.apply(*applied)
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{FRONT_ACCOUNT}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    try:
        allowed(lab, f"system:serviceaccount:{NAMESPACE}:{FRONT_ACCOUNT}", verb="impersonate", resource="users", name="oidc:alice")
        yield str(loader.json("POST", path, body=request)["status"]["token"])
    finally:
        for document in applied:
            if document["kind"].startswith("Cluster"):
                loader.delete(document["apiVersion"], document["kind"], document["metadata"]["name"])
        loader.delete("v1", "Namespace", NAMESPACE)


def allowed(lab: Lab, user: str, *groups: str, **attributes: str) -> None:
    """Return once RBAC has seen the binding that lets somebody do this."""
    spec = {"user": user, "groups": list(groups), "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    reviewer = lab.client("lab:loader")
    wait_for(f"RBAC to know {user}", lambda: reviewer.json("POST", path, body=review)["status"]["allowed"], WAIT_SECONDS)


def let_view(lab: Lab, namespace: str, group: str) -> None:
    """Whoever is in the group may look into the namespace."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewers", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }
    lab.apply(binding)
    allowed(lab, "oidc:alice", group, verb="list", resource="pods", namespace=namespace)


def kubeconfig(lab: Lab, token: str, folder: Path) -> Path:
    users = {"front": token, "executor": lab.token("executor")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": lab.server, "certificate-authority": str(lab.authority)}}],
        "users": [{"name": name, "user": {"token": token}} for name, token in users.items()],
        "contexts": [{"name": name, "context": {"cluster": "lab", "user": name}} for name in users],
        "current-context": "front",
    }
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@contextmanager
def serving(folder: Path, config: Path, issuer: TokenIssuer | None, **environment: str) -> Iterator[str]:
    """The address of a server process; it ends by SIGTERM, and without an error."""
    oidc = {"SMOKEJUMPER_OIDC__ISSUER": issuer.url, "SMOKEJUMPER_OIDC__AUDIENCE": AUDIENCE} if issuer else {}
    command = [sys.executable, "-c", "import sys; from oncall.cli import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "--state", str(folder / "state"), "--kubeconfig", str(config), "mcp", "--http", "127.0.0.1:0"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **oidc, **environment},
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    assert process.stderr is not None
    try:
        # Blocks until the server serves or has ended.
        said = process.stderr.readline()
        assert said.startswith("serving "), said + process.stderr.read()
        yield said.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=WAIT_SECONDS)[1]
    assert "Traceback" not in rest, rest


@asynccontextmanager
async def client(address: str, token: str | None = None) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as http,
        Client(streamable_http_client(address, http_client=http)) as connected,
    ):
        yield connected


async def ask(connected: Client, tool: str, **arguments: Any) -> tuple[bool, str]:
    result = await connected.call_tool(tool, arguments)
    return bool(result.is_error), "\n".join(part.text for part in result.content if part.type == "text")


@pytest.mark.anyio
async def test_everybody_reads_what_the_cluster_lets_them_read(lab: Lab, front: str, tmp_path: Path) -> None:
    config = kubeconfig(lab, front, tmp_path)
    with lab.loaded("rollout-bad-image"), lab.namespace("private") as private, running_issuer() as issuer:
        let_view(lab, "ml", "oidc:ml-team")
        lab.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plan", "namespace": private}, "data": {"a": "b"}})
        [broken] = [pod["metadata"]["name"] for pod in lab.client().list("v1", "Pod", "ml") if "cu13x" in str(pod["spec"])]
        with serving(tmp_path, config, issuer) as address:
            async with client(address, issuer.token(AUDIENCE)) as alice:
                failed, said = await ask(alice, "pod_diagnose", namespace="ml", name=broken)
                assert not failed, said
                assert "Deployment/ml/serve: Image does not exist (proven" in said
                _, said = await ask(alice, "resources_list", kind="ConfigMap", namespace=private)
                assert "plan" not in said
                assert "cannot see" in said
            async with client(address, issuer.token(AUDIENCE, sub="mallory", groups=["strangers"])) as mallory:
                _, said = await ask(mallory, "pods_list", namespace="ml", problem_only=False)
                assert broken not in said
                assert "cannot see" in said


@pytest.mark.anyio
async def test_a_proposal_over_http_is_its_callers_and_needs_another_person(lab: Lab, front: str, tmp_path: Path) -> None:
    config = kubeconfig(lab, front, tmp_path)
    state = ["--state", str(tmp_path / "state")]
    assert run([*state, "people", "add", "bob", "--group", "sre-oncall"]) == 0
    with lab.loaded("rollout-bad-image"), running_issuer() as issuer:
        let_view(lab, "ml", "oidc:ml-team")
        since = lab.audit.mark()
        # A token of the server's own surroundings speaks for nobody at the other end of a connection.
        environment = {"SMOKEJUMPER_EXECUTOR_CONTEXT": "executor", "SMOKEJUMPER_TOKEN": "sj_somebody", "SMOKEJUMPER_CONTEXT": "front"}
        with serving(tmp_path, config, issuer, **environment) as address:
            async with client(address, issuer.token(AUDIENCE, scope=ALL_SCOPES)) as alice:
                failed, said = await ask(alice, "remediation_propose", **WISH)
                assert failed
                assert "--kubernetes-user" in said
                known = ["--kubernetes-user", "oidc:alice", "--kubernetes-group", "oidc:ml-team"]
                assert run([*state, "people", "add", "alice", "--group", "sre-oncall", *known]) == 0
                proposed = await alice.call_tool("remediation_propose", WISH)
                assert proposed.structured_content is not None
                shown = proposed.structured_content["proposal"]
                # Alice may look and not change; the cluster says so of her, whatever the executor could do.
                assert shown["state"] == "rejected", shown
                assert "alice may not patch deployments.apps" in shown["detail"]
            async with client(address, issuer.token(AUDIENCE, sub="mallory", scope=ALL_SCOPES)) as mallory:
                failed, said = await ask(mallory, "remediation_status", proposal_id=shown["id"])
                assert failed
                assert "--kubernetes-user" in said
        assert lab.audit.writes(since=since) == ()


@pytest.mark.anyio
async def test_without_tokens_this_machine_reads_and_proposes_nothing(lab: Lab, tmp_path: Path) -> None:
    with lab.loaded("rollout-bad-image"), serving(tmp_path, lab.kubeconfig("reader"), None, SMOKEJUMPER_TOKEN="sj_somebody") as address:
        async with client(address) as anybody:
            failed, said = await ask(anybody, "workload_diagnose", kind="Deployment", namespace="ml", name="serve")
            assert not failed, said
            assert "Image does not exist (proven" in said
            failed, said = await ask(anybody, "remediation_propose", **WISH)
            assert failed
            assert "cannot be told who asks" in said


def test_an_open_door_is_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(tmp_path), "mcp", "--recording", str(ROOT / "examples" / "serve-rollout"), "--http", "0.0.0.0:0"]) == 2
    assert "no issuer of tokens is configured" in capsys.readouterr().err
