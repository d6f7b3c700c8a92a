"""A clock that moves when told to, a cluster in memory, three people and a gate over a real database file."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from guardrails.action import RolloutUndo, target
from guardrails.blob import Attachment
from guardrails.directory import Directory, Person
from guardrails.estate import Estate
from guardrails.gate import Gate
from guardrails.office import ANCHOR, PEOPLE, Office, open_office
from guardrails.proposal import Evidence
from guardrails.view import ProposalView
from tests.guardrails.fake_cluster import FakeCluster, deployment, node, pod, replica_set, roll_out

if TYPE_CHECKING:
    from tests.postgres import Databases

START = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
UNDO = RolloutUndo()
WEB = target("Deployment", "shop", "web")
EVIDENCE = Attachment("evidence", "event Failed: manifest unknown, password=hunter2hunter2")
CALM = Evidence(root="r", ids=("e1",), tainted=False)
# For a test, or a module's `pytestmark`: run it on a file and on a server.
on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


class FakeClock:
    """Time that passes only by `pass_` and by sleeping."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def pass_(self, **amount: float) -> None:
        self.moment += timedelta(**amount)


def numbered(more: str = "") -> Callable[[str], str]:
    """Ids that count."""
    numbers = count(1)
    return lambda prefix: f"{prefix}-{more}{next(numbers)}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def small_cluster(clock: FakeClock) -> FakeCluster:
    """One Deployment of two revisions, which rolls out what it is told to, a pod and its node."""
    fake = FakeCluster(clock, deployment(), replica_set(1, "web:1"), replica_set(2, "web:2"), node(), pod())
    fake.heal = roll_out
    return fake


@pytest.fixture
def cluster(clock: FakeClock) -> FakeCluster:
    return small_cluster(clock)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with people, a key and an empty database: copying one is quicker than making one."""
    folder = tmp_path_factory.mktemp("furnished")
    directory = Directory.load(folder / PEOPLE)
    directory.add("ada", ["sre-oncall"], kubernetes_user="ada@example.org")
    directory.add("bob", ["sre-oncall"])
    directory.add("cleo", ["sre-oncall", "gpu-oncall"])
    directory.add("mallory", [])

    async def furnish() -> None:
        async with open_office(folder, {}):
            pass

    asyncio.run(furnish())
    return folder


@pytest.fixture(scope="session")
def told_folder(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose ledger tells of an executed proposal, a text that is kept, and one that was erased. To be copied."""
    folder = tmp_path_factory.mktemp("told")
    shutil.copytree(furnished, folder, dirs_exist_ok=True)

    async def tell() -> None:
        clock = FakeClock()
        async with open_office(folder, {"lab": small_cluster(clock)}, clock=clock, ids=numbered(), durable=False) as office:
            gate = Gate(office)
            shown = await propose_undo(gate)
            await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
            await gate.execute(shown.id, shown.digest or "", "ada")
            async with office.ledger.transaction() as writing:
                await writing.append("note", None, {}, (EVIDENCE, Attachment("prompt", "kept")))
            await office.ledger.erase(await blob_of(office, "evidence"), by="cleo", reason="a secret was in it")

    asyncio.run(tell())
    return folder


async def blob_of(office: Office, kind: str) -> str:
    """The commitment of the last text of a kind."""
    named = [blob for entry in await office.ledger.entries() for blob in entry.body.get("blobs", ())]
    return str([blob["commitment"] for blob in named if blob["kind"] == kind][-1])


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str | None:
    """None for the file in the state folder, which is the default; the URL of an empty database on the server under `on_both`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    databases: Databases = request.getfixturevalue("databases")
    return databases.emptied()


@pytest.fixture
def people(tmp_path: Path, furnished: Path, database: str | None) -> Directory:
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    if database is not None:
        # It is the anchor of the ledger in the furnished file.
        (tmp_path / ANCHOR).unlink()
    return Directory.load(tmp_path / PEOPLE)


@pytest.fixture
async def office(tmp_path: Path, clock: FakeClock, cluster: FakeCluster, people: Directory, database: str | None) -> AsyncIterator[Office]:
    estate = Estate(namespace_environments={"staging-*": "staging"})
    async with open_office(
        tmp_path, {"lab": cluster}, estate=estate, clock=clock, ids=numbered(), database=database, durable=False
    ) as office:
        yield office


@pytest.fixture
def gate(office: Office) -> Gate:
    return Gate(office)


def person(office: Office, name: str) -> Person:
    found = office.directory.find(name)
    assert found is not None
    return found


async def propose_undo(gate: Gate, requester: str = "ada") -> ProposalView:
    shown = await gate.propose(UNDO, WEB, cluster="lab", requester=requester, evidence=CALM)
    assert shown.state == "pending", shown.detail
    return shown
