"""Dsar rules 48-50, 55: the matrix of an erasure."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from consent.vocabulary import CategoryId, ComponentId, PurposeId
from dsar.errors import RetentionUnfounded
from dsar.retention import Anonymise, Erase, Holding, Retain, matrix, retained, schedule
from tests.law.dsar_desk import ADVICE, AML, BALANCES, IDENTITY, STATS, TEXT, ends, pack

H = ComponentId("h1")
END = date(2021, 3, 5)
UNTIL = END + timedelta(days=1826)
ALL = (Holding(H, BALANCES, ADVICE), Holding(H, IDENTITY, ADVICE), Holding(H, IDENTITY, AML), Holding(H, STATS, ADVICE))


def drawn(on, holdings=ALL, **changes):
    facts = {"triggers": ends(END), "cohorts": {STATS: "usage_2026"}, "on": on}
    return matrix(holdings, pack(), **{**facts, **changes})


def test_each_cell_has_its_own_fate():
    """Dsar rule 48: never per account."""
    fates = {(cell.holding.category, cell.holding.purpose): cell.fate for cell in drawn(date(2026, 1, 1))}
    assert fates == {
        (BALANCES, ADVICE): Erase(),
        (IDENTITY, ADVICE): Erase(),
        (IDENTITY, AML): Retain(TEXT, "CMF L.561-12", UNTIL),
        (STATS, ADVICE): Anonymise("usage_2026"),
    }


@pytest.mark.parametrize(("shift", "kept"), [(-1, True), (0, False), (1, False)])
def test_the_aml_file_goes_on_the_day_its_five_years_end(shift, kept):
    """Dsar rule 50."""
    (cell,) = drawn(UNTIL + timedelta(days=shift), (Holding(H, IDENTITY, AML),))
    assert isinstance(cell.fate, Retain) is kept


def test_every_retention_schedules_its_own_erasure():
    """Dsar rule 49."""
    cells = drawn(date(2026, 1, 1))
    (due,) = schedule(cells)
    assert (due.holding.category, due.on) == (IDENTITY, UNTIL)
    assert retained(cells)[IDENTITY].until == UNTIL
    assert set(retained(cells)) == {IDENTITY}


def test_without_an_open_cohort_nothing_is_anonymised():
    """Dsar rule 55: erased instead."""
    assert {cell.fate for cell in drawn(date(2027, 1, 1), cohorts={})} == {Erase()}


def test_all_faults_are_named_at_once():
    stranger = Holding(H, CategoryId("nobody.knows"), PurposeId("why"))
    with pytest.raises(RetentionUnfounded) as caught:
        drawn(date(2026, 1, 1), (*ALL, stranger), triggers={})
    assert len(caught.value.faults) == 3
    assert any("relationship_end" in fault for fault in caught.value.faults)


def test_a_retention_without_a_text_is_refused():
    bare = tuple(replace(rule, legal_ref="") for rule in pack().retentions)
    with pytest.raises(RetentionUnfounded):
        matrix(ALL, replace(pack(), retentions=bare), triggers=ends(END), cohorts={}, on=date(2026, 1, 1))


def test_the_latest_end_holds_the_key():
    """One category kept under two purposes lives until the later end."""
    longer = replace(pack().retentions[0], purpose=ADVICE, days=3652)
    policy = replace(pack(), retentions=(*pack().retentions, longer))
    cells = matrix(ALL, policy, triggers=ends(END), cohorts={}, on=date(2026, 1, 1))
    assert retained(cells)[IDENTITY].until == END + timedelta(days=3652)
    assert len(schedule(cells)) == 2
