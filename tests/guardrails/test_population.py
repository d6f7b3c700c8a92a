"""The report and the exported events say what the ledger says, and nothing is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from guardrails.action import RolloutRestart, Scale
from guardrails.gate import Gate
from guardrails.ledger import Entry
from guardrails.ocsf import event
from guardrails.office import Office
from guardrails.population import Population
from tests.guardrails.conftest import CALM, START, WEB, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster

pytestmark = pytest.mark.anyio


async def _story(gate: Gate, office: Office) -> list[Entry]:
    shown = await propose_undo(gate)
    await gate.propose(RolloutRestart(), WEB, cluster="lab", requester="ada", evidence=CALM)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    await gate.execute(shown.id, shown.digest or "", "ada")
    return [entry async for entry in office.ledger.story()]


async def test_every_change_with_who_asked_who_agreed_and_what_was_sent(gate: Gate, office: Office) -> None:
    population = Population()
    population.tell(await _story(gate, office))
    done, waiting = population.changes
    assert (done.requester, done.approvers, done.executed_by, done.state) == ("ada", ("bob",), "ada", "succeeded")
    assert (done.requests_sent, done.audit_ids, done.decision, done.own_approval) == (1, ("audit-1",), "approve", False)
    assert (waiting.approvers, waiting.state, waiting.requests_sent) == ((), "pending", 0)


async def test_a_rehearsal_is_none_of_the_clusters_changes(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    """Also one that came to nothing: an auditor must not take its refusal for one of a live change."""
    await propose_undo(gate)
    cluster.rehearsal = True
    await propose_undo(gate)
    await gate.propose(Scale(replicas=31), WEB, cluster="lab", requester="ada", evidence=CALM)
    await gate.propose(Scale(replicas=3), WEB, cluster="lab", requester="ada", evidence=CALM)
    population = Population()
    population.tell([entry async for entry in office.ledger.story()])
    told = [(change.state, change.rehearsal) for change in population.changes]
    assert told == [("pending", False), ("pending", True), ("denied", True), ("rejected", True)]


async def test_only_those_since(gate: Gate, office: Office) -> None:
    entries = await _story(gate, office)
    for since, count in ((START, 2), (START + timedelta(days=1), 0)):
        population = Population(since)
        population.tell(entries)
        assert len(population.changes) == count


def test_agreeing_to_ones_own_request_is_told() -> None:
    asked = {"cluster": "c", "requester": "ada", "contributors": [], "action": {"action": "scale"}, "target": {"kind": "Deployment"}}
    population = Population()
    population.tell(
        (
            Entry(0, "e-0", "2026-11-25T10:00:00+00:00", "proposal.created", "p-1", {**asked, "reason": ""}),
            Entry(1, "e-1", "2026-11-25T10:00:00+00:00", "approval.given", "p-1", {"approver": "ADA", "verdict": "approve"}),
        )
    )
    assert population.changes[0].own_approval


async def test_events_have_what_the_class_requires(gate: Gate, office: Office) -> None:
    entries = await _story(gate, office)
    events = [event(entry, "default", "0.1.0") for entry in entries]
    required = {"activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "src_endpoint", "time", "type_uid"}
    for entry, made in zip(entries, events, strict=True):
        assert required <= set(made)
        assert (made["class_uid"], made["type_uid"], made["metadata"]["version"]) == (6003, 600300 + made["activity_id"], "1.8.0")
        assert (made["metadata"]["uid"], made["metadata"]["sequence"]) == (entry.id, entry.seq)
        assert abs(datetime.fromtimestamp(made["time"] / 1000, UTC) - datetime.fromisoformat(entry.at)) < timedelta(milliseconds=1)
    (sent,) = [made for made in events if made["api"]["operation"] == "change.sent"]
    assert (sent["api"]["request"], sent["api"]["response"], sent["status_id"]) == ({"uid": "audit-1"}, {"code": 200}, 1)
    (approval,) = [made for made in events if made["api"]["operation"] == "approval.given"]
    assert approval["actor"]["user"]["name"] == "bob"
