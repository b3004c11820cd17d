"""The key store on both databases: what the vault relies on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from app.store.bytescan import search
from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.store.rows.base import KeysBase
from app.vault.errors import DurabilityLost, ErasureUnknown, KeyStoreUnavailable, PartitionBusy
from app.vault.keys import Basis, KeyClass, Scope
from app.vault.ports import (
    DataKey,
    DestroyedKey,
    Erasure,
    ErasureSite,
    ErasureState,
    ErasureTarget,
    NamedKey,
    Partition,
    Scan,
    SubjectKey,
)
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope
from tests.waiting import PATIENCE

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PARTITION = Partition(KeyClass.DATA, 0, 1, "root:1", b"e" * 60)
PLACE = Scope("ctl", "sub", "bank", "loans", Basis.CONSENT, "2026-03")


@pytest.fixture
def store(keys_engine: Engine) -> SqlKeyStore:
    return SqlKeyStore(keys_engine)


def subject_key(number: int = 1, subject: str = "sub") -> SubjectKey:
    return SubjectKey(bytes([number]) * 16, "ctl", subject, KeyClass.DATA, 0, bytes([number]) * 60)


def data_key(number: int, parent: SubjectKey, sequence: int = 0) -> DataKey:
    return DataKey(bytes([number]) * 16, parent.id, PLACE, sequence, bytes([number]) * 60, NOW)


@pytest.fixture
def filled(store: SqlKeyStore) -> SqlKeyStore:
    with store.writing() as tx:
        tx.add_partition(PARTITION)
        tx.add_subject_keys([subject_key()], NOW)
        tx.add_data_key(data_key(9, subject_key()))
    return store


def erasure(erasure_id: str = "era_1") -> Erasure:
    named = NamedKey(b"9" * 16, "bank", "loans", "consent", "", "2031-01-01", "law")
    target = ErasureTarget("ctl", "sub", KeyClass.DATA, 0, True, b"1" * 16, (named,), (named,))
    site = ErasureSite(KeyClass.DATA, 0)
    return Erasure(erasure_id, ErasureState.REQUESTED, NOW, False, None, (target,), (site,), None, (), NOW)


def test_an_error_undoes_everything(store: SqlKeyStore) -> None:
    def broken() -> None:
        with store.writing() as tx:
            tx.add_partition(PARTITION)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    with store.reading() as tx:
        assert tx.partition(KeyClass.DATA, 0) is None


def test_partition(filled: SqlKeyStore) -> None:
    with filled.writing() as tx:
        tx.add_partition(Partition(KeyClass.DATA, 0, 7, "other", b""))
        assert tx.partition(KeyClass.DATA, 0, lock=True) == PARTITION
        assert tx.partition(KeyClass.POOL, 0) is None
        assert tx.claim(KeyClass.DATA, 0, "era_1")
        assert tx.claim(KeyClass.DATA, 0, "era_1")
        assert not tx.claim(KeyClass.DATA, 0, "era_2")
        tx.release("era_2")
        assert not tx.claim(KeyClass.DATA, 0, "era_2")
        tx.release("era_1")
        assert tx.claim(KeyClass.DATA, 0, "era_2")


def test_allotments_do_not_overlap(store: SqlKeyStore) -> None:
    def take(_: int) -> int:
        with store.writing() as tx:
            return tx.allot(10)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(take, range(12))) == list(range(0, 120, 10))


def test_subject_keys(filled: SqlKeyStore) -> None:
    other = subject_key(2, "other")
    with filled.writing() as tx:
        tx.add_subject_keys([other, SubjectKey(b"3" * 16, "ctl", "sub", KeyClass.DATA, 0, b"3" * 60)], NOW)
        assert tx.subject_key("ctl", "sub", KeyClass.DATA) == subject_key(), "the first one stays"
        assert tx.subject_key("ctl", "sub", KeyClass.POOL, lock=True) is None
        assert tx.known("ctl", ["sub", "other", "nobody"]) == {"sub", "other"}
        assert tx.known("ctl2", ["sub"]) == frozenset()
        assert {key.id for key in tx.subject_keys_in(KeyClass.DATA, 0)} == {subject_key().id, other.id}
        tx.close_subject("ctl", "gone", KeyClass.DATA, NOW, "era_1")
        tx.close_subject("ctl", "gone", KeyClass.DATA, NOW + timedelta(days=1), "era_2")
        assert tx.erased_at("ctl", "gone", KeyClass.DATA) == NOW
        assert tx.known("ctl", ["gone"]) == {"gone"}


def test_many_subjects_are_asked_in_pieces(store: SqlKeyStore) -> None:
    with store.reading() as tx:
        assert tx.known("ctl", [f"s{number}" for number in range(70_000)]) == frozenset()


def test_stage_and_promote(filled: SqlKeyStore) -> None:
    new = Partition(KeyClass.DATA, 0, 2, "root:2", b"f" * 60)
    with filled.writing() as tx:
        tx.stage([(subject_key().id, b"s" * 60)], 2)
        (staged,) = tx.subject_keys_in(KeyClass.DATA, 0)
        assert (staged.wrapped, staged.staged, staged.staged_generation) == (subject_key().wrapped, b"s" * 60, 2)
        tx.promote(KeyClass.DATA, 0, new)
        (promoted,) = tx.subject_keys_in(KeyClass.DATA, 0)
        assert (promoted.wrapped, promoted.staged, promoted.staged_generation) == (b"s" * 60, None, None)
        assert tx.partition(KeyClass.DATA, 0) == new


def test_promote_refuses_to_lose_a_key_that_was_not_staged(filled: SqlKeyStore) -> None:
    def unstaged() -> None:
        with filled.writing() as tx:
            tx.promote(KeyClass.DATA, 0, PARTITION)

    with pytest.raises(KeyStoreUnavailable):
        unstaged()
    with filled.reading() as tx:
        assert tx.subject_key("ctl", "sub", KeyClass.DATA) == subject_key()


def test_paths(filled: SqlKeyStore) -> None:
    newer = data_key(8, subject_key(), 1)
    with filled.writing() as tx:
        assert tx.next_sequence(PLACE) == 1
        tx.add_data_key(newer)
        path = tx.path_of_scope(PLACE)
        assert path is not None
        assert (path.key, path.subject_key, path.partition) == (newer, subject_key(), PARTITION)
        tx.doom([newer.id], "era_1")
        tx.doom([newer.id], "era_2")
        older = tx.path_of_scope(PLACE)
        assert older is not None
        assert older.key.id == data_key(9, subject_key()).id
        doomed = tx.path_of_key(newer.id)
        assert doomed is not None
        assert doomed.key.doomed_by == "era_1", "an earlier mark stays"
        assert tx.path_of_key(b"?" * 16) is None


def test_charge(filled: SqlKeyStore) -> None:
    key_id = data_key(9, subject_key()).id
    with filled.writing() as tx:
        assert tx.charge(key_id, 5, NOW + timedelta(seconds=60))
        assert tx.charge(key_id, 5, NOW)
        assert tx.charge(key_id, 1, None)
        path = tx.path_of_key(key_id)
        assert path is not None
        assert (path.key.messages, path.key.leased_until) == (11, NOW + timedelta(seconds=60))
        tx.doom([key_id], "era_1")
        assert not tx.charge(key_id, 5, NOW)
        assert not tx.charge(b"?" * 16, 5, NOW)


def test_replacing_a_subject_key(filled: SqlKeyStore) -> None:
    """The data keys' reference is checked at commit, not in between."""
    new = SubjectKey(b"n" * 16, "ctl", "sub", KeyClass.DATA, 0, b"n" * 60)
    key_id = data_key(9, subject_key()).id
    with filled.writing() as tx:
        tx.remove_subject_key(subject_key().id)
        tx.add_subject_keys([new], NOW)
        tx.rebind([(key_id, b"w" * 60)], new.id)
    with filled.reading() as tx:
        path = tx.path_of_key(key_id)
        assert path is not None
        assert (path.subject_key.id, path.key.wrapped) == (new.id, b"w" * 60)

    def orphan() -> None:
        with filled.writing() as tx:
            tx.remove_subject_key(new.id)

    with pytest.raises(KeyStoreUnavailable):
        orphan()


def test_destroyed_keys_leave_a_name(filled: SqlKeyStore) -> None:
    gone = DestroyedKey(data_key(9, subject_key()).id, PLACE, NOW, "era_1")
    with filled.writing() as tx:
        tx.remove_data_keys([gone])
        assert tx.path_of_key(gone.id) is None
        assert tx.destroyed(gone.id) == gone
        assert tx.destroyed(b"?" * 16) is None


def test_the_journal(filled: SqlKeyStore) -> None:
    later = NOW + timedelta(hours=1)
    site = ErasureSite(KeyClass.DATA, 0, 1, "r1", 2, "r2", b"e", 5, 4, "aa", "bb", "destroyed", later, "A", {"x": 1})
    with filled.writing() as tx:
        tx.add_erasure(erasure())
        assert tx.erasure("era_1") == erasure()
        assert tx.erasure("era_2") is None
        assert tx.unfinished() == ["era_1"]
        assert tx.leased_until("era_1") is None
        tx.charge(data_key(9, subject_key()).id, 1, later)
        assert tx.leased_until("era_1") is None, "nothing of it is doomed yet"
        tx.doom([data_key(9, subject_key()).id], "era_0")
        assert tx.leased_until("era_1") == later, "whoever doomed it"
        tx.acknowledge("era_1", NOW)
        assert tx.take("era_1", "w", NOW, later)
        tx.move("era_1", ErasureState.REQUESTED, ErasureState.COMMITTED, "w", later)
        tx.save_site("era_1", site)
        tx.save_scan("era_1", Scan(1, 2, 3, True))
        tx.save_certificates("era_1", [{"a": 1}])
        found = tx.erasure("era_1")
    assert found is not None
    assert found.acknowledged
    assert (found.state, found.committed_at, found.sites) == (ErasureState.COMMITTED, later, (site,))
    assert (found.scan, found.certificates) == (Scan(1, 2, 3, True), ({"a": 1},))

    def unknown() -> None:
        with filled.writing() as tx:
            tx.acknowledge("era_2", NOW)

    with pytest.raises(ErasureUnknown):
        unknown()


def test_one_worker_at_a_time(store: SqlKeyStore) -> None:
    soon = NOW + timedelta(seconds=30)
    with store.writing() as tx:
        tx.add_erasure(erasure())
        assert tx.take("era_1", "a", NOW, soon)
        assert tx.take("era_1", "a", NOW, soon)
        assert not tx.take("era_1", "b", NOW, soon)
        tx.give_back("era_1", "b")
        assert not tx.take("era_1", "b", NOW, soon)
        assert tx.take("era_1", "b", soon, soon + timedelta(seconds=30))
        for worker, state in (("a", ErasureState.REQUESTED), ("b", ErasureState.COMMITTED)):
            with pytest.raises(PartitionBusy):
                tx.move("era_1", state, ErasureState.CERTIFIED, worker, NOW)
        tx.give_back("era_1", "b")
        assert tx.take("era_1", "c", NOW, soon)


def test_probes_are_not_kept_as_they_are(store: SqlKeyStore, keys_engine: Engine) -> None:
    probes = sorted([b"probe-one-12", b"probe-two-12"])
    with store.writing() as tx:
        tx.add_erasure(erasure())
        tx.add_probes("era_1", probes)
        assert sorted(tx.probes("era_1")) == probes
    with keys_engine.connect() as connection:
        kept = [bytes(row[0]) for row in connection.execute(text("SELECT turned FROM erasure_probes"))]
    assert len(kept) == 2
    assert not set(kept) & set(probes)
    with store.writing() as tx:
        tx.drop_probes("era_1")
        assert tx.probes("era_1") == []


def test_two_processes_make_one_data_key(keys_engine: Engine, tmp_path: Path) -> None:
    """Two vaults ask for the same new key at once: one wins, both get it."""
    clock = SetClock()
    vaults = [open_vault(keys_engine, tmp_path, clock, worker=f"host:{number}") for number in range(2)]
    vaults[0].create_subject(CONTROLLER, "sub")
    for number in range(6):
        place, ready = scope("sub", f"category{number}"), threading.Barrier(2)

        def ask(index: int, place: Scope = place, ready: threading.Barrier = ready) -> bytes:
            ready.wait(PATIENCE)
            return vaults[index].dek_for(place)

        with ThreadPoolExecutor(2) as pool:
            assert len(set(pool.map(ask, range(2)))) == 1


def test_two_processes_make_one_subject(keys_engine: Engine, tmp_path: Path) -> None:
    clock = SetClock()
    vaults = [open_vault(keys_engine, tmp_path, clock, worker=f"host:{number}") for number in range(2)]
    for number in range(4):
        ready = threading.Barrier(2)

        def make(index: int, name: str = f"sub{number}", ready: threading.Barrier = ready) -> None:
            ready.wait(PATIENCE)
            vaults[index].create_subject(CONTROLLER, name)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(make, range(2)))
        place = scope(f"sub{number}")
        assert vaults[1].open(place, "r", vaults[0].seal(place, "r", b"x")) == b"x"


def test_a_key_made_while_its_subject_key_is_replaced_is_not_lost(keys_engine: Engine, tmp_path: Path) -> None:
    """Partial shreds and new data keys of one subject, at the same time: every key made opens afterwards."""
    from app.vault.keys import Selector, Target

    clock = SetClock()
    vaults = [open_vault(keys_engine, tmp_path, clock, worker=f"host:{number}") for number in range(2)]
    vaults[0].create_subject(CONTROLLER, "sub")

    def shred() -> None:
        for number in range(5):
            vaults[0].dek_for(scope("sub", "doomed"))
            vaults[0].shred(f"era_{number}", [Target(CONTROLLER, "sub", only=(Selector(category="doomed"),))])
            assert vaults[0].erasures.drive(f"era_{number}") == "certified"

    def seal() -> list[tuple[Scope, bytes]]:
        places = [scope("sub", f"category{number}") for number in range(25)]
        return [(place, vaults[1].seal(place, "r", b"kept")) for place in places]

    with ThreadPoolExecutor(2) as pool:
        shredding, sealing = pool.submit(shred), pool.submit(seal)
        shredding.result(PATIENCE)
        for place, record in sealing.result(PATIENCE):
            assert vaults[1].open(place, "r", record) == b"kept"


# Files and faults


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.sqlite"


@pytest.fixture
def sqlite_store(path: Path) -> SqlKeyStore:
    engine = open_engine(f"sqlite:///{path}", keys=True)
    KeysBase.metadata.create_all(engine)
    return SqlKeyStore(engine)


def test_checkpoint_empties_the_log(sqlite_store: SqlKeyStore, path: Path) -> None:
    with sqlite_store.writing() as tx:
        tx.add_partition(PARTITION)
    log = Path(f"{path}-wal")
    assert log.stat().st_size > 0
    assert sqlite_store.checkpoint()
    assert log.stat().st_size == 0


def test_checkpoint_says_when_a_reader_prevents_it(sqlite_store: SqlKeyStore, path: Path) -> None:
    with sqlite_store.writing() as tx:
        tx.add_partition(PARTITION)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM partitions").fetchall()
    assert not sqlite_store.checkpoint()
    reader.close()
    assert sqlite_store.checkpoint()


def test_scan_reads_database_and_log(sqlite_store: SqlKeyStore, path: Path) -> None:
    sqlite_store.checkpoint()
    with sqlite_store.writing() as tx:
        tx.add_partition(PARTITION)
    assert PARTITION.epoch_wrapped not in path.read_bytes()
    found = sqlite_store.scan([PARTITION.epoch_wrapped[:12], os.urandom(12)])
    assert found.hits == 1
    assert found.files >= 2
    assert found.reason is None
    sqlite_store.checkpoint()
    assert sqlite_store.scan([PARTITION.epoch_wrapped[:12]]).hits == 1
    assert sqlite_store.scan([os.urandom(12)]).hits == 0
    assert sqlite_store.scan([]).hits == 0


def test_scan_sees_across_chunks(sqlite_store: SqlKeyStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needle = b"0123456789ab"
    monkeypatch.setattr("app.store.bytescan.CHUNK", 64)
    Path(f"{path}-journal").write_bytes(b"x" * 58 + needle + b"y" * 100)
    assert sqlite_store.scan([needle]).hits == 1


def test_a_scan_leaves_the_locks_of_the_store_alone(sqlite_store: SqlKeyStore, path: Path) -> None:
    """Another process that comes and goes after a scan must not take the log away from under the one that serves."""
    sqlite_store.scan([b"four bytes"])
    opened = f"import sqlite3; base = sqlite3.connect({str(path)!r}); "
    visit = opened + "base.execute('select 1 from partitions'); base.close()"
    subprocess.run([sys.executable, "-c", visit], check=True)
    with sqlite_store.writing() as tx:
        tx.add_partition(PARTITION)
    assert Path(f"{path}-wal").exists()
    count = opened + "print(base.execute('select count(*) from partitions').fetchone()[0])"
    assert subprocess.run([sys.executable, "-c", count], check=True, capture_output=True).stdout.strip() == b"1"


def test_many_needles_are_found_like_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast search against the plain one, in chunks of every awkward size."""
    random = Random(7)
    needles = [random.randbytes(random.choice((4, 12, 20))) for _ in range(60)]
    path = tmp_path / "file"
    for chunk in (3, 4, 5, 64, 1_000):
        monkeypatch.setattr("app.store.bytescan.CHUNK", chunk)
        there = random.sample(needles, 20)
        path.write_bytes(b"".join(random.randbytes(random.randrange(9)) + each for each in there))
        whole = path.read_bytes()
        assert search(path, needles) == (len(whole), sum(each in whole for each in needles))
        assert search(path, needles)[1] >= 20


def test_what_cannot_be_searched_is_said(keys_engine: Engine) -> None:
    scan = SqlKeyStore(keys_engine).scan([b"x"])
    assert (scan.reason is None) == (keys_engine.dialect.name == "sqlite")


def test_a_store_that_is_away(tmp_path: Path) -> None:
    away = SqlKeyStore(open_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", keys=True))

    def ask() -> None:
        with away.reading() as tx:
            tx.unfinished()

    with pytest.raises(KeyStoreUnavailable):
        ask()


def test_errors_carry_no_key_bytes(filled: SqlKeyStore) -> None:
    def twice() -> None:
        with filled.writing() as tx:
            tx.add_data_key(data_key(9, subject_key()))

    with pytest.raises(KeyStoreUnavailable) as caught:
        twice()
    assert "\\t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_after_a_disk_error_the_store_stops(sqlite_store: SqlKeyStore) -> None:
    """Operations.md section 6: stop, do not retry, never certify."""

    def fail() -> None:
        with sqlite_store.writing():
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    with pytest.raises(DurabilityLost):
        fail()

    def again() -> None:
        with sqlite_store.reading():
            pass

    with pytest.raises(DurabilityLost):
        again()
    with pytest.raises(DurabilityLost):
        sqlite_store.checkpoint()


def test_a_fault_of_another_thread_does_not_open_the_stopped_store_again(sqlite_store: SqlKeyStore) -> None:
    """Whoever was inside already may meet an ordinary fault afterwards."""

    def meet(told: str) -> None:
        with sqlite_store.reading():
            raise OperationalError("SELECT", {}, sqlite3.OperationalError(told))

    def inside_meanwhile() -> None:
        with sqlite_store.reading():
            with pytest.raises(DurabilityLost):
                meet("disk I/O error")
            raise OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked"))

    with pytest.raises(DurabilityLost):
        inside_meanwhile()
    with pytest.raises(DurabilityLost):
        meet("")


def test_a_disk_error_at_the_checkpoint_stops_the_store_too(
    sqlite_store: SqlKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver raises it bare there; never certify after it."""

    def failing() -> bool:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite_store, "_truncate", failing)
    for _ in range(2):
        with pytest.raises(DurabilityLost):
            sqlite_store.checkpoint()
