"""What is taken down of what people say, and what is not."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from guardrails.action import Scale
from guardrails.directory import Person
from guardrails.errors import IllegalTransition, NotEligible
from guardrails.gate import Gate
from guardrails.office import Office
from guardrails.proposal import State
from guardrails.store import approvals
from tests.guardrails.conftest import CALM, UNDO, WEB, person, propose_undo

pytestmark = pytest.mark.anyio


async def said(office: Office) -> int:
    async with office.store.read() as connection:
        return (await connection.execute(select(func.count()).select_from(approvals))).scalar_one()


async def test_who_is_in_no_directory_says_nothing(gate: Gate, office: Office) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(NotEligible, match=r"stranger is not in the directory.*people add"):
        await gate.approve(shown.id, shown.digest or "", Person(name="stranger", groups=("sre-oncall",)), "cli")
    assert await said(office) == 0


async def test_nobody_is_asked_about_what_the_policy_denied(gate: Gate, office: Office) -> None:
    await gate.pause("cleo", "stop")
    shown = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM)
    assert (shown.state, shown.digest) == (State.DENIED, None)
    with pytest.raises(IllegalTransition, match="nobody is asked"):
        await gate.approve(shown.id, "", person(office, "bob"), "cli")


async def test_nobody_changes_their_mind(gate: Gate, office: Office) -> None:
    """An approval is an entry of the ledger: whoever regrets it asks the requester to withdraw, or turns the kill switch."""
    shown = await gate.propose(UNDO.model_copy(update={"to_revision": 1}), WEB, cluster="lab", requester="ada", evidence=CALM)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    with pytest.raises(IllegalTransition, match="only a pending"):
        await gate.deny(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert await said(office) == 1


async def test_nobody_says_both_of_what_still_waits(gate: Gate, office: Office) -> None:
    shown = await gate.propose(Scale(replicas=0), WEB, cluster="lab", requester="ada", evidence=CALM)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    with pytest.raises(IllegalTransition, match="bob has already decided"):
        await gate.deny(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert (await gate.status(shown.id)).state is State.PENDING


async def test_saying_the_same_again_changes_nothing_also_when_it_is_decided(gate: Gate, office: Office) -> None:
    shown = await propose_undo(gate)
    bob = person(office, "bob")
    for _ in range(2):
        assert (await gate.deny(shown.id, shown.digest or "", bob, "cli")).state is State.DENIED
    assert await said(office) == 1
