"""The house, built from settings on real databases: who a person is can be found again, and then no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.profiles import Profile
from app.settings import Settings, read_settings
from app.vault.keys import Target
from app.vault.ports import ErasureState
from app.wiring import House, UnknownControllerError, build, migrate
from consent.vocabulary import Locale

ROOT = Path(__file__).resolve().parents[2]
ANA = Profile("Ana Exemplo", "Ana.Exemplo@example.org")


@pytest.fixture
def settings(records_url: str, keys_url: str, tmp_path: Path) -> Settings:
    return read_settings(
        {
            "REGARD_DATA_DIR": str(tmp_path / "var"),
            "REGARD_POLICIES_DIR": str(ROOT / "policies"),
            "REGARD_RECORDS_URL": records_url,
            "REGARD_KEYS_URL": keys_url,
            "REGARD_ERASURE_BATCH_MINUTES": "0",
        }
    )


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    migrate(settings)
    built = build(settings)
    yield built
    built.close()


def test_a_person_is_found_by_address_however_it_was_typed(house: House) -> None:
    ref = house.profiles.enrol(house.controller, ANA, Locale.PT)
    assert house.profiles.find_by_email(house.controller, " ana.exemplo@EXAMPLE.org ") == ref
    assert house.profiles.enrol(house.controller, ANA, Locale.PT) == ref
    assert house.profiles.find_by_email(house.controller, "somebody@example.org") is None
    found = house.profiles.profile(ref)
    assert found == ANA
    assert "Ana" not in repr(found)


def test_another_controller_does_not_know_them(house: House) -> None:
    """A person known to two controllers is two subjects (vault.md section 1)."""
    house.profiles.enrol(house.controller, ANA, Locale.PT)
    other = next(each for each in house.policy.controllers if each != house.controller)
    assert house.profiles.find_by_email(other, ANA.email) is None


def test_destroyed_keys_leave_nobody(house: House) -> None:
    ref = house.profiles.enrol(house.controller, ANA, Locale.PT)
    bea = house.profiles.enrol(house.controller, Profile("Bea", "bea@example.org"), Locale.ES)
    state = house.vault.shred("era_1", [Target(house.controller, ref)])
    for _ in range(20):
        if state is ErasureState.CERTIFIED:
            break
        house.vault.erasures.acknowledge("era_1")
        state = house.vault.erasures.advance("era_1")
    assert state is ErasureState.CERTIFIED
    assert house.profiles.profile(ref) is None
    assert house.profiles.profile(bea) == Profile("Bea", "bea@example.org")
    assert house.vault.erasures.certificates("era_1")[0]["statement"] == "keys destroyed"


def test_what_is_journalled_with_the_unit_can_be_verified_and_what_is_not_committed_never_was(house: House) -> None:
    ref = house.profiles.enrol(house.controller, ANA, Locale.PT)
    with house.units.writing() as unit:
        unit.journal.record("test.dropped", actor="test", controller=house.controller, subject=ref, payload={})
    with house.units.writing() as unit:
        unit.journal.record("test.kept", actor="test", controller=house.controller, subject=ref, payload={"id": "x"})
        unit.journal.record("test.general", actor="test", controller=house.controller, subject=None, payload={})
        unit.commit()
    assert house.ledger.integrate() == 2
    assert house.ledger.audit() == []


def test_nothing_of_a_person_rests_readable_in_the_records(house: House, backend: str, tmp_path: Path) -> None:
    house.profiles.enrol(house.controller, ANA, Locale.PT)
    if backend == "postgresql":
        with house.units.reading() as unit:
            rows = [
                bytes(row)
                for row in unit.session.connection().exec_driver_sql("SELECT profile FROM subjects").scalars()
            ]
    else:
        rows = [
            path.read_bytes() for folder in (tmp_path, tmp_path / "var") for path in folder.iterdir() if path.is_file()
        ]
    assert rows
    assert not any(word in row for row in rows for word in (b"Exemplo", b"exemplo", b"example.org"))


def test_an_unknown_controller_is_refused_by_name(settings: Settings) -> None:
    migrate(settings)
    from dataclasses import replace

    with pytest.raises(UnknownControllerError, match="REGARD_CONTROLLER"):
        build(replace(settings, controller="nobody"))
