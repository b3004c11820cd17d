"""The legal clock: GDPR art. 12(3)-(4) counted as Regulation (EEC, Euratom) 1182/71 art. 3 says.

Pure: the calendar of working days, the time zone and "today" are passed in. All limits are local dates; a limit runs to
the last instant of its day. Leaves out hours, which roll over nothing (`breach_due`).
"""

from __future__ import annotations

import math
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from dsar.practice import Practice

ONE_MONTH = 1
"""GDPR art. 12(3)-(4)."""
LONGEST_EXTENSION = 2
"""Months on top of the first, once (dsar rule 15)."""


class Calendar(Protocol):
    """Which days are working days, i.e. neither Saturday, Sunday nor public holiday (Reg. 1182/71 art. 2)."""

    def is_working(self, day: date) -> bool: ...


class ExtensionReason(StrEnum):
    """Complexity or number, nothing else: effort, holidays, staff and a wrong mailbox are none (dsar rule 17)."""

    VOLUME = "volume"
    DISPERSION = "dispersion"
    REDACTION = "redaction"
    INTELLIGIBILITY = "intelligibility"
    EXCEPTIONAL_SURGE = "exceptional_surge"


class PauseCause(StrEnum):
    """The only two things that may stop the clock (dsar rule 19)."""

    IDENTITY_DOUBT = "identity_doubt"
    CLARIFICATION = "clarification"


@dataclass(frozen=True, slots=True)
class Pause:
    """From dispatch of the question to receipt of the answer (None: still open)."""

    cause: PauseCause
    asked_at: datetime
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Every date of a case side by side (dsar rule 21)."""

    received_on: date
    month_one: date
    """Last day for an extension notice and for a refusal, pauses or not (dsar rules 16, 18)."""
    due_strict: date
    """With an effective extension, without pauses; alerts and the queue use this one."""
    due_effective: date
    """With pauses."""
    target: date


@dataclass(frozen=True, slots=True)
class Alert:
    """A day on which somebody is warned, and its name."""

    name: str
    on: date


def add_months(day: date, months: int) -> date:
    """Return the same-numbered day `months` later, or that month's last day (dsar rules 11, 12; art. 3(2)(c))."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def roll(day: date, calendar: Calendar) -> date:
    """Return `day`, or the next working day when it is none (dsar rule 13; art. 3(4))."""
    while not calendar.is_working(day):
        day += timedelta(days=1)
    return day


def add_working_days(day: date, count: int, calendar: Calendar) -> date:
    """Return the `count`-th working day after `day`, which is itself not counted (art. 3(1))."""
    for _ in range(count):
        day = roll(day + timedelta(days=1), calendar)
    return day


def local_day(moment: datetime, zone: str) -> date:
    """Return the date of an aware `moment` where the controller is (dsar rule 14)."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone has no local date")
    return moment.astimezone(ZoneInfo(zone)).date()


def legal_end(received_on: date, months: int, calendar: Calendar) -> date:
    """Return the last day of a period of `months` from receipt, rolled once (dsar rules 11-13, 15)."""
    return roll(add_months(received_on, months), calendar)


def last_instant(day: date, zone: str) -> datetime:
    """Return the last microsecond of `day` in `zone`, in UTC: a period ends with the last hour of its last day."""
    return datetime.combine(day, time.max, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def paused_days(pauses: Sequence[Pause], *, zone: str, today: date, longest: int) -> int:
    """Return how many days pauses add; each counts at most `longest` days (dsar rules 19, 20)."""
    return sum(_length(pause, zone=zone, today=today, longest=longest) for pause in pauses)


def _length(pause: Pause, *, zone: str, today: date, longest: int) -> int:
    end = today if pause.answered_at is None else local_day(pause.answered_at, zone)
    return min(max((end - local_day(pause.asked_at, zone)).days, 0), longest)


def deadlines(
    received_at: datetime,
    *,
    extension_months: int,
    pauses: Sequence[Pause],
    zone: str,
    calendar: Calendar,
    practice: Practice,
    now: datetime,
) -> Deadlines:
    """Return every date of a case. `extension_months` counts only once its notice has gone out (dsar rules 11-22)."""
    received_on = local_day(received_at, zone)
    raw = add_months(received_on, ONE_MONTH + extension_months)
    extra = paused_days(pauses, zone=zone, today=local_day(now, zone), longest=practice.no_answer_days)
    return Deadlines(
        received_on=received_on,
        month_one=legal_end(received_on, ONE_MONTH, calendar),
        due_strict=roll(raw, calendar),
        due_effective=roll(raw + timedelta(days=extra), calendar),
        target=add_working_days(received_on, practice.target_working_days, calendar),
    )


def pause_allowed(
    received_at: datetime, asked_at: datetime, *, zone: str, calendar: Calendar, practice: Practice
) -> bool:
    """Say whether a question asked at `asked_at` came soon enough after receipt to stop the clock (dsar rule 19)."""
    limit = add_working_days(local_day(received_at, zone), practice.ask_within_working_days, calendar)
    return local_day(asked_at, zone) <= limit


def pause_limit(pause: Pause, *, zone: str, practice: Practice) -> date:
    """Return the day after which silence closes the case with reasons (dsar rule 20)."""
    return local_day(pause.asked_at, zone) + timedelta(days=practice.no_answer_days)


def alerts(dates: Deadlines) -> tuple[Alert, ...]:
    """Return the warnings of a case, all on the strict date (dsar rule 21)."""
    whole = (dates.due_strict - dates.received_on).days
    shares = ((share, dates.received_on + timedelta(days=math.ceil(whole * share / 100))) for share in (50, 75))
    days = ((left, dates.due_strict - timedelta(days=left)) for left in (5, 2, 0))
    return (*(Alert(f"{share}%", on) for share, on in shares), *(Alert(f"J-{left}", on) for left, on in days))


def breach_due(aware_at: datetime, hours: int) -> datetime:
    """Return the end of the breach clock: plain hours, week-ends included, nothing rolled (rule B1; art. 33(1))."""
    return aware_at.astimezone(UTC) + timedelta(hours=hours)
