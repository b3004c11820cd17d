"""The vault's key store on SQLAlchemy Core: SQLite or PostgreSQL, never the records database (vault.md section 1).

Explicit mapping, no ORM session. On SQLite every write transaction excludes the others; on PostgreSQL rows read with
`lock` are held. After a disk error the store stops for good in this process (operations.md section 6).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Row,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import aliased

from app.store.bytescan import search
from app.store.engine import BUSY_MILLISECONDS
from app.store.rows.keys import (
    AllotmentRow,
    DataKeyRow,
    DestroyedKeyRow,
    ErasedSubjectRow,
    ErasureApprovalRow,
    ErasureProbeRow,
    ErasureRow,
    ErasureSiteRow,
    ErasureTargetRow,
    IndexKeyRow,
    PartitionRow,
    SubjectKeyRow,
)
from app.vault.errors import DurabilityLost, ErasureUnknown, KeyStoreUnavailable, PartitionBusy
from app.vault.keys import Basis, KeyClass, Scope
from app.vault.ports import (
    CLOCKS_DIFFER,
    REPLAYED,
    Approval,
    DataKey,
    DestroyedKey,
    Erasure,
    ErasureSite,
    ErasureState,
    ErasureTarget,
    Hold,
    IndexKey,
    Json,
    KeyPath,
    NamedKey,
    Partition,
    RootState,
    Scan,
    SubjectKey,
)

_T = TypeVar("_T")
_ASKED_AT_ONCE = 500
_CHECKPOINT_WAIT = 1_000
_DISK_FAULTS = ("disk i/o error", "database or disk is full", "could not fsync", "no space left on device")

_PERMITTED = or_(ErasureRow.held_for.is_(None), ErasureRow.approved_at.is_not(None))
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
_SITE = tuple(getattr(ErasureSiteRow, each.name) for each in fields(ErasureSite))
_KEPT = ErasureSiteRow.kept_until.is_not(None) & (ErasureSiteRow.root_state == RootState.ACTIVE)
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

# The three of every step of an erasure, for each member of its batch.
_JOURNAL = select(
    ErasureRow.state,
    ErasureRow.requested_at,
    ErasureRow.acknowledged_at,
    ErasureRow.committed_at,
    ErasureRow.scan,
    ErasureRow.certificates,
    ErasureRow.changed_at,
    ErasureRow.batch,
    ErasureRow.requested_by,
    ErasureRow.held_for,
    ErasureRow.approved_at,
    ErasureRow.not_before,
    ErasureRow.completions,
).where(ErasureRow.id == bindparam("erasure"))
_TARGETS = (
    select(*(getattr(ErasureTargetRow, each.name) for each in fields(ErasureTarget)))
    .where(ErasureTargetRow.erasure_id == bindparam("erasure"))
    .order_by(ErasureTargetRow.ordinal)
)
_SITES = (
    select(*(getattr(ErasureSiteRow, each.name) for each in fields(ErasureSite)))
    .where(ErasureSiteRow.erasure_id == bindparam("erasure"))
    .order_by(ErasureSiteRow.key_class, ErasureSiteRow.partition)
)

_FREE = or_(
    ErasureRow.worker.is_(None),
    ErasureRow.worker == bindparam("by"),
    ErasureRow.worker_until <= bindparam("now"),
    ErasureRow.worker_until > bindparam("late"),
)
_TAKE = (
    update(ErasureRow)
    .where(ErasureRow.id == bindparam("erasure"), _FREE)
    .values(worker=bindparam("by"), worker_until=bindparam("until"))
)
_GIVE_BACK = (
    update(ErasureRow)
    .where(ErasureRow.id == bindparam("erasure"), ErasureRow.worker == bindparam("by"))
    .values(worker=None, worker_until=None)
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


class SqlKeyTransaction:
    """The vault's `KeyTransaction` on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
        for some in _chunks(subjects):
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
        for some in _chunks(key_ids):
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
        for some in _chunks([key.id for key in destroyed]):
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

    # Erasures

    def add_erasure(self, erasure: Erasure) -> None:
        """Open the journal of an erasure."""
        row: dict[str, Any] = {
            "id": erasure.id,
            "state": erasure.state.value,
            "requested_at": erasure.requested_at,
            "changed_at": erasure.requested_at,
            "certificates": [],
            "requested_by": erasure.requested_by,
            "held_for": erasure.held_for,
            "not_before": erasure.not_before,
        }
        self._connection.execute(insert(ErasureRow), [row])
        self._insert(ErasureTargetRow, [_target_row(erasure.id, *each) for each in enumerate(erasure.targets)])
        self._insert(ErasureSiteRow, [_site_row(erasure.id, site) for site in erasure.sites])

    def erasure(self, erasure_id: str) -> Erasure | None:
        """Return the whole journal of one."""
        row = self._connection.execute(_JOURNAL, {"erasure": erasure_id}).one_or_none()
        if row is None:
            return None
        return Erasure(
            erasure_id,
            ErasureState(row.state),
            row.requested_at,
            row.acknowledged_at is not None,
            row.committed_at,
            self._targets(erasure_id),
            self._sites(erasure_id),
            None if row.scan is None else Scan(**row.scan),
            tuple(row.certificates),
            row.changed_at,
            row.batch,
            row.requested_by,
            None if row.held_for is None else Hold(row.held_for),
            row.approved_at,
            row.not_before,
            self._approvals(erasure_id) if row.held_for is not None else (),
            tuple(row.completions or ()),
        )

    def _approvals(self, erasure_id: str) -> tuple[Approval, ...]:
        asked = select(ErasureApprovalRow.approver, ErasureApprovalRow.at)
        asked = asked.where(ErasureApprovalRow.erasure_id == erasure_id)
        return tuple(Approval(*row) for row in self._connection.execute(asked.order_by(ErasureApprovalRow.at)))

    def _targets(self, erasure_id: str) -> tuple[ErasureTarget, ...]:
        return tuple(_target(row) for row in self._connection.execute(_TARGETS, {"erasure": erasure_id}))

    def _sites(self, erasure_id: str) -> tuple[ErasureSite, ...]:
        rows = self._connection.execute(_SITES, {"erasure": erasure_id})
        return tuple(ErasureSite(KeyClass(row[0]), *row[1:]) for row in rows)

    def unfinished(self) -> Sequence[str]:
        """Return the ids of those that have not ended, oldest first."""
        asked = select(ErasureRow.id).where(ErasureRow.state != ErasureState.CERTIFIED)
        return list(self._connection.execute(asked.order_by(ErasureRow.requested_at, ErasureRow.id)).scalars())

    def unfinished_by_state(self) -> Sequence[tuple[ErasureState, int, datetime]]:
        """Return (state, how many, since when the oldest was asked for) of those that have not ended."""
        oldest = func.min(ErasureRow.requested_at)
        asked = select(ErasureRow.state, func.count(), oldest).where(ErasureRow.state != ErasureState.CERTIFIED)
        rows = self._connection.execute(asked.group_by(ErasureRow.state).order_by(ErasureRow.state))
        return [(ErasureState(state), count, at) for state, count, at in rows]

    def startable(self, now: datetime, moved_before: datetime | None) -> Sequence[str]:
        """Return the ids of those that wait neither for people nor for a cooling period, oldest first."""
        begun = ErasureRow.state != ErasureState.REQUESTED
        free = _PERMITTED & or_(ErasureRow.not_before.is_(None), ErasureRow.not_before <= now)
        asked = select(ErasureRow.id).where(ErasureRow.state != ErasureState.CERTIFIED, or_(begun, free))
        if moved_before is not None:
            # what moved in the future moved before a clock was set back: nobody has it in hand
            ahead = ErasureRow.changed_at > now + CLOCKS_DIFFER
            asked = asked.where(or_(ErasureRow.changed_at <= moved_before, ahead))
        return list(self._connection.execute(asked.order_by(ErasureRow.requested_at, ErasureRow.id)).scalars())

    def held(self) -> Sequence[str]:
        """Return the ids of those that wait for approval, oldest first."""
        asked = select(ErasureRow.id).where(ErasureRow.held_for.is_not(None), ErasureRow.approved_at.is_(None))
        return list(self._connection.execute(asked.order_by(ErasureRow.requested_at, ErasureRow.id)).scalars())

    def one_at_a_time(self) -> None:
        """Hold the one row of allotments: on PostgreSQL two that count would not see each other's people."""
        self.allot(0)

    def asked_since(self, since: datetime) -> frozenset[tuple[str, str]]:
        """Return (controller, subject) of whole people; what a restore asks for again was permitted before."""
        asked = (
            select(ErasureTargetRow.controller, ErasureTargetRow.subject)
            .join(ErasureRow, ErasureRow.id == ErasureTargetRow.erasure_id)
            .where(ErasureRow.requested_at > since, ErasureRow.id.not_like(f"%{REPLAYED}"))
            .where(ErasureTargetRow.whole, ErasureTargetRow.key_class == KeyClass.DATA)
        )
        return frozenset((row[0], row[1]) for row in self._connection.execute(asked))

    def add_approval(self, erasure_id: str, approval: Approval, *, last: bool) -> None:
        """Note a colleague's word; with the last one the erasure may begin."""
        row = {"erasure_id": erasure_id, "approver": approval.by, "at": approval.at}
        self._connection.execute(insert(ErasureApprovalRow), [row])
        if last:
            self._connection.execute(
                update(ErasureRow).where(ErasureRow.id == erasure_id).values(approved_at=approval.at)
            )

    def permit(self, erasure_id: str, at: datetime) -> None:
        """Let an erasure begin without asking or waiting again."""
        self._connection.execute(
            update(ErasureRow).where(ErasureRow.id == erasure_id).values(approved_at=at, not_before=None)
        )

    def acknowledge(self, erasure_id: str, at: datetime) -> None:
        """Note that no component holds a lease any more; raises `ErasureUnknown`."""
        if not self._changed(update(ErasureRow).where(ErasureRow.id == erasure_id).values(acknowledged_at=at)):
            raise ErasureUnknown

    def take(self, erasure_id: str, worker: str, now: datetime, until: datetime) -> bool:
        """Let one worker have it for a while. A hold that ends long after any could was taken before a clock was set
        back: nobody waits for it.
        """
        given = {"erasure": erasure_id, "by": worker, "now": now, "until": until, "late": until + CLOCKS_DIFFER}
        result: CursorResult[Any] = self._connection.execute(_TAKE, given)
        return result.rowcount > 0

    def give_back(self, erasure_id: str, worker: str) -> None:
        """End a worker's hold."""
        self._connection.execute(_GIVE_BACK, {"erasure": erasure_id, "by": worker})

    def hold(self, erasure_id: str, state: ErasureState, worker: str) -> bool:
        """Hold the journal's row while a step is taken; false when it is not this worker's to take."""
        mine = (ErasureRow.id == erasure_id, ErasureRow.state == state.value, ErasureRow.worker == worker)
        asked = select(ErasureRow.id).where(*mine).with_for_update()
        return self._connection.execute(asked).one_or_none() is not None

    def waiting(self, now: datetime) -> Sequence[str]:
        """Return, and hold, what may join a batch; rows that somebody else holds are left to them."""
        asked = select(ErasureRow.id).where(
            ErasureRow.state == ErasureState.KEY_ROW_REMOVED,
            ErasureRow.batch.is_(None),
            or_(ErasureRow.worker.is_(None), ErasureRow.worker_until <= now),
        )
        ordered = asked.order_by(ErasureRow.requested_at, ErasureRow.id).with_for_update(skip_locked=True)
        return list(self._connection.execute(ordered).scalars())

    def members(self, batch: str) -> Sequence[str]:
        """Return the ids of the erasures in a batch, in order."""
        asked = select(ErasureRow.id).where(ErasureRow.batch == batch).order_by(ErasureRow.id)
        return list(self._connection.execute(asked).scalars())

    def join(self, erasure_ids: Sequence[str], batch: str) -> None:
        """Put erasures into a batch."""
        for some in _chunks(erasure_ids):
            self._connection.execute(update(ErasureRow).where(ErasureRow.id.in_(some)).values(batch=batch))

    def part(self, batch: str) -> None:
        """Make each member a batch of its own."""
        self._connection.execute(update(ErasureRow).where(ErasureRow.batch == batch).values(batch=ErasureRow.id))

    def move(self, erasure_id: str, old: ErasureState, new: ErasureState, worker: str, at: datetime) -> None:
        """Journal a step; raises `PartitionBusy` when another worker has it or moved it."""
        values: dict[str, Any] = {"state": new.value, "changed_at": at}
        if new is ErasureState.COMMITTED:
            values["committed_at"] = at
        mine = (ErasureRow.id == erasure_id, ErasureRow.state == old.value, ErasureRow.worker == worker)
        if not self._changed(update(ErasureRow).where(*mine).values(**values)):
            raise PartitionBusy

    def save_site(self, erasure_id: str, site: ErasureSite) -> None:
        """Journal what is known of a partition."""
        row = _site_row(erasure_id, site)
        names = ("erasure_id", "key_class", "partition")
        self._connection.execute(
            update(ErasureSiteRow)
            .where(*(getattr(ErasureSiteRow, name) == row[name] for name in names))
            .values({name: value for name, value in row.items() if name not in names})
        )

    def save_scan(self, erasure_id: str, scan: Scan) -> None:
        """Journal the byte search."""
        self._connection.execute(update(ErasureRow).where(ErasureRow.id == erasure_id).values(scan=asdict(scan)))

    def save_certificates(self, erasure_id: str, certificates: Sequence[Mapping[str, Json]]) -> None:
        """Keep the signed certificates."""
        self._connection.execute(
            update(ErasureRow).where(ErasureRow.id == erasure_id).values(certificates=list(certificates))
        )

    def recoverable_until(self, key_class: KeyClass, number: int) -> datetime | None:
        """Return until when an earlier root of the partition could be brought back."""
        mine = (ErasureSiteRow.key_class == key_class, ErasureSiteRow.partition == number)
        return self._connection.execute(select(func.max(ErasureSiteRow.irrevocable_at)).where(*mine)).scalar_one()

    def open_still(self, now: datetime) -> frozenset[tuple[str, str, KeyClass]]:
        """Return (controller, subject, class) of the targets of sites whose old root is not known to be gone by now."""
        same = (
            (ErasureTargetRow.erasure_id == ErasureSiteRow.erasure_id)
            & (ErasureTargetRow.key_class == ErasureSiteRow.key_class)
            & (ErasureTargetRow.partition == ErasureSiteRow.partition)
        )
        unknown = or_(ErasureSiteRow.root_state.is_(None), ErasureSiteRow.irrevocable_at.is_(None))
        asked = select(ErasureTargetRow.controller, ErasureTargetRow.subject, ErasureTargetRow.key_class)
        asked = asked.join(ErasureSiteRow, same).where(or_(unknown, _KEPT, ErasureSiteRow.irrevocable_at > now))
        return frozenset((row[0], row[1], KeyClass(row[2])) for row in self._connection.execute(asked))

    def lives_on(self, key_class: KeyClass, number: int, generation: int) -> bool:
        """Whether an earlier root was left by a commit and is in nobody's notes as ended or kept; each member of a
        batch has a note of its own of the same root, and one that says so is enough.
        """
        told = aliased(ErasureSiteRow)
        noted = exists().where(told.key_class == key_class, told.partition == number)
        noted = noted.where(told.old_root == ErasureSiteRow.old_root, told.root_state.is_not(None))
        asked = (
            select(ErasureRow.id)
            .join(ErasureSiteRow, ErasureSiteRow.erasure_id == ErasureRow.id)
            .where(ErasureSiteRow.key_class == key_class, ErasureSiteRow.partition == number)
            .where(ErasureSiteRow.root_state.is_(None), ErasureSiteRow.old_generation < generation)
            .where(ErasureRow.committed_at.is_not(None), ~noted)
        )
        return self._connection.execute(asked.limit(1)).one_or_none() is not None

    def kept_sites(self, until: datetime | None) -> Sequence[tuple[str, ErasureSite]]:
        """Return (erasure, site) of each old root that is kept for backups, until a moment or at all."""
        asked = select(ErasureSiteRow.erasure_id, *_SITE).where(_KEPT)
        asked = asked if until is None else asked.where(ErasureSiteRow.kept_until <= until)
        rows = self._connection.execute(asked.order_by(ErasureSiteRow.kept_until, ErasureSiteRow.erasure_id))
        return [(row[0], ErasureSite(KeyClass(row[1]), *row[2:])) for row in rows]

    def uncompleted(self) -> Sequence[str]:
        """Return the certified ones that kept roots, keep none any more, and have no completion."""
        ever = select(ErasureSiteRow.erasure_id).where(ErasureSiteRow.kept_until.is_not(None))
        still = select(ErasureSiteRow.erasure_id).where(_KEPT)
        asked = select(ErasureRow.id).where(
            ErasureRow.state == ErasureState.CERTIFIED,
            ErasureRow.completions.is_(None),
            ErasureRow.id.in_(ever),
            ErasureRow.id.not_in(still),
        )
        return list(self._connection.execute(asked.order_by(ErasureRow.id)).scalars())

    def save_completions(self, erasure_id: str, completions: Sequence[Mapping[str, Json]]) -> bool:
        """Keep the signed completions; the first ones stay."""
        none_yet = (ErasureRow.id == erasure_id, ErasureRow.completions.is_(None))
        return self._changed(update(ErasureRow).where(*none_yet).values(completions=list(completions)))

    def add_probes(self, erasure_id: str, probes: Sequence[bytes]) -> None:
        """Keep what the scan will look for, turned."""
        self._insert_new(ErasureProbeRow, [{"erasure_id": erasure_id, "turned": _turned(each)} for each in probes])

    def probes(self, erasure_id: str) -> Sequence[bytes]:
        """Return what the scan looks for."""
        asked = select(ErasureProbeRow.turned).where(ErasureProbeRow.erasure_id == erasure_id)
        return [_turned(each) for each in self._connection.execute(asked).scalars()]

    def drop_probes(self, erasure_id: str) -> None:
        """Forget what was looked for."""
        self._connection.execute(delete(ErasureProbeRow).where(ErasureProbeRow.erasure_id == erasure_id))

    # How statements are run

    def _changed(self, statement: Any) -> bool:
        result: CursorResult[Any] = self._connection.execute(statement)
        return result.rowcount > 0

    def _insert(self, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._connection.execute(insert(table), list(rows))

    def _insert_new(self, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert those whose key is not there yet; both databases spell it alike."""
        if not rows:
            return
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        self._connection.execute(dialect.insert(table.__table__).on_conflict_do_nothing(), list(rows))


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for at in range(0, len(items), _ASKED_AT_ONCE):
        yield items[at : at + _ASKED_AT_ONCE]


def _turned(probe: bytes) -> bytes:
    return bytes(each ^ 0xFF for each in probe)


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


def _target_row(erasure_id: str, ordinal: int, target: ErasureTarget) -> dict[str, Any]:
    return {
        **{each.name: getattr(target, each.name) for each in fields(target)},
        "erasure_id": erasure_id,
        "ordinal": ordinal,
        "key_class": target.key_class.value,
        "destroyed": [_named_row(key) for key in target.destroyed],
        "retained": [_named_row(key) for key in target.retained],
    }


def _target(row: Sequence[Any]) -> ErasureTarget:
    controller, subject, key_class, partition, whole, key_id, destroyed, retained = row
    named = (tuple(map(_named, keys)) for keys in (destroyed, retained))
    return ErasureTarget(controller, subject, KeyClass(key_class), partition, whole, key_id, *named)


def _named_row(key: NamedKey) -> dict[str, Any]:
    return {**asdict(key), "id": key.id.hex()}


def _named(found: Mapping[str, Any]) -> NamedKey:
    return NamedKey(**{**found, "id": bytes.fromhex(found["id"])})


def _site_row(erasure_id: str, site: ErasureSite) -> dict[str, Any]:
    values = {each.name: getattr(site, each.name) for each in fields(site)}
    return {**values, "erasure_id": erasure_id, "key_class": site.key_class.value}
