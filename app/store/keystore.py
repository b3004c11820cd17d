"""The vault's key store on SQLAlchemy Core: SQLite or PostgreSQL, never the records database (vault.md section 1).

Partitions, keys and blind indexes; what is journalled of erasures is in `app.store.erasures`.
Explicit mapping, no ORM session. On SQLite every write transaction excludes the others; on PostgreSQL rows read with
`lock` are held. After a disk error the store stops for good in this process (operations.md section 6).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Engine,
    Row,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from app.store.bytescan import search
from app.store.engine import BUSY_MILLISECONDS
from app.store.erasures import SqlErasures
from app.store.rows.keys import (
    AllotmentRow,
    DataKeyRow,
    DestroyedKeyRow,
    ErasedSubjectRow,
    ErasureTargetRow,
    IndexKeyRow,
    PartitionRow,
    SubjectKeyRow,
)
from app.store.statements import chunks
from app.vault.errors import DurabilityLost, KeyStoreUnavailable
from app.vault.keys import Basis, KeyClass, Scope
from app.vault.ports import (
    DataKey,
    DestroyedKey,
    IndexKey,
    KeyPath,
    Partition,
    Scan,
    SubjectKey,
)

_CHECKPOINT_WAIT = 1_000
_DISK_FAULTS = ("disk i/o error", "database or disk is full", "could not fsync", "no space left on device")

_PARTITION = tuple(getattr(PartitionRow, each.name) for each in fields(Partition))
_SUBJECT_KEY = tuple(getattr(SubjectKeyRow, each.name) for each in fields(SubjectKey))
_SCOPE_NAMES = ("controller", "subject", "holder", "category", "basis", "life", "key_class")
_DATA_KEY = (
    DataKeyRow.id,
    DataKeyRow.subject_key_id,
    *(getattr(DataKeyRow, name) for name in _SCOPE_NAMES),
    DataKeyRow.sequence,
    DataKeyRow.wrapped,
    DataKeyRow.created_at,
    DataKeyRow.leased_until,
    DataKeyRow.messages,
    DataKeyRow.doomed_by,
)
_INDEX_KEY = tuple(getattr(IndexKeyRow, each.name) for each in fields(IndexKey))

# The two statements of every lease and every open, built once: building them costs more than running them.
_PATHS = (
    select(*_DATA_KEY, *_SUBJECT_KEY, *_PARTITION)
    .join(SubjectKeyRow, SubjectKeyRow.id == DataKeyRow.subject_key_id)
    .join(
        PartitionRow,
        (PartitionRow.key_class == SubjectKeyRow.key_class) & (PartitionRow.number == SubjectKeyRow.partition),
    )
)
_PATH_OF_KEY = _PATHS.where(DataKeyRow.id == bindparam("id"))
_PATH_OF_SCOPE = (
    _PATHS.where(*(getattr(DataKeyRow, name) == bindparam(name) for name in _SCOPE_NAMES))
    .where(DataKeyRow.doomed_by.is_(None))
    .order_by(DataKeyRow.sequence.desc())
    .limit(1)
)


class SqlKeyStore:
    """The vault's `KeyStore` on an engine from `open_engine(url, keys=True)`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._failed = False

    @contextmanager
    def writing(self) -> Iterator[SqlKeyTransaction]:
        """One write transaction; raises `KeyStoreUnavailable`, `DurabilityLost`."""
        with self._guarded(), self._engine.begin() as connection:
            yield SqlKeyTransaction(connection)

    @contextmanager
    def reading(self) -> Iterator[SqlKeyTransaction]:
        """One read transaction; raises `KeyStoreUnavailable`, `DurabilityLost`."""
        with self._guarded(), self._engine.connect().execution_options(regard_read=True) as connection:
            yield SqlKeyTransaction(connection)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._failed:
            raise DurabilityLost
        try:
            yield
        except DBAPIError as fault:
            raise self._judged(fault) from None
        except NoConnection:
            raise KeyStoreUnavailable("no connection free") from None

    def _judged(self, fault: DBAPIError) -> DurabilityLost | KeyStoreUnavailable:
        """The statement and its parameters stay out of the error: they hold wrapped keys."""
        return self._told(fault.orig)

    def _told(self, fault: BaseException | None) -> DurabilityLost | KeyStoreUnavailable:
        """Once the disk has failed, it has: an ordinary fault that another thread meets later takes nothing back."""
        told = str(fault).lower()
        self._failed = self._failed or any(each in told for each in _DISK_FAULTS)
        return DurabilityLost() if self._failed else KeyStoreUnavailable(type(fault).__name__)

    def checkpoint(self) -> bool:
        """On SQLite empty the log and cut it to nothing; false when a reader kept it. PostgreSQL: a CHECKPOINT is its
        superuser's affair, its old rows are noise once the root is destroyed; returns false.
        """
        if self._engine.dialect.name != "sqlite":
            return False
        with self._guarded():
            try:
                return self._truncate()
            except sqlite3.Error as fault:  # the driver's own: nothing of SQLAlchemy's is between
                raise self._told(fault) from None

    def _truncate(self) -> bool:
        raw = self._engine.raw_connection()
        cursor = raw.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout={_CHECKPOINT_WAIT}")
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() or (1,)
            return not busy
        finally:
            cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
            raw.close()

    def scan(self, needles: Sequence[bytes]) -> Scan:
        """Search the SQLite file and its log, index and journal; PostgreSQL's files are out of sight."""
        name = self._engine.url.database
        if self._engine.dialect.name != "sqlite":
            return Scan(0, 0, 0, truncated=False, reason="the files of the database server are not within reach")
        if not name or name == ":memory:":
            return Scan(0, 0, 0, truncated=False, reason="the key store is in memory")
        paths = [path for path in (Path(name + tail) for tail in ("", "-wal", "-shm", "-journal")) if path.exists()]
        searched = [search(path, needles) for path in paths]
        return Scan(len(paths), sum(size for size, _ in searched), sum(hits for _, hits in searched), truncated=False)


class SqlKeyTransaction(SqlErasures):
    """The vault's `KeyTransaction` on one connection."""

    # Partitions

    def partition(self, key_class: KeyClass, number: int, *, lock: bool = False) -> Partition | None:
        """Return a partition."""
        asked = select(*_PARTITION).where(PartitionRow.key_class == key_class, PartitionRow.number == number)
        row = self._connection.execute(asked.with_for_update() if lock else asked).one_or_none()
        return None if row is None else _partition(row)

    def partitions(self) -> Sequence[Partition]:
        """Return all of them."""
        asked = select(*_PARTITION).order_by(PartitionRow.key_class, PartitionRow.number)
        return [_partition(row) for row in self._connection.execute(asked)]

    def add_partition(self, partition: Partition) -> None:
        """Add it unless there is one."""
        self._insert_new(PartitionRow, [{**asdict(partition), "key_class": partition.key_class.value}])

    def under_root(self, root: str) -> Sequence[Partition]:
        """Return the partitions whose epoch key this root wraps."""
        return [
            _partition(row) for row in self._connection.execute(select(*_PARTITION).where(PartitionRow.root == root))
        ]

    def claim(self, key_class: KeyClass, number: int, erasure_id: str) -> bool:
        """Claim it for one erasure."""
        free = or_(PartitionRow.claimed_by.is_(None), PartitionRow.claimed_by == erasure_id)
        return self._changed(
            update(PartitionRow)
            .where(PartitionRow.key_class == key_class, PartitionRow.number == number, free)
            .values(claimed_by=erasure_id)
        )

    def release(self, erasure_id: str) -> None:
        """Give back its claims; the rows are held in the order in which everybody holds them."""
        claimed = select(PartitionRow.number).where(PartitionRow.claimed_by == erasure_id)
        ordered = claimed.order_by(PartitionRow.key_class, PartitionRow.number).with_for_update()
        self._connection.execute(ordered).all()
        self._connection.execute(
            update(PartitionRow).where(PartitionRow.claimed_by == erasure_id).values(claimed_by=None)
        )

    def allot(self, count: int) -> int:
        """Take places for subjects; return the first."""
        self._insert_new(AllotmentRow, [{"id": 1, "taken": 0}])
        taken = update(AllotmentRow).where(AllotmentRow.id == 1).values(taken=AllotmentRow.taken + count)
        return int(self._connection.execute(taken.returning(AllotmentRow.taken)).scalar_one()) - count

    def one_at_a_time(self) -> None:
        """Hold the one row of allotments: on PostgreSQL two that count would not see each other's people."""
        self.allot(0)

    def promote(self, key_class: KeyClass, number: int, new: Partition) -> None:
        """Put the staged generation in the place of the present one."""
        self._connection.execute(
            update(SubjectKeyRow)
            .where(SubjectKeyRow.key_class == key_class, SubjectKeyRow.partition == number)
            .values(wrapped=SubjectKeyRow.staged, staged=None, staged_generation=None)
        )
        self._connection.execute(
            update(PartitionRow)
            .where(PartitionRow.key_class == key_class, PartitionRow.number == number)
            .values(generation=new.generation, root=new.root, epoch_wrapped=new.epoch_wrapped)
        )

    # Subject keys

    def known(self, controller: str, subjects: Sequence[str]) -> frozenset[str]:
        """Return those that have, or had, keys."""
        found: set[str] = set()
        for some in chunks(subjects):
            for table in (SubjectKeyRow, ErasedSubjectRow):
                asked = select(table.subject).where(table.controller == controller, table.subject.in_(some))
                found.update(self._connection.execute(asked).scalars())
        return frozenset(found)

    def add_subject_keys(self, keys: Sequence[SubjectKey], at: datetime) -> None:
        """Add them; one that another process made meanwhile stays as it is."""
        rows = [
            {
                "id": key.id,
                "controller": key.controller,
                "subject": key.subject,
                "key_class": key.key_class.value,
                "partition": key.partition,
                "wrapped": key.wrapped,
                "created_at": at,
            }
            for key in keys
        ]
        self._insert_new(SubjectKeyRow, rows)

    def subject_key(
        self, controller: str, subject: str, key_class: KeyClass, *, lock: bool = False
    ) -> SubjectKey | None:
        """Return the subject's key in the class."""
        asked = select(*_SUBJECT_KEY).where(
            SubjectKeyRow.controller == controller,
            SubjectKeyRow.subject == subject,
            SubjectKeyRow.key_class == key_class,
        )
        asked = asked.with_for_update() if lock else asked
        row = self._connection.execute(asked).one_or_none()
        if row is None and lock:
            # PostgreSQL waits for the row, then finds it replaced; a second statement sees the one in its place.
            row = self._connection.execute(asked).one_or_none()
        return None if row is None else _subject_key(row)

    def subject_keys_in(self, key_class: KeyClass, number: int) -> Sequence[SubjectKey]:
        """Return all keys of a partition."""
        asked = select(*_SUBJECT_KEY).where(SubjectKeyRow.key_class == key_class, SubjectKeyRow.partition == number)
        rows = self._connection.execute(asked)
        return [SubjectKey(row[0], row[1], row[2], key_class, *row[4:]) for row in rows]

    def subject_key_ids_in(self, key_class: KeyClass, number: int) -> Sequence[bytes]:
        """Return the ids of all keys of a partition."""
        asked = select(SubjectKeyRow.id).where(SubjectKeyRow.key_class == key_class, SubjectKeyRow.partition == number)
        return list(self._connection.execute(asked).scalars())

    def stage(self, staged: Sequence[tuple[bytes, bytes]], generation: int) -> None:
        """Set the coming form of each key."""
        if staged:
            self._connection.execute(
                update(SubjectKeyRow.__table__)  # type: ignore[arg-type]
                .where(SubjectKeyRow.id == bindparam("b_id"))
                .values(staged=bindparam("b_staged"), staged_generation=generation),
                [{"b_id": key_id, "b_staged": wrapped} for key_id, wrapped in staged],
            )

    def remove_subject_key(self, key_id: bytes) -> None:
        """Remove a subject key; what is under it has to move or go in the same transaction."""
        self._connection.execute(delete(SubjectKeyRow).where(SubjectKeyRow.id == key_id))

    def erased_at(self, controller: str, subject: str, key_class: KeyClass) -> datetime | None:
        """Return when the whole subject was erased."""
        return self._connection.execute(
            select(ErasedSubjectRow.erased_at).where(
                ErasedSubjectRow.controller == controller,
                ErasedSubjectRow.subject == subject,
                ErasedSubjectRow.key_class == key_class,
            )
        ).scalar_one_or_none()

    def close_subject(self, controller: str, subject: str, key_class: KeyClass, at: datetime, erasure_id: str) -> None:
        """Note the erasure of the whole subject; the first date stays."""
        row = {
            "controller": controller,
            "subject": subject,
            "key_class": key_class.value,
            "erased_at": at,
            "erasure_id": erasure_id,
        }
        self._insert_new(ErasedSubjectRow, [row])

    # Data keys

    def path_of_scope(self, scope: Scope) -> KeyPath | None:
        """Return the newest key of the scope that is not doomed."""
        return _path(self._connection.execute(_PATH_OF_SCOPE, _scope_values(scope)).one_or_none())

    def path_of_key(self, key_id: bytes) -> KeyPath | None:
        """Return one key, doomed or not."""
        return _path(self._connection.execute(_PATH_OF_KEY, {"id": key_id}).one_or_none())

    def data_keys(self, subject_key_id: bytes) -> Sequence[DataKey]:
        """Return all data keys under a subject key."""
        asked = select(*_DATA_KEY).where(DataKeyRow.subject_key_id == subject_key_id).order_by(DataKeyRow.id)
        return [_data_key(row) for row in self._connection.execute(asked)]

    def next_sequence(self, scope: Scope) -> int:
        """Return a sequence number no key of the scope has."""
        last = self._connection.execute(select(func.max(DataKeyRow.sequence)).where(*_in_scope(scope))).scalar()
        return 0 if last is None else int(last) + 1

    def add_data_key(self, key: DataKey) -> None:
        """Add a data key."""
        row = {
            "id": key.id,
            "subject_key_id": key.subject_key_id,
            **_scope_values(key.scope),
            "sequence": key.sequence,
            "wrapped": key.wrapped,
            "created_at": key.created_at,
            "messages": key.messages,
        }
        self._connection.execute(insert(DataKeyRow), [row])

    def charge(self, key_id: bytes, messages: int, leased_until: datetime | None) -> bool:
        """Count messages and note a lease; false when the key is doomed or gone."""
        values: dict[str, Any] = {"messages": DataKeyRow.messages + messages}
        alive = update(DataKeyRow).where(DataKeyRow.id == key_id, DataKeyRow.doomed_by.is_(None))
        if not self._changed(alive.values(**values)):
            return False
        if leased_until is not None:
            later = or_(DataKeyRow.leased_until.is_(None), DataKeyRow.leased_until < leased_until)
            self._connection.execute(
                update(DataKeyRow).where(DataKeyRow.id == key_id, later).values(leased_until=leased_until)
            )
        return True

    def doom(self, key_ids: Sequence[bytes], erasure_id: str) -> None:
        """Mark keys to be destroyed; a mark of an earlier erasure stays."""
        for some in chunks(key_ids):
            self._connection.execute(
                update(DataKeyRow)
                .where(DataKeyRow.id.in_(some), DataKeyRow.doomed_by.is_(None))
                .values(doomed_by=erasure_id)
            )

    def leased_until(self, erasure_id: str) -> datetime | None:
        """Return when the last lease of any doomed key of the erasure's subjects ends."""
        same = (
            (ErasureTargetRow.controller == DataKeyRow.controller)
            & (ErasureTargetRow.subject == DataKeyRow.subject)
            & (ErasureTargetRow.key_class == DataKeyRow.key_class)
        )
        asked = (
            select(DataKeyRow.leased_until)
            .join(ErasureTargetRow, same)
            .where(ErasureTargetRow.erasure_id == erasure_id)
            .where(DataKeyRow.doomed_by.is_not(None), DataKeyRow.leased_until.is_not(None))
            .order_by(DataKeyRow.leased_until.desc())
            .limit(1)
        )
        return self._connection.execute(asked).scalar_one_or_none()

    def shorten_leases(self, erasure_id: str, until: datetime) -> None:
        """Let no lease of a doomed key of the erasure's subjects end later than this."""
        same = (
            select(ErasureTargetRow.erasure_id)
            .where(ErasureTargetRow.erasure_id == erasure_id)
            .where(ErasureTargetRow.controller == DataKeyRow.controller)
            .where(ErasureTargetRow.subject == DataKeyRow.subject, ErasureTargetRow.key_class == DataKeyRow.key_class)
        )
        late = (DataKeyRow.doomed_by.is_not(None), DataKeyRow.leased_until > until)
        self._connection.execute(update(DataKeyRow).where(*late, same.exists()).values(leased_until=until))

    def remove_data_keys(self, destroyed: Sequence[DestroyedKey]) -> None:
        """Remove keys and note what they were."""
        rows = [
            {"id": key.id, **_scope_values(key.scope), "destroyed_at": key.at, "erasure_id": key.erasure_id}
            for key in destroyed
        ]
        self._insert_new(DestroyedKeyRow, rows)
        for some in chunks([key.id for key in destroyed]):
            self._connection.execute(delete(DataKeyRow).where(DataKeyRow.id.in_(some)))

    def rebind(self, moved: Sequence[tuple[bytes, bytes]], subject_key_id: bytes) -> None:
        """Put data keys under another subject key."""
        if moved:
            self._connection.execute(
                update(DataKeyRow.__table__)  # type: ignore[arg-type]
                .where(DataKeyRow.id == bindparam("b_id"))
                .values(wrapped=bindparam("b_wrapped"), subject_key_id=subject_key_id),
                [{"b_id": key_id, "b_wrapped": wrapped} for key_id, wrapped in moved],
            )

    def destroyed(self, key_id: bytes) -> DestroyedKey | None:
        """Return what remains of a key."""
        scope = (getattr(DestroyedKeyRow, name) for name in _SCOPE_NAMES)
        asked = select(*scope, DestroyedKeyRow.destroyed_at, DestroyedKeyRow.erasure_id)
        row = self._connection.execute(asked.where(DestroyedKeyRow.id == key_id)).one_or_none()
        return None if row is None else DestroyedKey(key_id, _scope(row[:7]), row[7], row[8])

    # Blind indexes

    def index_keys(self, controller: str, index_field: str) -> Sequence[IndexKey]:
        """Return a field's keys, newest epoch first."""
        asked = select(*_INDEX_KEY).where(IndexKeyRow.controller == controller, IndexKeyRow.field == index_field)
        return [IndexKey(*row) for row in self._connection.execute(asked.order_by(IndexKeyRow.epoch.desc()))]

    def index_paths(self, controller: str, index_field: str) -> Sequence[tuple[IndexKey, Partition]]:
        """Return a field's keys, newest epoch first, with their partitions, in one statement."""
        of_index = (PartitionRow.key_class == KeyClass.INDEX) & (PartitionRow.number == IndexKeyRow.partition)
        asked = select(*_INDEX_KEY, *_PARTITION).join(PartitionRow, of_index)
        asked = asked.where(IndexKeyRow.controller == controller, IndexKeyRow.field == index_field)
        rows = self._connection.execute(asked.order_by(IndexKeyRow.epoch.desc()))
        return [(IndexKey(*row[: len(_INDEX_KEY)]), _partition(row[len(_INDEX_KEY) :])) for row in rows]

    def add_index_key(self, key: IndexKey) -> None:
        """Add a key."""
        self._connection.execute(insert(IndexKeyRow), [asdict(key)])

    def remove_index_keys(self, key_ids: Sequence[bytes]) -> None:
        """Remove keys."""
        self._connection.execute(delete(IndexKeyRow).where(IndexKeyRow.id.in_(key_ids)))

    def index_keys_in(self, number: int) -> Sequence[IndexKey]:
        """Return all keys of a partition."""
        asked = select(*_INDEX_KEY).where(IndexKeyRow.partition == number).order_by(IndexKeyRow.id)
        return [IndexKey(*row) for row in self._connection.execute(asked)]

    def rewrap_index_keys(self, moved: Sequence[tuple[bytes, bytes]]) -> None:
        """Put index keys under another epoch key."""
        if moved:
            self._connection.execute(
                update(IndexKeyRow.__table__)  # type: ignore[arg-type]
                .where(IndexKeyRow.id == bindparam("b_id"))
                .values(wrapped=bindparam("b_wrapped")),
                [{"b_id": key_id, "b_wrapped": wrapped} for key_id, wrapped in moved],
            )


def _in_scope(scope: Scope) -> tuple[Any, ...]:
    return tuple(getattr(DataKeyRow, name) == value for name, value in _scope_values(scope).items())


def _scope_values(scope: Scope) -> dict[str, str]:
    return {name: str(getattr(scope, name)) for name in _SCOPE_NAMES}


def _scope(row: Sequence[Any]) -> Scope:
    controller, subject, holder, category, basis, life, key_class = row
    return Scope(controller, subject, holder, category, Basis(basis), life, KeyClass(key_class))


def _partition(row: Sequence[Any]) -> Partition:
    return Partition(KeyClass(row[0]), *row[1:])


def _subject_key(row: Sequence[Any]) -> SubjectKey:
    return SubjectKey(row[0], row[1], row[2], KeyClass(row[3]), *row[4:])


def _data_key(row: Sequence[Any]) -> DataKey:
    return DataKey(row[0], row[1], _scope(row[2:9]), *row[9:])


def _path(row: Row[Any] | None) -> KeyPath | None:
    if row is None:
        return None
    first, second = len(_DATA_KEY), len(_DATA_KEY) + len(_SUBJECT_KEY)
    return KeyPath(_data_key(row[:first]), _subject_key(row[first:second]), _partition(row[second:]))
