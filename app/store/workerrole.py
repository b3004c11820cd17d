"""Who carries out the durable work: one process a SQLite file, one an executor id on PostgreSQL (operations.md 2, 3).

A process that launches takes up what a dead one of its executor id left. Were that one alive, both would do the same
step. SQLite: an exclusive lock on a file beside the records, for the role alone, so that commands can write meanwhile.
PostgreSQL: an advisory lock on a connection that is kept. Both end with the process, however it ends.
Leaves out taking over the work of another executor id whose process has died: it waits for a process of that id.
"""

from __future__ import annotations

import fcntl
import os
import time
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, Engine, text

from app.store.foundations import file_of

_PATIENCE: Final = 10.0
"""Seconds: a process that was killed is followed at once by the next, which may look before its locks are gone."""
_PAUSE: Final = 0.1
_TRY: Final = text("SELECT pg_try_advisory_lock(:name)")


class RoleTakenError(Exception):
    """Another process carries out this deployment's durable work."""


class WorkerRole:
    """The role, to be taken once before work is launched."""

    def __init__(self, records: Engine, executor: str) -> None:
        self._records = records
        self._executor = executor
        self._file: int | None = None
        self._connection: Connection | None = None

    def take(self, *, patience: float = _PATIENCE) -> None:
        """Take the role, waiting so many seconds for whoever has it to end; raises RoleTakenError."""
        ends = time.monotonic() + patience
        while not self._taken():
            if time.monotonic() > ends:
                raise RoleTakenError
            time.sleep(_PAUSE)

    def give_up(self) -> None:
        """Let another process have the role; does nothing without it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            self._connection.invalidate()  # closed, not handed back: the lock is the connection's
            self._connection.close()
            self._connection = None

    def _taken(self) -> bool:
        if self._file is not None or self._connection is not None:
            return True
        return self._file_locked() if self._records.dialect.name == "sqlite" else self._named()

    def _file_locked(self) -> bool:
        path = file_of(self._records)
        file = os.open(path.with_name(f"{path.name}.worker"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def _named(self) -> bool:
        name = int.from_bytes(sha256(f"regard.worker/{self._executor}".encode()).digest()[:8], signed=True)
        connection = self._records.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.execute(_TRY, {"name": name}).scalar_one():
            connection.close()
            return False
        self._connection = connection
        return True
