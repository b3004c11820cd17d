"""Taking queued mail to a mail service that is slow, away or refuses (operations.md section 3, rule 7)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.wiring import House
from app.workflows.mail import SEND, HandedOver, Postman
from tests.contract import case_house as town
from tests.waiting import PATIENCE


class Straight:
    """Runs each step at once."""

    def run(self, _name: str, effect: Any) -> Any:
        return effect()


@pytest.fixture
def house(records_url: str, keys_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr("app.store.engine.BUSY_MILLISECONDS", 500)
    built = town.open_house(tmp_path, records_url, keys_url, fresh=True)
    built.work.migrate()
    yield built
    built.close()


def held(house: House) -> str:
    """A queued mail."""
    said = {"to": "ana@example.org", "subject": "Hello", "text": "Hello", "html": "<p>Hello</p>", "kind": "sign-in"}
    with house.units.writing() as unit:
        mail = unit.mail_queue.hold(house.controller, **said)
        unit.commit()
    return mail


def waits(house: House, mail: str) -> bool:
    with house.units.reading() as unit:
        return unit.mail_queue.waiting(mail) is not None


class Slow:
    """A mail service that takes its time."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        self.taken: list[str] = []

    def hand_over(self, mail: str, _kind: str, said: Mapping[str, str]) -> HandedOver:
        assert said["to"] == "ana@example.org"
        self.asked.set()
        assert self.answers.wait(PATIENCE)
        self.taken.append(mail)
        return HandedOver.SENT


def postman(house: House, hand_over: Any) -> Postman:
    units, told = house.units, house.casework.mail_sent
    return Postman(
        units.reading,
        units.writing,
        house.seals.open_mail,
        hand_over,
        clock=units.clock,
        sent=told,
        lost=house.casework.mail_lost,
    )


def test_a_slow_mail_service_keeps_nobody_from_writing(house: House) -> None:
    """Operations.md section 6: on SQLite there is one writer, and it is not the one who waits for a mail server."""
    mail, slow = held(house), Slow()
    with ThreadPoolExecutor(1) as beside:
        sending = beside.submit(postman(house, slow.hand_over).handlers()[SEND], mail, Straight())
        try:
            assert slow.asked.wait(PATIENCE)
            other = held(house)  # would end in "database is locked"
        finally:
            slow.answers.set()
        sending.result(PATIENCE)
    assert slow.taken == [mail]
    assert (waits(house, mail), waits(house, other)) == (False, True)


def test_what_ended_meanwhile_is_not_noted_again(house: House) -> None:
    """A second worker's attempt of the same mail may have ended while this one waited for its answer."""
    mail, taken = held(house), []

    def hand_over(name: str, *_: Any) -> HandedOver:
        taken.append(name)
        if len(taken) == 1:
            postman(house, hand_over).send(mail, Straight())
        return HandedOver.SENT

    postman(house, hand_over).send(mail, Straight())
    assert taken == [mail, mail]
    assert ledgered(house) == ["mail.sent"]


def queued(house: House) -> list[str]:
    """The references of the attempts that wait for their time."""
    with house.records.connect() as connection:
        schema = "dbos." if connection.dialect.name == "postgresql" else ""
        found = connection.exec_driver_sql(f"SELECT workflow_uuid FROM {schema}workflow_status").scalars().all()
    return sorted(one.removeprefix(f"{SEND}:") for one in found)


def test_a_mail_nobody_takes_for_two_days_is_dropped_and_the_ledger_says_so(house: House) -> None:
    mail = held(house)
    post = postman(house, lambda *_: HandedOver.LATER)
    for ref in (mail, *(f"{mail}/{number}" for number in range(2, 10))):
        assert waits(house, mail)
        post.send(ref, Straight())
    assert queued(house) == [f"{mail}/{number}" for number in range(2, 10)], "eight more attempts, no tenth"
    assert (waits(house, mail), ledgered(house)) == (False, ["mail.given_up"])


def ledgered(house: House) -> list[str]:
    """What the ledger says of mails."""
    with house.records.connect() as connection:
        kinds = connection.exec_driver_sql("SELECT kind FROM ledger_entries WHERE kind LIKE 'mail.%%'").scalars().all()
    return sorted(kinds)
