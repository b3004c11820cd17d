"""The tree as stored: hashes of full subtrees by level and index, and the proofs made of them (RFC 9162 section 2.1).

Node (level, index) covers the leaves [index * 2**level, (index + 1) * 2**level) and never changes once written. What
a proof needs is first named as ranges of leaves, then fetched in one go: `plan` functions are pure and say which,
`Ranges.hash_of` folds them. Leaves out storage (port `Nodes`) and checking (`app.sdk.merkle`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.ledger.errors import LedgerCorrupted, PositionUnknown
from app.sdk.merkle import EMPTY_ROOT, node_hash, split

NodeId = tuple[int, int]
"""(level, index)."""


class Nodes(Protocol):
    """Where full-subtree hashes are kept."""

    def fetch(self, wanted: Sequence[NodeId]) -> Mapping[NodeId, bytes]:
        """Return those of the wanted nodes that exist."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """The leaves [start, end) of one node of RFC 9162's recursive division."""

    start: int
    end: int

    def parts(self) -> Iterator[NodeId]:
        """Yield the full subtrees the range consists of, from left to right, largest first."""
        start = self.start
        while start < self.end:
            level = (self.end - start).bit_length() - 1
            yield level, start >> level
            start += 1 << level


def extend(size: int, edge: Mapping[NodeId, bytes], leaves: Sequence[bytes]) -> dict[NodeId, bytes]:
    """Return every full-subtree hash that appending `leaves` to a tree of `size` completes, leaves included.

    `edge` holds the nodes of `right_edge(size)`. Raises LedgerCorrupted when one of them is missing.
    """
    made: dict[NodeId, bytes] = {}
    for index, leaf in enumerate(leaves, start=size):
        level, position, current = 0, index, leaf
        made[0, index] = leaf
        while position & 1:
            left = made.get((level, position - 1)) or edge.get((level, position - 1))
            if left is None:
                raise LedgerCorrupted(f"node {level}/{position - 1} is missing")
            level, position, current = level + 1, position >> 1, node_hash(left, current)
            made[level, position] = current
    return made


def right_edge(size: int) -> list[NodeId]:
    """Return the full subtrees a tree of `size` consists of: all that is needed to go on or to give the root."""
    return list(Range(0, size).parts())


def root(nodes: Nodes, size: int) -> bytes:
    """Return the root of the tree's first `size` leaves."""
    return EMPTY_ROOT if size == 0 else _hashes(nodes, [Range(0, size)])[0]


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """Return the audit path of a leaf, from the leaf upward (RFC 9162 section 2.1.3.1)."""
    _within(index, size)
    return _hashes(nodes, inclusion_plan(index, size))


def consistency_proof(nodes: Nodes, old_size: int, size: int) -> list[bytes]:
    """Return the proof that the tree of `size` extends the one of `old_size` (RFC 9162 section 2.1.4.1)."""
    if not 0 <= old_size <= size:
        raise PositionUnknown(f"a tree of {size} does not extend one of {old_size}")
    return _hashes(nodes, consistency_plan(old_size, size))


def joint_proof(nodes: Nodes, positions: Sequence[int], size: int) -> list[bytes]:
    """Return the one proof for some leaves together, as `app.sdk.merkle.root_of_some` reads it."""
    for position in (*positions[:1], *positions[-1:]):
        _within(position, size)
    return _hashes(nodes, list(joint_plan(positions, Range(0, size)))) if size else []


def inclusion_plan(index: int, size: int) -> list[Range]:
    """Return the siblings on the way from the leaf to the root."""
    start, end, plan = 0, size, list[Range]()
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            plan.append(Range(middle, end))
            end = middle
        else:
            plan.append(Range(start, middle))
            start = middle
    return plan[::-1]


def consistency_plan(old_size: int, size: int) -> list[Range]:
    """Return the ranges from which both roots can be made."""
    if old_size in {0, size}:
        return []
    start, end, plan = 0, size, list[Range]()
    while end != old_size:
        middle = start + split(end - start)
        if old_size <= middle:
            plan.append(Range(middle, end))
            end = middle
        else:
            plan.append(Range(start, middle))
            start = middle
    # The old root itself is left out when the checker already has it, that is when it is one full subtree.
    own = [Range(start, end)] if start else []
    return own + plan[::-1]


def joint_plan(positions: Sequence[int], within: Range) -> Iterator[Range]:
    """Yield, from left to right, the largest subtrees that hold none of the positions."""
    low, high = bisect_left(positions, within.start), bisect_left(positions, within.end)
    if low == high:
        yield within
    elif high - low < within.end - within.start:
        middle = within.start + split(within.end - within.start)
        yield from joint_plan(positions, Range(within.start, middle))
        yield from joint_plan(positions, Range(middle, within.end))


def _within(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise PositionUnknown(f"position {index} is not in a tree of {size}")


def _hashes(nodes: Nodes, plan: Sequence[Range]) -> list[bytes]:
    wanted = dict.fromkeys(part for item in plan for part in item.parts())
    found = nodes.fetch(list(wanted))
    if missing := wanted.keys() - found.keys():
        level, index = min(missing)
        raise LedgerCorrupted(f"node {level}/{index} is missing")
    return [_fold(found[part] for part in item.parts()) for item in plan]


def _fold(hashes: Iterable[bytes]) -> bytes:
    """Join full subtrees, largest first, into the hash of the ragged range they make up."""
    stack = list(hashes)
    current = stack.pop()
    while stack:
        current = node_hash(stack.pop(), current)
    return current
