"""What may not be executed says why, every time it is tried, and what to do instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from guardrails.action import Scale
from guardrails.errors import DigestMismatch, Expired, GuardrailsError, IllegalTransition, Stale
from guardrails.gate import Gate
from guardrails.office import Office
from guardrails.proposal import State
from guardrails.store import proposals
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, WEB, FakeClock, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster

pytestmark = pytest.mark.anyio
End = Callable[[Gate, Office, FakeCluster, FakeClock], Awaitable[ProposalView]]


async def expired(gate: Gate, _office: Office, _cluster: FakeCluster, clock: FakeClock) -> ProposalView:
    shown = await propose_undo(gate)
    clock.pass_(hours=1)
    await gate.sweep()
    return shown


async def stale(gate: Gate, office: Office, cluster: FakeCluster, _clock: FakeClock) -> ProposalView:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.edit(cluster.get("Deployment", "web", "shop"))
    with pytest.raises(Stale):
        await gate.execute(shown.id, shown.digest or "", "ada")
    return shown


async def superseded(gate: Gate, _office: Office, _cluster: FakeCluster, _clock: FakeClock) -> ProposalView:
    first = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM)
    await gate.propose(Scale(replicas=5), WEB, cluster="lab", requester="ada", evidence=CALM)
    return first


async def withdrawn(gate: Gate, _office: Office, _cluster: FakeCluster, _clock: FakeClock) -> ProposalView:
    shown = await propose_undo(gate)
    await gate.withdraw(shown.id, "ada")
    return shown


@pytest.mark.parametrize(
    ("end", "error", "why"),
    [
        (expired, Expired, "has expired.*Propose again"),
        (stale, Stale, "is stale.*generation 3.*Propose again"),
        (superseded, IllegalTransition, "is superseded.*asked anew"),
        (withdrawn, IllegalTransition, "is withdrawn"),
    ],
)
async def test_what_has_ended(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, end: End, error: type[GuardrailsError], why: str
) -> None:
    shown = await end(gate, office, cluster, clock)
    before = (await gate.status(shown.id)).state
    for _ in range(2):
        with pytest.raises(error, match=why):
            await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is before
    assert cluster.writes == []


async def test_a_document_that_no_longer_gives_its_digest_is_not_executed(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    """Somebody with the database edits what is to be sent, and leaves what people agreed to."""
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    async with office.store.write() as connection:
        document = (await connection.execute(proposals.select())).one().document
        assert "web:1" in document
        edited = proposals.update().values(document=document.replace("web:1", "evil:1"))
        assert (await connection.execute(edited)).rowcount == 1
    with pytest.raises(DigestMismatch):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is State.APPROVED
    assert cluster.writes == []
