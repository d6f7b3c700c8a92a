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

FREED_AT_ONCE = 256


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
        self._judging: list[asyncio.Task[Judgement]] = []

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
            # No local variable holds a world or its facts: the traceback of a cancellation would hold them too.
            self._judging.append(asyncio.create_task(asyncio.to_thread(_judged, self._world, self._answers(wants), self._incident, cost)))
            self._judgement = await asyncio.shield(self._judging[-1])
            self._world = self._judgement.world
        return self._judgement

    def _answers(self, wants: Sequence[Want]) -> list[Probed]:
        """What came since the last judgement, in order."""
        order = {want: position for position, want in enumerate(wants)}
        answers = [self._pending[want] for want in sorted(self._pending, key=lambda want: order.get(want, len(order)))]
        self._pending.clear()
        return answers

    async def forget(self) -> None:
        """Let go of all facts when the last judging, which no cancellation stops, has ended.

        LangGraph leaves what it was given in a cycle, which the garbage collector finds late, together with those of other
        investigations; and nothing else runs in the process while it frees them.
        """
        ended = await asyncio.gather(*self._judging, return_exceptions=True)
        worlds = [self._world, *(judged.world for judged in ended if isinstance(judged, Judgement))]
        self._judging.clear()
        self._pending.clear()
        self._known.clear()
        self._judgement = None
        self._world = World(self._incident.scope.cluster, self._world.now, self._incident.scope)
        del ended
        await asyncio.to_thread(_free, worlds)


def _judged(world: World, answers: Sequence[Probed], incident: Incident, cost: Cost) -> Judgement:
    for answer in answers:
        world = answer.growth.grow(world)
    asked = (incident.scope.subject,) if incident.scope.subject else focus(world, incident.question)
    findings = detect(world)
    return Judgement(world, asked, findings, explain(world, findings, asked, cost))


def _free(worlds: list[World]) -> None:
    """Free worlds that nobody else holds, which takes a while: between a few of their objects and the next, others may run."""
    facts = [fact for world in worlds for known in world.facts.values() for fact in known]
    while worlds:
        worlds.pop().dismiss()
    while facts:
        del facts[-FREED_AT_ONCE:]
