"""How varied the sensitive values of a group are: distinct l, entropy l, t (Machanavajjhala 2007, Li 2007).

Each subject weighs one in its group, however many rows it has there: otherwise one person with many different rows
would lend variety to a group whose other members are all alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.exports.cells import Numbers
from app.exports.profile import Sensitivity
from app.exports.scales import Codes

Floats = NDArray[np.float64]
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Variety:
    """Per group: number of different values, exp(entropy), distance from the whole."""

    distinct: Numbers
    entropy: Floats
    distance: Floats

    def enough(self, wanted: Sensitivity) -> NDArray[np.bool_]:
        """Return which groups meet `wanted`."""
        held = (self.distinct >= wanted.l_distinct) & (self.entropy >= wanted.l_entropy - _SLACK)
        return np.asarray(held if wanted.t is None else held & (self.distance <= wanted.t + _SLACK))


def shares(groups: Numbers, count: int, codes: Codes, size: int, weights: Floats) -> Floats:
    """Return groups x leaves: the share of each leaf in each group; `weights` per row."""
    flat = np.bincount(groups * size + codes, weights=weights, minlength=count * size)
    mass = flat.reshape(count, size)
    return np.asarray(mass / np.maximum(mass.sum(axis=1, keepdims=True), _SLACK))


def variety(share: Floats, whole: Floats, *, ordered: bool) -> Variety:
    """Return the variety of each group of `share` (groups x leaves) against `whole` (leaves)."""
    distinct = (share > 0).sum(axis=1).astype(np.int64)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    gap = share - whole
    if ordered:
        # Earth mover's distance on a line with neighbours 1 / (leaves - 1) apart.
        distance = np.abs(np.cumsum(gap, axis=1)).sum(axis=1) / max(share.shape[1] - 1, 1)
    else:
        distance = np.abs(gap).sum(axis=1) / 2
    return Variety(distinct, np.exp(-(share * logs).sum(axis=1)), distance)


def row_weights(groups: Numbers, subjects: Numbers) -> Floats:
    """Return for each row 1 / (rows of its subject in its group)."""
    pair = groups * (int(subjects.max(initial=0)) + 1) + subjects
    _, place, times = np.unique(pair, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / times[place])
