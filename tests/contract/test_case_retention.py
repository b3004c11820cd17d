"""What an erasure kept goes on its day, and not before (dsar rule 49)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from consent.vocabulary import PurposeId
from dsar.ports import StoredRetention
from dsar.vocabulary import FateKind
from tests.contract import case_house as town


@dataclass
class Later:
    """The clock of the units, moved on."""

    days: int

    def now(self) -> datetime:
        return town.now() + timedelta(days=self.days)


@dataclass
class At:
    """A clock that stands."""

    at: datetime

    def now(self) -> datetime:
        return self.at


class Straight:
    """Runs each step at once."""

    def run(self, name, effect):
        return effect()


def test_a_retention_ends_on_its_day_and_its_holder_is_told(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    house = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    house.work.migrate()
    story = town.begin(house, rows=1)
    story.answer_all()
    town.decide(story)
    with story.desk() as desk:
        (reply,) = desk.cases.get(story.case).messages
        town.usecases.dispatch_message(desk, reply, channel="space", proof="posting")
    town.order_erasure(story)
    house.casework.handlers()["case.run_erasure"](f"{story.case}/{story.gone}", Straight())
    kept = story.holders[town.FILES].rows[0]
    with story.desk() as desk:
        (retention,) = desk.cases.retentions(story.case)
    for days, ended in ((1820, False), (1827, True), (1828, True)):
        later = replace(house.casework, units=replace(house.units, clock=Later(days)))
        later.handlers()["case.end_retention"](retention.id, Straight())
        assert town.gone(story, town.FILES, kept) is ended
    with story.desk() as desk:
        assert desk.cases.retention(retention.id).erased_at is not None
        told = desk.cases.open_tasks(town.FILES, limit=9)
        assert [task.instructions[0].fate for task in told] == [FateKind.RETAIN, FateKind.ERASE], "told once"
    house.close()


@pytest.mark.parametrize(
    ("hour", "due"),
    [(datetime(2031, 3, 1, 22, 59, tzinfo=UTC), False), (datetime(2031, 3, 1, 23, 1, tzinfo=UTC), True)],
)
def test_the_sweep_has_a_retention_ended_from_the_first_minute_of_its_day(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path, hour: datetime, *, due: bool
) -> None:
    """The day is the controller's: in Paris the second of March begins an hour before it does in universal time."""
    house = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    house.work.migrate()
    story = town.begin(house, rows=1)
    with story.desk() as desk:
        whose = (story.case, house.controller, story.subject, town.FILES, town.PAPERS)
        for number in range(3):
            desk.cases.add_retention(
                StoredRetention(f"ret_{number}", *whose, PurposeId("aml"), "CMF L.561-12", date(2031, 3, 2))
            )
    then = replace(house.casework, units=replace(house.units, clock=At(hour)))
    for _again in range(2):
        then.sweeps()["retentions"]()
    asked = "".join(town.jobs(house.records))
    assert [asked.count(f"case.end_retention:ret_{number}'") for number in range(3)] == [int(due)] * 3
    house.close()
