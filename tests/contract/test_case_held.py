"""A case whose erasure the mass-erasure guard holds: told to staff, carried out once two of them agreed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.vault.errors import SelfApproval
from app.wiring import House, add_staff
from app.wiring.erasing import approve
from dsar.vocabulary import Actor
from tests.contract import case_house as town
from tests.waiting import wait

pytestmark = pytest.mark.slow


@pytest.fixture
def backend() -> str:
    """One of the two is enough here: what the guard asks of the databases, `test_vault_guard` asks of both."""
    return "sqlite"


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True, erasure_guard_subjects="0")
    built.work.migrate()
    quick = town.quick(built, first=timedelta(seconds=0.3), longest=timedelta(seconds=0.3))
    quick.work.launch(poll_seconds=0.05)
    yield quick
    quick.close()


def left(story: town.Story) -> str | None:
    with story.desk() as desk:
        return desk.cases.get(story.case).left


def carried_out(story: town.Story) -> bool:
    with story.desk() as desk:
        return desk.cases.get(story.case).lines[story.gone].carried_out is not None


def test_a_held_erasure_waits_for_two(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    dpo, one, two = (add_staff(house, name, ["dpo"], [house.controller])[0] for name in ("a", "b", "c"))
    monkeypatch.setattr(town, "DPO", Actor(dpo, human=True, dpo=True))
    story = town.begin(house, rows=2)
    assert story.answer_all() == 2
    town.decide(story)
    with story.desk() as desk:
        replies = [each for each, one in desk.cases.get(story.case).messages.items() if one.dispatched_at is None]
        for reply in replies:
            town.usecases.dispatch_message(desk, reply, channel="space", proof="posting")
    row = story.holders[town.ACCOUNTS].rows[0]
    town.order_erasure(story)
    erasure = f"era_{story.gone}"
    wait(lambda: left(story) == "erasure_held")
    assert house.vault.erasures.held() == (erasure,)
    assert town.gone(story, town.ACCOUNTS, row), "refused at once"
    time.sleep(1)  # several attempts
    assert house.vault.erasures.state(erasure) == "requested"

    with pytest.raises(SelfApproval):
        approve(house, erasure, dpo)
    assert approve(house, erasure, one) == 1
    assert approve(house, erasure, two) == 0
    wait(lambda: carried_out(story), story.answer_all)
    assert left(story) is None
    assert house.vault.erasures.held() == ()
    assert len(house.vault.erasures.certificates(erasure)) == 1
    with story.desk() as desk:
        told = [type(one.event).__name__ for one in desk.cases.history(story.case)]
    assert told.count("LeftToStaff") == 1
