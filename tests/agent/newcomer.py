"""One investigation in a process where LangGraph was never imported; prints what was asked, for test_investigation."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from agent.budget import Limits
from agent.incident import Incident
from agent.investigation import in_process, run
from agent.toolbelt import Probed
from cluster.reference import Scope
from runbooks.finding import Want
from tests.agent.recordings import reader

SCOPE = Scope("recording")


class Counting:
    """The real toolbelt, counting what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._inner = in_process(reader(folder), Limits())
        self.asked: Counter[str] = Counter()
        self.before_the_graph = 0

    async def probe(self, want: Want, scope: Scope) -> Probed:
        self.asked[str(want)] += 1
        self.before_the_graph += "agent.nodes" not in sys.modules
        return await self._inner.probe(want, scope)


async def main(folder: Path) -> None:
    belt = Counting(folder)
    concluded = await run(Incident("i", SCOPE), reader(folder), belt)
    print(
        json.dumps(
            {
                "head_start": belt.before_the_graph > 0,
                "asked_twice": [want for want, times in belt.asked.items() if times > 1],
                "cause": str(concluded.diagnosis.causes[0].object),
                "requests": concluded.diagnosis.cost.requests,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
