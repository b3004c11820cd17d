"""What every test may use: one PostgreSQL cluster a run, and empty databases of both kinds on demand."""

from __future__ import annotations

import importlib
import os
import pkgutil
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

import app.store.rows
from app.store.engine import open_engine
from app.store.rows.base import KeysBase, RecordsBase
from tests.cluster import Cluster

_CLUSTER = "REGARD_TEST_CLUSTER"
for _module in pkgutil.iter_modules(app.store.rows.__path__):
    importlib.import_module(f"app.store.rows.{_module.name}")


def pytest_configure(config: pytest.Config) -> None:
    """Start the cluster once, in the controller; workers of xdist inherit its address."""
    if os.environ.get(_CLUSTER):
        return
    cluster = Cluster()
    cluster.start()
    os.environ[_CLUSTER] = cluster.url("{database}")
    config.add_cleanup(cluster.stop)
    config.add_cleanup(lambda: os.environ.pop(_CLUSTER, None))


def postgres_url(database: str) -> str:
    return os.environ[_CLUSTER].format(database=database)


def _empty_postgres() -> Iterator[str]:
    name = f"t_{secrets.token_hex(8)}"
    admin = create_engine(postgres_url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres_url(name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def postgres_records() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped afterwards."""
    yield from _empty_postgres()


@pytest.fixture
def postgres_keys() -> Iterator[str]:
    """The URL of another one."""
    yield from _empty_postgres()


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Which of the two databases the test runs on."""
    return str(request.param)


def _database_url(backend: str, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if backend == "sqlite":
        return f"sqlite:///{tmp_path / name}.sqlite"
    return str(request.getfixturevalue(f"postgres_{name}"))


@pytest.fixture
def records_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of an empty records database without tables."""
    return _database_url(backend, "records", tmp_path, request)


@pytest.fixture
def keys_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of an empty key store without tables."""
    return _database_url(backend, "keys", tmp_path, request)


@pytest.fixture
def records_engine(records_url: str) -> Iterator[Engine]:
    """An engine on an empty records database with all its tables, once on each backend."""
    engine = open_engine(records_url)
    RecordsBase.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def keys_engine(keys_url: str) -> Iterator[Engine]:
    """An engine on an empty key store with all its tables, once on each backend."""
    engine = open_engine(keys_url, keys=True)
    KeysBase.metadata.create_all(engine)
    yield engine
    engine.dispose()
