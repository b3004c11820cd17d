"""Rotation of roots, epoch keys and blind-index keys: every key lives on, the old root opens nothing (vault.md)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.vault.core import Vault
from app.vault.errors import KeyDamaged, RootDestroyed, TooManyLookUps
from app.vault.indexes import Indexes
from app.vault.keys import SUBJECT_CLASSES, KeyClass, Target
from app.vault.partitions import Partitions
from app.vault.ports import ErasureState, RootName
from tests.mechanism.vaults import CONTROLLER, SetClock, keyring, open_vault, scope

SUBJECTS = [f"sub_{n}" for n in range(6)]
EVERYWHERE = [(each, 0) for each in (*SUBJECT_CLASSES, KeyClass.INDEX)]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def vault(keys_engine: Engine, tmp_path: Path, clock: SetClock) -> Vault:
    made = open_vault(keys_engine, tmp_path, clock)
    made.create_subjects(CONTROLLER, SUBJECTS)
    made.indexes.newest(CONTROLLER, "email")
    return made


def roots_of(vault: Vault, tmp_path: Path, clock: SetClock, generation: int) -> list[str]:
    provider = keyring(tmp_path, clock)
    return [provider.create_root(RootName(key_class, 0, generation)) for key_class, _ in EVERYWHERE]


def test_everything_lives_on_and_the_old_roots_are_gone(vault: Vault, tmp_path: Path, clock: SetClock) -> None:
    places = [scope(each) for each in SUBJECTS]
    records = {place: vault.seal(place, "r", place.subject.encode()) for place in places}
    before = vault.indexes.blind(CONTROLLER, "email", "ana@example.org")
    assert vault.erasures.rotate("rot_1", EVERYWHERE) is ErasureState.REQUESTED
    assert vault.erasures.drive("rot_1") is ErasureState.CERTIFIED
    assert vault.erasures.rotate("rot_1", EVERYWHERE) is ErasureState.CERTIFIED
    vault.epochs.forget()
    assert all(vault.open(place, "r", record) == place.subject.encode() for place, record in records.items())
    assert vault.indexes.blind(CONTROLLER, "email", "ana@example.org") == before
    assert vault.erasures.certificates("rot_1") == ()
    with pytest.raises(RootDestroyed):
        roots_of(vault, tmp_path, clock, 1)
    assert len(set(roots_of(vault, tmp_path, clock, 2))) == len(EVERYWHERE)


def test_a_partition_that_is_not_there_is_not_rotated(vault: Vault) -> None:
    with pytest.raises(KeyDamaged):
        vault.erasures.rotate("rot_1", [(KeyClass.DATA, 7)])


def test_rotation_and_erasure_at_once(vault: Vault) -> None:
    """Two on one partition: one after the other, and neither undoes what the other did."""
    record = vault.seal(scope("sub_1"), "r", b"kept")
    vault.seal(scope("sub_0"), "r", b"gone")
    vault.erasures.rotate("rot_1", EVERYWHERE)
    vault.shred("era_1", [Target(CONTROLLER, "sub_0")])
    for each in ("era_1", "rot_1"):
        assert vault.erasures.drive(each) is ErasureState.CERTIFIED
    assert vault.open(scope("sub_1"), "r", record) == b"kept"


def test_rotation_under_load(vault: Vault) -> None:
    """Threads that seal, open, lease and look up while every partition turns over three times: nothing fails."""
    faults: list[BaseException] = []
    done = threading.Event()
    record = vault.seal(scope("sub_0"), "r", b"old")
    known = vault.indexes.blind(CONTROLLER, "email", "ana@example.org")

    def seal(number: int) -> None:
        place = scope(SUBJECTS[number], f"accounts.{number}")
        assert vault.open(place, "r", vault.seal(place, "r", b"new")) == b"new"
        assert vault.open(scope("sub_0"), "r", record) == b"old"

    def lend(number: int) -> None:
        assert len(vault.lease(scope(SUBJECTS[number], "loans"), 1).key) == 32

    def look(_: int) -> None:
        assert known in vault.indexes.blinds(CONTROLLER, "email", "ana@example.org")

    def busy(act: Callable[[int], None], number: int) -> None:
        while not done.is_set():
            try:
                act(number)
            except Exception as fault:  # noqa: BLE001 - whatever it is, the test tells it
                faults.append(fault)
                return

    threads = [threading.Thread(target=busy, args=(act, n)) for n, act in enumerate((seal, seal, lend, look))]
    for each in threads:
        each.start()
    try:
        for turn in range(3):
            vault.erasures.rotate(f"rot_{turn}", EVERYWHERE)
            assert vault.erasures.drive(f"rot_{turn}") is ErasureState.CERTIFIED
    finally:
        done.set()
        for each in threads:
            each.join()
    assert faults == []


# Blind indexes


def test_a_retired_key_is_gone_from_a_backup_too(vault: Vault, keys_engine: Engine) -> None:
    """What an old copy of the row confirms ends with the rotation that follows (vault.md section 1)."""
    old = vault.indexes.blind(CONTROLLER, "email", "ana@example.org")
    with vault.indexes._store.reading() as tx:
        ((copied, its_partition),) = tx.index_paths(CONTROLLER, "email")
    assert vault.indexes.rekey(CONTROLLER, "email") == 2
    assert [each.epoch for each in vault.indexes.blinds(CONTROLLER, "email", "ana@example.org")] == [2, 1]
    assert vault.indexes.retire(CONTROLLER, "email", before=vault.indexes.newest(CONTROLLER, "email").epoch) == 1
    vault.erasures.rotate("rot_1", [(KeyClass.INDEX, 0)])
    vault.erasures.drive("rot_1")
    (new,) = vault.indexes.blinds(CONTROLLER, "email", "ana@example.org")
    assert (new.epoch, new.digest != old.digest) == (2, True)
    vault.epochs.forget()
    with pytest.raises(RootDestroyed):
        vault.indexes._blinded(copied, its_partition, "ana@example.org")


def test_two_that_rekey_at_once_begin_one_epoch(vault: Vault) -> None:
    first = vault.indexes.newest(CONTROLLER, "email").epoch
    assert vault.indexes._add(CONTROLLER, "email", after=first) == 2
    assert vault.indexes._add(CONTROLLER, "email", after=first) == 2


def test_look_ups_have_a_pace(vault: Vault, keys_engine: Engine, tmp_path: Path, clock: SetClock) -> None:
    """Testing guesses by the million is not signing in; storing is not looking up."""
    provider = keyring(tmp_path, clock)
    indexes = Indexes(
        vault.indexes._store,
        Partitions(vault.indexes._store, provider, os.urandom),
        vault.epochs,
        clock=clock,
        random=os.urandom,
        look_ups_a_minute=3,
    )
    for _ in range(3):
        indexes.blinds(CONTROLLER, "email", "ana@example.org")
    with pytest.raises(TooManyLookUps):
        indexes.blinds(CONTROLLER, "email", "ana@example.org")
    indexes.blind(CONTROLLER, "email", "new@example.org")
    clock.pass_(seconds=-30)
    with pytest.raises(TooManyLookUps):
        indexes.blinds(CONTROLLER, "email", "ana@example.org")
    clock.pass_(seconds=91)
    assert indexes.blinds(CONTROLLER, "email", "ana@example.org")
