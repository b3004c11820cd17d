"""The vault without erasure: subjects, data keys, leases, sealing, blind indexes, a provider that is away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.sdk.sealed import Altered, Cipher, CommitmentMismatch, key_id_of
from app.vault.core import LEASE_MESSAGES, Vault
from app.vault.errors import LeaseTooLong, NotLeasable, ProviderUnavailable, UnknownKey, UnknownSubject
from app.vault.keys import Basis, KeyClass, Scope
from app.vault.process import harden_process
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def vault(keys_engine: Engine, tmp_path: Path, clock: SetClock) -> Vault:
    made = open_vault(keys_engine, tmp_path, clock)
    made.create_subjects(CONTROLLER, ["sub_a", "sub_b"])
    return made


def test_a_scope_has_one_key_and_each_scope_its_own(vault: Vault) -> None:
    here = scope("sub_a")
    others = [
        scope("sub_b"),
        scope("sub_a", "loans"),
        scope("sub_a", holder="broker"),
        scope("sub_a", basis=Basis.OTHER),
        scope("sub_a", life="2026-03"),
        scope("sub_a", key_class=KeyClass.POOL),
    ]
    assert vault.dek_for(here) == vault.dek_for(here)
    assert len({vault.dek_for(each) for each in (here, *others)}) == 7
    assert len({bytes(vault.lease(each).key) for each in (here, *others[:5])}) == 6


def test_lease_opens_what_the_service_sealed_and_ends(vault: Vault, clock: SetClock) -> None:
    """Vault.md section 3: at most 60 s."""
    record = vault.seal(scope("sub_a"), "rec_1", b"42.17", handle="pw_1")
    lease = vault.lease(scope("sub_a"), 30)
    assert (lease.expires_at - clock.now()).total_seconds() == 30
    assert lease.key_id == key_id_of(record)
    assert lease.messages == LEASE_MESSAGES
    cipher = Cipher(lease.key_id, lease.key)
    assert cipher.open(record, subject="pw_1", category="accounts.balances", record_id="rec_1") == b"42.17"
    assert bytes(lease.key).hex() not in repr(lease)
    assert repr(bytes(lease.key)) not in repr(lease)
    for seconds in (0, 61, -1):
        with pytest.raises(LeaseTooLong):
            vault.lease(scope("sub_a"), seconds)


def test_only_data_keys_leave(vault: Vault) -> None:
    for key_class in (KeyClass.AUDIT, KeyClass.POOL, KeyClass.INDEX):
        with pytest.raises(NotLeasable):
            vault.lease(scope("sub_a", key_class=key_class))


def test_lease_by_key_id_only_in_its_own_place(vault: Vault) -> None:
    key_id = vault.dek_for(scope("sub_a"))
    assert vault.lease(scope("sub_a", basis=Basis.OTHER), key_id=key_id).key_id == key_id
    for other in (scope("sub_b"), scope("sub_a", "loans"), scope("sub_a", holder="broker")):
        with pytest.raises(UnknownKey):
            vault.lease(other, key_id=key_id)
    with pytest.raises(UnknownKey):
        vault.lease(scope("sub_a"), key_id=os.urandom(16))


def test_controllers_are_apart(vault: Vault) -> None:
    vault.create_subject("ctl_other", "sub_a")
    record = vault.seal(scope("sub_a"), "r", b"x")
    other = Scope("ctl_other", "sub_a", "bank", "accounts.balances", Basis.CONSENT)
    with pytest.raises(UnknownKey):
        vault.open(other, "r", record)
    assert vault.dek_for(other) != vault.dek_for(scope("sub_a"))


@pytest.mark.parametrize("key_class", [KeyClass.DATA, KeyClass.AUDIT, KeyClass.POOL])
def test_seal_and_open_in_the_service(vault: Vault, key_class: KeyClass) -> None:
    place = scope("sub_a", key_class=key_class)
    record = vault.seal(place, "rec_1", b"payload")
    assert vault.open(place, "rec_1", record) == b"payload"
    with pytest.raises(Altered):
        vault.open(place, "rec_2", record)
    with pytest.raises(Altered):
        vault.open(place, "rec_1", record, handle="pw_x")


def test_a_swapped_record_is_refused(vault: Vault) -> None:
    mine, other = scope("sub_a"), scope("sub_b")
    record, theirs = vault.seal(mine, "r", b"a"), vault.seal(other, "r", b"b")
    with pytest.raises(UnknownKey):
        vault.open(mine, "r", theirs)
    with pytest.raises(CommitmentMismatch):
        vault.open(mine, "r", theirs[:4] + record[4:20] + theirs[20:])


def test_unknown_subject(vault: Vault) -> None:
    with pytest.raises(UnknownSubject):
        vault.dek_for(scope("sub_nobody"))


def test_creating_again_changes_nothing(vault: Vault) -> None:
    record = vault.seal(scope("sub_a"), "r", b"x")
    vault.create_subjects(CONTROLLER, ["sub_a", "sub_c", "sub_c"])
    assert vault.open(scope("sub_a"), "r", record) == b"x"
    vault.dek_for(scope("sub_c"))


def test_subjects_fill_partitions_in_order(keys_engine: Engine, tmp_path: Path, clock: SetClock) -> None:
    vault = open_vault(keys_engine, tmp_path, clock, per_partition=4)
    vault.create_subjects(CONTROLLER, [f"s{n}" for n in range(6)])
    vault.create_subjects(CONTROLLER, [f"s{n}" for n in range(4, 11)])
    with keys_engine.connect() as connection:
        asked = "SELECT partition, count(*) FROM subject_keys WHERE key_class='data' GROUP BY 1 ORDER BY 1"
        assert [tuple(row) for row in connection.execute(text(asked))] == [(0, 4), (1, 4), (2, 3)]
    for n in range(11):
        place = scope(f"s{n}")
        assert vault.open(place, "r", vault.seal(place, "r", b"x")) == b"x"


def test_a_worn_out_key_is_replaced_and_still_opens(vault: Vault, keys_engine: Engine) -> None:
    """Vault.md section 2: rotated at 2^30 messages."""
    place = scope("sub_a")
    old = vault.dek_for(place)
    record = vault.seal(place, "r", b"x")
    with keys_engine.begin() as connection:
        connection.execute(text("UPDATE data_keys SET messages = 1073741824 WHERE id = :id"), {"id": old})
    assert vault.dek_for(place) != old
    assert vault.open(place, "r", record) == b"x"
    assert vault.lease(place, key_id=old).key_id == old


def test_leases_are_charged_to_the_key(vault: Vault, keys_engine: Engine) -> None:
    for _ in range(3):
        vault.lease(scope("sub_a"))
    with keys_engine.connect() as connection:
        assert connection.execute(text("SELECT messages FROM data_keys")).scalar() == 3 * LEASE_MESSAGES


def test_provider_away(vault: Vault, tmp_path: Path, clock: SetClock) -> None:
    """Vault.md section 6: opens from memory until five minutes are over, then refuses; comes back by itself."""
    place = scope("sub_a")
    record = vault.seal(place, "r", b"x")
    (tmp_path / "keyring").rename(tmp_path / "away")
    clock.pass_(minutes=4, seconds=59)
    assert vault.open(place, "r", record) == b"x"
    clock.pass_(seconds=2)
    for work in (
        lambda: vault.open(place, "r", record),
        lambda: vault.lease(place),
        lambda: vault.seal(place, "r", b""),
    ):
        with pytest.raises(ProviderUnavailable):
            work()
    (tmp_path / "away").rename(tmp_path / "keyring")
    assert vault.open(place, "r", record) == b"x"


def test_a_clock_set_back_does_not_lengthen_a_keys_life(vault: Vault, tmp_path: Path, clock: SetClock) -> None:
    place = scope("sub_a")
    record = vault.seal(place, "r", b"x")
    (tmp_path / "keyring").rename(tmp_path / "away")
    clock.pass_(seconds=-1)
    with pytest.raises(ProviderUnavailable):
        vault.open(place, "r", record)


def test_blind_index(vault: Vault) -> None:
    mail = vault.indexes.blind(CONTROLLER, "email", "ana@example.org")
    assert vault.indexes.blind(CONTROLLER, "email", "ana@example.org") == mail
    assert vault.indexes.blind(CONTROLLER, "email", "bob@example.org") != mail
    assert vault.indexes.blind(CONTROLLER, "phone", "ana@example.org").digest != mail.digest
    assert vault.indexes.blind("ctl_other", "email", "ana@example.org").digest != mail.digest
    assert vault.indexes.rekey(CONTROLLER, "email") == 2
    new, old = vault.indexes.blinds(CONTROLLER, "email", "ana@example.org")
    assert (new.epoch, old) == (2, mail)
    assert new.digest != old.digest


def test_process_is_hardened() -> None:
    """In a child, so that this process keeps its limits."""
    child = os.fork()
    if child == 0:
        done = harden_process()
        os._exit(0 if done.core_dumps_off and done.undumpable else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
