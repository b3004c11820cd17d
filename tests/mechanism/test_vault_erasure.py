"""Erasure (vault.md section 5): after it the keys are gone everywhere, and everybody else's are there."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.store.rows.base import KeysBase
from app.vault.certificate import REMOVED, canonical
from app.vault.core import Vault
from app.vault.errors import (
    Erased,
    ErasureConflict,
    ErasureUnknown,
    KeyDamaged,
    PartitionBusy,
    ProviderUnavailable,
    RootDestroyed,
    RootStillAlive,
    SurvivorUnverified,
    UnknownKey,
    UnknownSubject,
)
from app.vault.guarding import Terms
from app.vault.inventory import inventory_root
from app.vault.keys import Basis, Keep, KeyClass, Scope, Selector, Target
from app.vault.ports import ErasureState, Json, RootDescription, RootName, RootState
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones
from tests.databases import postgres_database
from tests.mechanism.vaults import CONTROLLER, SetClock, keyring, open_vault, scope
from tests.waiting import PATIENCE, wait

SUBJECTS = [f"sub_{n}" for n in range(8)]
GONE, KEPT = SUBJECTS[0], SUBJECTS[1]
ORDER = [
    "caches_evicted",
    "key_row_removed",
    "rewrapped",
    "verified",
    "committed",
    "old_root_destroyed",
    "scanned",
    "certified",
]


class Story:
    """A vault with some subjects, each with a sealed record, and what is needed to look again."""

    def __init__(self, engine: Engine, folder: Path, **more: object) -> None:
        self.engine, self.folder, self.clock = engine, folder, SetClock()
        self.vault = open_vault(engine, folder, self.clock, **more)
        self.vault.create_subjects(CONTROLLER, SUBJECTS)
        self.records = {
            place: self.vault.seal(place, "r", b"secret of " + place.subject.encode()) for place in self.all()
        }

    @staticmethod
    def all() -> list[Scope]:
        return [scope(subject, category) for subject in SUBJECTS for category in ("accounts.balances", "loans")]

    def opens(self, place: Scope, vault: Vault | None = None) -> bool:
        opened = (vault or self.vault).open(place, "r", self.records[place])
        return opened == b"secret of " + place.subject.encode()

    def others_open(self, gone: set[Scope], vault: Vault | None = None) -> bool:
        return all(self.opens(place, vault) for place in self.records if place not in gone)

    def of(self, subject: str) -> set[Scope]:
        return {place for place in self.records if place.subject == subject}

    def generations(self) -> dict[tuple[str, int], int]:
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT key_class, number, generation FROM partitions"))
            return {(row[0], row[1]): row[2] for row in rows}


@pytest.fixture
def story(keys_engine: Engine, tmp_path: Path) -> Story:
    return Story(keys_engine, tmp_path)


def whole(subject: str = GONE, *keep: Keep) -> Target:
    return Target(CONTROLLER, subject, keep=keep)


def test_one_step_at_a_time(story: Story) -> None:
    assert story.vault.shred("era_1", [whole()]) == "requested"
    assert [str(story.vault.erasures.advance("era_1")) for _ in ORDER] == ORDER
    assert story.vault.erasures.advance("era_1") == "certified"
    assert story.vault.erasures.pending() == ()


def test_the_erased_is_shut_and_the_others_open(story: Story) -> None:
    asked = story.clock.now()
    story.vault.shred("era_1", [whole()])
    assert story.vault.erasures.drive("era_1") == "certified"
    for place in story.of(GONE):
        with pytest.raises(Erased) as caught:
            story.opens(place)
        assert caught.value.at == asked
        with pytest.raises(Erased):
            story.vault.lease(place)
        with pytest.raises(Erased):
            story.vault.seal(place, "r", b"new")
    with pytest.raises(Erased):
        story.vault.dek_for(scope(GONE, "something.new"))
    assert story.others_open(story.of(GONE))
    assert story.vault.erased_at(CONTROLLER, GONE) == asked
    assert story.vault.erased_at(CONTROLLER, KEPT) is None


def test_logical_erasure_is_at_once_and_needs_no_provider(story: Story) -> None:
    """Vault.md section 6: erasures queue while the provider is away; nothing of the subject opens meanwhile."""
    (story.folder / "keyring").rename(story.folder / "away")
    story.vault.shred("era_1", [whole()])
    for place in story.of(GONE):
        with pytest.raises(Erased):
            story.opens(place)
        with pytest.raises(Erased):
            story.vault.lease(place)
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            story.vault.erasures.drive("era_1")
    assert story.vault.erasures.state("era_1") == "key_row_removed"
    (story.folder / "away").rename(story.folder / "keyring")
    assert story.vault.erasures.drive("era_1") == "certified"
    assert story.others_open(story.of(GONE))


def test_strangers_cannot_tell_erased_from_unknown(story: Story) -> None:
    """Vault.md section 3: 410 to the entitled alone."""
    place = scope(GONE)
    key_id = story.vault.dek_for(place)
    story.vault.shred("era_1", [whole()])
    for _ in range(2):
        for other in (replace(place, holder="broker"), replace(place, category="loans"), scope(KEPT)):
            with pytest.raises(UnknownKey):
                story.vault.lease(other, key_id=key_id)
        story.vault.erasures.drive("era_1")


def test_it_waits_for_the_last_lease_or_for_an_acknowledgement(story: Story) -> None:
    """CACHES_EVICTED: acknowledged, or the longest lease has passed."""
    lease = story.vault.lease(scope(GONE), 60)
    story.clock.pass_(seconds=10)
    story.vault.shred("era_1", [whole()])
    assert story.vault.erasures.drive("era_1") == "requested"
    assert story.vault.erasures.due_at("era_1") == lease.expires_at
    story.clock.pass_(seconds=49)
    assert story.vault.erasures.advance("era_1") == "requested"
    story.clock.pass_(seconds=1)
    assert story.vault.erasures.advance("era_1") == "caches_evicted"

    story.vault.lease(scope(KEPT), 60)
    story.vault.shred("era_2", [whole(KEPT)])
    assert story.vault.erasures.drive("era_2") == "requested"
    story.vault.erasures.acknowledge("era_2")
    assert story.vault.erasures.advance("era_2") == "caches_evicted"
    with pytest.raises(ErasureUnknown):
        story.vault.erasures.acknowledge("era_none")


def test_asking_again_is_asking_once(story: Story) -> None:
    story.vault.shred("era_1", [whole()])
    story.vault.erasures.advance("era_1")
    assert story.vault.shred("era_1", [whole()]) == "caches_evicted"
    with pytest.raises(ErasureConflict):
        story.vault.shred("era_1", [whole(KEPT)])
    with pytest.raises(UnknownSubject):
        story.vault.shred("era_2", [whole("sub_nobody")])
    with pytest.raises(ErasureUnknown):
        story.vault.erasures.advance("era_2")


def test_partial_shred_takes_what_was_named_and_life_goes_on(story: Story) -> None:
    """One category: a new subject key, survivors re-wrapped, then the partition."""
    gone = scope(GONE, "loans")
    old = story.vault.dek_for(gone)
    story.vault.shred("era_1", [Target(CONTROLLER, GONE, only=(Selector(category="loans"),))])
    with pytest.raises(Erased):
        story.opens(gone)
    assert story.vault.erasures.drive("era_1") == "certified"
    with pytest.raises(Erased):
        story.opens(gone)
    assert story.others_open({gone})
    renewed = story.vault.seal(gone, "r", b"after a new consent")
    assert story.vault.open(gone, "r", renewed) == b"after a new consent"
    assert story.vault.dek_for(gone) != old
    assert story.vault.erased_at(CONTROLLER, GONE) is None


@pytest.mark.parametrize(
    "selector",
    [Selector(holder="bank", basis=Basis.CONSENT), Selector(life=""), Selector(category="loans", holder="bank")],
)
def test_selectors(story: Story, selector: Selector) -> None:
    spared = scope(GONE, "loans", holder="broker", basis=Basis.OTHER, life="2026-03")
    story.records[spared] = story.vault.seal(spared, "r", b"secret of " + GONE.encode())
    taken = {place for place in story.of(GONE) if selector.takes(place)}
    assert taken
    assert spared not in taken
    story.vault.shred("era_1", [Target(CONTROLLER, GONE, only=(selector,))])
    story.vault.erasures.drive("era_1")
    assert story.others_open(taken)
    for place in taken:
        with pytest.raises(Erased):
            story.opens(place)


def test_retained_data_outlives_an_erasure(story: Story) -> None:
    """Dsar rules 48 and 49: what is kept opens, is listed with its end date and reason, and nothing new is made."""
    kept = scope(GONE, "loans")
    keep = Keep(Selector(category="loans"), date(2031, 3, 1), "anti_money_laundering")
    story.vault.shred("era_1", [whole(GONE, keep)])
    story.vault.erasures.drive("era_1")
    assert story.opens(kept)
    with pytest.raises(Erased):
        story.opens(scope(GONE))
    with pytest.raises(Erased):
        story.vault.dek_for(scope(GONE, "something.new"))
    (certificate,) = story.vault.erasures.certificates("era_1")
    (retained,) = certificate["retained"]
    assert retained["category"] == "loans"
    assert (retained["retained_until"], retained["reason"]) == ("2031-03-01", "anti_money_laundering")
    story.clock.pass_(days=5 * 366)
    story.vault.shred("era_2", [whole(GONE)])
    story.vault.erasures.drive("era_2")
    with pytest.raises(Erased):
        story.opens(kept)
    assert story.others_open(story.of(GONE))


def test_audit_keys_have_their_own_life(story: Story) -> None:
    audit = scope(GONE, "ledger", key_class=KeyClass.AUDIT)
    entry = story.vault.seal(audit, "leaf", b"consent.given")
    story.vault.shred("era_1", [whole()])
    story.vault.erasures.drive("era_1")
    assert story.vault.open(audit, "leaf", entry) == b"consent.given"
    story.vault.shred("era_2", [Target(CONTROLLER, GONE, classes=(KeyClass.AUDIT,))])
    story.vault.erasures.drive("era_2")
    with pytest.raises(Erased):
        story.vault.open(audit, "leaf", entry)


def test_pool_values_go_with_the_erasure_or_alone(story: Story) -> None:
    pools = {subject: scope(subject, "cohort", key_class=KeyClass.POOL) for subject in (GONE, KEPT)}
    records = {subject: story.vault.seal(place, "v", b"1") for subject, place in pools.items()}
    story.vault.shred("era_1", [whole(), Target(CONTROLLER, KEPT, only=(Selector(),), classes=(KeyClass.POOL,))])
    story.vault.erasures.drive("era_1")
    for subject, place in pools.items():
        with pytest.raises(Erased):
            story.vault.open(place, "v", records[subject])
    assert story.others_open(story.of(GONE))


def test_a_batch_rewraps_each_partition_once(keys_engine: Engine, tmp_path: Path) -> None:
    story = Story(keys_engine, tmp_path, per_partition=4)
    story.vault.shred("era_1", [whole(subject) for subject in (SUBJECTS[0], SUBJECTS[1], SUBJECTS[5])])
    story.vault.erasures.drive("era_1")
    assert story.generations() == {
        (key_class, number): 2 if key_class == "data" else 1
        for key_class in ("data", "audit", "pool")
        for number in (0, 1)
    }
    gone = story.of(SUBJECTS[0]) | story.of(SUBJECTS[1]) | story.of(SUBJECTS[5])
    assert story.others_open(gone)
    certificates = story.vault.erasures.certificates("era_1")
    assert [each["subject"] for each in certificates] == [SUBJECTS[0], SUBJECTS[1], SUBJECTS[5]]
    for mine in certificates:
        text_of = json.dumps(mine)
        assert all(other not in text_of for other in SUBJECTS if f'"{other}"' != f'"{mine["subject"]}"')


def test_the_certificate(story: Story) -> None:
    with story.engine.connect() as connection:
        asked = "SELECT id FROM subject_keys WHERE key_class = 'data'"
        before = {bytes(row[0]) for row in connection.execute(text(asked))}
    story.vault.shred("era_1", [whole()])
    story.vault.erasures.drive("era_1")
    (certificate,) = story.vault.erasures.certificates("era_1")
    unsigned = {name: value for name, value in certificate.items() if name != "signature"}
    assert certificate["signature"]["value"] == hashlib.sha256(canonical(unsigned)).hexdigest()
    assert certificate["statement"] == "keys destroyed"
    assert "anonymi" not in json.dumps(certificate)
    assert certificate["irrevocable_at"] == story.clock.now().isoformat(timespec="seconds")
    site = next(each for each in certificate["partitions"] if each["class"] == "data")
    assert (site["generation_before"], site["generation_after"]) == (1, 2)
    assert (site["keys_before"], site["keys_after"]) == (8, 7)
    assert site["inventory_before"] == inventory_root(before)
    with story.engine.connect() as connection:
        after = {bytes(row[0]) for row in connection.execute(text(asked))}
    assert len(before - after) == 1
    assert site["inventory_after"] == inventory_root(after)
    assert site["old_root"]["state"] == "destroyed"
    assert site["old_root"]["assurance"].startswith("A:")
    scan = certificate["scan"]
    assert scan["traces_found"] == 0
    searched = scan["files"] > 0
    assert searched == (story.engine.dialect.name == "sqlite")
    assert (scan["not_searched"] is None) == searched
    assert certificate["does_not_prove"]


@pytest.mark.parametrize("fate", ["destroyed", "kept"])
def test_a_certificate_does_not_tell_whether_there_were_keys_of_a_category_it_never_names(
    keys_engine: Engine, tmp_path: Path, fate: str
) -> None:
    """Dsar rule 42: of two people alike but for a suspicion, the certificates differ in ids alone."""
    clock = SetClock()
    vault = open_vault(keys_engine, tmp_path, clock, unnamed={"aml.file"})
    said = []
    for subject, categories in (("sub_plain", ["a.a", "a.b"]), ("sub_watched", ["a.a", "a.b", "aml.file"])):
        vault.create_subject(CONTROLLER, subject)
        for category in categories:
            vault.seal(scope(subject, category), "r", b"data")
        kept = {"a.b", "aml.file"} if fate == "kept" else set()
        keep = tuple(Keep(Selector(category=each), date(2031, 3, 1), "law") for each in sorted(kept))
        vault.shred(f"era_{subject}", [Target(CONTROLLER, subject, keep=keep)])
        vault.erasures.drive(f"era_{subject}")
        (certificate,) = vault.erasures.certificates(f"era_{subject}")
        said.append(shape(certificate))
        journal = vault.erasures.journal(f"era_{subject}")
        named = {key.category for each in journal.targets for key in (*each.destroyed, *each.retained)}
        assert named == set(categories), "the journal has them all"
    assert said[0] == said[1]
    assert "aml" not in json.dumps(said)


def shape(certificate: Mapping[str, Json]) -> list[object]:
    """What a certificate says beside ids, numbers of everybody's keys and signatures."""
    listed = [
        sorted((str(key["category"]), str(key["holder"])) for key in keys)
        for keys in (
            [key for target in certificate["destroyed"] for key in target["data_keys"]],
            certificate["retained"],
        )
    ]
    places = [(site["class"], site["old_root"]["state"]) for site in certificate["partitions"]]
    return [sorted(certificate), listed, places, certificate["does_not_prove"]]


def test_inventory_root_is_rfc_6962() -> None:
    """Section 2.1, split at the largest power of two, written from the text."""

    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) < 2:
            return hashlib.sha256(b"\x00" + leaves[0] if leaves else b"").digest()
        split = 1
        while split * 2 < len(leaves):
            split *= 2
        return hashlib.sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()

    for size in range(40):
        ids = [bytes([n]) * 16 for n in range(size)]
        assert inventory_root(reversed(ids)) == root(ids).hex()


def test_subjects_made_during_a_rewrap_survive(story: Story) -> None:
    story.vault.shred("era_1", [whole()])
    for state in ORDER:
        name = f"late_{state}"
        story.vault.create_subject(CONTROLLER, name)
        place = scope(name)
        story.records[place] = story.vault.seal(place, "r", b"secret of " + name.encode())
        more = scope(KEPT, state)
        story.records[more] = story.vault.seal(more, "r", b"secret of " + KEPT.encode())
        assert story.vault.erasures.advance("era_1") == state
        assert story.others_open(story.of(GONE))


def test_two_erasures_on_one_partition(story: Story) -> None:
    """The second waits while the first re-wraps; both end; nobody else is touched."""
    story.vault.shred("era_1", [whole(GONE)])
    story.vault.shred("era_2", [whole(KEPT)])
    for _ in range(3):
        story.vault.erasures.advance("era_1")
    assert story.vault.erasures.state("era_1") == "rewrapped"
    with pytest.raises(PartitionBusy):
        story.vault.erasures.drive("era_2")
    assert story.vault.erasures.state("era_2") == "key_row_removed"
    with pytest.raises(Erased):
        story.opens(scope(KEPT))
    story.vault.erasures.drive("era_1")
    story.vault.erasures.drive("era_2")
    assert story.others_open(story.of(GONE) | story.of(KEPT))
    assert story.generations()["data", 0] == 3


def test_partial_then_whole_of_one_subject_at_once(story: Story) -> None:
    """The partial one's leases hold the whole one back; either order ends in nothing left."""
    story.vault.lease(scope(GONE, "loans"), 60)
    story.vault.shred("era_1", [Target(CONTROLLER, GONE, only=(Selector(category="loans"),))])
    story.vault.shred("era_2", [whole()])
    assert story.vault.erasures.drive("era_2") == "requested"
    story.clock.pass_(seconds=60)
    assert story.vault.erasures.drive("era_2") == "certified"
    assert story.vault.erasures.drive("era_1") == "certified"
    for place in story.of(GONE):
        with pytest.raises(Erased):
            story.opens(place)
    assert story.others_open(story.of(GONE))


def waiting(engine: Engine) -> bool:
    asked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        return bool(connection.execute(text(asked)).all())


@pytest.mark.parametrize(("state", "place"), [("caches_evicted", KeyClass.POOL), ("verified", KeyClass.DATA)])
def test_nobody_holds_a_key_while_waiting_for_a_partition(tmp_path: Path, state: str, place: KeyClass) -> None:
    """Two that did would wait for each other until PostgreSQL breaks one off: first partitions, in order, then keys."""
    with postgres_database("keys") as url:
        story = Story(open_engine(url, keys=True), tmp_path, per_partition=4)
        story.vault.shred("era_1", [whole(SUBJECTS[0]), whole(SUBJECTS[4])])
        while story.vault.erasures.state("era_1") != state:
            story.vault.erasures.advance("era_1")
        last = max(each.partition for each in story.vault.erasures.journal("era_1").targets if each.key_class is place)
        with ThreadPoolExecutor(1) as pool, story.engine.begin() as other:
            held = "SELECT 1 FROM partitions WHERE key_class = :place AND number = :last FOR UPDATE"
            other.execute(text(held), {"place": place.value, "last": last}).one()
            stepping = pool.submit(story.vault.erasures.advance, "era_1")
            wait(partial(waiting, story.engine))
            assert other.execute(text("SELECT id FROM subject_keys FOR UPDATE NOWAIT")).all()
            other.rollback()
            assert stepping.result(PATIENCE) == ORDER[ORDER.index(state) + 1]
        story.engine.dispose()


def test_another_worker_is_kept_out_until_the_lease_runs_out(story: Story) -> None:
    other = open_vault(story.engine, story.folder, story.clock, worker="host:1")
    story.vault.shred("era_1", [whole()])
    store = SqlKeyStore(story.engine)
    with store.writing() as tx:
        assert tx.take("era_1", "host:0", story.clock.now(), story.clock.now() + timedelta(seconds=30))
    with pytest.raises(PartitionBusy):
        other.erasures.advance("era_1")
    assert story.vault.erasures.advance("era_1") == "caches_evicted"
    with store.writing() as tx:
        assert tx.take("era_1", "host:0", story.clock.now(), story.clock.now() + timedelta(seconds=30))
    story.clock.pass_(seconds=31)
    assert other.erasures.drive("era_1") == "certified"


def store_key(store: SqlKeyStore) -> bytes:
    with store.reading() as tx:
        found = tx.subject_key(CONTROLLER, GONE, KeyClass.DATA)
    assert found is not None
    return found.id


def test_a_worker_that_comes_late_changes_nothing(story: Story) -> None:
    """Its step is refused at the journal and undone as a whole."""
    story.vault.shred("era_1", [whole()])
    store = SqlKeyStore(story.engine)
    subject_key = store_key(store)

    def late_step() -> None:
        with store.writing() as tx:
            tx.remove_subject_key(subject_key)
            tx.move("era_1", ErasureState.REQUESTED, ErasureState.CACHES_EVICTED, "host:9", story.clock.now())

    with pytest.raises(PartitionBusy):
        late_step()
    assert store_key(store) == subject_key
    assert story.vault.erasures.state("era_1") == "requested"


class Lying:
    """The file keyring, except that it gives back other keys than it was given, or says it destroyed and did not."""

    kind = "lying"

    def __init__(self, real: FileKeyring) -> None:
        self.real = real
        self.wrong_key_for = ""
        self.keeps = False

    def create_root(self, name: RootName) -> str:
        return self.real.create_root(name)

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        return self.real.wrap(root, key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        opened = self.real.unwrap(root, wrapped, name)
        return bytearray(32) if root == self.wrong_key_for else opened

    def destroy(self, root: str) -> None:
        if not self.keeps:
            self.real.destroy(root)

    def describe(self, root: str) -> RootDescription:
        return self.real.describe(root)


def test_a_provider_that_lies_destroys_nobody(keys_engine: Engine, tmp_path: Path) -> None:
    """VERIFIED asks the provider anew and opens each survivor before anything is destroyed."""
    lying = Lying(keyring(tmp_path, SetClock()))
    story = Story(keys_engine, tmp_path, provider=lying)
    story.vault.shred("era_1", [whole()])
    for _ in range(3):
        story.vault.erasures.advance("era_1")
    lying.wrong_key_for = next(s for s in (site.new_root for site in story.vault.erasures.journal("era_1").sites) if s)
    with pytest.raises(SurvivorUnverified):
        story.vault.erasures.advance("era_1")
    assert story.vault.erasures.state("era_1") == "key_row_removed"
    story.vault.epochs.forget()
    assert story.others_open(story.of(GONE))
    lying.wrong_key_for, lying.keeps = "", True
    with pytest.raises(RootStillAlive):
        story.vault.erasures.drive("era_1")
    assert story.vault.erasures.state("era_1") == "committed"
    assert story.vault.erasures.certificates("era_1") == ()
    lying.keeps = False
    assert story.vault.erasures.drive("era_1") == "certified"
    assert story.others_open(story.of(GONE))


class Delayed(Lying):
    """A provider that shuts a root at once and cannot bring it back only after a week, as the cloud ones do."""

    kind = "delayed"

    def describe(self, root: str) -> RootDescription:
        told = self.real.describe(root)
        if told.state is RootState.ACTIVE or told.irrevocable_at is None:
            return told
        later = told.irrevocable_at + timedelta(days=7)
        return RootDescription(
            RootState.SCHEDULED, later, "C: unusable now, irrevocable later", {"provider": self.kind}
        )


def test_scheduled_destruction_is_said_on_the_certificate(keys_engine: Engine, tmp_path: Path) -> None:
    story = Story(keys_engine, tmp_path, provider=Delayed(keyring(tmp_path, SetClock())))
    story.vault.shred("era_1", [whole()])
    states = [str(story.vault.erasures.advance("era_1")) for _ in ORDER]
    assert states == [state.replace("old_root_destroyed", "scheduled") for state in ORDER]
    (certificate,) = story.vault.erasures.certificates("era_1")
    assert certificate["irrevocable_at"] == (story.clock.now() + timedelta(days=7)).isoformat(timespec="seconds")


# Copies and traces (SQLite, where the files are ours to look at)


@pytest.fixture
def files(tmp_path: Path) -> Story:
    engine = open_engine(f"sqlite:///{tmp_path / 'keys.sqlite'}", keys=True)
    KeysBase.metadata.create_all(engine)
    return Story(engine, tmp_path)


def copy_of(story: Story, name: str) -> Path:
    """A proper backup, as an operator takes it."""
    target = story.folder / name
    source = sqlite3.connect(story.folder / "keys.sqlite")
    copied = sqlite3.connect(target)
    source.backup(copied)
    source.close()
    copied.close()
    return target


def wrapped_of(path: Path, subject: str, key_class: str = "data") -> list[bytes]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT wrapped FROM subject_keys WHERE subject=? AND key_class=? "
        "UNION SELECT wrapped FROM data_keys WHERE subject=? AND key_class=?",
        (subject, key_class) * 2,
    ).fetchall()
    connection.close()
    return [row[0] for row in rows]


def live_files(story: Story) -> list[Path]:
    return [path for path in story.folder.iterdir() if not path.name.startswith("backup")]


@pytest.mark.parametrize("partial", [False, True])
def test_byte_scan_finds_nothing_of_the_erased(files: Story, partial: bool) -> None:
    """Shows 4: no file of the key store, log, keyring or tombstones holds a wrapped key or key bytes of the erased."""
    lease = files.vault.lease(scope(GONE, "loans"))
    backup = copy_of(files, "backup.sqlite")
    if partial:
        connection = sqlite3.connect(backup)
        asked = (
            "SELECT wrapped FROM data_keys WHERE subject=? AND category='loans' UNION "
            "SELECT wrapped FROM subject_keys WHERE subject=? AND key_class='data'"
        )
        needles = [row[0] for row in connection.execute(asked, (GONE, GONE))]
        connection.close()
    else:
        needles = wrapped_of(backup, GONE) + wrapped_of(backup, GONE, "pool")
    assert len(needles) >= 2
    assert all(needle in backup.read_bytes() for needle in needles), "the scan itself must be able to find"
    only = (Selector(category="loans"),) if partial else ()
    files.vault.shred("era_1", [Target(CONTROLLER, GONE, only=only)])
    files.vault.erasures.acknowledge("era_1")
    assert files.vault.erasures.drive("era_1") == "certified"
    for path in live_files(files):
        content = path.read_bytes()
        for needle in [*needles, bytes(lease.key)]:
            assert needle not in content, path.name
            assert needle[12:44] not in content, path.name
    kept = wrapped_of(files.folder / "keys.sqlite", KEPT)
    assert all(any(each in path.read_bytes() for path in live_files(files)) for each in kept)


@pytest.mark.parametrize("target", [whole(), Target(CONTROLLER, GONE, only=(Selector(category="loans"),))])
def test_a_backup_with_todays_keyring_opens_nothing_of_the_erased(files: Story, target: Target) -> None:
    """The copy brings the rows back; what wrapped them is destroyed. Survivors open from the live store."""
    backup = copy_of(files, "backup.sqlite")
    gone = {scope(GONE, "loans")} if target.only else files.of(GONE)
    files.vault.shred("era_1", [target])
    files.vault.erasures.drive("era_1")
    restored = open_engine(f"sqlite:///{backup}", keys=True)
    old = open_vault(restored, files.folder, files.clock)
    for place in gone:
        with pytest.raises(RootDestroyed):
            files.opens(place, old)
    assert files.others_open(gone)
    restored.dispose()


def test_old_rows_do_not_open_under_new_epoch_either(files: Story) -> None:
    """Somebody copies the erased subject's old rows from a backup into the live store."""
    backup = copy_of(files, "backup.sqlite")
    files.vault.shred("era_1", [whole()])
    files.vault.erasures.drive("era_1")
    connection = sqlite3.connect(files.folder / "keys.sqlite")
    connection.execute("ATTACH ? AS old", (str(backup),))
    for table in ("subject_keys", "data_keys"):
        connection.execute(
            f"INSERT INTO {table} SELECT * FROM old.{table} WHERE subject=? AND key_class='data'", (GONE,)
        )
    connection.commit()
    connection.close()
    for place in files.of(GONE):
        with pytest.raises((KeyDamaged, Erased)):
            files.opens(place)
    assert files.others_open(files.of(GONE))


def test_an_open_reader_is_survived_and_told(files: Story) -> None:
    """A reader blocks the truncating checkpoint: the root is destroyed all the same, and the certificate says so."""
    reader = sqlite3.connect(files.folder / "keys.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM subject_keys").fetchone()
    files.vault.shred("era_1", [whole()])
    assert files.vault.erasures.drive("era_1") == "certified"
    (certificate,) = files.vault.erasures.certificates("era_1")
    assert certificate["scan"]["log_truncated"] is False
    assert certificate["scan"]["traces_found"] > 0
    for place in files.of(GONE):
        with pytest.raises(Erased):
            files.opens(place)
    reader.close()


# Tombstones after a restore


def restore(story: Story, backup: Path, keyring_copy: Path | None) -> Vault:
    """A new host: the backup as the key store, and today's keyring, or one restored with it."""
    folder = story.folder / "restored"
    folder.mkdir()
    shutil.copy(backup, folder / "keys.sqlite")
    shutil.copy(keyring_copy or story.folder / "keyring", folder / "keyring")
    shutil.copy(story.folder / "tombstones", folder / "tombstones")
    return open_vault(open_engine(f"sqlite:///{folder / 'keys.sqlite'}", keys=True), folder, story.clock)


@pytest.mark.parametrize(
    "target",
    [
        whole(),
        whole(GONE, Keep(Selector(category="loans"), date(2031, 1, 1), "law")),
        Target(CONTROLLER, GONE, only=(Selector(category="loans"),)),
    ],
)
def test_tombstones_undo_a_full_restore(files: Story, target: Target) -> None:
    """Dsar rule 54. Even the keyring came back: replay shreds again before serving, and only what was shredded."""
    backup = copy_of(files, "backup.sqlite")
    shutil.copy(files.folder / "keyring", files.folder / "backup.keyring")
    gone = {place for place in files.of(GONE) if not (target.keep and place.category == "loans")}
    gone = {scope(GONE, "loans")} if target.only else gone
    files.vault.shred("era_1", [target])
    files.vault.erasures.drive("era_1")
    restored = restore(files, backup, files.folder / "backup.keyring")
    assert files.others_open(set(), restored), "the restore really brought everything back"
    (replayed,) = restored.replay(Tombstones(files.folder / "tombstones").read())
    for place in gone:
        with pytest.raises(Erased):
            files.opens(place, restored)
    assert restored.erasures.drive(replayed) == "certified"
    for place in gone:
        with pytest.raises(Erased):
            files.opens(place, restored)
    assert files.others_open(gone, restored)
    assert restored.replay(Tombstones(files.folder / "restored" / "tombstones").read()) == ()


def test_replay_on_a_live_store_changes_nothing(files: Story) -> None:
    files.vault.shred("era_1", [whole()])
    files.vault.shred("era_2", [Target(CONTROLLER, KEPT, only=(Selector(category="loans"),))])
    files.vault.erasures.drive("era_1")
    files.vault.erasures.drive("era_2")
    renewed = scope(KEPT, "loans")
    record = files.vault.seal(renewed, "r", b"new consent")
    assert files.vault.replay(Tombstones(files.folder / "tombstones").read()) == ()
    assert files.vault.open(renewed, "r", record) == b"new consent"


def test_replay_with_a_dead_root_shuts_at_once(files: Story) -> None:
    """Key store restored, keyring today's: the partition is noise, the replay says so rather than certify."""
    backup = copy_of(files, "backup.sqlite")
    files.vault.shred("era_1", [whole()])
    files.vault.erasures.drive("era_1")
    restored = restore(files, backup, None)
    (replayed,) = restored.replay(Tombstones(files.folder / "tombstones").read())
    with pytest.raises(Erased):
        files.opens(scope(GONE), restored)
    with pytest.raises(RootDestroyed):
        restored.erasures.drive(replayed)
    with pytest.raises(Erased):
        files.opens(scope(GONE), restored)


class Counting(Lying):
    """A provider that counts what it is asked: each call is a journey to a machine elsewhere."""

    def __init__(self, real: FileKeyring) -> None:
        super().__init__(real)
        self.asked: Counter[str] = Counter()

    def create_root(self, name: RootName) -> str:
        self.asked["create_root"] += 1
        return super().create_root(name)

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        self.asked["wrap"] += 1
        return super().wrap(root, key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        self.asked["unwrap"] += 1
        return super().unwrap(root, wrapped, name)

    def destroy(self, root: str) -> None:
        self.asked["destroy"] += 1
        super().destroy(root)


def test_an_erasure_asks_the_provider_as_often_among_thousands_as_among_a_few(
    keys_engine: Engine, tmp_path: Path
) -> None:
    """Vault.md section 7: neighbours in the partition cost the machine's own work, not journeys to the provider."""
    counting = Counting(keyring(tmp_path, SetClock()))
    vault = open_vault(keys_engine, tmp_path, SetClock(), provider=counting)
    vault.create_subject(CONTROLLER, "left")
    record = vault.seal(scope("left"), "r", b"x")

    def erased_beside(neighbours: int, gone: str) -> tuple[Counter[str], int]:
        vault.create_subjects(CONTROLLER, [gone, *(f"{gone}_{n}" for n in range(neighbours))])
        vault.dek_for(scope(gone))
        vault.shred(gone, [Target(CONTROLLER, gone)])
        before = counting.asked.copy()
        vault.erasures.drive(gone)
        assert vault.open(scope("left"), "r", record) == b"x"
        (site,) = (each for each in vault.erasures.journal(gone).sites if each.key_class is KeyClass.DATA)
        assert site.keys_before - site.keys_after == 1
        return counting.asked - before, site.keys_before

    few, beside_few = erased_beside(6, "first")
    full, beside_thousands = erased_beside(4_087, "second")
    assert (beside_few, beside_thousands) == (8, 4_095)
    assert few == full
    assert full["create_root"] == full["destroy"] > 0


def test_a_subject_without_data_is_erased_without_a_rewrap(story: Story) -> None:
    """Nothing was ever under its keys: closing it is enough, and the certificate shows it."""
    story.vault.create_subject(CONTROLLER, "sub_empty")
    before = story.generations()
    story.vault.shred("era_1", [Target(CONTROLLER, "sub_empty")])
    assert story.vault.erasures.drive("era_1") == "certified"
    assert story.generations() == before
    with pytest.raises(Erased):
        story.vault.dek_for(scope("sub_empty"))
    (certificate,) = story.vault.erasures.certificates("era_1")
    assert certificate["partitions"] == []
    assert certificate["irrevocable_at"] == story.clock.now().isoformat(timespec="seconds")
    with story.engine.connect() as connection:
        left = connection.execute(text("SELECT key_class FROM subject_keys WHERE subject = 'sub_empty'")).scalars()
        assert list(left) == ["audit"]


ALL_PARTS = Target(CONTROLLER, GONE, only=(Selector(),), classes=(KeyClass.DATA,))


def promised(story: Story, erasure: str) -> object:
    (certificate,) = story.vault.erasures.certificates(erasure)
    return certificate["irrevocable_at"]


def test_a_whole_erasure_waits_for_the_roots_over_what_went_before(keys_engine: Engine, tmp_path: Path) -> None:
    """Vault.md section 5: all its keys were taken by parts, but the root over them lives on and opens a backup. Nothing
    is certified before that one ended, and the promise is no earlier.
    """
    lying = Lying(keyring(tmp_path, clock := SetClock()))
    story = Story(keys_engine, tmp_path, provider=lying)
    lying.keeps = True
    story.vault.shred("era_1", [ALL_PARTS])
    with pytest.raises(RootStillAlive):
        story.vault.erasures.drive("era_1")
    story.vault.shred("era_2", [whole()])
    for _ in range(2):
        with pytest.raises(PartitionBusy):
            story.vault.erasures.drive("era_2")
        assert story.vault.erasures.certificates("era_2") == ()
    lying.keeps = False
    for each in (clock, story.clock):
        each.pass_(hours=1)
    assert [story.vault.erasures.drive(each) for each in ("era_1", "era_2")] == ["certified", "certified"]
    assert promised(story, "era_2") == promised(story, "era_1") == clock.now().isoformat(timespec="seconds")
    assert story.others_open(story.of(GONE))


def test_a_whole_erasure_promises_no_less_than_the_parts_before_it(keys_engine: Engine, tmp_path: Path) -> None:
    """The provider can call the root back for a week, or it is kept for backups: the certificate says until when."""
    story = Story(keys_engine, tmp_path, provider=Delayed(keyring(tmp_path, clock := SetClock())))
    week = (clock.now() + timedelta(days=7)).isoformat(timespec="seconds")
    story.vault.shred("era_1", [ALL_PARTS])
    assert story.vault.erasures.drive("era_1") == "certified"
    story.vault.shred("era_2", [whole()])
    assert story.vault.erasures.drive("era_2") == "certified"
    assert promised(story, "era_1") == promised(story, "era_2") == week


def test_a_whole_erasure_says_that_roots_are_kept_for_backups(keys_engine: Engine, tmp_path: Path) -> None:
    story = Story(keys_engine, tmp_path, terms=Terms(window=timedelta(hours=24)))
    story.vault.shred("era_1", [ALL_PARTS])
    assert story.vault.erasures.drive("era_1") == "certified"
    story.clock.pass_(hours=1)
    story.vault.shred("era_2", [whole()])
    assert story.vault.erasures.drive("era_2") == "certified"
    (certificate,) = story.vault.erasures.certificates("era_2")
    assert certificate["statement"] == REMOVED
    assert certificate["irrevocable_at"] == (story.clock.now() + timedelta(hours=24)).isoformat(timespec="seconds")
    story.clock.pass_(hours=24)
    assert story.vault.erasures.end_windows().ended == ("era_1", "era_2")


def test_a_whole_erasure_long_after_the_parts_needs_no_rewrap(story: Story) -> None:
    story.vault.shred("era_1", [ALL_PARTS])
    assert story.vault.erasures.drive("era_1") == "certified"
    before = story.generations()
    story.clock.pass_(minutes=1)
    story.vault.shred("era_2", [whole()])
    assert story.vault.erasures.drive("era_2") == "certified"
    assert story.generations() == before
    assert promised(story, "era_2") == story.clock.now().isoformat(timespec="seconds")


def test_a_shred_that_takes_nothing_touches_nothing(story: Story) -> None:
    before = story.generations()
    story.vault.shred("era_1", [Target(CONTROLLER, GONE, only=(Selector(category="none.such"),))])
    assert story.vault.erasures.drive("era_1") == "certified"
    assert story.generations() == before
    assert story.others_open(set())


def test_everything_kept_is_replayed_as_nothing(story: Story) -> None:
    keep = Keep(Selector(), date(2031, 1, 1), "law")
    story.vault.shred("era_1", [whole(GONE, keep)])
    assert story.vault.erasures.drive("era_1") == "certified"
    assert story.others_open(set())
    assert story.vault.replay(Tombstones(story.folder / "tombstones").read()) == ()


def test_erasing_creating_and_sealing_at_once(keys_engine: Engine, tmp_path: Path) -> None:
    """Three threads over two partitions: nobody waits in a circle, nothing is lost, nothing erased comes back."""
    story = Story(keys_engine, tmp_path, per_partition=4)

    def erase() -> None:
        for number, subjects in enumerate([SUBJECTS[0:1], SUBJECTS[5:3:-1], SUBJECTS[2:3]]):
            story.vault.shred(f"era_{number}", [whole(subject) for subject in subjects])
            assert story.vault.erasures.drive(f"era_{number}") == "certified"

    def seal() -> dict[Scope, bytes]:
        places = [scope(subject, f"c{n}") for n in range(6) for subject in (SUBJECTS[7], SUBJECTS[1])]
        return {place: story.vault.seal(place, "r", b"secret of " + place.subject.encode()) for place in places}

    def create() -> dict[Scope, bytes]:
        places = [scope(f"new_{n}") for n in range(10)]
        for place in places:
            story.vault.create_subject(CONTROLLER, place.subject)
        return {place: story.vault.seal(place, "r", b"secret of " + place.subject.encode()) for place in places}

    with ThreadPoolExecutor(3) as pool:
        erasing, *making = [pool.submit(work) for work in (erase, seal, create)]
        for made in making:
            story.records |= made.result(PATIENCE)
        erasing.result(PATIENCE)
    gone = set().union(*(story.of(SUBJECTS[n]) for n in (0, 2, 4, 5)))
    assert story.others_open(gone)
    for place in gone:
        with pytest.raises(Erased):
            story.opens(place)


def test_an_epoch_key_leaves_memory_in_time_when_nothing_is_asked_any_more(story: Story) -> None:
    """Vault.md section 1 and every certificate: five minutes and a sweep at most, of a quiet process too."""
    story.vault.epochs.forget()
    assert story.others_open(story.of(GONE))
    story.clock.pass_(seconds=300)
    assert story.vault.epochs.drop_stale() > 0
    assert story.vault.epochs.drop_stale() == 0
