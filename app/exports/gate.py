"""The release gate (exports.md rule 6): it fails closed, lists every reason, and asks for a named approver.

A cohort is *sealed and released* in one go: the caller prepares a candidate from the open pool, shows its report,
and judges it again with the approval, which names the digest of exactly these files. If anybody was erased
meanwhile, the files differ and the approval is of another table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from app.exports.attacks import Difference, Earlier, Linkage, difference, link, row_order
from app.exports.cells import Cells, count_subjects
from app.exports.diversity import row_weights, shares, variety
from app.exports.output import COUNT, Output, UnreadableOutput, parquet_is_bare, read_csv, read_parquet, write_output
from app.exports.profile import SMALLEST_COHORT, Profile
from app.exports.table import NOWHERE, Table, anonymise, is_canonical

_LEAST_ORDER = 0.05


class Ground(StrEnum):
    """Why a release is refused."""

    COHORT_TOO_SMALL = "cohort_too_small"
    K_NOT_MET = "k_not_met"
    VARIETY_NOT_MET = "variety_not_met"
    TOO_MUCH_SUPPRESSED = "too_much_suppressed"
    COUNTS_DISAGREE = "counts_disagree"
    MISSING_SHOWN = "missing_shown"
    LIVE_BASE_MISSING = "live_base_missing"
    LINKED_TO_LIVE = "linked_to_live"
    CLASSES_OVERLAP = "classes_overlap"
    ALREADY_EXPORTED = "already_exported"
    DIFFERENCE_TOO_SMALL = "difference_too_small"
    NOT_COMPARABLE = "not_comparable"
    ROW_ORDER = "row_order"
    OUTPUT_DIFFERS = "output_differs"
    NOT_APPROVED = "not_approved"
    APPROVAL_OF_ANOTHER_TABLE = "approval_of_another_table"


@dataclass(frozen=True, slots=True)
class Reason:
    """One ground with its figures; never a value of a row."""

    ground: Ground
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A table that asks to leave, the rows it was made of, and the very bytes that would leave."""

    table: Table
    cells: Cells = field(repr=False)
    output: Output = field(repr=False)


@dataclass(frozen=True, slots=True)
class Approval:
    """The named DPO's yes to the files with this digest (`Candidate.output.digest`)."""

    by: str
    digest: str


@dataclass(frozen=True, slots=True)
class Released:
    """The gate is open for these files, and for no others."""

    output: Output = field(repr=False)
    approved_by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing leaves; every reason, in the order of the checks."""

    reasons: tuple[Reason, ...]


Verdict = Released | Refused


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    candidate: Candidate
    live: Cells | None
    earlier: Sequence[Earlier]
    approval: Approval | None


def prepare(profile: Profile, cells: Cells, policy_digest: str) -> Candidate:
    """Return the candidate of a cohort: the same cells give the same bytes, in whatever order they come."""
    table = anonymise(profile, cells)
    return Candidate(table, cells, write_output(table, policy_digest))


def judge_release(
    candidate: Candidate, *, live: Cells | None, earlier: Sequence[Earlier], approval: Approval | None
) -> Verdict:
    """Return Released, or Refused with every reason.

    `live` are all subjects' live rows under the same profile (None refuses; an empty base is `read_cells` of no
    rows), `earlier` every table this controller ever released.
    """
    question = _Question(candidate, live, earlier, approval)
    reasons = tuple(reason for check in _CHECKS for reason in check(question))
    if reasons or approval is None:
        return Refused(reasons)
    return Released(candidate.output, approval.by)


def judge_cohort(candidate: Candidate, *, live: Cells | None, earlier: Sequence[Earlier]) -> tuple[Reason, ...]:
    """Return what keeps the cohort from being sealed, approval apart; empty: it may be shown to the DPO (rule 4)."""
    question = _Question(candidate, live, earlier, None)
    return tuple(reason for check in _CHECKS if check is not _approval for reason in check(question))


def _cohort(question: _Question) -> list[Reason]:
    """At least max(100 subjects, k) (rule 4)."""
    least = max(SMALLEST_COHORT, question.candidate.table.profile.k)
    subjects = count_subjects(question.candidate.cells.subjects)
    return [Reason(Ground.COHORT_TOO_SMALL, f"{subjects} subjects, at least {least}")] if subjects < least else []


def _k_and_counts(question: _Question) -> list[Reason]:
    """k in distinct subjects, counted anew; counts and suppressed rows add up; 5 % (rules 2, 3)."""
    table, cells = question.candidate.table, question.candidate.cells
    reasons = []
    if len(table.places) != cells.rows or int(table.rows.sum()) + table.suppressed_rows != cells.rows:
        return [Reason(Ground.COUNTS_DISAGREE, "counts and suppressed rows do not add up to the rows")]
    seen: list[set[int]] = [set() for _ in range(table.classes)]
    for place, subject in zip(table.places.tolist(), cells.subjects.tolist(), strict=True):
        if place != NOWHERE:
            seen[place].add(subject)
    smallest = min((len(members) for members in seen), default=0)
    if smallest < table.profile.k:
        reasons.append(Reason(Ground.K_NOT_MET, f"smallest class {smallest} subjects, at least {table.profile.k}"))
    if table.too_much_suppressed:
        reasons.append(Reason(Ground.TOO_MUCH_SUPPRESSED, f"{table.suppressed_share:.1%} of rows suppressed"))
    if bool((cells.codes[table.places != NOWHERE] < 0).any()):
        reasons.append(Reason(Ground.MISSING_SHOWN, "a class holds rows with a missing or unplaced value"))
    return reasons


def _variety(question: _Question) -> list[Reason]:
    """l and t of every sensitive column, over the rows that are shown (rule 2)."""
    table, cells = question.candidate.table, question.candidate.cells
    shown = (table.places != NOWHERE) & cells.complete
    if not shown.any():
        return []
    places, subjects, reasons = table.places[shown], cells.subjects[shown], []
    weights, whole_weights = row_weights(places, subjects), row_weights(np.zeros_like(places), subjects)
    for at, column in enumerate(table.profile.columns):
        if column.sensitive is None:
            continue
        codes, size = cells.codes[shown, at], column.scale.size
        whole = shares(np.zeros_like(places), 1, codes, size, whole_weights)[0]
        share = shares(places, table.classes, codes, size, weights)
        held = variety(share, whole, ordered=column.scale.ordered).enough(column.sensitive)
        if not held.all():
            reasons.append(Reason(Ground.VARIETY_NOT_MET, f"{column.name}: {int((~held).sum())} classes too alike"))
    return reasons


def _linkage(question: _Question) -> list[Reason]:
    """The linkage attack with the live base."""
    if question.live is None:
        return [Reason(Ground.LIVE_BASE_MISSING, "no live base to attack with")]
    table = question.candidate.table
    return linkage_reasons(link(table, question.candidate.cells, question.live), table.profile.k)


def linkage_reasons(linkage: Linkage, k: int) -> list[Reason]:
    """Return what the linkage attack says against a release at `k`."""
    reasons = []
    if linkage.strays:
        reasons.append(Reason(Ground.CLASSES_OVERLAP, f"{linkage.strays} rows do not fit exactly one class"))
    if linkage.smallest_class < k:
        reasons.append(Reason(Ground.K_NOT_MET, f"{linkage.smallest_class} subjects fit the smallest class"))
    if linkage.live_smallest is not None and linkage.live_smallest < k:
        reasons.append(Reason(Ground.LINKED_TO_LIVE, f"a live row is left with {linkage.live_smallest} subjects"))
    if linkage.smallest_in_base < k:
        reasons.append(Reason(Ground.LINKED_TO_LIVE, f"{linkage.smallest_in_base} subjects of the base fit a class"))
    return reasons


def _differencing(question: _Question) -> list[Reason]:
    """Against every earlier table: nobody twice, and no difference that is about fewer than k (rules 4, 6)."""
    table, cells = question.candidate.table, question.candidate.cells
    reasons = []
    for number, earlier in enumerate(question.earlier, start=1):
        found = difference(table, cells, earlier)
        reasons += [Reason(ground, f"earlier release {number}: {why}") for ground, why in _told(found, table.profile.k)]
    return reasons


def _told(found: Difference, k: int) -> list[tuple[Ground, str]]:
    told = []
    if found.shared_subjects:
        told.append((Ground.ALREADY_EXPORTED, f"{found.shared_subjects} subjects were in it"))
    if not found.disjoint and not found.comparable:
        told.append((Ground.NOT_COMPARABLE, "other bins, and perhaps the same people"))
    if found.smallest is not None and found.smallest < k:
        told.append((Ground.DIFFERENCE_TOO_SMALL, f"a region differs by {found.smallest} rows"))
    return told


def _order(question: _Question) -> list[Reason]:
    """The order of the table says nothing about the order of the rows."""
    table = question.candidate.table
    if not is_canonical(table):
        return [Reason(Ground.ROW_ORDER, "the classes are not in the order of their values")]
    # Four standard errors: chance alone goes beyond in one release of ten thousand.
    most = max(_LEAST_ORDER, 4 / max(len(table.places), 1) ** 0.5)
    found = row_order(table)
    return [Reason(Ground.ROW_ORDER, f"correlation {found:.2f}, at most {most:.2f}")] if abs(found) > most else []


def _output(question: _Question) -> list[Reason]:
    """The bytes hold the allowed columns and the count, the judged table, and nothing else (rules 1, 5)."""
    table, output = question.candidate.table, question.candidate.output
    wanted = ((*table.profile.names, COUNT), list(zip(table.labels(), table.rows.tolist(), strict=True)))
    try:
        same = read_csv(output.csv) == wanted and read_parquet(output.parquet) == wanted
        bare = parquet_is_bare(output.parquet)
    except UnreadableOutput:
        same = bare = False
    return [] if same and bare else [Reason(Ground.OUTPUT_DIFFERS, "the files are not the judged table and only that")]


def _approval(question: _Question) -> list[Reason]:
    """A named DPO approves, and approves exactly these files."""
    approval = question.approval
    if approval is None or not approval.by.strip():
        return [Reason(Ground.NOT_APPROVED, "no named approver")]
    if approval.digest != question.candidate.output.digest:
        return [Reason(Ground.APPROVAL_OF_ANOTHER_TABLE, "the approval names other files")]
    return []


_CHECKS: tuple[Callable[[_Question], list[Reason]], ...] = (
    _cohort,
    _k_and_counts,
    _variety,
    _linkage,
    _differencing,
    _order,
    _output,
    _approval,
)
