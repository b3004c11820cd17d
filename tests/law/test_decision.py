"""Every reason to say no can be reached, alone; without all facts nothing is permitted (dsar rule P1)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent import events as ev
from consent.decision import (
    Component,
    Deny,
    Facts,
    Keep,
    Objection,
    OtherBasis,
    Permit,
    Question,
    Restriction,
    StaffActor,
    decide,
)
from consent.events import Channel, EndReason, SuspensionReason
from consent.mandate import Mandate
from consent.reasons import ORDER, SENTENCES, Reason
from consent.record import Consent, State, fold
from consent.vocabulary import Action, CategoryId, ComponentId, ConsentId, LegalBasis, Locale, PartyId, PurposeId
from tests.law.consent_desk import (
    ANNA,
    AUDIT,
    BALANCES,
    BANK,
    BRUNO,
    CREDIT,
    DAY,
    ELSEWHERE,
    FAR_PARTNER,
    HEALTH,
    HERE,
    HOLDER,
    NOW,
    OLDER,
    OVERVIEW,
    PARTNER,
    POLICY,
    QUESTION,
    READER,
    RECENT,
    RIVAL,
    SERVICE,
    STAFF,
    SUBJECT,
    SYSTEM,
    TEAM,
    THERE,
    with_party,
    with_purpose,
)
from tests.law.test_consent_record import CONSENT, REQUESTED, TERMS, given_by

LIVE = fold(CONSENT, (REQUESTED, given_by()))
CARD = Component(READER, PARTNER, suspended=False, country="FR", honours=frozenset(Keep))
FACTS = Facts(policy=POLICY, party=POLICY.parties[PARTNER], component=CARD, subject_controller=HERE, consent=LIVE)
CREDIT_LIVE = replace(LIVE, terms=replace(TERMS, purpose=CREDIT, party=BANK, recipients=frozenset({TEAM})))
BANK_FACTS = replace(FACTS, party=POLICY.parties[BANK], component=replace(CARD, party=BANK), consent=CREDIT_LIVE)
BANK_QUESTION = replace(QUESTION, party=BANK, purpose=CREDIT)
MANDATE = Mandate(
    id="man_1",
    controller=HERE,
    grantor=ANNA,
    scope=frozenset({CREDIT}),
    recipients=frozenset({BANK}),
    classes=frozenset({BALANCES}),
    start=NOW,
    until=NOW + 30 * DAY,
    signed_at=NOW,
    document_digest="d",
)
LOOK = replace(QUESTION, party=TEAM, component=None, actor=StaffActor("adviser", assigned=True))
LOOK_FACTS = replace(
    FACTS,
    party=POLICY.parties[TEAM],
    component=None,
    consent=replace(LIVE, terms=replace(TERMS, recipients=frozenset({TEAM}))),
)
SEND = replace(LOOK, purpose=CREDIT, action=Action.TRANSMIT, recipient=BANK)
SEND_FACTS = replace(LOOK_FACTS, consent=CREDIT_LIVE, mandates=(MANDATE,))


def after(event: ev.Event) -> Consent:
    return LIVE.apply(event)


def _with_grants(until: date) -> Facts:
    party = POLICY.parties[PARTNER]
    grants = tuple(replace(grant, until=until) for grant in party.grants)
    policy = with_party(POLICY, PARTNER, grants=grants)
    return replace(FACTS, policy=policy, party=policy.parties[PARTNER])


def _not_active() -> Facts:
    policy = with_party(POLICY, PARTNER, suspended_since=date(2026, 1, 1))
    return replace(FACTS, policy=policy, party=policy.parties[PARTNER])


def _with_terms(**changes: object) -> Facts:
    return replace(FACTS, consent=replace(LIVE, terms=replace(TERMS, **changes)))


UNATTENDED = replace(QUESTION, attended=False, opens_read=True)
DAY_END = NOW + 200 * DAY
CASES: dict[Reason, tuple[Question, Facts]] = {
    Reason.PARTY_UNKNOWN: (QUESTION, replace(FACTS, party=None)),
    Reason.PARTY_NOT_ACTIVE: (QUESTION, _not_active()),
    Reason.ASKER_UNKNOWN: (replace(QUESTION, component=None), FACTS),
    Reason.COMPONENT_UNKNOWN: (QUESTION, replace(FACTS, component=None)),
    Reason.COMPONENT_SUSPENDED: (QUESTION, replace(FACTS, component=replace(CARD, suspended=True))),
    Reason.COMPONENT_OF_ANOTHER_PARTY: (QUESTION, replace(FACTS, component=replace(CARD, party=RIVAL))),
    Reason.PURPOSE_UNKNOWN: (replace(QUESTION, purpose=PurposeId("invented")), FACTS),
    Reason.OTHER_CONTROLLER: (QUESTION, replace(FACTS, subject_controller=THERE)),
    Reason.CATEGORY_MISSING: (replace(QUESTION, categories=frozenset()), FACTS),
    Reason.CATEGORY_UNKNOWN: (replace(QUESTION, categories=frozenset({CategoryId("invented")})), FACTS),
    Reason.CATEGORY_OUTSIDE_PURPOSE: (
        QUESTION,
        replace(FACTS, policy=with_purpose(POLICY, OVERVIEW, needed=frozenset({RECENT}))),
    ),
    Reason.NOT_GRANTED: (replace(QUESTION, action=Action.HOLD), FACTS),
    Reason.GRANT_NOT_LIVE: (QUESTION, _with_grants(until=date(2026, 3, 6))),
    Reason.ROLE_NOT_ALLOWED: (replace(LOOK, actor=StaffActor("invented", assigned=True)), LOOK_FACTS),
    Reason.NOT_ASSIGNED: (replace(LOOK, actor=StaffActor("adviser", assigned=False)), LOOK_FACTS),
    Reason.SUBJECT_UNKNOWN: (QUESTION, replace(FACTS, subject_controller=None)),
    Reason.SUBJECT_ERASED: (QUESTION, replace(FACTS, erased=True)),
    Reason.NO_CONSENT: (QUESTION, replace(FACTS, consent=None)),
    Reason.CONSENT_OF_ANOTHER_CONTROLLER: (QUESTION, _with_terms(controller=THERE)),
    Reason.CONSENT_OF_ANOTHER_SUBJECT: (QUESTION, _with_terms(subject=BRUNO)),
    Reason.CONSENT_FOR_ANOTHER_PURPOSE: (QUESTION, _with_terms(purpose=CREDIT)),
    Reason.CONSENT_FOR_ANOTHER_PARTY: (QUESTION, _with_terms(party=RIVAL)),
    Reason.BASIS_CHANGED: (QUESTION, _with_terms(basis=LegalBasis.CONTRACT)),
    Reason.CONSENT_REQUESTED: (QUESTION, replace(FACTS, consent=fold(CONSENT, (REQUESTED,)))),
    Reason.CONSENT_REFUSED: (
        QUESTION,
        replace(FACTS, consent=fold(CONSENT, (REQUESTED, ev.Refused(NOW, SUBJECT, Channel.PAGE)))),
    ),
    Reason.CONSENT_WITHDRAWN: (
        QUESTION,
        replace(FACTS, consent=after(ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, False))),
    ),
    Reason.CONSENT_EXPIRED: (replace(QUESTION, at=DAY_END), FACTS),
    Reason.CONSENT_REPLACED: (
        QUESTION,
        replace(FACTS, consent=after(ev.Replaced(NOW, SUBJECT, Channel.PAGE, ConsentId("con_2")))),
    ),
    Reason.CONSENT_SUSPENDED: (
        QUESTION,
        replace(FACTS, consent=after(ev.Suspended(NOW, SYSTEM, Channel.SCHEDULE, SuspensionReason.SCA_DUE))),
    ),
    Reason.CONSENT_ENDED_BY_CONTROLLER: (
        QUESTION,
        replace(FACTS, consent=after(ev.EndedByController(NOW, STAFF, Channel.PAGE, EndReason.SERVICE_ENDED))),
    ),
    Reason.CONSENT_ENDED_AT_HOLDER: (
        QUESTION,
        replace(FACTS, consent=after(ev.EndedAtHolder(NOW, SYSTEM, Channel.HOLDER))),
    ),
    Reason.CONSENT_INVALIDATED: (
        QUESTION,
        replace(FACTS, consent=after(ev.Invalidated(NOW, STAFF, Channel.PAGE, EndReason.IDENTITY_FAULTY))),
    ),
    Reason.CATEGORY_NOT_CONSENTED: (
        replace(QUESTION, categories=frozenset({BALANCES, RECENT})),
        replace(FACTS, consent=fold(CONSENT, (REQUESTED, given_by(categories=frozenset({BALANCES}))))),
    ),
    Reason.RESTRICTED: (QUESTION, replace(FACTS, restrictions=(Restriction(NOW + timedelta(hours=1)),))),
    Reason.OBJECTED: (QUESTION, replace(FACTS, objections=(Objection(OVERVIEW, NOW),))),
    Reason.RECIPIENT_UNKNOWN: (
        replace(SEND, recipient=None),
        replace(SEND_FACTS, policy=with_purpose(POLICY, CREDIT, needs_mandate=False)),
    ),
    Reason.RECIPIENT_NOT_ACTIVE: (
        SEND,
        replace(SEND_FACTS, policy=with_party(POLICY, BANK, contract_end=date(2026, 3, 6))),
    ),
    Reason.MANDATE_MISSING: (BANK_QUESTION, BANK_FACTS),
    Reason.MANDATE_NOT_LIVE: (
        BANK_QUESTION,
        replace(BANK_FACTS, mandates=(replace(MANDATE, ended_at=NOW + DAY),)),
    ),
    Reason.MANDATE_DOES_NOT_COVER: (
        BANK_QUESTION,
        replace(BANK_FACTS, mandates=(replace(MANDATE, classes=frozenset({RECENT})),)),
    ),
    Reason.ATTENDED_ONLY: (replace(QUESTION, attended=False), _with_terms(attended_only=True)),
    Reason.FREQUENCY_EXCEEDED: (UNATTENDED, replace(FACTS, unattended_reads=2)),
    Reason.OUTSIDE_REGIONS: (QUESTION, replace(FACTS, component=replace(CARD, country="NO"))),
    Reason.CANNOT_HONOUR: (
        QUESTION,
        replace(FACTS, component=replace(CARD, honours=frozenset({Keep.NOTHING, Keep.UNTIL}))),
    ),
}


def test_the_plain_case_is_permitted_with_its_obligations() -> None:
    answer = decide(QUESTION, FACTS)
    assert isinstance(answer, Permit)
    assert (answer.consent, answer.version) == (CONSENT, LIVE.version)
    assert answer.obligations.keep is Keep.CALL
    assert answer.obligations.where == ("NL", "EU")
    assert answer.obligations.mask == {HEALTH}  # consent rule 20
    assert answer.obligations.history_from == TERMS.history_from


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_is_reached_and_reached_alone(reason: Reason) -> None:
    question, facts = CASES[reason]
    answer = decide(question, facts)
    assert isinstance(answer, Deny)
    together = {
        # what does not exist is in no purpose and no grant either
        Reason.PURPOSE_UNKNOWN: {
            Reason.NOT_GRANTED,
            Reason.CONSENT_FOR_ANOTHER_PURPOSE,
            Reason.OUTSIDE_REGIONS,
        },
        Reason.CATEGORY_UNKNOWN: {
            Reason.CATEGORY_OUTSIDE_PURPOSE,
            Reason.NOT_GRANTED,
            Reason.CATEGORY_NOT_CONSENTED,
        },
    }.get(reason, set())
    assert set(answer.all_reasons) - together == {reason}


def test_the_first_reason_is_the_first_in_the_documented_order() -> None:
    nothing = decide(QUESTION, Facts(policy=POLICY))
    assert isinstance(nothing, Deny)
    assert nothing.reason is Reason.PARTY_UNKNOWN
    assert nothing.all_reasons == tuple(sorted(nothing.all_reasons, key=ORDER.__getitem__))
    assert {Reason.COMPONENT_UNKNOWN, Reason.SUBJECT_UNKNOWN, Reason.NO_CONSENT} <= set(nothing.all_reasons)


def test_every_reason_has_a_sentence_of_its_own_in_four_languages() -> None:
    assert set(SENTENCES) == set(Reason)
    said = [sentence for text in SENTENCES.values() for sentence in text.values()]
    assert len(said) == len(set(said)) == 4 * len(Reason)
    assert all(set(text) == set(Locale) for text in SENTENCES.values())
    assert all(re.fullmatch(r"[A-ZÉÀÓ].{10,110}\.", sentence) for sentence in said)


_parties, _purposes = st.sampled_from(sorted(POLICY.parties)), st.sampled_from(sorted(POLICY.purposes))
_some = st.frozensets(st.sampled_from(sorted(POLICY.categories)), max_size=3)


@settings(max_examples=600, deadline=None)
@given(
    party=_parties,
    purpose=_purposes,
    categories=_some,
    action=st.sampled_from(Action),
    subject=st.sampled_from([ANNA, BRUNO]),
    consent=st.none()
    | st.builds(
        lambda purpose, party, subject, controller, given_: replace(
            fold(CONSENT, (REQUESTED, given_by())),
            terms=replace(TERMS, purpose=purpose, party=party, subject=subject, controller=controller),
            cap=given_,
        ),
        _purposes,
        _parties,
        st.sampled_from([ANNA, BRUNO]),
        st.sampled_from([HERE, THERE]),
        _some,
    ),
    erased=st.booleans(),
)
def test_a_permit_needs_a_grant_and_the_subjects_own_agreement(
    *, party, purpose, categories, action, subject, consent, erased
) -> None:
    component = replace(CARD, party=party)
    facts = Facts(
        policy=POLICY,
        party=POLICY.parties[party],
        component=component,
        subject_controller=POLICY.purposes[purpose].controller,
        consent=consent,
        erased=erased,
        mandates=(MANDATE,),
    )
    question = replace(
        QUESTION, party=party, purpose=purpose, categories=categories, action=action, subject=subject, recipient=party
    )
    answer = decide(question, facts)
    if isinstance(answer, Deny):
        assert answer.all_reasons
        return
    granted = {(g.purpose, g.category, g.action) for g in POLICY.parties[party].grants}
    assert categories
    assert all((purpose, category, action) in granted for category in categories)
    assert not erased
    if POLICY.purposes[purpose].basis is LegalBasis.CONSENT:
        assert consent is not None
        assert (consent.terms.subject, consent.terms.purpose) == (subject, purpose)
        assert party in consent.readers
        assert consent.terms.controller == POLICY.parties[party].controller
        assert categories <= consent.categories


@settings(max_examples=200, deadline=None)
@given(purpose=_purposes, party=_parties, subject_controller=st.sampled_from([HERE, THERE]))
def test_two_controllers_never_mix(purpose, party, subject_controller) -> None:  # consent.md section 1
    terms = replace(TERMS, purpose=purpose, party=party, controller=POLICY.purposes[purpose].controller)
    facts = replace(
        FACTS,
        party=POLICY.parties[party],
        component=replace(CARD, party=party),
        consent=replace(LIVE, terms=terms),
        subject_controller=subject_controller,
        mandates=(MANDATE,),
    )
    answer = decide(replace(QUESTION, party=party, purpose=purpose), facts)
    mixed = {POLICY.parties[party].controller, POLICY.purposes[purpose].controller, subject_controller}
    if len(mixed) > 1:
        assert isinstance(answer, Deny)
        assert Reason.OTHER_CONTROLLER in answer.all_reasons


def test_a_far_controllers_partner_reads_there_and_nowhere_else() -> None:
    terms = replace(TERMS, purpose=ELSEWHERE, party=FAR_PARTNER, controller=THERE)
    facts = replace(
        FACTS,
        party=POLICY.parties[FAR_PARTNER],
        component=replace(CARD, party=FAR_PARTNER),
        consent=replace(LIVE, terms=terms),
        subject_controller=THERE,
    )
    question = replace(QUESTION, party=FAR_PARTNER, purpose=ELSEWHERE)
    assert isinstance(decide(question, facts), Permit)
    assert isinstance(decide(question, replace(facts, subject_controller=HERE)), Deny)


def _permits(question: Question, facts: Facts) -> bool:
    return isinstance(decide(question, facts), Permit)


def test_a_sending_needs_a_live_mandate_for_that_recipient_at_send_time() -> None:  # consent rule 36
    assert _permits(SEND, SEND_FACTS)
    assert _permits(BANK_QUESTION, replace(BANK_FACTS, mandates=(MANDATE,)))
    late = replace(SEND, at=MANDATE.until)
    assert Reason.MANDATE_NOT_LIVE in decide(late, SEND_FACTS).all_reasons
    elsewhere = replace(SEND, recipient=RIVAL)
    refused = set(decide(elsewhere, SEND_FACTS).all_reasons)
    assert {Reason.MANDATE_DOES_NOT_COVER, Reason.CONSENT_FOR_ANOTHER_PARTY} <= refused


def test_staff_look_by_role_and_assignment_and_keep_nothing() -> None:  # consent.md section 4
    answer = decide(LOOK, LOOK_FACTS)
    assert isinstance(answer, Permit)
    assert answer.obligations.keep is Keep.NOTHING
    wider = decide(replace(LOOK, categories=frozenset({RECENT})), LOOK_FACTS)
    assert wider.all_reasons == (Reason.ROLE_NOT_ALLOWED,)


def test_restriction_leaves_storage_and_what_the_subject_consents_to_afterwards() -> None:  # dsar rule 51
    restriction = Restriction(NOW + timedelta(hours=1))
    holder = replace(
        FACTS,
        party=POLICY.parties[HOLDER],
        component=replace(CARD, party=HOLDER),
        restrictions=(restriction,),
    )
    hold = replace(QUESTION, party=HOLDER, action=Action.HOLD)
    assert _permits(hold, holder)
    assert not _permits(replace(hold, action=Action.READ), holder)
    assert _permits(QUESTION, replace(FACTS, restrictions=(replace(restriction, except_for=frozenset({OVERVIEW})),)))
    later = fold(CONSENT, (REQUESTED, given_by(at=NOW + timedelta(hours=2))))
    assert _permits(QUESTION, replace(FACTS, restrictions=(restriction,), consent=later))


def test_an_objection_holds_until_it_is_lawfully_refused() -> None:  # dsar rule 52
    assert not _permits(QUESTION, replace(FACTS, objections=(Objection(OVERVIEW, NOW),)))
    assert _permits(QUESTION, replace(FACTS, objections=(Objection(OVERVIEW, NOW, refused=True),)))
    assert _permits(QUESTION, replace(FACTS, objections=(Objection(CREDIT, NOW),)))


def test_unattended_reads_count_where_they_begin_and_never_above_four() -> None:  # consent rule 14
    assert _permits(UNATTENDED, replace(FACTS, unattended_reads=1))
    assert _permits(replace(UNATTENDED, opens_read=False), replace(FACTS, unattended_reads=2))
    assert _permits(replace(UNATTENDED, attended=True), replace(FACTS, unattended_reads=9))
    greedy = replace(_with_terms(frequency_per_day=9), policy=with_purpose(POLICY, OVERVIEW, reads_per_day=9))
    assert not _permits(UNATTENDED, replace(greedy, unattended_reads=4))


def test_a_contract_stands_on_its_record_or_on_a_recorded_basis_and_other_bases_on_the_policy() -> None:
    facts = replace(FACTS, party=POLICY.parties[HOLDER], component=replace(CARD, party=HOLDER), consent=None)
    service = replace(QUESTION, party=HOLDER, purpose=SERVICE)
    basis = OtherBasis(HERE, ANNA, SERVICE, LegalBasis.CONTRACT, "C-7", NOW, NOW + 10 * DAY)
    assert decide(service, facts).reason is Reason.NO_CONSENT
    assert _permits(service, replace(facts, other_basis=basis))
    for wrong in (
        replace(basis, subject=BRUNO),
        replace(basis, controller=THERE),
        replace(basis, purpose=OVERVIEW),
        replace(basis, basis=LegalBasis.LEGITIMATE_INTERESTS),
        replace(basis, until=NOW + DAY),
        replace(basis, since=NOW + 2 * DAY),
    ):
        assert not _permits(service, replace(facts, other_basis=wrong))
    audit = decide(replace(service, purpose=AUDIT, action=Action.HOLD), facts)
    assert isinstance(audit, Permit)
    assert (audit.consent, audit.obligations.keep_until) == (None, None)


def test_what_may_be_kept_ends_with_the_data_life_or_the_consent() -> None:
    holder = replace(FACTS, party=POLICY.parties[HOLDER], component=replace(CARD, party=HOLDER))
    hold = replace(QUESTION, party=HOLDER, action=Action.HOLD)
    assert decide(hold, holder).obligations.keep_until == LIVE.valid_until
    short = replace(holder, consent=replace(LIVE, terms=replace(TERMS, data_life_days=5)))
    assert decide(hold, short).obligations.keep_until == QUESTION.at + 5 * DAY
    use = replace(hold, action=Action.USE_CREDENTIAL)
    assert decide(use, holder).obligations.keep is Keep.NOTHING


def test_a_grant_or_contract_ends_by_the_controllers_own_day() -> None:  # dsar rule P5, midnight in Paris
    ending = _with_grants(until=date(2026, 3, 6))
    last = replace(QUESTION, at=NOW.replace(hour=22, minute=59))
    assert _permits(last, ending)
    assert not _permits(replace(last, at=NOW.replace(hour=23)), ending)
    assert isinstance(decide(QUESTION, ending), Deny)


def test_a_token_for_one_consent_is_not_served_by_another() -> None:
    assert _permits(replace(QUESTION, consent=CONSENT), FACTS)
    assert decide(replace(QUESTION, consent=ConsentId("con_9")), FACTS).reason is Reason.NO_CONSENT


def test_a_party_of_another_id_or_component_is_nobody() -> None:
    assert decide(replace(QUESTION, party=PartyId("else")), FACTS).reason is Reason.PARTY_UNKNOWN
    assert decide(replace(QUESTION, component=ComponentId("x")), FACTS).reason is Reason.COMPONENT_UNKNOWN
    assert not _permits(replace(QUESTION, categories=frozenset({OLDER})), FACTS)
    assert LIVE.state is State.ACTIVE


def test_an_agreement_for_one_time_is_read_once() -> None:
    """Consent rule 13: one day is one time, however often the purpose may be read."""
    once = replace(FACTS, consent=fold(CONSENT, (REQUESTED, given_by(days=1, at=QUESTION.at))))
    assert isinstance(decide(UNATTENDED, once), Permit)
    for counted in (1, 2):
        assert decide(UNATTENDED, replace(once, unattended_reads=counted)) == Deny(
            Reason.FREQUENCY_EXCEEDED, (Reason.FREQUENCY_EXCEEDED,)
        )
    longer = replace(FACTS, consent=fold(CONSENT, (REQUESTED, given_by(days=2, at=QUESTION.at))))
    assert isinstance(decide(UNATTENDED, replace(longer, unattended_reads=1)), Permit)


def test_a_purpose_that_rests_on_something_else_by_now_revives_no_agreement() -> None:
    """A token names the agreement it stands on: withdrawn, it stays withdrawn under whatever pack is adopted next."""
    policy = with_purpose(POLICY, OVERVIEW, basis=LegalBasis.LEGITIMATE_INTERESTS)
    named = replace(QUESTION, consent=CONSENT)
    gone = after(ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, False))
    ended = decide(named, replace(FACTS, policy=policy, consent=gone))
    assert isinstance(ended, Deny)
    assert set(ended.all_reasons) == {Reason.CONSENT_WITHDRAWN, Reason.BASIS_CHANGED}
    live = decide(named, replace(FACTS, policy=policy))
    assert isinstance(live, Deny)
    assert live.reason is Reason.BASIS_CHANGED
    assert isinstance(decide(QUESTION, replace(FACTS, policy=policy)), Permit), "without one the pack's basis counts"
