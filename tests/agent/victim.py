"""A process that is killed with SIGKILL at a chosen point of an investigation, once for each point; run by `test_crash.py`.

    python -m tests.agent.victim FOLDER RECORDING

forks one child for each point, so that the imports are paid once. Each child works on FOLDER/POINT.sqlite and FOLDER/POINT.json.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import agent.graph
from agent.budget import Limits
from agent.incident import Incident
from agent.investigation import in_process, run
from agent.planner import Plan, RulePlanner, View
from agent.remediation import Argument, Execution, ProposalView, Remediation
from agent.toolbelt import Probed, Toolbelt
from cluster.reference import Scope
from runbooks.candidate import Candidate
from runbooks.finding import Want
from tests.agent.recordings import FileGate, reader

POINTS = ("probing", "planning", "proposing", "proposed", "waiting", "executing", "executed", "verifying")
APPROVED = frozenset({"executing", "executed", "verifying"})


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingToolbelt:
    """Dies in the middle of the first fan-out."""

    def __init__(self, inner: Toolbelt) -> None:
        self._inner = inner
        self._probes = 0

    async def probe(self, want: Want, scope: Scope) -> Probed:
        self._probes += 1
        if self._probes == 20:
            die()
        return await self._inner.probe(want, scope)


class DyingPlanner(RulePlanner):
    """Dies when it is asked the second time."""

    async def next(self, view: View) -> Plan:
        if view.judgement is not None:
            die()
        return await super().next(view)


def dying_ports(gate: FileGate, point: str) -> Remediation:
    async def propose(candidate: Candidate, incident: str, argument: Argument) -> ProposalView:
        if point == "proposing":
            die()
        view = await gate.propose(candidate, incident, argument)
        if point == "proposed":
            die()
        return view

    async def execute(proposal: str, digest: str) -> Execution:
        if point == "executing":
            die()
        execution = await gate.execute(proposal, digest)
        if point == "executed":
            die()
        return execution

    async def status(proposal: str) -> ProposalView:
        view = await gate.status(proposal)
        if point == "verifying" and view.state == "succeeded":
            die()
        return view

    return replace(gate.ports, propose=propose, execute=execute, status=status)


async def investigate(folder: Path, recording: Path, point: str) -> None:
    opened = reader(recording)
    toolbelt: Toolbelt = in_process(opened, Limits())
    gate = FileGate(folder / f"{point}.json")
    planner = DyingPlanner() if point == "planning" else RulePlanner()
    if point == "probing":
        toolbelt = DyingToolbelt(toolbelt)
    incident = Incident(point, Scope("recording"), "Why is serve broken?")
    for _ in range(2):
        await run(incident, opened, toolbelt, store=folder / f"{point}.sqlite", planner=planner, remediation=dying_ports(gate, point))
        if point == "waiting":
            die()
        gate.decide("approved")


def main(folder: Path, recording: Path) -> int:
    for point in POINTS:
        child = os.fork()
        if child == 0:
            asyncio.run(investigate(folder, recording, point))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(point, os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == "__main__":
    assert agent.graph
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
