"""The tools in front of the real gate, over a rehearsal port: nothing that a client says lets a change slip through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from cluster.recorded import RecordedReader
from cluster.rehearsal import Rehearsal
from guardrails.action import target
from guardrails.directory import Directory
from guardrails.errors import OwnApproval
from guardrails.gate import Gate
from guardrails.office import PEOPLE, Office, open_office
from mcp_server.registry import Caller, ToolContext
from mcp_server.server import build_server
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.incident import context

pytestmark = pytest.mark.anyio
NOTHING: Mapping[str, Any] = {}
RESTART = {"action": "rollout_restart", "kind": "Deployment", "namespace": "ml", "name": "serve"}


class Desk:
    """A client, the gate behind it, the port that would write, and the people."""

    def __init__(self, client: Client, gate: Gate, port: Rehearsal, office: Office) -> None:
        self.client, self.gate, self.port, self.office = client, gate, port, office
        self.directory = office.directory

    async def approved(self) -> dict[str, Any]:
        """A proposal of rita's that omar approved."""
        proposal = await self.propose()
        await self.gate.approve(proposal["id"], proposal["digest"], person(self, "omar"), "cli")
        return proposal

    async def propose(self) -> dict[str, Any]:
        result = await self.client.call_tool("remediation_propose", RESTART)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        proposal: dict[str, Any] = result.structured_content["proposal"]
        return proposal

    async def execute(self, proposal: dict[str, Any], digest: str | None = None) -> tuple[bool, str]:
        arguments = {"proposal_id": proposal["id"], "digest": digest or proposal["digest"]}
        result = await self.client.call_tool("remediation_execute", arguments)
        return not result.is_error, "\n".join(getattr(part, "text", "") for part in result.content)


@asynccontextmanager
async def open_desk(folder: Path, reader: RecordedReader, *, built: Mapping[str, Any] = NOTHING, **options: Any) -> AsyncIterator[Desk]:
    """A desk whose server was `built` so, and whose client has these `options`."""
    directory = Directory.load(folder / PEOPLE)
    for name in ("rita", "omar"):
        if directory.find(name) is None:
            directory.add(name, ("sre-oncall",))
    port = Rehearsal(reader, reader.now)
    async with open_office(folder, {reader.cluster: port}) as office:
        gate = Gate(office)

        async def propose(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
            on = target(**request["target"])
            view = await gate.propose(request["action"], on, cluster=reader.cluster, requester=caller.subject, channel=caller.channel)
            return view.model_dump(mode="json")

        async def status(proposal: str, caller: Caller) -> dict[str, Any]:
            return (await gate.status(proposal)).model_dump(mode="json")

        async def execute(proposal: str, digest: str, caller: Caller) -> dict[str, Any]:
            return (await gate.execute(proposal, digest, caller.subject)).model_dump(mode="json")

        async def answered(proposal: str, digest: str, answer: str, caller: Caller) -> None:
            await gate.note_answer(proposal, digest, answer, by=caller.subject, channel=caller.channel)

        held = context(reader)
        assert held.ports is not None
        ports = replace(held.ports, propose=propose, status=status, execute=execute, answered=answered)

        @asynccontextmanager
        async def factory() -> AsyncIterator[ToolContext]:
            yield replace(held, ports=ports)

        async with Client(build_server(toolset(), factory, **built), **options) as client:
            yield Desk(client, gate, port, office)


def person(desk: Desk, name: str) -> Any:
    return next(item for item in desk.directory.people() if item.name == name)


async def test_nothing_is_sent_until_another_person_approved(tmp_path: Path, reader: RecordedReader) -> None:
    async with open_desk(tmp_path / "state", reader) as desk:
        proposal = await desk.propose()
        assert proposal["state"] == "pending"
        # Whoever reads an answer about a recording is told that it is one.
        assert (proposal["rehearsal"], proposal["summary"][:28]) == (True, "[rehearsal on a recording] R")
        done, text = await desk.execute(proposal)
        assert (done, "needs approval" in text) == (False, True)
        done, text = await desk.execute(proposal, "f" * 64)
        assert (done, "digest" in text) == (False, True)
        with pytest.raises(OwnApproval):
            await desk.gate.approve(proposal["id"], proposal["digest"], person(desk, "rita"), "cli")
        assert desk.port.requests == []
        await desk.gate.approve(proposal["id"], proposal["digest"], person(desk, "omar"), "cli")
        done, text = await desk.execute(proposal)
        assert done, text
        assert [request.method for request in desk.port.requests] == ["PATCH"]


async def test_a_proposal_that_does_not_exist_is_refused_in_words(tmp_path: Path, reader: RecordedReader) -> None:
    async with open_desk(tmp_path / "state", reader) as desk:
        done, text = await desk.execute({"id": "p-000000000000", "digest": "0" * 64})
        assert not done
        assert "p-000000000000" in text
        assert "Traceback" not in text


async def test_the_state_of_a_proposal_leads_with_what_to_do_next(tmp_path: Path, reader: RecordedReader) -> None:
    async with open_desk(tmp_path / "state", reader) as desk:
        proposal = await desk.propose()
        result = await desk.client.call_tool("remediation_status", {"proposal_id": proposal["id"]})
        lines = getattr(result.content[0], "text", "").splitlines()
    assert lines[:2] == [f"id: {proposal['id']}", "state: pending"]
    assert any("sre-oncall" in line for line in lines[:5])
