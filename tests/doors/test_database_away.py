"""The records database locked, away or out of connections: 503 with Retry-After, no fault of ours (operations.md 6).

The lock, the server that lets nobody in and the connections in use are real ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from structlog.testing import capture_logs

from app.sdk.scopes import Scope
from tests.databases import postgres_url
from tests.doors.api_house import BALANCES, PURPOSE, READER
from tests.doors.bad_input_house import BadHouse, bad_house

Trouble = Callable[[Engine], AbstractContextManager[None]]


@contextmanager
def locked(records: Engine) -> Iterator[None]:
    """Somebody else writes to the SQLite file for longer than anybody waits."""
    with closing(sqlite3.connect(str(records.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def shut(records: Engine) -> Iterator[None]:
    """The PostgreSQL server ends every session and lets nobody in."""
    server = create_engine(postgres_url("postgres"), isolation_level="AUTOCOMMIT")
    name = records.url.database
    with closing(server.connect()) as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name").bindparams(name=name)
        )
        yield
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()


@contextmanager
def crowded(records: Engine) -> Iterator[None]:
    """Every connection is in use."""
    with ExitStack() as held:
        for _ in range(records.pool.size() + records.pool._max_overflow):  # type: ignore[attr-defined]
            held.enter_context(records.execution_options(regard_read=True).connect())
        yield


@pytest.fixture
def house(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadHouse]:
    monkeypatch.setattr("app.store.engine.BUSY_MILLISECONDS", 100)
    with bad_house(tmp_path, backend) as built:
        built.at.house.records.pool._timeout = 0.1  # type: ignore[attr-defined]
        yield built


def report(house: BadHouse) -> Callable[[], Any]:
    read = {
        "id": "d-1",
        "handle": house.at.handle(house.ana, READER),
        "categories": [BALANCES],
        "records": 1,
        "purpose": PURPOSE,
        "consent": house.ana.consent,
        "attended": False,
        "action": "read",
        "at": house.at.clock.now().isoformat(),
    }
    sent = {"json": {"disclosures": [read]}}
    return lambda: house.call("POST", "/api/v1/disclosures", house.at.reader, Scope.DISCLOSURES_WRITE, **sent)


@pytest.mark.parametrize(
    ("backend", "trouble"),
    [("sqlite", locked), ("sqlite", crowded), ("postgresql", shut), ("postgresql", crowded)],
    indirect=["backend"],
)
def test_a_database_that_cannot_answer_has_everybody_come_back_later(house: BadHouse, trouble: Trouble) -> None:
    write, form = report(house), house.form("ana", email="ana@example.org")
    with capture_logs() as logged, trouble(house.at.house.records):
        machine = write()
        person = house.visit("POST", "/en/sign-in", "ana", data=form)
    assert (machine.status_code, machine.json["code"], machine.headers["Retry-After"]) == (503, "unavailable", "30")
    assert (person.status_code, person.headers["Retry-After"]) == (503, "30")
    assert "Not available for the moment" in person.get_data(as_text=True)
    said = machine.get_data(as_text=True) + person.get_data(as_text=True)
    assert not any(word in said for word in ("OperationalError", "TimeoutError", "locked", "QueuePool"))
    assert [one["event"] for one in logged].count("request.database_away") >= 2, "whoever runs it is told"
    assert write().status_code == 200
