"""What an office loads is told in its ledger, whether it was taken or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.bundle import SHIPPED
from guardrails.errors import BadBundle
from guardrails.office import Office, open_office, reload_policy

pytestmark = pytest.mark.anyio
RULES = '@id("a") @effect("approve") @approvals("1") @approvers("sre-oncall") permit (principal, action, resource);'
TESTS = "cases: [{name: a, do: scale, resource: {name: x}, want: approve}]"


def bundle(folder: Path, rules: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.cedar").write_text(rules)
    (folder / "policy_test.yaml").write_text(TESTS)
    return folder


async def _told(office: Office) -> list[str]:
    return [entry.type for entry in await office.ledger.entries() if entry.type.startswith("policy.")]


async def test_both_outcomes_of_a_reload_are_in_the_ledger(office: Office, tmp_path: Path) -> None:
    shipped = office.bundles.policy
    with pytest.raises(BadBundle):
        await reload_policy(office, bundle(tmp_path / "mine", "permit (principal"))
    assert office.bundles.policy is shipped
    loaded = await reload_policy(office, bundle(tmp_path / "mine", RULES))
    assert office.bundles.policy is loaded
    assert await _told(office) == ["policy.loaded", "policy.refused", "policy.loaded"]
    (last,) = (await office.ledger.entries())[-1:]
    assert last.body == {"bundle": "mine", "sha256": loaded.sha256, "rules": 1}


async def test_opening_tells_of_another_bundle_once(office: Office, tmp_path: Path) -> None:
    mine = bundle(tmp_path / "mine", RULES)
    for folder in (SHIPPED, mine, mine, SHIPPED):
        async with open_office(tmp_path, {}, bundle=folder, durable=False):
            pass
    assert await _told(office) == ["policy.loaded"] * 3


async def test_a_refused_bundle_at_the_start_opens_nothing_and_is_told(office: Office, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(BadBundle):
            async with open_office(tmp_path, {}, bundle=bundle(tmp_path / "mine", "permit (principal"), durable=False):
                pass
    assert await _told(office) == ["policy.loaded", "policy.refused"]
