"""What every test may use: one PostgreSQL cluster a run, and empty databases of both kinds on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app import policyfiles
from app.store.engine import open_engine
from tests.cluster import Cluster
from tests.databases import CLUSTER, Tree, clear_up, postgres_database, sqlite_database

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Start the cluster once, in the controller; workers of xdist inherit its address."""
    if os.environ.get(CLUSTER):
        config.add_cleanup(clear_up)
        return
    cluster = Cluster()
    cluster.start()
    os.environ[CLUSTER] = cluster.url("{database}")
    config.add_cleanup(cluster.stop)
    config.add_cleanup(lambda: os.environ.pop(CLUSTER, None))
    config.add_cleanup(clear_up)


@pytest.fixture(scope="session", autouse=True)
def _shipped_pack() -> Iterator[None]:
    """Read the shipped policy pack once a process: it is the same immutable thing for every test that opens a house."""
    read, shipped = policyfiles.load, ROOT / "policies"
    known = cache(lambda: read(shipped))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policyfiles, "load", lambda folder: known() if Path(folder) == shipped else read(folder))
        yield


@contextmanager
def _database(backend: str, path: Path, tree: Tree | None = None) -> Iterator[str]:
    if backend == "sqlite":
        yield sqlite_database(path, tree)
        return
    with postgres_database(tree) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Which of the two databases the test runs on."""
    return str(request.param)


@pytest.fixture
def records_url(backend: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty records database without tables."""
    with _database(backend, tmp_path / "records.sqlite") as url:
        yield url


@pytest.fixture
def keys_url(backend: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty key store without tables."""
    with _database(backend, tmp_path / "keys.sqlite") as url:
        yield url


@pytest.fixture
def laid_records_url(backend: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty records database with all its tables."""
    with _database(backend, tmp_path / "laid-records.sqlite", "records") as url:
        yield url


@pytest.fixture
def laid_keys_url(backend: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty key store with all its tables."""
    with _database(backend, tmp_path / "laid-keys.sqlite", "keys") as url:
        yield url


@pytest.fixture
def records_engine(laid_records_url: str) -> Iterator[Engine]:
    """An engine on an empty records database with all its tables, once on each backend."""
    engine = open_engine(laid_records_url)
    yield engine
    engine.dispose()


@pytest.fixture
def keys_engine(laid_keys_url: str) -> Iterator[Engine]:
    """An engine on an empty key store with all its tables, once on each backend."""
    engine = open_engine(laid_keys_url, keys=True)
    yield engine
    engine.dispose()
