"""The mass-erasure guard and the cooling period (vault.md section 5): who has to agree, and what waits meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.settings import SettingsFaultsError, read_settings
from app.store.engine import open_engine
from app.vault.core import Vault
from app.vault.errors import ApprovedBefore, Erased, ErasureUnknown, NotHeld, SelfApproval
from app.vault.guarding import Reason, Terms, Wait, batch_after, hold_of, together, wait_of
from app.vault.keys import Basis, Keep, KeyClass, Selector, Target
from app.vault.ports import Erasure, ErasureSite, ErasureState, ErasureTarget, Hold
from app.vault.tombstones import Tombstone, Tombstones
from app.wiring.vaults import terms_of
from tests.databases import metadata
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope
from tests.waiting import PATIENCE

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
PEOPLE = [f"sub_{number}" for number in range(8)]
TWO = Terms(guard=2)


@pytest.mark.parametrize(
    ("since", "due"),
    [
        (NOON, NOON),
        (NOON + timedelta(microseconds=1), NOON + QUARTER),
        (NOON + timedelta(minutes=14, seconds=59), NOON + QUARTER),
        (NOON + QUARTER, NOON + QUARTER),
    ],
)
def test_batches_begin_on_the_quarter(since: datetime, due: datetime) -> None:
    assert batch_after(since, QUARTER) == due
    assert batch_after(since, timedelta(0)) == since


def people(*subjects: str) -> set[tuple[str, str]]:
    return {(CONTROLLER, subject) for subject in subjects}


@pytest.mark.parametrize(
    ("before", "more", "guard", "held"),
    [
        ((), ("a", "b"), 2, False),
        (("a",), ("b", "c"), 2, True),
        (("a", "b"), ("b",), 2, False),
        (("a", "b"), (), 2, False),
        ((), ("a",), 0, True),
        (("a", "b"), ("c",), None, False),
    ],
)
def test_whom_the_guard_holds(before: tuple[str, ...], more: tuple[str, ...], guard: int | None, held: bool) -> None:
    expected = Hold.MASS_ERASURE if held else None
    assert hold_of(people(*before), people(*more), Terms(guard=guard)) is expected


def journal(name: str, *partitions: int, **more: object) -> Erasure:
    sites = tuple(ErasureSite(KeyClass.DATA, number) for number in partitions)
    target = ErasureTarget(CONTROLLER, name, KeyClass.DATA, 0, True, b"k" * 16, (), ())
    state = more.pop("state", ErasureState.REQUESTED)
    return Erasure(name, state, NOON, False, None, (target,), sites, None, (), NOON, **more)  # type: ignore[arg-type]


def test_a_batch_has_bounded_partitions() -> None:
    first, same, other, third = journal("a", 1, 2), journal("b", 2), journal("c", 3), journal("d", 4)
    assert together(first, [same, other, third], 3) == (first, same, other)
    assert together(first, [same, other], 1) == (first, same), "its own partitions are never too many"


def test_what_is_waited_for_first() -> None:
    """People before time, time before leases; what was agreed to waits for nobody."""
    soon, later = NOON + timedelta(seconds=30), NOON + timedelta(hours=2)
    held = journal("a", held_for=Hold.MASS_ERASURE, not_before=later)
    assert wait_of(held, soon, TWO, NOON) == Wait(Reason.APPROVAL, None)
    agreed = journal("a", held_for=Hold.MASS_ERASURE, approved_at=NOON, not_before=later)
    assert wait_of(agreed, soon, TWO, NOON) == Wait(Reason.COOLING, later)
    assert wait_of(journal("a"), soon, TWO, NOON) == Wait(Reason.LEASES, soon)
    assert wait_of(journal("a"), soon, TWO, soon) is None
    removed = journal("a", state=ErasureState.KEY_ROW_REMOVED)
    assert wait_of(removed, None, Terms(batch=QUARTER), NOON + QUARTER) is None


def copied(live: Path, to: Path) -> None:
    """Take a backup, as the operator's command does."""
    source, copy = sqlite3.connect(live), sqlite3.connect(to)
    source.backup(copy)
    source.close()
    copy.close()


class Town:
    """A vault with people, each with a sealed record, a partition for each."""

    def __init__(self, engine: Engine, folder: Path, terms: Terms) -> None:
        self.engine, self.folder, self.clock = engine, folder, SetClock()
        self.vault = open_vault(engine, folder, self.clock, terms=terms, per_partition=1)
        self.vault.create_subjects(CONTROLLER, PEOPLE)
        self.records = {each: self.vault.seal(scope(each), "r", each.encode()) for each in PEOPLE}

    def opens(self, subject: str, vault: Vault | None = None) -> bool:
        opened = (vault or self.vault).open(scope(subject), "r", self.records[subject])
        return opened == subject.encode()

    def erase(self, *subjects: str, by: str | None = None, name: str | None = None) -> str:
        erasure = name or f"era_{subjects[0]}"
        self.vault.shred(erasure, [Target(CONTROLLER, each) for each in subjects], by=by)
        return erasure

    def keys_of(self, subject: str) -> int:
        with self.engine.connect() as connection:
            asked = text("SELECT count(*) FROM subject_keys WHERE subject = :subject")
            return int(connection.execute(asked, {"subject": subject}).scalar_one())


@pytest.fixture
def town(keys_engine: Engine, tmp_path: Path) -> Iterator[Town]:
    return Town(keys_engine, tmp_path, TWO)


def test_above_the_number_nothing_is_destroyed_before_two_agree(town: Town) -> None:
    """At once refused, as the person was told; physically whole until two colleagues, neither of whom asked, agree."""
    for subject in PEOPLE[:2]:
        assert town.vault.erasures.drive(town.erase(subject)) == "certified"
    erasure = town.erase(PEOPLE[2], by="stf_asker")
    with pytest.raises(Erased):
        town.opens(PEOPLE[2])
    with pytest.raises(Erased):
        town.vault.lease(scope(PEOPLE[2]))
    town.clock.pass_(days=3)
    assert town.vault.erasures.drive(erasure, now=True) == "requested"
    assert town.vault.erasures.drive_all(now=True).left == (erasure,)
    assert town.vault.erasures.held() == (erasure,)
    assert town.keys_of(PEOPLE[2]) == 3
    assert {stone.subject for stone in Tombstones(town.folder / "tombstones").read()} == set(PEOPLE[:2])

    with pytest.raises(SelfApproval):
        town.vault.erasures.approve(erasure, "stf_asker")
    assert town.vault.erasures.approve(erasure, "stf_one") == 1
    with pytest.raises(ApprovedBefore):
        town.vault.erasures.approve(erasure, "stf_one")
    assert town.vault.erasures.drive(erasure, now=True) == "requested", "one is not two"
    assert town.vault.erasures.approve(erasure, "stf_two") == 0
    assert [each.by for each in town.vault.erasures.journal(erasure).approvals] == ["stf_one", "stf_two"]
    assert town.vault.erasures.held() == ()
    assert town.vault.erasures.drive(erasure) == "certified"
    assert len(town.vault.erasures.certificates(erasure)) == 1
    with pytest.raises(NotHeld):
        town.vault.erasures.approve(erasure, "stf_three")
    with pytest.raises(ErasureUnknown):
        town.vault.erasures.approve("era_nobody", "stf_one")
    assert all(town.opens(each) for each in PEOPLE[3:])


def test_what_is_not_held_cannot_be_agreed_to(town: Town) -> None:
    erasure = town.erase(PEOPLE[0])
    with pytest.raises(NotHeld):
        town.vault.erasures.approve(erasure, "stf_one")


def test_one_erasure_of_very_many_is_held_as_a_whole(town: Town) -> None:
    erasure = town.erase(*PEOPLE[:3], name="era_all")
    assert town.vault.erasures.waits(erasure) == Wait(Reason.APPROVAL, None)
    assert town.vault.erasures.due_at(erasure) is None
    assert town.vault.erasures.waits(town.erase(PEOPLE[4])) is not None, "what is held counts too"


def test_what_counts(town: Town) -> None:
    """Whole people within 24 hours, each once; parts of a person and pooled values are neither counted nor held."""
    for number, subject in enumerate(PEOPLE):
        part = Target(CONTROLLER, subject, only=(Selector(category="loans"),))
        town.vault.shred(f"part_{number}", [part])
        town.vault.shred(f"pool_{number}", [Target(CONTROLLER, subject, classes=(KeyClass.POOL,))])
    assert town.vault.erasures.held() == ()
    town.erase(PEOPLE[0])
    town.erase(PEOPLE[0], name="era_again")
    town.erase(PEOPLE[1])
    assert town.vault.erasures.held() == ()
    town.clock.pass_(hours=23, minutes=59)
    held = town.erase(PEOPLE[2])
    assert town.vault.erasures.held() == (held,)
    town.clock.pass_(minutes=1)
    town.erase(PEOPLE[3])
    assert town.vault.erasures.held() == (held,), "the first two were asked for more than a day ago"


def test_two_at_once_do_not_both_slip_through(keys_engine: Engine, tmp_path: Path) -> None:
    town = Town(keys_engine, tmp_path, Terms(guard=1))
    ready = threading.Barrier(4)

    def ask(subject: str) -> None:
        ready.wait(PATIENCE)
        town.erase(subject)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, PEOPLE[:4]))
    assert len(town.vault.erasures.held()) == 3


def test_a_cooling_period(keys_engine: Engine, tmp_path: Path) -> None:
    """Refused at once, destroyed only afterwards; a shorter setting later on does not shorten what was begun."""
    town = Town(keys_engine, tmp_path, Terms(cooling=timedelta(hours=2)))
    begun = town.clock.now()
    erasure = town.erase(PEOPLE[0])
    with pytest.raises(Erased):
        town.opens(PEOPLE[0])
    hasty = open_vault(keys_engine, tmp_path, town.clock, worker="host:1")
    for _ in range(2):
        assert hasty.erasures.drive(erasure, now=True) == "requested"
        assert town.vault.erasures.due_at(erasure) == begun + timedelta(hours=2)
        assert town.vault.erasures.drive_all(now=True).ended == ()
        town.clock.pass_(minutes=59)
    assert town.keys_of(PEOPLE[0]) == 3
    town.clock.pass_(minutes=2)
    assert town.vault.erasures.drive_all().ended == (erasure,)
    assert town.keys_of(PEOPLE[0]) == 1, "audit keys go with nobody; the rest went when the two hours were over"


class Overlap:
    """A person whose consent ended and whose erasure as a whole, held or cooling down, is asked for beside it."""

    withdrawn = (Selector(category="accounts.balances", basis=Basis.CONSENT),)

    def __init__(self, town: Town, order: str) -> None:
        self.town, self.subject = town, PEOPLE[0]
        self.rest = [scope(self.subject, each, basis=Basis.OTHER) for each in ("identity", "loans")]
        self.sealed = [town.vault.seal(each, "r", each.category.encode()) for each in self.rest]
        asked = (self.whole, self.part) if order == "whole first" else (self.part, self.whole)
        for ask in asked:
            ask()

    def whole(self) -> None:
        self.town.erase(self.subject, by="stf_asker", name="era_line")

    def part(self) -> None:
        self.town.vault.shred("era_part", [Target(CONTROLLER, self.subject, only=self.withdrawn)])

    def certified(self, erasure: str) -> set[str]:
        (certificate,) = self.town.vault.erasures.certificates(erasure)
        taken = certificate["destroyed"]
        return {key["key"] for each in taken for key in each["data_keys"]}  # type: ignore[call-overload, index, union-attr]

    def entombed(self, erasure: str) -> set[str]:
        stones = Tombstones(self.town.folder / "tombstones").read()
        return {key for stone in stones if stone.erasure == erasure for key in stone.keys}

    def keys(self, table: str) -> dict[str, str]:
        """The data keys that live, or went, and of which category each is."""
        with self.town.engine.connect() as connection:
            asked = text(f"SELECT id, category FROM {table} WHERE subject = :subject")
            rows = connection.execute(asked, {"subject": self.subject})
            return {bytes(row[0]).hex(): row[1] for row in rows}

    def call_off(self) -> None:
        """What an operator does by restoring a copy from before: nothing stands against the person any more."""
        with self.town.engine.begin() as connection:
            connection.execute(text("DELETE FROM erased_subjects"))
            connection.execute(text("UPDATE data_keys SET doomed_by = NULL"))


HELD, COOLING = Terms(guard=0), Terms(cooling=timedelta(hours=72))


@pytest.mark.parametrize("order", ["whole first", "part first"])
@pytest.mark.parametrize("terms", [HELD, COOLING], ids=["held", "cooling"])
def test_a_part_takes_nothing_of_what_is_held(keys_engine: Engine, tmp_path: Path, terms: Terms, order: str) -> None:
    """Dsar rule 54, vault.md section 5: keys gone, tombstones and certificate name one set, that of the withdrawal;
    what nobody agreed to yet, or has not cooled down, stays whole; later its own erasure takes it, and names it.
    """
    town = Town(keys_engine, tmp_path, terms)
    both = Overlap(town, order)
    before = both.keys("data_keys")
    assert town.vault.erasures.drive_all(now=True).ended == ("era_part",)
    assert town.vault.erasures.state("era_line") == "requested"
    assert sorted(both.keys("data_keys").values()) == ["identity", "loans"]
    gone = set(both.keys("destroyed_keys"))
    assert {before[each] for each in gone} == {"accounts.balances"}
    assert both.entombed("era_part") == both.certified("era_part") == gone
    assert both.entombed("era_line") == set()
    for place, record in zip(both.rest, both.sealed, strict=True):
        with pytest.raises(Erased):
            town.vault.open(place, "r", record)

    if terms is HELD:
        for one in ("stf_one", "stf_two"):
            town.vault.erasures.approve("era_line", one)
    town.clock.pass_(hours=72)
    assert town.vault.erasures.drive_all(now=True).ended == ("era_line",)
    assert both.keys("data_keys") == {}
    assert both.entombed("era_line") == both.certified("era_line")
    assert both.certified("era_line") | gone == set(before)
    assert town.keys_of(both.subject) == 1, "audit keys go with nobody"


@pytest.mark.parametrize("order", ["whole first", "part first"])
def test_what_is_held_opens_again_after_a_part_went(keys_engine: Engine, tmp_path: Path, order: str) -> None:
    """The way out when it was an attack (decision 0026): what was carried over to the new subject key is unhurt."""
    town = Town(keys_engine, tmp_path, HELD)
    both = Overlap(town, order)
    assert town.vault.erasures.drive("era_part") == "certified"
    both.call_off()
    town.vault.epochs.forget()
    for place, record in zip(both.rest, both.sealed, strict=True):
        assert town.vault.open(place, "r", record) == place.category.encode()
    with pytest.raises(Erased):
        town.opens(both.subject)


def test_what_another_erasure_takes_is_not_promised_to_be_kept(town: Town) -> None:
    """A retention that ended goes by its own erasure; a whole one that would spare the key says nothing of it."""
    place = scope(PEOPLE[0], "papers")
    record = town.vault.seal(place, "r", b"x")
    ended = Selector(category="papers")
    town.vault.shred("era_ended", [Target(CONTROLLER, PEOPLE[0], only=(ended,))])
    town.vault.shred("era_line", [Target(CONTROLLER, PEOPLE[0], keep=(Keep(ended, date(2031, 1, 1), "law"),))])
    assert town.vault.erasures.drive("era_line") == "certified"
    (line,) = town.vault.erasures.certificates("era_line")
    assert line["retained"] == []
    assert "papers" not in str(line["destroyed"])
    assert town.vault.erasures.drive("era_ended") == "certified"
    assert "papers" in str(town.vault.erasures.certificates("era_ended")[0]["destroyed"])
    with pytest.raises(Erased):
        town.vault.open(place, "r", record)


def test_held_while_a_backup_is_taken_and_agreed_to_since(tmp_path: Path) -> None:
    """The tombstone proves that two agreed: a restored key store carries it out without asking them again."""
    path = tmp_path / "keys.sqlite"
    engine = open_engine(f"sqlite:///{path}", keys=True)
    metadata("keys").create_all(engine)
    town = Town(engine, tmp_path, Terms(guard=0, cooling=timedelta(hours=1)))
    erasure = town.erase(PEOPLE[0])
    town.vault.epochs.forget()
    copied(path, tmp_path / "restored.sqlite")
    for one in ("stf_one", "stf_two"):
        town.vault.erasures.approve(erasure, one)
    town.clock.pass_(hours=1)
    assert town.vault.erasures.drive(erasure) == "certified"
    restored = open_vault(
        open_engine(f"sqlite:///{tmp_path / 'restored.sqlite'}", keys=True),
        tmp_path,
        SetClock(NOON),
        terms=Terms(guard=0, cooling=timedelta(hours=1)),
    )
    assert restored.erasures.held() == (erasure,)
    restored.replay(Tombstones(tmp_path / "tombstones").read())
    assert restored.erasures.held() == ()
    assert restored.erasures.waits(erasure) is None
    with pytest.raises(Erased):
        town.opens(PEOPLE[0], restored)


def test_what_a_restore_brings_back_neither_counts_nor_waits(keys_engine: Engine, tmp_path: Path) -> None:
    """Every tombstone was agreed to once; replaying hundreds must not hold up the next person."""
    town = Town(keys_engine, tmp_path, Terms(guard=1, batch=QUARTER, cooling=timedelta(hours=1)))
    stones = [
        Tombstone(f"era_{each}", NOON.isoformat(), CONTROLLER, each, KeyClass.DATA, True, "00", (key.hex(),))
        for each, key in ((each, town.vault.dek_for(scope(each))) for each in PEOPLE[:3])
    ]
    town.vault.replay(stones)
    assert town.vault.erasures.held() == ()
    for each in PEOPLE[:3]:
        assert town.vault.erasures.drive(f"era_{each}.replay") == "certified"
        with pytest.raises(Erased):
            town.opens(each)
    town.erase(PEOPLE[3])
    assert town.vault.erasures.held() == ()
    assert town.erase(PEOPLE[4]) in town.vault.erasures.held()


def test_the_settings_become_the_terms() -> None:
    said = {
        "REGARD_ERASURE_BATCH_MINUTES": "5",
        "REGARD_ERASURE_GUARD_SUBJECTS": "10",
        "REGARD_ERASURE_COOLING_HOURS": "2",
        "REGARD_KEY_BACKUP_WINDOW": "24",
        "REGARD_KEY_PROVIDER": "aws",
        "REGARD_AWS_REGION": "eu-west-3",
        "REGARD_AWS_WAITING_DAYS": "9",
    }
    hours = timedelta(hours=1)
    # the provider's own day on top of its waiting period: AWS deletes within 24 hours after it
    assert terms_of(read_settings(said)) == Terms(timedelta(minutes=5), 2 * hours, 24 * hours, timedelta(days=10), 10)
    assert terms_of(read_settings({})) == Terms(batch=QUARTER, guard=200)
    wrong = {name: "-1" for name in said if name.startswith(("REGARD_ERASURE", "REGARD_KEY_BACKUP"))}
    with pytest.raises(SettingsFaultsError) as caught:
        read_settings({**wrong, "REGARD_KEY_BACKUP_WINDOW": "1000"})
    assert len([fault for fault in caught.value.faults if "must be 0 to" in fault]) == 4
