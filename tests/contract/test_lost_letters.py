"""Letters of a case that no mail service takes: nobody counts as told by them, and staff read why (rules 56, 60)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from app.wiring import House
from app.wiring.mail import hand_over_to
from app.workflows.mail import HandedOver, HandOver
from dsar import usecases
from dsar.case import State
from dsar.vocabulary import MessageKind, RecipientOutcome, Right
from tests.contract import case_house as town
from tests.contract.test_case_proceed import PARTNER, agree, asked, case_of, drive, house_unit, kinds, state, until

pytestmark = pytest.mark.slow


class Post:
    """The outbox, but for the kinds of mail it is told not to take."""

    def __init__(self) -> None:
        self.answers: dict[str, HandedOver] = {}

    def over(self, chosen: HandOver) -> HandOver:
        def hand_over(mail: str, kind: str, said: Mapping[str, str]) -> HandedOver:
            return self.answers.get(kind) or chosen(mail, kind, said)

        return hand_over


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    made = Post()
    monkeypatch.setattr("app.wiring.house.hand_over_to", lambda chosen: made.over(hand_over_to(chosen)))
    return made


@pytest.fixture
def house(post: Post, laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    wait = timedelta(seconds=0.3)
    quick = town.quick(built, by_itself=True, first=wait, longest=wait)
    quick.work.launch(poll_seconds=0.05)
    yield quick
    quick.close()


def told(story: town.Story) -> dict[str, tuple[RecipientOutcome, str | None]]:
    """Where the notice to each recipient stands."""
    with house_unit(story) as unit:
        return {one.recipient: (one.outcome, one.reason) for one in unit.desk.cases.recipients(story.case)}


def approved(house: House) -> town.Story:
    """An erasure of somebody whose data an outside reader received, just approved."""
    story = town.ask(house, rows=2, rights=(Right.ERASURE,))
    agree(story)
    until(lambda: asked(story), story)
    story.answer_all()
    until(state(story, State.APPROVAL), story)
    story.act(lambda desk: usecases.approve(desk, story.case, town.DPO))
    return story


def test_a_refused_letter_tells_nobody(post: Post, house: House) -> None:
    post.answers = dict.fromkeys(("certificate", "recipient-erasure"), HandedOver.REFUSED)
    story = approved(house)
    until(lambda: told(story) == {PARTNER: (RecipientOutcome.PENDING, "letter_refused")}, story)
    drive(story, lambda: case_of(story).left)
    case = case_of(story)
    assert (case.state, case.left) == (State.DISPATCHING, "letter_refused"), "what the erasure waited for went on"
    replies = [one for one in case.messages.values() if one.kind is not MessageKind.ACKNOWLEDGEMENT]
    assert [one.dispatched_at for one in replies] == [None]
    assert kinds(story).count("case.left_to_staff") == 1
    with house_unit(story) as unit:
        (owed,) = unit.desk.cases.recipients(story.case)
    story.act(lambda desk: usecases.record_recipient(desk, owed.id, RecipientOutcome.SENT, by=town.DPO))
    assert told(story) == {PARTNER: (RecipientOutcome.SENT, None)}, "written to by another way"


def test_a_recipient_counts_as_told_once_its_letter_is_handed_over(post: Post, house: House) -> None:
    post.answers = {"recipient-erasure": HandedOver.LATER}
    story = approved(house)
    drive(story, state(story, State.DISPATCHED))
    assert told(story) == {PARTNER: (RecipientOutcome.PENDING, None)}
    post.answers.clear()
    with house_unit(story) as unit:
        (owed,) = unit.desk.cases.recipients(story.case)
    with house.units.writing() as unit:
        unit.mail_queue.release(f"mail_about_{owed.id}/9")
        unit.commit()
    until(lambda: told(story) == {PARTNER: (RecipientOutcome.SENT, None)}, story)
