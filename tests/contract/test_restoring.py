"""A restored backup cannot undo an erasure: what it brought back is gone before anything is served (vault.md 5)."""

from __future__ import annotations

import copy
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.profiles import CATEGORY, HOUSE
from app.settings import Secret
from app.store.restores import SqlMark
from app.store.rows.restores import KeysMarkRow
from app.vault.errors import (
    Erased,
    PartitionsShut,
    ProviderUnavailable,
    TombstonesDamaged,
    TombstonesLost,
    VaultError,
)
from app.vault.keys import SUBJECT_CLASSES, Basis, Keep, Scope, Selector, Target
from app.vault.ports import ErasureState
from app.vault.tombstones import Tombstones
from app.wiring import House, application, build
from app.wiring.restoring import KIND, Replayed
from consent.record import State
from tests.contract.backups import copied_database
from tests.doors.api_house import BALANCES, HOLDER, START, Agreed, ApiHouse
from tests.waiting import wait

once = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""What does not depend on the database: the log, the law, the look at the partitions."""
PROFILE = Selector(holder=HOUSE, category=CATEGORY)


@dataclass
class Town:
    """A house, and what an operator does to it: copies, restores, opens again."""

    at: ApiHouse
    copies: ExitStack
    folder: Path
    opened: list[ApiHouse] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.at.house.settings.data_dir

    def copy(self, url: Secret) -> Secret:
        """A backup of one database, as the address of a database of its own."""
        self.close()
        path = self.folder / f"copy{len(list(self.folder.glob('copy*')))}.sqlite"
        copied = self.copies.enter_context(copied_database(url.reveal(), path))
        return Secret(copied)

    def records(self) -> Secret:
        return self.copy(self.at.house.settings.records_url)

    def keys(self) -> Secret:
        return self.copy(self.at.house.settings.keys_url)

    def close(self) -> None:
        """Every process ends: a database is copied and restored at rest."""
        for each in (self.at, *self.opened):
            each.house.close()

    def open(self, **urls: Secret) -> ApiHouse:
        """Another process over the same folder, with restored databases in the place of what is named."""
        other = copy.copy(self.at)
        other.house = build(replace(self.at.house.settings, **urls))
        self.opened.append(other)
        return other

    def serve(self, other: ApiHouse) -> Replayed:
        done = other.house.restoring.before_serving()
        other.app = application(other.house)
        other.web = other.app.test_client()
        return done

    def shred(self, *targets: Target, name: str = "era_1") -> None:
        vault = self.at.house.vault
        vault.shred(name, targets)
        vault.erasures.acknowledge(name)
        assert vault.erasures.drive(name, now=True) is ErasureState.CERTIFIED

    def erase(self, agreed: Agreed, *keep: Keep) -> None:
        self.shred(Target(self.at.house.controller, agreed.subject, keep=keep))

    def scope(self, agreed: Agreed) -> Scope:
        return Scope(self.at.house.controller, agreed.subject, HOLDER, BALANCES, basis=Basis.CONSENT)


@pytest.fixture
def town(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    with ExitStack() as copies:
        built = Town(ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch), copies, tmp_path)
        built.at.house.restoring.before_serving()
        yield built
        built.close()


def kinds(at: ApiHouse) -> list[str]:
    return [row["kind"] for row in at.rows("ledger_entries")]


def found(at: ApiHouse, email: str) -> str | None:
    return at.house.profiles.find_by_email(at.house.controller, email)


def open_ways_in(town: Town, agreed: Agreed) -> None:
    """A session, a pending sign-in, a passkey and a printed code."""
    at, now = town.at, START
    whose = {"kind": "subject", "person": agreed.subject, "controller": at.house.controller}
    life = {"idle": timedelta(hours=1), "longest": timedelta(hours=8)}
    with at.house.units.writing() as unit:
        unit.sessions.open("s" * 64, **whose, level=1, proven_at=None, credential=None, now=now, **life)
        links = {"link_digest": "l" * 64, "ticket_digest": "t" * 64, "onward": None}
        soon = now + timedelta(minutes=10)
        who = {"subject": agreed.subject, "controller": at.house.controller}
        unit.sign_ins.start("sgn_1", **who, **links, now=now, expires_at=soon)
        unit.passkeys.add("pk_1", **whose, public_key=b"k", sign_count=0, now=now, usable_from=now)
        unit.enrolments.issue("e" * 64, **whose, now=now, expires_at=soon, cooling=timedelta(0))
        unit.commit()


def ways_in(at: ApiHouse, agreed: Agreed) -> list[str]:
    with at.house.units.reading() as unit:
        still = {
            "session": unit.sessions.find("s" * 64, START),
            "link": unit.sign_ins.peek("l" * 64, START),
            "passkey": unit.passkeys.of("subject", agreed.subject),
            "code": unit.enrolments.find("e" * 64, START),
            "handle": unit.subjects.handle_of(agreed.subject, HOLDER),
        }
    return [name for name, one in still.items() if one]


def state(at: ApiHouse, agreed: Agreed) -> State:
    with at.house.units.reading() as unit:
        record = unit.consents.find(at.house.controller, agreed.consent)
    assert record is not None
    return record.state_at(START)


def test_restored_records_forget_again_before_serving(town: Town) -> None:
    """Sign-in finds nobody, every way in is closed, tokens of before are dead; the others notice nothing."""
    ana, ben = town.at.agree(), town.at.agree("ben@example.org")
    open_ways_in(town, ana)
    tokens = town.at.token(ana), town.at.token(ben)
    assert [town.at.lease(each, token).status_code for each, token in zip((ana, ben), tokens, strict=True)] == [
        200,
        200,
    ]
    backup = town.records()
    town.erase(ana)

    restored = town.open(records_url=backup)
    assert found(restored, "ana@example.org") == ana.subject, "the backup really brought her back"
    assert ways_in(restored, ana) == ["session", "link", "passkey", "code", "handle"]
    assert state(restored, ana) is State.ACTIVE
    assert town.serve(restored) == Replayed(subjects=1, agreements=1)

    assert found(restored, "ana@example.org") is None
    assert restored.house.profiles.profile(ana.subject) is None
    assert ways_in(restored, ana) == []
    assert state(restored, ana) is State.ENDED_BY_CONTROLLER
    assert restored.lease(ana, tokens[0]).status_code in (403, 404, 410)
    assert found(restored, "ben@example.org") == ben.subject
    assert restored.lease(ben, tokens[1]).status_code == 200
    assert kinds(restored).count(KIND) == 1
    restored.house.ledger.integrate()
    assert restored.house.ledger.audit() == []
    assert town.serve(restored) == Replayed()
    assert kinds(restored).count(KIND) == 1


@once
def test_what_is_retained_stays_and_its_agreements_end(town: Town) -> None:
    """Dsar rule 49: a profile kept by law is not forgotten by a restore either; nothing is read on an agreement."""
    ana = town.at.agree()
    backup = town.records()
    town.erase(ana, Keep(PROFILE, date(2031, 1, 1), "L.561-12"))
    restored = town.open(records_url=backup)
    assert town.serve(restored) == Replayed(agreements=1)
    assert found(restored, "ana@example.org") == ana.subject
    assert restored.house.profiles.profile(ana.subject) is not None
    assert state(restored, ana) is State.ENDED_BY_CONTROLLER


@once
def test_the_end_of_a_retention_is_not_undone(town: Town) -> None:
    ana = town.at.agree()
    town.erase(ana, Keep(PROFILE, date(2031, 1, 1), "L.561-12"))
    backup = town.records()
    town.shred(Target(town.at.house.controller, ana.subject, only=(PROFILE,)), name="era_ret_1")
    restored = town.open(records_url=backup)
    assert town.serve(restored).subjects == 1
    assert found(restored, "ana@example.org") is None


@once
def test_a_withdrawal_that_destroyed_data_is_not_undone(town: Town) -> None:
    """Her agreement is alive again in the backup; the shred is named after it. Her others are left alone."""
    ana, other = town.at.agree(), town.at.agree(party=HOLDER)
    assert ana.subject == other.subject
    town.at.house.vault.seal(town.scope(ana), "r", b"1")
    backup = town.records()
    only = (Selector(category=BALANCES, basis=Basis.CONSENT),)
    town.shred(Target(town.at.house.controller, ana.subject, only=only), name=f"era_{ana.consent}")
    restored = town.open(records_url=backup)
    assert town.serve(restored) == Replayed(agreements=1)
    assert state(restored, ana) is State.ENDED_BY_CONTROLLER
    assert state(restored, other) is State.ACTIVE
    assert found(restored, "ana@example.org") == ana.subject


@once
def test_somebody_whose_audit_keys_are_gone_too_is_forgotten_again(town: Town) -> None:
    """The last retention has ended: the entry rests under the controller's own keys, and names nobody."""
    ana = town.at.agree()
    backup = town.records()
    town.shred(Target(town.at.house.controller, ana.subject, classes=SUBJECT_CLASSES))
    restored = town.open(records_url=backup)
    assert town.serve(restored) == Replayed(subjects=1, agreements=1)
    last = [row for row in restored.rows("ledger_entries") if row["kind"] == "consent.ended_by_controller"]
    assert [row["subject"] for row in last] == [None]


def test_everything_restored_but_the_tombstones(town: Town) -> None:
    """Even the keyring came back: the erased are erased again, the others open, and the ledger says so."""
    ana, ben = town.at.agree(), town.at.agree("ben@example.org")
    hers, his = (town.at.house.vault.seal(town.scope(each), "r", b"1") for each in (ana, ben))
    keys, records = town.keys(), town.records()
    shutil.copy(town.data / "keyring", town.folder / "keyring")
    town.erase(ana)
    town.close()
    shutil.copy(town.folder / "keyring", town.data / "keyring")

    restored = town.open(keys_url=keys, records_url=records)
    vault = restored.house.vault
    assert vault.open(town.scope(ana), "r", hers) == b"1", "the backups really brought her back"
    assert town.serve(restored) == Replayed(("era_1.replay",), subjects=1, agreements=1)
    with pytest.raises(Erased):
        vault.open(town.scope(ana), "r", hers)
    assert vault.erasures.state("era_1.replay") is ErasureState.CERTIFIED
    assert vault.open(town.scope(ben), "r", his) == b"1"
    assert found(restored, "ben@example.org") == ben.subject
    assert kinds(restored).count(KIND) == 2
    assert town.serve(restored) == Replayed()


@once
def test_keys_older_than_the_erased_never_make_keys_for_them_again(town: Town) -> None:
    """The key store's backup is from before she came: it has to be told that she was erased."""
    backup = town.keys()
    shutil.copy(town.data / "keyring", town.folder / "keyring")
    ana = town.at.agree()
    town.erase(ana)
    town.close()
    shutil.copy(town.folder / "keyring", town.data / "keyring")
    restored = town.open(keys_url=backup)
    assert town.serve(restored) == Replayed(subjects=1, agreements=1)
    with pytest.raises(Erased):
        restored.house.vault.dek_for(town.scope(ana))


@once
def test_a_backup_of_the_keys_with_todays_provider_is_refused_with_a_report(town: Town) -> None:
    """Its partitions were re-wrapped since: said at the start, not person by person, and nothing was changed."""
    ana, ben = town.at.agree(), town.at.agree("ben@example.org")
    his = town.at.house.vault.seal(town.scope(ben), "r", b"1")
    keys = town.keys()
    town.erase(ana)
    restored = town.open(keys_url=keys)
    with pytest.raises(PartitionsShut) as refused:
        restored.house.start()
    # the house's own subject is the third; the audit and index partitions still open
    assert "1 partition of the key store does not open" in str(refused.value)
    assert "data/0 (root_destroyed, 3 subject keys)" in str(refused.value)
    assert "docs/runbooks/restore.md" in str(refused.value)
    assert not restored.house.restoring.sound()
    assert restored.house.vault.erasures.pending() == ()
    with pytest.raises(VaultError):
        restored.house.vault.open(town.scope(ben), "r", his)

    live = town.open()
    assert town.serve(live) == Replayed(subjects=1, agreements=1), "her records are live and were not forgotten yet"
    assert live.house.vault.open(town.scope(ben), "r", his) == b"1"


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@once
def test_a_log_that_is_not_the_one_is_refused(town: Town) -> None:
    """Whoever restores the tombstone file too, or loses it, is told before anything is served."""
    log, old = town.data / "tombstones", (town.data / "tombstones").read_bytes()
    assert old.count(b"\n") == 1, "the log is named before anybody is erased, so that its loss is seen"
    town.erase(town.at.agree())
    town.serve(town.open())
    whole, entries = log.read_bytes(), kinds(town.at)
    other = Tombstones(town.folder / "other")
    other.found(os.urandom)
    other.append(Tombstones(log).read())
    found_wrong = {
        "shorter": (old, TombstonesLost),
        "empty": (b"", TombstonesLost),
        "another": ((town.folder / "other").read_bytes(), TombstonesLost),
        "damaged before the marks": (changed(whole, 10), TombstonesDamaged),
        "damaged at the marks": (changed(whole, len(whole) - 100), TombstonesDamaged),
        "damaged in the last checksum": (changed(whole, len(whole) - 5), TombstonesDamaged),
        "damaged after the marks": (whole + b'{"log":"0","check":"0"}\n', TombstonesDamaged),
        "missing": (None, TombstonesLost),
    }
    for wrong, (content, refusal) in found_wrong.items():
        log.unlink(missing_ok=True)
        if content is not None:
            log.write_bytes(content)
        refused = town.open()
        with pytest.raises(refusal, match=r"docs/runbooks/restore\.md"):
            refused.house.start()
        assert not refused.house.restoring.sound(), wrong
    log.write_bytes(whole)
    again = town.open()
    assert town.serve(again) == Replayed()
    assert again.house.restoring.sound()
    assert kinds(again) == entries, "a normal start enters nothing"


def test_an_older_log_is_noticed_within_the_minute_and_at_the_next_start(town: Town) -> None:
    """The marks follow the log while the service runs: a copy from before an erasure is not accepted afterwards."""
    log, serving = town.data / "tombstones", town.at.house.restoring
    assert serving.keep_up() == 0, "nothing was erased: nothing is written"
    town.erase(town.at.agree())
    old = log.read_bytes()
    assert serving.keep_up() == 2
    assert serving.keep_up() == 0
    town.shred(Target(town.at.house.controller, town.at.agree("ben@example.org").subject), name="era_2")
    whole = log.read_bytes()
    assert serving.keep_up() == 2

    for wrong in (old, None):
        log.unlink()
        if wrong is not None:
            log.write_bytes(wrong)
        assert serving.keep_up() == 0
        assert not serving.sound(), "the service says so at once"
        with pytest.raises(TombstonesLost):
            town.open().house.restoring.before_serving()
    log.write_bytes(whole)
    assert serving.keep_up() == 0
    assert serving.sound()


@once
def test_the_marks_are_moved_by_the_minutes_sweep(town: Town) -> None:
    running = town.at.house
    town.erase(town.at.agree())
    running.work.launch(sweep_when="* * * * * *")
    try:
        wait(lambda: marked(running) >= (town.data / "tombstones").stat().st_size)
    finally:
        running.work.stop()


def marked(house: House) -> int:
    with house.keys.connect() as connection:
        mark = SqlMark(connection, KeysMarkRow).read()
    return mark.upto if mark else 0


@once
def test_marks_stay_where_they_are_before_everything_is_replayed(town: Town) -> None:
    """Else the minute of one process would hide from another what a restored backup brought back."""
    ana = town.at.agree()
    backup = town.records()
    town.erase(ana)
    restored = town.open(records_url=backup)
    assert restored.house.restoring.keep_up() == 0
    assert town.serve(restored) == Replayed(subjects=1, agreements=1)


def test_a_backup_put_in_place_under_a_service_that_runs(town: Town) -> None:
    """Its old mark is left alone, so that the next start replays; this service is not ready any more."""
    with town.at.house.keys.begin() as connection:
        old = SqlMark(connection, KeysMarkRow).read()
    assert old is not None
    town.erase(town.at.agree())
    serving = town.at.house.restoring
    assert serving.keep_up() == 2
    assert serving.sound()
    with town.at.house.keys.begin() as connection:
        SqlMark(connection, KeysMarkRow).move(old, START)
    assert serving.keep_up() == 0
    assert not serving.sound()
    with town.at.house.keys.begin() as connection:
        assert SqlMark(connection, KeysMarkRow).read() == old


@once
def test_a_backup_from_between_a_tombstone_and_the_erasures_end(town: Town) -> None:
    """The mark is past the tombstone, and the restored key store holds the erasure itself, which goes on."""
    ana, ben = town.at.agree(), town.at.agree("ben@example.org")
    hers, his = (town.at.house.vault.seal(town.scope(each), "r", b"1") for each in (ana, ben))
    vault = town.at.house.vault
    vault.shred("era_1", [Target(town.at.house.controller, ana.subject)])
    vault.erasures.acknowledge("era_1")
    while vault.erasures.advance("era_1") is not ErasureState.KEY_ROW_REMOVED:
        pass
    assert town.at.house.restoring.keep_up() == 2
    backup = town.keys()

    restored = town.open(keys_url=backup)
    town.serve(restored)
    assert restored.house.vault.erasures.pending() == ("era_1",)
    with pytest.raises(Erased):
        restored.house.vault.open(town.scope(ana), "r", hers)
    assert restored.house.vault.erasures.drive_all().ended == ("era_1",), "as the minute's sweep of erasures does"
    assert restored.house.vault.open(town.scope(ben), "r", his) == b"1"


def test_two_processes_start_at_once(town: Town) -> None:
    people = [town.at.agree(f"p{n}@example.org") for n in range(4)]
    backup = town.records()
    town.shred(*(Target(town.at.house.controller, each.subject) for each in people))
    both, done = [town.open(records_url=backup) for _ in range(2)], []
    threads = [threading.Thread(target=lambda at=at: done.append(at.house.restoring.before_serving())) for at in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.subjects for each in done) == [0, 4]
    assert kinds(both[0]).count(KIND) == 1


@once
def test_a_provider_that_is_away_is_looked_at_when_it_is_back(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to replay: the service starts, and is not ready before every partition was seen to open."""

    def away(*_: object) -> None:
        raise ProviderUnavailable

    other = town.open()
    monkeypatch.setattr(other.house.vault.epochs, "fetch", away)
    assert other.house.restoring.before_serving() == Replayed()
    assert not other.house.restoring.sound()
    monkeypatch.undo()
    assert other.house.restoring.sound()
