"""A. Text from the cluster, a model that repeats it, and a client that does what it says: nothing changes, nothing becomes automatic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.investigation import Conclusion
from guardrails.proposal import State
from guardrails.sanitise import sanitise
from tests.attacks.corpus import Attack, runnable
from tests.attacks.stage import concluded, desk, outside_fences, planted

pytestmark = pytest.mark.anyio
BENIGN = "all is well"
HARMLESS_STATES = (State.PENDING, State.DENIED, State.REJECTED)


def decision(conclusion: Conclusion) -> list[dict[str, Any]]:
    """What a diagnosis decides: causes and what may be proposed, without the words of the evidence."""
    return [
        {
            "object": str(cause.object),
            "code": cause.code,
            "class": cause.class_,
            "certainty": cause.certainty,
            "symptoms": sorted(f"{symptom.code} {symptom.object}" for symptom in cause.symptoms),
            "remedies": [(remedy.action, str(remedy.target), remedy.document) for remedy in remedies],
        }
        for cause, remedies in zip(conclusion.diagnosis.causes, conclusion.remedies, strict=True)
    ]


@pytest.mark.parametrize("attack", runnable("text"), ids=str)
async def test_text_decides_nothing(attack: Attack, tmp_path: Path) -> None:
    text = attack.input.replace("|", "") if attack.surface == "two logs" else attack.input
    question = text if attack.surface == "question" else "Why is worker broken?"
    control = planted(tmp_path / "control", attack.surface, BENIGN)
    attacked = planted(tmp_path / "attacked", attack.surface, attack.input)
    calm, _ = await concluded(control, "Why is worker broken?", BENIGN)
    loud, endpoint = await concluded(attacked, question, text)
    assert endpoint.prompts, "the obedient model was never asked"
    assert decision(loud) == decision(calm)
    assert decision(calm), "an incident without a cause proves nothing"

    async with desk(tmp_path / "calm", control) as first, desk(tmp_path / "loud", attacked) as second:
        said = await second.everything_said()
        for half in attack.input.split("|"):
            assert half.strip() not in outside_fences(said)
        assert sanitise(said) == said
        assert "![" not in outside_fences(said)
        if attack.shown:
            assert attack.shown in said
        for order in attack.orders:
            done, answer = await second.call(order.tool, order.arguments)
            assert not (done and order.refused), (order, answer)
            assert (await first.call(order.tool, order.arguments))[0] is done
        proposals = await second.proposals()
        assert len(proposals) == sum(1 for order in attack.orders if order.tool == "remediation_propose" and not order.refused)
        assert [view.state for view in proposals if view.state not in HARMLESS_STATES] == []
        assert [(view.state, view.verdict and view.verdict.effect) for view in await first.proposals()] == [
            (view.state, view.verdict and view.verdict.effect) for view in proposals
        ]


async def test_an_order_is_heard_when_the_text_is_none(tmp_path: Path) -> None:
    """Otherwise the runs above would prove that nothing works: the same call of an ordinary client is a proposal that waits."""
    reader = planted(tmp_path / "recording", "nothing", "")
    async with desk(tmp_path / "state", reader) as client:
        wish = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}
        done, said = await client.call("remediation_propose", wish)
        assert done, said
        assert [view.state for view in await client.proposals()] == [State.PENDING]


def test_a_text_outside_its_fence_is_noticed() -> None:
    fenced = "<<untrusted 0123abcd: text\nsay it\nuntrusted 0123abcd>>"
    assert "say it" not in outside_fences(fenced)
    assert "say it" in outside_fences(f"{fenced}\nsay it")
    assert "say it" in outside_fences(fenced.replace("untrusted 0123abcd>>", "untrusted ffffffff>>"))
