"""The tree against published vectors and against a naive implementation written from RFC 6962's own definitions."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence

import pytest

from app.ledger.errors import LedgerCorrupted, PositionUnknown
from app.ledger.tree import NodeId, consistency_proof, extend, inclusion_proof, joint_proof, right_edge, root
from app.sdk.merkle import ProofError, leaf_hash, root_of, root_of_some, verify_consistency, verify_inclusion
from tests.mechanism.rfc6962 import Tree, consistent, h, included

# The inputs and roots published with the Certificate Transparency reference implementation.
CLASSIC = [bytes.fromhex(t) for t in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
CLASSIC.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
CLASSIC_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CLASSIC_NODES = {
    (0, 1): "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    (0, 4): "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    (1, 1): "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    (1, 3): "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    (2, 1): "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
}


class Memory:
    """The port `Nodes` over a dict."""

    def __init__(self) -> None:
        self.held: dict[NodeId, bytes] = {}
        self.size = 0

    def fetch(self, wanted: Sequence[NodeId]) -> Mapping[NodeId, bytes]:
        return {node: self.held[node] for node in wanted if node in self.held}

    def append(self, leaves: Sequence[bytes]) -> None:
        self.held |= extend(self.size, self.fetch(right_edge(self.size)), leaves)
        self.size += len(leaves)


TOP = 300
PROVE = bool(os.environ.get("REGARD_TEST_PROVE"))
LEAVES = [f"leaf {n}".encode() for n in range(TOP)]


@pytest.fixture(scope="module")
def naive() -> Tree:
    return Tree(LEAVES)


@pytest.fixture(scope="module")
def stored() -> Memory:
    memory, source, rest = Memory(), random.Random(4), [leaf_hash(leaf) for leaf in LEAVES]
    while rest:
        taken = source.randint(1, 17)
        memory.append(rest[:taken])
        rest = rest[taken:]
    return memory


def test_published_roots() -> None:
    hashes = [leaf_hash(leaf) for leaf in CLASSIC]
    memory = Memory()
    assert root(memory, 0).hex() == root_of([]).hex() == CLASSIC_ROOTS[0]
    for size in range(1, 9):
        memory.append(hashes[size - 1 : size])
        assert root(memory, size).hex() == root_of(hashes[:size]).hex() == CLASSIC_ROOTS[size]
    for node, expected in CLASSIC_NODES.items():
        assert memory.held[node].hex() == expected


def test_published_proofs() -> None:
    """The inclusion and consistency proofs of the reference implementation, by the published node hashes."""
    memory = Memory()
    memory.append([leaf_hash(leaf) for leaf in CLASSIC])
    as_hex = [item.hex() for item in inclusion_proof(memory, 0, 8)]
    assert as_hex == [CLASSIC_NODES[0, 1], CLASSIC_NODES[1, 1], CLASSIC_NODES[2, 1]]
    assert [item.hex() for item in inclusion_proof(memory, 5, 8)] == [
        CLASSIC_NODES[0, 4],
        CLASSIC_NODES[1, 3],
        CLASSIC_ROOTS[4],
    ]
    assert [item.hex() for item in consistency_proof(memory, 6, 8)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        CLASSIC_NODES[1, 3],
        CLASSIC_ROOTS[4],
    ]
    verify_consistency(
        6, bytes.fromhex(CLASSIC_ROOTS[6]), 8, bytes.fromhex(CLASSIC_ROOTS[8]), consistency_proof(memory, 6, 8)
    )


def test_roots_and_inclusion_at_every_size(naive: Tree, stored: Memory) -> None:
    assert len(stored.held) == sum(TOP >> level for level in range(9)), "full subtrees and nothing else are stored"
    for size in range(1, TOP + 1):
        expected = naive.mth(0, size)
        assert root(stored, size) == expected
        for index in range(0, size, 1 if size < 70 else 7):
            proof = inclusion_proof(stored, index, size)
            assert proof == naive.path(index, 0, size)
            verify_inclusion(leaf_hash(LEAVES[index]), index, size, proof, expected)


def test_consistency_between_every_two_sizes(naive: Tree, stored: Memory) -> None:
    for size in range(1, TOP + 1):
        for old in range(1, size + 1, 1 if size < 70 else 5):
            proof = consistency_proof(stored, old, size)
            assert proof == naive.proof(old, 0, size, True)
            verify_consistency(old, naive.mth(0, old), size, naive.mth(0, size), proof)
    verify_consistency(0, root_of([]), TOP, naive.mth(0, TOP), [])


def test_joint_proofs_of_any_choice(naive: Tree, stored: Memory) -> None:
    source = random.Random(5)
    for _ in range(600):
        size = source.randint(1, TOP)
        positions = sorted(source.sample(range(size), source.randint(0, size)))
        leaves = [leaf_hash(LEAVES[p]) for p in positions]
        proof = joint_proof(stored, positions, size)
        assert root_of_some(positions, leaves, size, proof) == naive.mth(0, size)
        if positions:
            leaves[source.randrange(len(leaves))] = h(b"other")
            assert root_of_some(positions, leaves, size, proof) != naive.mth(0, size)
        with pytest.raises(ProofError, match="too long"):
            root_of_some(positions, leaves, size, [*proof, h(b"more")])
        if proof:
            with pytest.raises(ProofError, match="too short"):
                root_of_some(positions, leaves, size, proof[:-1])
    assert joint_proof(stored, list(range(TOP)), TOP) == []
    assert root_of_some([], [], 0, []) == root_of([])


@pytest.mark.parametrize(("index", "size"), [(0, 1), (3, 7), (6, 7), (0, 8), (255, 256), (256, 300), (299, 300)])
def test_a_false_inclusion_is_refused(naive: Tree, stored: Memory, index: int, size: int) -> None:
    leaf, good, top = leaf_hash(LEAVES[index]), inclusion_proof(stored, index, size), naive.mth(0, size)
    false = [
        (h(b"x"), index, size, good, top),
        (leaf, index, size, good, h(b"x")),
        (leaf, index, size, [*good, h(b"x")], top),
        (leaf, size, size, good, top),
        (leaf, -1, size, good, top),
        *((leaf, index, size, [*good[:n], h(b"x"), *good[n + 1 :]], top) for n in range(len(good))),
        *((leaf, index, size, good[:n], top) for n in range(len(good))),
        *((leaf, other, size, good, top) for other in range(size) if other != index),
    ]
    for case in false:
        with pytest.raises(ProofError):
            verify_inclusion(*case)


@pytest.mark.parametrize(("old", "size"), [(1, 2), (2, 3), (4, 8), (6, 8), (7, 8), (128, 300), (257, 300), (300, 300)])
def test_a_false_consistency_is_refused(naive: Tree, stored: Memory, old: int, size: int) -> None:
    good, first, last = consistency_proof(stored, old, size), naive.mth(0, old), naive.mth(0, size)
    false = [
        (old, h(b"x"), size, last, good),
        (old, first, size, last, [*good, h(b"x")]),
        (old, first, old - 1, last, good),
        (old, first, size, h(b"x"), good),
        *((old, first, size, last, good[:n]) for n in range(len(good))),
        *((old, first, size, last, [*good[:n], h(b"x"), *good[n + 1 :]]) for n in range(len(good))),
    ]
    for case in false:
        with pytest.raises(ProofError):
            verify_consistency(*case)


def test_what_is_not_in_the_tree_is_refused(stored: Memory) -> None:
    for ask in (
        lambda: inclusion_proof(stored, 5, 5),
        lambda: consistency_proof(stored, 6, 5),
        lambda: joint_proof(stored, [1, 9], 9),
    ):
        with pytest.raises(PositionUnknown):
            ask()
    with pytest.raises(LedgerCorrupted):
        root(stored, TOP + 1)
    with pytest.raises(LedgerCorrupted):
        extend(5, {}, [h(b"x")])


# -- every size to a thousand, with proofs that the independent implementation checks (issue 3, shows 5) --------------

SIZES = 1_000


@pytest.fixture(scope="module")
def thousand() -> tuple[Tree, Memory]:
    tree, memory = Tree([f"leaf {n}".encode() for n in range(SIZES)]), Memory()
    for leaf in tree.leaves:
        memory.append([leaf_hash(leaf)])
    return tree, memory


def chosen(size: int, source: random.Random) -> set[int]:
    """Every position where it is asked to prove; else the edges of the tree's divisions and two at random."""
    if PROVE:
        return set(range(size))
    k = 1 << max((size - 1).bit_length() - 1, 0)
    return {0, size - 1, k % size, (k - 1) % size, source.randrange(size), source.randrange(size)}


def test_every_size_to_a_thousand(thousand: tuple[Tree, Memory]) -> None:
    tree, memory = thousand
    source = random.Random(6962)
    proofs = 0
    for size in range(SIZES + 1):
        top = tree.mth(0, size)
        assert root(memory, size) == top
        assert root_of([leaf_hash(leaf) for leaf in tree.leaves[:size]]) == top
        for index in chosen(size, source) if size else ():
            path = inclusion_proof(memory, index, size)
            assert included(tree.leaves[index], index, size, path, top), (index, size)
            link = consistency_proof(memory, index + 1, size)
            assert consistent(index + 1, tree.mth(0, index + 1), size, top, link), (index + 1, size)
            proofs += 2
    assert proofs > SIZES * 4


def test_the_independent_checks_do_refuse(thousand: tuple[Tree, Memory]) -> None:
    """A check that accepts everything would have passed the test above."""
    tree, memory = thousand
    for size, index in ((7, 3), (8, 0), (300, 299), (1_000, 511)):
        top, leaf, old = tree.mth(0, size), tree.leaves[index], tree.mth(0, index + 1)
        path, link = inclusion_proof(memory, index, size), consistency_proof(memory, index + 1, size)
        for worse in ([*path, h(b"x")], path[1:], path[:-1], [h(b"x"), *path[1:]]):
            assert not included(leaf, index, size, worse, top)
        assert not included(h(b"x"), index, size, path, top)
        assert not included(leaf, index, size, path, h(b"x"))
        for other in ([*link, h(b"x")], [h(b"x"), *link[1:]]):
            assert link == [] or not consistent(index + 1, old, size, top, other)
        assert not consistent(index + 1, h(b"x"), size, top, link)
        assert not consistent(index + 1, old, size, h(b"x"), link)
