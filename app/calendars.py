"""Working days of a country or one of its parts, from the `holidays` library, behind `dsar.clock.Calendar`.

Regulation 1182/71 art. 2 refers to the Member State's own list; the library is pinned, and `Overrides` lets an operator
add or strike days without waiting for a release. Without a subdivision the national list holds, which gives the
earlier and so the safer date (dsar rules, section 1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from consent.policy import Controller

if TYPE_CHECKING:
    import holidays

SATURDAY = 5


class CalendarUnknown(ValueError):
    """The library knows no such country or subdivision."""

    code = "calendar_unknown"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Days the operator knows better: added holidays, and listed holidays that are worked."""

    holidays: frozenset[date] = frozenset()
    worked: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class HolidayCalendar:
    """The public holidays of one country or subdivision, plus week-ends."""

    country: str
    subdivision: str | None = None
    overrides: Overrides = Overrides()
    _listed: holidays.HolidayBase = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        import holidays  # noqa: PLC0415 - every country's list, for whoever counts days: not for every start

        try:
            listed = holidays.country_holidays(self.country, subdiv=self.subdivision, categories=("public",))
        except NotImplementedError as fault:
            raise CalendarUnknown(f"no public holidays known for {self.country} {self.subdivision or ''}") from fault
        object.__setattr__(self, "_listed", listed)

    def is_working(self, day: date) -> bool:
        """Say whether `day` is neither Saturday, Sunday nor public holiday."""
        if day.weekday() >= SATURDAY or day in self.overrides.holidays:
            return False
        return day in self.overrides.worked or day not in self._listed


@dataclass(frozen=True, slots=True)
class Calendars:
    """The calendar of each controller (`dsar.ports.Calendars`); `overrides` by country code."""

    overrides: Mapping[str, Overrides] = field(default_factory=dict)

    def of(self, controller: Controller) -> HolidayCalendar:
        """Return the controller's calendar. Raises CalendarUnknown."""
        country = controller.holiday_country
        return HolidayCalendar(country, controller.holiday_subdivision, self.overrides.get(country, Overrides()))
