"""RFC 6962 section 2.1 as it is written there, and nothing else: an implementation of the tree to compare ours with.

Imports nothing of the project and shares no idea with it: MTH, PATH and PROOF are the RFC's recursive definitions, and
the two checks walk the same recursion backwards, where ours run the loops of RFC 9162. Published packages were looked
at first: those with an inclusion check have no consistency proofs, or are GPL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def k_of(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


class Tree:
    """MTH(D[a:b]), PATH(m, D[a:b]) and PROOF(m, D[a:b]) over leaves that are inputs, not hashes."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self.memory: dict[tuple[int, int], bytes] = {}

    def mth(self, a: int, b: int) -> bytes:
        if (a, b) not in self.memory:
            if a == b:
                found = h(b"")
            elif b - a == 1:
                found = h(b"\x00" + self.leaves[a])
            else:
                k = a + k_of(b - a)
                found = h(b"\x01" + self.mth(a, k) + self.mth(k, b))
            self.memory[a, b] = found
        return self.memory[a, b]

    def path(self, m: int, a: int, b: int) -> list[bytes]:
        if b - a == 1:
            return []
        k = k_of(b - a)
        if m < k:
            return [*self.path(m, a, a + k), self.mth(a + k, b)]
        return [*self.path(m - k, a + k, b), self.mth(a, a + k)]

    def proof(self, m: int, a: int, b: int, whole: bool) -> list[bytes]:
        if m == b - a:
            return [] if whole else [self.mth(a, b)]
        k = k_of(b - a)
        if m <= k:
            return [*self.proof(m, a, a + k, whole), self.mth(a + k, b)]
        return [*self.proof(m - k, a + k, b, False), self.mth(a, a + k)]


def included(leaf: bytes, m: int, n: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the input `leaf` is the m-th of n under the root; PATH read backwards."""
    rest = list(path)

    def up(m: int, n: int) -> bytes:
        if n == 1:
            return h(b"\x00" + leaf)
        k, last = k_of(n), rest.pop()
        return h(b"\x01" + up(m, k) + last) if m < k else h(b"\x01" + last + up(m - k, n - k))

    try:
        return 0 <= m < n and up(m, n) == root and not rest
    except IndexError:
        return False


def consistent(m: int, old: bytes, n: int, new: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree (n, new) begins with the tree (m, old), 0 < m <= n; PROOF read backwards."""
    rest = list(proof)

    def up(m: int, n: int, whole: bool) -> tuple[bytes, bytes]:
        if m == n:
            same = old if whole else rest.pop()
            return same, same
        k, last = k_of(n), rest.pop()
        if m <= k:
            before, after = up(m, k, whole)
            return before, h(b"\x01" + after + last)
        before, after = up(m - k, n - k, False)
        return h(b"\x01" + last + before), h(b"\x01" + last + after)

    try:
        return 0 < m <= n and up(m, n, True) == (old, new) and not rest
    except IndexError:
        return False
