"""Consents on both databases: append-only, chained, versioned, each controller's apart (consent rule 56)."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import Engine, delete, select, text, update

from app.store.consents import SqlConsents
from app.store.rows.consents import ConsentEventRow, ConsentRow
from consent import events as ev
from consent.errors import BrokenChainError, StaleVersionError, UnreadableEventError
from consent.events import Channel
from consent.reasons import Reason
from consent.record import State
from consent.vocabulary import ConsentId, PartyId, PurposeId
from tests.law.consent_desk import (
    ANNA,
    BALANCES,
    BRUNO,
    CREDIT,
    DAY,
    HERE,
    NOW,
    OVERVIEW,
    PARTNER,
    QUESTION,
    RECENT,
    SUBJECT,
    SYSTEM,
    THERE,
    Desk,
)
from tests.law.test_consent_record import ACTIVE, CONSENT, REQUESTED, TERMS, given_by
from tests.waiting import PATIENCE

WITHDRAWN = ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, delete_data=False)


def asked(**changes: object) -> ev.Requested:
    return replace(REQUESTED, terms=replace(TERMS, **changes))


def write(engine: Engine, consent: ConsentId = CONSENT, history: tuple[ev.Event, ...] = ACTIVE) -> None:
    with engine.begin() as connection:
        store = SqlConsents(connection)
        record = store.add(consent, history[0])
        for event in history[1:]:
            record = store.append(record, event)


def test_what_was_written_is_read_back(records_engine: Engine) -> None:
    write(records_engine)
    with records_engine.connect() as connection:
        store = SqlConsents(connection)
        record = store.find(HERE, CONSENT)
        assert store.events(HERE, CONSENT) == ACTIVE
        assert store.find(THERE, CONSENT) is None
        assert store.lock(THERE, CONSENT) is None
        assert store.events(THERE, CONSENT) == ()
        assert store.head(THERE, CONSENT) is None
        row = connection.execute(select(ConsentRow.__table__)).one()
    assert (record.state, record.version, record.categories) == (State.ACTIVE, 3, {BALANCES, RECENT})
    assert (row.state, row.version, row.valid_until) == ("active", 3, record.valid_until)
    assert (row.subject, row.controller, row.purpose, row.party) == (ANNA, HERE, OVERVIEW, PARTNER)


def test_the_state_row_follows_each_event_in_the_same_transaction(records_engine: Engine) -> None:
    write(records_engine)
    with records_engine.connect() as connection:  # rolled back: nothing happened
        store = SqlConsents(connection)
        store.append(store.lock(HERE, CONSENT), WITHDRAWN)
    with records_engine.begin() as connection:
        store = SqlConsents(connection)
        assert store.find(HERE, CONSENT).state is State.ACTIVE
        store.append(store.lock(HERE, CONSENT), WITHDRAWN)
    with records_engine.connect() as connection:
        row = connection.execute(select(ConsentRow.__table__)).one()
        assert (row.state, row.version, row.due_at) == ("withdrawn", 4, None)


def test_a_writer_who_read_an_older_version_is_refused(records_engine: Engine) -> None:
    write(records_engine)
    with records_engine.begin() as connection:
        store = SqlConsents(connection)
        old = store.find(HERE, CONSENT)
        store.append(old, WITHDRAWN)
        with pytest.raises(StaleVersionError):
            store.append(old, ev.EndedAtHolder(NOW, SYSTEM, Channel.HOLDER))
        # refused before anything was written: the same transaction may go on and sees the first writer's state
        assert connection.execute(select(ConsentRow.state)).scalar_one() == "withdrawn"
        assert store.find(HERE, CONSENT).state is State.WITHDRAWN


def test_two_at_once_take_turns_and_only_one_withdraws(records_engine: Engine) -> None:
    write(records_engine)
    ready, won = threading.Barrier(2), list[bool]()

    def withdraw() -> None:
        ready.wait()
        with records_engine.begin() as connection:
            store = SqlConsents(connection)
            record = store.lock(HERE, CONSENT)
            first = record.state is State.ACTIVE
            if first:
                store.append(record, WITHDRAWN)
            won.append(first)

    threads = [threading.Thread(target=withdraw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert sorted(won) == [False, True]


_SPOILS = {
    "edited body": update(ConsentEventRow)
    .where(ConsentEventRow.version == 3)
    .values(body=text("replace(body, 'transactions.recent', 'transactions.older')")),
    "edited digest": update(ConsentEventRow).where(ConsentEventRow.version == 2).values(digest="0" * 64),
    "removed middle": delete(ConsentEventRow).where(ConsentEventRow.version == 2),
    "removed tail": delete(ConsentEventRow).where(ConsentEventRow.version == 3),
    "moved": update(ConsentEventRow).where(ConsentEventRow.version == 3).values(version=4),
    "edited head": update(ConsentRow).values(head="0" * 64),
}


@pytest.mark.parametrize("spoil", list(_SPOILS))
def test_tampering_with_the_history_is_found(records_engine: Engine, spoil: str) -> None:
    write(records_engine)
    with records_engine.begin() as connection:
        assert connection.execute(_SPOILS[spoil]).rowcount == 1
    with records_engine.connect() as connection, pytest.raises(BrokenChainError):
        SqlConsents(connection).find(HERE, CONSENT)


@pytest.mark.parametrize("body", ["nonsense", "[]", '{"kind":"consent.invented","schema":1,"body":{}}'])
def test_an_unreadable_event_is_an_error_and_never_a_permit(records_engine: Engine, body: str) -> None:
    write(records_engine)
    with records_engine.begin() as connection:
        connection.execute(update(ConsentEventRow).where(ConsentEventRow.version == 3).values(body=body))
    with records_engine.connect() as connection, pytest.raises(UnreadableEventError):
        SqlConsents(connection).find(HERE, CONSENT)


def test_lists_by_subject_and_by_party(records_engine: Engine) -> None:
    other = PartyId("rival")
    write(records_engine, ConsentId("con_a"), (asked(),))
    write(records_engine, ConsentId("con_b"), (replace(asked(purpose=CREDIT), at=NOW + DAY),))
    write(records_engine, ConsentId("con_c"), (asked(subject=BRUNO),))
    write(records_engine, ConsentId("con_d"), (asked(controller=THERE),))
    write(records_engine, ConsentId("con_e"), (asked(party=other),))
    with records_engine.connect() as connection:
        store = SqlConsents(connection)

        def ids(records: tuple) -> list[str]:
            return [record.id for record in records]

        assert ids(store.of_subject(HERE, ANNA)) == ["con_b", "con_e", "con_a"]
        assert ids(store.of_subject(HERE, ANNA, CREDIT)) == ["con_b"]
        assert ids(store.of_subject(HERE, ANNA, PurposeId("none"))) == []
        assert ids(store.of_party(HERE, PARTNER, limit=2)) == ["con_a", "con_b"]
        assert ids(store.of_party(HERE, PARTNER, limit=2, after=ConsentId("con_b"))) == ["con_c"]
        assert ids(store.of_party(THERE, PARTNER, limit=9)) == ["con_d"]


def test_what_is_due_is_listed_until_it_is_recorded(records_engine: Engine) -> None:
    write(records_engine)
    write(records_engine, ConsentId("con_2"), (asked(offer_until=NOW + DAY),))
    write(records_engine, ConsentId("con_3"), (*ACTIVE, WITHDRAWN))
    end = given_by().valid_until
    with records_engine.begin() as connection:
        store = SqlConsents(connection)
        assert store.due(NOW, limit=9) == ()
        assert store.due(end, limit=9) == ((HERE, "con_2"), (HERE, CONSENT))
        assert store.due(end, limit=1) == ((HERE, "con_2"),)
        store.append(store.lock(HERE, CONSENT), ev.Expired(end, SYSTEM, Channel.SCHEDULE))
        assert store.due(end, limit=9) == ((HERE, "con_2"),)


def test_the_use_cases_run_on_both_databases(records_engine: Engine) -> None:
    desk = Desk(records_engine)
    given = desk.active()
    assert desk.judge(QUESTION).consent == given.id
    desk.withdraw(given.id)
    assert desk.judge(QUESTION).reason is Reason.CONSENT_WITHDRAWN
