"""The release gate fails closed, and the attacks it runs find what is wrong (exports.md rules 4, 6, 7)."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from app.exports import attacks
from app.exports.attacks import Earlier, fits, outline
from app.exports.cells import Cells, read_cells
from app.exports.gate import (
    Approval,
    Candidate,
    Ground,
    Refused,
    Released,
    Verdict,
    judge_cohort,
    judge_release,
    prepare,
)
from app.exports.output import Output, write_output
from app.exports.profile import Profile
from app.exports.risk import report
from app.exports.table import Cause, Table
from tests.mechanism.test_exports_table import Rows, people, profile

PACK = "0" * 64


def cells(rows: Rows, wanted: Profile | None = None, seed: int = 3) -> Cells:
    return read_cells(wanted or profile(), rows, random.Random(seed))


def renamed(rows: Rows, prefix: str) -> Rows:
    return [(prefix + name, row) for name, row in rows]


LIVE = renamed(people(180, seed=11), "live_")


def candidate(rows: Rows, wanted: Profile | None = None) -> Candidate:
    wanted = wanted or profile()
    return prepare(wanted, cells(rows, wanted), PACK)


def judged(
    asked: Candidate, *, earlier: tuple[Earlier, ...] = (), live: Rows | None = None, by: str = "stf_dpo"
) -> Verdict:
    approval = Approval(by, asked.output.digest)
    base = cells(LIVE if live is None else live, asked.table.profile)
    return judge_release(asked, live=base, earlier=earlier, approval=approval)


def grounds(verdict: Verdict) -> set[Ground]:
    assert isinstance(verdict, Refused)
    return {reason.ground for reason in verdict.reasons}


def with_table(asked: Candidate, **changes: object) -> Candidate:
    """A candidate whose table was tampered with, its files written anew."""
    table = replace(asked.table, **changes)  # type: ignore[arg-type]
    return Candidate(table, asked.cells, write_output(table, PACK))


def earlier_of(asked: Candidate, *, known: bool = True) -> Earlier:
    subjects = frozenset(asked.cells.references) if known else None
    return Earlier.from_plain(json.loads(json.dumps(outline(asked.table))), subjects)


def test_a_sound_cohort_with_a_named_approver_is_released_as_judged() -> None:
    asked = candidate(people(120), profile(10))
    verdict = judged(asked)
    assert isinstance(verdict, Released)
    assert verdict.output is asked.output
    assert verdict.approved_by == "stf_dpo"
    manifest = json.loads(verdict.output.manifest)
    assert (manifest["k"], manifest["subjects_in"], manifest["rows_out"]) == (10, 120, 120)
    assert manifest["policy_digest"] == PACK
    assert min(asked.table.subjects) >= 10


def test_without_an_approver_or_with_an_approval_of_other_files_nothing_leaves() -> None:
    asked, other = candidate(people(120)), candidate(people(121))
    base = cells(LIVE)
    assert grounds(judge_release(asked, live=base, earlier=(), approval=None)) == {Ground.NOT_APPROVED}
    assert grounds(judged(asked, by=" ")) == {Ground.NOT_APPROVED}
    stale = Approval("stf_dpo", other.output.digest)
    assert grounds(judge_release(asked, live=base, earlier=(), approval=stale)) == {Ground.APPROVAL_OF_ANOTHER_TABLE}


def test_without_the_live_base_nothing_leaves() -> None:
    asked = candidate(people(120))
    verdict = judge_release(asked, live=None, earlier=(), approval=Approval("stf_dpo", asked.output.digest))
    assert grounds(verdict) == {Ground.LIVE_BASE_MISSING}


@pytest.mark.parametrize(
    ("subjects", "k", "sealed"), [(99, 5, False), (100, 5, True), (100, 100, True), (119, 120, False)]
)
def test_a_cohort_has_at_least_a_hundred_subjects_and_k(subjects: int, k: int, *, sealed: bool) -> None:
    """Rule 4: max(100 subjects, k per class)."""
    wanted = profile(k)
    reasons = judge_cohort(candidate(people(subjects), wanted), live=cells(LIVE, wanted), earlier=())
    assert (Ground.COHORT_TOO_SMALL not in {reason.ground for reason in reasons}) == sealed


def test_many_rows_of_few_subjects_are_not_a_cohort() -> None:
    rows = [(f"s{at % 60}", row) for at, (_, row) in enumerate(people(240))]
    assert Ground.COHORT_TOO_SMALL in grounds(judged(candidate(rows)))


def test_more_than_five_percent_suppressed_is_refused() -> None:
    """Rule 3."""

    def lacking(missing: int) -> Rows:
        return [(name, row if at >= missing else {**row, "age": None}) for at, (name, row) in enumerate(people(120))]

    assert isinstance(judged(candidate(lacking(6))), Released)
    assert grounds(judged(candidate(lacking(7)))) == {Ground.TOO_MUCH_SUPPRESSED}


def single_out(asked: Candidate) -> Candidate:
    """Give one row of a class a class of its own, as a table of exact values would."""
    table = asked.table
    row = int(np.flatnonzero(table.places == 0)[0])
    places = table.places.copy()
    places[row] = table.classes
    code = asked.cells.codes[row][None, :]
    order = np.append(table.rows, 1)
    order[0] -= 1
    return with_table(
        asked,
        lows=np.vstack([table.lows, code]),
        highs=np.vstack([table.highs, code]),
        rows=order,
        subjects=np.append(table.subjects, 1),
        places=places,
    )


def test_a_class_of_one_is_found_however_the_table_came_about() -> None:
    assert {Ground.K_NOT_MET, Ground.CLASSES_OVERLAP} <= grounds(judged(single_out(candidate(people(120)))))


def narrowed_to_one_row(asked: Candidate) -> Candidate:
    """Give the first class the exact values of one of its members."""
    row = int(np.flatnonzero(asked.table.places == 0)[0])
    lows, highs = asked.table.lows.copy(), asked.table.highs.copy()
    lows[0] = highs[0] = asked.cells.codes[row]
    return with_table(asked, lows=lows, highs=highs)


def test_a_live_row_that_is_left_with_fewer_than_k_is_found() -> None:
    """The linkage attack: whoever holds that very row finds fewer than k who could be it."""
    rows = people(120)
    asked = narrowed_to_one_row(candidate(rows, profile(30)))
    assert Ground.LINKED_TO_LIVE in grounds(judged(asked, live=renamed(rows, "live_")))


def test_a_missing_value_in_a_class_is_found() -> None:
    """Rule 6: suppressed rows and missing values are never counted as a class."""
    rows = people(120)
    rows[0] = ("s0", {"age": None, "letter": "a", "income": 5})
    asked = candidate(rows)
    places, counts = asked.table.places.copy(), asked.table.rows.copy()
    places[places == -1] = 0
    counts[0] += 1
    assert Ground.MISSING_SHOWN in grounds(judged(with_table(asked, places=places, rows=counts, suppressed={})))


def test_counts_that_do_not_add_up_are_found() -> None:
    asked = candidate(people(120))
    assert Ground.COUNTS_DISAGREE in grounds(judged(with_table(asked, suppressed={Cause.MISSING_VALUE: 1})))


def test_variety_is_judged_anew() -> None:
    plain, strict = profile(5), profile(5, l_distinct=3, l_entropy=2.0, t=0.3)
    alike = [(name, {**row, "income": 5 if row["letter"] in "abc" else 55}) for name, row in people(150)]
    asked = candidate(alike, plain)
    assert Ground.VARIETY_NOT_MET in grounds(judged(with_table(asked, profile=strict)))


def test_a_table_in_the_order_of_the_rows_is_found() -> None:
    """Rule 6: row-order correlation about nought. Rows entered in sorted order without shuffling betray theirs."""
    asked = candidate(people(400))
    order = np.argsort(asked.table.places, kind="stable")
    sorted_cells = Cells(asked.cells.codes[order], asked.cells.subjects[order], asked.cells.references)
    table = replace(asked.table, places=asked.table.places[order])
    assert grounds(judged(Candidate(table, sorted_cells, asked.output))) == {Ground.ROW_ORDER}


def test_classes_out_of_the_order_of_their_values_are_found() -> None:
    asked = candidate(people(200))
    last = asked.table.classes - 1
    turned = with_table(
        asked,
        **{name: getattr(asked.table, name)[::-1] for name in ("lows", "highs", "rows", "subjects")},
        places=last - asked.table.places,
    )
    assert grounds(judged(turned)) == {Ground.ROW_ORDER}


def test_files_that_are_not_the_judged_table_are_found() -> None:
    asked, other = candidate(people(120)), candidate(people(130))
    ours = asked.output
    for files in (
        Output(other.output.csv, ours.parquet, ours.manifest),
        Output(ours.csv, other.output.parquet, ours.manifest),
        Output(ours.csv.replace(b"count", b"count,iban"), ours.parquet, ours.manifest),
        Output(b"", ours.parquet, ours.manifest),
        Output(ours.csv, b"PAR1", ours.manifest),
    ):
        assert grounds(judged(Candidate(asked.table, asked.cells, files))) == {Ground.OUTPUT_DIFFERS}


def test_the_same_people_less_one_are_never_exported_again() -> None:
    """The measured attack (exports.md): exporting again after one erasure gives that person's values away."""
    rows = people(150)
    first, again = candidate(rows), candidate(rows[1:])
    assert isinstance(judged(first), Released)
    found = judged(again, earlier=(earlier_of(first),))
    assert {Ground.ALREADY_EXPORTED, Ground.DIFFERENCE_TOO_SMALL} <= grounds(found)
    # Even when nobody knows any more who was in the first table, the subtraction itself is found.
    assert Ground.DIFFERENCE_TOO_SMALL in grounds(judged(again, earlier=(earlier_of(first, known=False),)))


def test_the_difference_is_where_the_person_was() -> None:
    """The attack works: for each person left out, the smallest difference is exactly one row."""
    rows = people(150)
    first = earlier_of(candidate(rows), known=False)
    for gone in range(0, 150, 15):
        again = candidate(rows[:gone] + rows[gone + 1 :])
        assert attacks.difference(again.table, again.cells, first).smallest == 1


def test_other_people_may_be_exported_beside_earlier_tables() -> None:
    first = candidate(people(150))
    second = candidate(renamed(people(140, seed=8), "next_"))
    assert isinstance(judged(second, earlier=(earlier_of(first),)), Released)


def test_one_person_in_two_cohorts_is_refused() -> None:
    """Rule 4: each subject enters one cohort once."""
    first = candidate(people(150))
    second = candidate([*renamed(people(140, seed=8), "next_"), people(150)[0]])
    assert Ground.ALREADY_EXPORTED in grounds(judged(second, earlier=(earlier_of(first),)))


def test_an_earlier_table_with_other_bins_and_unknown_people_is_refused() -> None:
    asked = candidate(people(150))
    unknown = earlier_of(candidate(people(150), profile(7)), known=False)
    assert grounds(judged(asked, earlier=(unknown,))) == {Ground.NOT_COMPARABLE}


def test_an_empty_table_is_refused_and_not_a_crash() -> None:
    assert {Ground.COHORT_TOO_SMALL, Ground.K_NOT_MET, Ground.TOO_MUCH_SUPPRESSED} <= grounds(
        judged(candidate(people(3)))
    )
    assert Ground.COHORT_TOO_SMALL in grounds(judged(candidate([])))


def test_matching_in_parts_finds_what_matching_outright_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = candidate(people(1500))
    base = cells([*people(700, seed=2), ("nobody", {"age": None})])

    def pairs(table: Table) -> set[tuple[int, int]]:
        rows, classes = fits(base.codes, table.lows, table.highs)
        assert len(set(zip(rows.tolist(), classes.tolist(), strict=True))) == len(rows)
        return set(zip(rows.tolist(), classes.tolist(), strict=True))

    outright = {
        (row, at)
        for row, codes in enumerate(base.codes)
        for at in range(asked.table.classes)
        if (asked.table.lows[at] <= codes).all() and (codes <= asked.table.highs[at]).all()
    }
    monkeypatch.setattr(attacks, "_FEW", 50)
    assert pairs(asked.table) == outright
    assert outright


def test_the_report_gives_the_figures_and_only_claims_what_was_attacked() -> None:
    """Rule 7."""
    asked = candidate(people(200), profile(10, l_distinct=2, l_entropy=1.2, t=0.6))
    shown = report(asked, live=cells(LIVE, asked.table.profile), earlier=())
    assert json.loads(json.dumps(shown)) == shown
    assert shown["verdicts"] == {"singling_out": "withstood", "linkability": "withstood", "inference": "withstood"}
    assert shown["reasons"] == []
    k = shown["k"]
    assert isinstance(k, dict)
    assert k["smallest"] == min(asked.table.subjects) >= 10
    risk = shown["risk"]
    assert isinstance(risk, Mapping)
    assert risk["prosecutor"] == 1 / k["smallest"]
    assert risk["journalist"] <= risk["prosecutor"]
    assert risk["marketer"] == asked.table.classes / 200
    assert shown["uniqueness"]["after"] == 0.0 < shown["uniqueness"]["before"]  # type: ignore[index]
    sizes = shown["class_sizes"]
    assert sum(size["classes"] for size in sizes) == asked.table.classes  # type: ignore[attr-defined]


def test_the_report_does_not_claim_what_was_not_attacked() -> None:
    asked = candidate(people(200))
    unattacked = report(asked, live=None, earlier=())
    assert unattacked["verdicts"] == {
        "singling_out": "not_shown",
        "linkability": "not_shown",
        "inference": "not_shown",
    }
    again = report(candidate(people(200)[1:]), live=cells(LIVE), earlier=(earlier_of(asked),))
    assert again["verdicts"]["linkability"] == "failed"  # type: ignore[index]
