"""What the measures of a house are read from (operations.md section 7); each reading is fresh, none names anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import Final

from app.metrics import Metrics, Reading
from app.store.gauges import Gauges
from app.vault.ports import ErasureState
from app.wiring.house import House

_STEPS: Final = ((0, "overdue"), (4, "0-3"), (8, "4-7"), (15, "8-14"))
"""Fewer days left than this: this word."""
_FAR: Final = "15+"


def measure(house: House, metrics: Metrics) -> None:
    """Let these metrics look at the house at each exposition."""
    metrics.look_at(lambda: list(readings(house)))


def readings(house: House) -> Iterator[Reading]:
    """Return every gauge of a house."""
    now = house.units.clock.now()
    yield from _vault(house, now)
    yield from _ledger(house)
    yield from _queues(Gauges(house.records), now)
    yield Reading("work_failed", "Work that failed and rests before it begins anew.", house.work.failed())


def _vault(house: House, now: datetime) -> Iterator[Reading]:
    found = {state: (count, since) for state, count, since in house.vault.erasures.unfinished()}
    for state in ErasureState:
        if state is not ErasureState.CERTIFIED:
            count = found.get(state, (0, now))[0]
            yield Reading("erasures", "Erasures and rotations that have not ended.", count, {"state": state.value})
    oldest = max(((now - since).total_seconds() for _, since in found.values()), default=0.0)
    yield Reading("erasures_oldest_seconds", "How long ago the oldest of them was asked for.", oldest)
    held = len(house.vault.erasures.held())
    yield Reading("erasures_held", "Erasures that wait for two colleagues to agree.", held)
    looked = house.vault.indexes.looked
    yield Reading("blind_look_ups", "Addresses this process asked the blind index about.", looked)


def _ledger(house: House) -> Iterator[Reading]:
    yield Reading("ledger_waiting", "Entries that have no place in the tree yet.", house.ledger.waiting())
    yield Reading("ledger_sound", "1 while the integrator works.", int(house.integrator.sound))


def _queues(gauges: Gauges, now: datetime) -> Iterator[Reading]:
    dues = gauges.cases()
    for clock, days in (
        ("strict", [(due.strict, due.count) for due in dues]),
        ("effective", [(due.effective, due.count) for due in dues]),
    ):
        for left, count in _left(days, now.date()):
            yield Reading("cases", "Open cases by the days left.", count, {"clock": clock, "days_left": left})
    mail = gauges.mail()
    yield Reading("mail_waiting", "Mail that is not handed over yet.", mail.count)
    age = (now - mail.since).total_seconds() if mail.since is not None else 0.0
    yield Reading("mail_oldest_seconds", "How long its oldest has waited.", age)


def _left(days: Iterable[tuple[date, int]], today: date) -> Iterator[tuple[str, int]]:
    counts = dict.fromkeys([word for _, word in _STEPS] + [_FAR], 0)
    for due, count in days:
        left = (due - today).days
        counts[next((word for below, word in _STEPS if left < below), _FAR)] += count
    return iter(counts.items())
