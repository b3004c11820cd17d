"""Backups of a database at rest, as databases of their own: a restore is then another address."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tests.databases import postgres_url


@contextmanager
def copied_database(url: str, path: Path) -> Iterator[str]:
    """The address of a copy, gone afterwards; nobody may be connected to the original while it is made."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        assert not Path(f"{parsed.database}-wal").exists(), "the log is in the file once nobody has it open"
        shutil.copyfile(parsed.database, path)
        yield f"sqlite:///{path}"
        return
    name = f"c_{secrets.token_hex(8)}"
    _command(f"CREATE DATABASE {name} TEMPLATE {parsed.database} STRATEGY file_copy")
    yield postgres_url(name)
    _command(f"DROP DATABASE {name} WITH (FORCE)")


def _command(statement: str) -> None:
    engine = create_engine(postgres_url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
