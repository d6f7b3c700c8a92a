"""One open proposal for one wish: what is asked twice, what takes the place of what, and what must not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardrails.action import Action, Scale, Target
from guardrails.audit import verify
from guardrails.blob import Attachment
from guardrails.budget import count
from guardrails.errors import BadLedger, IllegalTransition, InvalidAction, KeyTaken, Stale, Unreachable
from guardrails.gate import Gate
from guardrails.intake import ATTACHMENTS_MAX
from guardrails.note import Signer
from guardrails.office import ANCHOR, KEY, Office
from guardrails.port import Observed
from guardrails.proposal import Evidence, State
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, UNDO, WEB, FakeClock, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster

pytestmark = pytest.mark.anyio
TAINTED = Evidence(root="r", ids=("e1",), tainted=True)


async def scale(gate: Gate, replicas: int, requester: str = "ada", evidence: Evidence = CALM) -> ProposalView:
    return await gate.propose(Scale(replicas=replicas), WEB, cluster="lab", requester=requester, evidence=evidence)


async def state(gate: Gate, shown: ProposalView) -> State:
    return (await gate.status(shown.id)).state


@pytest.mark.parametrize("rehearsed_first", [True, False])
async def test_a_rehearsal_and_the_live_cluster_of_that_name_keep_out_of_each_others_way(
    gate: Gate, office: Office, cluster: FakeCluster, rehearsed_first: bool
) -> None:
    """Neither another wish, nor the same one, nor the same key, nor an execution on the one side touches the other."""
    cluster.rehearsal = rehearsed_first
    first = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    await gate.approve(first.id, first.digest or "", person(office, "bob"), "cli")
    cluster.rehearsal = not rehearsed_first
    same = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    other = await scale(gate, 5)
    assert len({first.id, same.id, other.id}) == 3
    assert [await state(gate, shown) for shown in (first, same, other)] == [State.APPROVED, State.SUPERSEDED, State.PENDING]
    with pytest.raises(Stale, match="on a recording" if rehearsed_first else "on the live cluster"):
        await gate.execute(first.id, first.digest or "", "ada")
    assert (await state(gate, first), cluster.writes) == (State.APPROVED, [])
    cluster.rehearsal = rehearsed_first
    ended = State.REHEARSED if rehearsed_first else State.SUCCEEDED
    assert (await gate.execute(first.id, first.digest or "", "ada")).state is ended


async def test_rehearsals_are_marked_and_spend_nothing_of_the_live_clusters_budget(
    gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path
) -> None:
    """Nor does a rehearsal that somebody refused keep an agent from asking the live cluster."""
    cluster.rehearsal = True
    bob = person(office, "bob")
    rehearsed = await scale(gate, 4)
    assert rehearsed.rehearsal
    assert rehearsed.summary.startswith("[rehearsal on a recording] ")
    await gate.approve(rehearsed.id, rehearsed.digest or "", bob, "cli")
    assert (await gate.status(rehearsed.id)).next_step.endswith("--recording DIR")
    assert (await gate.execute(rehearsed.id, rehearsed.digest or "", "ada")).state is State.REHEARSED
    refused = await scale(gate, 5, evidence=TAINTED)
    await gate.deny(refused.id, refused.digest or "", bob, "cli")
    denied = await scale(gate, 31)
    assert (denied.state, denied.rehearsal, denied.digest) == (State.DENIED, True, None)
    async with office.store.read() as connection:
        at = office.clock.now()
        target = WEB.model_dump(mode="json")
        spent = [await count(connection, "lab", "scale", target, at, rehearsal=rehearsal) for rehearsal in (True, False)]
    assert [(one.changes, one.denied_at) for one in spent] == [(1, at), (0, None)]
    cluster.rehearsal = False
    live = await scale(gate, 5, evidence=TAINTED)
    assert (live.state, live.rehearsal, live.summary) == (State.PENDING, False, "Scale Deployment/shop/web from 3 to 5 replicas")
    report = await verify(office.store, Signer.load_or_create(tmp_path / KEY).verifier, anchor=tmp_path / ANCHOR)
    assert report.status == "intact", report.problems


async def test_a_live_change_that_writes_of_rehearsals_counts_as_live(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    """What marks a rehearsal in the tables cannot be written by whoever proposes, nor by an object."""
    cluster.get("Deployment", "web", "shop")["metadata"]["annotations"] = {"note": '"rehearsal": true'}
    shown = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM, reason='{"rehearsal": true}')
    assert not shown.rehearsal
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    await gate.execute(shown.id, shown.digest or "", "ada")
    async with office.store.read() as connection:
        found = await count(connection, "lab", "scale", WEB.model_dump(mode="json"), office.clock.now())
    assert found.changes == 1


async def test_a_key_stands_for_one_wish_of_one_person(gate: Gate, cluster: FakeCluster) -> None:
    first = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    with pytest.raises(KeyTaken, match="stands for somebody else's proposal") as refused:
        await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="bob", evidence=CALM, key="incident-1")
    assert first.id not in str(refused.value)
    for action, on in ((Scale(replicas=5), WEB), (UNDO, WEB), (Scale(replicas=4), WEB.model_copy(update={"name": "other"}))):
        with pytest.raises(KeyTaken, match=f"stands for {first.id}, which asks for something else. Use a key of its own"):
            await gate.propose(action, on, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    # A key under which an open proposal was met again stands for that one.
    assert (await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-2")).id == first.id
    with pytest.raises(KeyTaken):
        await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-2")
    assert [shown.id for shown in await gate.list()] == [first.id]


async def test_the_same_wish_is_one_proposal_and_keeps_its_approvals(gate: Gate, office: Office) -> None:
    first = await scale(gate, 0)
    await gate.approve(first.id, first.digest or "", person(office, "bob"), "cli")
    again = await gate.propose(Scale(replicas=0), WEB, cluster="lab", requester="ada", evidence=CALM, reason="still needed")
    assert (again.id, again.missing) == (first.id, {"sre-oncall": 1})
    assert len(await gate.list()) == 1


async def test_another_wish_for_the_same_object_supersedes(gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    first = await scale(gate, 4)
    await gate.approve(first.id, first.digest or "", person(office, "bob"), "cli")
    second = await scale(gate, 5)
    assert second.state is State.PENDING
    before = await gate.status(first.id)
    assert (before.state, before.detail) == (State.SUPERSEDED, f"ada asked anew: {second.id}.")
    assert before.next_step == ""
    with pytest.raises(IllegalTransition, match=f"superseded.*{second.id}"):
        await gate.execute(first.id, first.digest or "", "ada")
    with pytest.raises(IllegalTransition, match="superseded"):
        await gate.approve(first.id, first.digest or "", person(office, "cleo"), "cli")
    assert [shown.id for shown in await gate.list(open_only=True)] == [second.id]
    assert cluster.writes == []
    report = await verify(office.store, Signer.load_or_create(tmp_path / KEY).verifier, anchor=tmp_path / ANCHOR)
    assert report.status == "intact", report.problems


async def test_what_supersedes_nothing(gate: Gate, cluster: FakeCluster) -> None:
    """Another person's wish, another action, a wish that comes to nothing, and an agent's wish over a person's own."""
    first = await scale(gate, 4)
    await scale(gate, 5, requester="bob")
    await propose_undo(gate)
    assert (await scale(gate, 31)).state is State.DENIED
    assert (await scale(gate, 3)).state is State.REJECTED
    assert (await scale(gate, 6, evidence=TAINTED)).state is State.PENDING
    assert await state(gate, first) is State.PENDING


async def test_a_person_supersedes_an_agent_that_asked_for_them_and_an_agent_itself(gate: Gate) -> None:
    agents = await scale(gate, 4, evidence=TAINTED)
    later = await scale(gate, 5, evidence=TAINTED)
    assert await state(gate, agents) is State.SUPERSEDED
    persons = await scale(gate, 5)
    assert persons.id != later.id, "what a person asks for without an agent is another thing to approve"
    assert await state(gate, later) is State.SUPERSEDED


async def test_the_same_wish_after_the_object_changed_is_a_new_one(gate: Gate, cluster: FakeCluster) -> None:
    first = await scale(gate, 4)
    cluster.edit(cluster.get("Deployment", "web", "shop"))
    second = await scale(gate, 4)
    assert second.id != first.id
    assert await state(gate, first) is State.SUPERSEDED


async def test_the_same_wish_after_its_end_is_a_new_one(gate: Gate, office: Office, clock: FakeClock) -> None:
    first = await scale(gate, 4)
    clock.pass_(hours=1)
    second = await scale(gate, 4)
    assert second.id != first.id
    await gate.deny(second.id, second.digest or "", person(office, "bob"), "cli")
    third = await scale(gate, 4)
    assert third.id not in (first.id, second.id)


async def test_the_same_wish_is_judged_again(gate: Gate) -> None:
    first = await scale(gate, 4)
    await gate.pause("bob", "stop")
    second = await scale(gate, 4)
    assert (second.state, second.id != first.id) == (State.DENIED, True)
    assert await state(gate, first) is State.PENDING


async def test_a_second_key_finds_the_same_proposal_also_when_it_has_ended(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    """A caller that was killed asks again under its key: what was done for it meanwhile must not be done twice."""
    first = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    second = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-2")
    assert second.id == first.id
    await gate.approve(first.id, first.digest or "", person(office, "bob"), "cli")
    await gate.execute(first.id, first.digest or "", "ada")
    for key in ("incident-1", "incident-2"):
        again = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, key=key)
        assert (again.id, again.state) == (first.id, State.SUCCEEDED)
    assert len(cluster.writes) == 1


async def test_names_that_are_none(gate: Gate) -> None:
    for name in ("", "ada lovelace", "ada\n", "\u0430da"):
        with pytest.raises(InvalidAction, match="no legal name"):
            await gate.propose(UNDO, WEB, cluster="lab", requester=name, evidence=CALM)
        with pytest.raises(InvalidAction, match="no legal name"):
            await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, contributors=(name,))
    assert await gate.list() == ()


async def test_when_the_cluster_is_silent_the_open_proposal_is_not_taken_for_granted(gate: Gate, cluster: FakeCluster) -> None:
    first = await scale(gate, 4)

    async def silent(action: Action, target: Target) -> Observed:
        raise Unreachable("The cluster did not answer.")

    cluster.observe = silent  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        await scale(gate, 4)
    assert {shown.id: shown.state for shown in await gate.list()}[first.id] is State.PENDING
    assert sorted(shown.state for shown in await gate.list()) == [State.PENDING, State.REJECTED]


async def test_what_a_wish_rests_on_is_kept_and_can_be_erased(gate: Gate, office: Office, tmp_path: Path) -> None:
    evidence = Attachment("evidence", "ev:1 event Pod/shop/web: pull failed, password=hunter2hunter2")
    prompts = tuple(Attachment("prompt", f"round {number}") for number in range(ATTACHMENTS_MAX))
    shown = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, attachments=(evidence, *prompts))
    created = (await office.ledger.entries(shown.id))[0]
    named = created.body["blobs"]
    assert [one["kind"] for one in named] == ["evidence"] + ["prompt"] * (ATTACHMENTS_MAX - 1)
    kept = await office.ledger.blob(named[0]["commitment"])
    assert "pull failed" in kept.content
    assert "hunter2" not in kept.content
    assert "pull failed" not in json.dumps(created.body)
    await office.ledger.erase(named[0]["commitment"], by="bob", reason="a name stood in it")
    with pytest.raises(BadLedger, match="erased"):
        await office.ledger.blob(named[0]["commitment"])
    # Asking again for what is open keeps nothing twice.
    await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, attachments=prompts)
    assert len([entry for entry in await office.ledger.entries(shown.id) if "blobs" in entry.body]) == 1
    report = await verify(office.store, Signer.load_or_create(tmp_path / KEY).verifier, anchor=tmp_path / ANCHOR)
    assert report.status == "intact", report.problems


async def test_an_approved_proposal_can_be_withdrawn(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert (await gate.withdraw(shown.id, "ada", reason="solved otherwise")).state is State.WITHDRAWN
    with pytest.raises(IllegalTransition):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []
