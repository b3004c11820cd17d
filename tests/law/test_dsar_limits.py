"""What a case stops: at once when it is asked, for good when it is granted, until the letter when it is not.

GDPR arts 7(3), 18, 21; dsar rules 7, 8, 51, 52, 56. The decision itself is asked, on both databases.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.store.standings import SqlStandings
from app.store.subjects import SqlSubjects
from consent import events as ev
from consent import limiting
from consent.decision import Restriction, Standing
from consent.events import Authorisers, Evidence
from consent.limits import Act, RestrictionGround, Whose
from consent.record import State as ConsentState
from consent.vocabulary import CategoryId, ConsentId, LegalBasis, Locale, PartyId, PurposeId
from dsar import errors, usecases
from dsar import events as e
from dsar.case import State
from dsar.ports import Desk
from dsar.usecases import Decision, Intake
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    CaseKind,
    Channel,
    DoubtCode,
    Ground,
    LineId,
    Method,
    Outcome,
    RecipientOutcome,
    Right,
)
from tests.law.dsar_desk import (
    ADVICE,
    AGENT,
    ANNA,
    BALANCES,
    BANK,
    DPO,
    IDENTITY,
    STATS,
    at,
    email,
    make_desk,
    paris,
    passkey,
    purpose,
)

START = paris(2026, 3, 5)
ME = Actor(ANNA, human=True)
AUDIT, NEWS = PurposeId("audit"), PurposeId("news")
GRANTED = Decision(Outcome.GRANTED, AGENT)


@pytest.fixture
def desk(records_engine: Engine):
    with Session(records_engine) as session:
        SqlSubjects(session).enrol(ANNA, BANK, locale=Locale.FR, profile=b"sealed", index=b"anna", at=START)
        made = make_desk(session, START)
        more = {
            AUDIT: purpose(AUDIT, frozenset({STATS}), LegalBasis.LEGITIMATE_INTERESTS),
            NEWS: replace(purpose(NEWS, frozenset({IDENTITY}), LegalBasis.CONSENT), marketing=True),
        }
        policy = replace(made.policy, purposes={**made.policy.purposes, **more})
        yield replace(made, policy=policy), session


def standing(session: Session) -> Standing:
    found = SqlStandings(session).standing(ANNA, AUDIT, START)
    assert found is not None
    return found


def restricted(session: Session, desk: Desk) -> bool:
    now = desk.clock.now()
    return any(one.since <= now and (one.until is None or now < one.until) for one in standing(session).restrictions)


def objected(session: Session, desk: Desk) -> set[PurposeId | None]:
    now = desk.clock.now()
    stops = [one for one in standing(session).objections if one.until is None or now < one.until]
    return {one.purpose for one in stops if not one.refused}


def opened(desk: Desk, *rights: Right, **changes: object) -> tuple[CaseId, dict[Right, LineId]]:
    facts = {"controller": BANK, "subject": ANNA, "rights": rights, "channel": Channel.SPACE, "received_at": START}
    facts |= {"locale": Locale.FR, "by": ME, "proofs": (passkey(START),)}
    found = usecases.open_case(desk, Intake(**{**facts, **changes}))
    assert found.case is not None
    return found.case, dict(found.lines)


def decided(desk: Desk, case: CaseId, line: LineId, decision: Decision = GRANTED) -> None:
    usecases.start_review(desk, case)
    usecases.decide_line(desk, case, line, decision)
    usecases.submit(desk, case)
    usecases.approve(desk, case, DPO)


def replied(desk: Desk, case: CaseId, line: LineId) -> None:
    message = usecases.prepare_reply(desk, case, [line])
    usecases.dispatch_message(desk, message, channel="space", proof="posting_1")


def refusing(ground: Ground) -> Decision:
    return Decision(Outcome.REFUSED, AGENT, (ground,), approved_by=Actor("staff_two", human=True), evidence="because")


def test_a_restriction_binds_the_moment_it_is_asked_and_stays_when_granted(desk) -> None:  # dsar rule 51
    desk, session = desk
    case, lines = opened(desk, Right.RESTRICTION)
    assert standing(session).restrictions == (Restriction(START),)
    decided(desk, case, lines[Right.RESTRICTION])
    with pytest.raises(errors.ErasurePartial):
        usecases.prepare_reply(desk, case, [lines[Right.RESTRICTION]])
    usecases.carry_out_limit(desk, case, lines[Right.RESTRICTION], recipients={PartyId("processor")})
    usecases.carry_out_limit(desk, case, lines[Right.RESTRICTION], recipients={PartyId("processor")})
    replied(desk, case, lines[Right.RESTRICTION])
    assert standing(session).restrictions == (Restriction(START),)
    assert desk.cases.get(case).lines[lines[Right.RESTRICTION]].carried_out.startswith("lim_")
    # art. 19: every recipient is owed a notice, and the case waits for it (dsar rule 56)
    assert [one.recipient for one in desk.cases.recipients(case)] == ["processor"]
    with pytest.raises(errors.RecipientsPending):
        usecases.close(desk, case)
    usecases.record_recipient(desk, desk.cases.recipients(case)[0].id, RecipientOutcome.ACKED, by=SYSTEM)
    assert usecases.close(desk, case) is e.Ending.CLOSED


def test_a_refused_restriction_ends_with_the_letter_and_not_before(desk) -> None:  # GDPR art. 18(3), dsar rule 51
    desk, session = desk
    case, lines = opened(desk, Right.RESTRICTION)
    decided(desk, case, lines[Right.RESTRICTION], refusing(Ground.NO_RESTRICTION_GROUND))
    message = usecases.prepare_reply(desk, case, list(lines.values()))
    assert restricted(session, desk)
    at(desk, START + timedelta(hours=3))
    usecases.dispatch_message(desk, message, channel="space", proof="posting_1")
    assert not restricted(session, desk)
    record = desk.agreements.limits.restrictions(BANK, ANNA)[0]
    assert (record.told, record.lifted_at) == (message, START + timedelta(hours=3))


def test_an_objection_stops_at_once_what_rests_on_a_legitimate_interest(desk) -> None:  # dsar rule 52
    desk, session = desk
    case, lines = opened(desk, Right.OBJECTION)
    assert objected(session, desk) == {AUDIT}
    decided(desk, case, lines[Right.OBJECTION])
    usecases.carry_out_limit(desk, case, lines[Right.OBJECTION])
    replied(desk, case, lines[Right.OBJECTION])
    assert objected(session, desk) == {AUDIT}
    assert usecases.close(desk, case) is e.Ending.CLOSED


def test_a_refused_objection_goes_on_with_grounds_written_down_once_the_person_knows(desk) -> None:  # dsar rule 52
    desk, session = desk
    case, lines = opened(desk, Right.OBJECTION)
    decided(desk, case, lines[Right.OBJECTION], refusing(Ground.COMPELLING_GROUNDS))
    assert objected(session, desk) == {AUDIT}
    replied(desk, case, lines[Right.OBJECTION])
    assert objected(session, desk) == set()
    record = desk.agreements.limits.objections(BANK, ANNA)[0]
    assert desk.notes.read(record.evidence) == "because"
    kinds = {kind: actor for kind, actor, _ in desk.journal.entries}
    assert kinds["objection.refused"] == AGENT.handle


def test_the_marketing_stop_needs_no_proof_and_is_for_good(desk) -> None:  # GDPR art. 21(3), dsar rule 8
    desk, session = desk
    case, lines = opened(desk, Right.MARKETING_OBJECTION, proofs=(), channel=Channel.EMAIL, by=AGENT)
    assert objected(session, desk) == {None}
    usecases.start_review(desk, case)
    with pytest.raises(errors.OutcomeNotAllowed):
        usecases.decide_line(desk, case, lines[Right.MARKETING_OBJECTION], refusing(Ground.ARTICLE_11))
    usecases.decide_line(desk, case, lines[Right.MARKETING_OBJECTION], GRANTED)
    usecases.submit(desk, case)
    usecases.approve(desk, case, DPO)
    usecases.carry_out_limit(desk, case, lines[Right.MARKETING_OBJECTION])
    replied(desk, case, lines[Right.MARKETING_OBJECTION])
    assert objected(session, desk) == {None}


def test_nothing_binds_before_the_proof_the_right_needs(desk) -> None:  # dsar rule 26: objection is L2
    desk, session = desk
    case, lines = opened(desk, Right.OBJECTION, Right.RESTRICTION, proofs=(email(START),))
    assert restricted(session, desk)  # L1
    assert objected(session, desk) == set()
    usecases.prove_identity(desk, case, passkey(START), ME)
    assert objected(session, desk) == {AUDIT}
    assert len(desk.agreements.limits.restrictions(BANK, ANNA)) == 1
    assert set(lines) == {Right.OBJECTION, Right.RESTRICTION}


@pytest.mark.parametrize(
    ("changes", "since", "binds"),
    [
        ({}, START - timedelta(days=2), True),
        ({}, START + timedelta(hours=1), False),  # enrolled after the request came: rule 27
        ({"kind": CaseKind.REPRESENTATIVE}, START - timedelta(days=2), False),
    ],
)
def test_asked_again_with_a_better_proof_it_binds_in_the_case_that_is_open(desk, changes, since, binds) -> None:
    """Dsar rules 9, 26, 27, 51: linked, no second case; a representative proves nothing in the person's own case."""
    desk, session = desk
    young = email(START, START - timedelta(days=3))
    case, _ = opened(desk, Right.RESTRICTION, proofs=(young,))
    at(desk, START + timedelta(hours=2))
    again = {"controller": BANK, "subject": ANNA, "rights": (Right.RESTRICTION,), "channel": Channel.SPACE}
    again |= {"received_at": desk.clock.now(), "locale": Locale.FR, "by": ME}
    usecases.open_case(desk, Intake(**again, proofs=(replace(young, at=desk.clock.now()),)))
    assert not restricted(session, desk)
    asked = usecases.open_case(desk, Intake(**again, **changes, proofs=(passkey(desk.clock.now(), since),)))
    assert (asked.case, [one.case for one in asked.already]) == (None, [case])
    assert restricted(session, desk) is binds
    found = desk.cases.get(case)
    assert (found.state is State.VERIFIED, len(found.proofs)) == (binds, 2 if binds else 1)
    usecases.open_case(desk, Intake(**again, **changes, proofs=(passkey(desk.clock.now(), since),)))
    assert desk.cases.get(case).proofs == found.proofs, "said once"


def test_a_stranger_restricts_nobody(desk) -> None:
    desk, session = desk
    opened(desk, Right.RESTRICTION, Right.OBJECTION, proofs=(), channel=Channel.EMAIL, by=AGENT)
    assert not restricted(session, desk)
    assert objected(session, desk) == set()


def test_a_request_taken_back_stops_nothing_any_more(desk) -> None:
    desk, session = desk
    case, _ = opened(desk, Right.RESTRICTION, Right.OBJECTION)
    message = usecases.withdraw_request(desk, case, ME)
    assert restricted(session, desk)
    usecases.dispatch_message(desk, message, channel="space", proof="posting_1")
    assert not restricted(session, desk)
    assert objected(session, desk) == set()
    assert usecases.close(desk, case) is e.Ending.WITHDRAWN_BY_SUBJECT


def test_what_the_person_restricted_elsewhere_outlives_the_case(desk) -> None:
    desk, session = desk
    act = Act(ev.Actor(ev.ActorKind.SUBJECT, ANNA), ev.Channel.PAGE, START)
    ground = RestrictionGround.NEEDED_FOR_CLAIMS
    limiting.restrict(desk.agreements, desk.policy, Whose(BANK, ANNA), act, ground=ground, ids=desk.ids)
    case, lines = opened(desk, Right.RESTRICTION)
    decided(desk, case, lines[Right.RESTRICTION], refusing(Ground.NO_RESTRICTION_GROUND))
    replied(desk, case, lines[Right.RESTRICTION])
    assert [one.lifted_at is None for one in desk.agreements.limits.restrictions(BANK, ANNA)].count(True) == 1
    assert restricted(session, desk)


def test_a_case_taken_up_again_stops_again(desk) -> None:  # dsar rule 20
    desk, session = desk
    case, _ = opened(desk, Right.RESTRICTION, Right.OBJECTION, proofs=(email(START),))
    question = usecases.ask_identity(
        desk, case, doubt=DoubtCode.UNKNOWN_CONTACT, text="two files", method=Method.SMS_CODE, by=AGENT, pausing=True
    )
    usecases.dispatch_message(desk, question, channel="space", proof="posting_1")
    at(desk, START + timedelta(days=40))
    letter = usecases.close_unanswered(desk, case)
    usecases.dispatch_message(desk, letter, channel="space", proof="posting_2")
    assert not restricted(session, desk)
    usecases.close(desk, case)
    usecases.reopen(desk, case, ME)
    usecases.prove_identity(desk, case, passkey(desk.clock.now()), ME)
    assert restricted(session, desk)
    assert objected(session, desk) == {AUDIT}


def _consent(desk: Desk, name: str, basis: LegalBasis, moment: datetime = START) -> ConsentId:
    person, id_ = ev.Actor(ev.ActorKind.SUBJECT, ANNA), ConsentId(f"con_{name}")
    terms = ev.Terms(
        controller=BANK,
        subject=ANNA,
        purpose=ADVICE,
        basis=basis,
        party=PartyId("partner"),
        needed=frozenset({BALANCES}),
        optional=frozenset[CategoryId](),
        recipients=frozenset[PartyId](),
        authorisers=Authorisers((ANNA,)),
        notice_version=1,
        longest_days=180,
        history_from=moment.date(),
        frequency_per_day=1,
        attended_only=False,
        data_life_days=None,
        access_path=None,
        institution=None,
        connection=None,
        mandate=None,
        supersedes=None,
        offer_until=moment + timedelta(days=30),
    )
    record = desk.agreements.consents.add(id_, ev.Requested(moment, person, ev.Channel.PAGE, terms))
    given = ev.Given(
        moment,
        person,
        ev.Channel.PAGE,
        ANNA,
        frozenset({BALANCES}),
        moment + timedelta(days=90),
        attended_only=False,
        institution=None,
        access_path=None,
        evidence=Evidence(1, None, None, None, gpc=False),
    )
    desk.agreements.consents.append(record, given)
    return id_


def test_a_withdrawal_ends_every_consent_at_once_and_no_contract(desk) -> None:  # GDPR art. 7(3), dsar rule 7
    desk, _ = desk
    agreed, contract = _consent(desk, "a", LegalBasis.CONSENT), _consent(desk, "b", LegalBasis.CONTRACT)
    case, lines = opened(desk, Right.WITHDRAWAL, proofs=())
    states = [desk.agreements.consents.find(BANK, one).state for one in (agreed, contract)]
    assert states == [ConsentState.WITHDRAWN, ConsentState.ACTIVE]
    decided(desk, case, lines[Right.WITHDRAWAL])
    usecases.carry_out_limit(desk, case, lines[Right.WITHDRAWAL])
    usecases.carry_out_limit(desk, case, lines[Right.WITHDRAWAL])
    assert desk.cases.get(case).lines[lines[Right.WITHDRAWAL]].carried_out == agreed
    assert [kind for kind, *_ in desk.journal.entries].count("consent.withdrawn") == 1
    replied(desk, case, lines[Right.WITHDRAWAL])
    assert usecases.close(desk, case) is e.Ending.CLOSED


def test_what_is_agreed_to_after_a_withdrawal_is_not_taken_back_with_it(desk) -> None:  # dsar rule 7
    desk, _ = desk
    case, lines = opened(desk, Right.WITHDRAWAL, proofs=())
    at(desk, START + timedelta(days=1))
    later = _consent(desk, "later", LegalBasis.CONSENT, START + timedelta(days=1))
    usecases.prove_identity(desk, case, passkey(START), ME)
    decided(desk, case, lines[Right.WITHDRAWAL])
    usecases.carry_out_limit(desk, case, lines[Right.WITHDRAWAL])
    assert desk.agreements.consents.find(BANK, later).state is ConsentState.ACTIVE
    assert desk.cases.get(case).lines[lines[Right.WITHDRAWAL]].carried_out == lines[Right.WITHDRAWAL]


@pytest.mark.parametrize("right", [Right.ACCESS, Right.ERASURE, Right.RECTIFICATION])
def test_other_rights_are_not_carried_out_by_a_flag(desk, right: Right) -> None:
    desk, _ = desk
    case, lines = opened(desk, right)
    with pytest.raises(errors.MoveRefused):
        usecases.carry_out_limit(desk, case, lines[right])
    assert desk.cases.get(case).state is State.VERIFIED
