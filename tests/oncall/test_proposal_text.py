"""Proposals and outcomes on a screen: whatever names, reasons and details hold, a line stays one line and shows no secret."""

from __future__ import annotations

import json

from guardrails.executor import Outcome
from guardrails.proposal import State
from oncall.proposal_text import outcome_lines

FOREIGN = "the server said \x1b[31mno\x1b[0m\nhealthy: password=hunter22"


def test_what_a_cluster_said_cannot_paint_or_leak() -> None:
    checks = ({"check": "rollout_complete", "status": "failed", "detail": FOREIGN},)
    lines = list(outcome_lines(Outcome(id="p-1", state=State.CLOSED, detail=FOREIGN, checks=checks)))
    assert len(lines) == 2
    for line in lines:
        assert "\x1b" not in line
        assert "\n" not in line
        assert "hunter22" not in line
        assert "the server said no" in line


def test_a_rehearsed_request_is_shown_as_it_would_be_sent() -> None:
    detail = 'Rehearsed: PATCH /x?a=b\nContent-Type: application/json\n\n{\n  "metadata": {}\n}'
    lines = list(outcome_lines(Outcome(id="p-1", state=State.REHEARSED, detail=detail)))
    assert lines[1:] == ["  PATCH /x?a=b", "  Content-Type: application/json", "    {", '      "metadata": {}', "    }"]
    secret = json.dumps({"env": [{"name": "DB_PASSWORD", "value": "hunter22hunter"}]}, indent=2)
    shown = list(outcome_lines(Outcome(id="p-1", state=State.REHEARSED, detail=f"PATCH /x\n\n{secret}")))
    assert '          "name": "DB_PASSWORD",' in shown
    assert "hunter22hunter" not in "".join(shown)
    long = "PATCH /x\nContent-Type: application/json\n\n" + "\n".join(str(number) for number in range(70))
    assert list(outcome_lines(Outcome(id="p-1", state=State.REHEARSED, detail=long)))[-2:] == ["    59", "    … 10 more lines"]
