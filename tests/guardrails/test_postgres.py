"""What a real PostgreSQL refuses, whose rows it shows to whom, and what a connection that breaks at the worst moment leaves behind."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import insert, text

from guardrails.audit import verify
from guardrails.claim import LEASE_SECONDS
from guardrails.directory import Directory
from guardrails.errors import BadStore, UnknownCommit
from guardrails.estate import Estate
from guardrails.executor import Executor
from guardrails.gate import Gate
from guardrails.migration import Migrated, migrate
from guardrails.note import Verifier
from guardrails.office import ANCHOR, VERIFIER, Office, open_office
from guardrails.postgres import SCHEMA
from guardrails.proposal import State
from guardrails.rights import RIGHTS, grants, script
from guardrails.store import DEFAULT_TENANT, VERSION, Store, metadata, switches
from tests.guardrails.conftest import FakeClock, numbered, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster
from tests.postgres import OWNER, RUNTIME, SUPERUSER, Databases

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database", ["postgresql"], indirect=True)]
SWITCH = {"scope": "*", "is_on": 1, "reason": "r", "by": "b", "at": "a"}
RIVAL = "smokejumper_rival"


def _name(url: str) -> str:
    return url.split("@/")[1].split("?")[0]


async def _report(office: Office, folder: Path) -> str:
    verifier = Verifier.parse((folder / VERIFIER).read_text())
    report = await verify(office.store, verifier, log=office.ledger.log, anchor=folder / ANCHOR)
    assert (report.status == "intact") == (report.problems == ())
    return report.status


async def _done(office: Office) -> str:
    """Bring one proposal to its end; its id."""
    gate = Gate(office)
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    return shown.id


# ---- what the runtime's role may do


def test_the_rights_are_those_that_are_written_down(databases: Databases, database: str) -> None:
    assert set(RIGHTS) == set(metadata.tables), "a new table needs its rights in guardrails/rights.py"
    rows = databases.server.psql(
        f"SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = '{RUNTIME}'", _name(database)
    )
    granted = {tuple(row.split("|")) for row in rows.split()}
    assert granted == {(table, right) for table, rights in RIGHTS.items() for right in rights} | {("schema_version", "SELECT")}
    assert all("TRUNCATE" not in rights for rights in RIGHTS.values())
    assert all(RIGHTS[f"ledger_{table}"] == ("SELECT", "INSERT") for table in ("entry", "checkpoint"))


REFUSED = {
    "edit an entry": "UPDATE ledger_entry SET entry = replace(entry, 'bob', 'eve')",
    "edit one field of an entry": "UPDATE ledger_entry SET at = '' WHERE seq = 0",
    "remove an entry": "DELETE FROM ledger_entry WHERE seq = 0",
    "remove all entries": "TRUNCATE ledger_entry",
    "edit a checkpoint": "UPDATE ledger_checkpoint SET note = ''",
    "remove checkpoints": "DELETE FROM ledger_checkpoint",
    "truncate checkpoints": "TRUNCATE ledger_checkpoint",
    "remove the head": "DELETE FROM ledger_head",
    "truncate the head": "TRUNCATE ledger_head",
    "edit a text": "UPDATE ledger_blob SET content = ''",
    "edit an approval": "UPDATE approval SET approver = 'eve'",
    "remove an approval": "DELETE FROM approval",
    "remove a proposal": "DELETE FROM proposal",
    "remove what was spent": "DELETE FROM spending",
    "drop the ledger": "DROP TABLE ledger_entry",
    "change the ledger's table": "ALTER TABLE ledger_entry ADD COLUMN x text",
    "switch off row security": "ALTER TABLE ledger_entry DISABLE ROW LEVEL SECURITY",
    "switch off row security for the session": "SET row_security = off; SELECT * FROM ledger_entry",
    "another policy": "CREATE POLICY mine ON ledger_entry USING (true)",
    "a trigger": "CREATE TRIGGER t BEFORE INSERT ON ledger_entry FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a table beside ours": "CREATE TABLE smokejumper.mine (x text)",
    "the tenants": "SELECT * FROM tenant_role",
    "become another tenant": f"UPDATE tenant_role SET tenant = 'rival' WHERE role = '{RUNTIME}'",
    "become the owner": f"SET ROLE {OWNER}",
    "another version": "UPDATE schema_version SET version = 99",
    "an entry for somebody else": "INSERT INTO ledger_entry SELECT 'rival', seq, id, at, type, proposal, entry, leaf FROM ledger_entry",
    "a switch for somebody else": "INSERT INTO kill_switch (tenant, scope, is_on, reason, by, at) VALUES ('rival', '*', 1, '', '', '')",
    "give a proposal away": "UPDATE proposal SET tenant = 'rival'",
}


async def test_the_server_refuses_what_would_rewrite_history(databases: Databases, database: str, office: Office, tmp_path: Path) -> None:
    """Every attempt as the role that the gate has; afterwards nothing has changed."""
    await _done(office)
    answers = {}
    for what, statement in REFUSED.items():
        try:
            databases.server.psql(f"SET search_path = {SCHEMA}; {statement}", _name(database), RUNTIME)
            answers[what] = "done"
        except subprocess.CalledProcessError as error:
            answers[what] = error.stderr
    for what, answer in answers.items():
        if what == "switch off row security for the session":
            assert "would be affected by row-level security" in answer
        else:
            assert any(word in answer for word in ("permission denied", "must be owner", "row-level security policy")), (what, answer)
    assert await _report(office, tmp_path) == "intact"


async def test_a_refusal_is_told_with_a_next_step(office: Office) -> None:
    async def edit() -> None:
        async with office.store.write() as connection:
            await connection.execute(text("DELETE FROM ledger_entry"))

    with pytest.raises(BadStore, match=r"permission denied for table ledger_entry.*database sql"):
        await edit()


@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
async def test_who_could_rewrite_the_ledger_is_not_let_run(databases: Databases, database: str, role: str) -> None:
    with pytest.raises(BadStore, match=r"could rewrite the ledger.*database sql"):
        await Store.open(databases.server.url(_name(database), role))


async def test_tenants_see_and_touch_only_their_own(
    databases: Databases, database: str, office: Office, cluster: FakeCluster, clock: FakeClock, people: Directory, tmp_path: Path
) -> None:
    """Two tenants in one database, with proposals and entries of the same names, each with a ledger of its own that is intact."""
    name = _name(database)
    databases.server.psql(f"CREATE ROLE {RIVAL} LOGIN")
    databases.server.psql("BEGIN;" + ";".join(grants(RIVAL, "rival")) + ";COMMIT", name, OWNER)
    url = databases.server.url(name, RIVAL)
    folder = tmp_path / "rival"
    Directory.load(folder / "people.json").add("zoe", ["sre-oncall"])
    ours = await _done(office)
    async with open_office(folder, {"lab": cluster}, estate=Estate(tenant="rival"), clock=clock, ids=numbered(), database=url) as rival:
        assert await Gate(rival).list() == ()
        assert {entry.type for entry in await rival.ledger.entries()} == {"policy.loaded"}
        await Gate(rival).pause("zoe", "only ours")
        assert await Gate(office).switches() == ()
        async with rival.store.write() as connection:
            # Neither seen nor touched, though the rows are there.
            assert (await connection.execute(text("UPDATE proposal SET reason = 'stolen'"))).rowcount == 0
            assert (await connection.execute(text("SELECT count(*) FROM approval"))).scalar() == 0
        assert await _report(rival, folder) == "intact"
    assert (await Gate(office).status(ours)).state is State.SUCCEEDED
    assert await _report(office, tmp_path) == "intact"
    with pytest.raises(BadStore, match=r"belongs to the tenant rival, not to default.*--role smokejumper_rival --tenant default"):
        await Store.open(url)


async def test_a_role_without_a_tenant(databases: Databases, database: str) -> None:
    databases.server.psql(f"DELETE FROM {SCHEMA}.tenant_role", _name(database), OWNER)
    try:
        with pytest.raises(BadStore, match="belongs to no tenant"):
            await Store.open(database)
    finally:
        databases.server.psql(f"INSERT INTO {SCHEMA}.tenant_role VALUES ('{RUNTIME}', '{DEFAULT_TENANT}')", _name(database), OWNER)


# ---- versions


async def test_tables_are_made_once_and_their_version_is_checked(databases: Databases, database: str) -> None:
    name = databases.new()
    databases.server.psql(f"GRANT CREATE ON DATABASE {name} TO {OWNER}")
    ours, owners = databases.server.url(name, RUNTIME), databases.server.url(name, OWNER)
    with pytest.raises(BadStore, match=r"has no tables of Smokejumper.*database migrate"):
        await Store.open(ours)
    assert await migrate(owners, role=RUNTIME, tenant=DEFAULT_TENANT) == Migrated(0, VERSION)
    await (await Store.open(ours)).close()
    assert await migrate(owners) == Migrated(VERSION, VERSION)
    for version, message in (
        (0, r"older version.*as their owner: smokejumper database migrate"),
        (VERSION + 1, r"newer version.*Run that version"),
    ):
        databases.server.psql(f"UPDATE {SCHEMA}.schema_version SET version = {version}", name, OWNER)
        with pytest.raises(BadStore, match=message):
            await Store.open(ours)
    with pytest.raises(BadStore, match=r"newer version.*nothing was changed"):
        await migrate(owners)
    with pytest.raises(BadStore, match="permission denied"):
        await migrate(databases.server.url(databases.new(), RUNTIME))


def test_what_is_printed_may_be_run_as_it_is_and_names_are_checked(databases: Databases, database: str) -> None:
    name = databases.new()
    databases.server.psql(script("it-is", "O'Hara & sons", "its_owner"), name)
    assert databases.server.psql(f"SELECT * FROM {SCHEMA}.tenant_role", name) == "it-is|O'Hara & sons\n"
    for role, tenant in (("a; DROP ROLE b", "t"), ('a"b', "t"), ("", "t"), ("a", ""), ("a", "line\nbreak")):
        with pytest.raises(BadStore, match="is no name of a"):
            grants(role, tenant)


# ---- one writer at a time


async def test_two_gates_do_not_fork_the_ledger(database: str, office: Office, clock: FakeClock, tmp_path: Path) -> None:
    async with (
        open_office(tmp_path, {}, clock=clock, ids=numbered("second-"), database=database) as second,
        anyio.create_task_group() as group,
    ):
        for number in range(20):

            async def append(one: Office, number: int) -> None:
                async with one.ledger.transaction() as writing:
                    await writing.append("note", None, {"number": number})

            group.start_soon(append, (office, second)[number % 2], number)
    entries = [entry for entry in await office.ledger.entries() if entry.type == "note"]
    assert sorted(entry.body["number"] for entry in entries) == list(range(20))
    assert await _report(office, tmp_path) == "intact"


async def test_who_writes_without_the_lock_is_refused_by_the_keys(
    databases: Databases, database: str, office: Office, tmp_path: Path
) -> None:
    """Another program with the runtime's rights puts an entry where the next one belongs."""
    next_one = len(await office.ledger.entries())
    databases.server.psql(
        f"SET search_path = {SCHEMA}; INSERT INTO ledger_entry SELECT log, {next_one}, 'x', at, type, proposal, entry, leaf"
        " FROM ledger_entry WHERE seq = 0",
        _name(database),
        RUNTIME,
    )
    with pytest.raises(BadStore, match="refused a statement"):
        await propose_undo(Gate(office))
    assert await _report(office, tmp_path) == "tampered"


async def test_a_turn_that_does_not_come_is_an_error(database: str) -> None:
    """While one writes, the next waits for the same lock, here with less patience than usual."""
    store = await Store.open(database)

    async def wait() -> None:
        async with store.read() as connection:
            await connection.execute(text("SET lock_timeout = '10ms'"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('smokejumper/' || tenant_of_session(), 0))"))

    async with store.write():
        with pytest.raises(BadStore, match=r"is locked.*Another process"):
            await wait()
    await store.close()


# ---- a server that goes away


class Wire:
    """A socket before the server's that passes everything on, until a commit: that never arrives, or its answer never does."""

    def __init__(self, server: Path, folder: Path) -> None:
        self._server = server
        self.folder = folder
        self._cut = ""
        self._left = 0

    def cut(self, when: str, after: int = 0) -> None:
        """Break the connection "before" or "after" the commit of a change that follows so many others."""
        self._cut, self._left = when, after

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://{RUNTIME}@/{_name(database)}?host={self.folder}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        there, back = await asyncio.open_unix_connection(self._server / ".s.PGSQL.5432")
        answers = asyncio.create_task(_pass(there, writer))
        reading = False
        try:
            while data := await reader.read(65536):
                if b"BEGIN" in data:
                    reading = b"READ ONLY" in data
                if b"COMMIT;" in data and not reading and self._cut:
                    self._left -= 1
                    if self._left < 0:
                        how, self._cut = self._cut, ""
                        answers.cancel()
                        await asyncio.gather(answers, return_exceptions=True)
                        if how == "after":
                            back.write(data)
                            # Its answer arrives here, and goes no further.
                            await there.read(1)
                        return
                back.write(data)
                await back.drain()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            for one in (writer, back):
                one.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def wire(databases: Databases) -> AsyncIterator[Wire]:
    # Not in pytest's folder: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="smokejumper-wire-") as folder:
        wire = Wire(databases.server.folder, Path(folder))
        async with await asyncio.start_unix_server(wire.serve, wire.folder / ".s.PGSQL.5432"):
            yield wire


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_whose_answer_is_lost_is_unknown(database: str, wire: Wire, when: str) -> None:
    store = await Store.open(wire.url(database))

    async def write() -> None:
        async with store.write() as connection:
            await connection.execute(insert(switches).values(**SWITCH))
            wire.cut(when)

    with pytest.raises(UnknownCommit, match=r"may be stored or not.*Look before"):
        await write()
    async with store.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM kill_switch"))).scalar() == (1 if when == "after" else 0)
    await store.close()


# Of an execution: the claim, what is intended, what was answered, verifying, and the end.
COMMITS = 5


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(COMMITS))
async def test_no_lost_answer_makes_anything_happen_twice(
    database: str, wire: Wire, office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path, number: int, when: str
) -> None:
    """The connection breaks at one commit of the execution; whoever looks afterwards finds the truth, and one effect."""
    gate = Gate(office)
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    async with open_office(
        tmp_path, {"lab": cluster}, estate=office.estate, clock=clock, ids=numbered("wired-"), database=wire.url(database)
    ) as wired:
        wire.cut(when, after=number)
        with pytest.raises(BadStore):
            await Executor(wired).execute(shown.id, shown.digest or "", "ada")
    clock.pass_(seconds=LEASE_SECONDS)
    await gate.recover()
    if (await gate.status(shown.id)).state is State.APPROVED:
        assert (number, when, cluster.writes) == (0, "before", [])
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is State.SUCCEEDED
    assert len(cluster.writes) == 1
    assert await _report(office, tmp_path) == "intact"


async def test_a_connection_that_died_while_idle_is_replaced(databases: Databases, database: str, office: Office) -> None:
    databases.cut_off()
    assert (await propose_undo(Gate(office))).state is State.PENDING


async def test_a_connection_that_dies_within_a_transaction_changes_nothing(databases: Databases, office: Office) -> None:
    async def write() -> None:
        async with office.store.write() as connection:
            await connection.execute(insert(switches).values(**SWITCH))
            await asyncio.to_thread(databases.cut_off)
            await connection.execute(text("SELECT 1"))

    with pytest.raises(BadStore, match=r"cannot be reached.*Nothing was changed") as raised:
        await write()
    assert not isinstance(raised.value, UnknownCommit)
    assert await Gate(office).switches() == ()


async def test_a_server_that_is_not_there(tmp_path: Path, database: str) -> None:
    with pytest.raises(BadStore, match="cannot be reached"):
        await Store.open(f"postgresql+asyncpg://somebody:hunter2@/x?host={tmp_path}")


async def test_a_database_that_is_not_there_and_a_password_that_is_not_told(databases: Databases, database: str) -> None:
    with pytest.raises(BadStore, match=r":\*\*\*@.*does not let us in") as raised:
        await Store.open(f"postgresql+asyncpg://{RUNTIME}:hunter2@/nowhere?host={databases.server.folder}")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["", "no url", "mysql://a:hunter2@b/c", "postgresql://a:hunter2@b/c", "sqlite:///x"])
async def test_other_urls_are_refused(url: str, database: str) -> None:
    with pytest.raises(BadStore, match=r"postgresql\+asyncpg://ROLE@HOST/DATABASE") as raised:
        await Store.open(url)
    assert "hunter2" not in str(raised.value)
