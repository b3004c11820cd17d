"""Strict multidimensional Mondrian over integer codes (LeFevre, DeWitt, Ramakrishnan 2006), every column cut.

All open groups of one depth are cut together with whole-array numpy, because a recursion in Python would spend its
time in calls. A cut is made only where both sides keep k distinct subjects and the variety asked for: a group that
would be too small is never made, it stays merged with its neighbour. What is left failing is the whole, or nothing.

Leaves out relaxed (overlapping) cuts: a row must fit one class only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.exports.cells import Numbers, count_subjects
from app.exports.diversity import Floats, row_weights, shares, variety
from app.exports.profile import Profile, Sensitivity
from app.exports.scales import Codes

_MOST_CELLS = 1 << 22
"""Groups x leaves looked at in one go: bounds memory (a few arrays of 32 MB)."""
_EVENNESS = 0.1
"""How much an even cut is preferred to one that narrows more; measured on the benchmark's data."""


@dataclass(frozen=True, slots=True, eq=False)
class _Demand:
    """A sensitive column, what is asked of it, and its shares over the whole cohort."""

    column: int
    size: int
    ordered: bool
    wanted: Sensitivity
    whole: Floats


@dataclass(slots=True, eq=False)
class _Open:
    """The rows of the groups still open; `groups` numbers them densely from 0 to `count` - 1."""

    rows: Numbers
    groups: Numbers
    count: int


def partition(profile: Profile, codes: Codes, subjects: Numbers) -> Numbers:
    """Return for each row the number of its group, or -1 where even the whole does not meet k and variety.

    `codes` is rows x columns, every code placed (>= 0); `subjects` numbers the subject of each row.
    """
    return _Mondrian(profile, codes, subjects).run()


class _Mondrian:
    def __init__(self, profile: Profile, codes: Codes, subjects: Numbers) -> None:
        self._k = profile.k
        self._sizes = profile.sizes
        self._codes = codes
        self._subjects = subjects
        self._alone = count_subjects(subjects) == len(subjects)
        """Every subject has one row: rows are subjects, and much is cheaper."""
        self._demands = self._read_demands(profile)
        self._closed = np.full(len(codes), -1, dtype=np.int64)
        self._next = 0

    def run(self) -> Numbers:
        count = len(self._codes)
        start = np.zeros(count, dtype=np.int64)
        if not count or count_subjects(self._subjects) < self._k or not self._varied(np.arange(count), start, 1)[0]:
            return self._closed
        level = _Open(np.arange(count), start, 1)
        while level.count:
            level = self._deepen(level)
        return self._closed

    def _read_demands(self, profile: Profile) -> tuple[_Demand, ...]:
        nought = np.zeros(len(self._codes), dtype=np.int64)
        weights = self._weights(np.arange(len(self._codes)), nought)
        return tuple(
            _Demand(
                at,
                column.scale.size,
                column.scale.ordered,
                column.sensitive,
                shares(nought, 1, self._codes[:, at], column.scale.size, weights)[0],
            )
            for at, column in enumerate(profile.columns)
            if column.sensitive is not None
        )

    def _deepen(self, level: _Open) -> _Open:
        """Cut every group that can be cut, close the others, return the halves."""
        score, cut = self._best_cuts(level)
        column = self._agreed_columns(level, score, cut)
        level = self._close(level, column < 0)
        kept = column >= 0
        return self._halve(level, column[kept], cut[kept])

    def _best_cuts(self, level: _Open) -> tuple[Floats, Numbers]:
        """Return groups x columns: how much the best cut narrows (-1: none has k on both sides), and where it is."""
        score = np.full((level.count, len(self._sizes)), -1.0)
        cut = np.zeros((level.count, len(self._sizes)), dtype=np.int64)
        for at, size in enumerate(self._sizes):
            if size < 2:
                continue
            groups, lowest, highest = self._extremes(level, at)
            for begin, end in _slices(level.count, size):
                inside = slice(None) if end - begin == level.count else (groups >= begin) & (groups < end)
                lows = _histogram(groups[inside] - begin, lowest[inside], end - begin, size)
                highs = lows if self._alone else _histogram(groups[inside] - begin, highest[inside], end - begin, size)
                score[begin:end, at], cut[begin:end, at] = _rate(lows, highs, self._k)
        return score, cut

    def _extremes(self, level: _Open, at: int) -> tuple[Numbers, Codes, Codes]:
        """Return, per subject of each group: its group, and its lowest and highest code in column `at`.

        A subject is left of a cut if its lowest code is, right of it if its highest is, and may be both: that is
        how k counts distinct subjects and not rows.
        """
        codes = self._codes[level.rows, at]
        if self._alone:
            return level.groups, codes, codes
        pair = level.groups * (int(self._subjects.max()) + 1) + self._subjects[level.rows]
        order = np.argsort(pair, kind="stable")
        first = np.flatnonzero(np.diff(pair[order], prepend=-1))
        sorted_codes = codes[order]
        return (
            level.groups[order][first],
            np.minimum.reduceat(sorted_codes, first),
            np.maximum.reduceat(sorted_codes, first),
        )

    def _agreed_columns(self, level: _Open, score: Floats, cut: Numbers) -> Numbers:
        """Return per group the column to cut, -1 for none: the best whose halves keep the variety asked for."""
        column = np.where(score.max(axis=1) >= 0, score.argmax(axis=1), -1)
        while self._demands:
            doubtful = self._unvaried(level, column, cut)
            if not doubtful.any():
                break
            score[doubtful, column[doubtful]] = -1.0
            column = np.where(score.max(axis=1) >= 0, score.argmax(axis=1), -1)
        return np.asarray(column, dtype=np.int64)

    def _unvaried(self, level: _Open, column: Numbers, cut: Numbers) -> NDArray[np.bool_]:
        """Return which groups would, cut as proposed, have a half without the variety asked for."""
        chosen = np.arange(level.count)
        cutting = column[level.groups] >= 0
        rows, groups = level.rows[cutting], level.groups[cutting]
        right = self._codes[rows, column[groups]] > cut[chosen, column][groups]
        varied = self._varied(rows, groups * 2 + right, level.count * 2)
        return np.asarray((column >= 0) & ~(varied[::2] & varied[1::2]))

    def _varied(self, rows: Numbers, groups: Numbers, count: int) -> NDArray[np.bool_]:
        held = np.ones(count, dtype=np.bool_)
        if not self._demands:
            return held
        weights = self._weights(rows, groups)
        for demand in self._demands:
            for begin, end in _slices(count, demand.size):
                inside = (groups >= begin) & (groups < end)
                codes = self._codes[rows[inside], demand.column]
                share = shares(groups[inside] - begin, end - begin, codes, demand.size, weights[inside])
                held[begin:end] &= variety(share, demand.whole, ordered=demand.ordered).enough(demand.wanted)
        return held

    def _weights(self, rows: Numbers, groups: Numbers) -> Floats:
        return np.ones(len(rows)) if self._alone else row_weights(groups, self._subjects[rows])

    def _close(self, level: _Open, done: NDArray[np.bool_]) -> _Open:
        """Give the groups `done` their final numbers and return the level without them."""
        final = np.cumsum(done) - 1 + self._next
        finished = done[level.groups]
        self._closed[level.rows[finished]] = final[level.groups[finished]]
        self._next += int(done.sum())
        dense = np.cumsum(~done) - 1
        going = ~finished
        return _Open(level.rows[going], dense[level.groups[going]], int((~done).sum()))

    def _halve(self, level: _Open, column: Numbers, cut: Numbers) -> _Open:
        where = cut[np.arange(level.count), column]
        right = self._codes[level.rows, column[level.groups]] > where[level.groups]
        return _Open(level.rows, level.groups * 2 + right, level.count * 2)


def _slices(count: int, size: int) -> list[tuple[int, int]]:
    step = max(1, _MOST_CELLS // size)
    return [(begin, min(begin + step, count)) for begin in range(0, count, step)]


def _histogram(groups: Numbers, codes: Codes, count: int, size: int) -> Numbers:
    return np.bincount(groups * size + codes, minlength=count * size).reshape(count, size)


def _rate(lows: Numbers, highs: Numbers, k: int) -> tuple[Floats, Numbers]:
    """Return per group the worth of its best cut (-1: none allowed) and the last leaf left of it.

    `lows`, `highs`: groups x leaves, how many subjects have their lowest (highest) code there. Worth is the width
    that the two sides lose, as a share of the scale, times a preference for even cuts.
    """
    size = lows.shape[1]
    total = lows.sum(axis=1, keepdims=True)
    left = np.cumsum(lows, axis=1)
    right = total - np.cumsum(highs, axis=1)
    smaller = np.minimum(left, right)
    narrowed = _narrowed(lows, highs, left, right, total) / (size - 1)
    worth = np.where(smaller >= k, narrowed * (smaller / total) ** _EVENNESS, -1.0)
    cut = worth.argmax(axis=1)
    return np.take_along_axis(worth, cut[:, None], axis=1)[:, 0], cut


def _narrowed(lows: Numbers, highs: Numbers, left: Numbers, right: Numbers, total: Numbers) -> Floats:
    """Return groups x cuts: the mean width, in leaves, that a subject's interval loses by the cut."""
    size = lows.shape[1]
    leaf = np.arange(size)
    seen = (lows > 0) | (highs > 0)
    before = np.maximum.accumulate(np.where(seen, leaf, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, leaf, size)[:, ::-1], axis=1)[:, ::-1]
    after = np.concatenate([after[:, 1:], np.full((len(lows), 1), size)], axis=1)
    first, last = _first(seen), size - 1 - _first(seen[:, ::-1])
    width = (last - first)[:, None] * total
    return np.asarray((width - left * (before - first[:, None]) - right * (last[:, None] - after)) / total)


def _first(seen: NDArray[np.bool_]) -> Numbers:
    """Return per row the index of the first true."""
    return np.asarray(seen.argmax(axis=1), dtype=np.int64)
