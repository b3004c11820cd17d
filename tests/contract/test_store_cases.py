"""The repository of cases against `dsar.ports.Cases`, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.orm import Session

from app.store.rows.cases import HolderTaskRow
from consent.vocabulary import ControllerId, Locale, PartyId, SubjectRef
from dsar import usecases
from dsar.errors import CaseChanged, CaseUnknown
from dsar.package import CategoryResult, HolderAnswer
from dsar.ports import HolderTask, Instruction, RecipientTask, StoredPackage, StoredRetention
from dsar.usecases import Intake
from dsar.vocabulary import (
    CaseId,
    Channel,
    FateKind,
    HolderStatus,
    LineId,
    MessageId,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
    TaskKind,
)
from tests.law.dsar_desk import AGENT, AML, ANNA, BALANCES, BANK, HOLDERS, IDENTITY, OTHER, make_desk, paris, passkey

START = paris(2026, 3, 5)


@pytest.fixture
def session(records_engine):
    with Session(records_engine) as opened:
        yield opened


def opened(desk, *rights, **changes):
    facts = {
        "controller": BANK,
        "subject": ANNA,
        "rights": rights or (Right.ACCESS,),
        "channel": Channel.SPACE,
        "received_at": START,
        "locale": Locale.FR,
        "by": AGENT,
        "proofs": (passkey(START),),
        "text": "une demande",
    }
    found = usecases.open_case(desk, Intake(**{**facts, **changes}))
    return found.case


def test_a_case_is_the_same_after_a_new_session(records_engine):
    with Session(records_engine) as session:
        desk = make_desk(session, START)
        case = opened(desk, Right.ACCESS, Right.ERASURE)
        message = usecases.acknowledge(desk, case)
        usecases.dispatch_message(desk, message, channel="space", proof="p")
        before, history, row = desk.cases.get(case), desk.cases.history(case), desk.cases.summary(case)
        session.commit()
    with Session(records_engine) as session:
        desk = make_desk(session, START)
        assert desk.cases.get(case) == before
        assert desk.cases.history(case) == history
        assert desk.cases.summary(case) == row
        assert desk.cases.case_of_message(message) == case
        assert [one.version for one in history] == list(range(1, before.version + 1))
        assert row.rights == (Right.ACCESS, Right.ERASURE)
        assert row.due_strict == date(2026, 4, 7)


def test_leaving_without_commit_means_that_nothing_happened(records_engine):
    with Session(records_engine) as session:
        case = opened(make_desk(session, START))
    with Session(records_engine) as session:
        with pytest.raises(CaseUnknown):
            make_desk(session, START).cases.get(case)
        for table in ("cases", "case_lines", "case_events", "case_notes"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0


def test_two_writers_of_one_case_cannot_both_win(records_engine):
    """The second sees that the case changed; nothing of it stays."""
    with Session(records_engine) as session:
        desk = make_desk(session, START)
        case = opened(desk)
        stale = desk.cases.get(case)
        usecases.acknowledge(desk, case)
        session.commit()
    with Session(records_engine) as session:
        desk = make_desk(session, START)
        dates = usecases.dates_of(desk, stale)
        with pytest.raises(CaseChanged):
            desk.cases.write(stale, before=stale.version, events=[], dates=dates)


def test_the_same_open_line_exists_once(records_engine):
    """Dsar rule 9, also when two requests race: the database refuses the second."""
    with Session(records_engine) as session:
        desk = make_desk(session, START)
        case = opened(desk)
        session.commit()
        first = desk.cases.get(case)
        twin = replace(
            first,
            id=CaseId("case_twin"),
            lines={LineId("line_twin"): replace(next(iter(first.lines.values())), id=LineId("line_twin"))},
        )
        with pytest.raises(CaseChanged):
            desk.cases.write(twin, before=0, events=[], dates=usecases.dates_of(desk, first))
        session.rollback()
        assert desk.cases.open_line(BANK, ANNA, Right.ACCESS) == case
        assert desk.cases.open_line(OTHER, ANNA, Right.ACCESS) is None


def test_unknown_subjects_do_not_collide(session):
    """Two cases without a subject are two cases."""
    desk = make_desk(session, START)
    assert opened(desk, subject=None) != opened(desk, subject=None)


def test_the_queue_pages_by_strict_date_within_its_controllers(session):
    desk = make_desk(session, START)
    cases = [
        opened(desk, subject=SubjectRef(f"sub_{number}"), received_at=START - timedelta(days=number % 3))
        for number in range(7)
    ]
    elsewhere = opened(desk, controller=OTHER)
    everything = [row.case for row in desk.cases.queue([BANK], limit=50)]
    assert set(everything) == set(cases)
    days = [desk.cases.summary(case).due_strict for case in everything]
    assert days == sorted(days)
    paged, last = [], None
    while page := desk.cases.queue([BANK], limit=2, after=last):
        paged += [row.case for row in page]
        last = page[-1].case
    assert paged == everything
    assert [row.case for row in desk.cases.queue([OTHER], limit=9)] == [elsewhere]
    assert desk.cases.queue([], limit=9) == []
    assert [row.case for row in desk.cases.of_subject(BANK, SubjectRef("sub_1"))] == [cases[1]]


def test_an_ended_case_leaves_the_queue(session):
    desk = make_desk(session, START)
    case = opened(desk)
    usecases.dispatch_message(desk, usecases.withdraw_request(desk, case, AGENT), channel="space", proof="p")
    usecases.close(desk, case)
    assert desk.cases.queue([BANK], limit=9) == []
    assert [row.case for row in desk.cases.queue([BANK], limit=9, ended=True)] == [case]
    assert desk.cases.open_line(BANK, ANNA, Right.ACCESS) is None


def test_tasks_keep_their_order_instructions_and_answer(session):
    desk = make_desk(session, START)
    case = opened(desk)
    told = (
        Instruction(IDENTITY, AML, FateKind.RETAIN, date(2031, 3, 1), "CMF L.561-12"),
        Instruction(BALANCES, AML, FateKind.ANONYMISE, cohort="c"),
    )
    tasks = [
        HolderTask(TaskId(f"task_{name}"), case, LineId("l"), BANK, ANNA, holder, TaskKind.ERASE, START, told)
        for name, holder in zip("zay", (*HOLDERS, HOLDERS[0]), strict=True)
    ]
    for task in tasks:
        desk.cases.add_task(task)
    assert list(desk.cases.tasks(case)) == tasks
    assert list(desk.cases.tasks(case, TaskKind.SEARCH)) == []
    assert list(desk.cases.open_tasks(HOLDERS[0], limit=9)) == [tasks[0], tasks[2]]
    result = CategoryResult(BALANCES, HolderStatus.ERASED, 3)
    answer = HolderAnswer(HOLDERS[0], HolderStatus.ERASED, START + timedelta(hours=1), (result,), None, "0" * 64)
    desk.cases.answer_task(tasks[0].id, answer, settled=True)
    assert desk.cases.task(tasks[0].id).answer == answer
    assert list(desk.cases.open_tasks(HOLDERS[0], limit=9)) == [tasks[2]]
    assert list(desk.cases.open_tasks(HOLDERS[0], limit=0)) == []


def test_tasks_answered_with_an_error_come_behind_those_not_answered_at_all(session):
    """Dsar rule 40: every holder is asked for every case, however many of its tasks fail and come again."""
    desk = make_desk(session, START)
    case = opened(desk)
    names = [TaskId(f"task_{number}") for number in range(4)]
    for number, name in enumerate(names):
        made = START + timedelta(minutes=number)
        desk.cases.add_task(HolderTask(name, case, LineId("l"), BANK, ANNA, HOLDERS[0], TaskKind.SEARCH, made))
    error = HolderAnswer(HOLDERS[0], HolderStatus.ERROR, START + timedelta(hours=1), (), "body_invalid")
    for name in names[:2]:
        desk.cases.answer_task(name, error, settled=False)
    assert [task.id for task in desk.cases.open_tasks(HOLDERS[0], limit=9)] == [*names[2:], *names[:2]]
    assert [task.id for task in desk.cases.open_tasks(HOLDERS[0], limit=2)] == names[2:]
    again = replace(error, answered_at=START + timedelta(hours=1, microseconds=1))
    desk.cases.answer_task(names[0], again, settled=False)
    found = [task.id for task in desk.cases.open_tasks(HOLDERS[0], limit=9)]
    assert found == [*names[2:], names[1], names[0]], "what was tried longest ago comes first"


def test_who_still_has_something_of_a_person_is_found_without_reading_everybody_s_tasks(session):
    """Asked with every answer of a holder: it must not grow with the number of people."""
    desk = make_desk(session, START)
    case = opened(desk)
    task = {"case": case, "line": "l", "controller": BANK, "created_at": START, "place": 0, "instructions": []}
    rows = [
        {
            **task,
            "id": f"task_{kind.value}_{number}",
            "subject": f"sub_{number}",
            "holder": HOLDERS[0],
            "kind": kind.value,
        }
        for number in range(400)
        for kind in (TaskKind.ERASE, TaskKind.VERIFY)
    ]
    session.execute(insert(HolderTaskRow), [{**row, "answered_at": START} for row in rows])
    session.execute(text("ANALYZE"))
    asked = []
    event.listen(
        session.connection(), "before_cursor_execute", lambda _c, _k, sql, given, *_: asked.append((sql, given))
    )
    assert desk.cases.concerned(SubjectRef("sub_7")) == frozenset()
    sql, given = asked[-1]
    how = "EXPLAIN " if session.connection().dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    plan = str(session.connection().exec_driver_sql(how + sql, given).all())
    assert plan.count("ix_holder_tasks_subject") == 3, plan


def test_packages_are_revoked_once_and_for_good(session):
    desk = make_desk(session, START)
    case = opened(desk)
    package = StoredPackage(
        PackageId("pkg_1"), case, LineId("l"), BANK, ANNA, "0" * 64, START, START + timedelta(days=30)
    )
    desk.cases.add_package(package)
    assert list(desk.cases.packages(BANK, ANNA)) == [package]
    assert list(desk.cases.packages(OTHER, ANNA)) == []
    desk.cases.revoke_package(package.id, START)
    desk.cases.revoke_package(package.id, START + timedelta(days=1))
    assert desk.cases.package(package.id).revoked_at == START
    assert list(desk.cases.packages(BANK, ANNA)) == []


def test_recipients_and_retentions(session):
    desk = make_desk(session, START)
    case = opened(desk)
    owed = RecipientTask(
        TaskId("task_r"), case, LineId("l"), BANK, ANNA, PartyId("bank"), RecipientOutcome.PENDING, date(2026, 3, 12)
    )
    desk.cases.add_recipient(owed)
    desk.cases.settle_recipient(owed.id, RecipientOutcome.IMPOSSIBLE, "dissolved")
    settled = replace(owed, outcome=RecipientOutcome.IMPOSSIBLE, reason="dissolved")
    assert [desk.cases.recipient(owed.id), *desk.cases.recipients(case)] == [settled, settled]
    kept = StoredRetention("ret_1", case, BANK, ANNA, HOLDERS[0], IDENTITY, AML, "CMF L.561-12", date(2031, 3, 1))
    desk.cases.add_retention(kept)
    assert list(desk.cases.retentions(case)) == [kept]
    assert list(desk.cases.due_retentions(date(2031, 2, 28), limit=9)) == []
    assert list(desk.cases.due_retentions(date(2031, 3, 1), limit=9)) == [kept]
    later = [replace(kept, id=f"ret_{number}", until=date(2031, 3, day)) for number, day in ((3, 1), (2, 2), (0, 3))]
    for one in later:
        desk.cases.add_retention(one)
    on = date(2031, 3, 31)
    assert list(desk.cases.due_retentions(on, limit=2)) == [kept, later[0]]
    assert list(desk.cases.due_retentions(on, limit=9, after=kept)) == later
    assert list(desk.cases.due_retentions(on, limit=9, after=later[1])) == later[2:]
    desk.cases.end_retention(kept.id, START)
    assert list(desk.cases.due_retentions(on, limit=9)) == later


def test_a_note_is_stored_sealed(session):
    desk = make_desk(session, START)
    case = opened(desk)
    note = desk.notes.keep(BANK, ANNA, case, "Anna Martin, 12 rue des Lilas")
    assert desk.notes.read(note) == "Anna Martin, 12 rue des Lilas"
    stored = session.execute(text("SELECT sealed FROM case_notes WHERE id = :id"), {"id": note}).scalar()
    assert b"Martin" not in bytes(stored)


@pytest.mark.parametrize(
    "look",
    [
        lambda cases: cases.get(CaseId("case_no")),
        lambda cases: cases.history(CaseId("case_no")),
        lambda cases: cases.summary(CaseId("case_no")),
        lambda cases: cases.queue([ControllerId("x")], limit=1, after=CaseId("case_no")),
        lambda cases: cases.case_of_message(MessageId("msg_no")),
        lambda cases: cases.task(TaskId("task_no")),
        lambda cases: cases.package(PackageId("pkg_no")),
        lambda cases: cases.revoke_package(PackageId("pkg_no"), START),
        lambda cases: cases.recipient(TaskId("task_no")),
        lambda cases: cases.end_retention("ret_no", START),
    ],
)
def test_the_unknown_is_said_to_be_unknown(session, look):
    with pytest.raises(CaseUnknown):
        look(make_desk(session, START).cases)
