"""C. Approvals that are none: steps against the real gate, the last of which must be refused with nothing written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestParams, ElicitResult

from guardrails.action import Scale, target
from guardrails.budget import APPROVALS_PER_MINUTE
from guardrails.bundle import SHIPPED
from guardrails.errors import GuardrailsError, TooManyApprovals
from guardrails.gate import Gate
from guardrails.office import Office
from guardrails.proposal import State
from guardrails.view import ProposalView
from mcp_server.confirmation import KEY
from oncall.cli import run
from oncall.desk import open_records
from tests.attacks.corpus import Attack, runnable
from tests.attacks.stage import desk, planted
from tests.guardrails.conftest import CALM, UNDO, WEB, FakeClock, person
from tests.guardrails.fake_cluster import FakeCluster, deployment

TIGHTER = """
@id("deny-everything-from-now-on") @effect("deny")
forbid (principal, action in Smokejumper::Action::"mutate", resource);
"""


class Play:
    """Carries out the steps of one attack."""

    def __init__(self, office: Office, cluster: FakeCluster, clock: FakeClock, folder: Path) -> None:
        self.office, self.cluster, self.clock, self.folder = office, cluster, clock, folder
        self.gate = Gate(office)
        self.shown: ProposalView | None = None

    async def step(self, step: str | dict[str, Any]) -> None:
        word, value = (step, None) if isinstance(step, str) else next(iter(step.items()))
        match word:
            case "propose":
                self.shown = await self.gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM)
            case "propose scale to zero":
                self.shown = await self.gate.propose(Scale(replicas=0), WEB, cluster="lab", requester="ada", evidence=CALM)
            case "approve":
                assert isinstance(step, dict)
                digest = str(step.get("digest", self._proposal.digest))
                await self.gate.approve(self._proposal.id, digest, person(self.office, str(value)), step.get("channel", "cli"))
            case "leave":
                self.office.directory.remove(str(value))
            case "pass":
                self.clock.pass_(seconds=float(str(value)))
            case "tighten":
                self._tighten()
            case "replace":
                fresh = deployment()
                fresh["metadata"]["uid"] = "uid-of-another"
                self.cluster.put(fresh)
            case "execute":
                await self.gate.execute(self._proposal.id, self._proposal.digest or "", "ada")
            case _:
                raise ValueError(f"no step is called {word!r}")

    @property
    def _proposal(self) -> ProposalView:
        assert self.shown is not None
        return self.shown

    def _tighten(self) -> None:
        folder = self.folder / "tighter"
        shutil.copytree(SHIPPED, folder)
        (folder / "zz.cedar").write_text(TIGHTER, encoding="utf-8")
        (folder / "policy_test.yaml").write_text("cases: [{name: nothing goes, want: deny}]\n", encoding="utf-8")
        self.office.bundles.reload(folder, self.office.directory.groups)


@pytest.fixture
def play(office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path) -> Play:
    return Play(office, cluster, clock, tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("approvals", "gate"), ids=str)
async def test_the_gate_refuses(attack: Attack, play: Play) -> None:
    *before, last = attack.input
    for step in before:
        await play.step(step)
    with pytest.raises(GuardrailsError) as refusal:
        await play.step(last)
    assert re.fullmatch(attack.expect, refusal.value.code), refusal.value
    assert play.cluster.writes == []


@pytest.mark.anyio
async def test_the_same_steps_without_the_attack_go_through(play: Play) -> None:
    for step in ("propose", {"approve": "bob"}, "execute"):
        await play.step(step)
    assert len(play.cluster.writes) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("approvals", "approval rate"), ids=str)
async def test_nobody_approves_faster_than_they_read(attack: Attack, play: Play) -> None:
    number, seconds = attack.input["approvals"], attack.input["seconds"]
    asked = []
    for index in range(number):
        play.cluster.put(deployment(name=f"web-{index}"))
        on = target("Deployment", "shop", f"web-{index}")
        asked.append(await play.gate.propose(Scale(replicas=4), on, cluster="lab", requester="ada", evidence=CALM))
    refused, codes = [], set()
    for shown in asked:
        try:
            await play.gate.approve(shown.id, shown.digest or "", person(play.office, "bob"), "slack")
        except GuardrailsError as error:
            refused.append(shown.id)
            codes.add(error.code)
        if shown is not asked[-1]:
            play.clock.pass_(seconds=seconds / number)
    assert codes == {attack.expect}
    assert len(refused) == number - APPROVALS_PER_MINUTE
    assert {view.id for view in await play.gate.list() if view.state is State.PENDING} == set(refused)
    flagged = [entry for entry in await play.office.ledger.entries() if entry.type == "approval.limited"]
    assert [entry.proposal for entry in flagged] == refused
    assert {(entry.body["approver"], entry.body["channel"]) for entry in flagged} == {("bob", "slack")}
    # It is bob who is held up, not the proposal; refusing is never held up, nor does it hide an approval; a minute later he may go on.
    first, second, third, *_ = [shown for shown in asked if shown.id in refused]
    assert (await play.gate.approve(first.id, first.digest or "", person(play.office, "cleo"), "cli")).state is State.APPROVED
    assert (await play.gate.deny(second.id, second.digest or "", person(play.office, "bob"), "slack")).state is State.DENIED
    with pytest.raises(TooManyApprovals):
        await play.gate.approve(third.id, third.digest or "", person(play.office, "bob"), "slack")
    play.clock.pass_(seconds=60)
    assert (await play.gate.approve(third.id, third.digest or "", person(play.office, "bob"), "slack")).state is State.APPROVED


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("approvals", "tool"), ids=str)
async def test_a_client_cannot_consent_for_others(attack: Attack, tmp_path: Path) -> None:
    reader = planted(tmp_path / "recording", "nothing", "")
    async with desk(tmp_path / "state", reader) as client:
        wish = {"action": "scale", "kind": "Deployment", "namespace": "ml", "name": "serve", "parameters": {"replicas": 0}}
        done, said = await client.call("remediation_propose", wish)
        assert done, said
        for call in attack.input:
            done, said = await client.call(call["tool"], call["arguments"])
            assert not done, said
            assert re.search(attack.expect, said), said
        (view,) = await client.proposals()
        assert view.state is State.PENDING


async def says_yes(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
    """The user of a client that answers whatever helps it."""
    return ElicitResult(action="accept", content={KEY: True})


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("approvals", "elicitation"), ids=str)
async def test_a_question_is_answered_as_it_was_asked(attack: Attack, tmp_path: Path) -> None:
    reader = planted(tmp_path / "recording", "nothing", "")
    async with desk(tmp_path / "state", reader, elicitation_callback=says_yes) as client:

        async def approved(action: str) -> dict[str, Any]:
            done, said = await client.call(
                "remediation_propose", {"action": action, "kind": "Deployment", "namespace": "ml", "name": "serve"}
            )
            assert done, said
            async with open_records(client.settings) as records:
                await records.gate.approve(client.last["id"], client.last["digest"], person(records.office, "omar"), "cli")
            return {"proposal_id": client.last["id"], "digest": client.last["digest"]}

        async def asked(wish: dict[str, Any], **answer: Any) -> Any:
            return await client.client.session.call_tool("remediation_execute", wish, allow_input_required=True, **answer)

        other = (await asked(await approved("rollout_undo"))).request_state
        wish = await approved("rollout_restart")
        state = (await asked(wish)).request_state
        tampered = {
            "one letter changed": state[:40] + ("A" if state[40] != "A" else "B") + state[41:],
            "cut short": state[:-8],
            "empty": "",
            "of another proposal": other,
        }
        yes = {KEY: ElicitResult(action="accept", content={KEY: True})}
        for how in attack.input:
            with pytest.raises(MCPError) as refusal:
                await asked(wish, input_responses=yes, request_state=tampered[how])
            assert str(refusal.value.error.code) == attack.expect, how
        assert all(view.state is State.APPROVED for view in await client.proposals() if view.id == wish["proposal_id"])
        assert not (await asked(wish, input_responses=yes, request_state=state)).is_error


@pytest.mark.parametrize("attack", runnable("approvals", "command line"), ids=str)
def test_nobody_approves_through_a_pipe(
    attack: Attack, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path / "recording", "nothing", "")
    state = ("--state", str(tmp_path / "state"))
    tokens = {}
    for name in ("rita", "omar"):
        assert run([*state, "people", "add", name, "--group", "sre-oncall"]) == 0
        tokens[name] = capsys.readouterr().out.strip()
    monkeypatch.setenv("SMOKEJUMPER_TOKEN", tokens["rita"])
    assert run([*state, "propose", "rollout_undo", "deploy/serve", "-n", "ml", "--recording", str(tmp_path / "recording")]) == 0
    proposal = capsys.readouterr().out.split()[0]
    monkeypatch.setenv("SMOKEJUMPER_TOKEN", tokens["omar"])
    assert run([*state, *(proposal if word == "$last" else word for word in attack.input)]) == 2
    assert attack.expect in capsys.readouterr().err
    assert run([*state, "proposals", "show", proposal]) == 0
    assert "pending" in capsys.readouterr().out
