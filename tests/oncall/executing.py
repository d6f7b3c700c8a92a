"""A process that executes or recovers a proposal on a real cluster, and dies by SIGKILL at a step when told to. Run by the lab tests:

python -m tests.oncall.executing STATE KUBECONFIG (execute ID DIGEST | recover) [--die-at STEP] [--seconds-later N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster.fleet import Fleet
from cluster.write import KubeWriter
from guardrails.clock import SystemClock
from guardrails.executor import Executor
from guardrails.gate import Gate
from guardrails.office import open_office


@dataclass(frozen=True)
class Later(SystemClock):
    """The machine's clock, some seconds ahead."""

    ahead: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("what", nargs="+")
    parser.add_argument("--die-at")
    parser.add_argument("--seconds-later", type=int, default=0)
    options = parser.parse_args()
    clock = Later(timedelta(seconds=options.seconds_later))

    def on_step(step: str) -> None:
        if step == options.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    fleet = Fleet.find(os.environ, Path.home(), clock.now, options.kubeconfig)
    async with await fleet.connect() as connection:
        name = fleet.target().context
        async with open_office(options.state, {name: KubeWriter(connection, clock.now)}, clock=clock) as office:
            if options.what[0] == "recover":
                for outcome in await Gate(office).recover():
                    print(outcome.id, outcome.state)
            else:
                _, proposal, digest = options.what
                print((await Executor(office, on_step).execute(proposal, digest, "alice")).state)


if __name__ == "__main__":
    asyncio.run(main())
