"""Erasures in batches, and old roots that are kept for backups (vault.md section 5), on both databases."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.vault.certificate import DESTROYED, REMOVED, canonical
from app.vault.core import Vault
from app.vault.errors import Erased, KeyDamaged, PartitionBusy, ProviderUnavailable, RootDestroyed
from app.vault.guarding import Reason, Terms, Wait
from app.vault.keys import Keep, KeyClass, Selector, Target
from app.vault.ports import ErasureState, RootDescription, RootState
from app.vault.providers.file import FileKeyring
from tests.databases import metadata
from tests.mechanism.vaults import CONTROLLER, SetClock, digest_sign, keyring, open_vault, scope

PEOPLE = [f"sub_{number}" for number in range(8)]
"""Four in each of two partitions."""
GONE = (PEOPLE[0], PEOPLE[1], PEOPLE[5])
QUARTERLY = Terms(batch=timedelta(minutes=15))
WINDOW = timedelta(hours=24)


class Town:
    def __init__(self, engine: Engine, folder: Path, terms: Terms, provider: FileKeyring | None = None) -> None:
        self.engine, self.folder, self.terms = engine, folder, terms
        self.clock = SetClock()
        self.clock.pass_(minutes=7)
        self.vault = self.opened(provider=provider)
        self.vault.create_subjects(CONTROLLER, PEOPLE)
        self.records = {each: self.vault.seal(scope(each), "r", each.encode()) for each in PEOPLE}

    def opened(self, *, worker: str = "host:0", provider: FileKeyring | None = None) -> Vault:
        common = {"terms": self.terms, "per_partition": 4, "worker": worker, "provider": provider}
        return open_vault(self.engine, self.folder, self.clock, **common)  # type: ignore[arg-type]

    def ask(self, *subjects: str) -> list[str]:
        for each in subjects:
            self.vault.shred(f"era_{each}", [Target(CONTROLLER, each)])
        return [f"era_{each}" for each in subjects]

    def opens(self, subject: str, vault: Vault | None = None) -> bool:
        opened = (vault or self.vault).open(scope(subject), "r", self.records[subject])
        return opened == subject.encode()

    def check_end(self, *gone: str) -> None:
        for each in gone:
            with pytest.raises(Erased):
                self.opens(each)
        assert all(self.opens(each) for each in PEOPLE if each not in gone)

    def generations(self) -> list[int]:
        with self.engine.connect() as connection:
            asked = "SELECT generation FROM partitions WHERE key_class = 'data' ORDER BY number"
            return list(connection.execute(text(asked)).scalars())

    def claims(self) -> int:
        with self.engine.connect() as connection:
            asked = "SELECT count(*) FROM partitions WHERE claimed_by IS NOT NULL"
            return int(connection.execute(text(asked)).scalar_one())


@pytest.fixture
def town(keys_engine: Engine, tmp_path: Path) -> Town:
    return Town(keys_engine, tmp_path, QUARTERLY)


def test_one_re_wrap_for_all_that_wait(town: Town) -> None:
    """Refused at once; at the quarter each partition is re-wrapped once; each has a certificate of its own."""
    asked = town.ask(*GONE)
    quarter = town.clock.now() + timedelta(minutes=8)
    for erasure in asked:
        assert town.vault.erasures.drive(erasure) == "key_row_removed"
        assert town.vault.erasures.waits(erasure) == Wait(Reason.BATCH, quarter)
    town.check_end(*GONE)
    assert town.generations() == [1, 1]
    town.clock.pass_(minutes=8)
    assert town.vault.erasures.drive(asked[1]) == "certified"
    assert town.vault.erasures.pending() == ()
    assert town.generations() == [2, 2]
    assert town.claims() == 0
    town.check_end(*GONE)
    for erasure, subject in zip(asked, GONE, strict=True):
        (certificate,) = town.vault.erasures.certificates(erasure)
        assert (certificate["erasure"], certificate["subject"]) == (erasure, subject)
        (site,) = certificate["partitions"]  # type: ignore[misc]
        assert (site["generation_before"], site["generation_after"]) == (1, 2)
        assert site["old_root"]["state"] == "destroyed"
        scan = town.vault.erasures.journal(erasure).scan
        assert scan is not None
        assert scan.hits == 0


def test_now(town: Town) -> None:
    """`--now` waits for no quarter; whoever asks later has a batch of their own."""
    asked = town.ask(*GONE)
    driven = town.vault.erasures.drive_all(now=True)
    assert sorted(driven.ended) == sorted(asked)
    assert (driven.left, driven.stopped) == ((), {})
    assert town.generations() == [2, 2]
    (late,) = town.ask(PEOPLE[2])
    assert town.vault.erasures.drive_all().left == (late,)
    assert town.vault.erasures.drive(late, now=True) == "certified"
    assert town.generations() == [3, 2]
    town.check_end(*GONE, PEOPLE[2])


def test_parts_and_the_whole_of_one_person_in_one_batch(town: Town) -> None:
    """A part, what the law keeps, and a neighbour, driven together: each takes what it named and nothing else."""
    loans, papers = scope(PEOPLE[0], "loans"), scope(PEOPLE[1], "papers")
    sealed = {place: town.vault.seal(place, "r", b"x") for place in (loans, papers)}
    town.vault.shred("era_part", [Target(CONTROLLER, PEOPLE[0], only=(Selector(category="loans"),))])
    town.ask(PEOPLE[0])
    keep = Keep(Selector(category="papers"), date(2031, 3, 1), "law")
    town.vault.shred("era_kept", [Target(CONTROLLER, PEOPLE[1], keep=(keep,))])
    assert sorted(town.vault.erasures.drive_all(now=True).ended) == ["era_kept", "era_part", "era_sub_0"]
    assert town.generations() == [2, 1]
    town.vault.epochs.forget()
    assert town.vault.open(papers, "r", sealed[papers]) == b"x"
    with pytest.raises(Erased):
        town.vault.open(loans, "r", sealed[loans])
    town.check_end(PEOPLE[0], PEOPLE[1])
    (part,) = town.vault.erasures.certificates("era_part")
    assert [key["category"] for key in part["destroyed"][0]["data_keys"]] == ["loans"]  # type: ignore[call-overload, index, union-attr]


def test_the_minute_sweep_leaves_alone_what_somebody_drives(town: Town) -> None:
    (erasure,) = town.ask(PEOPLE[0])
    assert town.vault.erasures.drive_all(now=True, idle=timedelta(minutes=1)).ended == ()
    town.clock.pass_(minutes=1)
    assert town.vault.erasures.drive_all(now=True, idle=timedelta(minutes=1)).ended == (erasure,)


def test_a_busy_partition_keeps_only_its_own_waiting(town: Town) -> None:
    town.ask(*GONE)
    store = SqlKeyStore(town.engine)
    with store.writing() as tx:
        assert tx.claim(KeyClass.DATA, 1, "somebody")
    driven = town.vault.erasures.drive_all(now=True)
    assert sorted(driven.ended) == ["era_sub_0", "era_sub_1"]
    assert driven.stopped == {"era_sub_5": PartitionBusy.code}
    with store.writing() as tx:
        tx.release("somebody")
    assert town.vault.erasures.drive_all(now=True).ended == ("era_sub_5",)
    town.check_end(*GONE)


def test_a_broken_partition_stops_only_its_own(town: Town) -> None:
    """A survivor that does not open keeps its partition as it is; the others of the batch go on without it."""
    town.ask(*GONE)
    with town.engine.begin() as connection:
        change = "UPDATE subject_keys SET wrapped = :w WHERE subject = 'sub_6' AND key_class = 'data'"
        asked = "SELECT wrapped FROM subject_keys WHERE subject = 'sub_6' AND key_class = 'data'"
        whole = bytes(connection.execute(text(asked)).scalar_one())
        connection.execute(text(change), {"w": whole[:-1] + bytes([whole[-1] ^ 1])})
    for _ in range(2):
        driven = town.vault.erasures.drive_all(now=True)
    assert driven.left == ("era_sub_5",)
    assert driven.stopped == {"era_sub_5": KeyDamaged.code}
    assert town.generations() == [3, 1], "once parted, each goes by itself"
    assert len(town.vault.erasures.certificates("era_sub_0")) == 1
    with town.engine.begin() as connection:
        connection.execute(text(change), {"w": whole})
    assert town.vault.erasures.drive_all(now=True).ended == ("era_sub_5",)
    town.check_end(*GONE)


def test_many_drivers_at_once(town: Town) -> None:
    """Threads of one process and another process's worker: every erasure ends once, nobody is lost."""
    asked = town.ask(*GONE, PEOPLE[2], PEOPLE[7])
    other = town.opened(worker="host:1", provider=None)

    def drive(number: int) -> None:
        erasures = (town.vault if number % 2 else other).erasures
        for _ in range(40):
            for erasure in asked:
                with suppress(PartitionBusy):
                    erasures.drive(erasure, now=True)
            if not erasures.pending():
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drive, range(4)))
    assert town.vault.erasures.pending() == ()
    assert town.claims() == 0
    assert all(len(town.vault.erasures.certificates(erasure)) == 1 for erasure in asked)
    town.check_end(*GONE, PEOPLE[2], PEOPLE[7])


@pytest.fixture(scope="module")
def killer() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.mechanism.erasure_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    "points",
    [
        [
            ("inside", "rewrapped"),
            ("after", "verified"),
            ("inside", "committed"),
            ("after", "committed"),
            ("inside", "old_root_destroyed"),
            ("after", "scanned"),
            ("inside", "certified"),
        ]
    ],
)
def test_a_batch_killed_at_every_step(
    killer: subprocess.Popen[str],
    keys_engine: Engine,
    laid_keys_url: str,
    tmp_path: Path,
    points: list[tuple[str, str]],
) -> None:
    """One batch, killed by SIGKILL before a commit and after one, again and again: the same end as without."""
    town = Town(keys_engine, tmp_path, Terms())
    town.clock.at = SetClock().at
    town.vault.shred("era_1", [Target(CONTROLLER, PEOPLE[0])])
    town.vault.shred("era_2", [Target(CONTROLLER, PEOPLE[1])])
    town.vault.shred("era_3", [Target(CONTROLLER, PEOPLE[5])])
    for erasure in ("era_2", "era_3"):
        assert [town.vault.erasures.advance(erasure) for _ in range(2)][-1] == "key_row_removed"
    assert killer.stdin is not None
    assert killer.stdout is not None
    for moment, state in points:
        case = {"url": laid_keys_url, "folder": str(tmp_path), "moment": moment, "state": state}
        killer.stdin.write(json.dumps(case) + "\n")
        killer.stdin.flush()
        assert int(killer.stdout.readline()) == -signal.SIGKILL, (moment, state)
    assert town.opened().erasures.drive("era_1") == "certified"
    assert town.vault.erasures.pending() == ()
    assert town.generations() == [2, 2]
    assert town.claims() == 0
    assert {town.vault.erasures.journal(f"era_{number}").batch for number in (1, 2, 3)} == {"era_1"}
    town.vault.epochs.forget()
    town.check_end(*GONE)


# Old roots that are kept for backups


def copied(engine: Engine, folder: Path) -> Engine:
    """Take a backup of the key store and open it as one that was restored."""
    path = folder / "restored.sqlite"
    if engine.dialect.name == "sqlite":
        source, copy = sqlite3.connect(str(engine.url.database)), sqlite3.connect(path)
        source.backup(copy)
        source.close()
        copy.close()
        return open_engine(f"sqlite:///{path}", keys=True)
    restored = open_engine(f"sqlite:///{path}", keys=True)
    metadata("keys").create_all(restored)
    with engine.connect() as source, restored.begin() as copy:
        for table in metadata("keys").sorted_tables:
            rows = [dict(row) for row in source.execute(table.select()).mappings()]
            if rows:
                copy.execute(table.insert(), rows)
    return restored


@pytest.fixture
def keeping(keys_engine: Engine, tmp_path: Path) -> Town:
    return Town(keys_engine, tmp_path, Terms(window=WINDOW))


def test_a_backup_restores_survivors_within_the_window_and_nobody_says_otherwise(keeping: Town) -> None:
    """Within it the backup opens the erased too: the certificate says so, with the date; after it, nothing does."""
    town = keeping
    backup = open_vault(copied(town.engine, town.folder), town.folder, town.clock, per_partition=4)
    asked = town.ask(PEOPLE[0], PEOPLE[1])
    committed = town.clock.now()
    town.vault.erasures.drive_all(now=True)
    town.check_end(PEOPLE[0], PEOPLE[1])
    assert town.opens(PEOPLE[2], backup)
    assert town.opens(PEOPLE[0], backup)
    (certificate,) = town.vault.erasures.certificates(asked[0])
    promised = (committed + WINDOW).isoformat(timespec="seconds")
    assert certificate["statement"] == REMOVED
    assert certificate["irrevocable_at"] == promised
    (site,) = certificate["partitions"]  # type: ignore[misc]
    assert (site["old_root"]["state"], site["old_root"]["kept_until"]) == ("active", promised)
    assert any("backup" in sentence for sentence in certificate["does_not_prove"])  # type: ignore[union-attr]

    town.clock.pass_(hours=23, minutes=59)
    waiting = town.vault.erasures.end_windows()
    assert (waiting.ended, sorted(waiting.left)) == ((), asked)
    town.clock.pass_(minutes=1)
    assert sorted(town.vault.erasures.end_windows().ended) == asked
    assert town.vault.erasures.end_windows().ended == ()
    backup.epochs.forget()
    for subject in (PEOPLE[0], PEOPLE[2]):
        with pytest.raises(RootDestroyed):
            town.opens(subject, backup)
    town.check_end(PEOPLE[0], PEOPLE[1])
    (completion,) = town.vault.erasures.completions(asked[0])
    assert completion["statement"] == DESTROYED
    assert completion["certificate"] == hashlib.sha256(canonical(certificate)).hexdigest()
    assert completion["irrevocable_at"] == promised
    unsigned = {name: value for name, value in completion.items() if name != "signature"}
    assert completion["signature"] == digest_sign(canonical(unsigned))
    assert town.vault.erasures.certificates(asked[0]) == (certificate,), "what was handed out stays as it was"


def test_erasures_go_on_while_roots_are_kept(keeping: Town) -> None:
    for hour, subject in enumerate(GONE[:2]):
        town = keeping
        town.clock.pass_(hours=hour)
        assert town.vault.erasures.drive(*town.ask(subject)) == "certified"
    assert keeping.generations() == [3, 1]
    keeping.clock.pass_(hours=23)
    assert keeping.vault.erasures.end_windows().ended == ("era_sub_0",)
    keeping.clock.pass_(hours=1)
    assert keeping.vault.erasures.end_windows().ended == ("era_sub_1",)
    keeping.vault.epochs.forget()
    keeping.check_end(*GONE[:2])


def test_without_a_window_nothing_is_kept_and_nothing_completed(keys_engine: Engine, tmp_path: Path) -> None:
    town = Town(keys_engine, tmp_path, Terms())
    (erasure,) = town.ask(PEOPLE[0])
    assert town.vault.erasures.drive(erasure) == "certified"
    (certificate,) = town.vault.erasures.certificates(erasure)
    assert certificate["statement"] == DESTROYED
    assert "kept_until" not in certificate["partitions"][0]["old_root"]  # type: ignore[call-overload, index]
    town.clock.pass_(days=30)
    assert town.vault.erasures.end_windows().ended == ()
    assert town.vault.erasures.completions(erasure) == ()


class Slow(FileKeyring):
    """The file keyring as a cloud's: what it is told to destroy is shut at once and gone for good a week later."""

    away = False

    def destroy(self, root: str) -> None:
        if self.away:
            raise ProviderUnavailable
        super().destroy(root)

    def describe(self, root: str) -> RootDescription:
        told = super().describe(root)
        if told.state is RootState.ACTIVE or told.irrevocable_at is None:
            return told
        return replace(told, state=RootState.SCHEDULED, irrevocable_at=told.irrevocable_at + timedelta(days=7))


def test_the_promise_is_the_window_and_the_providers_delay(keys_engine: Engine, tmp_path: Path) -> None:
    """Killed or refused between the steps of the end of a window, it is taken up again."""
    clock = SetClock()
    keyring(tmp_path, clock)
    slow = Slow(tmp_path / "keyring", clock=clock, random=lambda size: b"r" * size)
    slow._random = keyring(tmp_path, clock)._random
    town = Town(keys_engine, tmp_path, Terms(window=WINDOW, provider_delay=timedelta(days=7)), slow)
    town.clock.at = clock.at
    (erasure,) = town.ask(PEOPLE[0])
    assert town.vault.erasures.drive(erasure) == "certified"
    (certificate,) = town.vault.erasures.certificates(erasure)
    assert certificate["irrevocable_at"] == (clock.now() + timedelta(days=8)).isoformat(timespec="seconds")
    for each in (clock, town.clock):
        each.pass_(hours=24)
    slow.away = True
    stopped = town.vault.erasures.end_windows()
    assert (stopped.ended, stopped.left, stopped.stopped) == ((), (erasure,), {erasure: ProviderUnavailable.code})
    slow.away = False
    root = town.vault.erasures.journal(erasure).sites[0].old_root
    assert root is not None
    slow.destroy(root)  # killed after the provider was told, before it was noted
    assert town.vault.erasures.end_windows().ended == (erasure,)
    (completion,) = town.vault.erasures.completions(erasure)
    assert completion["irrevocable_at"] == certificate["irrevocable_at"]
    assert completion["partitions"][0]["old_root"]["state"] == "scheduled"  # type: ignore[call-overload, index]
    assert town.vault.erasures.state(erasure) is ErasureState.CERTIFIED
