"""How the key store's statements are run, the same for every table of it, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, CursorResult, insert
from sqlalchemy.dialects import postgresql, sqlite

_T = TypeVar("_T")
_ASKED_AT_ONCE: Final = 500
"""Values in one statement: within either database's limit of parameters."""


class Statements:
    """Statements on one connection, in its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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


def chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the values that go into one statement, until all have."""
    for at in range(0, len(items), _ASKED_AT_ONCE):
        yield items[at : at + _ASKED_AT_ONCE]
