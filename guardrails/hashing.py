"""The second process of a verification: it reads the entries of a ledger file and checks that they are as they were written, the documents
of proposals against their digests, and approvals against the entries of the votes.

    python -m guardrails.hashing FILE LOG < asked.json

It has SQLite's driver and hashes and nothing else, because it starts while the other process works: importing `guardrails.store` takes as
long as hashing 100,000 entries. It opens the file for reading only and judges no signature.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import DecodeError, Struct, json

from guardrails.leaves import BODY_AT, COLUMNS, Leaves, Problem

# So that a batch stays in the cache of a processor: with four times as many, hashing takes a tenth longer.
BATCH = 256
_APPROVER = '{"approver":"'


class Asked(Struct, frozen=True):
    """At which sizes the roots are wanted, and the domain of the digests of documents."""

    sizes: list[int]
    domain: str


class Hashed(Struct, frozen=True):
    """What was found under a head: how many entries, the roots by size, the frontier, and what is wrong with entries.

    `doubtful` are the proposals whose documents must be looked at more closely; `votes`: the approvals need not be.
    """

    head: str
    size: int
    roots: dict[int, str]
    frontier: list[str]
    problems: list[Problem]
    doubtful: list[str] = []
    votes: bool = False


class _Document(Struct, gc=False):
    not_after: str


_document = json.Decoder(_Document).decode


def command(path: Path, log: str) -> list[str]:
    """The command line of this process."""
    return [sys.executable, "-m", "guardrails.hashing", str(path), log]


def found(head: str, leaves: Leaves, doubted: list[str], *, votes: bool) -> Hashed:
    """What is told of leaves."""
    roots = {size: root.hex() for size, root in leaves.roots.items()}
    return Hashed(head, leaves.size, roots, leaves.frontier, leaves.problems, doubted, votes)


class Votes:
    """Whether approvals, as (proposal, approver, approval, entry) in the order in which they were stored, are what entries say of votes.

    What this cannot prove must be looked at more closely. It sees rows of `COLUMNS` that Leaves finds nothing wrong with, in order.
    """

    def __init__(self, approvals: Iterable[Any]) -> None:
        self._approvals = iter(approvals)
        self._proven = True

    def take(self, rows: Sequence[Any]) -> None:
        for row in [row for row in rows if row[3] == "approval.given"]:
            if self._proven:
                self._proven = _is_told(next(self._approvals, None), row)

    def all(self) -> bool:
        """Whether that was all, and proven."""
        return self._proven and next(self._approvals, None) is None


def _is_told(approval: Any, row: Any) -> bool:
    """An approval is the body of its entry without `groups`, both in canonical JSON, whose quotes are escaped where they are no syntax."""
    try:
        subject, approver, text, number = approval
        seq, _, _, _, proposal, entry, _ = row
        if (subject, number) != (proposal, seq) or not text.startswith(_APPROVER):
            return False
        name = text[len(_APPROVER) : text.index('"', len(_APPROVER))]
        if "\\" in name or name.casefold() != approver:
            return False
        cut, end = text.index(',"proposal_id":"'), entry.rindex(',"id":"')
        before, after = f'","body":{text[:cut]},"groups":[', f"]{text[cut:]}"
        apart = BODY_AT + len(before) <= end - len(after)
        return bool(apart and entry.startswith(before, BODY_AT) and entry.endswith(after, 0, end))
    except (TypeError, ValueError, AttributeError):
        return False


def doubtful(rows: Iterable[Any], domain: str) -> list[str]:
    """Of rows (id, digest, document, expires_at), the ids of those that this cannot prove to agree with one another.

    It hashes the document as it is stored, which is canonical unless an older version wrote it or its numbers are beyond JSON's.
    """
    prefix = domain.encode()
    doubted = []
    for name, digest, document, expires_at in rows:
        try:
            if document is None and digest is None and expires_at is None:
                continue
            if sha256(prefix + document.encode()).hexdigest() == digest:
                # As `budget.stamp` writes it; parsing and writing it takes five times as long.
                whole, _, fraction = _document(document).not_after.removesuffix("Z").partition(".")
                if expires_at == f"{whole}.{fraction:0<6}+00:00":
                    continue
        except (AttributeError, ValueError, DecodeError):
            pass
        doubted.append(name)
    return doubted


def main(arguments: list[str]) -> int:
    """Answers with `Hashed` as JSON."""
    path, log = arguments
    # Nothing here makes cycles, and searching for them takes a tenth of the time.
    gc.disable()
    asked = json.decode(sys.stdin.buffer.read(), type=Asked)
    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        (head,) = connection.execute("SELECT note FROM ledger_head WHERE log = ?", (log,)).fetchone()
        leaves = Leaves(set(asked.sizes))
        votes = Votes(connection.execute("SELECT proposal, approver, approval, entry FROM approval ORDER BY rowid"))
        cursor = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM ledger_entry WHERE log = ? ORDER BY seq", (log,))  # noqa: S608
        while rows := cursor.fetchmany(BATCH):
            leaves.take(rows)
            votes.take(rows)
        cursor = connection.execute("SELECT id, digest, document, expires_at FROM proposal WHERE tenant = ?", (log,))
        doubted = []
        while rows := cursor.fetchmany(BATCH):
            doubted += doubtful(rows, asked.domain)
        answer = found(head, leaves, doubted, votes=votes.all())
    sys.stdout.buffer.write(json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
