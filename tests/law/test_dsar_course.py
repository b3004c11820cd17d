"""What a case does next by itself, what copies may be fetched, and what an erasure keeps (dsar rules 3-5, 37-60)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import policyfiles
from consent.vocabulary import CategoryId, ComponentId, ControllerId, PartyId, PurposeId
from dsar import course, errors, usecases
from dsar import events as e
from dsar.case import FINAL, Case, Line, Message, State
from dsar.course import Facts, Progress, Turn
from dsar.errors import RetentionUnfounded
from dsar.holdings import drawn, holdings, house_purposes, portable, verdict
from dsar.package import CategoryResult, HolderAnswer
from dsar.retention import Anonymise, Erase, Holding, Retain
from dsar.rights import RIGHTS
from dsar.usecases import Decision
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    CaseKind,
    Channel,
    Ground,
    HolderStatus,
    LineId,
    MessageId,
    MessageKind,
    Outcome,
    PackageId,
    Right,
    TaskId,
)
from tests.law.dsar_desk import DPO, PRACTICE, at
from tests.law.test_dsar_usecases import (  # noqa: F401 - the fixture
    START,
    answers,
    desk,
    manifest_of,
    opened,
    searched,
    sent,
)

NOW = datetime(2026, 3, 5, 9, tzinfo=UTC)
COPY, GONE = LineId("line_copy"), LineId("line_gone")
PACK = policyfiles.load(Path(__file__).parents[2] / "policies")
ORMELUNE = ControllerId("ormelune")
COLLECTE, COMPLIANCE, HOUSE = ComponentId("safe"), ComponentId("vigil"), ComponentId("regard")
RUN_BY = {COLLECTE: PartyId("collecte"), COMPLIANCE: PartyId("compliance")}
PAPERS, BALANCES = CategoryId("identity.papers"), CategoryId("accounts.balances")


def case(state: State, *lines: Line, **changes: object) -> Case:
    facts = {
        "id": CaseId("case_1"),
        "controller": ORMELUNE,
        "subject": "sub_1",
        "kind": CaseKind.SUBJECT,
        "channel": Channel.SPACE,
        "received_at": NOW,
        "recorded_at": NOW,
        "locale": "fr",
        "contact_changed_at": None,
        "lines": {line.id: line for line in lines or (Line(COPY, Right.ACCESS),)},
        "state": state,
        "messages": {MessageId("m0"): Message(MessageId("m0"), MessageKind.ACKNOWLEDGEMENT, (COPY,), NOW)},
        "acknowledged_at": NOW,
    }
    return Case(**{**facts, **changes})


def reply(*lines: LineId, at_: datetime | None = NOW, bounced: bool = False) -> dict[MessageId, Message]:
    told = Message(MessageId("m1"), MessageKind.REPLY, lines, at_, bounced)
    return {**case(State.REVIEW).messages, told.id: told}


def step(found: Case, **facts: object) -> tuple[Turn, tuple[LineId, ...]]:
    taken = course.next_step(found, Facts(**{"now": NOW, **facts}))
    return taken.turn, taken.lines


GRANTED = Line(COPY, Right.ACCESS, Outcome.GRANTED)
ERASED = Line(GONE, Right.ERASURE, Outcome.GRANTED)
SEALED = {PackageId("pkg_1"): COPY}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("right", list(Right))
@pytest.mark.parametrize("outcome", [None, *Outcome])
@pytest.mark.parametrize("left", [None, "returned"])
def test_no_state_is_without_an_answer_and_none_that_is_left_moves(state, right, outcome, left) -> None:
    """Whatever the line, there is one next step; a final case and one that people have take none (rule 60)."""
    found = case(state, Line(COPY, right, outcome), left=left)
    taken = course.next_step(found, Facts(now=NOW))
    if state in FINAL or left:
        assert taken == course.Next(Turn.WAIT)
    if taken.turn is Turn.DECIDE:
        assert not RIGHTS[right].human_only


@pytest.mark.parametrize("state", [State.RECEIVED, State.VERIFIED, State.SEARCHING, State.REVIEW])
def test_a_request_is_acknowledged_first(state) -> None:
    """Dsar rule 4."""
    assert step(case(state, messages={}))[0] is Turn.ACKNOWLEDGE


def test_what_needs_no_search_goes_straight_to_review() -> None:
    assert step(case(State.VERIFIED))[0] is Turn.SEARCH
    assert step(case(State.VERIFIED, Line(COPY, Right.OBJECTION)))[0] is Turn.REVIEW


def test_the_copy_is_sealed_and_decided_before_the_erasure() -> None:
    """Dsar rule 3."""
    both = Line(COPY, Right.ACCESS), Line(GONE, Right.ERASURE)
    assert step(case(State.REVIEW, *both)) == (Turn.SEAL, (COPY,))
    assert step(case(State.REVIEW, *both, packages=SEALED)) == (Turn.DECIDE, (COPY,))
    assert step(case(State.REVIEW, GRANTED, both[1], packages=SEALED)) == (Turn.DECIDE, (GONE,))
    assert step(case(State.REVIEW, GRANTED, ERASED, packages=SEALED))[0] is Turn.SUBMIT


def test_nothing_held_anywhere_is_answered_and_not_sealed() -> None:
    """Dsar rule 5."""
    none = {TaskId("t1"): HolderStatus.NONE, TaskId("t2"): HolderStatus.NONE}
    assert step(case(State.REVIEW, answers=none)) == (Turn.DECIDE, (COPY,))


def test_nothing_is_handed_to_approval_before_the_acknowledgement_left() -> None:
    """Dsar rule 4: afterwards it could not be acknowledged any more."""
    assert step(case(State.REVIEW, GRANTED, acknowledged_at=None)) == (Turn.WAIT, ())


@pytest.mark.parametrize("right", [Right.RECTIFICATION, Right.RESTRICTION, Right.OBJECTION, Right.AUTOMATED_DECISION])
def test_what_has_to_be_weighed_is_left_to_people(right) -> None:
    """Dsar rules 46, 47, 51, 52."""
    taken = course.next_step(case(State.REVIEW, Line(COPY, right)), Facts(now=NOW))
    assert (taken.turn, taken.reason) == (Turn.STAFF, "decision_needed")


def test_who_is_not_proved_to_be_the_person_once_acknowledged_is_left_to_people() -> None:
    """Dsar rules 24, 60: no robot asks for a proof, and nobody waits in silence."""
    taken = course.next_step(case(State.ACKNOWLEDGED, Line(COPY, Right.RESTRICTION)), Facts(now=NOW))
    assert (taken.turn, taken.reason) == (Turn.STAFF, "proof_needed")


@pytest.mark.parametrize("right", [Right.WITHDRAWAL, Right.MARKETING_OBJECTION])
def test_what_cannot_be_refused_is_granted_and_carried_out(right) -> None:
    """Dsar rules 7, 8."""
    assert step(case(State.REVIEW, Line(COPY, right))) == (Turn.DECIDE, (COPY,))
    granted = Line(COPY, right, Outcome.GRANTED)
    assert step(case(State.DISPATCHING, granted)) == (Turn.STOP, (COPY,))
    done = replace(granted, carried_out="con_1")
    assert step(case(State.DISPATCHING, done)) == (Turn.REPLY, (COPY,))


def test_the_copy_is_handed_over_before_the_erasure_begins() -> None:
    """Dsar rules 3, 53: fetched, or the time for it over."""
    given = case(State.DISPATCHING, GRANTED, ERASED, packages=SEALED)
    assert step(given) == (Turn.REPLY, (COPY,))
    posted = replace(given, messages=reply(COPY, at_=None))
    assert step(posted) == (Turn.WAIT, ())
    delivered = replace(given, messages=reply(COPY))
    due = NOW + timedelta(days=7)
    taken = course.next_step(delivered, Facts(now=NOW, erase_from=due))
    assert (taken.turn, taken.until) == (Turn.WAIT, due)
    assert step(delivered, now=due, erase_from=due) == (Turn.ERASE, (GONE,))
    assert step(replace(delivered, fetched=frozenset(SEALED)), erase_from=due) == (Turn.ERASE, (GONE,))


def test_an_erasure_is_answered_once_it_is_done() -> None:
    """Dsar rule 53: verified after every holder confirmed, carried out after a search found nothing, then told."""
    begun = case(State.DISPATCHING, replace(ERASED, started=True))
    assert step(begun) == (Turn.WAIT, ())
    assert step(begun, erasures={GONE: Progress.CONFIRMED}) == (Turn.VERIFY, (GONE,))
    assert step(begun, erasures={GONE: Progress.SEARCHED}) == (Turn.CARRY_OUT, (GONE,))
    done = case(State.DISPATCHING, replace(ERASED, started=True, carried_out="era_1"))
    assert step(done) == (Turn.REPLY, (GONE,))


def test_a_reply_that_came_back_is_for_people() -> None:
    back = case(State.DISPATCHING, GRANTED, messages=reply(COPY, bounced=True))
    assert course.next_step(back, Facts(now=NOW)).reason == "reply_bounced"


@pytest.mark.parametrize(
    ("wait", "due_in", "expected"),
    [
        (7, 20, 7),  # the pack's figure
        (7, 5, 4),  # not past the day before the clock's end
        (7, 0, 1),  # a person has a day whatever the clock says
        (30, 60, 30),
    ],
)
def test_how_long_an_erasure_waits_for_its_copy(wait, due_in, expected) -> None:
    """Dsar rules 3, 22, 53."""
    practice = replace(PRACTICE, copy_wait_days=wait)
    found = case(State.DISPATCHING, GRANTED, ERASED, packages=SEALED, messages=reply(COPY))
    begins = course.erasure_from(found, practice, due=NOW + timedelta(days=due_in))
    assert begins == NOW + timedelta(days=expected)


def test_nothing_waits_without_an_erasure_or_without_a_copy() -> None:
    practice, due = PRACTICE, NOW + timedelta(days=30)
    assert course.erasure_from(case(State.DISPATCHING, GRANTED, messages=reply(COPY)), practice, due=due) is None
    assert course.erasure_from(case(State.DISPATCHING, ERASED), practice, due=due) is None


# --- events


def test_what_is_left_to_staff_goes_on_with_the_next_move(desk) -> None:  # noqa: F811
    found, _ = opened(desk)
    usecases.leave_to_staff(desk, found, "upload_refused")
    usecases.leave_to_staff(desk, found, "upload_refused")
    assert desk.cases.get(found).left == "upload_refused"
    assert [e.kind_of(one.event) for one in desk.cases.history(found)].count("case.left_to_staff") == 1
    searched(desk, found)
    assert desk.cases.get(found).left is None


def test_with_every_version_somebody_looks(desk) -> None:  # noqa: F811
    found, _ = opened(desk)
    looks = {ref for kind, ref, _ in desk.work.asked if kind == usecases.PROCEED}
    version = desk.cases.get(found).version
    assert f"{found}/{version}" in looks
    assert {ref.partition("/")[0] for ref in looks} == {found}


def test_a_copy_is_fetched_only_once_it_was_answered_and_while_it_lives(desk) -> None:  # noqa: F811
    """Dsar rules 53, 58."""
    found, lines = opened(desk)
    line, me = lines[Right.ACCESS], Actor("sub_anna", human=True)
    searched(desk, found)
    package = usecases.seal_package(desk, found, manifest_of(desk, found, line))
    usecases.decide_line(desk, found, line, Decision(Outcome.GRANTED, SYSTEM))
    usecases.submit(desk, found)
    usecases.approve(desk, found, DPO)
    with pytest.raises(errors.CopyGone):
        usecases.record_fetch(desk, found, package, me)
    sent(desk, usecases.prepare_reply(desk, found, [line]))
    assert [one.id for one in usecases.ready_copies(desk, found)] == [package]
    usecases.record_fetch(desk, found, package, me)
    usecases.record_fetch(desk, found, package, me)
    assert desk.cases.get(found).fetched == {package}
    told = [(kind, payload.get("again")) for kind, _, payload in desk.journal.entries if kind == "case.copy_fetched"]
    assert told == [("case.copy_fetched", None), ("case.copy_fetched", True)], "each download is in the ledger"
    with pytest.raises(errors.CopyGone):
        usecases.record_fetch(desk, found, PackageId("pkg_other"), me)
    at(desk, START + timedelta(days=PRACTICE.package_days))
    with pytest.raises(errors.CopyGone):
        usecases.record_fetch(desk, found, package, me)


# --- what holders hold, and what stays


def answer(holder: ComponentId, *categories: CategoryId) -> HolderAnswer:
    results = tuple(CategoryResult(one, HolderStatus.FOUND, 3) for one in categories)
    return HolderAnswer(holder, HolderStatus.FOUND, NOW, results)


def held(*answers_: HolderAnswer, agreed: frozenset[tuple[PurposeId, CategoryId]] = frozenset()):
    return holdings(answers_, PACK, ORMELUNE, party_of=RUN_BY.__getitem__, house=HOUSE, agreed=agreed)


def test_a_holder_holds_for_what_the_list_and_the_person_say() -> None:
    """Dsar rule 48: by holder, category and purpose."""
    overview, brokerage = PurposeId("wealth_overview"), PurposeId("mortgage_brokerage")
    assert held(answer(COLLECTE, BALANCES), agreed={(overview, BALANCES)}) == (Holding(COLLECTE, BALANCES, overview),)
    assert held(answer(COMPLIANCE, PAPERS), agreed={(brokerage, PAPERS)}) == (
        Holding(COMPLIANCE, PAPERS, PurposeId("aml_duties")),
    ), "a team that only watches money laundering holds nothing for the person's own agreement"


def test_a_category_nobody_may_hold_is_no_silent_erasure() -> None:
    with pytest.raises(RetentionUnfounded, match="held for no purpose"):
        held(answer(COMPLIANCE, CategoryId("wealth.summary")))


def test_the_house_keeps_the_proof_and_forgets_the_person() -> None:
    """Dsar rules 49, 59: what was agreed and asked stays, with its end; name and address go."""
    own = held(answer(HOUSE, CategoryId("audit.trail"), CategoryId("identity.civil"), CategoryId("contact.details")))
    assert house_purposes(PACK, ORMELUNE, CategoryId("audit.trail")) == {"security_audit", "rights_requests"}
    cells = drawn(own, PACK, NOW.date())
    kept = {cell.holding.category for cell in cells if isinstance(cell.fate, Retain)}
    gone = {cell.holding.category for cell in cells if isinstance(cell.fate, Erase)}
    assert (kept, gone) == ({"audit.trail"}, {"identity.civil", "contact.details"})
    assert all(cell.fate.until == NOW.date() + timedelta(days=1826) for cell in cells if isinstance(cell.fate, Retain))


def test_the_verdict_names_what_stays_and_the_point_of_law() -> None:
    """Dsar rules 48, 57: never "legal obligation" for an account."""
    assert verdict((), PACK) == (Outcome.NO_DATA, (), ())
    overview = drawn([Holding(COLLECTE, BALANCES, PurposeId("wealth_overview"))], PACK, NOW.date())
    assert verdict(overview, PACK) == (Outcome.GRANTED, (), ())
    papers = drawn(held(answer(COMPLIANCE, PAPERS)), PACK, NOW.date())
    assert verdict(papers, PACK) == (Outcome.PARTLY_GRANTED, (Ground.LEGAL_OBLIGATION,), (PAPERS,))
    claims = drawn([Holding(COLLECTE, CategoryId("mandate.signed"), PurposeId("mortgage_brokerage"))], PACK, NOW.date())
    assert verdict(claims, PACK)[1] == (Ground.LEGAL_CLAIMS,)


def test_nothing_is_anonymised_where_no_cohort_is_open() -> None:
    """Dsar rule 55."""
    statistics = Holding(COLLECTE, CategoryId("income.earnings"), PurposeId("statistics"))
    assert [cell.fate for cell in drawn([statistics], PACK, NOW.date())] == [Erase()]


@pytest.mark.parametrize(
    ("asked", "suspended", "heard", "why"),
    [
        (timedelta(hours=1), False, None, None),
        (timedelta(hours=1), True, timedelta(0), "holder_suspended"),
        (timedelta(hours=24), False, None, None),
        (timedelta(hours=25), False, None, "holder_silent"),
        (timedelta(hours=25), False, timedelta(hours=23), None),
        (timedelta(hours=1), False, timedelta(days=9), None),
        (timedelta(days=5, seconds=1), False, timedelta(0), "holder_silent"),
    ],
)
def test_a_search_waits_for_staff_when_a_holder_cannot_answer(
    asked: timedelta, heard: timedelta | None, why: str | None, *, suspended: bool
) -> None:
    """Dsar rule 40: nobody is left out, and nobody is waited for unseen."""
    one = course.Asked(NOW - asked, suspended, NOW - heard if heard is not None else None)
    assert course.held_up([one], NOW) == why
    step = course.next_step(case(State.SEARCHING), Facts(NOW, held_up=why))
    assert (step.turn, step.reason) == ((Turn.STAFF, why) if why else (Turn.WAIT, None))
    assert course.held_up([], NOW) is None


def test_no_matrix_of_this_pack_anonymises_anything() -> None:
    """Dsar rules 48, 55: no step fills a cohort from a case, so nothing may be told to be anonymised."""
    asked = [one for one in PACK.retentions if one.on_erasure == "anonymise"]
    assert asked, "the pack names what could be, one day"
    everything = [
        Holding(holder, category.id, purpose.id)
        for holder in (COLLECTE, HOUSE)
        for category in PACK.categories.values()
        for purpose in PACK.purposes.values()
    ]
    fates = [cell.fate for cell in drawn(everything, PACK, NOW.date())]
    assert not [fate for fate in fates if isinstance(fate, Anonymise)]
    assert {type(fate) for fate in fates} == {Erase, Retain}


def test_what_may_be_taken_elsewhere_was_given_or_observed_on_an_agreement() -> None:
    """Dsar rule 44."""
    agreed = {
        (PurposeId("wealth_overview"), BALANCES),
        (PurposeId("wealth_overview"), CategoryId("wealth.summary")),
        (PurposeId("aml_duties"), PAPERS),
    }
    assert portable(PACK, agreed) == {BALANCES}


def test_events_are_read_back_as_they_were_written() -> None:
    """Stored events are the case."""
    for event in (
        e.CopyFetched(at=NOW, by="sub_1", package=PackageId("pkg_1")),
        e.LeftToStaff(at=NOW, by="system", reason="returned"),
        e.VerificationStarted(at=NOW, by="system", line=GONE),
    ):
        assert e.decode(e.kind_of(event), e.VERSION, e.encode(event)) == event
