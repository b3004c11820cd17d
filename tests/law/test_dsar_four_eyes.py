"""Who may approve a case: a human, and where the law asks two people not the one who decided (dsar rules 57, 59)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from consent.vocabulary import Locale
from dsar import errors, usecases
from dsar.case import State
from dsar.package import CategoryResult, Filled, HolderAnswer, Manifest, PackageFile, Section
from dsar.ports import Desk
from dsar.usecases import Decision, Intake
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    Channel,
    Ground,
    HolderStatus,
    LineId,
    Outcome,
    Right,
    TaskKind,
)
from tests.law.dsar_desk import AGENT, ANNA, BALANCES, BANK, DPO, HOLDERS, make_desk, paris, passkey

START = paris(2026, 3, 5)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = open_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
    RecordsBase.metadata.create_all(engine)
    with Session(engine) as session:
        yield make_desk(session, START)
    engine.dispose()


def reviewed(desk: Desk) -> tuple[CaseId, LineId]:
    """A copy asked for, found and sealed: one line to decide."""
    opened = usecases.open_case(
        desk,
        Intake(
            controller=BANK,
            subject=ANNA,
            rights=(Right.ACCESS,),
            channel=Channel.SPACE,
            received_at=START,
            locale=Locale.FR,
            by=Actor(ANNA, human=True),
            proofs=(passkey(START),),
        ),
    )
    assert opened.case is not None
    line = opened.lines[Right.ACCESS]
    for task in usecases.start_search(desk, opened.case, HOLDERS):
        held = CategoryResult(BALANCES, HolderStatus.FOUND, 7)
        answer = HolderAnswer(desk.cases.task(task).holder, HolderStatus.FOUND, desk.clock.now(), (held,))
        usecases.record_answer(desk, task, answer)
    answers = tuple(task.answer for task in desk.cases.tasks(opened.case, TaskKind.SEARCH) if task.answer)
    data = PackageFile("data.json", "application/json", 2, hashlib.sha256(b"{}").hexdigest())
    told = {section: Filled(("x",)) for section in Section}
    usecases.seal_package(desk, opened.case, Manifest(opened.case, line, desk.clock.now(), answers, told, (data,)))
    return opened.case, line


def refusal(by: Actor, second: Actor) -> Decision:
    grounds = (Ground.UNFOUNDED_OR_EXCESSIVE,)
    return Decision(Outcome.REFUSED, by, grounds, approved_by=second, evidence="three requests in three days")


def test_whoever_refused_may_not_approve_the_refusal(desk: Desk) -> None:
    """Dsar rules 57, 59: refused, nothing changed; a second person may."""
    case, line = reviewed(desk)
    usecases.decide_line(desk, case, line, refusal(DPO, AGENT))
    usecases.submit(desk, case)
    before = desk.cases.get(case)
    with pytest.raises(errors.SecondPersonNeeded):
        usecases.approve(desk, case, DPO)
    assert desk.cases.get(case) == before
    usecases.approve(desk, case, Actor("staff_other_dpo", human=True, dpo=True))
    assert desk.cases.get(case).state is State.DISPATCHING


def test_the_last_decision_counts(desk: Desk) -> None:
    """Sent back and decided anew by a colleague: the first decider is free to approve, the new one is not."""
    case, line = reviewed(desk)
    usecases.decide_line(desk, case, line, refusal(DPO, AGENT))
    usecases.submit(desk, case)
    usecases.send_back(desk, case, DPO)
    usecases.decide_line(desk, case, line, refusal(AGENT, DPO))
    usecases.submit(desk, case)
    with pytest.raises(errors.SecondPersonNeeded):
        usecases.approve(desk, case, AGENT)
    usecases.approve(desk, case, DPO)


def test_who_granted_by_hand_may_approve(desk: Desk) -> None:
    """The law asks two people for refusals, not for giving a person what is theirs."""
    case, line = reviewed(desk)
    usecases.decide_line(desk, case, line, Decision(Outcome.GRANTED, DPO))
    usecases.submit(desk, case)
    usecases.approve(desk, case, DPO)
    assert desk.cases.get(case).state is State.DISPATCHING


def test_a_machine_approves_nothing(desk: Desk) -> None:
    case, line = reviewed(desk)
    usecases.decide_line(desk, case, line, Decision(Outcome.GRANTED, SYSTEM))
    usecases.submit(desk, case)
    with pytest.raises(errors.HumanNeeded):
        usecases.approve(desk, case, SYSTEM)


def test_what_is_not_up_for_approval_cannot_be_approved(desk: Desk) -> None:
    case, _ = reviewed(desk)
    with pytest.raises(errors.MoveRefused):
        usecases.approve(desk, case, DPO)


def test_the_queue_shows_open_or_ended_cases(desk: Desk) -> None:
    """Dsar rule 21."""
    case, _ = reviewed(desk)
    assert [row.case for row in usecases.queue(desk, [BANK])] == [case]
    assert list(usecases.queue(desk, [BANK], ended=True)) == []
