"""The Merkle tree of RFC 6962 section 2.1: roots, a frontier for appending, and proofs. Pure, SHA-256, no storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Frontier:
    """The roots of the perfect subtrees, largest first, of a tree that only grows. Appending costs amortised one hash."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} has {size.bit_count()} perfect subtrees, not {len(hashes)}")
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> None:
        size, node = self.size, leaf
        while size & 1:
            node = node_hash(self.hashes.pop(), node)
            size >>= 1
        self.hashes.append(node)
        self.size += 1

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append many, by whole subtrees: the same tree in half the time."""
        done = 0
        while done < len(leaves):
            fits = 1 << ((len(leaves) - done).bit_length() - 1)
            width = min(fits, self.size & -self.size) if self.size else fits
            level = leaves[done : done + width]
            while len(level) > 1:
                pairs = iter(level)
                level = [hashlib.sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            node, above = level[0], self.size // width
            while above & 1:
                node = node_hash(self.hashes.pop(), node)
                above >>= 1
            self.hashes.append(node)
            self.size += width
            done += width

    def subtrees(self) -> Iterator[tuple[int, int, bytes]]:
        """The perfect subtrees: the index of the first leaf, how many leaves, the root."""
        start = 0
        widths = (1 << bit for bit in reversed(range(self.size.bit_length())) if self.size >> bit & 1)
        for width, node in zip(widths, self.hashes, strict=True):
            yield start, width, node
            start += width

    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 over leaf hashes."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(index, leaves): the sibling hashes from the leaf to the root."""
    size = len(leaves)
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    if size == 1:
        return []
    split = _split(size)
    if index < split:
        return [*inclusion_proof(index, leaves[:split]), root_of(leaves[split:])]
    return [*inclusion_proof(index - split, leaves[split:]), root_of(leaves[:split])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 section 2.1.3.2, the same tree."""
    if index >= size:
        return False
    node, last, hashed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hashed == root


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)
