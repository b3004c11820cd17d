"""The shipped pack as the law of requests reads it: its numbers, its levels, its grounds, its retentions."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from app.calendars import Calendars
from app.policyfiles import load
from consent.policy import Policy
from consent.vocabulary import ComponentId
from dsar.identity import LADDER, Circumstances, needed_level
from dsar.practice import read_practice
from dsar.retention import Holding, Retain, matrix, schedule
from dsar.vocabulary import CaseKind, Level, Right
from tests.law.dsar_desk import PRACTICE, paris


@pytest.fixture(scope="module")
def pack() -> Policy:
    return load(Path(__file__).resolve().parents[2] / "policies")


def test_the_pack_states_every_number_of_the_clock(pack):
    """Tags N and P: in the pack, never in code."""
    assert read_practice(pack.practice()) == (PRACTICE, ())


@pytest.mark.parametrize("sensitivity", [1, 2, 3])
@pytest.mark.parametrize("right", list(Right))
def test_the_pack_keeps_the_ladder_or_raises_it(pack, right, sensitivity):
    """Section 1.3: whoever asks for a copy of bank data or changes contact data proves L3; a stop needs nothing."""
    about = Circumstances(CaseKind.SUBJECT, paris(2026, 3, 5))
    found = needed_level(right, sensitivity, pack, PRACTICE, about)
    assert found >= LADDER[right][sensitivity - 1]
    if right in (Right.WITHDRAWAL, Right.MARKETING_OBJECTION):
        assert found is Level.L0
    else:
        assert Level.L1 <= found <= Level.L3


def test_every_controller_has_a_calendar(pack):
    for controller in pack.controllers.values():
        assert not Calendars().of(controller).is_working(date(2026, 12, 25))


def test_every_retention_of_the_pack_has_an_end_and_schedules_it(pack):
    """Dsar rules 48-50: a holder with everything the pack retains."""
    rules = [rule for rule in pack.retentions if rule.on_erasure == "retain"]
    held = [Holding(ComponentId("h"), rule.category, rule.purpose) for rule in rules]
    on = date(2026, 3, 5)
    cells = matrix(held, pack, triggers={rule.trigger: on for rule in rules}, cohorts={}, on=on)
    assert len(cells) == len(rules) > 0
    assert all(isinstance(cell.fate, Retain) and cell.fate.until > on and cell.fate.legal_ref for cell in cells)
    assert len(schedule(cells)) == len(cells)
