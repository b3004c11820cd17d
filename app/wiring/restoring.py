"""Before a service serves: what a restored backup brought back is taken away again (vault.md section 5, dsar rule 54).

The tombstone file lies outside both backups. Each database knows how far it was compared with it (`store.restores`);
what comes after that mark is new to it: it was erased since the backup. A normal start verifies the file, compares two
marks and opens each partition once, nothing else; while the service runs, both marks follow the file each minute.
Refused, with the runbook's name: a tombstone file that is missing, damaged or older than a database, and a key store
whose partitions do not open any more. Decision 0025 says what is not found out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Engine

from app.profiles import HOUSE
from app.sdk.sealed import key_id_of
from app.store.restores import SqlMark, partitions, subjects_in
from app.store.rows.restores import KeysMarkRow, RecordsMarkRow
from app.store.subjects import StoredSubject
from app.store.unit import RecordsUnit, Units
from app.vault.core import Vault
from app.vault.errors import (
    Erased,
    KeyDamaged,
    PartitionsShut,
    ProviderUnavailable,
    RootDestroyed,
    TombstonesDamaged,
    TombstonesLost,
    UnknownRoot,
    UnknownSubject,
)
from app.vault.keys import KeyClass, Scope
from app.vault.ports import Partition
from app.vault.tombstones import REPLAYED, START, Mark, Tombstone, Tombstones
from app.vault.wrapping import Random
from app.wiring.caseunit import SparingSubjects, Within, end_agreements, is_live
from app.workflows.consents import erasure_of as erasure_of_consent
from consent.errors import BrokenChainError, UnreadableEventError
from consent.events import Actor, ActorKind
from consent.ports import Journal, Json
from consent.record import Consent
from consent.vocabulary import ControllerId, SubjectRef

REFUSALS: Final = (TombstonesLost, TombstonesDamaged, PartitionsShut)
"""Why a service does not begin to serve; each says so in a sentence."""
KIND: Final = "restore.replayed"
AT_ONCE: Final = 500
"""Tombstones in one unit of work."""
_ACTOR: Final = "regard"
_REPLAYS: Final = Actor(ActorKind.SYSTEM, "tombstones")
_NAMED: Final = 8


@dataclass(frozen=True, slots=True)
class Shut:
    """A partition that does not open under the key provider, why (a code), and how many subject keys are in it."""

    key_class: KeyClass
    number: int
    generation: int
    code: str
    subject_keys: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was taken away again: erasures of the key store, subjects forgotten and agreements ended in the records."""

    erasures: tuple[str, ...] = ()
    subjects: int = 0
    agreements: int = 0


@dataclass(frozen=True, slots=True)
class _Removed:
    erasure: str
    forgotten: bool
    ended: tuple[str, ...]


class Restoring:
    """Compares both databases with the tombstones. One per process."""

    def __init__(
        self,
        units: Units,
        vault: Vault,
        keys: Engine,
        tombstones: Tombstones,
        *,
        random: Random,
        controller: ControllerId,
        prepare: Callable[[], None],
    ) -> None:
        """`controller`: whose ledger a replay is entered in. `prepare` lays the tables of the durable work."""
        self._units = units
        self._vault = vault
        self._keys = keys
        self._tombstones = tombstones
        self._random = random
        self._controller = controller
        self._prepare = prepare
        self._looked = self._replayed = self._astray = False
        self._seen = (START, START)

    def before_serving(self) -> Replayed:
        """Replay what either database does not know yet; to be called before any door opens and any work is done.

        Raises one of `REFUSALS`; `ProviderUnavailable` when something has to be replayed and cannot be recorded.
        """
        self._compare()
        try:
            self.look()
        except ProviderUnavailable:
            structlog.get_logger().warning("keys.not_looked_at")  # readiness looks again (`sound`)
        erasures = self._replay_keys()
        self.finish()
        done = self._replay_records(erasures)
        self._seen = self._marks()
        self._replayed = True
        return done

    # The log

    def _compare(self) -> None:
        """See that the log is whole and goes through both marks, before anything is changed."""
        if (self._mark_of_records(), self._mark_of_keys()) == (None, None):
            self._tombstones.found(self._random)
        self._tombstones.verify(*self._marks())

    def keep_up(self) -> int:
        """Move both marks to the log's present end, so that an older copy of it is noticed; return how many moved.

        To be called each minute; does nothing before all is replayed. An erasure whose tombstone is passed need not
        have ended: the key store journalled it before, and a person's profile and agreements go by durable work that
        the records database held before. So a backup with the moved mark also holds what finishes the erasure.
        What does not fit together any more is logged and makes the service not ready: the next start deals with it.
        """
        if not self._replayed:
            return 0
        try:
            moved = self._follow()
        except (TombstonesLost, TombstonesDamaged) as fault:
            self._astray = True
            structlog.get_logger().error("tombstones.astray", code=fault.code)
            return 0
        return moved

    def _follow(self) -> int:
        before = self._marks()
        _, reached = self._tombstones.since(before[0])
        self._tombstones.since(before[1])
        self._astray = any(now.upto < seen.upto for now, seen in zip(before, self._seen, strict=True))
        if self._astray:
            # a backup was put in place under a service that runs: its old mark is what the next start replays from
            structlog.get_logger().error("tombstones.astray", code="restored_while_serving")
            return 0
        self._move_on(before, reached)
        self._seen = self._marks()
        return sum(was != now for was, now in zip(before, self._seen, strict=True))

    def _move_on(self, before: tuple[Mark, Mark], reached: Mark) -> None:
        if before[0].upto < reached.upto:
            with self._units.writing() as unit:
                self._move(SqlMark(unit.session.connection(), RecordsMarkRow), reached)
                unit.commit()
        if before[1].upto < reached.upto:
            with self._keys.begin() as connection:
                self._move(SqlMark(connection, KeysMarkRow), reached)

    def _move(self, row: SqlMark, reached: Mark) -> None:
        # another process may have come further meanwhile
        if row.hold(self._now()).upto < reached.upto:
            row.move(reached, self._now())

    def _marks(self) -> tuple[Mark, Mark]:
        return self._mark_of_records() or START, self._mark_of_keys() or START

    def _mark_of_records(self) -> Mark | None:
        with self._units.reading() as unit:
            return SqlMark(unit.session.connection(), RecordsMarkRow).read()

    def _mark_of_keys(self) -> Mark | None:
        with self._keys.connect().execution_options(regard_read=True) as connection:
            return SqlMark(connection, KeysMarkRow).read()

    # The partitions

    def sound(self) -> bool:
        """Say whether all is replayed, every partition opens and the log fits both databases (as of the last minute).

        Looks at the partitions once, as soon as the key provider answers.
        """
        if self._replayed and not self._looked:
            with suppress(PartitionsShut, ProviderUnavailable):
                self.look()
        return self._replayed and self._looked and not self._astray

    def look(self) -> None:
        """Open every partition's epoch key. Raises `PartitionsShut` with a report, `ProviderUnavailable`."""
        shut = self.shut()
        if shut:
            raise PartitionsShut(report(shut))
        self._looked = True

    def shut(self) -> tuple[Shut, ...]:
        """Return the partitions that do not open; raises `ProviderUnavailable`."""
        looked = ((partition, self._fault(partition)) for partition in partitions(self._keys))
        doubtful = [(partition, code) for partition, code in looked if code is not None]
        # an erasure of another process may have replaced a partition between reading and opening it
        present = set(partitions(self._keys)) if doubtful else set()
        again = [(one, code if one in present else self._fault(_newest(one, present))) for one, code in doubtful]
        return tuple(self._shut(partition, code) for partition, code in again if code is not None)

    def _fault(self, partition: Partition) -> str | None:
        try:
            self._vault.epochs.fetch(partition)
        except (RootDestroyed, UnknownRoot, KeyDamaged) as fault:
            return fault.code
        return None

    def _shut(self, partition: Partition, code: str) -> Shut:
        count = subjects_in(self._keys, partition)
        return Shut(partition.key_class, partition.number, partition.generation, code, count)

    # The key store

    def _replay_keys(self) -> tuple[str, ...]:
        """Have the keys that a backup brought back refused from now on; returns the erasures that will destroy them."""
        mark = self._mark_of_keys()
        stones, reached = self._tombstones.since(mark or START)
        if mark == reached:
            return ()
        before = set(self._vault.erasures.pending())
        new = tuple(each for each in self._vault.replay(stones) if each not in before)
        if new:
            self._tell({"store": "keys", "erasures": list(new)})
        with self._keys.begin() as connection:
            self._move(SqlMark(connection, KeysMarkRow), reached)
        return new

    def _tell(self, payload: dict[str, Json]) -> None:
        with self._units.writing() as unit:
            self._record(unit, payload)
            unit.commit()

    def _record(self, unit: RecordsUnit, payload: dict[str, Json]) -> None:
        unit.journal.record(KIND, actor=_ACTOR, controller=self._controller, subject=None, payload=payload)

    def finish(self) -> int:
        """Destroy what was replayed, without waiting for a batch; what is held up waits. Returns how many ended."""
        again = self._replays()
        if again:
            self._vault.erasures.drive_all(now=True)
        return len(again) - len(self._replays()) if again else 0

    def _replays(self) -> list[str]:
        return [each for each in self._vault.erasures.pending() if each.endswith(REPLAYED)]

    # The records

    def _replay_records(self, erasures: tuple[str, ...]) -> Replayed:
        subjects = agreements = 0
        while (removed := self._replay_some()) is not None:
            subjects += sum(each.forgotten for each in removed)
            agreements += sum(len(each.ended) for each in removed)
        return Replayed(erasures, subjects, agreements)

    def _replay_some(self) -> list[_Removed] | None:
        """Remove what the next tombstones name, enter it and move the mark, all or nothing; None at the log's end."""
        mark = self._mark_of_records() or START
        stones, reached = self._tombstones.since(mark, AT_ONCE)
        if reached == mark:
            return None
        if stones:
            self._prepare()  # before the transaction: SQLite has one writer
        with self._units.writing() as unit:
            row = SqlMark(unit.session.connection(), RecordsMarkRow)
            stones, reached = self._tombstones.since(row.hold(self._now()), AT_ONCE)
            removed = [each for each in (self._remove(unit, stone) for stone in stones) if each is not None]
            if removed:
                self._record(unit, _told(removed))
            row.move(reached, self._now())
            unit.commit()
        return removed

    def _remove(self, unit: RecordsUnit, stone: Tombstone) -> _Removed | None:
        """Do again what the erasure did: end agreements, forget who it was. None when there is nothing (left) to do."""
        if stone.key_class is not KeyClass.DATA:
            return None
        subject = SubjectRef(stone.subject)
        ended = self._end(unit, stone, subject)
        # a profile names the key it is sealed under, a tombstone the keys destroyed: a retained one is not among them
        forgotten = _sealed_under(unit.subjects.get(subject), stone)
        if forgotten:
            SparingSubjects(unit).forget(subject, datetime.fromisoformat(stone.at))
        return _Removed(stone.erasure, forgotten, ended) if forgotten or ended else None

    def _end(self, unit: RecordsUnit, stone: Tombstone, subject: SubjectRef) -> tuple[str, ...]:
        controller = ControllerId(stone.controller)
        try:
            known = unit.consents.of_subject(controller, subject)
        except (BrokenChainError, UnreadableEventError):
            return ()  # nobody reads on what was tampered with, and it must not keep the service from starting
        over = [one for one in known if is_live(one, self._now()) and _ends(stone, one)]
        if over:
            journal = unit.journal if self._has_audit_key(controller, subject) else _Unnamed(unit.journal)
            end_agreements(Within(unit, journal), over, by=_REPLAYS, at=self._now())
        return tuple(one.id for one in over)

    def _has_audit_key(self, controller: ControllerId, subject: SubjectRef) -> bool:
        try:
            self._vault.dek_for(Scope(controller, subject, HOUSE, "ledger", key_class=KeyClass.AUDIT))
        except (Erased, UnknownSubject):
            return False
        return True

    def _now(self) -> datetime:
        return self._units.clock.now()


class _Unnamed:
    """A journal for somebody whose audit keys are destroyed too: entries rest under the controller's own."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        return self._journal.record(kind, actor=actor, controller=controller, subject=None, payload=payload)


def _ends(stone: Tombstone, agreement: Consent) -> bool:
    """An erased person's agreements all end; a shred that a withdrawal asked for is named after its agreement."""
    return stone.whole or stone.erasure.removesuffix(REPLAYED) == erasure_of_consent(agreement.id)


def _sealed_under(stored: StoredSubject | None, stone: Tombstone) -> bool:
    return stored is not None and stored.profile is not None and key_id_of(stored.profile).hex() in stone.keys


def _told(removed: Sequence[_Removed]) -> dict[str, Json]:
    return {
        "store": "records",
        "erasures": list(dict.fromkeys(each.erasure for each in removed)),
        "consents": [consent for each in removed for consent in each.ended],
        "forgotten": sum(each.forgotten for each in removed),
    }


def _newest(partition: Partition, present: Collection[Partition]) -> Partition:
    same = (each for each in present if (each.key_class, each.number) == (partition.key_class, partition.number))
    return next(same, partition)


def report(shut: Sequence[Shut]) -> str:
    """Return the sentences an operator reads: which partitions, why, how many people, what to do."""
    named = [f"{one.key_class}/{one.number} ({one.code}, {one.subject_keys} subject keys)" for one in shut[:_NAMED]]
    more = f" and {len(shut) - _NAMED} more" if len(shut) > _NAMED else ""
    count, verb = ("1 partition", "does not open") if len(shut) == 1 else (f"{len(shut)} partitions", "do not open")
    return (
        f"{count} of the key store {verb} under the key provider: {', '.join(named)}{more}. The key"
        " store is older than its provider's roots, or the provider lost them: bring back the replica, not the backup;"
        " see docs/runbooks/restore.md"
    )
