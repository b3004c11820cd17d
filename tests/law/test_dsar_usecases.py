"""What can be done with a case, on a real store (SQLite): the rules of intake, clock, identity, decision and ending."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from sqlalchemy.orm import Session

from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from consent.policy import RightRule
from consent.vocabulary import Locale, PartyId
from dsar import errors, usecases
from dsar import events as e
from dsar.case import State
from dsar.clock import ExtensionReason
from dsar.identity import Enough, Lacking
from dsar.package import CategoryResult, Filled, HolderAnswer, Manifest, PackageFile, Section
from dsar.retention import Holding, matrix
from dsar.usecases import Decision, Intake
from dsar.usecases.writing import prepare
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseKind,
    Channel,
    DoubtCode,
    FateKind,
    Ground,
    HolderStatus,
    MessageKind,
    Method,
    Outcome,
    RecipientOutcome,
    Right,
    TaskKind,
)
from tests.law.dsar_desk import (
    ADVICE,
    AGENT,
    AML,
    ANNA,
    BALANCES,
    BANK,
    DPO,
    HOLDERS,
    IDENTITY,
    OTHER,
    TEXT,
    at,
    email,
    ends,
    make_desk,
    paris,
    passkey,
)

START = paris(2026, 3, 5)
ME = Actor("sub_anna", human=True)
G = Decision(Outcome.GRANTED, SYSTEM)


@pytest.fixture
def desk(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
    RecordsBase.metadata.create_all(engine)
    with Session(engine) as session:
        yield make_desk(session, START)
    engine.dispose()


def intake(*rights, **changes):
    facts = {
        "controller": BANK,
        "subject": ANNA,
        "rights": rights or (Right.ACCESS,),
        "channel": Channel.SPACE,
        "received_at": START,
        "locale": Locale.FR,
        "by": ME,
        "proofs": (passkey(START),),
    }
    return Intake(**{**facts, **changes})


def opened(desk, *rights, **changes):
    found = usecases.open_case(desk, intake(*rights, **changes))
    return found.case, found.lines


def answers(desk, task, status, *categories, reason=None):
    holder = desk.cases.task(task).holder
    usecases.record_answer(desk, task, HolderAnswer(holder, status, desk.clock.now(), categories, reason))


def searched(desk, case, *, found=True):
    first, second = usecases.start_search(desk, case, HOLDERS)
    held = CategoryResult(BALANCES, HolderStatus.FOUND, 7)
    answers(desk, first, HolderStatus.FOUND if found else HolderStatus.NONE, *((held,) if found else ()))
    answers(desk, second, HolderStatus.NONE)


def manifest_of(desk, case, line):
    held = tuple(task.answer for task in desk.cases.tasks(case, TaskKind.SEARCH))
    data = PackageFile("data.json", "application/json", 2, hashlib.sha256(b"{}").hexdigest())
    return Manifest(case, line, desk.clock.now(), held, {section: Filled(("x",)) for section in Section}, (data,))


def sent(desk, message, moment=None):
    usecases.dispatch_message(desk, message, channel="space", proof="posting_1", at=moment)


def state(desk, case):
    return desk.cases.get(case).state


# --- intake


def test_a_request_recorded_late_is_due_as_early(desk):
    """Dsar rule 1: `received_at` counts, not when somebody noted it."""
    at(desk, START + timedelta(days=6))
    late = usecases.open_case(desk, intake(channel=Channel.LETTER, by=AGENT))
    assert late.due_strict == date(2026, 4, 7)
    assert desk.cases.get(late.case).recorded_at == START + timedelta(days=6)


def test_a_forwarded_request_keeps_its_first_date(desk):
    """Dsar rule 10."""
    at(desk, START + timedelta(days=9))
    forwarded = intake(channel=Channel.FORWARDED, forwarded_by=PartyId("processor"))
    assert usecases.open_case(desk, forwarded).due_strict == date(2026, 4, 7)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"received_at": START + timedelta(seconds=1)}, errors.ReceivedInFuture),
        ({"received_at": START.replace(tzinfo=None)}, errors.MalformedIntake),
        ({"rights": ()}, errors.MalformedIntake),
        ({"rights": (Right.ACCESS, Right.ACCESS)}, errors.MalformedIntake),
        ({"controller": "ctl_nobody"}, errors.MalformedIntake),
        ({"channel": Channel.FORWARDED}, errors.MalformedIntake),
        ({"kind": CaseKind.POST_MORTEM}, errors.KindNotServed),
        ({"kind": CaseKind.PARENTAL}, errors.KindNotServed),
    ],
)
def test_a_malformed_intake_changes_nothing(desk, changes, fault):
    """Dsar rules 1, 3, 34, 35."""
    with pytest.raises(fault):
        usecases.open_case(desk, replace(intake(), **changes))
    assert (desk.journal.entries, desk.work.asked) == ([], [])


def test_free_text_and_one_contact_are_enough_and_the_text_is_sealed(desk):
    """Dsar rules 2, 59: no motive asked; what was written is in no event and no ledger entry."""
    case, _ = opened(desk, text="Bonjour, je suis Anna Martin", proofs=(), subject=None, channel=Channel.FORM)
    (first, *_) = desk.cases.history(case)
    assert desk.notes.read(first.event.note) == "Bonjour, je suis Anna Martin"
    assert "Martin" not in str(desk.journal.entries) + str(first)


def test_asking_twice_links_and_keeps_the_first_clock(desk):
    """Dsar rule 9."""
    case, _ = opened(desk)
    at(desk, START + timedelta(days=10))
    again = usecases.open_case(desk, intake(Right.ACCESS, Right.ERASURE, received_at=START + timedelta(days=10)))
    assert [(one.case, one.right, one.due_strict) for one in again.already] == [(case, Right.ACCESS, date(2026, 4, 7))]
    assert set(again.lines) == {Right.ERASURE}
    assert again.case != case
    assert usecases.open_case(desk, intake()).case is None
    assert [one.event.right for one in desk.cases.history(case) if isinstance(one.event, e.ReminderLinked)] == [
        Right.ACCESS,
        Right.ACCESS,
    ]


def test_a_person_known_to_two_controllers_has_two_clocks(desk):
    case, _ = opened(desk)
    other, _ = opened(desk, controller=OTHER)
    assert other != case
    assert [row.case for row in usecases.queue(desk, [OTHER])] == [other]


def test_the_acknowledgement_counts_once_it_has_left(desk):
    """Dsar rule 4."""
    case, _ = opened(desk)
    message = usecases.acknowledge(desk, case)
    assert ("case.send_message", message, None) in desk.work.asked
    assert desk.cases.get(case).acknowledged_at is None
    sent(desk, message)
    sent(desk, message)
    assert desk.cases.get(case).acknowledged_at == START
    assert [kind for kind, *_ in desk.journal.entries].count("case.message_dispatched") == 1


# --- identity


def test_nothing_is_searched_for_somebody_behind_a_mailbox(desk):
    """Dsar rule 26: an e-mail link is L1, a copy of balances needs L3."""
    case, _ = opened(desk, proofs=(email(START),))
    assert state(desk, case) is State.RECEIVED
    with pytest.raises(errors.NotIdentified) as caught:
        usecases.start_search(desk, case, HOLDERS)
    assert (caught.value.needed, caught.value.has) == (3, 1)
    assert [one for one in desk.work.asked if one[0] != usecases.PROCEED] == []


def test_a_passkey_enrolled_after_the_request_opens_nothing(desk):
    """Dsar rule 27."""
    case, lines = opened(desk, proofs=())
    at(desk, START + timedelta(hours=2))
    new = passkey(START + timedelta(hours=2), START + timedelta(hours=1))
    assert isinstance(usecases.prove_identity(desk, case, new, ME)[lines[Right.ACCESS]], Lacking)
    with pytest.raises(errors.NotIdentified):
        usecases.start_search(desk, case, HOLDERS)
    old = passkey(START + timedelta(hours=2))
    assert isinstance(usecases.prove_identity(desk, case, old, ME)[lines[Right.ACCESS]], Enough)
    assert state(desk, case) is State.VERIFIED


def question(desk, case, **changes):
    facts = {
        "doubt": DoubtCode.UNKNOWN_CONTACT,
        "text": "two files match",
        "method": Method.SMS_CODE,
        "by": AGENT,
        "pausing": True,
    }
    return usecases.ask_identity(desk, case, **{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"doubt": None}, errors.NoDoubt),
        ({"text": " "}, errors.NoDoubt),
        ({"method": Method.REGISTERED_LETTER}, errors.AboveNeed),
        ({"method": Method.ID_DOCUMENT, "approved_by": DPO}, errors.DocumentNotAllowed),
    ],
)
def test_no_doubt_no_question(desk, changes, fault):
    """Dsar rules 24-28."""
    case, _ = opened(desk, proofs=())
    with pytest.raises(fault):
        question(desk, case, **changes)
    assert [one for one in desk.work.asked if one[0] != usecases.PROCEED] == []


def test_a_question_pauses_from_dispatch_to_answer(desk):
    """Dsar rule 19: the vector 5 March, 9, 16: 13 April."""
    case, _ = opened(desk, proofs=())
    at(desk, paris(2026, 3, 9))
    message = question(desk, case)
    assert state(desk, case) is State.IDENTITY_PENDING
    assert desk.cases.get(case).pauses == ()
    sent(desk, message)
    assert state(desk, case) is State.PAUSED
    at(desk, paris(2026, 3, 16))
    usecases.prove_identity(desk, case, passkey(paris(2026, 3, 16)), ME)
    assert state(desk, case) is State.VERIFIED
    row = desk.cases.summary(case)
    assert (row.due_strict, row.due_effective) == (date(2026, 4, 7), date(2026, 4, 13))


def test_a_late_question_does_not_stop_the_clock(desk):
    """Dsar rule 19: on day 20 the pause is refused; the question may be asked without."""
    case, _ = opened(desk, proofs=())
    at(desk, START + timedelta(days=20))
    with pytest.raises(errors.PauseTooLate):
        question(desk, case)
    sent(desk, question(desk, case, pausing=False))
    assert desk.cases.get(case).pauses == ()


def test_a_question_that_leaves_late_does_not_stop_the_clock(desk):
    """Dsar rule 19: dispatch counts, not intention."""
    case, _ = opened(desk, proofs=())
    at(desk, paris(2026, 3, 9))
    message = question(desk, case)
    at(desk, paris(2026, 3, 20))
    sent(desk, message)
    assert desk.cases.get(case).pauses == ()
    assert desk.cases.summary(case).due_effective == date(2026, 4, 7)


def test_no_eternal_pause(desk):
    """Dsar rule 20: after thirty days a letter, never silence; and the case can be taken up again."""
    case, _ = opened(desk, proofs=())
    sent(desk, question(desk, case))
    at(desk, paris(2026, 4, 4))
    with pytest.raises(errors.TooEarly):
        usecases.close_unanswered(desk, case)
    at(desk, paris(2026, 4, 5))
    message = usecases.close_unanswered(desk, case)
    with pytest.raises(errors.NotAnswered):
        usecases.close(desk, case)
    sent(desk, message)
    assert usecases.close(desk, case) is e.Ending.CANNOT_IDENTIFY
    usecases.reopen(desk, case, ME)
    usecases.prove_identity(desk, case, passkey(paris(2026, 4, 5)), ME)
    assert state(desk, case) is State.VERIFIED
    assert desk.cases.summary(case).due_strict == date(2026, 4, 7)


def test_what_cannot_be_refused_is_not_dragged_along_by_silence(desk):
    """Dsar rules 8, 20: the marketing stop of an unanswered case is granted, and still has to be done."""
    case, lines = opened(desk, Right.ACCESS, Right.MARKETING_OBJECTION, proofs=())
    sent(desk, question(desk, case))
    at(desk, paris(2026, 4, 6))
    sent(desk, usecases.close_unanswered(desk, case))
    stop = lines[Right.MARKETING_OBJECTION]
    assert desk.cases.get(case).lines[stop].outcome is Outcome.GRANTED
    with pytest.raises(errors.ErasurePartial):
        usecases.prepare_reply(desk, case, [stop])
    usecases.carry_out(desk, case, stop, "suppression_1")
    sent(desk, usecases.prepare_reply(desk, case, [stop]))
    assert usecases.close(desk, case) is e.Ending.CLOSED


def test_a_clarification_pauses_a_verified_case(desk):
    """Dsar rule 19(b), recital 63."""
    case, _ = opened(desk)
    sent(desk, usecases.ask_clarification(desk, case, text="which years?", by=AGENT))
    assert state(desk, case) is State.CLARIFYING
    at(desk, START + timedelta(days=4))
    with pytest.raises(errors.MalformedIntake):
        usecases.resume(desk, case, answered_at=START - timedelta(days=1), by=AGENT)
    usecases.resume(desk, case, answered_at=START + timedelta(days=4), by=AGENT)
    assert state(desk, case) is State.VERIFIED


# --- extension


def test_an_extension_works_only_once_its_notice_has_left(desk):
    """Dsar rules 15, 16."""
    case, _ = opened(desk)
    message = usecases.extend(desk, case, ExtensionReason.VOLUME, 2, AGENT)
    assert desk.cases.summary(case).due_strict == date(2026, 4, 7)
    sent(desk, message)
    row = desk.cases.summary(case)
    assert (row.due_strict, row.month_one) == (date(2026, 6, 5), date(2026, 4, 7))
    with pytest.raises(errors.ExtensionUsed):
        usecases.extend(desk, case, ExtensionReason.VOLUME, 1, AGENT)


def test_a_notice_that_leaves_after_month_one_extends_nothing(desk):
    """Dsar rule 16."""
    case, _ = opened(desk)
    message = usecases.extend(desk, case, ExtensionReason.VOLUME, 2, AGENT)
    at(desk, paris(2026, 4, 8))
    sent(desk, message)
    assert desk.cases.summary(case).due_strict == date(2026, 4, 7)


@pytest.mark.parametrize(("day", "hour", "late"), [(7, 23, False), (8, 0, True)])
def test_month_one_ends_at_midnight_in_paris(desk, day, hour, late):
    """Dsar rules 14, 16."""
    case, _ = opened(desk)
    at(desk, paris(2026, 4, day, hour))
    if late:
        with pytest.raises(errors.ExtensionTooLate):
            usecases.extend(desk, case, ExtensionReason.VOLUME, 2, AGENT)
    else:
        usecases.extend(desk, case, ExtensionReason.VOLUME, 2, AGENT)


@pytest.mark.parametrize("months", [0, 3, -1])
def test_an_extension_has_one_or_two_months(desk, months):
    """Dsar rule 15."""
    case, _ = opened(desk)
    with pytest.raises(errors.MalformedIntake):
        usecases.extend(desk, case, ExtensionReason.VOLUME, months, AGENT)


# --- search and package


def test_a_failed_holder_keeps_the_case_searching(desk):
    """Dsar rule 40: kill one holder, nothing is sealed and nothing closes; it may answer again."""
    case, lines = opened(desk)
    first, second = usecases.start_search(desk, case, HOLDERS)
    asked = [one[:2] for one in desk.work.asked if one[0] != usecases.PROCEED]
    assert asked == [("case.ask_holder", first), ("case.ask_holder", second)]
    answers(desk, first, HolderStatus.NONE)
    answers(desk, second, HolderStatus.ERROR, reason="timeout")
    assert state(desk, case) is State.SEARCHING
    with pytest.raises(errors.MoveRefused):
        usecases.seal_package(desk, case, manifest_of(desk, case, lines[Right.ACCESS]))
    answers(desk, second, HolderStatus.NONE)
    assert state(desk, case) is State.REVIEW


def test_an_answer_is_taken_once_and_from_its_holder_only(desk):
    case, _ = opened(desk)
    first, _ = usecases.start_search(desk, case, HOLDERS)
    answers(desk, first, HolderStatus.NONE)
    before = len(desk.journal.entries)
    answers(desk, first, HolderStatus.NONE)
    assert len(desk.journal.entries) == before
    with pytest.raises(errors.MoveRefused):
        answers(desk, first, HolderStatus.FOUND)
    with pytest.raises(errors.MalformedIntake):
        usecases.record_answer(desk, first, HolderAnswer(HOLDERS[1], HolderStatus.NONE, START))


def test_a_manifest_that_misquotes_a_holder_is_not_sealed(desk):
    """Dsar rule 40."""
    case, lines = opened(desk)
    searched(desk, case)
    told = manifest_of(desk, case, lines[Right.ACCESS])
    false = replace(told, holders=(replace(told.holders[0], status=HolderStatus.NONE, categories=()), told.holders[1]))
    with pytest.raises(errors.PackageIncomplete):
        usecases.seal_package(desk, case, false)
    package = usecases.seal_package(desk, case, told)
    assert desk.cases.package(package).expires_at == START + timedelta(days=30)


# --- decisions


def reviewed(desk, right):
    case, lines = opened(desk, right)
    if right in (Right.ACCESS, Right.ERASURE, Right.PORTABILITY):
        searched(desk, case)
    else:
        usecases.start_review(desk, case)
    return case, lines[right]


@pytest.mark.parametrize("right", [Right.MARKETING_OBJECTION, Right.WITHDRAWAL])
def test_some_rights_cannot_be_refused(desk, right):
    """Dsar rule 8."""
    case, line = reviewed(desk, right)
    with pytest.raises(errors.OutcomeNotAllowed):
        usecases.refuse(desk, case, line, (Ground.ARTICLE_11,), by=DPO, approved_by=AGENT, evidence="x")


def refusing(*grounds, **changes):
    facts = {"outcome": Outcome.REFUSED, "by": AGENT, "grounds": grounds, "approved_by": DPO, "evidence": "proof"}
    return Decision(**{**facts, **changes})


@pytest.mark.parametrize(
    ("right", "decision", "fault"),
    [
        (Right.ACCESS, refusing(), errors.GroundNotAllowed),
        (Right.ACCESS, refusing(Ground.LEGAL_OBLIGATION), errors.GroundNotAllowed),
        (Right.ACCESS, refusing(Ground.THIRD_PARTY_RIGHTS), errors.GroundNotAllowed),  # rule 41
        (Right.ACCESS, refusing(Ground.UNFOUNDED_OR_EXCESSIVE, evidence=None), errors.GroundNotAllowed),
        (Right.ACCESS, refusing(Ground.UNFOUNDED_OR_EXCESSIVE, approved_by=AGENT), errors.SecondPersonNeeded),
        (Right.ACCESS, refusing(Ground.UNFOUNDED_OR_EXCESSIVE, approved_by=None), errors.SecondPersonNeeded),
        (Right.ACCESS, refusing(Ground.NOT_IDENTIFIED, by=SYSTEM), errors.SecondPersonNeeded),
        (Right.ACCESS, Decision(Outcome.GRANTED, AGENT), errors.PackageIncomplete),
        (Right.ACCESS, Decision(Outcome.NO_DATA, AGENT), errors.OutcomeNotAllowed),
        (Right.ACCESS, Decision(Outcome.CORRECTED, AGENT), errors.OutcomeNotAllowed),
        (Right.ERASURE, refusing(Ground.LEGAL_OBLIGATION), errors.GroundNotAllowed),  # rule 48: no categories
        (Right.ERASURE, Decision(Outcome.GRANTED, AGENT, (Ground.LEGAL_CLAIMS,)), errors.GroundNotAllowed),
        (Right.OBJECTION, refusing(Ground.COMPELLING_GROUNDS, evidence=None), errors.GroundNotAllowed),  # rule 52
        (Right.AUTOMATED_DECISION, Decision(Outcome.GRANTED, SYSTEM), errors.HumanNeeded),  # rule 46
    ],
)
def test_a_decision_outside_the_law_is_refused_and_changes_nothing(desk, right, decision, fault):
    """Dsar rules 41, 46, 48, 52, 57, 59."""
    case, line = reviewed(desk, right)
    before = desk.cases.get(case)
    with pytest.raises(fault):
        usecases.decide_line(desk, case, line, decision)
    assert desk.cases.get(case) == before


def test_a_refusal_with_its_ground_evidence_and_two_people_stands(desk):
    case, line = reviewed(desk, Right.ACCESS)
    usecases.decide_line(desk, case, line, refusing(Ground.UNFOUNDED_OR_EXCESSIVE))
    usecases.submit(desk, case)
    usecases.approve(desk, case, DPO)
    sent(desk, usecases.prepare_reply(desk, case, [line]))
    assert usecases.close(desk, case) is e.Ending.REFUSED
    kinds = [one.event.kind for one in desk.cases.history(case) if isinstance(one.event, e.MessagePrepared)]
    assert kinds == ["refusal"]


def test_refusing_after_month_one_needs_the_dpo_even_in_an_extended_case(desk):
    """Dsar rule 18: day 40 of an extended case."""
    case, lines = opened(desk)
    sent(desk, usecases.extend(desk, case, ExtensionReason.VOLUME, 2, AGENT))
    searched(desk, case)
    at(desk, START + timedelta(days=40))
    line = lines[Right.ACCESS]
    with pytest.raises(errors.LateRefusal):
        usecases.decide_line(desk, case, line, refusing(Ground.ARTICLE_11, dpo_override=True))
    with pytest.raises(errors.LateRefusal):
        usecases.decide_line(desk, case, line, refusing(Ground.ARTICLE_11, by=DPO, approved_by=AGENT))
    usecases.decide_line(desk, case, line, refusing(Ground.ARTICLE_11, by=DPO, approved_by=AGENT, dpo_override=True))
    assert desk.cases.get(case).lines[line].late_refusal


def test_holding_nothing_is_a_reply_not_a_closure(desk):
    """Dsar rule 5."""
    case, lines = opened(desk)
    searched(desk, case, found=False)
    usecases.decide_line(desk, case, lines[Right.ACCESS], Decision(Outcome.NO_DATA, SYSTEM))
    usecases.submit(desk, case)
    usecases.approve(desk, case, AGENT)
    with pytest.raises(errors.NotAnswered):
        usecases.close(desk, case)
    sent(desk, usecases.prepare_reply(desk, case, list(lines.values())))
    assert usecases.close(desk, case) is e.Ending.NO_DATA


def test_a_request_taken_back_gets_its_notice(desk):
    """Dsar rule 60; and the same may be asked anew afterwards (rule 9)."""
    case, _ = opened(desk)
    message = usecases.withdraw_request(desk, case, ME)
    with pytest.raises(errors.NotAnswered):
        usecases.close(desk, case)
    sent(desk, message)
    assert usecases.close(desk, case) is e.Ending.WITHDRAWN_BY_SUBJECT
    assert opened(desk)[0] != case


def test_a_bounced_reply_opens_the_delivery_again(desk):
    """Design page, section 8: a bounced message re-opens delivery, even of a closed case."""
    case, lines = opened(desk)
    searched(desk, case, found=False)
    usecases.decide_line(desk, case, lines[Right.ACCESS], Decision(Outcome.NO_DATA, SYSTEM))
    usecases.submit(desk, case)
    usecases.approve(desk, case, AGENT)
    message = usecases.prepare_reply(desk, case, list(lines.values()))
    sent(desk, message)
    usecases.close(desk, case)
    usecases.bounce_message(desk, message)
    usecases.bounce_message(desk, message)
    assert state(desk, case) is State.DISPATCHING
    sent(desk, usecases.prepare_reply(desk, case, list(lines.values())))
    assert usecases.close(desk, case) is e.Ending.NO_DATA


# --- access then erasure, whole


def granted(desk):
    """A case with a copy and an erasure, approved."""
    case, lines = opened(desk, Right.ACCESS, Right.ERASURE)
    searched(desk, case)
    copy, gone = lines[Right.ACCESS], lines[Right.ERASURE]
    partly = Decision(Outcome.PARTLY_GRANTED, SYSTEM, (Ground.LEGAL_OBLIGATION,), (IDENTITY,))
    with pytest.raises(errors.AccessFirst):  # dsar rule 3
        usecases.decide_line(desk, case, gone, partly)
    usecases.seal_package(desk, case, manifest_of(desk, case, copy))
    usecases.decide_line(desk, case, copy, G)
    with pytest.raises(errors.NotAnswered):
        usecases.submit(desk, case)
    usecases.decide_line(desk, case, gone, partly)
    usecases.submit(desk, case)
    usecases.approve(desk, case, DPO)
    return case, copy, gone


def cells(desk):
    held = [
        Holding(HOLDERS[0], BALANCES, ADVICE),
        Holding(HOLDERS[1], IDENTITY, ADVICE),
        Holding(HOLDERS[1], IDENTITY, AML),
    ]
    return matrix(held, desk.policy, triggers=ends(date(2026, 3, 1)), cohorts={}, on=date(2026, 3, 5))


def begun(desk, case, gone):
    return usecases.begin_erasure(desk, case, gone, cells=cells(desk), recipients=[PartyId("bank")])


def ended(desk, day):
    """What is ended on a day, by the clock of whoever asks."""
    before = desk.clock.moment
    at(desk, datetime.combine(day, time(12), UTC))
    usecases.end_retentions(desk, limit=9)
    at(desk, before)
    return [ref for kind, ref, *_ in desk.work.asked if kind == usecases.END_RETENTION]


def test_access_then_erasure_from_the_first_message_to_the_end(desk):
    """Dsar rules 3, 40, 48, 49, 53, 56, 60."""
    case, copy, gone = granted(desk)
    (package,) = desk.cases.packages(BANK, ANNA)
    with pytest.raises(errors.AccessFirst):  # the copy has to reach the person first
        begun(desk, case, gone)
    sent(desk, usecases.prepare_reply(desk, case, [copy]))
    first, second = begun(desk, case, gone)
    assert desk.cases.package(package.id).revoked_at == START  # rule 53: the old link is dead
    assert begun(desk, case, gone) == (first, second)
    (kept,) = desk.cases.retentions(case)
    assert (kept.category, kept.until) == (IDENTITY, date(2026, 3, 1) + timedelta(days=1826))
    assert ended(desk, kept.until - timedelta(days=1)) == []
    assert ended(desk, kept.until) == [kept.id]
    told = desk.cases.task(second).instructions
    assert {(one.purpose, one.fate) for one in told} == {(ADVICE, FateKind.ERASE), (AML, FateKind.RETAIN)}

    with pytest.raises(errors.ErasurePartial):
        usecases.verify_erasure(desk, case, gone)
    answers(desk, first, HolderStatus.ERASED, CategoryResult(BALANCES, HolderStatus.ERASED, 7))
    answers(desk, second, HolderStatus.ERROR, reason="down")
    with pytest.raises(errors.ErasurePartial) as caught:
        usecases.verify_erasure(desk, case, gone)
    assert caught.value.waiting == (HOLDERS[1],)
    answers(desk, second, HolderStatus.RETAINED, CategoryResult(IDENTITY, HolderStatus.RETAINED, 2, "aml"))
    again = usecases.verify_erasure(desk, case, gone)
    assert usecases.verify_erasure(desk, case, gone) == again
    with pytest.raises(errors.ErasurePartial):
        usecases.carry_out(desk, case, gone, "certificate_1")
    answers(desk, again[0], HolderStatus.NONE)
    answers(desk, again[1], HolderStatus.RETAINED, CategoryResult(IDENTITY, HolderStatus.RETAINED, 2, "aml"))
    with pytest.raises(errors.ErasurePartial):  # rule 53: not reported before it is done
        usecases.prepare_reply(desk, case, [gone])
    usecases.carry_out(desk, case, gone, "certificate_1")
    sent(desk, usecases.prepare_reply(desk, case, [gone]))
    assert state(desk, case) is State.DISPATCHED

    with pytest.raises(errors.RecipientsPending):  # rule 56
        usecases.close(desk, case)
    (owed,) = desk.cases.recipients(case)
    usecases.record_recipient(desk, owed.id, RecipientOutcome.SENT, by=SYSTEM)
    with pytest.raises(errors.RecipientsPending):
        usecases.close(desk, case)
    usecases.record_recipient(desk, owed.id, RecipientOutcome.ACKED, by=SYSTEM)
    assert usecases.close(desk, case) is e.Ending.CLOSED
    assert usecases.close(desk, case) is e.Ending.CLOSED
    assert len(desk.journal.entries) == len(usecases.timeline(desk, case))


def ran_out(desk, package):
    at(desk, desk.cases.package(package).expires_at)
    usecases.expire_copy(desk, package)


def with_both(desk):
    """A copy and an erasure, both granted, handed to approval."""
    case, lines = opened(desk, Right.ACCESS, Right.ERASURE)
    searched(desk, case)
    package = usecases.seal_package(desk, case, manifest_of(desk, case, lines[Right.ACCESS]))
    usecases.decide_line(desk, case, lines[Right.ACCESS], G)
    usecases.decide_line(desk, case, lines[Right.ERASURE], G)
    usecases.submit(desk, case)
    return case, lines[Right.ACCESS], lines[Right.ERASURE], package


@pytest.mark.parametrize("swept", [True, False])
def test_nothing_is_approved_whose_copy_is_gone(desk, swept):
    """Dsar rules 3, 53: told "granted" with nothing to download, the person would be erased all the same."""
    case, _, _, package = with_both(desk)
    at(desk, desk.cases.package(package).expires_at)
    if swept:
        usecases.expire_copy(desk, package)
    before = desk.cases.get(case)
    with pytest.raises(errors.PackageIncomplete):
        usecases.approve(desk, case, DPO)
    assert desk.cases.get(case) == before
    assert before.left == ("copy_expired" if swept else None)
    usecases.send_back(desk, case, DPO)
    assert state(desk, case) is State.REVIEW


def test_no_reply_brings_a_copy_that_is_gone(desk):
    """Dsar rule 3."""
    case, copy, _, package = with_both(desk)
    usecases.approve(desk, case, DPO)
    ran_out(desk, package)
    with pytest.raises(errors.PackageIncomplete):
        usecases.prepare_reply(desk, case, [copy])


def test_nobody_is_erased_whose_copy_was_gone_when_its_reply_left(desk):
    """Dsar rules 3, 53; what was alive then, and ran out or was destroyed later, holds up nothing."""
    case, copy, gone, package = with_both(desk)
    usecases.approve(desk, case, DPO)
    reply = usecases.prepare_reply(desk, case, [copy])
    ran_out(desk, package)
    sent(desk, reply)
    with pytest.raises(errors.PackageIncomplete):
        begun(desk, case, gone)
    assert desk.cases.tasks(case, TaskKind.ERASE) == []


def test_the_life_of_a_copy_counts_from_its_reply(desk):
    """Dsar rule 58: thirty days from when the person could open it, not from when it was sealed."""
    case, copy, gone, package = with_both(desk)
    usecases.approve(desk, case, DPO)
    reply = usecases.prepare_reply(desk, case, [copy])
    at(desk, START + timedelta(days=29))
    sent(desk, reply)
    assert desk.cases.package(package).expires_at == START + timedelta(days=59)
    at(desk, START + timedelta(days=58))
    assert [one.id for one in usecases.ready_copies(desk, case)] == [package]
    ran_out(desk, package)
    assert desk.cases.get(case).left is None
    assert begun(desk, case, gone), "it was there to be fetched for all of its days"


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (HolderStatus.FOUND, CategoryResult(BALANCES, HolderStatus.FOUND, 1)),
        (HolderStatus.RETAINED, CategoryResult(BALANCES, HolderStatus.RETAINED, 1, "we like it")),
        (HolderStatus.NONE, CategoryResult(BALANCES, HolderStatus.FOUND, 1)),
        (HolderStatus.PARTIAL, CategoryResult(BALANCES, HolderStatus.ERASED, 1)),
    ],
)
def test_a_holder_that_keeps_what_it_was_told_to_erase_has_not_confirmed(desk, status, category):
    """Dsar rule 53."""
    case, copy, gone = granted(desk)
    sent(desk, usecases.prepare_reply(desk, case, [copy]))
    first, second = begun(desk, case, gone)
    answers(desk, second, HolderStatus.ERASED)
    answers(desk, first, status, category, reason="r")
    with pytest.raises(errors.ErasurePartial) as caught:
        usecases.verify_erasure(desk, case, gone)
    assert caught.value.waiting == (HOLDERS[0],)


# --- two cases of one person


def second_copy(desk, *, approved=False):
    """Another open case of the same person, with a sealed copy of its own."""
    case, lines = opened(desk, Right.PORTABILITY)
    line = lines[Right.PORTABILITY]
    searched(desk, case)
    package = usecases.seal_package(desk, case, manifest_of(desk, case, line))
    usecases.decide_line(desk, case, line, G)
    usecases.submit(desk, case)
    if approved:
        usecases.approve(desk, case, DPO)
    return case, line, package


def erasable(desk):
    """An erasure that owes no copy itself, approved."""
    case, lines = opened(desk, Right.ERASURE)
    searched(desk, case)
    usecases.decide_line(desk, case, lines[Right.ERASURE], G)
    usecases.submit(desk, case)
    usecases.approve(desk, case, DPO)
    return case, lines[Right.ERASURE]


def test_an_erasure_waits_for_the_copy_of_another_open_case(desk):
    """Dsar rules 3, 53: it would destroy what the person is about to get."""
    first, gone = erasable(desk)
    assert usecases.erasure_begins(desk, first) is None
    second, line, package = second_copy(desk, approved=True)
    limit = usecases.erasure_begins(desk, first)
    assert limit.date() == date(2026, 4, 6), "not past the day before the clock's end (rule 22)"
    with pytest.raises(errors.AccessFirst):
        begun(desk, first, gone)
    sent(desk, usecases.prepare_reply(desk, second, [line]))
    usecases.close(desk, second)
    assert usecases.erasure_begins(desk, first) == START + timedelta(days=7)
    with pytest.raises(errors.AccessFirst):
        begun(desk, first, gone)
    usecases.record_fetch(desk, second, package, ME)
    assert usecases.erasure_begins(desk, first) is None
    assert begun(desk, first, gone)


def test_a_copy_that_an_erasure_destroys_is_noted_in_its_own_case_and_left_to_staff(desk):
    """Dsar rule 53: the time is over, the erasure goes on; the other case knows, and does not hang in silence."""
    first, gone = erasable(desk)
    second, line, package = second_copy(desk)
    at(desk, usecases.erasure_begins(desk, first))
    assert begun(desk, first, gone)
    other = desk.cases.get(second)
    assert (other.packages, other.left) == ({}, "person_erased")
    assert desk.cases.package(package).revoked_at is not None
    told = [one.event for one in desk.cases.history(second) if isinstance(one.event, e.PackageRevoked)]
    assert [one.package for one in told] == [package]
    with pytest.raises(errors.PackageIncomplete):
        usecases.approve(desk, second, DPO)
    assert line in other.lines


# --- whatever leaves, whenever


def taken_back(desk, case, _lines):
    usecases.withdraw_request(desk, case, ME)


def handed_in(desk, case, lines):
    searched(desk, case, found=False)
    usecases.decide_line(desk, case, lines[Right.ACCESS], Decision(Outcome.NO_DATA, SYSTEM))
    usecases.submit(desk, case)


def approved(desk, case, lines):
    handed_in(desk, case, lines)
    usecases.approve(desk, case, DPO)


def ended_case(desk, case, lines):
    approved(desk, case, lines)
    sent(desk, usecases.prepare_reply(desk, case, list(lines.values())))
    usecases.close(desk, case)


def asked(desk, case, _lines):
    sent(desk, question(desk, case))


def clarified(desk, case, _lines):
    sent(desk, usecases.ask_clarification(desk, case, text="which years?", by=AGENT))


WAYS = {
    State.RECEIVED: (lambda *_: None, False),
    State.IDENTITY_PENDING: (lambda desk, case, _: question(desk, case), False),
    State.PAUSED: (asked, False),
    State.VERIFIED: (lambda *_: None, True),
    State.CLARIFYING: (clarified, True),
    State.SEARCHING: (lambda desk, case, _: usecases.start_search(desk, case, HOLDERS), True),
    State.REVIEW: (lambda desk, case, _: searched(desk, case, found=False), True),
    State.APPROVAL: (handed_in, True),
    State.DISPATCHING: (approved, True),
    State.CLOSED: (ended_case, True),
}


@pytest.mark.parametrize("kind", list(MessageKind))
def test_whatever_leaves_late_is_noted(desk, kind):
    """Dsar rules 4, 60: a message that leaves when the case has moved on is on record; nothing fails for ever."""
    for number, (wanted, (way, known)) in enumerate(WAYS.items()):
        case, lines = opened(desk, subject=f"sub_{number}", proofs=(passkey(START),) if known else ())
        message = prepare(desk, desk.cases.get(case), kind, tuple(lines.values()), SYSTEM)
        way(desk, case, lines)
        ending = State.NO_DATA if wanted is State.CLOSED else wanted
        assert state(desk, case) is ending
        sent(desk, message)
        after = desk.cases.get(case)
        assert after.messages[message].dispatched_at == START, wanted
        if kind is MessageKind.ACKNOWLEDGEMENT:
            counted = wanted not in (State.DISPATCHING, State.CLOSED)
            assert (after.acknowledged_at is not None) is counted, wanted
            assert after.state is (State.ACKNOWLEDGED if wanted is State.RECEIVED else ending)


def test_an_acknowledgement_overtaken_by_taking_back_is_none(desk):
    """Dsar rule 4: the notice of the end tells the person; the queued acknowledgement does not fail for ever."""
    case, lines = opened(desk)
    message = usecases.acknowledge(desk, case)
    assert not usecases.overtaken(desk.cases.get(case), message)
    taken_back(desk, case, lines)
    assert usecases.overtaken(desk.cases.get(case), message)
    sent(desk, message)
    assert desk.cases.get(case).acknowledged_at is None
    assert state(desk, case) is State.DISPATCHING


def test_an_excused_notice_needs_its_reason_and_the_dpo(desk):
    """Dsar rule 56."""
    case, copy, gone = granted(desk)
    sent(desk, usecases.prepare_reply(desk, case, [copy]))
    begun(desk, case, gone)
    (owed,) = desk.cases.recipients(case)
    assert owed.due == date(2026, 3, 12)
    with pytest.raises(errors.MalformedIntake):
        usecases.record_recipient(desk, owed.id, RecipientOutcome.IMPOSSIBLE, by=AGENT)
    with pytest.raises(errors.MalformedIntake):
        usecases.record_recipient(desk, owed.id, RecipientOutcome.PENDING, by=SYSTEM)
    usecases.record_recipient(desk, owed.id, RecipientOutcome.PENDING, by=SYSTEM, reason="letter_refused")
    told = desk.cases.recipient(owed.id)
    assert (told.outcome, told.reason) == (RecipientOutcome.PENDING, "letter_refused"), "a try that failed is on record"
    with pytest.raises(errors.SecondPersonNeeded):
        usecases.record_recipient(desk, owed.id, RecipientOutcome.DISPROPORTIONATE, by=AGENT, reason="r")
    usecases.record_recipient(desk, owed.id, RecipientOutcome.DISPROPORTIONATE, by=DPO, reason="r")
    assert desk.cases.recipient(owed.id).outcome is RecipientOutcome.DISPROPORTIONATE


def test_an_erasure_cannot_skip_its_search(desk):
    """Dsar rule 40."""
    case, _ = opened(desk, Right.ERASURE)
    with pytest.raises(errors.MoveRefused):
        usecases.start_review(desk, case)


def test_the_queue_is_sorted_by_strict_due_date(desk):
    """Dsar rule 21."""
    late, _ = opened(desk, Right.RESTRICTION)
    early, _ = opened(desk, Right.ACCESS, received_at=START - timedelta(days=9))
    rows = usecases.queue(desk, [BANK])
    assert [row.case for row in rows] == [early, late]
    assert [row.case for row in usecases.queue(desk, [BANK], limit=1, after=early)] == [late]


def test_the_pack_may_give_up_grounds_of_the_law(desk):
    """Dsar rule 57: the closed matrix is the most that can be refused, not the least."""
    kept = RightRule("access", "", 1, 2, TEXT, refusals=(Ground.ARTICLE_11.value,))
    narrow = replace(desk, policy=replace(desk.policy, rights={"access": kept}))
    case, line = reviewed(narrow, Right.ACCESS)
    with pytest.raises(errors.GroundNotAllowed):
        usecases.decide_line(narrow, case, line, refusing(Ground.UNFOUNDED_OR_EXCESSIVE))
    usecases.decide_line(narrow, case, line, refusing(Ground.ARTICLE_11))
