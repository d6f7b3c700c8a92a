"""Known vectors of RFC 6962 trees and the agreement of every proof with every root."""

from __future__ import annotations

import pytest

from guardrails.merkle import Frontier, inclusion_proof, leaf_hash, root_of, verify_inclusion

# The inputs and roots of the certificate-transparency reference test data (merkle tree of 0 to 8 leaves).
INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


def test_the_frontier_can_be_put_away_and_taken_up() -> None:
    frontier = Frontier()
    for leaf in LEAVES:
        frontier = Frontier(frontier.size, frontier.hashes)
        frontier.append(leaf)
        assert frontier.root().hex() == ROOTS[frontier.size]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 5, 8])
def test_extending_is_appending_one_by_one(start: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(40)]
    for end in range(start, 41):
        one, many = Frontier(), Frontier()
        for leaf in leaves[:end]:
            one.append(leaf)
        many.extend(leaves[:start])
        many.extend(leaves[start:end])
        assert (one.size, one.hashes) == (many.size, many.hashes)


def test_a_frontier_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="perfect subtrees"):
        Frontier(5, [b"x"])


def test_every_leaf_of_every_size_is_proven_and_no_other() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(33)]
    for size in range(1, 34):
        root = root_of(leaves[:size])
        for index in range(size):
            proof = inclusion_proof(index, leaves[:size])
            assert verify_inclusion(leaves[index], index, size, proof, root)
            assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, root)
            assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
            if size > 1:
                assert not verify_inclusion(leaves[index], (index + 1) % size, size, proof, root)
                assert not verify_inclusion(leaves[index], index, size, proof[:-1], root)


def test_no_proof_of_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no leaf 3"):
        inclusion_proof(3, LEAVES[:3])


@pytest.mark.parametrize("size", range(20))
def test_subtrees_cover_every_leaf_once_and_have_their_roots(size: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    frontier = Frontier()
    frontier.extend(leaves)
    covered: list[bytes] = []
    for start, width, root in frontier.subtrees():
        assert start == len(covered)
        assert root == root_of(leaves[start : start + width])
        covered += leaves[start : start + width]
    assert covered == leaves
