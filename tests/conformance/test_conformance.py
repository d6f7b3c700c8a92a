"""Both revisions of the protocol as its own suite holds us to them: everything that is required, with nothing expected to fail."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cluster.recorded import RecordedReader
from tests.conformance.fixtures import add_fixtures
from tests.conformance.node import Node, find_or_install
from tests.mcp_server.incident import open_incident
from tests.mcp_server.serving import serving

SUITE = "@modelcontextprotocol/conformance"
WAIT_SECONDS = 300
# The suite asks for what the newer revision deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


@pytest.fixture(scope="module")
def node() -> Node:
    return find_or_install()


@pytest.fixture
def reader(tmp_path: Path) -> RecordedReader:
    return open_incident(tmp_path)


@pytest.mark.parametrize(("revision", "required"), [("2026-07-28", 37), ("2025-11-25", 30)])
def test_everything_that_a_revision_requires(node: Node, reader: RecordedReader, tmp_path: Path, revision: str, required: int) -> None:
    with serving(reader, prepare=add_fixtures) as served:
        command = node.command(SUITE, "dist/index.js", "server", "--url", served.address, "--requirements", revision)
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "out")], capture_output=True, text=True, cwd=tmp_path, timeout=WAIT_SECONDS, check=False
        )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    summary = done.stdout.split("=== SUMMARY ===")[1].split("Not scored")[0]
    passed = re.findall(r"^✓ ([\w-]+): \d+ passed, 0 failed", summary, re.MULTILINE)
    assert len(passed) >= required, summary
