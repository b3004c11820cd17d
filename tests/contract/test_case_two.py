"""Two cases of one person, one of them an erasure (dsar rules 3, 4, 53, 60): neither hangs in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.wiring import House
from dsar import usecases
from dsar.case import State
from dsar.vocabulary import SYSTEM, Actor, MessageId, Right
from tests.contract import case_house as town
from tests.contract.test_case_leftovers import Straight


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    yield built
    built.close()


def another(story: town.Story, right: Right) -> town.Story:
    with story.desk() as desk:
        opened = usecases.open_case(desk, town.intake_of(story, right))
    assert opened.case is not None
    return replace(story, case=opened.case)


def take_back(story: town.Story) -> MessageId:
    with story.desk() as desk:
        return usecases.withdraw_request(desk, story.case, Actor(story.subject, human=True))


def post(story: town.Story, message: MessageId) -> None:
    story.house.casework.handlers()[usecases.SEND](message, Straight())


def test_a_message_to_somebody_erased_meanwhile_is_left_to_staff(house: House) -> None:
    """Dsar rule 60: it has no space to go to and no letter was put aside for it."""
    story = town.ask(house, rows=1)
    other = another(story, Right.PORTABILITY)
    notice = take_back(other)
    with house.units.writing() as unit:
        unit.subjects.forget(story.subject, town.now())
        unit.commit()
    post(other, notice)
    with other.desk() as desk:
        found = desk.cases.get(other.case)
        assert (found.state, found.left) == (State.DISPATCHING, "no_space")
        assert found.messages[notice].dispatched_at is None


def test_an_acknowledgement_that_the_end_overtook_is_dropped(house: House) -> None:
    """Dsar rule 4: it wrote a move the table does not have, and its work failed for ever."""
    story = town.ask(house, rows=1, rights=(Right.ACCESS,))
    with story.desk() as desk:
        message = usecases.acknowledge(desk, story.case)
    notice = take_back(story)
    post(story, message)
    post(story, notice)
    with story.desk() as desk:
        found = desk.cases.get(story.case)
        assert found.messages[message].dispatched_at is None
        assert found.left is None
        assert usecases.close(desk, story.case, SYSTEM).value == "withdrawn_by_subject"


def test_a_reply_whose_copy_ran_out_is_not_posted(house: House) -> None:
    """Dsar rule 3: it would bring nothing to download."""
    story = town.begin(house, rows=1)
    story.answer_all()
    town.decide(story)
    with story.desk() as desk:
        (reply,) = desk.cases.get(story.case).messages
        (package,) = desk.cases.packages(house.controller, story.subject)
        desk.cases.revoke_package(package.id, town.now())
    post(story, reply)
    with story.desk() as desk:
        found = desk.cases.get(story.case)
        assert (found.messages[reply].dispatched_at, found.left) == (None, "copy_expired")
