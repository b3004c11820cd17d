"""A release profile: the allow-list of columns with their bins, and the k, l, t a table must reach (exports.md 1, 2).

A pure value, built from `policies/exports/*.toml` as read; every fault is listed. Leaves out reading files.

Shape (TOML):

    id = "portfolio_statistics"      schema_version = 1      why = "..."      k = 10
    [[columns]]
    name = "age"       kind = "numeric"    why = "..."   edges = [25, 35, 45, 55, 65]
    [[columns]]
    name = "region"    kind = "category"   why = "..."   hierarchy = "region"      (generalisation/region.csv)
    [[columns]]
    name = "since"     kind = "quarter"    why = "..."   first = "2018-Q1"   last = "2026-Q4"
    [columns.sensitive]                                  (on any column)
    l_distinct = 3     l_entropy = 2.0     t = 0.4
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from app.exports.errors import ProfileFaults
from app.exports.scales import CategoryTree, NumericBins, QuarterBins, Scale, tree_faults

DEFAULT_K = 10
FLOOR_K = 5
"""No profile goes below (exports.md rule 2)."""
SMALLEST_COHORT = 100
"""Subjects; a cohort has at least max(this, k) (exports.md rule 4)."""
LARGEST_SUPPRESSED_SHARE = 0.05
"""Above it the release is refused (exports.md rule 3)."""
MOST_LEAVES = 200
"""A scale with more is as fine as a postcode or an amount to the euro."""

Hierarchies = Mapping[str, Sequence[Sequence[str]]]


class Kind(StrEnum):
    """How a column's values are generalised."""

    NUMERIC = "numeric"
    CATEGORY = "category"
    QUARTER = "quarter"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How varied a sensitive column must stay within each class."""

    l_distinct: int = 1
    l_entropy: float = 1.0
    """The entropy of the values is at least log(l_entropy)."""
    t: float | None = None
    """Largest distance (0-1) from the whole cohort: earth mover's, ordered for numbers and quarters."""


@dataclass(frozen=True, slots=True)
class Column:
    """One released column; every one is a quasi-identifier (exports.md rule 2)."""

    name: str
    why: str
    kind: Kind
    scale: Scale
    sensitive: Sensitivity | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of release may hold. Its bins are frozen per schema version."""

    id: str
    schema_version: int
    why: str
    columns: tuple[Column, ...]
    k: int = DEFAULT_K

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(column.scale.size for column in self.columns)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over everything that decides what a table looks like."""
        plain = {
            "id": self.id,
            "schema_version": self.schema_version,
            "k": self.k,
            "columns": [
                [
                    column.name,
                    column.kind.value,
                    column.scale.plain(),
                    None
                    if column.sensitive is None
                    else [column.sensitive.l_distinct, column.sensitive.l_entropy, column.sensitive.t],
                ]
                for column in self.columns
            ],
        }
        text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_plain(cls, plain: Mapping[str, object], hierarchies: Hierarchies) -> Profile:
        """Return the profile of a parsed TOML table; `hierarchies` maps a name to its rows (leaf first, `*` last).

        Raises ProfileFaults with every fault found.
        """
        reader = _Reader(plain, hierarchies)
        profile = reader.profile()
        if reader.faults:
            raise ProfileFaults(reader.faults)
        return profile


_TOP_KEYS = frozenset({"id", "schema_version", "why", "k", "columns"})
_COLUMN_KEYS = frozenset({"name", "kind", "why", "sensitive"})
_KIND_KEYS: Mapping[Kind, frozenset[str]] = {
    Kind.NUMERIC: frozenset({"edges"}),
    Kind.CATEGORY: frozenset({"hierarchy"}),
    Kind.QUARTER: frozenset({"first", "last"}),
}
_SENSITIVE_KEYS = frozenset({"l_distinct", "l_entropy", "t"})
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_QUARTER = re.compile(r"(\d{4})-Q([1-4])")
_PLACEHOLDER = NumericBins((0.0,))


class _Reader:
    """Reads one profile and gathers faults; what is faulty is replaced so that reading can go on."""

    def __init__(self, plain: Mapping[str, object], hierarchies: Hierarchies) -> None:
        self.faults: list[str] = []
        self._plain = plain
        self._hierarchies = hierarchies

    def profile(self) -> Profile:
        plain = self._plain
        self._only(plain, _TOP_KEYS, "profile")
        k = self._whole(plain.get("k", DEFAULT_K), "k")
        if k < FLOOR_K:
            self.faults.append(f"k: at least {FLOOR_K}")
        columns = self._columns(plain.get("columns"))
        return Profile(
            id=self._name(plain.get("id"), "id"),
            schema_version=self._whole(plain.get("schema_version"), "schema_version"),
            why=self._text(plain.get("why"), "why"),
            columns=columns,
            k=k,
        )

    def _columns(self, plain: object) -> tuple[Column, ...]:
        if not isinstance(plain, Sequence) or isinstance(plain, str) or not plain:
            self.faults.append("columns: a list of at least one column")
            return ()
        columns = tuple(self._column(column, f"columns[{at}]") for at, column in enumerate(plain))
        names = [column.name for column in columns]
        self.faults.extend(
            f"columns: {name} appears twice" for name in sorted({n for n in names if names.count(n) > 1})
        )
        return columns

    def _column(self, plain: object, at: str) -> Column:
        if not isinstance(plain, Mapping):
            self.faults.append(f"{at}: a table")
            plain = {}
        name = self._name(plain.get("name"), f"{at}.name")
        if name == "count":
            self.faults.append(f"{at}.name: count is the name of the count itself")
        kind, scale = self._scale(plain, at)
        if scale.size > MOST_LEAVES:
            self.faults.append(f"{at}: {scale.size} leaves, at most {MOST_LEAVES}")
        sensitive = self._sensitive(plain.get("sensitive"), f"{at}.sensitive", scale)
        return Column(name, self._text(plain.get("why"), f"{at}.why"), kind, scale, sensitive)

    def _scale(self, plain: Mapping[str, object], at: str) -> tuple[Kind, Scale]:
        word = plain.get("kind")
        if word not in {kind.value for kind in Kind}:
            self.faults.append(f"{at}.kind: one of {', '.join(Kind)}")
            return Kind.NUMERIC, _PLACEHOLDER
        kind = Kind(str(word))
        self._only(plain, _COLUMN_KEYS | _KIND_KEYS[kind], at)
        if kind is Kind.NUMERIC:
            return kind, self._bins(plain.get("edges"), at)
        if kind is Kind.QUARTER:
            return kind, self._quarters(plain.get("first"), plain.get("last"), at)
        return kind, self._tree(plain.get("hierarchy"), at)

    def _bins(self, edges: object, at: str) -> Scale:
        if (
            not isinstance(edges, Sequence)
            or isinstance(edges, str)
            or not edges
            or any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in edges)
            or any(low >= high for low, high in pairwise(edges))
        ):
            self.faults.append(f"{at}.edges: numbers that rise")
            return _PLACEHOLDER
        return NumericBins(tuple(float(edge) for edge in edges))

    def _quarters(self, first: object, last: object, at: str) -> Scale:
        ends = [_QUARTER.fullmatch(end) if isinstance(end, str) else None for end in (first, last)]
        numbers = [(int(end[1]), int(end[2])) for end in ends if end]
        if len(numbers) != 2 or numbers[0] > numbers[1]:
            self.faults.append(f"{at}: first and last are quarters such as 2024-Q1, in order")
            return _PLACEHOLDER
        return QuarterBins(numbers[0], numbers[1])

    def _tree(self, name: object, at: str) -> Scale:
        rows = self._hierarchies.get(name) if isinstance(name, str) else None
        if rows is None:
            self.faults.append(f"{at}.hierarchy: no such hierarchy")
            return _PLACEHOLDER
        faults = tree_faults(rows)
        self.faults.extend(f"{at}.hierarchy {name}: {fault}" for fault in faults)
        return _PLACEHOLDER if faults else CategoryTree.grow(rows)

    def _sensitive(self, plain: object, at: str, scale: Scale) -> Sensitivity | None:
        if plain is None:
            return None
        if not isinstance(plain, Mapping):
            self.faults.append(f"{at}: a table")
            return None
        self._only(plain, _SENSITIVE_KEYS, at)
        l_distinct = self._whole(plain.get("l_distinct", 1), f"{at}.l_distinct")
        l_entropy = self._number(plain.get("l_entropy", 1.0), f"{at}.l_entropy", 1.0, float(scale.size))
        t = None if plain.get("t") is None else self._number(plain["t"], f"{at}.t", 0.0, 1.0)
        if l_distinct > scale.size:
            self.faults.append(f"{at}.l_distinct: at most the {scale.size} leaves of the column")
        return Sensitivity(l_distinct, l_entropy, t)

    def _only(self, plain: Mapping[str, object], known: frozenset[str], at: str) -> None:
        self.faults.extend(f"{at}: unknown key {key}" for key in sorted(set(plain) - known))

    def _text(self, value: object, at: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.faults.append(f"{at}: some words")
        return ""

    def _name(self, value: object, at: str) -> str:
        if isinstance(value, str) and _NAME.fullmatch(value):
            return value
        self.faults.append(f"{at}: a name in small letters, digits and underscores")
        return ""

    def _whole(self, value: object, at: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        self.faults.append(f"{at}: a whole number from 1 on")
        return FLOOR_K

    def _number(self, value: object, at: str, low: float, high: float) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        self.faults.append(f"{at}: a number from {low:g} to {high:g}")
        return low
