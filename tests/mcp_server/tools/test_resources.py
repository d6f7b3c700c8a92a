"""Lists and single objects of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, text_of
from tests.mcp_server.incident import OBJECTS, call, open_incident, text

pytestmark = pytest.mark.anyio


async def test_a_list_shows_the_state_and_troubled_objects_first(reader: RecordedReader) -> None:
    page = (await call(reader, "resources_list", kind="deploy")).render()
    assert page.lines[0] == "1 deployments in all namespaces, 1 with problems"
    (row,) = page.structured["rows"]
    assert row[:3] == ["ml", "serve", "ready 0/1"]
    assert row[3].startswith("Available=False")


async def test_a_selector_narrows(reader: RecordedReader) -> None:
    for selector, count in (("app=serve", 1), ("app=other", 0), ("app==serve", 1)):
        answer = await call(reader, "resources_list", kind="Pod", selector=selector)
        assert answer.render().structured["total"] == count
        assert len(answer.growth.kinds[0].facts) == 3


async def test_config_maps_show_keys_and_no_values(reader: RecordedReader) -> None:
    assert "keys address, mode" in await text(reader, "resources_list", kind="cm")
    shown = await text(reader, "resource_get", kind="cm", name="settings", namespace="ml", view="spec")
    assert "data.address: 19 characters" in shown


async def test_a_spec_shows_names_of_variables_and_no_values(reader: RecordedReader) -> None:
    shown = await text(reader, "resource_get", kind="Deployment", name="serve", namespace="ml", view="spec")
    assert "spec.template.spec.containers[0].image: registry.example/serve:v2" in shown
    assert "env[0].name: DB_HOST" in shown
    assert "env[1].value: (4 characters)" in shown


async def test_a_summary_shows_metadata_and_conditions(reader: RecordedReader) -> None:
    shown = await text(reader, "resource_get", kind="po", name="serve-5c9f7-abcde", namespace="ml")
    assert "owners: ReplicaSet/serve-5c9f7" in shown
    assert "status.phase: Pending" in shown
    assert "annotation" not in shown.splitlines()[3:]


async def test_a_large_object_of_a_custom_kind_is_cut_and_says_so(tmp_path: Path) -> None:
    spec = {f"key{number}": "v" * 100 for number in range(1_000)}
    widget = {"kind": "Widget", "apiVersion": "x.example/v1", "metadata": {"name": "w", "namespace": "ml"}, "spec": spec}
    reader = open_incident(tmp_path, OBJECTS + "- " + json.dumps(widget) + "\n")
    page = (await call(reader, "resource_get", kind="widgets", name="w", namespace="ml", view="spec")).render()
    assert len(text_of(page).encode()) <= HARD_BYTES
    assert page.structured["cut"].endswith("more of 1000 fields")
    assert "-- " + page.cut in text_of(page)
    assert "Widget" in await text(reader, "resource_get", kind="widgets", name="w", namespace="ml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "secret", "name": "tokens", "namespace": "ml"}, "never read"),
        ({"kind": "Pod", "name": "train-0"}, "'namespace' is required"),
        ({"kind": "Pod", "name": "train-1", "namespace": "ml"}, "nearest pods: train-0"),
        ({"kind": "Service", "name": "x", "namespace": "ml"}, "cannot read|does not exist"),
        ({"kind": "Deploymnt", "name": "x", "namespace": "ml"}, "nearest kinds: Deployment"),
    ],
)
async def test_what_cannot_be_read_is_refused(reader: RecordedReader, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ToolRefusal, match=message):
        await call(reader, "resource_get", **arguments)


async def test_the_default_answers_keep_to_the_default_budget(reader: RecordedReader) -> None:
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("resources_list", {"kind": "Pod"}),
        ("resource_get", {"kind": "Pod", "name": "train-0", "namespace": "ml"}),
        ("cluster_overview", {}),
        ("pods_list", {"problem_only": False}),
        ("pod_diagnose", {"namespace": "ml", "name": "serve-5c9f7-abcde"}),
    )
    for name, arguments in calls:
        assert len((await text(reader, name, **arguments)).encode()) <= DEFAULT_BYTES
