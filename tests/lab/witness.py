"""The witness over everything that all tests did to one API server: what the product wrote, each time with a grant, each grant once.

It believes the audit log about what happened and the ledgers' databases about what was allowed, and compares the two by what was really
sent: path, uid and body. What tests do with their own hands is told apart by the client that sent it, not by the user, because tests
bypass the gate as the very accounts that the product uses. It reads and judges; nothing here talks to a cluster.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from guardrails.grant import Grant
from guardrails.journal import Purpose, step_number
from guardrails.office import DATABASE
from guardrails.proposal import Proposal
from guardrails.request import ApiRequest
from guardrails.store import Store, entries, proposals, steps
from tests.lab.api import USER_AGENT
from tests.lab.audit import MACHINERY, Write

# The control plane's own programs, by user and client: our service accounts are `system:` users too, and are none of these.
PROGRAMS = ("kube-controller-manager/", "kube-scheduler/", "kube-apiserver/", "kwok/")
SHOWN = 20

Rows = Iterable[tuple[Any, ...]]


@dataclass(frozen=True)
class Permission:
    """One request that was claimed, and may be sent once: by which proposal, for what, and with which receipt."""

    proposal: str
    purpose: Purpose
    number: int
    request: ApiRequest
    uid: str
    receipt: str
    audit_ids: frozenset[str] = frozenset()

    def covers(self, write: Write) -> bool:
        """Whether the write is this request: same path, same object, and a body that holds all that was agreed and nothing else."""
        body: Mapping[str, Any] = write.body or {}
        if write.uri.partition("?")[0] != self.request.path:
            return False
        if self.request.method == "PATCH":
            metadata = body.get("metadata") or {}
            version = str(metadata.get("resourceVersion", ""))
            sent = self.request.bind(receipt=self.receipt, uid=self.uid, resource_version=version).body()
            return write.verb == "patch" and sent == body
        if self.request.method == "POST":
            options, verb, agreed = body.get("deleteOptions") or {}, "create", self.request.body
        else:
            # Of the options of a deletion the server logs its internal version, not the one that was sent.
            options, verb = body, "delete"
            agreed = {key: value for key, value in self.request.body.items() if key not in ("apiVersion", "kind")}
        return write.verb == verb and (options.get("preconditions") or {}).get("uid") == self.uid and holds(body, agreed)


def holds(found: Any, wanted: Any) -> bool:
    """Whether everything wanted is in what was found. The API server writes defaults into the options that it logs."""
    if isinstance(wanted, dict):
        return isinstance(found, Mapping) and all(holds(found.get(key), value) for key, value in wanted.items())
    return bool(found == wanted)


@dataclass(frozen=True)
class Account:
    """What the witness has to say. `offences` are writes without a grant, or with one that was used already."""

    writes: tuple[Write, ...]
    granted: tuple[tuple[Write, Permission], ...]
    offences: tuple[str, ...]
    by_hand: int
    joined: int

    def __str__(self) -> str:
        users = Counter(write.user for write in self.writes)
        shown = ", ".join(f"{user} {number}" for user, number in sorted(users.items())) or "none"
        return (
            f"{len(self.writes)} writes of the product in the audit log ({shown}), {len(self.granted)} with a grant, "
            f"{len(self.offences)} without or twice; {self.joined} joined to a ledger by Audit-ID; {self.by_hand} more were the tests' own"
        )

    def complaint(self) -> str:
        """The offending lines, at most twenty; empty when there are none."""
        left = len(self.offences) - SHOWN
        return "\n".join([*self.offences[:SHOWN], *([f"and {left} more"] if left > 0 else [])])


def account_for(log: Iterable[Write], permitted: Iterable[Permission]) -> Account:
    """Judge all writing requests of an audit log, those of the machinery included, by what was permitted.

    A request counts as a write when it succeeded and also when nobody knows: unanswered, or answered with 5xx.
    """
    permissions: dict[str, list[Permission]] = {}
    for permission in permitted:
        permissions.setdefault(permission.request.path, []).append(permission)
    used: Counter[tuple[str, Purpose, int]] = Counter()
    writes: list[Write] = []
    granted: list[tuple[Write, Permission]] = []
    offences: list[str] = []
    by_hand = 0
    for write in log:
        happened = write.code is not None and 200 <= write.code < 300
        if write.dry_run or not (happened or write.code is None or write.code >= 500):
            continue
        if write.agent == USER_AGENT:
            by_hand += 1
            continue
        if write.user.startswith(MACHINERY) and write.agent.startswith(PROGRAMS):
            continue
        writes.append(write)
        found = next((one for one in permissions.get(write.uri.partition("?")[0], ()) if one.covers(write)), None)
        if found is None:
            offences.append(f"without a grant: {described(write)}")
            continue
        granted.append((write, found))
        key = (found.receipt, found.purpose, found.number)
        used[key] += happened
        if used[key] > 1 and happened:
            offences.append(
                f"{found.proposal} was granted request {found.number} ({found.purpose}) once, and it was sent again: {described(write)}"
            )
    joined = sum(write.audit_id in permission.audit_ids for write, permission in granted)
    return Account(tuple(writes), tuple(granted), tuple(offences), by_hand, joined)


def described(write: Write) -> str:
    """A write as one line."""
    return f"{write.at} {write.user} ({write.agent}) {write.verb} {write.uri} -> {write.code} {json.dumps(write.body)[:300]}"


def permitted_below(folder: Path, cluster_uid: str) -> tuple[tuple[Permission, ...], tuple[Path, ...]]:
    """(what the databases anywhere below a folder permitted in a cluster, those that cannot be read: tests damage some on purpose)."""
    found: list[Permission] = []
    unreadable: list[Path] = []
    for database in sorted(folder.rglob(DATABASE)):
        try:
            found += permitted(database, cluster_uid)
        except sqlite3.DatabaseError:
            unreadable.append(database)
    return tuple(found), tuple(unreadable)


def permitted(database: Path, cluster_uid: str) -> tuple[Permission, ...]:
    """What the proposals of a file were permitted to send to a cluster."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        documents = connection.execute(
            "SELECT id, digest, document FROM proposal WHERE claimed_at IS NOT NULL AND instr(document, ?)", (cluster_uid,)
        ).fetchall()
        if not documents:
            return ()
        moves = connection.execute("SELECT proposal, entry FROM ledger_entry WHERE type = 'proposal.moved'").fetchall()
        written = connection.execute("SELECT proposal, n, purpose, request_digest, receipt FROM step").fetchall()
    return permissions(documents, moves, written)


async def permitted_in(store: Store) -> tuple[Permission, ...]:
    """What the proposals of any database were permitted to send."""
    claimed = select(proposals.c.id, proposals.c.digest, proposals.c.document).where(proposals.c.claimed_at.is_not(None))
    moved = select(entries.c.proposal, entries.c.entry).where(entries.c.type == "proposal.moved")
    written = select(steps.c.proposal, steps.c.n, steps.c.purpose, steps.c.request_digest, steps.c.receipt)
    async with store.read() as connection:
        found = [(await connection.execute(query)).all() for query in (claimed, moved, written)]
    documents, moves, written_down = ([tuple(row) for row in rows] for rows in found)
    return permissions(documents, moves, written_down)


def permissions(documents: Rows, moves: Rows, written: Rows) -> tuple[Permission, ...]:
    """The requests whose intent a claimed proposal wrote down, and only if the ledger has the claim.

    `documents` are (id, digest, document) of proposals, `moves` (proposal, entry) of the ledger, `written` (proposal, number, purpose,
    digest of the request, receipt) of steps.
    """
    claims = {(proposal, body["digest"]) for proposal, text in moves if (body := json.loads(text)["body"]).get("to") == "executing"}
    intents: dict[tuple[str, Purpose, int], list[tuple[str, str]]] = {}
    for id_, n, purpose, digest, receipt in written:
        audit_id = (json.loads(receipt).get("audit_id") or "") if receipt else ""
        intents.setdefault((id_, purpose, n), []).append((digest, audit_id))
    found: list[Permission] = []
    for id_, digest, document in documents:
        if (id_, digest) not in claims:
            continue
        proposal = Proposal.model_validate_json(document)
        purposes: tuple[tuple[Purpose, tuple[ApiRequest, ...]], ...] = (
            ("change", proposal.change.requests),
            ("rollback", proposal.change.inverse),
        )
        for purpose, requests in purposes:
            grant = granted_by(id_, proposal, purpose, requests)
            for number, request in enumerate(requests):
                sent = [
                    audit_id
                    for wanted, audit_id in intents.get((id_, purpose, step_number(number, purpose)), ())
                    if wanted == request.digest
                ]
                if sent:
                    uid = request.uid or grant.target_uid
                    found.append(Permission(id_, purpose, number, request, uid, grant.receipt, frozenset(sent) - {""}))
    return tuple(found)


def granted_by(id_: str, proposal: Proposal, purpose: Purpose, requests: tuple[ApiRequest, ...]) -> Grant:
    """The grant of a sealed proposal, as its executor makes it."""
    return Grant(
        proposal_id=id_,
        proposal_digest=proposal.digest,
        cluster_uid=proposal.cluster_uid,
        target_uid=proposal.target.uid or "",
        request_digests=tuple(request.digest for request in requests),
        purpose=purpose,
        fence=1,
        not_after=proposal.not_after,
    )
