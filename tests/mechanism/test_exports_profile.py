"""A release profile is an allow-list read strictly, every fault listed (exports.md rules 1, 2)."""

from __future__ import annotations

import random
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.exports.cells import read_cells
from app.exports.errors import ProfileFaults, UnknownColumns
from app.exports.profile import DEFAULT_K, Profile
from app.exports.scales import MISSING, OUTSIDE, CategoryTree, NumericBins, QuarterBins, tree_faults

REGIONS = [
    ["Bretagne", "West", "*"],
    ["Lisboa", "South", "*"],
    ["Normandie", "West", "*"],
    ["Madrid", "South", "*"],
    ["Alsace", "East", "*"],
]


def plain(**changes: object) -> dict[str, object]:
    return {
        "id": "portfolio_statistics",
        "schema_version": 1,
        "why": "How portfolios differ by age and region.",
        "columns": [
            {"name": "age", "kind": "numeric", "why": "Age drives risk.", "edges": [25, 45, 65]},
            {"name": "region", "kind": "category", "why": "Offers differ by region.", "hierarchy": "region"},
            {"name": "since", "kind": "quarter", "why": "Seniority.", "first": "2020-Q1", "last": "2024-Q4"},
        ],
    } | changes


def test_a_profile_is_read_with_k_ten_unless_it_says_otherwise() -> None:
    profile = Profile.from_plain(plain(), {"region": REGIONS})
    assert profile.k == DEFAULT_K == 10
    assert profile.names == ("age", "region", "since")
    assert profile.sizes == (4, 5, 22)


def test_the_digest_follows_the_bins_and_not_the_words() -> None:
    profile = Profile.from_plain(plain(), {"region": REGIONS})
    assert profile.digest == Profile.from_plain(plain(why="Other words."), {"region": REGIONS}).digest
    assert profile.digest != Profile.from_plain(plain(), {"region": REGIONS[:-1]}).digest
    assert profile.digest != Profile.from_plain(plain(k=11), {"region": REGIONS}).digest


def test_k_below_five_is_refused() -> None:
    with pytest.raises(ProfileFaults, match="k: at least 5"):
        Profile.from_plain(plain(k=4), {"region": REGIONS})


def test_every_fault_is_listed_at_once() -> None:
    faulty = plain(
        id="No Name",
        k=2,
        extra=1,
        columns=[
            {"name": "age", "kind": "numeric", "why": " ", "edges": [3, 2]},
            {"name": "age", "kind": "category", "why": "x", "hierarchy": "nowhere"},
            {"name": "count", "kind": "colour", "why": "x"},
            {"name": "since", "kind": "quarter", "why": "x", "first": "2024-Q4", "last": "2024-Q1", "edges": [1]},
            {"name": "income", "kind": "numeric", "why": "x", "edges": list(range(300)), "sensitive": {"t": 3, "m": 1}},
        ],
    )
    with pytest.raises(ProfileFaults) as caught:
        Profile.from_plain(faulty, {})
    assert set(caught.value.faults) == {
        "profile: unknown key extra",
        "k: at least 5",
        "id: a name in small letters, digits and underscores",
        "columns[0].why: some words",
        "columns[0].edges: numbers that rise",
        "columns[1].hierarchy: no such hierarchy",
        "columns[2].name: count is the name of the count itself",
        "columns[2].kind: one of numeric, category, quarter",
        "columns[3]: unknown key edges",
        "columns[3]: first and last are quarters such as 2024-Q1, in order",
        "columns[4]: 301 leaves, at most 200",
        "columns[4].sensitive: unknown key m",
        "columns[4].sensitive.t: a number from 0 to 1",
        "columns: age appears twice",
    }


def test_hierarchies_are_trees_and_never_formulas() -> None:
    assert tree_faults(REGIONS) == []
    assert tree_faults([]) == ["the hierarchy is empty"]
    assert tree_faults([["a", "b", "*"], ["c", "*"]])
    assert "a leaf appears twice" in tree_faults([["a", "*"], ["a", "*"]])
    assert "a node of level 1 has two parents" in tree_faults([["a", "b", "c", "*"], ["d", "b", "e", "*"]])
    assert any("formula" in fault for fault in tree_faults([["=1+1", "*"]]))
    assert tree_faults([["a", "b"]]) == ["the last level is * in every row"]


def test_brothers_become_neighbours_and_an_interval_is_named_by_its_nodes() -> None:
    tree = CategoryTree.grow(REGIONS)
    assert [row[0] for row in tree.rows] == ["Bretagne", "Normandie", "Lisboa", "Madrid", "Alsace"]
    assert tree.label(0, 1) == "West"
    assert tree.label(1, 1) == "Normandie"
    assert tree.label(1, 3) == "Normandie | South"
    assert tree.label(0, 4) == "*"
    assert tree.encode(["Madrid", None, "Atlantis"]).tolist() == [3, MISSING, OUTSIDE]


def test_numbers_are_binned_and_coded_at_both_ends() -> None:
    bins = NumericBins((25.0, 45.0, 65.0))
    assert bins.encode([-1, 24.9, 25, 64, 65, 10**9, None, float("nan"), "44", True]).tolist() == [
        *(0, 0, 1, 2, 3, 3),
        *(MISSING, MISSING, OUTSIDE, OUTSIDE),
    ]
    assert [bins.label(*pair) for pair in [(0, 0), (1, 1), (1, 2), (3, 3), (0, 3), (2, 3), (0, 1)]] == [
        *("< 25", "[25, 45)", "[25, 65)", ">= 65", "*", ">= 45", "< 45"),
    ]


def test_large_and_broken_edges_are_written_in_full() -> None:
    bins = NumericBins((0.1, 1_000_000.0, 1_000_001.0))
    assert [bins.label(at, at) for at in range(4)] == [
        *("< 0.1", "[0.1, 1000000)", "[1000000, 1000001)", ">= 1000001"),
    ]


def test_dates_are_no_finer_than_a_quarter() -> None:
    bins = QuarterBins((2023, 4), (2024, 2))
    dates = ["2019-05-05", "2023-10-01", date(2024, 3, 31), "2024-04-01", "2030-01-01", None, "soon", 7]
    assert bins.encode(dates).tolist() == [0, 1, 2, 3, 4, MISSING, OUTSIDE, OUTSIDE]
    assert [bins.label(*pair) for pair in [(0, 0), (1, 1), (1, 3), (4, 4), (0, 4), (0, 2), (2, 4)]] == [
        *("before 2023-Q4", "2023-Q4", "2023-Q4 to 2024-Q2", "from 2024-Q3", "*", "before 2024-Q2", "from 2024-Q1"),
    ]


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=12, unique=True).map(sorted),
    st.lists(st.integers(-60, 60), max_size=30),
)
def test_each_interval_of_bins_is_one_label(edges: list[int], values: list[int]) -> None:
    bins = NumericBins(tuple(float(edge) for edge in edges))
    labels = {bins.label(low, high) for low in range(bins.size) for high in range(low, bins.size)}
    assert len(labels) == bins.size * (bins.size + 1) // 2
    for value, code in zip(values, bins.encode(values).tolist(), strict=True):
        assert code == sum(edge <= value for edge in edges)


def test_a_column_outside_the_profile_is_never_read() -> None:
    profile = Profile.from_plain(plain(), {"region": REGIONS})
    rows = [("sub_a", {"age": 30}), ("sub_b", {"age": 40, "iban": "FR76", "name": "Ana"})]
    with pytest.raises(UnknownColumns) as caught:
        read_cells(profile, rows, random.Random(1))
    assert caught.value.columns == ("iban", "name")
    assert "FR76" not in str(caught.value)


def test_cells_show_nobody_in_their_repr() -> None:
    profile = Profile.from_plain(plain(), {"region": REGIONS})
    cells = read_cells(profile, [("sub_secret", {"age": 30})], random.Random(1))
    assert "sub_secret" not in repr(cells)
