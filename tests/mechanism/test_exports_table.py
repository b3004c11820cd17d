"""Every class has k distinct subjects and the variety asked for, whatever the rows (exports.md rules 2, 3, 6)."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.exports.cells import Cells, read_cells
from app.exports.output import parquet_is_bare, read_csv, read_parquet, write_output
from app.exports.profile import Profile
from app.exports.table import NOWHERE, Cause, Table, anonymise, loss, loss_by_column

Rows = list[tuple[str, Mapping[str, object]]]
TREE = {"letter": [[leaf, leaf.upper(), "*"] for leaf in "abcd"] + [["e", "VOWEL", "*"], ["i", "VOWEL", "*"]]}


def profile(k: int = 5, **sensitive: object) -> Profile:
    income: dict[str, object] = {"name": "income", "kind": "numeric", "why": "w", "edges": [10, 20, 30, 40, 50]}
    columns = [
        {"name": "age", "kind": "numeric", "why": "w", "edges": [20, 30, 40, 50, 60]},
        {"name": "letter", "kind": "category", "why": "w", "hierarchy": "letter"},
        income | ({"sensitive": sensitive} if sensitive else {}),
    ]
    return Profile.from_plain({"id": "p", "schema_version": 1, "why": "w", "k": k, "columns": columns}, TREE)


def made(rows: Rows, wanted: Profile, seed: int = 1) -> tuple[Table, Cells]:
    cells = read_cells(wanted, rows, random.Random(seed))
    return anonymise(wanted, cells), cells


def people(count: int, seed: int = 7) -> Rows:
    draw = random.Random(seed)
    return [
        (f"s{at}", {"age": draw.randint(15, 75), "letter": draw.choice("abcdei"), "income": draw.randint(0, 60)})
        for at in range(count)
    ]


values = st.fixed_dictionaries(
    {
        "age": st.one_of(st.none(), st.integers(15, 70)),
        "letter": st.sampled_from(["a", "b", "c", "d", "e", "i", "z"]),
        "income": st.integers(0, 60),
    }
)
tables = st.lists(st.tuples(st.integers(0, 40).map("s{}".format), values), max_size=120)


def checked(table: Table, cells: Cells) -> None:
    """An independent look: plain dictionaries, nothing shared with the enforcer."""
    members: dict[int, set[int]] = defaultdict(set)
    counts: Counter[int] = Counter()
    for place, subject, codes in zip(table.places, cells.subjects, cells.codes, strict=True):
        if place == NOWHERE:
            continue
        members[int(place)].add(int(subject))
        counts[int(place)] += 1
        inside = [
            at
            for at in range(table.classes)
            if all(low <= code <= high for low, code, high in zip(table.lows[at], codes, table.highs[at], strict=True))
        ]
        assert inside == [place]
    assert all(len(members[at]) >= table.profile.k for at in range(table.classes))
    assert [counts[at] for at in range(table.classes)] == table.rows.tolist()
    assert [len(members[at]) for at in range(table.classes)] == table.subjects.tolist()
    assert sum(table.rows.tolist()) + table.suppressed_rows == cells.rows


@given(tables, st.integers(5, 12))
@settings(max_examples=60, deadline=None)
def test_each_class_has_k_distinct_subjects_and_nothing_is_lost(rows: Rows, k: int) -> None:
    checked(*made(rows, profile(k)))


@given(tables, st.integers(2, 4), st.floats(1.0, 3.0), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_each_class_has_the_variety_asked_for(rows: Rows, distinct: int, entropy: float, t: float) -> None:
    table, cells = made(rows, profile(5, l_distinct=distinct, l_entropy=entropy, t=t))
    checked(table, cells)
    whole = distribution(table, cells, set(range(table.classes)))
    for at in range(table.classes):
        share = distribution(table, cells, {at})
        assert len(share) >= distinct
        assert math.exp(-sum(p * math.log(p) for p in share.values())) >= entropy - 1e-6
        assert distance(share, whole, leaves=6) <= t + 1e-6


def distribution(table: Table, cells: Cells, classes: set[int]) -> dict[int, float]:
    shown: dict[int, list[int]] = defaultdict(list)
    for place, subject, codes in zip(table.places, cells.subjects, cells.codes, strict=True):
        if int(place) in classes:
            shown[int(subject)].append(int(codes[2]))
    share: dict[int, float] = defaultdict(float)
    for codes_of_one in shown.values():
        for code in codes_of_one:
            share[code] += 1 / len(codes_of_one) / len(shown)
    return dict(share)


def distance(share: Mapping[int, float], whole: Mapping[int, float], leaves: int) -> float:
    carried = moved = 0.0
    for leaf in range(leaves):
        carried += share.get(leaf, 0) - whole.get(leaf, 0)
        moved += abs(carried)
    return moved / (leaves - 1)


def test_a_subject_with_many_rows_is_counted_once() -> None:
    """Rule 2: k counts subjects. Nine rows of one person and four others are five people, not thirteen."""
    alike = {"age": 33, "letter": "a", "income": 5}
    other = {"age": 66, "letter": "i", "income": 55}
    rows: Rows = [("one", alike)] * 9 + [(f"o{at}", alike) for at in range(4)] + [(f"x{at}", other) for at in range(5)]
    table, _ = made(rows, profile(5))
    assert sorted(zip(table.rows.tolist(), table.subjects.tolist(), strict=True)) == [(5, 5), (13, 5)]
    fewer, _ = made(rows[:-1], profile(5))
    assert fewer.classes == 1


def test_one_person_cannot_lend_variety_to_a_class() -> None:
    """Five different rows of one person among nine all alike: distinct 5, but hardly any entropy."""
    rows: Rows = [("one", {"age": 33, "letter": "a", "income": income}) for income in (5, 15, 25, 35, 45)]
    rows += [(f"s{at}", {"age": 33, "letter": "a", "income": 5}) for at in range(9)]
    rows += [(f"t{at}", {"age": 66, "letter": "i", "income": at * 6}) for at in range(10)]
    table, cells = made(rows, profile(5, l_distinct=3, l_entropy=2.0))
    checked(table, cells)
    assert table.classes == 1


def test_missing_and_unplaced_values_are_suppressed_and_counted_by_cause() -> None:
    rows = people(100)
    rows[0] = ("s0", {"age": None, "letter": "a", "income": 5})
    rows[1] = ("s1", {"letter": "a", "income": 5})
    rows[2] = ("s2", {"age": 40, "letter": "Atlantis", "income": 5})
    table, cells = made(rows, profile())
    checked(table, cells)
    assert table.suppressed == {Cause.MISSING_VALUE: 2, Cause.OUTSIDE_SCALE: 1}
    assert not table.too_much_suppressed


def test_fewer_than_k_subjects_are_suppressed_whole() -> None:
    table, _ = made(people(4), profile(5))
    assert (table.classes, table.suppressed) == (0, {Cause.TOO_FEW_ALIKE: 4})
    assert table.too_much_suppressed


def test_a_cohort_without_the_variety_asked_for_is_suppressed_whole() -> None:
    rows: Rows = [(name, {**row, "income": 5}) for name, row in people(50)]
    table, _ = made(rows, profile(5, l_distinct=2))
    assert table.suppressed == {Cause.TOO_FEW_ALIKE: 50}


def test_more_people_give_finer_classes() -> None:
    losses = [loss(made(people(count), profile())[0]) for count in (50, 500, 5000)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.1


def test_loss_is_leaves_covered_over_leaves_with_suppressed_rows_at_one() -> None:
    rows: Rows = [(f"s{at}", {"age": 25 + 10 * (at % 2), "letter": "a", "income": 5}) for at in range(9)]
    rows.append(("s9", {"age": 25, "letter": None, "income": 5}))
    table, _ = made(rows, profile(9))
    losses = loss_by_column(table)
    assert losses == pytest.approx({"age": (9 * 1 / 5 + 1) / 10, "letter": 1 / 10, "income": 1 / 10})
    assert loss(table) == pytest.approx(sum(losses.values()) / 3)


def test_the_output_is_the_table_sorted_and_the_same_for_any_order_of_rows() -> None:
    rows = people(300)
    outputs = [write_output(made(rows, profile(), seed)[0], "d" * 64) for seed in (1, 2)]
    assert outputs[0] == outputs[1]
    table, _ = made(rows, profile())
    names, lines = read_csv(outputs[0].csv)
    assert names == ("age", "letter", "income", "count")
    assert (names, lines) == read_parquet(outputs[0].parquet)
    assert sum(count for _, count in lines) == 300
    assert [labels for labels, _ in lines] == table.labels()
    assert parquet_is_bare(outputs[0].parquet)
    assert b"s0" not in outputs[0].csv + outputs[0].manifest


def test_classes_are_told_apart_by_their_labels() -> None:
    labels = made(people(2000), profile())[0].labels()
    assert len(set(labels)) == len(labels) > 50


def test_groups_wider_than_one_slice_are_cut_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = made(people(800), profile(5, l_distinct=2))
    monkeypatch.setattr("app.exports.mondrian._MOST_CELLS", 12)
    sliced, _ = made(people(800), profile(5, l_distinct=2))
    assert np.array_equal(whole.lows, sliced.lows)
    assert np.array_equal(whole.rows, sliced.rows)
