"""The second process of a verification: it reads the entries of a ledger file and checks that they are as they were written.

    python -m guardrails.hashing FILE LOG < sizes.json

It has SQLite's driver and hashes and nothing else, because it starts while the other process works: importing `guardrails.store` takes as
long as hashing 100,000 entries. It opens the file for reading only and judges no signature.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct, json

from guardrails.leaves import COLUMNS, Leaves, Problem

BATCH = 1024


class Hashed(Struct, frozen=True):
    """What was found under a head: how many entries, the roots by size, the frontier, and what is wrong with entries."""

    head: str
    size: int
    roots: dict[int, str]
    frontier: list[str]
    problems: list[Problem]


def command(path: Path, log: str) -> list[str]:
    """The command line of this process."""
    return [sys.executable, "-m", "guardrails.hashing", str(path), log]


def found(head: str, leaves: Leaves) -> Hashed:
    """What is told of leaves."""
    roots = {size: root.hex() for size, root in leaves.roots.items()}
    return Hashed(head, leaves.size, roots, leaves.frontier, leaves.problems)


def main(arguments: list[str]) -> int:
    """Answers with `Hashed` as JSON."""
    path, log = arguments
    sizes = json.decode(sys.stdin.buffer.read(), type=set[int])
    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        (head,) = connection.execute("SELECT note FROM ledger_head WHERE log = ?", (log,)).fetchone()
        leaves = Leaves(sizes)
        cursor = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM ledger_entry WHERE log = ? ORDER BY seq", (log,))  # noqa: S608
        while rows := cursor.fetchmany(BATCH):
            leaves.take(rows)
    sys.stdout.buffer.write(json.encode(found(head, leaves)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
