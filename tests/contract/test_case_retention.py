"""What an erasure kept goes on its day, and not before (dsar rule 49)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Row, select

from app.outbound.uploads import Whose
from app.profiles import HOUSE
from app.store.rows.keys import DataKeyRow
from app.store.rows.leaves import LedgerEntryRow
from app.wiring import House
from consent.vocabulary import CategoryId, ComponentId, PartyId, PurposeId
from dsar.holdings import AUDIT_TRAIL
from dsar.ports import StoredRetention
from dsar.vocabulary import FateKind, TaskId
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


_TRAIL = {
    "id": "ret_trail",
    "holder": ComponentId(HOUSE),
    "category": AUDIT_TRAIL,
    "purpose": PurposeId("rights_requests"),
}


def _founded(folder: Path, records_url: str, keys_url: str) -> House:
    house = town.open_house(folder, records_url, keys_url, fresh=True)
    house.work.migrate()
    return house


def _erased(house: House, *beside: dict[str, object]) -> tuple[town.Story, StoredRetention]:
    """Erase a person but for the papers the law keeps, and what stays `beside` these: how it differs from them."""
    story = town.begin(house, rows=1)
    house.casework.uploads.keep(
        Whose(house.controller, story.subject), TaskId("task_own"), ComponentId(HOUSE), {AUDIT_TRAIL: [{"at": "then"}]}
    )
    story.answer_all()
    town.decide(story)
    with story.desk() as desk:
        (reply,) = desk.cases.get(story.case).messages
        town.usecases.dispatch_message(desk, reply, channel="space", proof="posting")
    town.order_erasure(story)
    with story.desk() as desk:
        (papers,) = desk.cases.retentions(story.case)
        for other in beside:
            desk.cases.add_retention(replace(papers, **other))
    house.casework.handlers()["case.run_erasure"](f"{story.case}/{story.gone}", Straight())
    return story, papers


def _end(house: House, *retentions: str, days: int = 1827) -> None:
    later = replace(house.casework, units=replace(house.units, clock=Later(days)))
    for retention in retentions:
        later.handlers()["case.end_retention"](retention, Straight())


def _keys_left(story: town.Story) -> set[tuple[str, str, str]]:
    query = select(DataKeyRow.key_class, DataKeyRow.holder, DataKeyRow.category)
    with story.house.keys.connect() as connection:
        return {tuple(row) for row in connection.execute(query.where(DataKeyRow.subject == story.subject))}


def test_a_retention_ends_on_its_day_and_its_holder_is_told(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    house = _founded(tmp_path, laid_records_url, laid_keys_url)
    story, retention = _erased(house)
    kept = story.holders[town.FILES].rows[0]
    for days, ended in ((1820, False), (1827, True), (1828, True)):
        _end(house, retention.id, days=days)
        assert town.gone(story, town.FILES, kept) is ended
    with story.desk() as desk:
        assert desk.cases.retention(retention.id).erased_at is not None
        told = desk.cases.open_tasks(town.FILES, limit=9)
        assert [task.instructions[0].fate for task in told] == [FateKind.RETAIN, FateKind.ERASE], "told once"
    house.close()


def test_after_the_last_retention_no_key_of_the_person_is_left(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    """The ledger's entries have a class of keys; what the copy had of the same category has another (rule 49)."""
    house = _founded(tmp_path, laid_records_url, laid_keys_url)
    story, papers = _erased(house, _TRAIL)
    trail, of_papers = ("data", HOUSE, AUDIT_TRAIL), ("data", town.PARTIES[town.FILES], town.PAPERS)
    assert _keys_left(story) == {("audit", HOUSE, "ledger"), trail, of_papers}
    _end(house, papers.id, "ret_trail")
    assert _keys_left(story) == set()
    house.close()


def test_a_holder_answers_after_the_audit_trail_is_gone(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    """Both end on one day: what the holder says of its deletion is taken, and its name of the person goes (rule 49)."""
    house = _founded(tmp_path, laid_records_url, laid_keys_url)
    story, papers = _erased(house, _TRAIL)
    story.answer_all()
    house.casework.handlers()["case.run_erasure"](f"{story.case}/{story.gone}/2", Straight())
    assert story.answer_all() == 2, "searched again"
    _end(house, "ret_trail", papers.id)
    before = _entries(house)
    assert story.answer_all() == 1
    assert story.holders[town.FILES].rows == []
    (said,) = [entry for entry in _entries(house) if entry not in before]
    assert (said.kind, said.actor, said.subject) == ("case.holder_answered", town.FILES, None)
    whose = story.subject, PartyId(town.PARTIES[town.FILES])
    with house.casework.unit() as unit:
        assert unit.subjects.handle_of(*whose) is not None
        unit.subjects.let_go(*whose)
        assert unit.subjects.handle_of(*whose) is None
    house.close()


def test_at_the_end_of_one_retention_the_holder_keeps_what_another_law_still_keeps(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    """Same category, two purposes: the holder is told both, and that it has the records is a good answer (rule 49)."""
    house = _founded(tmp_path, laid_records_url, laid_keys_url)
    whole = town.ENDED + timedelta(days=3652)
    advice = {"id": "ret_advice", "purpose": PurposeId("client_advice"), "legal_ref": "MiFID II", "until": whole}
    story, papers = _erased(house, advice, {**advice, "id": "ret_file", "category": CategoryId("aml.file")})
    row = story.holders[town.FILES].rows[0]
    story.answer_all()
    _end(house, papers.id)
    whose = ("client_advice", FateKind.RETAIN, whole, "MiFID II")
    told = {(town.PAPERS, "aml_duties", FateKind.ERASE, None, None), (town.PAPERS, *whose), ("aml.file", *whose)}
    assert _told(story) == [told]
    assert story.answer_all() == 1
    assert _told(story) == [], "its answer is good"
    assert not town.gone(story, town.FILES, row)
    _end(house, "ret_advice", days=3653)
    assert _told(story) == [{(town.PAPERS, "client_advice", FateKind.ERASE, None, None)}]
    story.answer_all()
    assert story.holders[town.FILES].rows == []
    assert town.gone(story, town.FILES, row)
    house.close()


def _told(story: town.Story) -> list[set[tuple[object, ...]]]:
    """Per open task of the file store: category, purpose, fate, until when, by which law."""
    with story.desk() as desk:
        tasks = desk.cases.open_tasks(town.FILES, limit=9)
    return [
        {(one.category, one.purpose, one.fate, one.until, one.legal_ref) for one in task.instructions} for task in tasks
    ]


def _entries(house: House) -> list[Row[tuple[str, str, str, str | None]]]:
    columns = (LedgerEntryRow.id, LedgerEntryRow.kind, LedgerEntryRow.actor, LedgerEntryRow.subject)
    with house.records.connect() as connection:
        return list(connection.execute(select(*columns)).all())


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
