"""What two databases already are and hold, asked before a deployment is founded or opened (vault.md section 1).

Records and key store are told apart by asking the databases themselves, because two addresses may spell one place: for
SQLite the file each connection really has open; for PostgreSQL an advisory lock, which two connections can contend for
in one and the same database only and which needs no privilege. Leaves out whether two databases share a disk, a server
or a backup: nothing a database says settles that.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, Engine, exists, inspect, select, text

from app.store.rows.keys import ErasureRow, ErasureSiteRow, ErasureTargetRow, PartitionRow
from app.store.rows.leaves import LedgerCheckpointRow
from app.vault.ports import ErasureState, RootState

_OPEN_FILE = text("SELECT file FROM pragma_database_list WHERE name = 'main'")
_HOLD = text("SELECT pg_try_advisory_xact_lock(:name)")


def same_database(records: Engine, keys: Engine) -> bool:
    """Return whether both engines reach one database, however their addresses spell it."""
    if records.dialect.name != keys.dialect.name:
        return False
    with _looking(records) as first, _looking(keys) as second:
        return _one_file(first, second) if records.dialect.name == "sqlite" else _one_lock_table(first, second)


def _looking(engine: Engine) -> Connection:
    return engine.connect().execution_options(regard_read=True)


def file_of(database: Engine) -> Path:
    """Return the file that an address of SQLite leads to, however it is spelt."""
    with _looking(database) as connection:
        return Path(str(connection.execute(_OPEN_FILE).scalar_one()))


def _one_file(first: Connection, second: Connection) -> bool:
    files = [connection.execute(_OPEN_FILE).scalar_one() for connection in (first, second)]
    return all(files) and Path(files[0]).samefile(files[1])


def _one_lock_table(first: Connection, second: Connection) -> bool:
    """A lock taken through one connection is refused to the other in the same database, and unknown elsewhere."""
    name = {"name": secrets.randbits(63)}
    first.execute(_HOLD, name)
    return not second.execute(_HOLD, name).scalar_one()


def is_made(database: Engine) -> bool:
    """Return whether there is something to connect to; a SQLite file that is not there is not made by asking."""
    file = database.url.database
    return not (database.dialect.name == "sqlite" and file and not file.startswith("file:") and not Path(file).exists())


def is_laid(keys: Engine) -> bool:
    """Return whether the key store has its tables."""
    return is_made(keys) and inspect(keys).has_table(PartitionRow.__tablename__)


def has_records(records: Engine) -> bool:
    """Return whether the records database has its tables."""
    return is_made(records) and inspect(records).has_table(LedgerCheckpointRow.__tablename__)


def root_kinds(keys: Engine) -> frozenset[str]:
    """Return the kinds of key provider in which the store has roots it still needs, old ones to be destroyed included.

    The kind is what a root's reference begins with.
    """
    unfinished = select(ErasureRow.id).where(ErasureRow.state != ErasureState.CERTIFIED)
    kept = ErasureSiteRow.root_state == RootState.ACTIVE
    owed = select(ErasureSiteRow.old_root).where(
        ErasureSiteRow.erasure_id.in_(unfinished) | kept, ErasureSiteRow.old_root.is_not(None)
    )
    with _looking(keys) as connection:
        found = [*connection.execute(select(PartitionRow.root)).scalars(), *connection.execute(owed).scalars()]
    return frozenset(str(root).partition(":")[0] for root in found)


def has_checkpoints(records: Engine) -> bool:
    """Return whether the ledger has signed anything."""
    with _looking(records) as connection:
        return connection.execute(select(LedgerCheckpointRow.size).limit(1)).first() is not None


def has_certificates(keys: Engine) -> bool:
    """Return whether an erasure was certified."""
    about = exists().where(ErasureTargetRow.erasure_id == ErasureRow.id)
    ended = select(ErasureRow.id).where(ErasureRow.state == ErasureState.CERTIFIED, about)
    with _looking(keys) as connection:
        return connection.execute(ended.limit(1)).first() is not None
