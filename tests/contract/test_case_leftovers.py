"""What a case no longer needs goes: uploads once copies are sealed, copies when their time is over (dsar rule 59)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app.store.sealedfiles import UnknownFile
from app.wiring import House
from dsar import errors, usecases
from dsar import events as e
from dsar.vocabulary import Actor, Right, TaskKind
from tests.contract import case_house as town


@dataclass
class Later:
    """The clock of the units, moved on."""

    days: float

    def now(self) -> datetime:
        return town.now() + timedelta(days=self.days)


class Straight:
    """Runs each step at once."""

    def run(self, name, effect):
        return effect()


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    yield built
    built.close()


def uploads(story: town.Story) -> int:
    """Return how many parts of uploads rest for the case."""
    with story.house.casework.reading() as unit:
        tasks = unit.desk.cases.tasks(story.case, TaskKind.SEARCH)
    return sum(story.house.casework.files.parts(task.id) for task in tasks)


def drop(story: town.Story) -> int:
    """Carry out, once each, what was asked for; returns how often that was."""
    asked = set(re.findall(rf"case\.drop_uploads:({story.case}/\d+)", "".join(town.jobs(story.house.records))))
    for ref in asked:
        story.house.casework.handlers()[usecases.DROP_UPLOADS](ref, Straight())
    return len(asked)


def test_uploads_go_once_the_copy_is_sealed(house: House) -> None:
    story = town.begin(house, rows=2)
    story.answer_all()
    assert drop(story) == 0, "the copy is made of them"
    assert uploads(story) == 2
    town.decide(story)
    assert drop(story) == 1, "asked for by the very event that sealed it, and not by each one after it"
    assert uploads(story) == 0
    assert house.casework.files.read(story.copy), "the copy itself stays"


def test_uploads_of_a_request_taken_back_go_too_also_the_late_ones(house: House) -> None:
    story = town.begin(house, rows=2)
    late = story.holders.pop(town.FILES)
    story.answer_all()
    with story.desk() as desk:
        usecases.withdraw_request(desk, story.case, Actor(story.subject, human=True))
    assert drop(story) == 1
    assert uploads(story) == 0
    story.holders = {town.FILES: late}
    assert story.answer_all() == 1
    assert uploads(story) == 1
    assert drop(story) == 2
    assert uploads(story) == 0


def test_a_dropping_that_comes_too_early_takes_nothing(house: House) -> None:
    story = town.begin(house, rows=2)
    story.answer_all()
    house.casework.handlers()[usecases.DROP_UPLOADS](f"{story.case}/5", Straight())
    assert uploads(story) == 2


def purge(house: House, days: float) -> int:
    return replace(house.casework, units=replace(house.units, clock=Later(days))).sweeps()["copies"]()


def revocations(story: town.Story) -> list[str]:
    with story.house.casework.reading() as unit:
        history = unit.desk.cases.history(story.case)
    return [one.event.by for one in history if isinstance(one.event, e.PackageRevoked)]


@pytest.mark.parametrize("answered", [True, False])
def test_a_copy_whose_time_is_over_is_purged(house: House, *, answered: bool) -> None:
    """Dsar rules 58, 59: its bytes are gone, that is on record once, and a copy nobody could fetch is staff's."""
    story = town.begin(house, rows=1)
    story.answer_all()
    town.decide(story)
    with story.desk() as desk:
        (reply,) = desk.cases.get(story.case).messages
        if answered:
            usecases.dispatch_message(desk, reply, channel="space", proof="posting")
    assert purge(house, 29.9) == 0
    assert house.casework.files.read(story.copy)
    assert purge(house, 30.1) == 1
    with pytest.raises(UnknownFile):
        house.casework.files.read(story.copy)
    assert purge(house, 30.2) == 0
    assert revocations(story) == ["system"]
    with story.desk() as desk:
        assert desk.cases.get(story.case).left == (None if answered else "copy_expired")
        if not answered:
            with pytest.raises(errors.PackageIncomplete):
                usecases.prepare_reply(desk, story.case, [story.copy])


def test_the_life_of_a_copy_is_counted_from_its_reply(house: House) -> None:
    """Dsar rule 58: on record, and its bytes, thirty days from when the person could open it."""
    story = town.begin(house, rows=1)
    story.answer_all()
    town.decide(story)
    late = replace(house.casework, units=replace(house.units, clock=Later(20)))
    with late.unit() as unit:
        (reply,) = unit.desk.cases.get(story.case).messages
        usecases.dispatch_message(unit.desk, reply, channel="space", proof="posting")
        unit.commit()
    assert purge(house, 49.9) == 0
    assert house.casework.files.read(story.copy)
    assert purge(house, 50.1) == 1


def test_a_purge_killed_after_the_bytes_went_is_finished(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    story = town.begin(house, rows=1)
    story.answer_all()
    town.decide(story)
    with monkeypatch.context() as patched:
        patched.setattr("app.wiring.casework.expire_copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            purge(house, 31)
    assert revocations(story) == []
    assert purge(house, 31) == 1
    assert revocations(story) == ["system"]


def test_one_sweep_takes_a_bounded_number_the_oldest_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    story = town.begin(house, rows=1)
    story.answer_all()
    town.decide(story)
    with story.desk() as desk:
        (first,) = desk.cases.packages(house.controller, story.subject)
        other = usecases.open_case(desk, town.intake_of(story, Right.PORTABILITY))
        assert other.case is not None
        line = other.lines[Right.PORTABILITY]
        desk.cases.add_package(replace(first, id="pkg_2", case=other.case, line=line))
    monkeypatch.setattr("app.wiring.casework._PURGED", 1)
    assert [purge(house, 31), purge(house, 31), purge(house, 31)] == [1, 1, 0]
