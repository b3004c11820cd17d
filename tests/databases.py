"""Empty databases by the hundred: each is a copy of one that has all its tables, made once in each worker.

PostgreSQL copies files (`file_copy`: a third of what it costs to write the same pages to the log again), SQLite is a
file to copy. What a test does to its copy no other test sees.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, MetaData, create_engine, text

import app.store.rows
from app.settings import Settings
from app.store.engine import open_engine
from app.store.revisions import known, present
from app.store.rows.base import KeysBase, RecordsBase
from app.wiring.founding import found

Tree = Literal["records", "keys"]
CLUSTER = "REGARD_TEST_CLUSTER"
"""The variable with the address of the run's PostgreSQL, `{database}` in it: workers inherit it."""
_BARE = "template0"
for _module in pkgutil.iter_modules(app.store.rows.__path__):
    importlib.import_module(f"app.store.rows.{_module.name}")


def postgres_url(database: str) -> str:
    return os.environ[CLUSTER].format(database=database)


@contextmanager
def postgres_database(tree: Tree | None = None) -> Iterator[str]:
    """The URL of a new database, gone afterwards: with all tables of `tree`, or with none."""
    name = f"t_{secrets.token_hex(8)}"
    _command(f"CREATE DATABASE {name} TEMPLATE {_postgres_model(tree) if tree else _BARE} STRATEGY file_copy")
    yield postgres_url(name)
    _command(f"DROP DATABASE {name} WITH (FORCE)")


def sqlite_database(path: Path, tree: Tree | None = None) -> str:
    """The URL of a new database at `path`: with all tables of `tree`, or a file that does not exist yet."""
    if tree is not None:
        shutil.copyfile(_sqlite_model(tree), path)
    return f"sqlite:///{path}"


def metadata(tree: Tree) -> MetaData:
    return RecordsBase.metadata if tree == "records" else KeysBase.metadata


def found_deployment(settings: Settings) -> None:
    """What `migrate` leaves of a new deployment, without Alembic's seconds: tables, a keyring, the service's keys."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    _furnish(settings.records_url.reveal(), "records")
    _furnish(settings.keys_url.reveal(), "keys")
    records, keys = open_engine(settings.records_url.reveal()), open_engine(settings.keys_url.reveal(), keys=True)
    found(settings, records, keys)
    records.dispose()
    keys.dispose()


def _furnish(url: str, tree: Tree) -> None:
    """Give a database its tables, unless it has them; a SQLite file that is not there yet becomes a copy."""
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not path.exists():
        shutil.copyfile(_sqlite_model(tree), path)
    else:
        _lay(url, tree)


def clear_up() -> None:
    """Let go of the cluster and of the files the copies were made from."""
    if _postgres.cache_info().currsize:
        _postgres().dispose()
    if _folder.cache_info().currsize:
        shutil.rmtree(_folder(), ignore_errors=True)


def _command(statement: str) -> None:
    with _postgres().connect() as connection:
        connection.execute(text(statement))


@cache
def _postgres() -> Engine:
    return create_engine(postgres_url("postgres"), isolation_level="AUTOCOMMIT", pool_size=1)


@cache
def _postgres_model(tree: Tree) -> str:
    name = f"m_{tree}_{secrets.token_hex(4)}"
    _command(f"CREATE DATABASE {name} TEMPLATE {_BARE} STRATEGY file_copy")
    _lay(postgres_url(name), tree)
    return name


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="regard-sqlite-"))


@cache
def _sqlite_model(tree: Tree) -> Path:
    path = _folder() / f"{tree}.sqlite"
    _lay(f"sqlite:///{path}", tree)
    return path


def _lay(url: str, tree: Tree) -> None:
    engine = open_engine(url, keys=tree == "keys")
    metadata(tree).create_all(engine)
    _stamp(engine, tree)
    # without a last connection: SQLite moves its log into the file, PostgreSQL copies only what nobody uses
    engine.dispose()


def _stamp(engine: Engine, tree: Tree) -> None:
    """Say which revision the tables are: a database that does not is refused (`app.wiring.founding.look`)."""
    if present(engine) is not None:
        return
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": known(tree)[-1]})
