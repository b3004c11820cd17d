"""One erasure with a cloud's key service, told once for each of them: certified while the root waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Engine

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.vault.core import Vault
from app.vault.errors import Erased, ProviderUnavailable, RootDestroyed, RootStillAlive
from app.vault.keys import KeyClass, Target
from app.vault.ports import ErasureState, KeyProvider, RootName, RootState
from app.vault.wrapping import epoch_name
from tests.databases import sqlite_database
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope

GONE, KEPT = "sub_gone", "sub_kept"


class CloudStory:
    """Two subjects, a sealed record each, and a provider in somebody's cloud."""

    def __init__(self, engine: Engine, folder: Path, clock: SetClock, make: Callable[[], KeyProvider]) -> None:
        self.clock, self._make = clock, make
        self._engine, self._folder = engine, folder
        self.vault = self.started()
        self.vault.create_subjects(CONTROLLER, [GONE, KEPT])
        self.records = {each: self.vault.seal(scope(each), "r", each.encode()) for each in (GONE, KEPT)}
        with SqlKeyStore(engine).reading() as tx:
            partition = tx.partition(KeyClass.DATA, 0)
        assert partition is not None
        self.before = partition

    def started(self) -> Vault:
        """The vault of a service that has just been started: no key in memory."""
        return open_vault(self._engine, self._folder, self.clock, provider=self._make())

    def opens(self, subject: str) -> bool:
        return self.started().open(scope(subject), "r", self.records[subject]) == subject.encode()

    def ask(self) -> None:
        self.vault.shred("era_1", [Target(CONTROLLER, GONE)])

    def assert_certified(self, window: timedelta) -> None:
        """Irrevocable when the window ends, shut now, and everybody else open; then gone for good."""
        (certificate,) = self.vault.erasures.certificates("era_1")
        (site,) = certificate["partitions"]
        root = site["old_root"]
        end = self.clock.now() + window
        assert root["state"] == "scheduled"
        assert root["irrevocable_at"] == certificate["irrevocable_at"] == end.isoformat(timespec="seconds")
        assert root["assurance"] == f"C: unusable now, irrevocable on {end:%Y-%m-%d}"
        assert root["evidence"]["root"] == self.before.root
        self._assert_shut()
        self.clock.pass_(seconds=window.total_seconds() + 60)
        self._assert_shut()
        told = self._make().describe(self.before.root)
        assert told.state is RootState.DESTROYED
        assert told.irrevocable_at is not None
        assert abs(told.irrevocable_at - end) < timedelta(seconds=1)

    def _assert_shut(self) -> None:
        assert self.opens(KEPT)
        with pytest.raises(Erased):
            self.opens(GONE)
        with pytest.raises(RootDestroyed):
            self._make().unwrap(self.before.root, self.before.epoch_wrapped, epoch_name("data", 0, 1))

    def assert_steps(self) -> None:
        steps = []
        while not steps or steps[-1] is not ErasureState.CERTIFIED:
            steps.append(self.vault.erasures.advance("era_1"))
        assert ErasureState.SCHEDULED in steps
        assert ErasureState.OLD_ROOT_DESTROYED not in steps

    def assert_waits_and_resumes(self, trouble: Callable[[], AbstractContextManager[None]]) -> None:
        """While the provider gives no answer nothing moves; whoever was not to be erased opens from memory."""
        self.ask()
        self.vault.erasures.advance("era_1")
        self.vault.erasures.advance("era_1")
        with trouble():
            assert self.vault.open(scope(KEPT), "r", self.records[KEPT]) == KEPT.encode()
            with pytest.raises(Erased):
                self.vault.open(scope(GONE), "r", self.records[GONE])
            with pytest.raises(ProviderUnavailable):
                self.vault.erasures.drive("era_1")
            with pytest.raises(ProviderUnavailable):
                self.opens(KEPT)
            assert self.vault.erasures.state("era_1") is ErasureState.KEY_ROW_REMOVED
        assert self.vault.erasures.drive("era_1") is ErasureState.CERTIFIED

    def assert_survives_trouble_in_destroying(self, trouble: Callable[[], AbstractContextManager[None]]) -> None:
        """Committed, and the old root cannot be destroyed yet: no certificate before it is."""
        self.ask()
        while self.vault.erasures.state("era_1") is not ErasureState.COMMITTED:
            self.vault.erasures.advance("era_1")
        with trouble(), pytest.raises(ProviderUnavailable):
            self.vault.erasures.drive("era_1")
        assert self.vault.erasures.certificates("era_1") == ()
        assert self.vault.erasures.drive("era_1") is ErasureState.CERTIFIED

    def assert_still_alive(self) -> None:
        """Somebody takes the destruction back under our eyes: no certificate, until it is done again."""
        self.ask()
        with pytest.raises(RootStillAlive):
            self.vault.erasures.drive("era_1")
        assert self.vault.erasures.state("era_1") is ErasureState.COMMITTED
        assert self.vault.erasures.certificates("era_1") == ()
        assert self.vault.erasures.drive("era_1") is ErasureState.CERTIFIED


@contextmanager
def on_sqlite(folder: Path, clock: SetClock, make: Callable[[], KeyProvider]) -> Iterator[CloudStory]:
    """A story on a key store of its own, where the kind of database makes no difference."""
    engine = open_engine(sqlite_database(folder / "story.sqlite", "keys"), keys=True)
    yield CloudStory(engine, folder, clock, make)
    engine.dispose()


T = TypeVar("T")


def assert_any_call_may_fail(kms: KeyProvider, clock: SetClock, window: timedelta, at: Callable[[], Lost]) -> None:
    """A root's whole life, once for each call to the service that can fail in it: the end is always the same."""
    for number in count():
        lost = at()
        lost.at = number
        _live_and_die(kms, RootName(KeyClass.DATA, number, 1), clock, window)
        if not lost.happened:
            break
        clock.pass_(minutes=1)
    assert number > 12


class Lost:
    """Counts calls and says which one is to fail."""

    def __init__(self) -> None:
        self.at, self.seen, self.happened = 0, 0, False

    def now(self) -> bool:
        self.seen += 1
        if self.seen == self.at + 1:
            self.happened = True
            return True
        return False


def _live_and_die(kms: KeyProvider, name: RootName, clock: SetClock, window: timedelta) -> None:
    root = _again(lambda: kms.create_root(name))
    wrapped = _again(lambda: kms.wrap(root, bytearray(b"k" * 32), b"n"))
    assert _again(lambda: kms.create_root(name)) == root
    assert _again(lambda: kms.unwrap(root, wrapped, b"n")) == b"k" * 32
    _again(lambda: kms.destroy(root))
    told = _again(lambda: kms.describe(root))
    assert (told.state, told.irrevocable_at) == (RootState.SCHEDULED, clock.now() + window)
    for work in (lambda: kms.unwrap(root, wrapped, b"n"), lambda: kms.create_root(name)):
        with pytest.raises(RootDestroyed):
            _again(work)


def _again(work: Callable[[], T]) -> T:
    """What a durable workflow does: ask once more."""
    try:
        return work()
    except ProviderUnavailable:
        return work()
