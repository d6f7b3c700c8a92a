"""The entries of a ledger as they are stored: their tree, and which of them is not as it was written. Reads nothing, knows no story.

It sees each row once, in order, and keeps the tree's frontier and the roots at the sizes that somebody signed. What an entry says, and
whether that can have happened, is `guardrails.replay`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from msgspec import Struct

from guardrails.merkle import Frontier

# In this order rows are given to `take`.
COLUMNS = ("seq", "id", "at", "type", "proposal", "entry", "leaf")
# Where, after `{"at":"` and a time as `budget.stamp` writes it, `","body":` begins in the text of an entry.
BODY_AT = 39
# Of a thoroughly broken ledger no more is remembered.
PROBLEMS_MAX = 10_000


class Problem(Struct, frozen=True, order=True):
    """What is wrong, and at which entry; -1 where it is not one entry's."""

    seq: int
    what: str


class Leaves:
    """The entries so far. `roots` are by size, for the wanted sizes that were reached; `problems` are in the order they were seen."""

    def __init__(self, wanted: set[int]) -> None:
        self.problems: list[Problem] = []
        self._tree = Frontier()
        self.roots = {0: self._tree.root()}
        self._wanted = sorted(wanted, reverse=True)
        self._expected = 0

    @property
    def size(self) -> int:
        return self._tree.size

    @property
    def frontier(self) -> list[str]:
        """The perfect subtrees of the tree so far, as the head of the ledger keeps them."""
        return [node.hex() for node in self._tree.hashes]

    def take(self, rows: Sequence[Any]) -> None:
        """Add rows of `COLUMNS` in order: complain of gaps, edits, and columns that differ from the text."""
        try:
            hashes = [sha256(b"\0" + row[5].encode()).digest() for row in rows]
        except (AttributeError, UnicodeError):
            hashes = [sha256(b"\0" + _text(row[5]).encode("utf-8", "surrogatepass")).digest() for row in rows]
        expected = self._expected
        for seq, name, at, kind, proposal, entry, _leaf in rows:
            if seq != expected:
                self._complain(expected, f"Entry {expected} is missing; {seq} follows.")
                if not isinstance(seq, int):
                    seq = expected
            expected = seq + 1
            # Canonical JSON has one way to write these (RFC 8785); comparing text is twice as fast as decoding it.
            if proposal is None:
                end = f',"id":"{name}","proposal":null,"seq":{seq},"type":"{kind}"}}'
            else:
                end = f',"id":"{name}","proposal":"{proposal}","seq":{seq},"type":"{kind}"}}'
            if type(entry) is not str or not entry.endswith(end) or not entry.startswith(f'{{"at":"{at}","body":'):
                self._complain(seq, f"The columns of entry {seq} differ from its text, or it is no entry.")
        self._expected = expected
        # One comparison for all: hexadecimal digests by the million cost more than the search for the one that is wrong. Of equal lengths,
        # they are equal one by one when they are equal in a row.
        leaves = [row[6] for row in rows]
        if not _are(leaves, hashes):
            for row, hashed in zip(rows, hashes, strict=True):
                if row[6] != hashed.hex():
                    self._complain(row[0], f"Entry {row[0]} was edited: its text does not give its leaf.")
        self._grow(hashes)

    def _grow(self, hashes: list[bytes]) -> None:
        start, done = self._tree.size, 0
        while self._wanted and self._wanted[-1] <= start + len(hashes):
            size = self._wanted.pop()
            if size > self._tree.size:
                self._tree.extend(hashes[done : size - start])
                done = size - start
                self.roots[size] = self._tree.root()
        self._tree.extend(hashes[done:])

    def _complain(self, seq: int, what: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(seq, what))


def _text(entry: Any) -> str:
    return entry if isinstance(entry, str) else ""


def _are(leaves: list[Any], hashes: list[bytes]) -> bool:
    """Whether these are the hashes, in hexadecimal digits."""
    return set(map(type, leaves)) == {str} and set(map(len, leaves)) == {64} and "".join(leaves) == b"".join(hashes).hex()
