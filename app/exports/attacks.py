"""Attacks on a candidate table, run before anybody else can: linkage, differencing, row order (exports.md rule 6).

They look at the table as a stranger with side knowledge would, and share no code with the enforcer. Verdicts are
numbers; `app.exports.gate` judges them. Leaves out attacks on free text or pictures: no such column can be released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.exports.cells import Cells, Numbers
from app.exports.profile import Profile
from app.exports.scales import Codes
from app.exports.table import NOWHERE, Table, distinct_subjects

_FEW = 200_000
"""Row-class pairs compared outright; above it rows and classes are first parted."""


@dataclass(frozen=True, slots=True)
class Linkage:
    """What somebody who holds the cohort's old rows and the live base learns by matching on every column."""

    smallest_class: int
    """Fewest distinct cohort subjects who fit one class."""
    strays: int
    """Shown rows that fit no class, or more than one."""
    live_matched: int
    """Live rows that fit some class."""
    live_smallest: int | None
    """Fewest cohort subjects among whom a matching live row would have to be sought; None: none matches."""
    smallest_in_base: int
    """Fewest distinct subjects of cohort and live base together who fit one class (journalist's view)."""


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """A released table as later releases are compared with it. `subjects` None: not known who was in it."""

    profile_digest: str
    lows: Codes
    highs: Codes
    rows: Numbers
    subjects: frozenset[str] | None = field(repr=False)

    @classmethod
    def from_plain(cls, plain: Mapping[str, object], subjects: frozenset[str] | None) -> Earlier:
        """Return what `outline` wrote; raises KeyError or ValueError for anything else."""
        lows, highs = (np.array(plain[name], dtype=np.int32) for name in ("lows", "highs"))
        return cls(str(plain["profile_digest"]), lows, highs, np.array(plain["rows"], dtype=np.int64), subjects)


@dataclass(frozen=True, slots=True)
class Difference:
    """What subtracting an earlier table tells. `disjoint`: nobody can be in both, so nothing is told of anyone."""

    disjoint: bool
    shared_subjects: int | None
    comparable: bool
    smallest: int | None
    """Smallest number of rows, not nought, by which a region common to both tables differs."""


def outline(table: Table) -> dict[str, object]:
    """Return what later comparisons need of a released table: plain lists, nothing beyond what was released."""
    return {
        "profile_digest": table.profile.digest,
        "lows": table.lows.tolist(),
        "highs": table.highs.tolist(),
        "rows": table.rows.tolist(),
    }


def link(table: Table, cells: Cells, live: Cells) -> Linkage:
    """Return what linkage on all columns gives; `cells` are the rows the table was made of."""
    shown = np.flatnonzero(table.places != NOWHERE)
    own_rows, own_classes = fits(cells.codes[shown], table.lows, table.highs)
    members = distinct_subjects(own_classes, cells.subjects[shown][own_rows], table.classes)
    live_rows, live_classes = fits(live.codes, table.lows, table.highs)
    hiding = np.bincount(live_rows, weights=members[live_classes], minlength=live.rows)
    matched = np.unique(live_rows)
    strangers = _base_subjects(table, cells, live, (shown[own_rows], own_classes), (live_rows, live_classes))
    return Linkage(
        smallest_class=int(members.min(initial=2**62)) if table.classes else 0,
        strays=int((np.bincount(own_rows, minlength=len(shown)) != 1).sum()),
        live_matched=len(matched),
        live_smallest=int(hiding[matched].min()) if len(matched) else None,
        smallest_in_base=int(strangers.min()) if table.classes else 0,
    )


def _base_subjects(
    table: Table, cells: Cells, live: Cells, own: tuple[Numbers, Numbers], other: tuple[Numbers, Numbers]
) -> Numbers:
    """Return per class the distinct subjects of cohort and live base who fit it; one in both counts once."""
    number = {reference: at for at, reference in enumerate(cells.references)}
    translated = np.array([number.setdefault(r, len(number)) for r in live.references], dtype=np.int64)
    subjects = np.concatenate([cells.subjects[own[0]], translated[live.subjects[other[0]]]])
    return distinct_subjects(np.concatenate([own[1], other[1]]), subjects, table.classes)


def fits(codes: Codes, lows: Codes, highs: Codes) -> tuple[Numbers, Numbers]:
    """Return (row, class) for every row whose codes all lie within the class; rows with an unplaced code fit none."""
    found: list[tuple[Numbers, Numbers]] = []
    waiting = [(np.flatnonzero((codes >= 0).all(axis=1)), np.arange(len(lows)))]
    while waiting:
        rows, classes = waiting.pop()
        parts = _parted(codes, lows, highs, rows, classes) if len(rows) * len(classes) > _FEW else None
        if parts is None:
            found.append(_compared(codes, lows, highs, rows, classes))
        else:
            waiting.extend(parts)
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _compared(codes: Codes, lows: Codes, highs: Codes, rows: Numbers, classes: Numbers) -> tuple[Numbers, Numbers]:
    """Compare every row with every class, a bounded number at a time."""
    step = max(1, 4 * _FEW // max(len(classes), 1))
    rows_found, classes_found = [rows[:0]], [classes[:0]]
    for begin in range(0, len(rows), step):
        some = rows[begin : begin + step]
        inside = np.ones((len(some), len(classes)), dtype=np.bool_)
        for at in range(codes.shape[1]):
            column = codes[some, at][:, None]
            inside &= (column >= lows[classes, at]) & (column <= highs[classes, at])
        row, match = np.nonzero(inside)
        rows_found.append(some[row])
        classes_found.append(classes[match])
    return np.concatenate(rows_found), np.concatenate(classes_found)


def _parted(
    codes: Codes, lows: Codes, highs: Codes, rows: Numbers, classes: Numbers
) -> list[tuple[Numbers, Numbers]] | None:
    """Part rows and classes at the column and leaf that separate classes best; None when nothing does."""
    best: tuple[int, int, int] | None = None
    for at in range(codes.shape[1]):
        cut = int(np.median(lows[classes, at]))
        low = int(lows[classes, at].min())
        cut = max(cut - 1, low) if cut > low else low
        worst = max(int((lows[classes, at] <= cut).sum()), int((highs[classes, at] > cut).sum()))
        if best is None or worst < best[0]:
            best = (worst, at, cut)
    if best is None or best[0] > 0.9 * len(classes):
        return None
    _, at, cut = best
    left = codes[rows, at] <= cut
    return [
        (rows[left], classes[lows[classes, at] <= cut]),
        (rows[~left], classes[highs[classes, at] > cut]),
    ]


def difference(table: Table, cells: Cells, earlier: Earlier) -> Difference:
    """Return what subtracting `earlier` from `table` tells.

    Rows of one person lie in classes of the two tables that overlap, so the connected groups of overlapping classes
    part the people: where the counts of such a region differ by one, one person came or went and their values lie
    there. When both cohorts are known and have nobody in common, a difference is about nobody.
    """
    shared = None if earlier.subjects is None else len(earlier.subjects & set(cells.references))
    comparable = earlier.profile_digest == table.profile.digest
    if shared == 0:
        return Difference(disjoint=True, shared_subjects=0, comparable=comparable, smallest=None)
    smallest = _smallest_difference(table, earlier) if comparable else None
    return Difference(disjoint=False, shared_subjects=shared, comparable=comparable, smallest=smallest)


def _smallest_difference(table: Table, earlier: Earlier) -> int | None:
    counts = np.concatenate([table.rows, -earlier.rows])
    region = _regions(_overlaps(table, earlier), len(counts), table.classes)
    gaps = np.abs(np.bincount(region, weights=counts))
    gaps = gaps[gaps > 0]
    return int(gaps.min()) if len(gaps) else None


def _overlaps(table: Table, earlier: Earlier) -> Sequence[tuple[int, int]]:
    """Return (class of the table, class of the earlier one) for each pair with a leaf in common in every column."""
    pairs: list[tuple[int, int]] = []
    for at in range(table.classes):
        meets = ((table.lows[at] <= earlier.highs) & (table.highs[at] >= earlier.lows)).all(axis=1)
        pairs.extend((at, int(other)) for other in np.flatnonzero(meets))
    return pairs


def _regions(pairs: Sequence[tuple[int, int]], count: int, offset: int) -> Numbers:
    """Return for each class the number of its connected region (union-find)."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for one, other in pairs:
        parent[root(one)] = root(other + offset)
    return np.array([root(at) for at in range(count)], dtype=np.int64)


def row_order(table: Table) -> float:
    """Return Spearman's correlation between the rows' order on entry and the place of their class in the table."""
    shown = table.places[table.places != NOWHERE]
    if len(np.unique(shown)) < 2:
        return 0.0
    _, inverse, counts = np.unique(shown, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float(np.corrcoef(np.arange(len(shown)), ranks)[0, 1])


def unique_share(profile: Profile, cells: Cells) -> float:
    """Return the share of rows that are alone with their values, before anything is generalised."""
    if not cells.rows:
        return 0.0
    _, counts = np.unique(cells.codes[:, : len(profile.columns)], axis=0, return_counts=True)
    return float((counts == 1).sum() / cells.rows)
