"""Opening a database: SQLite made durable and strict, PostgreSQL as it is (operations.md section 2).

SQLite: WAL, synchronous=FULL, foreign keys, a busy timeout, and every write transaction begins IMMEDIATE, because a
deferred one that turns into a write can be refused half-way without any waiting. A connection opened with the
execution option `regard_read` begins DEFERRED, so that readers do not queue behind the one writer.
The key store also sets secure_delete, so that removed key bytes are overwritten in their page.
What a statement was given is in no fault's text: it would be in the log next.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_MILLISECONDS = 15_000
AWAY: Final = (OperationalError, NoConnection)
"""What a database raises that is locked, away or has no connection free: not of the asker's making, and it passes."""


def open_engine(url: str, *, keys: bool = False) -> Engine:
    """Return an engine for `url`; `keys=True` for the key store."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, keys=keys)
    return create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=10, hide_parameters=True)


def _sqlite(url: URL, *, keys: bool) -> Engine:
    waits = {"timeout": BUSY_MILLISECONDS / 1000, "check_same_thread": False}
    engine = create_engine(url, connect_args=waits, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            # changing the mode needs the file alone and does not wait for it; asking first spares every later opening
            connection.execute("PRAGMA journal_mode=WAL")
        for pragma in _pragmas(keys=keys):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("regard_read", False)
        connection.exec_driver_sql("BEGIN DEFERRED" if reading else "BEGIN IMMEDIATE")

    return engine


def _pragmas(*, keys: bool) -> tuple[str, ...]:
    common = (
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
    )
    return (*common, "secure_delete=ON") if keys else common
