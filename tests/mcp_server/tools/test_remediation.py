"""Remediation tools check words and leave every decision to the gate."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster.recorded import RecordedReader
from mcp_server.diagnosis import TAIL_BYTES
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Access, Caller
from mcp_server.result import DEFAULT_BYTES
from mcp_server.tools.catalogue import toolset
from mcp_server.tools.remediation import EXECUTOR_RULES, document_answer
from tests.mcp_server.incident import call, context

pytestmark = pytest.mark.anyio
UNDO = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}
DIGEST = "0" * 64


async def test_a_proposal_carries_the_words_and_the_caller(reader: RecordedReader) -> None:
    answer = await call(reader, "remediation_propose", **UNDO, parameters={"to_revision": 1}, evidence_ids=["ev:1"], reason="bad image")
    proposal = answer.render().structured["proposal"]
    assert proposal["action"] == {"action": "rollout_undo", "to_revision": 1}
    assert proposal["target"] == {"kind": "Deployment", "namespace": "ml", "name": "serve"}
    assert (proposal["requester"], proposal["evidence_ids"], proposal["reason"]) == ("rita", ["ev:1"], "bad image")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "rollout_und"}, "nearest actions: rollout_undo"),
        ({"action": "exec"}, "none of the actions"),
        ({"kind": "Secret"}, "none of the kinds"),
        ({"kind": "Node"}, "rollout_undo does not apply to a Node"),
        ({"parameters": {"replicas": 3}}, "replicas"),
        ({"action": "scale"}, "replicas"),
        ({"action": "scale", "parameters": {"replicas": -1}}, "replicas"),
        ({"action": "scale", "parameters": {"replicas": 10**9}}, "replicas"),
        ({"namespace": None}, "namespace"),
        ({"name": "serve; rm -rf"}, "not a name"),
        ({"command": "kubectl delete ns ml"}, "unknown argument 'command'"),
        ({"approved": True}, "unknown argument 'approved'"),
    ],
)
async def test_words_outside_the_vocabulary_never_reach_the_gate(reader: RecordedReader, change: dict[str, Any], message: str) -> None:
    reached: list[dict[str, Any]] = []

    async def propose(request: dict[str, Any], caller: object) -> dict[str, Any]:
        reached.append(request)
        return request

    held = context(reader)
    assert held.ports is not None
    watched = replace(held, ports=replace(held.ports, propose=propose))
    with pytest.raises(ToolRefusal, match=message):
        await toolset().call("remediation_propose", {**UNDO, **change}, watched)
    assert reached == []


async def test_execution_without_approval_is_the_gates_refusal(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="not approved: it lacks 1 approval by someone other than rita"):
        await call(reader, "remediation_execute", proposal_id="p1", digest=DIGEST)


@pytest.mark.parametrize("digest", ["", "yes", "0" * 63, "g" * 64, "0" * 64 + "\n"])
async def test_a_digest_is_a_digest(reader: RecordedReader, digest: str) -> None:
    with pytest.raises(ToolRefusal, match="argument 'digest'"):
        await call(reader, "remediation_execute", proposal_id="p1", digest=digest)


async def test_the_state_of_a_proposal_is_shown_redacted(reader: RecordedReader) -> None:
    async def status(proposal: str, _caller: Caller) -> dict[str, Any]:
        return {"id": proposal, "state": "pending", "note": "password=hunter2hunter2", "requests": [{"path": "/x\x1b[31m"}]}

    held = context(reader)
    assert held.ports is not None
    answer = await toolset().call("remediation_status", {"proposal_id": "p1"}, replace(held, ports=replace(held.ports, status=status)))
    page = answer.render()
    assert "hunter2" not in str(page)
    assert "\x1b" not in "\n".join(page.lines)
    assert "state: pending" in page.lines


async def test_of_a_document_that_is_cut_people_still_see_what_they_decide_by() -> None:
    changes = [{"path": f"/spec/{number}", "before": None, "after": "x" * 40} for number in range(300)]
    whole = {"checks": ["y" * 200] * 9, "changes": changes, "stake": {"pods": 80}, "approvals": [], "id": "p1", "summary": "Drain n1"}
    page = document_answer(whole, "summary").render()
    shown = page.structured["proposal"]
    assert page.structured["cut"]
    assert (shown["id"], shown["summary"], shown["stake"]) == ("p1", "Drain n1", {"pods": 80})
    assert 0 < len(shown["changes"]) < len(changes)
    assert shown["changes"] == changes[: len(shown["changes"])]
    assert "checks" not in shown
    crowded = document_answer({**whole, "stake": {"pods": "z" * (DEFAULT_BYTES - TAIL_BYTES - 120)}}, "summary").render()
    assert "changes" not in crowded.structured["proposal"]
    assert len(json.dumps(shown)) <= DEFAULT_BYTES
    assert document_answer({"id": "p1", "checks": ["y"]}, "summary").render().structured == {
        "proposal": {"id": "p1", "checks": ["y"]},
        "cut": "",
    }


async def test_an_unknown_proposal_is_refused(reader: RecordedReader) -> None:
    with pytest.raises(ToolRefusal, match="no proposal p2"):
        await call(reader, "remediation_status", proposal_id="p2")


async def test_without_a_gate_nothing_can_be_proposed_or_executed(reader: RecordedReader) -> None:
    alone = replace(context(reader), ports=None)
    for name, arguments in (("remediation_propose", UNDO), ("remediation_execute", {"proposal_id": "p1", "digest": DIGEST})):
        with pytest.raises(ToolRefusal, match="no gate is attached"):
            await toolset().call(name, arguments, alone)


async def test_the_executor_needs_what_the_actions_say_and_no_more() -> None:
    assert {verb for rule in EXECUTOR_RULES for verb in rule.verbs} == {"get", "patch", "delete", "create"}
    assert {resource for rule in EXECUTOR_RULES if "create" in rule.verbs for resource in rule.resources} == {"pods/eviction"}
    assert {resource for rule in EXECUTOR_RULES if "delete" in rule.verbs for resource in rule.resources} == {"pods", "resourceclaims"}
    assert {spec.name: spec.access for spec in toolset(frozenset({"remediation"}))} == {
        "remediation_propose": Access.PROPOSE,
        "remediation_status": Access.READ,
        "remediation_execute": Access.GATED,
    }
