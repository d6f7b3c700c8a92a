"""Death at every step, and what is found afterwards: the effect at most once, and a state that is true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from guardrails.action import DeletePod, RolloutUndo, target
from guardrails.audit import verify
from guardrails.budget import spend
from guardrails.claim import LEASE_SECONDS
from guardrails.directory import Directory
from guardrails.errors import AlreadyExecuted, BudgetSpent, Conflict, Denied, InvalidGrant
from guardrails.executor import Executor, Outcome
from guardrails.gate import Gate
from guardrails.note import Signer
from guardrails.office import ANCHOR, KEY, Office, open_office
from guardrails.proposal import State
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, FakeClock, numbered, on_both, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster, break_down, deployment, pod, replica_set, roll_out, template

pytestmark = [pytest.mark.anyio, on_both]


class Killed(BaseException):
    """The process ends here: nothing below catches it."""


def die_at(step: str) -> Callable[[str], None]:
    def on_step(name: str) -> None:
        if name == step:
            raise Killed(step)

    return on_step


async def _approved(gate: Gate, office: Office, requester: str = "ada") -> ProposalView:
    shown = await propose_undo(gate, requester)
    return await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")


async def _execute(office: Office, shown: ProposalView, on_step: Callable[[str], None]) -> Outcome:
    return await Executor(office, on_step).execute(shown.id, shown.digest or "", "ada")


async def _intact(office: Office, folder: Path) -> None:
    report = await verify(office.store, Signer.load_or_create(folder / KEY).verifier, anchor=folder / ANCHOR)
    assert report.status == "intact", report.problems


STEPS = (
    "claimed",
    "change:intended",
    "change:sent",
    "change:recorded",
    "verifying",
    "verified",
    "ending:succeeded",
)
ROLLBACK_STEPS = (
    "verified",
    "failed",
    "rolling_back",
    "rollback:intended",
    "rollback:sent",
    "rollback:recorded",
    "ending:rolled_back",
)


async def test_the_steps_are_all_there_are(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    seen: list[str] = []
    await _execute(office, await _approved(gate, office), seen.append)
    assert tuple(seen) == (*STEPS, "ended:succeeded")
    cluster.put(deployment())
    cluster.heal = break_down
    seen.clear()
    await _execute(office, await _approved(gate, office), seen.append)
    assert tuple(seen) == (*STEPS[:5], *ROLLBACK_STEPS, "ended:rolled_back")


@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_changing(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path, step: str) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at(step))
    with pytest.raises(AlreadyExecuted):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert await gate.recover() == (), "the lease still runs"
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.SUCCEEDED, outcome.detail
    assert len(cluster.writes) == 1
    assert cluster.get("Deployment", "web", "shop")["spec"]["template"] == template("web:1")
    await _intact(office, tmp_path)


@pytest.mark.parametrize("step", ROLLBACK_STEPS)
async def test_killed_while_rolling_back(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path, step: str
) -> None:
    cluster.heal = break_down
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at(step))
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.ROLLED_BACK, outcome.detail
    assert len(cluster.writes) == 2
    assert cluster.get("Deployment", "web", "shop")["spec"]["template"] == template("web:2")
    await _intact(office, tmp_path)


@pytest.mark.parametrize("step", ["change:intended", "change:sent"])
async def test_killed_while_deleting(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, step: str) -> None:
    shown = await gate.propose(DeletePod(), target("Pod", "shop", "web-h2-x"), cluster="lab", requester="ada", evidence=CALM)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    with pytest.raises(Killed):
        await _execute(office, shown, die_at(step))
    if step == "change:sent":
        replacement = pod("web-h2-x", ready=True)
        replacement["metadata"]["uid"] = "uid-of-the-replacement"
        cluster.put(replacement)
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.SUCCEEDED, outcome.detail
    assert len(cluster.writes) == 1


async def test_execute_again_takes_over_after_the_lease(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at("change:sent"))
    clock.pass_(seconds=LEASE_SECONDS)
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    assert len(cluster.writes) == 1


@pytest.mark.parametrize(("step", "said"), [("change:sent", "its change is under way"), ("verifying", "its change is made")])
async def test_until_then_it_is_told_how_far_it_is_and_when_it_can_be_taken_up(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, step: str, said: str
) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at(step))
    clock.pass_(seconds=20)
    with pytest.raises(AlreadyExecuted, match=said) as refused:
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert "alive 20 seconds ago" in str(refused.value)
    assert refused.value.next_step
    assert f"'smokejumper execute {shown.id}'" in refused.value.next_step
    assert f"in {LEASE_SECONDS - 20} seconds" in refused.value.next_step
    clock.pass_(seconds=LEASE_SECONDS - 20)
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    assert len(cluster.writes) == 1


async def test_killed_before_the_write_and_too_late_afterwards(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at("change:intended"))
    clock.pass_(hours=1)
    (outcome,) = await gate.recover()
    assert outcome.state is State.CLOSED
    assert cluster.writes == []


async def test_killed_and_the_switch_is_on_afterwards(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at("change:intended"))
    await gate.pause("cleo", "stop")
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.CLOSED
    assert cluster.writes == []


async def test_killed_and_somebody_changed_the_object(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at("change:intended"))
    cluster.edit(cluster.get("Deployment", "web", "shop"))
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.UNKNOWN
    assert outcome.needs_a_human
    assert cluster.writes == []


async def test_killed_before_anything_was_to_be_sent_nothing_is_unknown(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path
) -> None:
    shown = await _approved(gate, office)
    with pytest.raises(Killed):
        await _execute(office, shown, die_at("claimed"))
    cluster.edit(cluster.get("Deployment", "web", "shop"))
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.CLOSED
    assert "Nothing was changed. The process died before anything was sent" in outcome.detail
    assert cluster.writes == []
    await _intact(office, tmp_path)


async def test_a_zombie_cannot_write_after_its_lease(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    shown = await _approved(gate, office)

    def sleep_through(step: str) -> None:
        if step == "change:intended":
            clock.pass_(seconds=LEASE_SECONDS)

    with pytest.raises(InvalidGrant, match="ended"):
        await _execute(office, shown, sleep_through)
    assert cluster.writes == []
    (outcome,) = await gate.recover()
    assert outcome.state is State.SUCCEEDED
    assert len(cluster.writes) == 1


async def test_a_zombie_cannot_record_what_another_has_taken_over(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path, database: str | None
) -> None:
    """The first process wrote, slept past its lease and wakes up; meanwhile a second one has finished."""
    shown = await _approved(gate, office)
    asleep, awake = anyio.Event(), anyio.Event()
    outcomes: list[str] = []

    async def slow_apply() -> None:
        original = cluster.check

        async def check_and_sleep(check: object) -> object:
            asleep.set()
            await awake.wait()
            return await original(check)  # type: ignore[arg-type]

        slow = _Slow(cluster, check_and_sleep)
        ports = {"lab": slow}
        async with open_office(tmp_path, ports, estate=office.estate, clock=clock, database=database) as other:  # type: ignore[arg-type]
            try:
                await Executor(other).execute(shown.id, shown.digest or "", "ada")
            except Conflict:
                outcomes.append("conflict")

    async with anyio.create_task_group() as group:
        group.start_soon(slow_apply)
        await asleep.wait()
        clock.pass_(seconds=LEASE_SECONDS)
        outcomes.extend(outcome.state for outcome in await gate.recover())
        awake.set()
    assert outcomes == ["succeeded", "conflict"]
    assert len(cluster.writes) == 1


class _Slow:
    """The same cluster, reached over a slow line."""

    def __init__(self, cluster: FakeCluster, check: Callable[[object], object]) -> None:
        self._cluster = cluster
        self.check = check

    def __getattr__(self, name: str) -> object:
        return getattr(self._cluster, name)


async def test_one_change_per_object_at_a_time(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    first, second = await _approved(gate, office), await _approved(gate, office, "cleo")
    with pytest.raises(Killed):
        await _execute(office, first, die_at("change:intended"))
    with pytest.raises(BudgetSpent, match=first.id):
        await gate.execute(second.id, second.digest or "", "ada")
    assert cluster.writes == []


async def test_the_budget_holds_under_racing_claims(tmp_path: Path, clock: FakeClock, people: Directory, database: str | None) -> None:
    """Nineteen changes are spent; of eight more that race, one is allowed."""
    names = [f"web{i}" for i in range(8)]
    objects = [o for n in names for o in (deployment(name=n), replica_set(1, "web:1", n), replica_set(2, "web:2", n))]
    cluster = FakeCluster(clock, *objects)
    cluster.heal = roll_out
    async with open_office(tmp_path, {"lab": cluster}, clock=clock, ids=numbered(), database=database) as office:
        gate = Gate(office)
        proposed: list[ProposalView] = []
        for name in names:
            shown = await gate.propose(RolloutUndo(), target("Deployment", "shop", name), cluster="lab", requester="ada", evidence=CALM)
            proposed.append(await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli"))
        async with office.store.write() as connection:
            for number in range(19):
                await spend(connection, f"earlier-{number}", "lab", automatic=False, now=clock.now())
        results: list[str] = []

        async def run(shown: ProposalView) -> None:
            try:
                results.append((await gate.execute(shown.id, shown.digest or "", "ada")).state)
            except Denied as error:
                results.append(error.code)

        async with anyio.create_task_group() as group:
            for shown in proposed:
                group.start_soon(run, shown)
        assert sorted(results) == ["denied"] * 7 + ["succeeded"]
        assert len(cluster.writes) == 1
