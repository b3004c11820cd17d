"""The sweep of a minute on SQLite and PostgreSQL: what never matters again goes as fast as the doors can write it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, func, select

from app.machine import RandomIds
from app.store.rows.idempotency import KeyedRequestRow
from app.store.rows.tokens import SpentIdRow
from app.store.unit import Units
from app.wiring.sweeping import MOST_REMOVALS, MOST_TOKENS, sweeps
from tests.doors.oauth_house import Clock


@dataclass
class Minute:
    """A records database, and its sweep."""

    units: Units
    clock: Clock

    def fill(self, number: int) -> None:
        """Spend ids and keep answers that have run out two days later."""
        with self.units.writing() as unit:
            for _ in range(number):
                name = secrets.token_bytes(32)
                unit.tokens.spend("dpop", "k", name.hex(), self.clock.now())
                unit.keyed_requests.claim(name, controller="firm", request=b"r", claim="c", now=self.clock.now())
            unit.commit()
        self.clock.forward(days=2)

    def left(self) -> tuple[int, int]:
        with self.units.engine.connect() as connection:
            counts = (select(func.count()).select_from(row) for row in (SpentIdRow, KeyedRequestRow))
            return tuple(connection.execute(count).scalar_one() for count in counts)  # type: ignore[return-value]

    def pass_by(self) -> tuple[int, int]:
        found = sweeps(self.units)
        return found["tokens"](), found["answers"]()


@pytest.fixture
def minute(records_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Minute:
    monkeypatch.setattr("app.wiring.sweeping.MOST_TOKENS", 5)
    clock = Clock(datetime(2026, 3, 2, tzinfo=UTC))
    units = Units(records_engine, clock, RandomIds(), secrets.token_bytes, _nothing, _nothing, _nothing)
    return Minute(units, clock)


def _nothing(*_of: object) -> None:
    raise AssertionError("a removal seals nothing and asks for no work")


def test_one_sweep_removes_batch_after_batch(minute: Minute) -> None:
    """Tokens.md section 7: a sweep that took one batch a minute would fall behind the doors for ever."""
    minute.fill(15)
    assert minute.left() == (15, 15)
    assert minute.pass_by() == (15, 15)
    assert minute.left() == (0, 0)
    assert minute.pass_by() == (0, 0)


def test_one_sweep_has_a_ceiling(minute: Minute, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens.md section 7: in batches, with a ceiling; what is left waits a minute."""
    monkeypatch.setattr("app.wiring.sweeping.MOST_REMOVALS", 2)
    minute.fill(12)
    assert minute.pass_by() == (10, 10)
    assert minute.left() == (2, 2)


def test_the_ceiling_is_above_what_the_fastest_door_spends_in_a_minute() -> None:
    """Tokens.md section 7 aims at some thousands of introspections a second, each of which spends an id."""
    in_a_minute = 60 * 5_000
    assert in_a_minute <= MOST_TOKENS * MOST_REMOVALS


def test_what_can_still_matter_stays(minute: Minute) -> None:
    minute.fill(3)
    minute.clock.forward(days=-2)
    assert minute.pass_by() == (0, 0)
    assert minute.left() == (3, 3)
