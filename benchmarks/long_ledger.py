"""A ledger of any length that is true from end to end: one real change, told again under new names, with the rows that belong to it.

The first story comes from the gate over a cluster in memory; the others are its entries with other ids, digests and times, appended through
the ledger itself, so every leaf, checkpoint, approval and proposal is what the gate would have written. It refuses to sign anything that
`audit verify` would not call intact: the benchmark fails when it does not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct
from sqlalchemy import insert, select

from guardrails.action import RolloutUndo, target
from guardrails.budget import stamp
from guardrails.canonical import stored
from guardrails.directory import Directory
from guardrails.gate import Gate
from guardrails.ledger import CHECKPOINT_EVERY, Entry, Writing
from guardrails.office import PEOPLE, Office, open_office
from guardrails.proposal import Evidence, Proposal
from guardrails.store import approvals, proposals, spending
from tests.guardrails.fake_cluster import FakeCluster, deployment, node, pod, replica_set, roll_out

START = datetime(2026, 1, 1, tzinfo=UTC)


class Ticking:
    """A clock that is a second later every time it is asked."""

    def __init__(self) -> None:
        self._moment = START

    def now(self) -> datetime:
        self._moment += timedelta(seconds=1)
        return self._moment

    async def sleep(self, seconds: float) -> None:
        self._moment += timedelta(seconds=seconds)


class Template(Struct, frozen=True):
    """One change that happened: its entries, the sealed document, and the rows of the proposal, its approval and its spending."""

    entries: tuple[Entry, ...]
    entries_as_text: str
    document: Proposal
    row: dict[str, Any]
    approval: dict[str, Any]
    spending: dict[str, Any]


@asynccontextmanager
async def rehearsal_office(folder: Path, *, durable: bool = False) -> AsyncIterator[Office]:
    """An office over a cluster in memory in which a rollout can be undone, with ada who asks and bob who may agree."""
    directory = Directory.load(folder / PEOPLE)
    if not directory.people():
        directory.add("ada", ["sre-oncall"], kubernetes_user="ada@example.org")
        directory.add("bob", ["sre-oncall"])
    clock = Ticking()
    cluster = FakeCluster(clock, deployment(), replica_set(1, "web:1"), replica_set(2, "web:2"), node(), pod())
    cluster.heal = roll_out
    async with open_office(folder, {"lab": cluster}, clock=clock, durable=durable) as office:
        yield office


async def write(folder: Path, length: int) -> int:
    """Fill the ledger of a state folder with at least `length` entries; how many they are."""
    async with rehearsal_office(folder) as office:
        template = await _happen(office)
        told = len(await office.ledger.entries())
        while told < length:
            async with office.ledger.transaction() as writing:
                # As many stories as lie between two kept checkpoints.
                copies = [await _tell(office, writing, template) for _ in range(CHECKPOINT_EVERY // len(template.entries))]
                for number, table in enumerate((proposals, approvals, spending)):
                    await writing.connection.execute(insert(table), [copy[number] for copy in copies])
            told += len(copies) * len(template.entries)
    return told


async def _happen(office: Office) -> Template:
    gate = Gate(office)
    evidence = Evidence(root="r", ids=("e1",), tainted=False)
    shown = await gate.propose(RolloutUndo(), target("Deployment", "shop", "web"), cluster="lab", requester="ada", evidence=evidence)
    bob = office.directory.find("bob")
    assert bob is not None
    await gate.approve(shown.id, shown.digest or "", bob, "cli")
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state == "succeeded", outcome.detail
    async with office.store.read() as connection:
        row = (await connection.execute(select(proposals))).mappings().one()
        agreed = (await connection.execute(select(approvals))).mappings().one()
        spent = (await connection.execute(select(spending))).mappings().one()
    entries = await office.ledger.entries(shown.id)
    bodies = json.dumps([entry.body for entry in entries])
    return Template(entries, bodies, Proposal.model_validate_json(row["document"]), dict(row), dict(agreed), dict(spent))


async def _tell(office: Office, writing: Writing, template: Template) -> tuple[dict[str, Any], ...]:
    """The template once more under a new name and at this time; the rows of the proposal, its approval and its spending."""
    name, at = office.ids("p"), stamp(writing.now)
    document = template.document.model_copy(update={"id": name})
    body = template.entries_as_text.replace(template.document.id, name).replace(template.document.digest, document.digest)
    numbers = {
        entry.seq: await writing.append(entry.type, name, told) for entry, told in zip(template.entries, json.loads(body), strict=True)
    }
    row = {
        **template.row,
        "id": name,
        "digest": document.digest,
        "document": stored(document),
        "created_at": at,
        "claimed_at": at,
    }
    approval = {
        **template.approval,
        "proposal": name,
        "entry": numbers[template.approval["entry"]],
        "approval": template.approval["approval"].replace(template.document.id, name).replace(template.document.digest, document.digest),
    }
    return row, approval, {**template.spending, "proposal": name, "at": at}
