"""The risk report the DPO reads before approving, as plain data (exports.md rule 7).

Pages and PDFs draw it elsewhere. Leaves out any sentence that claims more than the attacks that were run: what was
not asked for (no sensitive column, no live base) is "not shown", never "withstood".
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from app.exports.attacks import Difference, Earlier, Linkage, difference, link, row_order, unique_share
from app.exports.cells import Cells
from app.exports.diversity import row_weights, shares, variety
from app.exports.gate import Candidate, Ground, Reason, judge_cohort
from app.exports.profile import Column
from app.exports.table import NOWHERE, Table, loss, loss_by_column

Plain = dict[str, object]


class Shown(StrEnum):
    """What the attacks showed of one of the three criteria (Article 29 Working Party, opinion 05/2014)."""

    WITHSTOOD = "withstood"
    FAILED = "failed"
    NOT_SHOWN = "not_shown"


def report(candidate: Candidate, *, live: Cells | None, earlier: Sequence[Earlier]) -> Plain:
    """Return the report: JSON values only, figures of groups, never a value of a row.

    Keys: profile, digest, rows_in, rows_out, subjects_in, columns, classes, class_sizes, k, l_and_t, risk,
    uniqueness, homogeneous_classes, loss, loss_by_column, suppressed, suppressed_share, earlier, attacks, verdicts,
    reasons (what the gate would say, approval apart).
    """
    table, cells = candidate.table, candidate.cells
    linkage = None if live is None else link(table, cells, live)
    differences = [difference(table, cells, each) for each in earlier]
    reasons = judge_cohort(candidate, live=live, earlier=earlier)
    return {
        "profile": {"id": table.profile.id, "schema_version": table.profile.schema_version, "why": table.profile.why},
        "digest": candidate.output.digest,
        "rows_in": len(table.places),
        "rows_out": int(table.rows.sum()),
        "subjects_in": table.subjects_in,
        "columns": [{"name": column.name, "why": column.why} for column in table.profile.columns],
        "classes": table.classes,
        "class_sizes": _histogram(table),
        "k": _k(table),
        "l_and_t": _l_and_t(table, cells),
        "risk": _risk(table, linkage),
        "uniqueness": {"before": unique_share(table.profile, cells), "after": _unique_after(table)},
        "homogeneous_classes": _homogeneous(table),
        "loss": loss(table),
        "loss_by_column": loss_by_column(table),
        "suppressed": {cause.value: count for cause, count in sorted(table.suppressed.items())},
        "suppressed_share": table.suppressed_share,
        "earlier": [_difference(found) for found in differences],
        "attacks": {"linkage": None if linkage is None else _linkage(linkage), "row_order": row_order(table)},
        "verdicts": _verdicts(table, reasons),
        "reasons": [{"ground": reason.ground.value, "detail": reason.detail} for reason in reasons],
    }


def _histogram(table: Table) -> list[Plain]:
    sizes, counts = np.unique(table.subjects, return_counts=True)
    return [{"subjects": int(s), "classes": int(c)} for s, c in zip(sizes, counts, strict=True)]


def _k(table: Table) -> Plain:
    if not table.classes:
        return {"asked": table.profile.k, "smallest": 0, "median": 0.0}
    return {
        "asked": table.profile.k,
        "smallest": int(table.subjects.min()),
        "median": float(np.median(table.subjects)),
    }


def _risk(table: Table, linkage: Linkage | None) -> Plain:
    """Prosecutor: knows the person is in; journalist: knows the base; marketer: wants as many as possible."""
    if not table.classes:
        return {"prosecutor": None, "journalist": None, "marketer": None}
    journalist = None if linkage is None or not linkage.smallest_in_base else 1 / linkage.smallest_in_base
    return {
        "prosecutor": 1 / int(table.subjects.min()),
        "journalist": journalist,
        "marketer": table.classes / int(table.subjects.sum()),
    }


def _unique_after(table: Table) -> float:
    return float((table.rows == 1).sum() / table.rows.sum()) if table.classes else 0.0


def _homogeneous(table: Table) -> dict[str, int]:
    """Per sensitive column, in how many classes it is shown as one single leaf."""
    return {
        column.name: int((table.lows[:, at] == table.highs[:, at]).sum())
        for at, column in enumerate(table.profile.columns)
        if column.sensitive is not None
    }


def _l_and_t(table: Table, cells: Cells) -> list[Plain]:
    asked = [(at, column) for at, column in enumerate(table.profile.columns) if column.sensitive is not None]
    return [_variety_of(table, cells, at, column) for at, column in asked] if table.classes else []


def _variety_of(table: Table, cells: Cells, at: int, column: Column) -> Plain:
    shown = (table.places != NOWHERE) & cells.complete
    places, subjects, codes = table.places[shown], cells.subjects[shown], cells.codes[shown, at]
    nought, size = np.zeros_like(places), column.scale.size
    whole = shares(nought, 1, codes, size, row_weights(nought, subjects))[0]
    share = shares(places, table.classes, codes, size, row_weights(places, subjects))
    found = variety(share, whole, ordered=column.scale.ordered)
    asked = column.sensitive
    return {
        "column": column.name,
        "asked": None if asked is None else {"l": asked.l_distinct, "entropy_l": asked.l_entropy, "t": asked.t},
        "l": int(found.distinct.min()),
        "entropy_l": float(found.entropy.min()),
        "t": float(found.distance.max()),
    }


def _difference(found: Difference) -> Plain:
    return {
        "nobody_in_both": found.disjoint,
        "shared_subjects": found.shared_subjects,
        "comparable": found.comparable,
        "smallest_difference": found.smallest,
    }


def _linkage(linkage: Linkage) -> Plain:
    return {
        "smallest_class": linkage.smallest_class,
        "rows_not_in_one_class": linkage.strays,
        "live_rows_matched": linkage.live_matched,
        "live_smallest": linkage.live_smallest,
        "smallest_in_base": linkage.smallest_in_base,
    }


_SINGLING_OUT = frozenset({Ground.K_NOT_MET, Ground.MISSING_SHOWN, Ground.CLASSES_OVERLAP, Ground.COUNTS_DISAGREE})
_LINKABILITY = frozenset(
    {
        Ground.LINKED_TO_LIVE,
        Ground.ALREADY_EXPORTED,
        Ground.DIFFERENCE_TOO_SMALL,
        Ground.NOT_COMPARABLE,
        Ground.ROW_ORDER,
    }
)


def _verdicts(table: Table, reasons: Sequence[Reason]) -> dict[str, str]:
    grounds = {reason.ground for reason in reasons}
    no_live = Ground.LIVE_BASE_MISSING in grounds
    sensitive = any(column.sensitive is not None for column in table.profile.columns)
    return {
        "singling_out": _shown(failed=bool(grounds & _SINGLING_OUT), asked=not no_live and table.classes > 0),
        "linkability": _shown(failed=bool(grounds & _LINKABILITY), asked=not no_live and table.classes > 0),
        "inference": _shown(failed=Ground.VARIETY_NOT_MET in grounds, asked=sensitive and table.classes > 0),
    }


def _shown(*, failed: bool, asked: bool) -> str:
    if failed:
        return Shown.FAILED.value
    return (Shown.WITHSTOOD if asked else Shown.NOT_SHOWN).value
