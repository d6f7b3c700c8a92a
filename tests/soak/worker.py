"""One process of the storm: it takes whatever item is next, brings it one step further, and dies or falls asleep where it is fated to.

It does what a careless fleet of agents would: several of them reach for the same item, and none knows what the others did.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cluster.connection import Connection
from cluster.fleet import Fleet
from cluster.response import Response
from cluster.write import KubeWriter
from guardrails.action import parse_action, target
from guardrails.clock import SystemClock, random_id
from guardrails.errors import AlreadyExecuted, Conflict, GuardrailsError, TooManyApprovals
from guardrails.executor import Executor
from guardrails.gate import Gate
from guardrails.grant import Grant
from guardrails.office import Office, open_office
from guardrails.port import Receipt
from guardrails.proposal import RUNNING, TERMINAL, Evidence, State
from guardrails.request import BoundRequest
from guardrails.store import proposals
from guardrails.verification import Check, CheckResult
from tests.lab.api import ApiClient
from tests.soak.items import Item

CLUSTER = "lab"
REQUESTER = "alice"
APPROVERS = 60
REACH = 6
TRIES_MAX = 6
# A proposal that is still being validated after this long was left by a process that is dead or asleep.
FORGOTTEN_SECONDS = 20.0
NOT_AN_END = frozenset({State.REJECTED, State.SUPERSEDED, State.EXPIRED, State.WITHDRAWN})
WAITING = frozenset({State.PENDING, State.APPROVED})


def approver(number: int) -> str:
    return f"approver-{number % APPROVERS:02}"


@dataclass(frozen=True)
class Order:
    """What a worker is told. `folder` is where fates are kept and where it writes what it was refused; `database` is the URL of a server,
    None for the file in `state`."""

    state: Path
    database: str | None
    bundle: Path
    kubeconfig: Path
    folder: Path
    server: str
    loader_token: str
    authority: Path
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Row:
    """A proposal as far as choosing what to do next needs it."""

    id: str
    key: str
    state: State
    digest: str
    lease_until: datetime | None
    updated_at: datetime


def work(order: Order, seed: int) -> None:
    """The life of one process."""
    asyncio.run(_work(order, seed))


async def _work(order: Order, seed: int) -> None:
    clock = SystemClock()
    fleet = Fleet.find(os.environ, Path.home(), clock.now, order.kubeconfig)
    worker = Worker(order, random.Random(seed))
    async with await Wire.open(fleet.target(), os.environ, clock.now) as wire:
        assert isinstance(wire, Wire)
        wire.tell = worker.tell
        port = TellingWriter(wire, clock.now)

        def ids(prefix: str) -> str:
            worker.tell("entry")
            return random_id(prefix)

        async with open_office(order.state, {CLUSTER: port}, bundle=order.bundle, ids=ids, database=order.database) as office:
            await worker.run(office)


class Wire(Connection):
    """A connection that tells of every write before it leaves and after it was answered."""

    tell: Callable[[str], None]

    async def request(self, method: str, path: str, query: Mapping[str, str] | None = None, **rest: Any) -> Response:
        if method == "GET" or "authorization.k8s.io" in path:
            return await super().request(method, path, query, **rest)
        what = "try:" if (query or {}).get("dryRun") else ""
        self.tell(f"{what}leaving")
        response = await super().request(method, path, query, **rest)
        self.tell(f"{what}answered")
        return response


class TellingWriter(KubeWriter):
    """The writer, which also tells of every look at a check."""

    def __init__(self, wire: Wire, clock: Callable[[], datetime]) -> None:
        super().__init__(wire, clock)
        self._tell = wire.tell

    async def apply(self, grant: Grant, request: BoundRequest) -> Receipt:
        self._tell(f"={grant.purpose}")
        return await super().apply(grant, request)

    async def check(self, check: Check) -> CheckResult:
        self._tell("=looking")
        return await super().check(check)


class Worker:
    """Chooses and acts. `tell` is told every step, in words of its own (`leaving`) or the executor's (`change:sent`)."""

    def __init__(self, order: Order, chance: random.Random) -> None:
        self._order, self._chance = order, chance
        self._item: Item | None = None
        self._phase = ""

    def tell(self, word: str) -> None:
        """Where the process is. The middle of a transaction and the wire are named after the last step before them."""
        if word.startswith("="):
            self._phase = step = word[1:]
        elif word in ("entry", "leaving", "answered", "try:leaving", "try:answered"):
            step = f"{self._phase}:{word}"
        else:
            self._phase = step = word
        if self._item is not None:
            meet(self._order.folder, self._item, step)

    async def run(self, office: Office) -> None:
        gate = Gate(office)
        while True:
            rows = await self._rows(office)
            left = [item for item in self._order.items if not is_over(rows.get(item.number, []))]
            if not left:
                return
            now = datetime.now(UTC)
            ready = [item for item in left if self._is_ready(rows.get(item.number, []), now)]
            if not ready:
                await asyncio.sleep(0.5)
                continue
            self._item = self._chance.choice(ready[:REACH])
            try:
                await self._go_on(office, gate, self._item, rows.get(self._item.number, []))
            except GuardrailsError as error:
                self._refused(self._item, error)
                if isinstance(error, AlreadyExecuted | Conflict | TooManyApprovals):
                    await asyncio.sleep(0.2)
            self._item = None

    async def _rows(self, office: Office) -> dict[int, list[Row]]:
        columns = (proposals.c.id, proposals.c.key, proposals.c.state, proposals.c.digest, proposals.c.lease_until, proposals.c.updated_at)
        async with office.store.read() as connection:
            found = (await connection.execute(select(*columns).order_by(proposals.c.created_at))).all()
        rows: dict[int, list[Row]] = {}
        for row in found:
            lease = None if row.lease_until is None else datetime.fromisoformat(row.lease_until)
            state, updated = State(row.state), datetime.fromisoformat(row.updated_at)
            rows.setdefault(number_of(row.key), []).append(Row(row.id, row.key, state, row.digest or "", lease, updated))
        return rows

    def _is_ready(self, rows: list[Row], now: datetime) -> bool:
        return _chosen(rows, now) is not None or _wants_another(rows, now)

    async def _go_on(self, office: Office, gate: Gate, item: Item, rows: list[Row]) -> None:
        now = datetime.now(UTC)
        row = _chosen(rows, now)
        if row is None:
            await self._propose(gate, item, rows)
        elif row.state is State.PENDING:
            await self._approve(office, gate, item, row)
        elif self._chance.random() < 0.1:
            self._phase, self._item = "recover", None
            await gate.recover()
        else:
            if item.sort == "moved":
                self._move_away(item, row)
            self._phase = "claim"
            await Executor(office, self.tell).execute(row.id, row.digest, REQUESTER)

    async def _propose(self, gate: Gate, item: Item, rows: list[Row]) -> None:
        if len(rows) >= TRIES_MAX:
            raise AssertionError(f"{item} was proposed {len(rows)} times: {rows}")
        self._phase = "propose"
        evidence = Evidence(root="storm", ids=("e1",), tainted=False)
        action, on, key = parse_action(item.action), target(*item.subject), key_of(item, len(rows))
        await gate.propose(action, on, cluster=CLUSTER, requester=REQUESTER, evidence=evidence, key=key)
        self.tell("proposed")

    async def _approve(self, office: Office, gate: Gate, item: Item, row: Row) -> None:
        for number in (item.number, item.number + 1):
            self._phase = "approve"
            person = office.directory.find(approver(number))
            assert person is not None
            shown = await gate.approve(row.id, row.digest, person, "cli")
            if shown.state is not State.PENDING:
                self.tell("approved")
                return

    def _move_away(self, item: Item, row: Row) -> None:
        """Somebody changes the object between approval and execution: each proposal meets a change of its own."""
        kind, space, name = item.subject
        spec = {"startingDeadlineSeconds": 100 + int(row.id[-4:], 16)}
        with ApiClient(self._order.server, self._order.loader_token, self._order.authority) as client:
            client.patch("batch/v1", kind, name, {"spec": spec}, space)

    def _refused(self, item: Item, error: GuardrailsError) -> None:
        line = json.dumps({"item": item.number, "phase": self._phase, "code": error.code, "said": str(error)[:300], "pid": os.getpid()})
        with (self._order.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def key_of(item: Item, tries: int) -> str:
    return f"storm-{item.number}-{tries}"


def number_of(key: str) -> int:
    return int(key.split("-")[1])


def is_over(rows: list[Row]) -> bool:
    """Whether nothing is left to do: something came to an end that counts, and nothing waits or runs."""
    ends = any(row.state in TERMINAL and row.state not in NOT_AN_END for row in rows)
    return ends and not any(row.state in WAITING | RUNNING for row in rows)


def _chosen(rows: list[Row], now: datetime) -> Row | None:
    """The proposal that can be brought further: one that waits, or one whose process is taken for dead."""
    for row in rows:
        if row.state in WAITING or (row.state in RUNNING and (row.lease_until is None or row.lease_until <= now)):
            return row
    return None


def _wants_another(rows: list[Row], now: datetime) -> bool:
    """Whether the wish has to be said again: never said, or said by a process that did not come back."""
    if any(row.state in WAITING | RUNNING or (row.state in TERMINAL and row.state not in NOT_AN_END) for row in rows):
        return False
    fresh = [row for row in rows if row.state not in TERMINAL and (now - row.updated_at).total_seconds() < FORGOTTEN_SECONDS]
    return not fresh


def meet(folder: Path, item: Item, step: str) -> None:
    """Die or fall asleep here if this is the item's fate and befell nobody yet. Who meets it is decided by one link in the folder."""
    for number, fate in enumerate(item.fates):
        place = folder / f"fate-{item.number}-{number}"
        if place.exists():
            continue
        if fate.step != step:
            return
        note = folder / f"note-{os.getpid()}-{time.monotonic_ns()}"
        note.write_text(json.dumps({"pid": os.getpid(), "step": step, "how": fate.how}), encoding="utf-8")
        try:
            os.link(note, place)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL if fate.how == "kill" else signal.SIGSTOP)
        return
