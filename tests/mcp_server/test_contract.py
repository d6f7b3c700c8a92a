"""What every tool promises of its output, asked of all of them alike: on a small recording and on one of 10,000 pods and hostile words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Access, Page, ToolContext, ToolSpec
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, TableOutput, text_of
from mcp_server.tools.catalogue import ALL, toolset
from tests.mcp_server.incident import context, open_incident
from tests.mcp_server.large import CANARIES, HOSTILE, large_context, open_large

pytestmark = pytest.mark.anyio
FENCE = re.compile(r"<<untrusted (?P<mark>[0-9a-f]{8})[^\n]*\n.*?\nuntrusted (?P=mark)>>", re.DOTALL)
# Arguments without which a tool cannot be asked; the rest are defaults.
NEEDED: dict[str, dict[str, Any]] = {
    "pod_diagnose": {"namespace": "team-1", "name": "model-1-a"},
    "workload_diagnose": {"kind": "Deployment", "namespace": "team-1", "name": "model-1"},
    "node_diagnose": {"name": "gpu-0"},
    "network_diagnose": {"namespace": "team-1", "name": "model-1"},
    "investigate": {"question": "what is wrong?"},
    "logs_search": {"namespace": "team-1", "pod": "model-1-a"},
    "resources_list": {"kind": "Pod"},
    "resource_get": {"kind": "Pod", "namespace": "team-1", "name": "model-1-a"},
    "metrics_query": {"name": "queue"},
    "storage_diagnose": {"namespace": "team-1", "claim": "model-1"},
    "gpu_health": {"node": "gpu-0"},
    "inference_diagnose": {"namespace": "team-1", "name": "model-1"},
    "queue_explain": {"namespace": "team-1", "workload": "train-1"},
    "training_diagnose": {"namespace": "team-1", "name": "train-1"},
    "policy_explain": {"action": "rollout_restart", "kind": "Deployment", "namespace": "team-1", "name": "model-1"},
    "remediation_propose": {"action": "rollout_restart", "kind": "Deployment", "namespace": "team-1", "name": "model-1"},
    "remediation_status": {"proposal_id": "p1"},
}
# A pod without a node, an investigation that was kept and a grant are others' to test.
ASKED = tuple(spec for spec in ALL if spec.name not in ("scheduling_explain", "investigation_get", "remediation_execute"))
TABLES = tuple(spec for spec in ASKED if spec.output is TableOutput)
ASKED_BY_NAME = pytest.mark.parametrize("spec", ASKED, ids=lambda spec: spec.name)
TABLES_BY_NAME = pytest.mark.parametrize("spec", TABLES, ids=lambda spec: spec.name)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RecordedReader:
    return open_large(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> RecordedReader:
    return open_incident(tmp_path_factory.mktemp("small"))


async def ask(spec: ToolSpec, held: ToolContext, **arguments: Any) -> Page:
    return (await toolset().call(spec.name, {**NEEDED.get(spec.name, {}), **arguments}, held)).render()


def most(spec: ToolSpec) -> dict[str, Any]:
    """The arguments that ask for as much as can be asked for."""
    wanted = {"limit": 200, "detail": "full", "view": "spec", "problem_only": False, "hours": 720, "type": "all"}
    return {name: value for name, value in wanted.items() if name in spec.arguments.model_fields}


@ASKED_BY_NAME
async def test_output_is_bounded_fenced_stable_and_shows_no_noise(large: RecordedReader, spec: ToolSpec) -> None:
    held = large_context(large)
    for arguments, budget in (({}, DEFAULT_BYTES), (most(spec), HARD_BYTES)):
        page = await ask(spec, held, **arguments)
        text = text_of(page)
        assert len(text.encode()) <= budget, len(text.encode())
        data = json.dumps(page.structured)
        assert len(data) <= 2 * HARD_BYTES + 4_000
        assert not [canary for canary in CANARIES if canary in text + data]
        # A verdict or a count first, data of workloads behind it, and whatever was opened is closed.
        assert not text.startswith("<<untrusted")
        assert text.count("<<untrusted ") == len(re.findall(r"^untrusted [0-9a-f]{8}>>$", text, re.MULTILINE))
        if spec.output is TableOutput:
            assert HOSTILE.strip() not in FENCE.sub("", text)
        if page.cut:
            assert text.splitlines()[-1].startswith(f"-- {page.cut}")


@TABLES_BY_NAME
async def test_rows_have_evidence_and_pages_join_without_loss(large: RecordedReader, spec: ToolSpec) -> None:
    held = large_context(large)
    first = await ask(spec, held)
    assert first.structured["rows"], first.lines
    assert first.structured["columns"][-1] == "evidence"
    assert all(re.fullmatch(r"ev:[0-9a-f]{10}", row[-1]) for row in first.structured["rows"])
    if first.cursor is None:
        assert first.structured["total"] == len(first.structured["rows"])
        return
    second = await ask(spec, held, cursor=first.cursor)
    whole = await ask(spec, held, limit=200)
    rows = [*first.structured["rows"], *second.structured["rows"]]
    assert whole.structured["rows"][: len(rows)] == rows[: len(whole.structured["rows"])]
    other = next((name for name in ("namespace", "node", "state", "queue", "gpu_only") if name in spec.arguments.model_fields), None)
    if other is not None and spec.name != "logs_search":
        value = {"namespace": "team-1", "node": "gpu-1", "state": "held", "queue": "queue-1", "gpu_only": True}[other]
        with pytest.raises(ToolRefusal, match="cursor belongs to a call with other arguments"):
            (await toolset().call(spec.name, {**NEEDED.get(spec.name, {}), other: value, "cursor": first.cursor}, held)).render()


@ASKED_BY_NAME
async def test_a_small_recording_answers_within_the_default(small: RecordedReader, spec: ToolSpec) -> None:
    held = context(small)
    arguments = {
        name: {"team-1": "ml", "model-1-a": "serve-5c9f7-abcde", "model-1": "serve", "gpu-0": "cpu-1", "train-1": "finetune"}.get(
            value, value
        )
        for name, value in NEEDED.get(spec.name, {}).items()
    }
    if spec.name == "storage_diagnose":
        arguments["claim"] = "weights"
    page = (await toolset().call(spec.name, arguments, held)).render()
    assert len(text_of(page).encode()) <= DEFAULT_BYTES
    assert page.lines


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
async def test_a_wrong_argument_is_answered_with_the_nearest(small: RecordedReader, spec: ToolSpec) -> None:
    known = next(iter(spec.arguments.model_fields))
    with pytest.raises(ToolRefusal) as refused:
        await toolset().call(spec.name, {f"{known}x": "y"}, context(small))
    assert f"unknown argument '{known}x'; nearest arguments: " in str(refused.value)
    assert known in str(refused.value)


@pytest.mark.parametrize("spec", [spec for spec in ALL if "namespace" in spec.arguments.model_fields], ids=lambda spec: spec.name)
async def test_no_namespace_is_taken_for_another(small: RecordedReader, spec: ToolSpec) -> None:
    with pytest.raises(ToolRefusal, match=r"is no namespace name|argument"):
        await toolset().call(spec.name, {**NEEDED.get(spec.name, {}), "namespace": "ML/../x"}, context(small))


def test_every_read_says_the_permission_that_it_needs() -> None:
    """What needs none reads nothing of a cluster: monitoring, our own records."""
    tools = toolset()
    assert {spec.name for spec in ALL if not tools.rules(spec.name)} == {
        *("telemetry_list", "metrics_query", "investigation_get", "remediation_status"),
    }
    assert {spec.name for spec in ALL if spec.access is not Access.READ} == {
        *("policy_explain", "remediation_propose", "remediation_execute"),
    }


async def test_what_is_refused_names_the_rule_that_would_grant_it(tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text("kind: List\nitems: [{kind: Namespace, metadata: {name: ml}}]\n", "utf-8")
    step = "Grant the reading account get,list on pods in namespace ml."
    gap = {"what": "pods in ml", "why": "forbidden", "kind": "Pod", "namespace": "ml", "next_step": step}
    (tmp_path / "recording.yaml").write_text(json.dumps({"kinds_read": ["Namespace"], "missing": [gap]}), "utf-8")
    held = context(RecordedReader.open(tmp_path))
    page = (await toolset().call("pods_list", {"namespace": "ml"}, held)).render()
    assert any("forbidden" in line and "get,list on pods in namespace ml" in line for line in page.structured["cannot_see"])
    with pytest.raises(ToolRefusal, match=r"cannot read Pod/ml/x: forbidden; .*get,list on pods in namespace ml"):
        await toolset().call("pod_diagnose", {"namespace": "ml", "name": "x"}, held)
