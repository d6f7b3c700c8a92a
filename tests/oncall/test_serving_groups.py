"""`smokejumper mcp` offers the groups that it is told, and of those what a recording can answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_server.groups import DEFAULT_GROUPS
from mcp_server.tools.catalogue import toolset
from oncall.cli import run
from tests.oncall.test_serving import client

RECORDING = str(Path(__file__).parents[2] / "examples" / "serve-rollout")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "groups"),
    [((), DEFAULT_GROUPS), (("--groups", "training,queueing"), ("queueing", "training"))],
    ids=["default", "chosen"],
)
async def test_groups_and_sources_decide_what_is_offered(tmp_path: Path, arguments: tuple[str, ...], groups: tuple[str, ...]) -> None:
    async with client(tmp_path, "mcp", "--recording", RECORDING, *arguments) as session:
        offered = {tool.name for tool in (await session.list_tools()).tools}
    assert offered == {spec.name for spec in toolset(groups) if not spec.kinds and spec.source is None}


def test_a_group_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(tmp_path), "mcp", "--recording", RECORDING, "--groups", "core,gpus"]) == 2
    assert "--groups: 'gpus' is no group of tools; nearest groups: gpu" in capsys.readouterr().err


def test_a_configured_group_that_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOKEJUMPER_MCP__GROUPS", '["gpus"]')
    assert run(["--state", str(tmp_path), "mcp", "--recording", RECORDING]) != 0
    assert "mcp.groups.0" in capsys.readouterr().err
