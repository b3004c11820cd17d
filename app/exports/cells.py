"""The rows of a cohort, or of the live base, as small integers: one column per profile column, subjects numbered.

Only what the profile names can enter (exports.md rule 1). Rows are shuffled on entry, so that no later order can
follow the order in which people came or left (rule 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.exports.errors import UnknownColumns
from app.exports.profile import Profile
from app.exports.scales import Codes

Row = tuple[str, Mapping[str, object]]
"""(subject reference, column name -> value)."""
Numbers = NDArray[np.int64]


class Shuffler(Protocol):
    """Randomness, e.g. `random.SystemRandom()`; a seeded one in tests."""

    def shuffle(self, x: list[Any], /) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """`codes` is rows x columns; negative = MISSING or OUTSIDE. `subjects[i]` indexes `references`."""

    codes: Codes = field(repr=False)
    subjects: Numbers = field(repr=False)
    references: tuple[str, ...] = field(repr=False)

    @property
    def rows(self) -> int:
        return len(self.codes)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which rows have a placed value in every column."""
        return np.asarray((self.codes >= 0).all(axis=1))


def count_subjects(subjects: Numbers) -> int:
    """Return how many different numbers `subjects` holds; they are small, so counting beats sorting."""
    return int(np.count_nonzero(np.bincount(subjects)))


def read_cells(profile: Profile, rows: Iterable[Row], shuffler: Shuffler) -> Cells:
    """Return `rows` as cells, in a random order. Raises UnknownColumns when a row has a column the profile has not."""
    shuffled = list(rows)
    known = set(profile.names)
    unknown = sorted({name for _, values in shuffled if not values.keys() <= known for name in values.keys() - known})
    if unknown:
        raise UnknownColumns(unknown)
    shuffler.shuffle(shuffled)
    numbers: dict[str, int] = {}
    subjects = np.array([numbers.setdefault(subject, len(numbers)) for subject, _ in shuffled], dtype=np.int64)
    codes = np.empty((len(shuffled), len(profile.columns)), dtype=np.int32)
    for at, column in enumerate(profile.columns):
        codes[:, at] = column.scale.encode(values.get(column.name) for _, values in shuffled)
    return Cells(codes, subjects, tuple(numbers))
