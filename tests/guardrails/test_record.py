"""The state machine in the database, on both: every pair of states, and every legal transition as people and clusters bring it about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select, update

from guardrails.action import RolloutRestart, RolloutUndo, target
from guardrails.errors import Conflict, GuardrailsError, IllegalTransition
from guardrails.executor import Executor
from guardrails.gate import VALIDATION_SECONDS, Gate
from guardrails.office import Office
from guardrails.port import Receipt
from guardrails.proposal import TRANSITIONS, State
from guardrails.record import load, move, touch
from guardrails.store import proposals
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, UNDO, WEB, FakeClock, on_both, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster, break_down, deployment, replica_set, roll_out

pytestmark = [pytest.mark.anyio, on_both]


async def _put(office: Office, record_id: str, state: State) -> None:
    """Write a state without asking the machine."""
    async with office.store.write() as connection:
        await connection.execute(update(proposals).where(proposals.c.id == record_id).values(state=state.value))


async def test_every_pair_of_states(gate: Gate, office: Office) -> None:
    name = (await propose_undo(gate)).id
    made = 0
    for before in State:
        await _put(office, name, before)
        async with office.store.read() as connection:
            record = await load(connection, name)
        entries = len(await office.ledger.entries())
        legal = TRANSITIONS.get(before, frozenset())
        async with office.ledger.transaction() as writing:
            for after in set(State) - legal:
                with pytest.raises(IllegalTransition, match=f"is {before} cannot become {after}"):
                    await move(writing, record, after, by="somebody")
        async with office.store.read() as connection:
            assert await load(connection, name) == record
        assert len(await office.ledger.entries()) == entries
        for after in sorted(legal):
            async with office.ledger.transaction() as writing:
                moved = await move(writing, record, after, by="somebody")
            assert (moved.state, moved.version) == (after, record.version + 1)
            assert (await office.ledger.entries())[-1].body["to"] == after
            made += 1
            await _put(office, name, before)
            async with office.store.read() as connection:
                record = await load(connection, name)
    assert made == sum(len(after) for after in TRANSITIONS.values())


async def test_who_holds_an_old_record_changes_nothing(gate: Gate, office: Office) -> None:
    name = (await propose_undo(gate)).id
    async with office.store.read() as connection:
        old = await load(connection, name)
    async with office.ledger.transaction() as writing:
        new = await touch(writing, old, reason="newer")
    for change in (lambda writing: move(writing, old, State.EXPIRED, by="somebody"), lambda writing: touch(writing, old, reason="older")):

        async def lose(change: Callable[..., Awaitable[object]] = change) -> None:
            async with office.ledger.transaction() as writing:
                await change(writing)

        with pytest.raises(Conflict, match="somebody else"):
            await lose()
    async with office.store.read() as connection:
        assert await load(connection, name) == new


class Play:
    """What people do and what happens to the cluster, one object for each scene."""

    def __init__(self, gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
        self.gate, self.office, self.cluster, self.clock = gate, office, cluster, clock
        self._scenes = 0

    async def wish(self, requester: str = "ada") -> ProposalView:
        """A proposal that is pending, about an object of its own."""
        self._scenes += 1
        self.name = f"web{self._scenes}"
        for raw in (deployment(name=self.name), replica_set(1, "web:1", self.name), replica_set(2, "web:2", self.name)):
            self.cluster.put(raw)
        # An hour apart, so that neither budget nor circuit breaker speaks.
        self.clock.pass_(hours=2)
        self.cluster.heal = roll_out
        self.on = target("Deployment", "shop", self.name)
        return await self.gate.propose(UNDO, self.on, cluster="lab", requester=requester, evidence=CALM)

    async def agreed(self) -> ProposalView:
        shown = await self.wish()
        return await self.gate.approve(shown.id, shown.digest or "", person(self.office, "bob"), "cli")

    async def run(self, shown: ProposalView, on_step: Callable[[str], None] = lambda _: None) -> None:
        try:
            await Executor(self.office, on_step).execute(shown.id, shown.digest or "", "ada")
        except GuardrailsError:
            return

    def replace(self) -> None:
        self.cluster.get("Deployment", self.name, "shop")["metadata"]["uid"] = "another"


async def _played(play: Play) -> None:
    gate, office, cluster, clock = play.gate, play.office, play.cluster, play.clock
    # proposed and validating, left by a process that died; swept.
    name = (await play.wish()).id
    await _put(office, name, State.PROPOSED)
    clock.pass_(seconds=VALIDATION_SECONDS + 1)
    await gate.sweep()
    # validating → rejected, denied, approved (pending is every wish).
    await gate.propose(RolloutUndo(to_revision=9), WEB, cluster="lab", requester="ada", evidence=CALM)
    await gate.pause("cleo", "stop")
    await play.wish()
    await gate.resume("cleo", "go")
    web = deployment(name="calm")
    web["metadata"]["namespace"] = "staging-1"
    cluster.put(web)
    restarted = await gate.propose(
        RolloutRestart(), target("Deployment", "staging-1", "calm"), cluster="lab", requester="ada", evidence=CALM
    )
    assert restarted.state is State.APPROVED, restarted.detail
    # pending → denied, expired, withdrawn, superseded, approved.
    shown = await play.wish()
    await gate.deny(shown.id, shown.digest or "", person(office, "bob"), "cli")
    await play.wish()
    clock.pass_(hours=1)
    await gate.sweep()
    await gate.withdraw((await play.wish()).id, "ada")
    await play.wish()
    await gate.propose(RolloutUndo(to_revision=1), play.on, cluster="lab", requester="ada", evidence=CALM)
    # approved → stale, expired, pending, withdrawn, superseded, executing.
    shown = await play.agreed()
    play.replace()
    await play.run(shown)
    shown = await play.agreed()
    clock.pass_(hours=1)
    await play.run(shown)
    shown = await play.agreed()
    cluster.forbid = {"patch"}
    await play.run(shown)
    cluster.forbid = set()
    await gate.withdraw((await play.agreed()).id, "ada")
    await play.agreed()
    await gate.propose(RolloutUndo(to_revision=1), play.on, cluster="lab", requester="ada", evidence=CALM)
    # executing → failed (and closed), unknown, rehearsed; verifying → succeeded, inconclusive, failed.
    for answer in (Receipt("refused", "no", 422), Receipt("unknown", "500", 500)):
        cluster.answers = [answer]
        await play.run(await play.agreed())
    cluster.rehearsal = True
    await play.run(await play.agreed())
    cluster.rehearsal = False
    await play.run(await play.agreed())
    shown = await play.agreed()
    cluster.heal = lambda raw: None
    await play.run(shown)
    # rolling_back → rolled_back, rollback_failed.
    shown = await play.agreed()
    cluster.heal = break_down
    await play.run(shown)
    shown = await play.agreed()
    cluster.heal = break_down
    await play.run(shown, lambda step: cluster.answers.append(Receipt("refused", "no", 422)) if step == "rollback:intended" else None)


async def test_every_legal_transition_is_reached(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    await _played(Play(gate, office, cluster, clock))
    moves = [entry.body for entry in await office.ledger.entries() if entry.type == "proposal.moved"]
    reached = {(State(body["from"]), State(body["to"])) for body in moves}
    legal = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
    assert reached == legal
    async with office.store.read() as connection:
        ended = {State(state) for state in (await connection.execute(select(proposals.c.state))).scalars()}
    assert ended >= set(State) - set(TRANSITIONS)
