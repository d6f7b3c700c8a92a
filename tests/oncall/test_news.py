"""Which proposals changed, as subscribers of the MCP server are told: by the ledger, whoever wrote into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from oncall.desk import open_records
from oncall.ports import proposal_news
from oncall.settings import Settings
from tests.attacks.stage import desk, planted
from tests.guardrails.conftest import person

pytestmark = pytest.mark.anyio
WISH = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}


async def test_what_others_did_to_a_proposal_is_news_once(tmp_path: Path) -> None:
    async with desk(tmp_path / "state", planted(tmp_path / "recording", "nothing", "")) as client:
        done, said = await client.call("remediation_propose", WISH)
        assert done, said
        async with proposal_news(client.settings) as changed:
            assert await changed() == (client.last["id"],)
            assert await changed() == ()
            async with open_records(client.settings) as records:
                await records.gate.deny(client.last["id"], client.last["digest"], person(records.office, "omar"), "cli")
            assert await changed() == (client.last["id"],)
            assert await changed() == ()


async def test_asking_for_news_begins_no_ledger(tmp_path: Path) -> None:
    async with proposal_news(Settings(state_dir=tmp_path / "state")) as changed:
        assert await changed() == ()
    assert not (tmp_path / "state").exists()
