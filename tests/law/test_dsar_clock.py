"""Dsar rules 11-21 and B1: the legal clock, with the real public holidays of France."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calendars import Calendars, CalendarUnknown, HolidayCalendar, Overrides
from dsar import clock
from dsar.clock import ExtensionReason, Pause, PauseCause
from dsar.practice import read_practice
from tests.law.dsar_desk import BANK, PRACTICE, controller, paris

FRANCE = HolidayCalendar("FR")
MOSELLE = HolidayCalendar("FR", "57")
ZONE = "Europe/Paris"

# received, months, raw end, legal end: section 1.1 of the rules, every row
VECTORS = [
    ("2026-03-05", 1, "2026-04-05", "2026-04-07"),
    ("2026-03-06", 1, "2026-04-06", "2026-04-07"),
    ("2026-08-31", 1, "2026-09-30", "2026-09-30"),
    ("2026-01-31", 1, "2026-02-28", "2026-03-02"),
    ("2024-01-31", 1, "2024-02-29", "2024-02-29"),
    ("2026-04-01", 1, "2026-05-01", "2026-05-04"),
    ("2026-04-14", 1, "2026-05-14", "2026-05-15"),
    ("2026-06-14", 1, "2026-07-14", "2026-07-15"),
    ("2026-07-15", 1, "2026-08-15", "2026-08-17"),
    ("2026-10-11", 1, "2026-11-11", "2026-11-12"),
    ("2026-11-25", 1, "2026-12-25", "2026-12-28"),
    ("2026-12-01", 1, "2027-01-01", "2027-01-04"),
    ("2026-12-31", 2, "2027-02-28", "2027-03-01"),
    ("2026-01-31", 3, "2026-04-30", "2026-04-30"),
    ("2026-11-30", 3, "2027-02-28", "2027-03-01"),
    ("2026-03-03", 1, "2026-04-03", "2026-04-03"),
]


@pytest.mark.parametrize(("received", "months", "raw", "end"), VECTORS)
def test_the_vectors_of_section_1_1(received, months, raw, end):
    """Dsar rules 11, 12, 13, 15."""
    day = date.fromisoformat(received)
    assert clock.add_months(day, months) == date.fromisoformat(raw)
    assert clock.legal_end(day, months, FRANCE) == date.fromisoformat(end)


def test_good_friday_is_a_holiday_in_moselle_only():
    """Section 1.1: 2026-04-03, or 2026-04-07 in subdivision 57."""
    assert clock.legal_end(date(2026, 3, 3), 1, MOSELLE) == date(2026, 4, 7)
    assert Calendars().of(controller(BANK, "57")) == MOSELLE


def dates(received_at, *, months=0, pauses=(), now=None, calendar=FRANCE):
    return clock.deadlines(
        received_at,
        extension_months=months,
        pauses=pauses,
        zone=ZONE,
        calendar=calendar,
        practice=PRACTICE,
        now=now or received_at,
    )


def test_the_date_is_local():
    """Dsar rule 14: 4 March 23:30 UTC counts as 5 March in Paris."""
    found = dates(datetime(2026, 3, 4, 23, 30, tzinfo=UTC))
    assert (found.received_on, found.due_strict) == (date(2026, 3, 5), date(2026, 4, 7))
    with pytest.raises(ValueError, match="time zone"):
        clock.local_day(datetime(2026, 3, 4, 23, 30), ZONE)  # noqa: DTZ001


def test_the_extension_counts_from_receipt_and_rolls_once():
    """Dsar rule 15: 31 January ends on 30 April; chaining on the rolled date would give 4 May."""
    found = dates(paris(2026, 1, 31), months=2)
    assert (found.due_strict, found.month_one) == (date(2026, 4, 30), date(2026, 3, 2))


def test_a_pause_adds_its_days():
    """Dsar rule 19: received 5 March, asked 9, answered 16: 5 April + 7 = Sunday 12, so Monday 13."""
    pause = Pause(PauseCause.IDENTITY_DOUBT, paris(2026, 3, 9), paris(2026, 3, 16))
    found = dates(paris(2026, 3, 5), pauses=[pause], now=paris(2026, 3, 20))
    assert (found.due_strict, found.due_effective) == (date(2026, 4, 7), date(2026, 4, 13))


def test_an_open_pause_grows_until_its_limit():
    """Dsar rule 20: no eternal pause."""
    pause = Pause(PauseCause.CLARIFICATION, paris(2026, 3, 9), None)
    grown = [dates(paris(2026, 3, 5), pauses=[pause], now=paris(2026, 3, day)).due_effective for day in (9, 16)]
    assert grown == [date(2026, 4, 7), date(2026, 4, 13)]
    assert clock.pause_limit(pause, zone=ZONE, practice=PRACTICE) == date(2026, 4, 8)
    long_after = dates(paris(2026, 3, 5), pauses=[pause], now=paris(2026, 9, 1))
    assert long_after.due_effective == date(2026, 5, 5)


@pytest.mark.parametrize(("asked", "allowed"), [(9, True), (10, True), (11, False), (25, False)])
def test_a_question_stops_the_clock_only_within_three_working_days(asked, allowed):
    """Dsar rule 19: 5 March is a Thursday, the third working day after it is Tuesday 10; day 20 is refused."""
    found = clock.pause_allowed(paris(2026, 3, 5), paris(2026, 3, asked), zone=ZONE, calendar=FRANCE, practice=PRACTICE)
    assert found is allowed


def test_alerts_run_on_the_strict_date():
    """Dsar rule 21: half, three quarters, five, two and no days before."""
    found = {alert.name: alert.on for alert in clock.alerts(dates(paris(2026, 3, 5)))}
    assert found == {
        "50%": date(2026, 3, 22),
        "75%": date(2026, 3, 30),
        "J-5": date(2026, 4, 2),
        "J-2": date(2026, 4, 5),
        "J-0": date(2026, 4, 7),
    }


def test_a_day_ends_with_its_last_hour_in_paris():
    """Reg. 1182/71 art. 3(2)(c), on a summer and a winter day."""
    assert clock.last_instant(date(2026, 4, 7), ZONE) == datetime(2026, 4, 7, 21, 59, 59, 999999, tzinfo=UTC)
    assert clock.last_instant(date(2026, 1, 7), ZONE) == datetime(2026, 1, 7, 22, 59, 59, 999999, tzinfo=UTC)


def test_the_breach_clock_counts_plain_hours():
    """Rule B1: from Good Friday evening over the Easter week-end, nothing rolls."""
    aware = paris(2026, 4, 3, 18)
    assert clock.breach_due(aware, PRACTICE.breach_hours) - aware == timedelta(hours=72)


@pytest.mark.parametrize("code", ["large_effort", "holidays", "staff_shortage", "wrong_mailbox"])
def test_effort_and_absence_extend_nothing(code):
    """Dsar rule 17: a closed list."""
    with pytest.raises(ValueError, match=code):
        ExtensionReason(code)


def test_the_operator_may_add_and_strike_holidays():
    added = HolidayCalendar("FR", None, Overrides(frozenset({date(2026, 3, 10)}), frozenset({date(2026, 5, 25)})))
    assert not added.is_working(date(2026, 3, 10))
    assert added.is_working(date(2026, 5, 25))
    assert not FRANCE.is_working(date(2026, 5, 25))


def test_an_unknown_calendar_is_refused():
    with pytest.raises(CalendarUnknown):
        HolidayCalendar("FR", "nowhere")
    with pytest.raises(CalendarUnknown):
        HolidayCalendar("XX")


def test_the_practice_names_every_fault():
    table = dict.fromkeys(PRACTICE.__slots__, 1) | {"target_working_days": 0, "nonsense": 3}
    del table["no_answer_days"]
    practice, faults = read_practice(table)
    assert practice is None
    assert len(faults) == 3
    assert read_practice({name: getattr(PRACTICE, name) for name in PRACTICE.__slots__}) == (PRACTICE, ())


days = st.dates(min_value=date(2019, 1, 1), max_value=date(2035, 12, 31))
calendars = st.sampled_from([FRANCE, MOSELLE])


@given(day=days, months=st.integers(1, 3), calendar=calendars)
def test_a_limit_is_a_working_day_and_never_early(day, months, calendar):
    raw, end = clock.add_months(day, months), clock.legal_end(day, months, calendar)
    assert end >= raw
    assert calendar.is_working(end)
    assert all(not calendar.is_working(raw + timedelta(days=skipped)) for skipped in range((end - raw).days))
    assert 28 * months <= (raw - day).days <= 31 * months
    assert raw.day == day.day or (raw.day < day.day and (raw + timedelta(days=1)).day == 1)


@given(
    day=days,
    months=st.integers(0, 2),
    asked=st.integers(0, 5),
    took=st.one_of(st.none(), st.integers(0, 60)),
    later=st.integers(0, 200),
)
def test_the_effective_date_is_never_before_the_strict_one(day, months, asked, took, later):
    """Dsar rules 15, 20, 21."""
    received = paris(day.year, day.month, day.day)
    begin = received + timedelta(days=asked)
    answered = None if took is None else begin + timedelta(days=took)
    pause = Pause(PauseCause.IDENTITY_DOUBT, begin, answered)
    found = dates(received, months=months, pauses=[pause], now=received + timedelta(days=later))
    assert found.due_effective >= found.due_strict >= found.month_one
    assert FRANCE.is_working(found.due_effective)
    assert found.due_strict <= clock.legal_end(day, 3, FRANCE)
    longest = clock.roll(clock.add_months(day, 1 + months) + timedelta(days=PRACTICE.no_answer_days), FRANCE)
    assert found.due_effective <= longest
