"""The anonymous table of one cohort: classes (an interval of leaves per column) and how many rows are in each.

`anonymise` decides; nothing here is released before `app.exports.gate` says so. Rows with a missing or unplaceable
value are suppressed and counted by cause, never made into a class of their own (exports.md rule 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from app.exports.cells import Cells, Numbers, count_subjects
from app.exports.mondrian import partition
from app.exports.profile import LARGEST_SUPPRESSED_SHARE, Profile
from app.exports.scales import MISSING, Codes

NOWHERE = -1
"""The place of a suppressed row."""


class Cause(StrEnum):
    """Why a row was suppressed."""

    MISSING_VALUE = "missing_value"
    OUTSIDE_SCALE = "outside_scale"
    TOO_FEW_ALIKE = "too_few_alike"
    """Even the whole cohort has not k subjects or not the variety asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Classes in the order of their intervals. `lows`, `highs`: classes x columns, both ends included."""

    profile: Profile
    lows: Codes
    highs: Codes
    rows: Numbers
    """Rows in each class: the released count."""
    subjects: Numbers
    """Distinct subjects in each class."""
    places: Numbers = field(repr=False)
    """For each row of the cells its class, or NOWHERE. Never leaves the process."""
    suppressed: Mapping[Cause, int]
    subjects_in: int

    @property
    def classes(self) -> int:
        return len(self.rows)

    @property
    def suppressed_rows(self) -> int:
        return sum(self.suppressed.values())

    @property
    def suppressed_share(self) -> float:
        return self.suppressed_rows / len(self.places) if len(self.places) else 0.0

    @property
    def too_much_suppressed(self) -> bool:
        """Above 5 % the release is refused (exports.md rule 3)."""
        return self.suppressed_share > LARGEST_SUPPRESSED_SHARE

    def labels(self) -> list[tuple[str, ...]]:
        """Return the words of each class, column by column."""
        by_column = [
            _column_labels(self.profile, at, self.lows[:, at], self.highs[:, at])
            for at in range(len(self.profile.columns))
        ]
        return list(zip(*by_column, strict=True))


def anonymise(profile: Profile, cells: Cells) -> Table:
    """Return the strict Mondrian table of `cells`: each class has at least k distinct subjects and the variety asked.

    Always returns a table; what cannot be shown is suppressed, and a table with too much suppressed is refused later.
    """
    kept = np.flatnonzero(cells.complete)
    groups = partition(profile, cells.codes[kept], cells.subjects[kept])
    failed = int((groups < 0).sum())
    kept, groups = kept[groups >= 0], groups[groups >= 0]
    lows, highs = _intervals(groups, cells.codes[kept])
    order = _canonical(lows, highs)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    places = np.full(cells.rows, NOWHERE, dtype=np.int64)
    places[kept] = place[groups]
    return Table(
        profile=profile,
        lows=lows[order],
        highs=highs[order],
        rows=np.bincount(places[kept], minlength=len(order)),
        subjects=distinct_subjects(places[kept], cells.subjects[kept], len(order)),
        places=places,
        suppressed=_causes(cells, failed),
        subjects_in=count_subjects(cells.subjects),
    )


def distinct_subjects(places: Numbers, subjects: Numbers, classes: int) -> Numbers:
    """Return how many different subjects each class has."""
    if not len(places):
        return np.zeros(classes, dtype=np.int64)
    many = int(subjects.max()) + 1
    pairs = np.sort(places * many + subjects)
    first = np.diff(pairs, prepend=-1) > 0
    return np.bincount(pairs[first] // many, minlength=classes)


def loss_by_column(table: Table) -> dict[str, float]:
    """Return per column the mean over rows of (leaves covered - 1) / (leaves - 1); a suppressed row counts 1."""
    total = max(len(table.places), 1)
    losses = {}
    for at, column in enumerate(table.profile.columns):
        width = (table.highs[:, at] - table.lows[:, at]) / max(column.scale.size - 1, 1)
        losses[column.name] = (float((width * table.rows).sum()) + table.suppressed_rows) / total
    return losses


def loss(table: Table) -> float:
    """Return the mean loss over all cells, 0 (nothing generalised) to 1."""
    losses = loss_by_column(table)
    return sum(losses.values()) / len(losses)


def is_canonical(table: Table) -> bool:
    """Return whether the classes stand in the order of their intervals, which says nothing about the rows."""
    return bool((_canonical(table.lows, table.highs) == np.arange(table.classes)).all())


def _canonical(lows: Codes, highs: Codes) -> Numbers:
    keys = [end[:, at] for at in reversed(range(lows.shape[1])) for end in (highs, lows)]
    return np.lexsort(keys).astype(np.int64)


def _intervals(groups: Numbers, codes: Codes) -> tuple[Codes, Codes]:
    """Return the tight interval of each group in each column, as groups x columns."""
    if not len(groups):
        return codes[:0], codes[:0]
    order = np.argsort(groups, kind="stable")
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ordered = codes[order]
    return np.minimum.reduceat(ordered, first, axis=0), np.maximum.reduceat(ordered, first, axis=0)


def _causes(cells: Cells, failed: int) -> dict[Cause, int]:
    missing = (cells.codes == MISSING).any(axis=1)
    outside = ~cells.complete & ~missing
    counts = {
        Cause.MISSING_VALUE: int(missing.sum()),
        Cause.OUTSIDE_SCALE: int(outside.sum()),
        Cause.TOO_FEW_ALIKE: failed,
    }
    return {cause: count for cause, count in counts.items() if count}


def _column_labels(profile: Profile, at: int, lows: Codes, highs: Codes) -> list[str]:
    scale = profile.columns[at].scale
    pairs = list(zip(lows.tolist(), highs.tolist(), strict=True))
    words = {pair: scale.label(*pair) for pair in set(pairs)}
    return [words[pair] for pair in pairs]
