"""The listing as the Inspector's command line judges it with `--strict`: both eras, over stdio and HTTP, with a token and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mcp_server.tools.catalogue import ALL
from tests.conformance.node import Node, find_or_install
from tests.mcp_server.incident import open_incident
from tests.mcp_server.issuer import running_issuer
from tests.mcp_server.serving import PUBLIC, serving

INSPECTOR, LAUNCHER = "@modelcontextprotocol/inspector", "clients/launcher/build/index.js"
ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 300
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])
SIGN_IN_FIRST = 3


@pytest.fixture(scope="module")
def node() -> Node:
    return find_or_install()


def inspect(node: Node, home: Path, target: Sequence[str], era: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One strict listing. The Inspector keeps what it stores in a home of the test's."""
    command = node.command(INSPECTOR, LAUNCHER, "--cli", *target, "--protocol-era", era, "--method", "tools/list", "--strict")
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, "--format", "json", "-q", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=WAIT_SECONDS,
        check=False,
    )


def is_whole(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert [tool["name"] for tool in found["result"]["tools"]] == [spec.name for spec in ALL]
    assert "warning" not in done.stderr.lower()


@ERAS
def test_over_stdio(node: Node, tmp_path: Path, era: str) -> None:
    is_whole(inspect(node, tmp_path, [sys.executable, "-m", "tests.mcp_server.stdio_server", str(tmp_path)], era))


@ERAS
def test_over_http(node: Node, tmp_path: Path, era: str) -> None:
    with serving(open_incident(tmp_path)) as served:
        is_whole(inspect(node, tmp_path, ["--server-url", served.address, "--transport", "http"], era))


@ERAS
def test_over_http_with_a_token(node: Node, tmp_path: Path, era: str) -> None:
    with running_issuer() as issuer, serving(open_incident(tmp_path), issuer) as served:
        target = ["--server-url", served.address, "--transport", "http"]
        bearer = f"Authorization: Bearer {issuer.token(PUBLIC)}"
        is_whole(inspect(node, tmp_path, target, era, "--header", bearer, "--stored-auth-only"))
        refused = inspect(node, tmp_path, target, era, "--stored-auth-only")
    assert refused.returncode == SIGN_IN_FIRST, refused.stdout + refused.stderr
