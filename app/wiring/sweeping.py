"""What falls due by itself, looked for each minute (operations.md section 3, rule 6).

Consents that have run out are recorded as expired, which asks for their receipts; no decision waits for that. The rest
is housekeeping of rows that can never matter again, in bounded batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from app.store.unit import RecordsUnit, Units
from app.workflows.durable import Sweep
from consent import usecases

BATCH = 200
MOST_BATCHES = 50
"""Of consents in one sweep: what is left waits a minute."""
MOST_TOKENS = 2_000
"""Rows of a kind in one unit of work: others wait that long for the one writer of SQLite."""
MOST_REMOVALS = 200
"""Units of work in one sweep, which is 6,600 rows of a kind a second: what is left waits a minute."""
_PAUSE_SECONDS = 0.05
"""Between two of them, for whoever else wants to write: SQLite keeps no queue."""
COUNTERS_FOR = timedelta(days=1)
GRANTS_EACH = timedelta(hours=1)
"""How often grants that are over are looked for, which reads every grant."""
JOURNEYS_FOR = timedelta(days=60)
"""A question lapses after 30 days at the latest; its page may still be read for as long again."""


def sweeps(units: Units) -> Mapping[str, Sweep]:
    """Return the sweeps of a house, in the order they run."""
    return {
        "consents": lambda: lapse_all(units),
        "sessions": lambda: _committed(units, lambda unit, now: unit.sessions.sweep(now) + unit.sign_ins.sweep(now)),
        "counters": lambda: _committed(units, lambda unit, now: unit.counters.sweep(now - COUNTERS_FOR)),
        "journeys": lambda: _committed(units, lambda unit, now: unit.journeys.sweep(now - JOURNEYS_FOR)),
        "tokens": lambda: _in_batches(units, lambda unit, now: unit.tokens.purge(now, MOST_TOKENS)),
        "grants": _grants(units),
        "answers": lambda: _in_batches(units, lambda unit, now: unit.keyed_requests.sweep(now, MOST_TOKENS)),
    }


def lapse_all(units: Units) -> int:
    """Record every consent that time has ended, a unit of work a batch; return how many (consent rule 48)."""
    done = 0
    for _batch in range(MOST_BATCHES):
        some = usecases.lapse(units.writing(), at=units.clock.now(), limit=BATCH)
        done += some
        if some < BATCH:
            break
    return done


def _grants(units: Units) -> Sweep:
    """Return the sweep of grants that are over: found while nobody is kept from writing, and not each minute."""
    rests_until = units.clock.now()

    def sweep() -> int:
        nonlocal rests_until
        now = units.clock.now()
        if now < rests_until:
            return 0
        done = _drop_grants(units, now)
        rests_until = now + GRANTS_EACH if done < MOST_TOKENS else now
        return done

    return sweep


def _drop_grants(units: Units, now: datetime) -> int:
    with units.reading() as unit:
        over = unit.tokens.grants_over(now, MOST_TOKENS)
    if over:
        with units.writing() as unit:
            unit.tokens.drop_grants(over)
            unit.commit()
    return len(over)


def _in_batches(units: Units, act: Callable[[RecordsUnit, datetime], int]) -> int:
    """Remove again and again, a unit of work each, until there is no more (tokens.md section 7); return how many."""
    done = 0
    for _batch in range(MOST_REMOVALS):
        some = _committed(units, act)
        done += some
        if some < MOST_TOKENS:
            break
        time.sleep(_PAUSE_SECONDS)
    return done


def _committed(units: Units, act: Callable[[RecordsUnit, datetime], int]) -> int:
    with units.writing() as unit:
        done = act(unit, units.clock.now())
        unit.commit()
    return done
