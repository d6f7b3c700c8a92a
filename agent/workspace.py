"""The facts of one investigation in this process. It is never checkpointed: after a restart it is rebuilt by asking again.

It remembers which wants are answered in this process and what was detected and explained over the world that they made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.incident import Incident, focus
from agent.toolbelt import Probed, Toolbelt
from cluster.reading import Cost
from cluster.reference import ObjectRef, Scope
from cluster.world import World
from runbooks.causes import explain
from runbooks.detectors.registry import detect
from runbooks.finding import Diagnosis, Finding, Want


@dataclass(frozen=True)
class Judgement:
    """What is known of a world at one moment: nothing in it was fetched, everything follows from the facts."""

    world: World
    focus: tuple[ObjectRef, ...]
    findings: tuple[Finding, ...]
    diagnosis: Diagnosis


class Workspace:
    """The growing world of one investigation, and the judgement of its latest state."""

    def __init__(self, now: datetime, incident: Incident) -> None:
        self._incident = incident
        self._world = World(incident.scope.cluster, now, incident.scope)
        self._pending: dict[Want, Probed] = {}
        self._known: set[Want] = set()
        self._judgement: Judgement | None = None

    @property
    def scope(self) -> Scope:
        """What this investigation may look at."""
        return self._incident.scope

    def add(self, want: Want, probed: Probed) -> None:
        """Keep an answer until the next `judge`. An answer to the same want replaces the earlier."""
        self._pending[want] = probed
        self._known.add(want)

    async def ensure(self, wants: Sequence[Want], toolbelt: Toolbelt) -> None:
        """Ask again for what was answered in an earlier process, so that this one knows it too."""
        lost = [want for want in wants if want not in self._known]
        if not lost:
            return
        async with asyncio.TaskGroup() as group:
            tasks = [(want, group.create_task(toolbelt.probe(want, self._incident.scope))) for want in lost]
        for want, task in tasks:
            self.add(want, task.result())

    async def judge(self, wants: Sequence[Want], cost: Cost) -> Judgement:
        """Detect and explain over everything known. `wants` gives the order in which answers enter the world, whatever their arrival,
        so that two runs over the same facts say the same."""
        if self._pending or self._judgement is None:
            order = {want: position for position, want in enumerate(wants)}
            answers = [self._pending[want] for want in sorted(self._pending, key=lambda want: order.get(want, len(order)))]
            self._pending.clear()
            self._judgement = await asyncio.to_thread(_judged, self._world, answers, self._incident, cost)
            self._world = self._judgement.world
        return self._judgement


def _judged(world: World, answers: Sequence[Probed], incident: Incident, cost: Cost) -> Judgement:
    for answer in answers:
        world = answer.growth.grow(world)
    asked = (incident.scope.subject,) if incident.scope.subject else focus(world, incident.question)
    findings = detect(world)
    return Judgement(world, asked, findings, explain(world, findings, asked, cost))
