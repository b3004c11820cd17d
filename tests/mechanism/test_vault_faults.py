"""What goes wrong around an erasure: providers that fail, stall or lie, full disks, clocks that jump, rows moved about.

Each fault is met at every point at which it can come. Each time: an error with a code of its own, no plaintext, no
survivor lost, nothing erased that opens; and once the fault is mended the erasure goes on to CERTIFIED.
Real faults where the machine has them: the kernel refuses writes (RLIMIT_FSIZE), SQLite's own limit of pages, a
PostgreSQL trigger that answers with the server's disk-full error.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore, SqlKeyTransaction
from app.vault.core import Vault
from app.vault.errors import (
    DurabilityLost,
    Erased,
    KeyDamaged,
    PartitionBusy,
    ProviderUnavailable,
    RootDestroyed,
    RootReused,
    RootStillAlive,
    SurvivorUnverified,
)
from app.vault.keys import Keep, Scope, Selector, Target
from app.vault.ports import KeyProvider, RootDescription, RootName, RootState
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstone, Tombstones
from tests.databases import postgres_database, sqlite_database
from tests.mechanism.vaults import CONTROLLER, SetClock, keyring, open_vault, scope
from tests.waiting import PATIENCE

PROVE = os.environ.get("REGARD_TEST_PROVE") == "1"
PEOPLE = {
    "sub_gone": ("accounts.balances", "loans", "identity"),
    "sub_kept": ("accounts.balances",),
    "sub_near": ("loans",),
    "sub_part": ("accounts.balances", "loans"),
    "sub_else": ("loans",),
}
"""Three people in the first partition, two in the second."""
TARGETS = (
    Target(CONTROLLER, "sub_gone", keep=(Keep(Selector(category="identity"), date(2031, 1, 1), "law"),)),
    Target(CONTROLLER, "sub_part", only=(Selector(category="loans"),)),
)


class Story:
    """A vault before an erasure that takes one person, save what the law keeps, and a part of another elsewhere."""

    def __init__(self, engine: Engine, folder: Path, provider: KeyProvider | None = None) -> None:
        self.engine, self.folder, self.clock = engine, folder, SetClock()
        self.ring = keyring(folder, self.clock)
        self.vault = self.opened()
        self.vault.create_subjects(CONTROLLER, list(PEOPLE))
        places = [scope(each, what) for each, held in PEOPLE.items() for what in held]
        self.records = {place: self.vault.seal(place, "r", secret(place)) for place in places}
        self.gone = {
            scope("sub_gone", "accounts.balances"),
            scope("sub_gone", "loans"),
            scope("sub_part", "loans"),
        }
        if provider is not None:
            self.vault = self.opened(provider)

    def opened(self, provider: KeyProvider | None = None, **more: Any) -> Vault:
        """A process started anew."""
        return open_vault(self.engine, self.folder, self.clock, provider=provider or self.ring, per_partition=3, **more)

    def ask(self) -> None:
        self.vault.shred("era_1", TARGETS)

    def as_it_should_be(self) -> None:
        """Whoever survives opens, whoever was erased does not, for a process that has nothing in memory."""
        seen = self.opened()
        for place, record in self.records.items():
            if place in self.gone:
                with pytest.raises(Erased):
                    seen.open(place, "r", record)
            else:
                assert seen.open(place, "r", record) == secret(place), place

    def ends_well(self) -> None:
        """After the fault: the work goes on to its end, with nothing left over."""
        self.as_it_should_be()
        mended = self.opened()
        assert mended.erasures.drive("era_1") == "certified"
        self.as_it_should_be()
        self.nothing_left(mended)

    def nothing_left(self, mended: Vault) -> None:
        certificates = mended.erasures.certificates("era_1")
        assert [each["subject"] for each in certificates] == ["sub_gone", "sub_part"]
        for site in mended.erasures.journal("era_1").sites:
            assert site.root_state == "destroyed"
            assert site.old_root is not None
            assert self.ring.describe(site.old_root).state is RootState.DESTROYED
        with self.engine.connect() as connection:
            for query in (
                "SELECT count(*) FROM partitions WHERE claimed_by IS NOT NULL",
                "SELECT count(*) FROM subject_keys WHERE staged IS NOT NULL",
                "SELECT count(*) FROM erasure_probes",
                "SELECT count(*) FROM data_keys WHERE doomed_by IS NOT NULL",
            ):
                assert connection.execute(text(query)).scalar_one() == 0, query


def secret(place: Scope) -> bytes:
    return f"secret of {place.subject}: {place.category}".encode()


class Provider:
    """The file keyring, each call of which passes by `met` first and `done` afterwards."""

    kind = "file"

    def __init__(self, real: FileKeyring) -> None:
        self.real, self.calls = real, 0

    def met(self, name: str, root: object) -> None:
        self.calls += 1

    def done(self, name: str) -> None:
        pass

    def _through(self, name: str, *given: Any) -> Any:
        self.met(name, given[0])
        try:
            return getattr(self.real, name)(*given)
        finally:
            self.done(name)

    def create_root(self, name: RootName) -> str:
        root: str = self._through("create_root", name)
        return root

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        wrapped: bytes = self._through("wrap", root, key, name)
        return wrapped

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        key: bytearray = self._through("unwrap", root, wrapped, name)
        return key

    def destroy(self, root: str) -> None:
        self._through("destroy", root)

    def describe(self, root: str) -> RootDescription:
        told: RootDescription = self._through("describe", root)
        return told


class Rooms:
    """Fresh key stores of one backend, one after the other."""

    def __init__(self, backend: str, folder: Path, stack: ExitStack) -> None:
        self.backend, self.folder, self.stack, self.count = backend, folder, stack, 0

    def room(self, kind: type[Provider]) -> tuple[Story, Any]:
        """A story whose erasure is asked for, before a provider of this kind."""
        self.count += 1
        inside = self.folder / f"room_{self.count}"
        inside.mkdir()
        story = Story(self.engine(inside), inside)
        provider = kind(story.ring)
        story.vault = story.opened(provider)
        story.ask()
        return story, provider

    def engine(self, inside: Path) -> Engine:
        if self.backend == "sqlite":
            url = sqlite_database(inside / "keys.sqlite", "keys")
        else:
            url = self.stack.enter_context(postgres_database("keys"))
        engine = open_engine(url, keys=True)
        self.stack.callback(engine.dispose)
        return engine

    def calls(self) -> range:
        """The calls an undisturbed erasure makes of its provider, numbered; a part of them unless all are asked for."""
        story, provider = self.room(Provider)
        assert story.vault.erasures.drive("era_1") == "certified"
        assert provider.calls > 10
        return self.some(provider.calls)

    def some(self, last: int, step: int = 3) -> range:
        """From 1 to `last`: all of them in `make prove`, else every third, other ones on the other database."""
        return range(1, last + 1) if PROVE else range(1 + (self.backend == "sqlite"), last + 1, step)


@pytest.fixture
def rooms(backend: str, tmp_path: Path) -> Iterator[Rooms]:
    with ExitStack() as stack:
        yield Rooms(backend, tmp_path, stack)


# Providers


class Failing(Provider):
    """Does not answer call `at`, before or after it did what it was asked."""

    at = 0
    afterwards = False

    def met(self, name: str, root: object) -> None:
        super().met(name, root)
        if self.calls == self.at and not self.afterwards:
            raise ProviderUnavailable

    def done(self, name: str) -> None:
        if self.calls == self.at and self.afterwards:
            raise ProviderUnavailable


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
def test_a_provider_that_fails_at_any_call(rooms: Rooms, afterwards: bool) -> None:
    """Also where only its answer was lost: a root may be made, or destroyed, that nobody was told of."""
    for at in rooms.calls():
        story, provider = rooms.room(Failing)
        provider.at, provider.afterwards = at, afterwards
        with pytest.raises(ProviderUnavailable):
            story.vault.erasures.drive("era_1")
        story.as_it_should_be()
        assert story.vault.erasures.certificates("era_1") == ()
        assert story.vault.erasures.drive("era_1") == "certified", "the same process goes on when it answers again"
        story.as_it_should_be()
        story.nothing_left(story.vault)


class Stalling(Provider):
    """Call `at` takes so long that another worker takes the erasure over and ends it meanwhile."""

    at = 0
    other: Callable[[], None]

    def met(self, name: str, root: object) -> None:
        super().met(name, root)
        if self.calls == self.at:
            self.other()


def test_a_provider_so_slow_that_another_worker_ends_the_work(rooms: Rooms) -> None:
    """Two workers on one partition, the first one asleep inside any call: what it does on waking changes nothing."""
    for at in rooms.calls():
        story, provider = rooms.room(Stalling)
        provider.at, provider.other = at, partial(_taken_over, story)
        with pytest.raises((PartitionBusy, RootDestroyed)):
            story.vault.erasures.drive("era_1")
        story.as_it_should_be()
        story.nothing_left(story.opened())


def _taken_over(story: Story) -> None:
    story.clock.pass_(seconds=31)
    assert story.opened(worker="host:1").erasures.drive("era_1") == "certified"


class Waiting(Provider):
    """Holds every call that makes or wraps until it is let go."""

    def __init__(self, real: FileKeyring) -> None:
        super().__init__(real)
        self.asked, self.go = threading.Event(), threading.Event()

    def met(self, name: str, root: object) -> None:
        super().met(name, root)
        if name in ("create_root", "wrap", "destroy"):
            self.asked.set()
            assert self.go.wait(PATIENCE)


def test_nobody_waits_for_a_slow_provider(rooms: Rooms) -> None:
    """Survivors are opened, lent and sealed while the provider takes its time over an erasure."""
    story, provider = rooms.room(Waiting)
    with ThreadPoolExecutor(1) as pool:
        erasing = pool.submit(story.vault.erasures.drive, "era_1")
        assert provider.asked.wait(PATIENCE)
        mine = scope("sub_else", "new")
        try:
            record = story.vault.seal(mine, "r", b"meanwhile")
            story.vault.lease(mine)
            assert story.vault.open(mine, "r", record) == b"meanwhile"
            assert not erasing.done()
        finally:
            provider.go.set()
        assert erasing.result(PATIENCE) == "certified"
    assert story.vault.open(mine, "r", record) == b"meanwhile"
    story.as_it_should_be()


class Lying(Provider):
    """Says one thing and does another, as `lie` tells."""

    lie = ""
    other = ""
    spared = ""

    def create_root(self, name: RootName) -> str:
        return self.other if self.lie == "another root" else super().create_root(name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        key = super().unwrap(root, wrapped, name)
        return bytearray(b"\x55" * 32) if self.lie == "another key" else key

    def destroy(self, root: str) -> None:
        if self.lie not in ("not destroyed", "told destroyed") and root != self.spared:
            super().destroy(root)

    def describe(self, root: str) -> RootDescription:
        told = super().describe(root)
        return replace(told, state=RootState.DESTROYED) if self.lie == "told destroyed" else told


@pytest.mark.parametrize("mine", [True, False], ids=["its own present root", "another partition's root"])
def test_a_provider_that_gives_a_root_that_is_in_use(rooms: Rooms, mine: bool) -> None:
    """Destroyed later as the old one of one partition, it would take the survivors of another along."""
    story, provider = rooms.room(Lying)
    with story.engine.connect() as connection:
        asked = text("SELECT root FROM partitions WHERE key_class = 'data' ORDER BY number")
        first, second = connection.execute(asked).scalars()
    provider.lie, provider.other = "another root", first if mine else second
    with pytest.raises(RootReused):
        story.vault.erasures.drive("era_1")
    assert story.vault.erasures.state("era_1") == "key_row_removed"
    story.as_it_should_be()
    with pytest.raises(RootReused):
        story.opened(provider).create_subjects(CONTROLLER, [f"sub_{number}" for number in range(6)])
    provider.lie = ""
    story.ends_well()


def test_a_provider_that_unwraps_to_another_key(rooms: Rooms) -> None:
    """At any step: nothing opens under it, nothing is destroyed for it, nothing is re-wrapped under it for good."""
    story, provider = rooms.room(Lying)
    provider.lie = "another key"
    for _ in range(3):
        with pytest.raises((KeyDamaged, SurvivorUnverified)):
            story.vault.erasures.drive("era_1")
        story.vault.epochs.forget()
        with pytest.raises(KeyDamaged):
            story.vault.open(scope("sub_kept"), "r", story.records[scope("sub_kept")])
        story.vault.epochs.forget()
        story.as_it_should_be()
    provider.lie = ""
    story.ends_well()


@pytest.mark.parametrize("lie", ["not destroyed", "told destroyed"])
def test_a_provider_that_does_not_destroy(rooms: Rooms, lie: str) -> None:
    """Asked to open what was under the old root, it still does: whatever it says, nothing is certified."""
    story, provider = rooms.room(Lying)
    provider.lie = lie
    for _ in range(2):
        with pytest.raises(RootStillAlive):
            story.vault.erasures.drive("era_1")
        assert story.vault.erasures.state("era_1") == "committed"
        assert story.vault.erasures.certificates("era_1") == ()
        story.as_it_should_be()
    provider.lie = ""
    story.ends_well()


def first_root(story: Story) -> str:
    """The root of the first partition's data keys."""
    with story.engine.connect() as connection:
        asked = text("SELECT root FROM partitions WHERE key_class = 'data' AND number = 0")
        return str(connection.execute(asked).scalar_one())


def left_alive(rooms: Rooms) -> tuple[Story, Lying]:
    """Two erasures in a batch over two partitions, one in the second alone; the first one's root is not destroyed."""
    story, provider = rooms.room(Lying)
    story.vault.shred("era_2", [Target(CONTROLLER, "sub_kept")])
    story.vault.shred("era_3", [Target(CONTROLLER, "sub_else")])
    story.gone |= {scope("sub_kept", "accounts.balances"), scope("sub_else", "loans")}
    provider.spared = first_root(story)
    stopped = dict.fromkeys(("era_1", "era_2"), RootStillAlive.code)
    for _ in range(2):
        assert story.vault.erasures.drive_all(now=True).stopped == stopped
        assert [story.vault.erasures.state(each) for each in stopped] == ["committed", "committed"]
        story.as_it_should_be()
    assert story.vault.erasures.state("era_3") == "certified", "the other root ended: it stands on that one's note"
    return story, provider


def ends_after_the_first(story: Story, provider: Lying) -> None:
    """The provider is mended: whoever waited is certified, and promises no less than those before."""
    provider.spared = ""
    story.clock.pass_(hours=1)
    story.vault.erasures.drive_all(now=True)
    story.vault.erasures.drive_all(now=True)
    assert story.vault.erasures.pending() == ()
    for erasure in ("era_1", "era_2", "era_4"):
        told = {each["irrevocable_at"] for each in story.vault.erasures.certificates(erasure)}
        assert story.clock.now().isoformat(timespec="seconds") in told, erasure
    story.as_it_should_be()
    story.nothing_left(story.vault)


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "released by an earlier version"])
def test_nobody_is_certified_above_a_root_that_lives_on(rooms: Rooms, claimed: bool) -> None:
    """A batch that parts after its commit (vault.md section 5): its old root opens a backup with the next person in it,
    so that one waits, and nothing says before that its keys are destroyed."""
    story, provider = left_alive(rooms)
    root = provider.spared
    if not claimed:
        with story.engine.begin() as connection:
            connection.execute(text("UPDATE partitions SET claimed_by = NULL"))
    story.vault.shred("era_4", [Target(CONTROLLER, "sub_near")])
    story.gone |= {scope("sub_near", "loans")}
    for _ in range(2):
        with pytest.raises(PartitionBusy):
            story.vault.erasures.drive("era_4", now=True)
        assert story.vault.erasures.state("era_4") == ("key_row_removed" if claimed else "committed")
        assert story.vault.erasures.certificates("era_4") == ()
    assert story.ring.describe(root).state is RootState.ACTIVE
    ends_after_the_first(story, provider)


def test_a_root_that_lives_on_keeps_only_its_own_partition(rooms: Rooms) -> None:
    story, _ = left_alive(rooms)
    story.vault.shred("era_4", [Target(CONTROLLER, "sub_part")])
    story.gone |= {scope("sub_part", "accounts.balances")}
    assert story.vault.erasures.drive("era_4", now=True) == "certified"
    story.as_it_should_be()


# Disks


@contextmanager
def no_room() -> Iterator[None]:
    """The kernel refuses this process every further byte on disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stopped(story: Story) -> None:
    """After a disk fault this process neither goes on nor certifies; a new one does."""
    with pytest.raises(DurabilityLost):
        story.vault.erasures.drive("era_1")
    assert story.opened().erasures.certificates("era_1") == ()
    story.ends_well()


class Crowded(Provider):
    """A keyring on a disk without room, at call `at`."""

    at = 0

    def _through(self, name: str, *given: Any) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return getattr(self.real, name)(*given)
        with no_room():
            return getattr(self.real, name)(*given)


def test_no_room_for_the_keyring(rooms: Rooms) -> None:
    """At each call: those that only read go through, those that write stop the keyring for good in this process."""
    met = 0
    for at in rooms.calls():
        story, provider = rooms.room(Crowded)
        provider.at = at
        try:
            assert story.vault.erasures.drive("era_1") == "certified"
        except DurabilityLost:
            met += 1
            with pytest.raises(DurabilityLost):
                story.vault.erasures.drive("era_1")
            story.ring = keyring(story.folder, story.clock)
            story.ends_well()
    assert met == 4 if PROVE else met >= 1, "two roots are made, two destroyed"


def test_no_room_for_the_tombstones(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed before its tombstone is durable (dsar rule 54)."""
    story, _ = rooms.room(Provider)
    append = Tombstones.append

    def crowded(self: Tombstones, stones: Sequence[Tombstone]) -> None:
        with no_room():
            append(self, stones)

    with monkeypatch.context() as patched:
        patched.setattr(Tombstones, "append", crowded)
        with pytest.raises(DurabilityLost):
            story.vault.erasures.drive("era_1")
    assert story.vault.erasures.state("era_1") == "caches_evicted"
    stopped(story)


class Disk:
    """Makes the n-th writing transaction of the key store meet a full disk, in its last moment or from its start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
        self.engine, self.writes, self.full_at = engine, 0, 0
        writing = SqlKeyStore.writing
        disk = self

        @contextmanager
        def watched(store: SqlKeyStore) -> Iterator[SqlKeyTransaction]:
            disk.writes += 1
            with ExitStack() as stack:
                if disk.writes == disk.full_at:
                    stack.enter_context(no_room())
                with writing(store) as tx:
                    yield tx

        monkeypatch.setattr(SqlKeyStore, "writing", watched)


def test_no_room_for_the_key_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite, at each transaction of an erasure: the kernel refuses the log another byte."""
    with ExitStack() as stack:
        rooms = Rooms("sqlite", tmp_path, stack)
        story, _ = rooms.room(Provider)
        with monkeypatch.context() as patched:
            counted = Disk(patched, story.engine)
            assert story.vault.erasures.drive("era_1") == "certified"
        assert counted.writes >= 2 * 8, "each state takes its row, moves it, gives it back"
        quiet = 0
        for at in rooms.some(counted.writes):
            story, _ = rooms.room(Provider)
            with monkeypatch.context() as patched:
                Disk(patched, story.engine).full_at = at
                try:
                    story.vault.erasures.drive("era_1")
                    quiet += 1
                except DurabilityLost:
                    with pytest.raises(DurabilityLost):
                        story.vault.erasures.drive("era_1")
            story.ends_well()
        assert quiet <= 1, "a partition claimed again is the one transaction that has nothing to write"


def test_no_page_left_in_the_key_store(tmp_path: Path) -> None:
    """SQLite's own limit: the database may not grow, so that somewhere in an erasure "database or disk is full"."""
    with ExitStack() as stack:
        story, _ = Rooms("sqlite", tmp_path, stack).room(Provider)
        small = open_engine(str(story.engine.url), keys=True)
        stack.callback(small.dispose)

        @event.listens_for(small, "connect")
        def _limit(connection: Any, _entry: object) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={pages}")

        roomy, story.engine = story.engine, small
        crowded = story.opened()
        many = [scope("sub_else", f"category{number}") for number in range(400)]
        with pytest.raises(DurabilityLost):
            [crowded.dek_for(each) for each in many]
        with pytest.raises(DurabilityLost):
            crowded.erasures.drive("era_1")
        story.engine = roomy
        story.ends_well()


FULL = """
CREATE SEQUENCE fuse;
CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('fuse') = {at} THEN
    RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device' USING ERRCODE = '53100';
  END IF;
  RETURN NULL;
END $$;
"""
TABLES = ("erasures", "erasure_sites", "subject_keys", "data_keys", "partitions", "destroyed_keys", "erasure_probes")


def test_no_room_for_the_database_server(tmp_path: Path) -> None:
    """PostgreSQL, all through an erasure: the answer of a server whose disk is full (SQLSTATE 53100)."""
    with ExitStack() as stack:
        rooms = Rooms("postgresql", tmp_path, stack)
        story, _ = rooms.room(Provider)
        lay_fuse(story.engine, 0)
        assert story.vault.erasures.drive("era_1") == "certified"
        with story.engine.connect() as connection:
            statements = connection.execute(text("SELECT last_value FROM fuse")).scalar_one()
        assert statements > 40
        for at in rooms.some(statements - 1, step=12):
            stopped(burnt(rooms, at))
        story = burnt(rooms, statements)
        assert story.opened().erasures.certificates("era_1"), "the last write gives the work back: it is done by then"
        story.ends_well()


def burnt(rooms: Rooms, at: int) -> Story:
    """An erasure that found no room at its write number `at`."""
    story, _ = rooms.room(Provider)
    lay_fuse(story.engine, at)
    with pytest.raises(DurabilityLost):
        story.vault.erasures.drive("era_1")
    return story


def lay_fuse(engine: Engine, at: int) -> None:
    with engine.begin() as connection:
        connection.execute(text(FULL.format(at=at)))
        for table in TABLES:
            connection.execute(
                text(
                    f"CREATE TRIGGER full_{table} AFTER INSERT OR UPDATE OR DELETE ON {table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION full()"
                )
            )


# Clocks


def test_a_clock_set_forward_by_years(rooms: Rooms) -> None:
    """Leases end, epoch keys in memory are dropped, what the law keeps stays, the certificate says when it was."""
    story, provider = rooms.room(Provider)
    lease = story.vault.lease(scope("sub_kept"), 60)
    story.clock.pass_(days=10 * 366)
    assert lease.expires_at < story.clock.now()
    story.vault.open(scope("sub_kept"), "r", story.records[scope("sub_kept")])
    before = provider.calls
    story.vault.open(scope("sub_kept"), "r", story.records[scope("sub_kept")])
    assert provider.calls == before
    story.clock.pass_(days=10 * 366)
    story.vault.open(scope("sub_kept"), "r", story.records[scope("sub_kept")])
    assert provider.calls == before + 1, "asked anew"
    story.ends_well()
    (certificate, _) = story.opened().erasures.certificates("era_1")
    assert certificate["irrevocable_at"] == story.clock.now().isoformat(timespec="seconds")
    assert [each["retained_until"] for each in certificate["retained"]] == ["2031-01-01"]


@pytest.mark.parametrize("moment", ["lent", "asked", "removed", "rewrapped", "committed"])
def test_a_clock_set_back_by_years(rooms: Rooms, moment: str) -> None:
    """No lease is longer than a minute for it, no key stays in memory, the erasure ends, its dates are the clock's."""
    story, provider = rooms.room(Provider)
    reached = {"lent": None, "asked": None, "removed": "key_row_removed"}.get(moment, moment)
    place = scope("sub_else", "loans")
    lease = story.vault.lease(place, 60)
    story.vault.shred("era_2", [Target(CONTROLLER, "sub_else")])
    story.gone.add(place)
    while reached is not None and story.vault.erasures.advance("era_1") != reached:
        pass
    story.clock.pass_(days=-5 * 366)
    assert story.vault.lease(scope("sub_near", "loans"), 60).expires_at == story.clock.now() + timedelta(seconds=60)
    assert lease.expires_at > story.clock.now() + timedelta(days=365), "the holder's own clock drops it"
    calls = provider.calls
    story.vault.open(scope("sub_near", "loans"), "r", story.records[scope("sub_near", "loans")])
    asked_anew = provider.calls - calls
    assert asked_anew <= 1
    assert story.vault.erasures.drive("era_1") == "certified"
    assert story.vault.erasures.drive("era_2") == "requested"
    story.clock.pass_(seconds=60)
    assert story.vault.erasures.drive("era_2") == "certified", "it waits a minute, not five years"
    story.ends_well()
    (certificate,) = story.opened().erasures.certificates("era_2")
    assert certificate["certified_at"] == story.clock.now().isoformat(timespec="seconds")
    for certificate in story.opened().erasures.certificates("era_1"):
        assert certificate["irrevocable_at"] is not None


def test_a_worker_that_died_before_a_clock_was_set_back_keeps_nobody_out(rooms: Rooms) -> None:
    story, _ = rooms.room(Provider)
    with SqlKeyStore(story.engine).writing() as tx:
        now = story.clock.now()
        assert tx.take("era_1", "host:9", now, now + timedelta(seconds=30))
    other = story.opened(worker="host:1")
    with pytest.raises(PartitionBusy):
        other.erasures.drive("era_1")
    story.clock.pass_(minutes=-1)
    with pytest.raises(PartitionBusy):
        other.erasures.drive("era_1")  # the clocks of two hosts may be as far apart
    story.clock.pass_(days=-365)
    assert other.erasures.drive("era_1") == "certified"
    story.as_it_should_be()


# Rows of the key store, moved about by somebody who can write there


MOVED = {
    "a data key under another's name": (
        "UPDATE data_keys SET wrapped = (SELECT o.wrapped FROM data_keys o WHERE o.subject = 'sub_else') "
        "WHERE subject = 'sub_kept'"
    ),
    "a data key under another subject key": (
        "UPDATE data_keys SET subject_key_id = "
        "(SELECT id FROM subject_keys WHERE subject = 'sub_near' AND key_class = 'data') WHERE subject = 'sub_kept'"
    ),
    "a subject key under another's name": (
        "UPDATE subject_keys SET wrapped = (SELECT o.wrapped FROM subject_keys o WHERE o.subject = 'sub_near' AND "
        "o.key_class = 'data') WHERE subject = 'sub_kept' AND key_class = 'data'"
    ),
    "a subject in another partition": (
        "UPDATE subject_keys SET partition = 1 WHERE subject = 'sub_kept' AND key_class = 'data'"
    ),
    "a wrapped key cut short": ("UPDATE data_keys SET wrapped = substr(wrapped, 1, 59) WHERE subject = 'sub_kept'"),
    "an epoch key under another partition": (
        "UPDATE partitions SET epoch_wrapped = (SELECT o.epoch_wrapped FROM partitions o WHERE o.key_class = 'data' "
        "AND o.number = 1) WHERE key_class = 'data' AND number = 0"
    ),
    "a partition under another's root": (
        "UPDATE partitions SET root = (SELECT o.root FROM partitions o WHERE o.key_class = 'data' AND o.number = 1) "
        "WHERE key_class = 'data' AND number = 0"
    ),
}


@pytest.mark.parametrize("what", MOVED)
def test_a_key_moved_to_another_row_opens_nothing(rooms: Rooms, what: str) -> None:
    """Each wrapped key names itself and what is above it: it opens in its own row and in no other."""
    story, _ = rooms.room(Provider)
    with story.engine.begin() as connection:
        connection.execute(text(MOVED[what]))
    seen, place = story.opened(), scope("sub_kept")
    for work in (lambda: seen.open(place, "r", story.records[place]), lambda: seen.lease(place)):
        with pytest.raises(KeyDamaged) as caught:
            work()
        assert "secret" not in str(caught.value)


RELABELLED = {
    "a data key as somebody else's": [
        "UPDATE data_keys SET subject = 'sub_near', category = 'mine' WHERE subject = 'sub_kept'"
    ],
    "a data key and its subject key as somebody else's": [
        "UPDATE subject_keys SET subject = 'sub_mine' WHERE subject = 'sub_kept'",
        "UPDATE data_keys SET subject = 'sub_mine', category = 'mine' WHERE subject = 'sub_kept'",
    ],
    "a data key as of a category I may read": ["UPDATE data_keys SET category = 'mine' WHERE subject = 'sub_kept'"],
    "a data key as mine to hold": ["UPDATE data_keys SET holder = 'thief' WHERE subject = 'sub_kept'"],
}
ASKED = {
    "a data key as somebody else's": scope("sub_near", "mine"),
    "a data key and its subject key as somebody else's": scope("sub_mine", "mine"),
    "a data key as of a category I may read": scope("sub_kept", "mine"),
    "a data key as mine to hold": scope("sub_kept", holder="thief"),
}


@pytest.mark.parametrize("what", RELABELLED)
def test_a_key_given_another_label_is_lent_to_nobody(rooms: Rooms, what: str) -> None:
    """Whose a key is, and what for, is in what was wrapped: who can write here can break a key, not redirect it."""
    story, _ = rooms.room(Provider)
    with story.engine.begin() as connection:
        for statement in RELABELLED[what]:
            connection.execute(text(statement))
    with pytest.raises(KeyDamaged):
        story.opened().lease(ASKED[what])
