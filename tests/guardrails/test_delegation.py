"""Standing in for somebody: what is lent counts like the giver's own, never twice, never longer, and never for the giver's own wish."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from guardrails.action import Scale
from guardrails.audit import verify
from guardrails.delegation import Delegation, with_deputies
from guardrails.errors import BadLedger, Conflict, NotApproved, NotEligible, OwnApproval
from guardrails.gate import Gate
from guardrails.note import Signer
from guardrails.office import ANCHOR, KEY, Office
from guardrails.proposal import State
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, START, WEB, FakeClock, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster

DAY = timedelta(days=1)
SRE = ("sre-oncall",)


async def lend(gate: Gate, office: Office, giver: str, to: str, groups: tuple[str, ...] = SRE, until: datetime = START + DAY) -> Delegation:
    return await gate.delegate(person(office, giver), to, groups, until, "a day off")


async def approve(gate: Gate, office: Office, shown: ProposalView, name: str) -> ProposalView:
    return await gate.approve(shown.id, shown.digest or "", person(office, name), "cli")


@pytest.mark.anyio
async def test_a_deputy_approves_in_place_of_the_giver(gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(NotEligible):
        await approve(gate, office, shown, "mallory")
    loan = await lend(gate, office, "bob", "mallory")
    assert (await approve(gate, office, shown, "mallory")).state is State.APPROVED
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    assert len(cluster.writes) == 1
    entries = await office.ledger.entries()
    assert [entry.body["receiver"] for entry in entries if entry.type == "delegation.given"] == ["mallory"]
    assert await gate.delegations() == (loan,)
    report = await verify(office.store, Signer.load_or_create(tmp_path / KEY).verifier, anchor=tmp_path / ANCHOR)
    assert report.status == "intact", report.problems


@pytest.mark.anyio
async def test_giver_and_deputy_are_one_voice(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await gate.propose(Scale(replicas=0), WEB, cluster="lab", requester="ada", evidence=CALM)
    await lend(gate, office, "bob", "mallory")
    await approve(gate, office, shown, "mallory")
    both = await approve(gate, office, shown, "bob")
    assert (both.state, both.missing) == (State.PENDING, {"sre-oncall": 1})
    assert both.void == {"mallory": "is in none of the required groups now"}
    with pytest.raises(NotApproved):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await approve(gate, office, shown, "cleo")).state is State.APPROVED
    assert cluster.writes == []


@pytest.mark.anyio
async def test_nobody_stands_in_for_who_asked(gate: Gate, office: Office) -> None:
    await lend(gate, office, "ada", "mallory")
    shown = await propose_undo(gate)
    with pytest.raises(NotEligible):
        await approve(gate, office, shown, "mallory")
    contributed = await gate.propose(Scale(replicas=5), WEB, cluster="lab", requester="cleo", evidence=CALM, contributors=("ada",))
    with pytest.raises(NotEligible):
        await approve(gate, office, contributed, "mallory")
    assert (await approve(gate, office, await propose_undo(gate, "cleo"), "mallory")).state is State.APPROVED


@pytest.mark.anyio
async def test_a_deputy_cannot_approve_their_own_wish(gate: Gate, office: Office) -> None:
    await lend(gate, office, "bob", "mallory")
    shown = await propose_undo(gate, "mallory")
    with pytest.raises(OwnApproval):
        await approve(gate, office, shown, "mallory")


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["its day", "the giver ends it", "the deputy ends it", "the giver leaves the group", "the giver leaves"])
async def test_it_is_void_at_execution_when_it_is_over(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, how: str
) -> None:
    loan = await lend(gate, office, "bob", "mallory", until=START + timedelta(minutes=10))
    shown = await propose_undo(gate)
    await approve(gate, office, shown, "mallory")
    match how:
        case "its day":
            clock.pass_(minutes=10)
        case "the giver ends it":
            await gate.end_delegation(loan.id, person(office, "bob"))
        case "the deputy ends it":
            await gate.end_delegation(loan.id, person(office, "mallory"))
        case "the giver leaves the group":
            office.directory.set_groups("bob", [])
        case "the giver leaves":
            office.directory.remove("bob")
    with pytest.raises(NotApproved, match="none of the required groups"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


@pytest.mark.anyio
async def test_what_cannot_be_lent(gate: Gate, office: Office) -> None:
    office.directory.set_groups("bob", ["sre-oncall", "break-glass"])
    refused = {
        "cannot lend gpu-oncall": ("bob", "mallory", ("gpu-oncall",), START + DAY),
        "cannot lend break-glass": ("bob", "mallory", ("break-glass",), START + DAY),
        "cannot lend nothing": ("bob", "mallory", (), START + DAY),
        "cannot stand in for themselves": ("bob", "bob", SRE, START + DAY),
        "not in the directory": ("bob", "stranger", SRE, START + DAY),
        "within 14 days": ("bob", "mallory", SRE, START + timedelta(days=14, seconds=1)),
        "in the future": ("bob", "mallory", SRE, START),
    }
    for why, (giver, receiver, groups, until) in refused.items():
        with pytest.raises(NotEligible, match=why):
            await lend(gate, office, giver, receiver, groups, until)
    assert await gate.delegations() == ()


@pytest.mark.anyio
async def test_what_was_lent_is_not_lent_on_and_one_voice_has_one_deputy(gate: Gate, office: Office) -> None:
    loan = await lend(gate, office, "bob", "mallory")
    with pytest.raises(NotEligible, match="mallory cannot lend sre-oncall"):
        await lend(gate, office, "mallory", "cleo")
    with pytest.raises(NotEligible, match=f"mallory stands in for bob.*{loan.id}"):
        await lend(gate, office, "bob", "cleo")
    await gate.end_delegation(loan.id, person(office, "bob"))
    await lend(gate, office, "bob", "cleo")


@pytest.mark.anyio
async def test_who_may_end_it_and_once(gate: Gate, office: Office) -> None:
    loan = await lend(gate, office, "bob", "mallory")
    with pytest.raises(NotEligible, match="Only bob and mallory"):
        await gate.end_delegation(loan.id, person(office, "cleo"))
    await gate.end_delegation(loan.id, person(office, "bob"))
    for unknown in (loan.id, "d-999"):
        with pytest.raises(Conflict, match="in force"):
            await gate.end_delegation(unknown, person(office, "bob"))
    assert [(one.id, one.ended_by) for one in await gate.delegations()] == [(loan.id, "bob")]


FORGERIES = {
    "a row of its own": (
        "INSERT INTO delegation (id, giver, receiver, groups, reason, at, until, ended_by, entry) VALUES ('d-x', 'bob', 'mallory',"
        " '[\"sre-oncall\"]', '', '2026-11-25T10:00:00.000000+00:00', '2026-11-26T10:00:00.000000+00:00', '', 1)"
    ),
    "a day longer": "UPDATE delegation SET until = '2026-12-20T10:00:00.000000+00:00'",
    "to another": "UPDATE delegation SET receiver = 'mallory'",
    "one that was ended": "UPDATE delegation SET ended_by = ''",
    "more groups": 'UPDATE delegation SET groups = \'["gpu-oncall", "sre-oncall"]\'',
}


@pytest.mark.anyio
@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_loan_without_a_witness_is_forged(gate: Gate, office: Office, cluster: FakeCluster, forgery: str) -> None:
    if forgery != "a row of its own":
        loan = await lend(gate, office, "bob", "cleo")
    if forgery == "one that was ended":
        await gate.end_delegation(loan.id, person(office, "bob"))
    shown = await propose_undo(gate)
    async with office.store.write() as connection:
        assert (await connection.exec_driver_sql(FORGERIES[forgery])).rowcount == 1
    await approve(gate, office, shown, "mallory" if forgery in ("a row of its own", "to another") else "cleo")
    with pytest.raises(BadLedger, match=r"delegation .* is not in the ledger"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


def test_deputies_over_several_groups_and_givers() -> None:
    members = {"bob": ("sre",), "cleo": ("sre", "gpu"), "dan": ()}

    def loan(giver: str, *groups: str) -> Delegation:
        return Delegation("d", giver, "dan", groups, "", START, START + DAY)

    loans = (loan("bob", "sre"), loan("cleo", "gpu", "sre"), loan("gone", "sre"))
    assert with_deputies(members, loans, asked=("ada",), decided=())["dan"] == ("sre", "gpu")
    assert with_deputies(members, loans, asked=("CLEO",), decided=("Bob",))["dan"] == ()
    assert with_deputies({"cleo": ("gpu",)}, loans, asked=(), decided=()) == {"cleo": ("gpu",)}
