"""Breaking the glass lifts approvals and freezes for a while, and nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from guardrails.action import RolloutRestart, target
from guardrails.budget import stamp
from guardrails.directory import Directory, Person
from guardrails.errors import Conflict, Denied, KillSwitchOn, NotApproved, NotAuthenticated, NotEligible
from guardrails.estate import Estate, Freeze
from guardrails.gate import Gate
from guardrails.office import PEOPLE, Office, open_office
from guardrails.proposal import Evidence, State
from guardrails.replay import Replay
from guardrails.stepup import code_at, period_of
from guardrails.store import entries
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, START, UNDO, WEB, FakeClock, numbered, person
from tests.guardrails.fake_cluster import FakeCluster, break_down, deployment

pytestmark = pytest.mark.anyio
WHY = "the payment page is down for everybody"


@pytest.fixture
def people(tmp_path: Path) -> Directory:
    directory = Directory.load(tmp_path / PEOPLE)
    directory.add("ada", ["sre-oncall", "break-glass"], kubernetes_user="ada@example.org")
    directory.add("bob", ["sre-oncall"])
    return directory


@pytest.fixture
async def office(tmp_path: Path, clock: FakeClock, cluster: FakeCluster, people: Directory) -> AsyncIterator[Office]:
    freezes = (Freeze(start=START, end=START + timedelta(days=1)),)
    estate = Estate(freezes=freezes, namespace_environments={"shop": "staging"})
    async with open_office(tmp_path, {"lab": cluster}, estate=estate, clock=clock, ids=numbered()) as office:
        yield office


async def invoke(gate: Gate, evidence: Evidence = CALM) -> ProposalView:
    return await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=evidence, break_glass=True)


async def test_it_lifts_the_freeze_and_the_approval_and_waits_for_a_review(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    ordinary = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM)
    assert "deny-freeze" in ordinary.detail
    emergency = await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    assert emergency.until - emergency.at == timedelta(minutes=30)
    shown = await invoke(gate)
    assert (shown.state, shown.missing) == ("pending", {}), shown.detail
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    assert len(cluster.writes) == 1
    with pytest.raises(NotEligible, match="Somebody else"):
        await gate.review(emergency.id, person(office, "ada"), "fine")
    assert [one.reviewed_by for one in await gate.emergencies()] == [""]
    await gate.review(emergency.id, person(office, "bob"), "it was right")
    assert [one.reviewed_by for one in await gate.emergencies()] == ["bob"]
    with pytest.raises(Conflict):
        await gate.review(emergency.id, person(office, "bob"), "again")


Row = tuple[int, str, str | None, dict[str, Any]]


async def told(office: Office) -> list[Row]:
    """The ledger: number, type, proposal and entry."""
    async with office.store.read() as connection:
        rows = (await connection.execute(select(entries).order_by(entries.c.seq))).all()
    return [(row.seq, row.type, row.proposal, json.loads(row.entry)) for row in rows]


def doubts(rows: list[Row]) -> list[str]:
    replay = Replay()
    return [why for seq, kind, name, entry in rows if (why := replay.tell(seq, kind, name, json.dumps(entry)))]


def changed(rows: list[Row], kind: str, **body: str) -> list[Row]:
    """The same with other words in the entries of a kind."""
    return [(s, k, n, {**e, "body": {**e["body"], **body}} if k == kind else e) for s, k, n, e in rows]


async def test_the_ledger_tells_an_emergency_from_an_approval_that_nobody_gave(gate: Gate, office: Office) -> None:
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    shown = await invoke(gate)
    await gate.execute(shown.id, shown.digest or "", "ada")
    rows = await told(office)
    assert doubts(rows) == []
    undeclared = [row for row in rows if row[1] != "emergency.declared"]
    assert "no emergency was declared" in doubts(undeclared)[0]
    assert "no emergency was declared" in doubts(changed(rows, "emergency.declared", person="bob"))[0]


async def test_the_ledger_tells_whether_an_emergency_was_over(gate: Gate, office: Office, clock: FakeClock) -> None:
    """Half an hour at most, for the proposal as for its execution; another emergency of theirs goes on."""
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    clock.pass_(minutes=20)
    shown = await invoke(gate)
    clock.pass_(minutes=9)
    await gate.execute(shown.id, shown.digest or "", "ada")
    rows = await told(office)
    assert doubts(rows) == []
    assert "longer than an emergency may" in doubts(changed(rows, "emergency.declared", until=stamp(START + timedelta(minutes=31))))[0]
    shorter = changed(rows, "emergency.declared", until=stamp(START + timedelta(minutes=25)))
    assert "was over at" in doubts(shorter)[0]
    executing = next(seq for seq, _, _, entry in rows if entry["body"].get("to") == "executing")
    assert doubts(shorter)[0].startswith(f"Entry {executing} ")
    before = changed(rows, "emergency.declared", until=stamp(START + timedelta(minutes=15)))
    assert "was over at" in doubts(before)[0]


async def test_the_ledger_tells_of_a_review_that_was_none(gate: Gate, office: Office) -> None:
    emergency = await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    await gate.review(emergency.id, person(office, "bob"), "fine")
    rows = await told(office)
    assert doubts(rows) == []
    assert "cannot be reviewed by ada" in doubts(changed(rows, "emergency.reviewed", by="ada"))[0]
    assert "or was already" in doubts([*rows, rows[-1]])[0]


async def test_who_may_declare_one(gate: Gate, office: Office) -> None:
    with pytest.raises(NotEligible, match="break-glass"):
        await gate.break_glass(person(office, "bob"), WHY, cluster="lab")
    with pytest.raises(NotEligible, match="reason"):
        await gate.break_glass(person(office, "ada"), "help", cluster="lab")
    with pytest.raises(NotEligible):
        await gate.break_glass(Person(name="stranger", groups=("break-glass",)), WHY, cluster="lab")


async def test_who_has_a_second_proof_shows_it(gate: Gate, office: Office, clock: FakeClock) -> None:
    secret = office.directory.enrol("ada")
    ada = person(office, "ada")
    with pytest.raises(NotAuthenticated, match="--code"):
        await gate.break_glass(ada, WHY, cluster="lab")
    assurance = await gate.step_up(ada, code_at(secret, period_of(clock.now())))
    await gate.break_glass(ada, WHY, cluster="lab", assurance=assurance)
    assert (await invoke(gate)).missing == {}


async def test_it_covers_neither_agents_nor_other_clusters_nor_later(gate: Gate, office: Office, clock: FakeClock) -> None:
    with pytest.raises(NotEligible, match="declared no emergency"):
        await invoke(gate)
    await gate.break_glass(person(office, "ada"), WHY, cluster="elsewhere")
    with pytest.raises(NotEligible, match="declared no emergency"):
        await invoke(gate)
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    with pytest.raises(NotEligible, match="agent"):
        await invoke(gate, Evidence(tainted=True))
    clock.pass_(minutes=30)
    with pytest.raises(NotEligible, match="is over"):
        await invoke(gate)


async def test_it_is_over_when_it_is_over_also_for_what_was_proposed_in_it(gate: Gate, office: Office, clock: FakeClock) -> None:
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    clock.pass_(minutes=20)
    shown = await invoke(gate)
    assert shown.expires_at == START + timedelta(minutes=30)


async def test_kill_switch_and_denials_hold(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    shown = await invoke(gate)
    await gate.pause("bob", "stop", cluster="tenant:default")
    with pytest.raises(KillSwitchOn):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert "deny-kill-switch" in (await invoke(gate)).detail
    assert cluster.writes == []
    assert [(one.scope, one.on) for one in await gate.switches()] == [("tenant:default", True)]


async def test_a_switch_of_another_tenant_is_not_ours(gate: Gate, office: Office) -> None:
    await gate.pause("bob", "stop", cluster="tenant:other")
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    assert (await invoke(gate)).state == "pending"


async def test_who_is_not_reviewed_within_a_day_declares_no_other(gate: Gate, office: Office, clock: FakeClock) -> None:
    emergency = await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    clock.pass_(hours=23, minutes=59)
    await gate.sweep()
    assert "break-glass" in person(office, "ada").groups
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    clock.pass_(minutes=1)
    with pytest.raises(NotEligible, match=f"{emergency.id}.*reviewed"):
        await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    for _ in range(2):
        await gate.sweep()
    assert person(office, "ada").groups == ("sre-oncall",)
    told = [entry.body for entry in await office.ledger.entries() if entry.type == "emergency.overdue"]
    assert [(body["id"], body["person"], body["group"]) for body in told] == [(emergency.id, "ada", "break-glass")]
    # The second emergency is not over, but ada is not in the group any more.
    with pytest.raises(NotEligible, match="declared no emergency"):
        await invoke(gate)


async def test_a_late_review_opens_the_way_back(gate: Gate, office: Office, clock: FakeClock) -> None:
    emergency = await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    clock.pass_(days=2)
    await gate.sweep()
    office.directory.set_groups("ada", ["sre-oncall", "break-glass"])
    with pytest.raises(NotEligible, match="reviewed"):
        await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    await gate.review(emergency.id, person(office, "bob"), "late, and right")
    await gate.sweep()
    assert "break-glass" in person(office, "ada").groups
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")


async def test_who_leaves_the_group_in_an_emergency_needs_people_again(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    await gate.break_glass(person(office, "ada"), WHY, cluster="lab")
    shown = await invoke(gate)
    assert shown.missing == {}
    office.directory.set_groups("ada", ["sre-oncall"])
    with pytest.raises(Denied, match="deny-freeze"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


async def test_two_failed_verifications_in_an_hour_end_what_runs_by_itself(
    tmp_path: Path, clock: FakeClock, cluster: FakeCluster, people: Directory
) -> None:
    cluster.heal = break_down
    estate = Estate(namespace_environments={"shop": "staging"})
    for name in ("api", "cart"):
        cluster.put(deployment(name=name))
    async with open_office(tmp_path, {"lab": cluster}, estate=estate, clock=clock, ids=numbered()) as office:
        gate = Gate(office)

        async def restart(name: str) -> ProposalView:
            return await gate.propose(RolloutRestart(), target("Deployment", "shop", name), cluster="lab", requester="ada", evidence=CALM)

        async def fail(name: str) -> None:
            shown = await restart(name)
            assert shown.state == "approved", shown.detail
            assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.ROLLED_BACK

        await fail("web")
        # Here it does not go by itself a second time; elsewhere it may.
        assert escalations(await restart("web")) == ("escalate-failed-here",)
        await fail("api")
        shown = await restart("cart")
        assert (shown.state, escalations(shown)) == ("pending", ("escalate-failing",))
        with pytest.raises(NotApproved):
            await gate.execute(shown.id, shown.digest or "", "ada")
        clock.pass_(hours=1)
        assert [(await restart(name)).state for name in ("web", "cart")] == ["approved", "approved"]


def escalations(shown: ProposalView) -> tuple[str, ...]:
    assert shown.verdict is not None
    return shown.verdict.escalated_by
