"""Groups switch tools on; what a deployment has no kinds or sources for is not offered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.kinds import BY_NAME, CUSTOM_KINDS
from cluster.recorded import RecordedReader
from mcp_server.availability import offered
from mcp_server.errors import ToolRefusal
from mcp_server.groups import DEFAULT_GROUPS, GROUPS
from mcp_server.ownership import group_of, kinds_of, parse_groups
from mcp_server.registry import ToolSpec
from mcp_server.tools.catalogue import ALL, toolset
from tests.mcp_server.incident import NOW


def recorded(folder: Path, *items: dict[str, object]) -> RecordedReader:
    (folder / "objects.yaml").write_text(json.dumps({"kind": "List", "items": items or [{"kind": "Pod", "metadata": {"name": "x"}}]}))
    return RecordedReader.open(folder, NOW)


def test_every_group_has_tools_and_every_tool_a_group() -> None:
    assert {spec.group for spec in ALL} == set(GROUPS)
    assert {spec.group for spec in toolset(DEFAULT_GROUPS)} == set(DEFAULT_GROUPS)


def test_hidden_tools_cannot_be_called_and_still_say_what_they_need() -> None:
    chosen = toolset(("remediation",))
    assert "pods_list" not in chosen
    with pytest.raises(ToolRefusal, match="unknown tool 'pods_list'"):
        chosen.spec("pods_list")
    assert toolset(("storage",)).rules("storage_diagnose") == toolset().rules("storage_diagnose")


@pytest.mark.anyio
async def test_what_no_kind_and_no_source_backs_is_not_offered(tmp_path: Path) -> None:
    shown = await offered(toolset(), recorded(tmp_path))
    assert {spec.name for spec in ALL} - {spec.name for spec in shown} == {
        spec.name for spec in ALL if spec.kinds or spec.source is not None
    }


@pytest.mark.anyio
@pytest.mark.parametrize("spec", [spec for spec in ALL if spec.kinds], ids=lambda spec: spec.name)
async def test_one_kind_of_its_own_is_enough(tmp_path: Path, spec: ToolSpec) -> None:
    kind = spec.kinds[-1]
    item: dict[str, Any] = {"kind": kind, "apiVersion": BY_NAME[kind].api_version, "metadata": {"name": "x", "namespace": "ml"}}
    assert spec.name in await offered(toolset(), recorded(tmp_path, item))


@pytest.mark.anyio
async def test_recorded_metrics_and_alerts_are_sources(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("timestamp,metric,value\n2026-01-15T11:59:00Z,queue,1\n", "utf-8")
    shown = await offered(toolset(), recorded(tmp_path))
    assert "metrics_query" in shown
    assert "telemetry_list" in shown


@pytest.mark.anyio
async def test_alerts_alone_are_telemetry(tmp_path: Path) -> None:
    (tmp_path / "alerts.json").write_text(json.dumps([{"labels": {"alertname": "Slow"}, "state": "firing"}]), "utf-8")
    shown = await offered(toolset(), recorded(tmp_path))
    assert "metrics_query" not in shown
    assert "telemetry_list" in shown


def test_groups_are_read_as_people_list_them() -> None:
    assert parse_groups("gpu, core,gpu") == ("core", "gpu")
    with pytest.raises(ToolRefusal, match="'gpus' is no group of tools; nearest groups: gpu"):
        parse_groups("core,gpus")
    with pytest.raises(ToolRefusal, match="no group of tools"):
        parse_groups(" ,")


def test_every_custom_kind_belongs_to_one_group() -> None:
    by_group = [kind for group in GROUPS for kind in kinds_of(group)]
    assert sorted(kind.name for kind in by_group) == sorted(kind.name for kind in CUSTOM_KINDS)
    assert group_of(BY_NAME["ClusterQueue"]) == "queueing"
    assert group_of(BY_NAME["Certificate"]) == "core"
