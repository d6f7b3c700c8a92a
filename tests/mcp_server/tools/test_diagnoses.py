"""Diagnoses of a pod, a workload and a question, through the port."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import call, context, text

pytestmark = pytest.mark.anyio


async def test_a_pod_is_diagnosed_with_evidence(reader: RecordedReader) -> None:
    page = (await call(reader, "pod_diagnose", namespace="ml", name="serve-5c9f7-abcde")).render()
    cause = page.structured["causes"][0]
    assert cause["object"] == {"kind": "Deployment", "namespace": "ml", "name": "serve"}
    assert cause["class"].startswith("image/")
    for item in cause["evidence"]:
        assert any(item["id"] in line for line in page.lines)


async def test_a_workload_is_diagnosed(reader: RecordedReader) -> None:
    page = (await call(reader, "workload_diagnose", kind="deploy", namespace="ml", name="serve")).render()
    assert page.structured["causes"][0]["object"]["name"] == "serve"


async def test_a_question_is_answered(reader: RecordedReader) -> None:
    assert "Deployment/ml/serve" in await text(reader, "investigate", question="what broke in ml?", namespace="ml")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("pod_diagnose", {"namespace": "ml", "name": "serve"}, "nearest pods: serve-5c9f7-abcde"),
        ("workload_diagnose", {"kind": "svc", "namespace": "ml", "name": "serve"}, "a Service is no workload"),
        ("workload_diagnose", {"kind": "deploy", "namespace": "ml", "name": "serv"}, "nearest deployments: serve"),
        ("investigate", {"question": "x", "namespace": "mll"}, "nearest namespaces: ml"),
        ("investigate", {"question": ""}, "argument 'question'"),
    ],
)
async def test_what_is_not_there_is_refused(reader: RecordedReader, name: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ToolRefusal, match=message):
        await call(reader, name, **arguments)


async def test_without_ports_the_caller_is_sent_to_the_primitive_tools(reader: RecordedReader) -> None:
    probing = replace(context(reader), ports=None)
    with pytest.raises(ToolRefusal, match="use pods_list"):
        await toolset().call("investigate", {"question": "x"}, probing)
