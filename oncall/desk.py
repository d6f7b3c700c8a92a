"""The gate over one state folder, with the port of one cluster or of a recording, and who is asking. It decides nothing."""

from __future__ import annotations

import getpass
import hashlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import agent.remediation
import guardrails.action
from agent.remediation import Argument, Execution, Remediation
from cluster.errors import ClusterError
from cluster.reading import Reader
from cluster.recorded import RecordedReader
from guardrails.blob import Attachment
from guardrails.bundle import SHIPPED
from guardrails.directory import Directory, Person
from guardrails.errors import GuardrailsError, NotAuthenticated
from guardrails.gate import Gate
from guardrails.office import PEOPLE, Office, open_office
from guardrails.port import ClusterPort
from guardrails.proposal import Evidence
from guardrails.view import ProposalView
from oncall.assembly import fleet, wall_clock
from oncall.errors import UsageError
from oncall.settings import Settings
from runbooks.candidate import Candidate

log = logging.getLogger("smokejumper")


@dataclass(frozen=True)
class Desk:
    """An open gate. `cluster` is the one whose port is open, "" when none is: then nothing can be proposed, explained or executed."""

    gate: Gate
    office: Office
    cluster: str = ""


@asynccontextmanager
async def open_records(settings: Settings) -> AsyncIterator[Desk]:
    """The gate without any cluster: enough to look, approve, deny and withdraw."""
    async with _office(settings, {}) as office:
        yield Desk(Gate(office), office)


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[Desk]:
    """The same for who only reads: a ledger that is not there is not begun by looking at it. Raises UsageError."""
    if isinstance(settings.database, Path) and not settings.database.exists():
        raise UsageError(
            f"there is no ledger in {settings.state_dir}. Name the state folder with --state DIR; the first proposal begins one."
        )
    async with open_records(settings) as desk:
        yield desk


@asynccontextmanager
async def open_desk(settings: Settings, recording: Path | None = None, now: datetime | None = None) -> AsyncIterator[Desk]:
    """The gate with the port of a recording (which rehearses), or of the cluster of the settings' context, as the executor's account;
    what is only tried goes out as the dry-run account where one is configured.

    A cluster is known by the context that reads it, whichever account writes.
    """
    if recording is not None:
        async with RecordedReader.open(recording, now) as recorded, desk_over(settings, recorded) as desk:
            yield desk
        return
    inventory = fleet(settings)
    name = inventory.target(settings.context).context
    from cluster.write import KubeWriter

    async with AsyncExitStack() as opened:
        executor = settings.executor_context or name
        connection = await opened.enter_async_context(await inventory.connect(executor))
        trying = connection
        if settings.dry_run_context not in (None, executor):
            trying = await opened.enter_async_context(await inventory.connect(settings.dry_run_context))
        office = await opened.enter_async_context(_office(settings, {name: KubeWriter(connection, wall_clock, trying, name)}))
        yield Desk(Gate(office), office, name)


@asynccontextmanager
async def desk_over(settings: Settings, reader: Reader) -> AsyncIterator[Desk]:
    """The gate beside a reader that is already open: rehearsing for a recording, the executor's account for a live cluster."""
    if isinstance(reader, RecordedReader):
        from cluster.rehearsal import Rehearsal

        async with _office(settings, {reader.cluster: Rehearsal(reader, wall_clock)}) as office:
            yield Desk(Gate(office), office, reader.cluster)
        return
    async with open_desk(settings) as desk:
        yield desk


async def known_clusters(settings: Settings, desk: Desk) -> tuple[str, ...]:
    """The contexts of the kubeconfig, as far as one can be read, and every cluster that anything was proposed for, by name."""
    try:
        contexts = {context.name for context in fleet(settings).contexts()}
    except ClusterError as error:
        log.debug("No context is known: %s", error)
        contexts = set()
    return tuple(sorted(contexts | set(await desk.gate.clusters())))


def remediation(desk: Desk, person: Person, channel: str) -> Remediation:
    """What an investigation may ask of the gate, on behalf of a person. The gate's refusals are its answers."""

    async def propose(candidate: Candidate, incident_id: str, argument: Argument) -> agent.remediation.ProposalView:
        evidence = (Attachment("evidence", argument.evidence),) if argument.evidence else ()
        target = guardrails.action.target(candidate.target.kind, candidate.target.namespace, candidate.target.name)
        try:
            shown = await desk.gate.propose(
                candidate.document,
                target,
                cluster=desk.cluster,
                requester=person.name,
                evidence=evidence_of(candidate.evidence, from_agent=True, read_at=argument.read_at),
                channel=channel,
                reason=candidate.why,
                key=incident_id,
                attachments=(*evidence, *(Attachment("prompt", asked) for asked in argument.prompts)),
            )
        except GuardrailsError as error:
            return agent.remediation.ProposalView("", "", "rejected", str(candidate.target), str(error))
        return _told(shown)

    async def status(proposal: str) -> agent.remediation.ProposalView:
        return _told(await desk.gate.status(proposal))

    async def execute(proposal: str, digest: str) -> Execution:
        try:
            outcome = await desk.gate.execute(proposal, digest, person.name)
        except GuardrailsError as error:
            return Execution(proposal, (await desk.gate.status(proposal)).state.value, str(error))
        return Execution(proposal, outcome.state.value, outcome.detail)

    return Remediation(propose, status, execute)


def _told(shown: ProposalView) -> agent.remediation.ProposalView:
    detail = " ".join(part for part in (shown.detail, shown.next_step) if part)
    return agent.remediation.ProposalView(shown.id, shown.digest or "", shown.state.value, shown.summary, detail)


def requester(directory: Directory, token: str | None, account: str | None = None) -> Person:
    """Who asks: the holder of the token, else the person whose account (this process's by default) it is. Raises NotAuthenticated.

    Nobody asks anonymously, because the requester must be told from the approvers.
    """
    if token:
        return directory.authenticate(token)
    account = account or getpass.getuser()
    person = directory.by_os_user(account)
    if person is None:
        raise NotAuthenticated(
            f"Nobody in the directory is known by the account {account!r}, so it cannot be told who asks.",
            next_step=f"Link it once (smokejumper people add NAME --group sre-oncall --os-user {account}) or set SMOKEJUMPER_TOKEN.",
        )
    return person


def signed_in(directory: Directory, user: str) -> Person:
    """The person whom clusters know by the name that an access token gave. Raises NotAuthenticated."""
    person = directory.by_kubernetes_user(user) if user else None
    if person is None:
        raise NotAuthenticated(
            f"Nobody in the directory is known to clusters as {user[:200]!r}, so it cannot be told who asks.",
            next_step="Link them once, and to one person only: smokejumper people add NAME --group GROUP --kubernetes-user USER.",
        )
    return person


def people(settings: Settings) -> Directory:
    """The directory of the state folder. Raises BadDirectory."""
    return Directory.load(settings.state_dir / PEOPLE)


def evidence_of(ids: Iterable[str], *, from_agent: bool, read_at: datetime | None = None) -> Evidence:
    """Evidence by id. It counts as free text of the cluster unless a person asks without arguing from any."""
    listed = tuple(sorted(set(ids)))
    root = hashlib.sha256("\n".join(listed).encode()).hexdigest() if listed else ""
    return Evidence(root=root, ids=listed, tainted=from_agent or bool(listed), read_at=read_at)


@asynccontextmanager
async def _office(settings: Settings, ports: Mapping[str, ClusterPort]) -> AsyncIterator[Office]:
    bundle = settings.policy_bundle or SHIPPED
    key = settings.ledger_key.get_secret_value() if settings.ledger_key else None
    database = settings.database_url.get_secret_value() if settings.database_url else None
    async with open_office(settings.state_dir, ports, estate=settings.estate, bundle=bundle, key=key, database=database) as office:
        yield office
