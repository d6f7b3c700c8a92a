"""Whether the tables that the gate works on are where the ledger's story ends: nothing in them is news, and nothing of it is missing.

Each row is read once and compared with what the replay kept. Compared is what a decision, an approval, a claim or a budget rests on;
leases, locks, times of the last change and the progress of a change that is being executed are the gate's own notes and are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from msgspec import Struct, json
from pydantic import ValidationError
from sqlalchemy import Connection, Select, Table, and_, func, or_, select

from guardrails.blob import is_committed
from guardrails.budget import stamp
from guardrails.canonical import is_same
from guardrails.hashing import BATCH, doubtful
from guardrails.leaves import Problem
from guardrails.proposal import DIGEST_DOMAIN, Proposal
from guardrails.replay import Replay
from guardrails.store import approvals, blobs, checkpoints, delegations, emergencies, entries, proposals, spending, switches
from guardrails.story import Story, ballot, is_same_requirement


class _Action(Struct, gc=False):
    action: str


class _Draft(Struct, gc=False):
    action: _Action


_decode = json.Decoder().decode
_draft = json.Decoder(_Draft).decode
_PROPOSAL = tuple(
    proposals.c[name]
    for name in (
        "id",
        "tenant",
        "state",
        "version",
        "digest",
        "reason",
        "cluster",
        "requester",
        "contributors",
        "action",
        "draft",
        "verdict",
        "requirement",
        "created_at",
        "claimed_at",
        "failed_at",
        "dry_run",
        "fence",
    )
)


def rows(connection: Connection, query: Select[Any], batch: int = BATCH) -> Iterator[list[Any]]:
    """Batches of plain tuples, as the driver gives them: making SQLAlchemy's rows of them takes half as long again as reading them."""
    result = connection.execution_options(stream_results=True, max_row_buffer=batch).execute(query)
    try:
        while found := result.cursor_strategy.fetchmany(result, result.cursor, batch):
            yield list(found)
    finally:
        result.close()


def check(connection: Connection, log: str, replay: Replay, *, alone: bool) -> list[Problem]:
    """What the tables have otherwise than the ledger tells; none of it is one entry's.

    Where other tenants' ledgers are in the same database, not `alone`, their emergencies and switches are theirs to verify. Documents and
    approvals are not looked at here.
    """
    found = [
        *_check_proposals(connection, log, replay.stories, alone=alone),
        *_check_spending(connection, replay.stories),
        *_check_emergencies(connection, replay, alone=alone),
        *_check_loans(connection, replay, alone=alone),
        *((*_check_switches(connection, replay), *_check_strangers(connection, log)) if alone else ()),
        *_check_blobs(connection, log, replay),
    ]
    return [Problem(-1, what) for what in found]


def _check_proposals(connection: Connection, log: str, stories: dict[str, Story], *, alone: bool) -> Iterator[str]:
    missing, strangers = set(stories), 0
    query = select(*_PROPOSAL)
    for batch in rows(connection, query if alone else query.where(proposals.c.tenant == log)):
        for row in batch:
            name = row[0]
            if row[1] != log:
                strangers += 1
                continue
            story = stories.get(name)
            missing.discard(name)
            if story is None:
                yield f"The proposal {name} is not in the ledger."
                continue
            try:
                what = _difference(row, story)
            except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
                what = f"The row of {name} is damaged: {type(error).__name__}."
            if what:
                yield what
    yield from (f"The proposal {name} is gone." for name in sorted(missing))
    if strangers:
        yield _strange(strangers, proposals)


def _difference(row: tuple[Any, ...], story: Story) -> str:
    """What of a proposal's row is not as the ledger tells; empty when all is. Raises what damaged JSON raises."""
    name, _, state, version, digest, reason, cluster, requester, contributors, action, draft, verdict, requirement = row[:13]
    created_at, claimed_at, failed_at, dry_run, fence = row[13:]
    if (state, digest, reason) != (story.state, story.digest, story.reason):
        return f"The proposal {name} is not as the ledger tells: {state}, there {story.state}."
    if not isinstance(version, int) or version < story.version or fence != story.fence:
        return f"The proposal {name} is older than the ledger tells."
    if (cluster, requester, _list(contributors)) != (story.cluster, story.requester, story.contributors):
        return f"The cluster or the people of {name} are not those of the ledger."
    if (created_at, claimed_at, failed_at) != (story.at, story.claimed_at, story.failed_at):
        return f"The times of {name} are not those of the ledger."
    if _action(draft) != action or not _is_same(draft, story.draft):
        return f"What {name} asks for is not what the ledger tells."
    if verdict is not None if story.verdict is None else not _is_same(verdict, story.verdict):
        return f"The verdict on {name} is not the one in the ledger."
    if story.dry_run and _digest(dry_run) != story.dry_run:
        return f"What people were shown of {name} is not what the dry run said."
    if story.requirement and requirement != story.requirement and not is_same_requirement(requirement, story.requirement):
        return f"{name} requires another agreement than the ledger tells."
    return ""


def check_documents(connection: Connection, log: str, names: Sequence[str] | None = None) -> list[Problem]:
    """Which proposals have a document that does not give their digest, or another end than it says; of all, or of those named."""
    columns = (proposals.c.id, proposals.c.digest, proposals.c.document, proposals.c.expires_at)
    query = select(*columns).where(proposals.c.tenant == log)
    queries = [query]
    if names is not None:
        queries = [query.where(proposals.c.id.in_(names[start : start + BATCH])) for start in range(0, len(names), BATCH)]
    found = []
    for asked in queries:
        for batch in rows(connection, asked):
            doubted = set(doubtful(batch, DIGEST_DOMAIN.decode()))
            found += [what for row in batch if row[0] in doubted and (what := _document_difference(*row))]
    return [Problem(-1, what) for what in found]


def _document_difference(name: str, digest: str | None, document: str | None, expires_at: str | None) -> str:
    if document is None or digest is None:
        return f"The document of {name} is gone, or was never decided."
    try:
        sealed = Proposal.model_validate_json(document)
    except (ValidationError, ValueError, TypeError) as error:
        return f"The document of {name} is damaged: {type(error).__name__}."
    if sealed.digest != digest:
        return f"The document of {name} does not give its digest."
    if expires_at != stamp(sealed.not_after):
        return f"{name} expires at another time than its document says."
    return ""


# Many proposals ask for the same, are decided alike, and would do the same.
_is_same = lru_cache(1024)(is_same)


@lru_cache(1024)
def _action(draft: str) -> str:
    return _draft(draft).action.action


@lru_cache(1024)
def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@lru_cache(1024)
def _list(text: str) -> tuple[str, ...]:
    return tuple(_decode(text))


def check_approvals(connection: Connection, log: str, stories: dict[str, Story]) -> list[Problem]:
    """Which approvals are not those that people gave."""
    return [Problem(-1, what) for what in _check_approvals(connection, log, stories)]


def _check_approvals(connection: Connection, log: str, stories: dict[str, Story]) -> Iterator[str]:
    seen = set()
    told = approvals.outerjoin(entries, and_(entries.c.log == log, entries.c.seq == approvals.c.entry))
    columns = (approvals.c.proposal, approvals.c.approver, approvals.c.approval, approvals.c.entry, entries.c.entry)
    for batch in rows(connection, select(*columns).select_from(told)):
        for proposal, approver, approval, number, entry in batch:
            story = stories.get(proposal)
            if story is None:
                continue
            if (number, approver) in story.approvals and _is(approval, entry):
                seen.add(number)
            else:
                yield f"An approval of {proposal} is not in the ledger."
    for name, story in stories.items():
        yield from (f"The approval of {name} by {who} is gone." for number, who in story.approvals if number not in seen)


def _is(approval: Any, entry: Any) -> bool:
    try:
        return is_same(approval, ballot(entry))
    except (ValueError, TypeError, AttributeError):
        return False


def _check_spending(connection: Connection, stories: dict[str, Story]) -> Iterator[str]:
    missing = {name for name, story in stories.items() if story.claimed_at is not None}
    for batch in rows(connection, select(spending.c.proposal, spending.c.cluster, spending.c.automatic, spending.c.at)):
        for proposal, cluster, automatic, at in batch:
            story = stories.get(proposal)
            if story is None:
                continue
            missing.discard(proposal)
            if (cluster, at, automatic) != (story.cluster, story.claimed_at, int(story.automatic)):
                yield f"What {proposal} took of the hourly budget is not what the ledger tells."
    yield from (f"What {name} took of the hourly budget is gone." for name in sorted(missing))


def _check_emergencies(connection: Connection, replay: Replay, *, alone: bool) -> Iterator[str]:
    columns = ("id", "person", "cluster", "reason", "until", "at", "reviewed_by", "review")
    there = {row[0]: tuple(row) for batch in rows(connection, select(*(emergencies.c[name] for name in columns))) for row in batch}
    told = {name: tuple(getattr(one, column) for column in columns) for name, one in replay.emergencies.items()}
    for name in sorted({*there, *told} if alone else told, key=str):
        if there.get(name) != told.get(name):
            yield f"The emergency {name} is not as the ledger tells."


def _check_loans(connection: Connection, replay: Replay, *, alone: bool) -> Iterator[str]:
    columns = ("id", "giver", "receiver", "reason", "until", "at", "ended_by", "entry")
    asked = select(*(delegations.c[name] for name in columns), delegations.c.groups)
    there = {row[0]: tuple(row) for batch in rows(connection, asked) for row in batch}
    told = {name: (*(getattr(one, column) for column in columns), list(one.groups)) for name, one in replay.loans.items()}
    for name in sorted({*there, *told} if alone else told, key=str):
        row = there.get(name)
        if row is None or (*row[:-1], _loaned(row[-1])) != told.get(name):
            yield f"The delegation {name} is not as the ledger tells."


def _loaned(groups: Any) -> Any:
    try:
        return _decode(groups)
    except (ValueError, TypeError):
        return groups


def _check_strangers(connection: Connection, log: str) -> Iterator[str]:
    """Rows under the name of a tenant who has no ledger here: a changed name would hide them from everybody. Of proposals: above."""
    for table, column in (
        (entries, entries.c.log),
        (checkpoints, checkpoints.c.log),
        (blobs, blobs.c.log),
    ):
        # Not `!=`: for these an index is used.
        count = connection.execute(select(func.count()).select_from(table).where(or_(column < log, column > log))).scalar_one()
        if count:
            yield _strange(count, table)


def _strange(count: int, table: Table) -> str:
    return f"{count} rows of the table {table.name} belong to a ledger that is not there."


def _check_switches(connection: Connection, replay: Replay) -> Iterator[str]:
    columns = (switches.c.scope, switches.c.is_on, switches.c.reason, switches.c.by, switches.c.at)
    there = {row[0]: tuple(row[1:]) for batch in rows(connection, select(*columns)) for row in batch}
    for scope in sorted({*there, *replay.switches}, key=str):
        if there.get(scope) != replay.switches.get(scope):
            yield f"The kill switch {scope} is not as the ledger tells."


def _check_blobs(connection: Connection, log: str, replay: Replay) -> Iterator[str]:
    missing = set(replay.blobs) - set(replay.erased)
    columns = (blobs.c.commitment, blobs.c.kind, blobs.c.salt, blobs.c.content)
    for batch in rows(connection, select(*columns).where(blobs.c.log == log), BATCH // 16):
        for name, kind, salt, content in batch:
            named, told = replay.blobs.get(name, (-1, ""))
            missing.discard(name)
            if named < 0:
                yield f"No entry names the text {str(name)[:16]}."
            elif name in replay.erased:
                yield f"The text of entry {named} was erased, and is there."
            elif kind != told or not is_committed(name, salt, content):
                yield f"A text of entry {named} is not the one that was committed to."
    gone = sorted(replay.blobs[name][0] for name in missing)
    yield from (f"A text of entry {seq} is gone, and no entry tells of its erasure." for seq in gone)
