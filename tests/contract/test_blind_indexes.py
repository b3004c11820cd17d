"""Blind-index keys change on a schedule while people go on being found (vault.md sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.profiles import EMAIL, Profile
from app.store.rows.keys import IndexKeyRow
from app.store.rows.subjects import ContactPointRow
from app.vault.erasure import Erasures
from app.vault.errors import ProviderUnavailable, RootDestroyed
from app.vault.keys import KeyClass, Target
from app.vault.ports import ErasureState, RootName
from app.wiring import House
from app.wiring.rotating import SETTLED, IndexSchedule
from app.wiring.vaults import key_provider
from consent.vocabulary import Locale, SubjectRef
from tests.contract import case_house as town

PEOPLE = 7
QUARTER = timedelta(days=90)


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    yield built
    built.close()


@pytest.fixture
def people(house: House) -> list[SubjectRef]:
    who = [(Profile(f"Person {n}", f"person{n}@example.org"), Locale.FR) for n in range(PEOPLE)]
    return house.profiles.enrol_all(house.controller, who)


def schedule(house: House) -> IndexSchedule:
    return IndexSchedule(house.units, house.vault, house.profiles, house.controller, QUARTER)


def found(house: House) -> list[SubjectRef | None]:
    return [house.profiles.find_by_email(house.controller, f"person{n}@example.org") for n in range(PEOPLE)]


def epochs_stored(house: House) -> set[int]:
    with house.records.connect() as connection:
        return {
            int.from_bytes(index[:4], "big") for (index,) in connection.execute(select(ContactPointRow.blind_index))
        }


def older(house: House, by: timedelta) -> None:
    """Let the newest index key be older than it is."""
    with house.keys.begin() as connection:
        newest = connection.execute(select(func.max(IndexKeyRow.epoch))).scalar_one()
        at: datetime = house.units.clock.now() - by
        connection.execute(update(IndexKeyRow).where(IndexKeyRow.epoch == newest).values(created_at=at))


def epochs(house: House) -> list[int]:
    with house.keys.connect() as connection:
        return sorted(connection.execute(select(IndexKeyRow.epoch)).scalars())


def test_nothing_happens_before_its_time(house: House, people: list[SubjectRef]) -> None:
    assert schedule(house).sweep() == 0
    assert epochs(house) == [1]


def test_a_key_grows_old_is_followed_and_goes(house: House, people: list[SubjectRef]) -> None:
    """Found at every step; at the end only the new key is left, and the old one's root is destroyed."""
    older(house, QUARTER)
    schedule(house).sweep()
    assert (epochs(house), epochs_stored(house)) == ([1, 2], {1})
    assert found(house) == people
    assert schedule(house).sweep() == PEOPLE
    assert (epochs_stored(house), found(house)) == ({2}, people)
    schedule(house).sweep()
    assert epochs(house) == [1, 2]  # whoever began to store under the old key may not have ended
    older(house, SETTLED)
    schedule(house).sweep()
    assert (epochs(house), found(house)) == ([2], people)
    with pytest.raises(RootDestroyed):
        key_provider(house.settings, house.units.clock).create_root(RootName(KeyClass.INDEX, 0, 1))


def test_who_is_erased_meanwhile_is_not_found_again(house: House, people: list[SubjectRef]) -> None:
    house.vault.shred("era_1", [Target(house.controller, people[0])])
    older(house, QUARTER)
    schedule(house).sweep()
    assert schedule(house).sweep() == PEOPLE
    assert (found(house), epochs_stored(house)) == ([None, *people[1:]], {2})


def test_who_enrols_meanwhile_is_found(house: House, people: list[SubjectRef]) -> None:
    older(house, QUARTER)
    schedule(house).sweep()
    new = house.profiles.enrol(house.controller, Profile("New", "new@example.org"), Locale.PT)
    again = house.profiles.enrol(house.controller, Profile("Person 1", " PERSON1@example.org"), Locale.FR)
    assert again == people[1]
    schedule(house).sweep()
    assert house.profiles.find_by_email(house.controller, "new@example.org") == new


def test_a_batch_is_bounded_and_the_rest_follows(house: House, people: list[SubjectRef]) -> None:
    house.vault.indexes.rekey(house.controller, EMAIL)
    assert [house.profiles.reindex(house.controller, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert found(house) == people


def test_a_process_that_dies_between_removing_and_rotating_is_followed_by_one_that_rotates(
    house: House, people: list[SubjectRef]
) -> None:
    older(house, QUARTER)
    for _ in range(2):
        schedule(house).sweep()
    older(house, SETTLED)
    house.vault.indexes.retire(
        house.controller, EMAIL, before=house.vault.indexes.newest(house.controller, EMAIL).epoch
    )
    schedule(house).sweep()
    assert house.vault.erasures.state(f"rot_index_{house.controller}_2") is ErasureState.CERTIFIED


def test_what_is_stored_stays_findable_when_another_epoch_begins_meanwhile(
    house: House, people: list[SubjectRef]
) -> None:
    """The keys that go are those before the epoch everybody was put under, whatever has begun since."""
    older(house, QUARTER)
    for _ in range(2):
        schedule(house).sweep()
    stored = house.vault.indexes.newest(house.controller, EMAIL).epoch
    house.vault.indexes.rekey(house.controller, EMAIL)  # a colleague's command, between the look and the removal
    schedule(house).retire(stored)
    assert found(house) == people


def test_each_change_is_in_the_ledger(house: House, people: list[SubjectRef]) -> None:
    older(house, QUARTER)
    schedule(house).sweep()
    schedule(house).sweep()
    older(house, SETTLED)
    schedule(house).sweep()
    schedule(house).sweep()
    house.ledger.integrate()
    with house.records.connect() as connection:
        kinds = [kind for (kind,) in connection.exec_driver_sql("select kind from ledger_entries")]
    assert kinds.count("key.rotated") == 2


def test_a_rotation_that_the_sweep_of_erasures_ends_is_in_the_ledger_too(
    house: House, people: list[SubjectRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    older(house, QUARTER)
    for _ in range(2):
        schedule(house).sweep()
    older(house, SETTLED)

    def away(*_words: object) -> ErasureState:
        raise ProviderUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(Erasures, "drive", away)
        schedule(house).sweep()
    assert told(house) == 1, "the new epoch, and nothing of the old key that is still in backups"
    house.vault.erasures.drive_all()
    for _ in range(2):
        schedule(house).sweep()
        assert told(house) == 2


def test_a_rotation_that_ended_when_a_newer_key_was_there_is_in_the_ledger(
    house: House, people: list[SubjectRef]
) -> None:
    older(house, QUARTER)
    for _ in range(2):
        schedule(house).sweep()
    house.vault.indexes.retire(house.controller, EMAIL, before=2)
    house.vault.erasures.rotate(f"rot_index_{house.controller}_2", [(KeyClass.INDEX, 0)])
    schedule(house).rekey()  # a colleague's command, while the provider is away
    house.vault.erasures.drive_all()
    older(house, SETTLED)
    for _ in range(3):
        schedule(house).sweep()
    assert told(house) == 4, "two that began and two that are gone"


def told(house: House) -> int:
    """How many rotations are entered."""
    with house.records.connect() as connection:
        kinds = [kind for (kind,) in connection.exec_driver_sql("select kind from ledger_entries")]
    return kinds.count("key.rotated")


def test_two_people_under_one_address_stay_two(house: House, people: list[SubjectRef]) -> None:
    """Enrolled at the same moment under two epochs: the one under the old key is left as it is, nobody is lost."""
    older(house, QUARTER)
    schedule(house).sweep()
    index = house.vault.indexes.blind(house.controller, EMAIL, "person0@example.org")
    with house.units.writing() as unit:
        raw = index.epoch.to_bytes(4, "big") + bytes.fromhex(index.digest)
        unit.subjects.add_contact(people[1], house.controller, EMAIL, raw, house.units.clock.now())
        unit.commit()
    schedule(house).sweep()
    assert epochs_stored(house) == {1, 2}
    assert found(house)[2:] == people[2:]
