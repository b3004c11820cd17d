"""Both databases are opened durable and strict (operations.md section 2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, select, text
from sqlalchemy.exc import StatementError

from app.store.rows.base import Instant

_TABLE = Table("moments", MetaData(), Column("id", Integer, primary_key=True), Column("at", Instant))


def test_a_moment_comes_back_in_utc_and_a_naive_one_is_refused(records_engine: Engine) -> None:
    paris = datetime(2026, 3, 5, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    with records_engine.begin() as connection:
        _TABLE.create(connection)
        connection.execute(insert(_TABLE).values(id=1, at=paris))
        assert connection.execute(select(_TABLE.c.at)).scalar_one() == datetime(2026, 3, 4, 23, 30, tzinfo=UTC)
    with records_engine.begin() as connection, pytest.raises(StatementError, match="time zone"):
        connection.execute(insert(_TABLE).values(id=2, at=paris.replace(tzinfo=None)))


def test_sqlite_is_durable_and_the_key_store_overwrites_what_it_removes(keys_engine: Engine, backend: str) -> None:
    if backend == "postgresql":
        with keys_engine.connect() as connection:
            assert connection.execute(text("SHOW server_version_num")).scalar_one() >= "150000"
        return
    with keys_engine.connect() as connection:
        read = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert read == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
