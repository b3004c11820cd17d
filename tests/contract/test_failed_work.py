"""Work that fails is not given up, says nothing about anyone, and holds nothing else up (operations.md section 3)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from app.store.engine import open_engine
from app.vault.errors import KeyStoreUnavailable
from app.workflows.durable import DurableWork, Steps
from tests.contract.case_house import jobs
from tests.waiting import wait

pytestmark = pytest.mark.slow
AT_ONCE = timedelta(0)


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Bench:
    """One kind of work that fails as often as it is told to, and two sweeps of which the first fails."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = open_engine(url)
        self.faults: list[Exception] = []
        self.done: list[str] = []
        self.swept: list[str] = []
        self.work = DurableWork(self.engine, Now(), {"test.kind": self.carry}, executor="one")
        self.work.sweep_with({"broken": self._broken, "sound": self._sound})
        self.work.migrate()

    def carry(self, ref: str, steps: Steps) -> None:
        steps.run("first", lambda: self.done.append("first"))
        steps.run("second", self._second)

    def _second(self) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.done.append("second")

    def _broken(self) -> int:
        self.swept.append("broken")
        raise KeyError("Ana Exemplo")

    def _sound(self) -> int:
        self.swept.append("sound")
        return 1

    def ask(self, ref: str) -> None:
        with Session(self.engine) as session:
            self.work.enqueue(session, "test.kind", ref)
            session.commit()

    def told(self) -> str:
        return "".join(jobs(self.engine))


@pytest.fixture
def bench(records_url: str) -> Iterator[Bench]:
    built = Bench(records_url)
    yield built
    built.work.stop(patience_seconds=1)
    built.engine.dispose()


def test_failed_work_begins_anew_for_as_long_as_it_takes(bench: Bench) -> None:
    bench.faults = [KeyError("one"), ValueError("two")]
    bench.work.launch(poll_seconds=0.02)
    bench.ask("ref_1")
    for _ in range(2):
        wait(lambda: bench.work.failed() == 1)
        assert bench.work.begin_failed_anew() == 0, "it rests first"
        assert bench.work.begin_failed_anew(rested=AT_ONCE) == 1
    wait(lambda: "second" in bench.done)
    wait(lambda: bench.work.failed() == 0)
    assert bench.done == ["first", "first", "first", "second"], "each time from its first step"
    assert bench.work.begin_failed_anew(rested=AT_ONCE) == 0, "done is done"


def test_a_key_store_that_is_away_for_a_moment_is_asked_again_at_once(bench: Bench) -> None:
    bench.faults = [KeyStoreUnavailable("away")]
    bench.work.launch(poll_seconds=0.02)
    bench.ask("ref_1")
    wait(lambda: "second" in bench.done)
    assert bench.done == ["first", "second"]


@pytest.fixture
def engines_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the engine logs: its logger hands nothing on to others."""
    logging.getLogger("dbos").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("dbos").removeHandler(caplog.handler)


def test_what_a_fault_says_reaches_neither_job_tables_nor_log(
    bench: Bench, engines_log: pytest.LogCaptureFixture
) -> None:
    """What a fault says may quote a person."""
    bench.faults = [KeyStoreUnavailable("Ana Exemplo"), ValueError("Ana Exemplo, ana@example.org")]
    with capture_logs() as logged:
        bench.work.launch(poll_seconds=0.02)
        bench.ask("ref_1")
        wait(lambda: bench.work.failed() == 1)
    away, event = (one for one in logged if one["event"] == "work.failed")
    assert away["fault"] == "KeyStoreUnavailable"
    assert (event["fault"], event["kind"], event["ref"], event["step"]) == (
        "ValueError",
        "test.kind",
        "ref_1",
        "second",
    )
    assert event["at"].startswith("test_failed_work.py:")
    assert "KeyStoreUnavailable" in engines_log.text, "the engine says that it tries again"
    assert "ValueError" in bench.told()
    said = bench.told() + str(logged) + engines_log.text
    assert "Ana" not in said
    assert "example.org" not in said


def test_a_sweep_that_fails_keeps_no_other_from_running(bench: Bench) -> None:
    bench.work.launch(sweep_when="* * * * * *")
    wait(lambda: bench.swept.count("sound") > 1)
    assert bench.swept.count("broken") > 1
    assert "Ana" not in bench.told()


def test_what_ended_long_ago_leaves_the_job_tables_and_what_did_not_stays(bench: Bench) -> None:
    bench.work.launch(poll_seconds=0.02)
    bench.ask("ref_done")
    wait(lambda: "second" in bench.done)
    bench.faults = [KeyError("one")]
    bench.ask("ref_failed")
    wait(lambda: bench.work.failed() == 1)
    assert bench.work.forget_finished() == 0
    assert "ref_done" in bench.told()
    wait(lambda: bench.work.forget_finished(work=AT_ONCE) == 1)
    assert "ref_done" not in bench.told()
    assert "ref_failed" in bench.told()


def test_what_a_statement_was_given_is_in_no_faults_text(records_url: str) -> None:
    engine = open_engine(records_url)
    asked = text("SELECT 1 FROM no_such_table WHERE name = :name")
    with pytest.raises(DBAPIError, match="no_such_table") as told, engine.connect() as connection:
        connection.execute(asked, {"name": "Ana Exemplo"})
    assert "Ana" not in str(told.value)
    engine.dispose()
