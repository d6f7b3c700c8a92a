"""No planted secret leaves the program: a real cluster behind it, both transports, all that the server lists, its log and its ledger."""

from __future__ import annotations

import base64
import getpass
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
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from mcp_server.groups import GROUPS
from oncall.cli import run
from tests.lab.api import wait_for
from tests.lab.lab import Lab
from tests.mcp_server.everything import ask_everything

ROOT = Path(__file__).parent.parent.parent
WAIT_SECONDS = 240.0
# By where each is planted. Those in text have a shape that secrets have; a random word in a log is not known to be one.
PLANTED = {
    "kubeconfig password": "canary-kubeconfig-31",
    "kubeconfig plugin": "canary-plugin-32",
    "environment": "canary-environment-33",
    "setting": "canary-setting-34",
    "secret": "canary-secret-35",
    "configmap": "canary-configmap-36",
    "log": "hf_canary37canary37canary37canary37",
    "annotation": "canary-annotation-38",
    "variable": "canary-variable-39",
    "command line": "canary-commandline-40",
    "event": "AKIACANARY41CANARY41",
}
POISON = "ghp_canary42canary42canary42canary42"
LOG = f"2026-01-15T11:55:01.000000000Z stderr F FATAL: cannot reach the queue with token {PLANTED['log']}\n"


@pytest.fixture(scope="module")
def planted(lab: Lab) -> Iterator[tuple[str, str]]:
    """A namespace with a broken workload that holds the secrets, and its pod."""
    with lab.namespace("canary") as namespace:
        folder = lab.container_logs / namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "crash.log").write_text(LOG, encoding="utf-8")
        lab.apply(*_objects(namespace))
        client = lab.client("lab:loader")

        def crashing() -> str | None:
            for pod in client.list("v1", "Pod", namespace):
                if "CrashLoopBackOff" in str(pod.get("status")):
                    return str(pod["metadata"]["name"])
            return None

        pod = wait_for("the workload to crash", crashing, WAIT_SECONDS)
        lab.apply(_event(namespace, pod))
        yield namespace, pod


def _objects(namespace: str) -> tuple[dict[str, Any], ...]:
    container = {
        "name": "main",
        "image": "registry.example.com/canary/worker:1.0.0",
        "command": ["/worker", f"--api-key={PLANTED['command line']}"],
        "env": [{"name": "DATABASE_HOST", "value": PLANTED["variable"]}],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "tokens"}}],
    }
    annotations = {
        "note": PLANTED["annotation"],
        "fault.smokejumper.dev/kind": "crash-loop",
        "fault.smokejumper.dev/log": "crash.log",
    }
    template = {"metadata": {"labels": {"app": "worker"}, "annotations": annotations}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "worker", "namespace": namespace, "annotations": {"note": PLANTED["annotation"]}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "worker"}}, "template": template},
    }
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": namespace}}
    tokens = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tokens", "namespace": namespace}}
    return {**settings, "data": {"GREETING": PLANTED["configmap"]}}, {**tokens, "stringData": {"TOKEN": PLANTED["secret"]}}, deployment


def _event(namespace: str, pod: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "canary", "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod},
        "type": "Warning",
        "reason": "FailedPostStartHook",
        "message": f"hook failed: cannot sign in with {PLANTED['event']}",
        "count": 1,
    }


def kubeconfig(lab: Lab, folder: Path) -> Path:
    """The lab's contexts, beside users who are not us and whose credentials stand in the same file."""
    document = yaml.safe_load(lab.supervised_kubeconfig.read_text(encoding="utf-8"))
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "none",
        "env": [{"name": "T", "value": PLANTED["kubeconfig plugin"]}],
    }
    document["users"] += [
        {"name": "other", "user": {"username": "root", "password": PLANTED["kubeconfig password"]}},
        {"name": "plugin", "user": {"exec": plugin}},
    ]
    document["contexts"] += [{"name": name, "context": {"cluster": "lab", "user": name}} for name in ("other", "plugin")]
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def command(folder: Path, config: Path, *more: str) -> list[str]:
    program = "import sys; from oncall.cli import main; sys.exit(main())"
    return [
        sys.executable,
        "-c",
        program,
        "--state",
        str(folder / "state"),
        "--kubeconfig",
        str(config),
        "mcp",
        "--groups",
        ",".join(GROUPS),
        *more,
    ]


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "CLOUD_SECRET": PLANTED["environment"],
        "SMOKEJUMPER_MODEL__API_KEY": PLANTED["setting"],
        "SMOKEJUMPER_MONITORING__BEARER_TOKEN": PLANTED["setting"],
        "SMOKEJUMPER_EXECUTOR_CONTEXT": "executor",
        "SMOKEJUMPER_DRY_RUN_CONTEXT": "dryrun",
        "SMOKEJUMPER_LOG_LEVEL": "debug",
    }


@asynccontextmanager
async def over_stdio(folder: Path, config: Path, log: Path) -> AsyncIterator[Client]:
    first, *arguments = command(folder, config)
    server = StdioServerParameters(command=first, args=arguments, env=environment(folder), cwd=str(folder))
    with log.open("w", encoding="utf-8") as stderr:
        async with Client(stdio_client(server, stderr)) as client:
            yield client


@contextmanager
def serving(folder: Path, config: Path, log: Path) -> Iterator[str]:
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            command(folder, config, "--http", "127.0.0.1:0"), env=environment(folder), stderr=stderr, stdout=subprocess.DEVNULL, cwd=folder
        )
        try:

            def address() -> str | None:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                return next(
                    (line.split()[-1] for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("serving ")), None
                )

            yield wait_for("the server", address, WAIT_SECONDS)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_SECONDS)


@asynccontextmanager
async def over_http(folder: Path, config: Path, log: Path) -> AsyncIterator[Client]:
    with serving(folder, config, log) as address:
        async with httpx2.AsyncClient(timeout=WAIT_SECONDS) as http, Client(streamable_http_client(address, http_client=http)) as client:
            yield client


@pytest.mark.anyio
@pytest.mark.parametrize("transport", [over_stdio, over_http])
async def test_no_secret_leaves_by_any_way(lab: Lab, planted: tuple[str, str], tmp_path: Path, transport: Any) -> None:
    namespace, pod = planted
    config, log = kubeconfig(lab, tmp_path), tmp_path / "log"
    assert run(["--state", str(tmp_path / "state"), "people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser()]) == 0
    objects = (
        {"kind": "Pod", "namespace": namespace, "name": pod, "pod": pod, "node": "cpu-0"},
        {"kind": "Deployment", "namespace": namespace, "name": "worker", "workload": "Deployment/worker"},
        {"kind": "ConfigMap", "namespace": namespace, "name": "settings"},
        {"kind": "Secret", "namespace": namespace, "name": "tokens"},
    )
    words = {"question": "why does worker not start?", "action": "rollout_restart", "reason": "it crashes"}
    async with transport(tmp_path, config, log) as client:
        asked = await ask_everything(client, objects, words, POISON, thorough=False)
    secrets = {
        **PLANTED,
        "secret, encoded": base64.b64encode(PLANTED["secret"].encode()).decode(),
        "argument": POISON,
        **{f"token of {user}": lab.token(user) for user in ("reader", "executor", "dryrun")},
    }
    # What is not shown was there to be shown.
    said = "\n".join(answer for _, answer in asked.answers)
    for shown in ("cannot reach the queue", "hook failed", "settings", "worker"):
        assert shown in said
    assert asked.leaks(secrets) == []
    logged = log.read_text(encoding="utf-8")
    assert "investigation begins" in logged
    assert [name for name, secret in secrets.items() if secret in logged] == []
    kept = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert any(b"rollout_restart" in content for content in kept.values()) is (transport is over_stdio)
    assert [(path.name, name) for path, content in kept.items() for name, secret in secrets.items() if secret.encode() in content] == []
