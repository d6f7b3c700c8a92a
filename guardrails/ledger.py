"""The tamper-evident record of everything that happened to a proposal: an RFC 6962 log in the database that holds the state.

An entry is written in the transaction of the change that it tells of, so neither exists without the other. Every transaction ends
with a signed checkpoint in the head and, after the commit, in an anchor file beside the key; the anchor catches a database that was
cut short or put back to an older state. One checkpoint in every 256 entries is kept for good. Whoever holds database, key and anchor can
rewrite history back to the last checkpoint that somebody else keeps, no further. No entry is ever erased or edited; a blob that an entry
names may be erased, which is an entry itself.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import rfc8785
from msgspec import Struct
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.blob import Attachment, Blob, find, keep, new_salt, remove
from guardrails.clock import Clock, random_id
from guardrails.errors import BadLedger
from guardrails.merkle import Frontier, inclusion_proof, leaf_hash
from guardrails.note import Checkpoint, Signer
from guardrails.store import Store, checkpoints, entries, heads

# A signature takes 100 microseconds to check: one for each transaction would make a long ledger slow to verify.
CHECKPOINT_EVERY = 256
BATCH = 2000


class Entry(Struct, frozen=True):
    """One entry as people read it."""

    seq: int
    id: str
    at: str
    type: str
    proposal: str | None
    body: dict[str, Any]


class Ledger:
    """The log of one tenant. Only `transaction` writes."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        clock: Clock,
        *,
        anchor: Path | None = None,
        tenant: str = "default",
        ids: Callable[[str], str] = random_id,
        salts: Callable[[], str] = new_salt,
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._anchor = anchor
        self.ids = ids
        self.salts = salts
        self.log = tenant
        self.origin = f"smokejumper.dev/ledger/{tenant}"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Writing]:
        """A database transaction whose changes and entries commit together, with a checkpoint. Raises BadStore, BadLedger."""
        async with self._store.write() as connection:
            writing = await self._begin(connection)
            yield writing
            note = await self._seal(writing)
        if note is not None and self._anchor is not None:
            keep_newest(self._anchor, note)

    async def _begin(self, connection: AsyncConnection) -> Writing:
        query = select(heads.c.size, heads.c.frontier, heads.c.note).where(heads.c.log == self.log).with_for_update()
        head = (await connection.execute(query)).one_or_none()
        if head is None:
            await connection.execute(insert(heads).values(log=self.log, size=0, frontier="[]", note=""))
            return Writing(self, connection, Frontier(), self._clock.now())
        if head.size and not self._signer.verifier.is_named_in(head.note):
            raise BadLedger(
                "Nothing is written to this ledger, because it was signed with another key than the one in use.",
                next_step="Set the key that it began with, or begin another ledger in another state folder.",
            )
        try:
            frontier = Frontier(head.size, [bytes.fromhex(h) for h in json.loads(head.frontier)])
            if head.size:
                signed = self._signer.verifier.open(head.note)
                if (signed.size, signed.root) != (frontier.size, frontier.root()):
                    raise BadLedger("The head of the ledger is not the one that was signed.")
        except (ValueError, BadLedger) as error:
            raise BadLedger(f"Nothing is written to a damaged ledger: {error}", next_step="Run: smokejumper audit verify.") from error
        return Writing(self, connection, frontier, self._clock.now())

    async def _seal(self, writing: Writing) -> str | None:
        frontier = writing.frontier
        if not writing.rows:
            return None
        await writing.connection.execute(insert(entries), writing.rows)
        hashes = json.dumps([h.hex() for h in frontier.hashes])
        note = self._signer.sign(Checkpoint(self.origin, frontier.size, frontier.root()))
        head = {"size": frontier.size, "frontier": hashes, "note": note}
        await writing.connection.execute(update(heads).where(heads.c.log == self.log).values(**head))
        if frontier.size // CHECKPOINT_EVERY > (frontier.size - len(writing.rows)) // CHECKPOINT_EVERY:
            await writing.connection.execute(insert(checkpoints).values(log=self.log, size=frontier.size, note=note))
        return note

    async def checkpoint(self) -> str:
        """The newest signed note, to be kept where this machine's administrator cannot write. Raises BadLedger when nothing was signed."""
        async with self._store.read() as connection:
            note = await self._newest(connection)
        if not note:
            raise BadLedger("The ledger is empty, so nothing was signed yet.")
        return note

    async def _newest(self, connection: AsyncConnection) -> str:
        return (await connection.execute(select(heads.c.note).where(heads.c.log == self.log))).scalar_one_or_none() or ""

    async def blob(self, commitment: str) -> Blob:
        """The text under a commitment. Raises BadLedger when there is none, or another than was committed to."""
        async with self._store.read() as connection:
            return await find(connection, self.log, commitment)

    async def erase(self, commitment: str, *, by: str, reason: str) -> int:
        """Forget a text, and tell so in an entry, whose number is returned. Raises BadLedger when nothing is kept under the commitment."""
        async with self.transaction() as writing:
            kind = await remove(writing.connection, self.log, commitment)
            return await writing.append("blob.erased", None, {"commitment": commitment, "kind": kind, "by": by, "reason": reason[:500]})

    async def entries(self, proposal: str | None = None, *, after: int = -1, limit: int = 1000) -> tuple[Entry, ...]:
        """Entries in order, of one proposal or of all, those with seq greater than `after`, at most `limit`."""
        query = select(entries.c.entry).where(entries.c.log == self.log, entries.c.seq > after)
        if proposal is not None:
            query = query.where(entries.c.proposal == proposal)
        async with self._store.read() as connection:
            rows = (await connection.execute(query.order_by(entries.c.seq).limit(limit))).scalars().all()
        return tuple(Entry(**json.loads(row)) for row in rows)

    async def last(self, prefix: str) -> Entry | None:
        """The newest entry whose type begins so, None when there is none."""
        query = select(entries.c.entry).where(entries.c.log == self.log, entries.c.type.startswith(prefix, autoescape=True))
        async with self._store.read() as connection:
            text = (await connection.execute(query.order_by(entries.c.seq.desc()).limit(1))).scalar_one_or_none()
        return None if text is None else Entry(**json.loads(text))

    async def export(self) -> AsyncGenerator[str]:
        """Every entry as one line of canonical JSON, then the newest checkpoint as `{"checkpoint": note}`: what was signed when it began.

        Nothing is open between two lines, so who reads no further leaves nothing behind.
        """
        async with self._store.read() as connection:
            query = select(heads.c.size, heads.c.note).where(heads.c.log == self.log)
            head = (await connection.execute(query)).one_or_none()
        if head is None or not head.size:
            return
        after = -1
        while after + 1 < head.size:
            here = (entries.c.log == self.log, entries.c.seq > after, entries.c.seq < head.size)
            page = select(entries.c.seq, entries.c.entry).where(*here).order_by(entries.c.seq).limit(BATCH)
            async with self._store.read() as connection:
                rows = (await connection.execute(page)).all()
            if not rows:
                break
            for row in rows:
                yield row.entry
            after = rows[-1].seq
        yield json.dumps({"checkpoint": head.note})

    async def story(self) -> AsyncGenerator[Entry]:
        """Every entry in order, read as it is asked for."""
        async with aclosing(self.export()) as lines:
            async for line in lines:
                if not line.startswith('{"checkpoint"'):
                    yield Entry(**json.loads(line))

    async def prove(self, entry_id: str) -> dict[str, Any]:
        """A self-contained proof that an entry is in the log: entry, index, path and the signed checkpoint. Raises BadLedger."""
        async with self._store.read() as connection:
            query = select(entries.c.seq, entries.c.leaf).where(entries.c.log == self.log).order_by(entries.c.seq)
            leaves = [bytes.fromhex(row.leaf) for row in (await connection.execute(query)).all()]
            wanted = select(entries.c.seq, entries.c.entry).where(entries.c.log == self.log, entries.c.id == entry_id)
            found = (await connection.execute(wanted)).one_or_none()
            note = await self._newest(connection)
        if found is None or not note:
            raise BadLedger(f"The ledger has no entry {entry_id[:80]}.", next_step="smokejumper audit show")
        size = self._signer.verifier.open(note).size
        if not found.seq < size <= len(leaves):
            raise BadLedger("The ledger is not as it was signed.", next_step="Run: smokejumper audit verify.")
        path = [h.hex() for h in inclusion_proof(found.seq, leaves[:size])]
        return {"entry": found.entry, "index": found.seq, "path": path, "checkpoint": note, "verifier": self._signer.verifier.text}


class Writing:
    """One open transaction: its connection for the state, `append` for the ledger, whose rows are stored at the end."""

    def __init__(self, ledger: Ledger, connection: AsyncConnection, frontier: Frontier, now: datetime) -> None:
        self._ledger = ledger
        self.connection = connection
        self.frontier = frontier
        # What was signed when this transaction began, and its root compared with the signature.
        self._signed = Frontier(frontier.size, frontier.hashes)
        self.now = now
        self.rows: list[dict[str, Any]] = []

    async def append(self, kind: str, proposal: str | None, body: dict[str, Any], attachments: tuple[Attachment, ...] = ()) -> int:
        """Add an entry and return its sequence number. The leaf covers the text that is stored, byte for byte.

        Attachments are kept as erasable blobs; the entry has their commitments, under `blobs`.
        """
        seq = self.frontier.size
        at = self.now.isoformat(timespec="microseconds")
        if attachments:
            log, salts = self._ledger.log, self._ledger.salts
            body = body | {"blobs": [await keep(self.connection, log, attachment, salts()) for attachment in attachments]}
        entry: dict[str, Any] = {"seq": seq, "id": self._ledger.ids("e"), "at": at, "type": kind, "proposal": proposal, "body": body}
        text = rfc8785.dumps(entry)
        leaf = leaf_hash(text)
        self.frontier.append(leaf)
        row = {**entry, "log": self._ledger.log, "entry": text.decode(), "leaf": leaf.hex()}
        del row["body"]
        self.rows.append(row)
        return seq

    async def witness(self, wanted: tuple[int, ...]) -> dict[int, dict[str, Any]]:
        """Entries by sequence number, proven to be among those that were signed; absent ones are left out.

        Recomputes the subtrees of the signed frontier that hold them, from the stored leaves, so that an entry edited or slipped in behind
        our back is no witness. New entries lie in small subtrees: on average it reads some twenty leaves for each entry that came since,
        at worst all of the log. Raises BadLedger.
        """
        damaged = BadLedger("The entries of the ledger are not those that were signed.", next_step="Run: smokejumper audit verify.")
        found: dict[int, dict[str, Any]] = {}
        for start, width, signed in self._signed.subtrees():
            numbers = [number for number in wanted if start <= number < start + width]
            if not numbers:
                continue
            here = (entries.c.log == self._ledger.log, entries.c.seq >= start, entries.c.seq < start + width)
            rows = (await self.connection.execute(select(entries.c.seq, entries.c.leaf).where(*here).order_by(entries.c.seq))).all()
            if [row.seq for row in rows] != list(range(start, start + width)):
                raise damaged
            tree = Frontier()
            try:
                tree.extend([bytes.fromhex(row.leaf) for row in rows])
            except ValueError as error:
                raise damaged from error
            if tree.root() != signed:
                raise damaged
            chosen = select(entries.c.seq, entries.c.entry).where(entries.c.log == self._ledger.log, entries.c.seq.in_(numbers))
            for kept in (await self.connection.execute(chosen)).all():
                if leaf_hash(kept.entry.encode()).hex() != rows[kept.seq - start].leaf:
                    raise BadLedger(f"Entry {kept.seq} of the ledger was edited.", next_step="Run: smokejumper audit verify.")
                found[kept.seq] = json.loads(kept.entry)
        return found


def keep_newest(anchor: Path, note: str) -> None:
    """Put a checkpoint into the anchor file unless a larger one is there. Raises BadLedger when the file cannot be written."""
    try:
        handle = os.open(anchor, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            there = file.read().split("\n")
            if len(there) > 1 and there[1].isdigit() and int(there[1]) >= int(note.split("\n")[1]):
                return
            file.seek(0)
            file.truncate()
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadLedger(f"The ledger's anchor {anchor} cannot be written: {error.strerror}.") from error
