"""What the user of a client says before an approved change is executed: asked in both eras, recorded, able to hold back only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import (
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequestParams,
    ElicitResult,
    ErrorData,
    FormElicitationCapability,
    InputRequiredResult,
    UrlElicitationCapability,
)

from cluster.recorded import RecordedReader
from guardrails.proposal import State
from guardrails.record import load, move
from mcp_server.confirmation import KEY, can_ask, question
from tests.mcp_server.test_gate import Desk, open_desk

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
GO = ElicitResult(action="accept", content={KEY: True})
KEYS = ("k" * 32, "o" * 32)


class User:
    """A client's user, who always answers the same and remembers what they were asked."""

    def __init__(self, answer: ElicitResult | ErrorData) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, _context: Any, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        self.asked.append(params.message)
        return self.answer


async def answers(desk: Desk) -> list[tuple[str, str, str]]:
    entries = await desk.office.ledger.entries()
    return [(entry.body["by"], entry.body["channel"], entry.body["answer"]) for entry in entries if entry.type == "client.answered"]


@ERAS
async def test_an_approved_change_is_executed_once_its_user_wants_it(tmp_path: Path, reader: RecordedReader, mode: str) -> None:
    user = User(GO)
    async with open_desk(tmp_path / "state", reader, mode=mode, elicitation_callback=user) as desk:
        proposal = await desk.approved()
        done, text = await desk.execute(proposal)
        assert done, text
        assert len(desk.port.requests) == 1
        assert await answers(desk) == [("rita", "mcp", "go ahead")]
    [asked] = user.asked
    assert "Requested by rita; approved by omar." in asked
    assert proposal["id"] in asked


@ERAS
@pytest.mark.parametrize(
    ("answer", "noted"),
    [
        (ElicitResult(action="decline"), "decline"),
        (ElicitResult(action="cancel"), "cancel"),
        (ElicitResult(action="accept", content={KEY: False}), "no"),
        (ElicitResult(action="accept", content={}), "no"),
        (ElicitResult(action="accept", content={KEY: "true"}), "no"),
    ],
)
async def test_whoever_does_not_want_it_executes_nothing(
    tmp_path: Path, reader: RecordedReader, mode: str, answer: ElicitResult, noted: str
) -> None:
    async with open_desk(tmp_path / "state", reader, mode=mode, elicitation_callback=User(answer)) as desk:
        done, text = await desk.execute(await desk.approved())
        assert not done
        assert f"answered '{noted}'" in text
        assert desk.port.requests == []
        assert await answers(desk) == [("rita", "mcp", noted)]


async def test_a_client_that_fails_to_ask_executes_nothing(tmp_path: Path, reader: RecordedReader) -> None:
    user = User(ErrorData(code=-32603, message="no window"))
    async with open_desk(tmp_path / "state", reader, mode="legacy", elicitation_callback=user) as desk:
        done, text = await desk.execute(await desk.approved())
        assert not done
        assert "an error (-32603)" in text
        assert desk.port.requests == []


@ERAS
async def test_consent_is_no_approval(tmp_path: Path, reader: RecordedReader, mode: str) -> None:
    user = User(GO)
    async with open_desk(tmp_path / "state", reader, mode=mode, elicitation_callback=user) as desk:
        proposal = await desk.propose()
        done, text = await desk.execute(proposal)
        assert not done
        assert "needs approval" in text
        assert (await desk.gate.status(proposal["id"])).approvals == ()
        assert desk.port.requests == []
    assert user.asked == []


@ERAS
async def test_what_was_held_back_for_a_while_is_asked_about_and_executed(tmp_path: Path, reader: RecordedReader, mode: str) -> None:
    user = User(GO)
    async with open_desk(tmp_path / "state", reader, mode=mode, elicitation_callback=user) as desk:
        proposal = await desk.approved()
        async with desk.office.ledger.transaction() as writing:
            # As a claim leaves it which the policy refused for the moment: its approvals stay.
            record = await load(writing.connection, proposal["id"])
            assert record.requirement is not None
            required = record.requirement.model_dump(mode="json")
            reason = "The policy no longer allows it: too many changes in the last hour."
            await move(writing, record, State.PENDING, by="policy", reason=reason, body={"requirement": required})
        shown = await desk.gate.status(proposal["id"])
        assert (shown.state, shown.missing) == (State.PENDING, {})
        done, text = await desk.execute(proposal)
        assert done, text
        assert len(desk.port.requests) == 1
    assert len(user.asked) == 1


@ERAS
async def test_where_it_is_required_nobody_executes_unasked(tmp_path: Path, reader: RecordedReader, mode: str) -> None:
    async with open_desk(tmp_path / "state", reader, built={"confirmation": "required"}, mode=mode) as desk:
        proposal = await desk.approved()
        done, text = await desk.execute(proposal)
        assert not done
        assert f"smokejumper execute {proposal['id']}" in text
        assert desk.port.requests == []
        assert await answers(desk) == [("rita", "mcp", "cannot be asked")]


async def first_round(desk: Desk, proposal: dict[str, Any]) -> InputRequiredResult:
    arguments = {"proposal_id": proposal["id"], "digest": proposal["digest"]}
    asked = await desk.client.session.call_tool("remediation_execute", arguments, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    return asked


async def second_round(desk: Desk, proposal: dict[str, Any], state: str | None, digest: str | None = None) -> Any:
    return await desk.client.session.call_tool(
        "remediation_execute",
        {"proposal_id": proposal["id"], "digest": digest or proposal["digest"]},
        input_responses={KEY: GO},
        request_state=state,
        allow_input_required=True,
    )


async def test_a_state_that_was_tampered_with_is_refused(tmp_path: Path, reader: RecordedReader) -> None:
    async with open_desk(tmp_path / "state", reader, elicitation_callback=User(GO)) as desk:
        proposal = await desk.approved()
        state = (await first_round(desk, proposal)).request_state
        assert state is not None
        assert proposal["digest"] not in state
        for changed, digest in ((state[:-2] + ("AA" if state[-2:] != "AA" else "BB"), None), ("", None), (state, "f" * 64)):
            with pytest.raises(MCPError) as refused:
                await second_round(desk, proposal, changed, digest)
            assert refused.value.error.code == -32602
        assert isinstance(await second_round(desk, proposal, None), InputRequiredResult)
        assert desk.port.requests == []


async def test_replicas_continue_each_others_questions_with_shared_keys(tmp_path: Path, reader: RecordedReader) -> None:
    state = tmp_path / "state"
    async with open_desk(state, reader, built={"state_keys": KEYS[1:]}, elicitation_callback=User(GO)) as first:
        proposal = await first.approved()
        asked = await first_round(first, proposal)
    async with open_desk(state, reader, built={"state_keys": ("x" * 32,)}, elicitation_callback=User(GO)) as stranger:
        with pytest.raises(MCPError):
            await second_round(stranger, proposal, asked.request_state)
    async with open_desk(state, reader, built={"state_keys": KEYS}, elicitation_callback=User(GO)) as second:
        assert not (await second_round(second, proposal, asked.request_state)).is_error
        assert len(second.port.requests) == 1


def test_only_who_shows_forms_is_asked() -> None:
    form, url = FormElicitationCapability(), UrlElicitationCapability()
    assert can_ask(ClientCapabilities(elicitation=ElicitationCapability()))
    assert can_ask(ClientCapabilities(elicitation=ElicitationCapability(form=form, url=url)))
    assert not can_ask(ClientCapabilities(elicitation=ElicitationCapability(url=url)))
    assert not can_ask(ClientCapabilities())
    assert not can_ask(None)


def test_a_question_keeps_to_its_lines() -> None:
    hostile = "restart\nDigest ffff… AKIACANARY05CANARY05 " + "x" * 5_000
    asked = question({"id": "p-1", "digest": "0" * 64, "cluster": "lab", "summary": hostile, "requester": "rita"})
    assert len(asked.splitlines()) == 4
    assert "AKIACANARY05CANARY05" not in asked
    assert len(asked) < 1_500
