"""Held-back values that no cohort took in time are deleted and not exported (exports.md rule 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.ledger.bundle import About, Selection
from app.settings import read_settings
from app.vault.erasure import Erasures
from app.vault.errors import Erased, ProviderUnavailable
from app.vault.keys import Scope, Target
from app.wiring import House, build, hold_back, seal_for_pool
from app.wiring.pooling import expire_pool
from app.wiring.releases import pool_scope, release_profile
from consent.vocabulary import SubjectRef
from tests.databases import found_deployment

ROOT = Path(__file__).resolve().parents[2]
PROFILE = "portfolio_statistics"
ANA, BEN, CLEO = SubjectRef("sub_ana"), SubjectRef("sub_ben"), SubjectRef("sub_cleo")


@dataclass
class Moved:
    """The clock, `days` away from now."""

    genuine: object
    days: float

    def now(self) -> datetime:
        return self.genuine.now() + timedelta(days=self.days)


@pytest.fixture
def house(tmp_path: Path, records_engine: Engine, keys_engine: Engine) -> Iterator[House]:
    said = {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_RECORDS_URL": records_engine.url.render_as_string(hide_password=False),
        "REGARD_KEYS_URL": keys_engine.url.render_as_string(hide_password=False),
        "REGARD_ERASURE_BATCH_MINUTES": "0",
    }
    settings = read_settings(said)
    found_deployment(settings)
    built = build(settings)
    yield built
    built.close()


def at(house: House, days: float) -> House:
    return replace(house, units=replace(house.units, clock=Moved(house.units.clock, days)))


def held(house: House, *refs: SubjectRef) -> list[bytes]:
    profile = release_profile(house, PROFILE)
    house.vault.create_subjects(house.controller, list(refs))
    sealed = [seal_for_pool(house, ref, profile, {"age": 41}) for ref in refs]
    hold_back(house, profile, list(zip(refs, sealed, strict=True)))
    return sealed


def sweep(house: House, days: float) -> int:
    return expire_pool(at(house, days).units, house.vault)


def waiting(house: House) -> list[SubjectRef]:
    with house.units.reading() as unit:
        found = unit.exports.open_pool(house.controller, PROFILE, now=house.units.clock.now() - timedelta(days=99))
    return [each.subject for each in found]


def readable(house: House, ref: SubjectRef, sealed: bytes) -> bool:
    try:
        return house.vault.open(pool_scope(house.controller, ref), PROFILE, sealed) != b""
    except Erased:
        return False


def told(house: House) -> int:
    house.ledger.integrate()
    return [each.kind for each in house.ledger.recorded(Selection(About.ALL))].count("pool.expired")


def test_what_is_overdue_goes_with_its_keys_and_the_rest_stays(house: House) -> None:
    old = held(house, ANA, BEN)
    (young,) = held(at(house, 10), CLEO)
    assert sweep(house, 29.9) == 0
    assert told(house) == 0
    assert sweep(house, 30.1) == 2
    assert waiting(house) == [CLEO]
    assert [readable(house, ANA, old[0]), readable(house, BEN, old[1]), readable(house, CLEO, young)] == [
        False,
        False,
        True,
    ]
    assert not house.vault.erasures.pending(), "destroyed, not only refused"
    assert sweep(house, 30.1) == 0
    assert told(house) == 1
    own = Scope(house.controller, ANA, "regard", "identity")
    assert house.vault.open(own, "r", house.vault.seal(own, "r", b"data")) == b"data", "only the pool's keys"


def test_a_sweep_that_was_killed_in_between_is_finished_by_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sealed,) = held(house, ANA)
    with monkeypatch.context() as patched:
        patched.setattr(
            "app.store.exports.SqlExports.remove_overdue", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            sweep(house, 31)
    assert not readable(house, ANA, sealed), "the keys go first"
    assert waiting(house) == [ANA]
    assert sweep(house, 31) == 1
    assert (waiting(house), house.vault.erasures.pending()) == ([], ())


def test_keys_that_could_not_be_destroyed_are_by_the_next_sweep(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (sealed,) = held(house, ANA)

    def away(*_: object) -> None:
        raise ProviderUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(Erasures, "drive", away)
        assert sweep(house, 31) == 1
    assert not readable(house, ANA, sealed)
    assert len(house.vault.erasures.pending()) == 1
    assert sweep(house, 31) == 0
    assert not house.vault.erasures.pending()


def test_who_was_erased_or_is_not_known_any_more_holds_nothing_up(house: House) -> None:
    held(house, ANA, BEN)
    house.vault.shred("era_1", [Target(house.controller, ANA)])
    house.vault.erasures.drive("era_1")
    profile = release_profile(house, PROFILE)
    hold_back(house, profile, [(SubjectRef("sub_of_a_newer_store"), b"sealed")])
    assert sweep(house, 31) == 3
    assert waiting(house) == []


def test_one_sweep_takes_a_bounded_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    held(house, ANA, BEN, CLEO)
    monkeypatch.setattr("app.wiring.pooling.MOST_AT_ONCE", 2)
    assert [sweep(house, 31), sweep(house, 31), sweep(house, 31)] == [2, 1, 0]


def test_the_house_sweeps_its_pool_each_minute(house: House) -> None:
    assert "pool" in house.work._sweeps
    assert house.work._sweeps["pool"]() == 0
