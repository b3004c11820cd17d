"""Merkle trees as Certificate Transparency hashes them, and the checking of proofs.

RFC 6962 section 2, RFC 9162 section 2.1. Hashes, positions and sizes only. Leaves out storage and the making of
proofs, which are the ledger's work: whoever checks needs neither. Every function works on 32-byte SHA-256 hashes;
positions count from 0.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .errors import SdkError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (RFC 9162 section 2.1.1)."""


class ProofError(SdkError):
    """A proof that does not prove; `code` says why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf); the prefix keeps a leaf from passing for a node (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """Return the largest power of two smaller than `size` (at least 2): where the tree divides."""
    return 1 << ((size - 1).bit_length() - 1)


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over all leaf hashes of a tree, in order."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        # A last node without a sibling rises unchanged, which is the same tree as RFC 6962's recursive division.
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash stands at `index` of the tree (size, root) (RFC 9162 section 2.1.3.2).

    Raises ProofError: `proof.position`, `proof.length`, `proof.root`.
    """
    if not 0 <= index < size:
        raise ProofError("proof.position", f"position {index} is not in a tree of {size}")
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("proof.length", "the inclusion proof is too long")
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("proof.length", "the inclusion proof is too short")
    if current != root:
        raise ProofError("proof.root", f"the leaf at position {index} does not lead to the root")


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (size, root) extends the tree (old_size, old_root) (RFC 9162 section 2.1.4.2).

    Raises ProofError: `proof.position`, `proof.length`, `proof.old_root`, `proof.root`.
    """
    if not 0 <= old_size <= size:
        raise ProofError("proof.position", f"a tree of {size} cannot extend one of {old_size}")
    if old_size in {0, size}:
        _trivial(old_size, old_root, size, root, proof)
        return
    old, new = _climb(old_size, size, proof if old_size & (old_size - 1) else [old_root, *proof])
    if old != old_root:
        raise ProofError("proof.old_root", "the proof does not lead to the earlier root")
    if new != root:
        raise ProofError("proof.root", "the proof does not lead to the later root")


def _trivial(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    if proof:
        raise ProofError("proof.length", "no consistency proof is needed here, yet one is given")
    if old_root != (EMPTY_ROOT if old_size == 0 else root):
        raise ProofError("proof.old_root", "the earlier root is not the one of its size")
    if size == 0 and root != EMPTY_ROOT:
        raise ProofError("proof.root", "an empty tree has another root")


def _climb(old_size: int, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    if not path:
        raise ProofError("proof.length", "the consistency proof is empty")
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("proof.length", "the consistency proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("proof.length", "the consistency proof is too short")
    return old, new


def root_of_some(positions: Sequence[int], leaves: Sequence[bytes], size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root of a tree of `size` from some of its leaves and one joint proof.

    `positions` ascends and pairs with `leaves`; `proof` holds, from left to right, the hash of every largest subtree
    that has none of them. All leaves and no proof recomputes the whole tree.
    Raises ProofError: `proof.position`, `proof.length`.
    """
    if any(a >= b for a, b in pairwise(positions)):
        raise ProofError("proof.position", "the positions do not ascend")
    if positions and not 0 <= positions[0] <= positions[-1] < size:
        raise ProofError("proof.position", f"a position lies outside a tree of {size}")
    rest = iter(proof)
    root = _joined(positions, leaves, 0, size, rest) if size else EMPTY_ROOT
    if next(rest, None) is not None:
        raise ProofError("proof.length", "the joint proof is too long")
    return root


def _joined(positions: Sequence[int], leaves: Sequence[bytes], start: int, size: int, rest: Iterator[bytes]) -> bytes:
    low, high = bisect_left(positions, start), bisect_left(positions, start + size)
    if low == high:
        taken = next(rest, None)
        if taken is None:
            raise ProofError("proof.length", "the joint proof is too short")
        return taken
    if high - low == size:
        return root_of(leaves[low:high])
    half = split(size)
    left = _joined(positions, leaves, start, half, rest)
    return node_hash(left, _joined(positions, leaves, start + half, size - half, rest))
