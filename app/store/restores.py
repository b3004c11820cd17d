"""By what a restored database is recognised: its mark in the tombstone file, and the partitions it still names.

The records' mark is written in the unit of work that removes what a backup brought back; the key store's after its
erasures are journalled. A replay that was killed begins again at the old mark, which does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.store.rows.keys import PartitionRow, SubjectKeyRow
from app.store.rows.restores import KeysMarkRow, RecordsMarkRow
from app.vault.keys import KeyClass
from app.vault.ports import Partition
from app.vault.tombstones import START, Mark

_ONLY: Final = 1
_PARTITION: Final = tuple(getattr(PartitionRow, each.name) for each in fields(Partition))


class SqlMark:
    """The mark of one database, within the caller's transaction."""

    def __init__(self, connection: Connection, table: type[RecordsMarkRow] | type[KeysMarkRow]) -> None:
        self._connection = connection
        self._table = table

    def read(self) -> Mark | None:
        """Return how far the log was replayed; None for a database that was never compared with one."""
        return self._mark(lock=False)

    def hold(self, at: datetime) -> Mark:
        """Return the mark, made at the start of any log where there is none; nobody else moves it until the end."""
        dialect: Any = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        row = {"id": _ONLY, "marked_at": at, **_values(START)}
        self._connection.execute(dialect.insert(self._table).on_conflict_do_nothing().values(row))
        return self._mark(lock=True) or START

    def move(self, mark: Mark, at: datetime) -> None:
        """Note how far the log is replayed now; after `hold`."""
        moved = update(self._table).where(self._table.id == _ONLY)
        self._connection.execute(moved.values(marked_at=at, **_values(mark)))

    def _mark(self, *, lock: bool) -> Mark | None:
        table = self._table
        asked = select(table.upto, table.lines, table.digest).where(table.id == _ONLY)
        row = self._connection.execute(asked.with_for_update() if lock else asked).one_or_none()
        return None if row is None else Mark(row.upto, row.lines, row.digest)


def _values(mark: Mark) -> dict[str, Any]:
    return {"upto": mark.upto, "lines": mark.lines, "digest": mark.check}


def partitions(keys: Engine) -> Sequence[Partition]:
    """Return every partition of a key store, by class and number."""
    asked = select(*_PARTITION).order_by(PartitionRow.key_class, PartitionRow.number)
    with keys.connect().execution_options(regard_read=True) as connection:
        return [Partition(KeyClass(row[0]), *row[1:]) for row in connection.execute(asked)]


def subjects_in(keys: Engine, partition: Partition) -> int:
    """Return how many subject keys a partition has."""
    asked = select(func.count()).where(
        SubjectKeyRow.key_class == partition.key_class, SubjectKeyRow.partition == partition.number
    )
    with keys.connect().execution_options(regard_read=True) as connection:
        return int(connection.execute(asked).scalar_one())
