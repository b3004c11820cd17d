"""The integrator on both databases: entries get their place by themselves, a changed tree is never signed over."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from structlog.testing import capture_logs

from app.ledger.checkpoint import NoteSigner
from app.store.leaves import LeafStore
from app.workflows.integrating import Integrator
from tests.contract.test_store_leaves import Hand, write
from tests.waiting import came_to_pass, wait


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def store(records_engine: Engine, hand: Hand) -> LeafStore:
    return LeafStore(records_engine, NoteSigner("regard.test/ledger", b"\x05" * 32), hand)


def _until_none_waits(store: LeafStore) -> bool:
    return came_to_pass(lambda: store.waiting() == 0)


def test_what_is_committed_becomes_a_leaf_without_a_command(
    records_engine: Engine, hand: Hand, store: LeafStore
) -> None:
    """Ledger.md: only the integration is batched, and no command is needed for it."""
    integrator = Integrator(store, SQLAlchemyError, every=0.02)
    integrator.start()
    try:
        entries = write(records_engine, hand, 5)
        assert _until_none_waits(store)
        entries += write(records_engine, hand, 3)
        assert _until_none_waits(store)
    finally:
        integrator.stop()
    assert [store.position(entry) for entry in entries] == list(range(8))
    assert integrator.sound


def test_two_integrators_make_one_tree(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    both = [Integrator(store, SQLAlchemyError, every=0.001) for _ in range(2)]
    for each in both:
        each.start()
    try:
        for _ in range(10):
            write(records_engine, hand, 2)
        assert _until_none_waits(store)
    finally:
        for each in both:
            each.stop()
    assert all(each.sound for each in both)
    assert store.integrate() == 0


def test_a_changed_tree_stops_it(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """Nothing is signed over a tree that is not the one last signed."""
    write(records_engine, hand, 3)
    store.integrate()
    signed = store.checkpoint()
    with records_engine.begin() as connection:
        connection.execute(text("UPDATE ledger_tree SET size = 2"))
    write(records_engine, hand)
    integrator = Integrator(store, SQLAlchemyError)
    integrator.look()
    assert not integrator.sound
    assert store.checkpoint() == signed
    assert store.waiting() == 1


def test_a_damaged_checkpoint_stops_it(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """Operations.md, no record, no action: a process that places no entries any more is not ready."""
    write(records_engine, hand, 3)
    store.integrate()
    with records_engine.begin() as connection:
        connection.execute(text("UPDATE ledger_checkpoints SET note = 'x'"))
    write(records_engine, hand)
    integrator = Integrator(store, SQLAlchemyError, every=0.01)
    with capture_logs() as told:
        integrator.start()
        try:
            wait(lambda: not integrator.sound)
        finally:
            integrator.stop()
    assert [line["code"] for line in told if line["event"] == "ledger.corrupted"] == ["ledger.corrupted"]
    assert store.waiting() == 1


def test_a_fault_that_nobody_foresaw_stops_it_and_is_told_without_its_words() -> None:
    class Faulty:
        def waiting(self) -> int:
            return 1

        def integrate(self) -> int:
            raise ValueError("ana@example.org")

    integrator = Integrator(Faulty(), SQLAlchemyError, every=0.01)
    with capture_logs() as told:
        integrator.start()
        try:
            wait(lambda: not integrator.sound)
        finally:
            integrator.stop()
    (line,) = [line for line in told if line["event"] == "ledger.integrator_stopped"]
    assert line["fault"] == "ValueError"
    assert line["at"].startswith("test_integrator.py:")
    assert "ana" not in str(line)


def test_a_database_that_is_away_is_waited_for() -> None:
    class Away:
        asked = 0

        def waiting(self) -> int:
            self.asked += 1
            raise OperationalError("SELECT", {}, Exception("away"))

        def integrate(self) -> int:
            raise AssertionError

    away = Away()
    integrator = Integrator(away, SQLAlchemyError)
    integrator.look()
    integrator.look()
    assert (away.asked, integrator.sound) == (2, True)
