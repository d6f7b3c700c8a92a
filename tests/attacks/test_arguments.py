"""B. Arguments that are no arguments: refused in words, and the gate has heard of none of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cluster.kinds import BY_NAME
from cluster.recording import write_recording
from cluster.reference import Scope
from guardrails.action import parse_action
from guardrails.errors import InvalidAction
from tests.agent.recordings import NOW
from tests.attacks.corpus import Attack, runnable
from tests.attacks.stage import concluded, desk, planted


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("arguments", "tool"), ids=str)
async def test_a_tool_refuses(attack: Attack, tmp_path: Path) -> None:
    reader = planted(tmp_path / "recording", "nothing", "")
    async with desk(tmp_path / "state", reader) as client:
        for call in attack.input:
            done, said = await client.call(call["tool"], call["arguments"])
            assert not done, (call, said)
            assert re.search(attack.expect, said), said
        assert await client.proposals() == ()


@pytest.mark.parametrize("attack", runnable("arguments", "action"), ids=str)
def test_the_vocabulary_refuses(attack: Attack) -> None:
    for document in attack.input:
        with pytest.raises(InvalidAction, match=attack.expect):
            parse_action(document)


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("arguments", "recording"), ids=str)
async def test_nothing_hidden_is_read(attack: Attack, tmp_path: Path) -> None:
    reader = planted(tmp_path / "recording", "nothing", "", *attack.input["items"])
    canaries = ("aGlkZGVuLWNhbmFyeQ==", "hidden-canary")
    async with desk(tmp_path / "state", reader) as client:
        said = await client.everything_said()
        for kind in ("Secret", "secrets", "List"):
            done, answer = await client.call("resources_list", {"kind": kind})
            assert not done, answer
            said += answer
    conclusion, endpoint = await concluded(reader, "what is wrong?", "")
    await write_recording(reader, Scope(reader.cluster), tmp_path / "again", lambda: NOW)
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "again").rglob("*") if path.is_file())
    for where in (said, conclusion.report, "".join(endpoint.prompts), written):
        assert not [canary for canary in canaries if canary in where]
    beside = await reader.objects(BY_NAME["ConfigMap"], Scope(reader.cluster))
    assert [fact.name for fact in beside.value] == ["beside"], "the rest of the list is read"
    assert "beside" in json.dumps(written)
