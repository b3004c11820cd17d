"""The frozen bins and hierarchies of a release profile (exports.md rules 1 and 4): values to small integers and back.

A scale has `size` leaves, numbered in an order in which neighbours are alike; an interval of leaves is what a class
shows. Leaves out any choice of bins from the data: bins that follow the data would tell about it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]

MISSING = -1
"""The row has no value here."""
OUTSIDE = -2
"""The row has a value the scale cannot place."""
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Half-open bins between `edges`; below the first and from the last on are the coded ends (top, bottom coding)."""

    edges: tuple[float, ...]
    ordered: bool = field(default=True, init=False)

    @property
    def size(self) -> int:
        return len(self.edges) + 1

    def encode(self, values: Iterable[object]) -> Codes:
        return np.array([self._code(value) for value in values], dtype=np.int32)

    def label(self, low: int, high: int) -> str:
        """Return the words for the leaves `low` to `high`, both included: `[20, 30)`, `< 20`, `>= 30`, `*`."""
        if low == 0 and high == self.size - 1:
            return EVERYTHING
        if low == 0:
            return f"< {_written(self.edges[high])}"
        if high == self.size - 1:
            return f">= {_written(self.edges[low - 1])}"
        return f"[{_written(self.edges[low - 1])}, {_written(self.edges[high])})"

    def plain(self) -> list[float]:
        return list(self.edges)

    def _code(self, value: object) -> int:
        if value is None:
            return MISSING
        if isinstance(value, bool) or not isinstance(value, int | float):
            return OUTSIDE
        return MISSING if math.isnan(value) else bisect_right(self.edges, value)


@dataclass(frozen=True, slots=True)
class QuarterBins:
    """Calendar quarters from `first` to `last`, each `(year, quarter 1-4)`; no date is released finer than that."""

    first: tuple[int, int]
    last: tuple[int, int]
    ordered: bool = field(default=True, init=False)

    @property
    def size(self) -> int:
        return self._number(self.last) - self._number(self.first) + 3

    def encode(self, values: Iterable[object]) -> Codes:
        return np.array([self._code(value) for value in values], dtype=np.int32)

    def label(self, low: int, high: int) -> str:
        """Return the words for the leaves `low` to `high`: `2024-Q1`, `2024-Q1 to 2024-Q4`, `before 2020-Q1`, `*`."""
        if low == 0 and high == self.size - 1:
            return EVERYTHING
        if low == 0:
            return f"before {self._name(high + 1)}"
        if high == self.size - 1:
            return f"from {self._name(low)}"
        return self._name(low) if low == high else f"{self._name(low)} to {self._name(high)}"

    def plain(self) -> list[str]:
        return [self._name(1), self._name(self.size - 2)]

    @staticmethod
    def _number(quarter: tuple[int, int]) -> int:
        return quarter[0] * 4 + quarter[1] - 1

    def _name(self, leaf: int) -> str:
        year, rest = divmod(self._number(self.first) + leaf - 1, 4)
        return f"{year}-Q{rest + 1}"

    def _code(self, value: object) -> int:
        if value is None:
            return MISSING
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value)
            except ValueError:
                return OUTSIDE
        if not isinstance(value, date):
            return OUTSIDE
        leaf = self._number((value.year, (value.month - 1) // 3 + 1)) - self._number(self.first) + 1
        return max(0, min(leaf, self.size - 1))


@dataclass(frozen=True, slots=True)
class CategoryTree:
    """A category hierarchy: each row is a leaf and its ancestors, the last one common to all (`*`)."""

    rows: tuple[tuple[str, ...], ...]
    """In tree order, so that every node is an interval of leaves; `CategoryTree.grow` puts them in it."""
    ordered: bool = field(default=False, init=False)

    @classmethod
    def grow(cls, rows: Sequence[Sequence[str]]) -> CategoryTree:
        """Return the tree of `rows`, brothers in order of first appearance. Ask `tree_faults` first."""
        levels = list(zip(*rows, strict=True))
        place = [{name: at for at, name in reversed(list(enumerate(level)))} for level in levels]
        key = [tuple(place[at][row[at]] for at in reversed(range(len(row)))) for row in rows]
        return cls(tuple(tuple(row) for _, row in sorted(zip(key, rows, strict=True))))

    @property
    def size(self) -> int:
        return len(self.rows)

    def encode(self, values: Iterable[object]) -> Codes:
        known: dict[object, int] = {row[0]: leaf for leaf, row in enumerate(self.rows)}
        known[None] = MISSING
        return np.array([known.get(value, OUTSIDE) for value in values], dtype=np.int32)

    def label(self, low: int, high: int) -> str:
        """Return the fewest nodes that together are the leaves `low` to `high`, joined by ` | `."""
        names = []
        while low <= high:
            name, after = self._widest(low, high)
            names.append(name)
            low = after
        return " | ".join(names)

    def plain(self) -> list[list[str]]:
        return [list(row) for row in self.rows]

    def _widest(self, low: int, high: int) -> tuple[str, int]:
        """Return the highest node that begins at leaf `low` and ends by `high`, and the leaf after it."""
        for level in reversed(range(len(self.rows[low]))):
            above = self.rows[low][level:]
            if low and self.rows[low - 1][level:] == above:
                continue
            after = next((at for at in range(low, self.size) if self.rows[at][level:] != above), self.size)
            if after <= high + 1:
                return above[0], after
        raise AssertionError("a leaf always fits its own interval")


Scale = NumericBins | QuarterBins | CategoryTree


def tree_faults(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return everything that keeps `rows` from being a hierarchy; empty when it is one."""
    if not rows:
        return ["the hierarchy is empty"]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return ["the rows of a hierarchy have the same number of levels, at least two"]
    faults = []
    if len({row[0] for row in rows}) != len(rows):
        faults.append("a leaf appears twice")
    if {row[-1] for row in rows} != {EVERYTHING}:
        faults.append(f"the last level is {EVERYTHING} in every row")
    for level in range(len(rows[0]) - 1):
        parents: dict[str, tuple[str, ...]] = {}
        if any(parents.setdefault(row[level], tuple(row[level + 1 :])) != tuple(row[level + 1 :]) for row in rows):
            faults.append(f"a node of level {level} has two parents")
    if not all(_is_plain_label(name) for row in rows for name in row):
        faults.append("a label is empty, holds '|' or a line break, or begins like a spreadsheet formula")
    return faults


def _written(edge: float) -> str:
    """Return an edge in full: shortened to six figures, two edges could read the same."""
    return str(int(edge)) if edge.is_integer() else repr(edge)


def _is_plain_label(name: str) -> bool:
    # A cell that begins with one of these is run as a formula by common spreadsheets.
    return bool(name.strip()) and name[0] not in "=+-@\t" and not set(name) & set("|\r\n")
