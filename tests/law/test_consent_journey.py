"""The question's pages: fixed stages, nothing preselected, refusal anywhere, answers checked before they count."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent import journey as jn
from consent.errors import UnfitError
from consent.events import AccessPath
from consent.journey import Back, Change, Choose, ChooseSource, Confirm, Continue, Fault, Outcome, Refuse, SteppedUp
from consent.policy import StageKind
from consent.record import Consent, fold
from tests.law.consent_desk import BALANCES, HEALTH, OLDER, POLICY, RECENT, with_purpose
from tests.law.test_consent_record import CONSENT, REQUESTED, TERMS


def asked(**changes: object) -> Consent:
    terms = replace(TERMS, **({"access_path": None} | changes))
    return fold(CONSENT, (replace(REQUESTED, terms=terms),))


PARTNER_OFFER = jn.offer(asked(), POLICY, POLICY.journeys["partner"])
OFFER = jn.offer(asked(), POLICY, POLICY.journeys["aggregation"])
BIG = ChooseSource("big", AccessPath.POA_LOGIN)
LITTLE = ChooseSource("little", AccessPath.POA_FEED)
CHOICE = Choose(frozenset({RECENT}), 180, attended_only=False)


def walk(offered: jn.Offer, *answers: jn.Answer) -> jn.Progress:
    at = jn.start(offered)
    for answer in answers:
        after = jn.step(offered, at, answer)
        assert isinstance(after, jn.Progress), (answer, after)
        at = after
    return at


def test_the_stages_are_fixed_and_numbered() -> None:  # consent rules 1, 2: the institution before the question
    kinds = [stage.kind for stage in OFFER.stages]
    assert kinds == [
        StageKind.INSTITUTION,
        StageKind.FACTS,
        StageKind.CHECK,
        StageKind.STEP_UP,
        StageKind.LEAVING,
        StageKind.RESULT,
    ]
    assert jn.place(OFFER, jn.start(OFFER)) == (1, 6)
    assert [stage.kind for stage in PARTNER_OFFER.stages] == [StageKind.FACTS, StageKind.CHECK, StageKind.RESULT]


def test_nothing_is_preselected() -> None:  # consent rule 5
    at = jn.start(OFFER)
    assert (at.institution, at.optional, at.period_days, at.attended_only, at.outcome) == (None,) * 5


def test_a_partners_question_ends_in_an_agreement() -> None:
    at = walk(PARTNER_OFFER, CHOICE, Confirm())
    assert (at.stage, at.outcome) == (StageKind.RESULT, Outcome.AGREED)
    assert jn.agreement(PARTNER_OFFER, at) == jn.Agreement(frozenset({RECENT}), 180, False, None, None)


def test_connecting_an_account_needs_a_step_up_and_then_leaves() -> None:  # consent rules 26, 33
    before = walk(OFFER, BIG, CHOICE, Confirm())
    assert (before.stage, before.outcome) == (StageKind.STEP_UP, None)
    assert jn.step(OFFER, before, Continue()) == (Fault.NOT_AT_THIS_STAGE,)
    at = walk(OFFER, BIG, CHOICE, Confirm(), SteppedUp())
    assert (at.stage, at.outcome) == (StageKind.LEAVING, Outcome.AGREED)
    agreed = jn.agreement(OFFER, at)
    assert (agreed.institution, agreed.access_path) == ("big", AccessPath.POA_LOGIN)
    assert walk(OFFER, BIG, CHOICE, Confirm(), SteppedUp(), Continue()).stage is StageKind.RESULT


def test_only_what_the_institution_can_give_is_listed() -> None:  # consent rule 2
    little = walk(OFFER, LITTLE)
    assert jn.listed(OFFER, little) == ({BALANCES}, {RECENT})
    assert jn.step(OFFER, little, Choose(frozenset({OLDER}), 180, False)) == (Fault.CATEGORY_NOT_OFFERED,)
    assert "loans" not in OFFER.sources
    fixed = jn.offer(asked(institution="little"), POLICY, POLICY.journeys["aggregation"])
    assert fixed.optional == {RECENT}
    assert fixed.sources == {}
    both = jn.offer(asked(needed=frozenset({BALANCES, OLDER})), POLICY, POLICY.journeys["aggregation"])
    assert jn.step(both, jn.start(both), LITTLE) == (Fault.INSTITUTION_LACKS_DATA,)


def test_all_faults_of_an_answer_are_said_at_once() -> None:
    at = jn.start(PARTNER_OFFER)
    both = jn.step(PARTNER_OFFER, at, Choose(frozenset({HEALTH}), None, False))
    assert both == (Fault.CATEGORY_NOT_OFFERED, Fault.PERIOD_MISSING)
    for days in (0, 2, 366, 9999):  # consent rule 13: of the short list
        assert jn.step(PARTNER_OFFER, at, Choose(frozenset(), days, False)) == (Fault.PERIOD_NOT_OFFERED,)
    assert jn.step(OFFER, jn.start(OFFER), ChooseSource("nowhere", AccessPath.POA_FEED)) == (Fault.INSTITUTION_UNKNOWN,)
    assert jn.step(OFFER, jn.start(OFFER), ChooseSource("big", AccessPath.POA_FEED)) == (Fault.PATH_NOT_OFFERED,)


def test_a_partners_period_is_a_ceiling() -> None:
    short = jn.offer(asked(longest_days=180), POLICY, POLICY.journeys["partner"])
    assert short.periods_days == (1, 180)


def test_every_choice_can_be_changed_from_the_check_page_and_leads_back_to_it() -> None:  # consent rule 25
    check = walk(PARTNER_OFFER, CHOICE)
    assert check.stage is StageKind.CHECK
    facts = jn.step(PARTNER_OFFER, check, Change(StageKind.FACTS))
    assert isinstance(facts, jn.Progress)
    assert facts.optional == {RECENT}  # answers are kept
    again = jn.step(PARTNER_OFFER, facts, Choose(frozenset(), 1, True))
    assert isinstance(again, jn.Progress)
    assert (again.stage, again.period_days, again.optional) == (StageKind.CHECK, 1, frozenset())
    assert jn.step(PARTNER_OFFER, check, Change(StageKind.RESULT)) == (Fault.NOT_AT_THIS_STAGE,)
    assert jn.step(PARTNER_OFFER, check, Change(StageKind.INSTITUTION)) == (Fault.NOT_AT_THIS_STAGE,)


def test_another_institution_that_cannot_give_the_choice_puts_the_question_again_empty() -> None:
    at = walk(OFFER, BIG, Choose(frozenset({OLDER}), 180, False), Change(StageKind.INSTITUTION), LITTLE)
    assert (at.stage, at.optional, at.period_days) == (StageKind.FACTS, None, None)
    kept = walk(OFFER, BIG, CHOICE, Change(StageKind.INSTITUTION), LITTLE)
    assert (kept.stage, kept.optional, kept.institution) == (StageKind.CHECK, {RECENT}, "little")


def test_back_keeps_answers_and_the_first_page_has_none() -> None:
    assert jn.step(OFFER, jn.start(OFFER), Back()) == (Fault.NOT_AT_THIS_STAGE,)
    at = walk(OFFER, BIG, CHOICE, Back())
    assert (at.stage, at.optional) == (StageKind.FACTS, {RECENT})


def test_refusing_is_possible_on_every_page_before_the_end_and_final() -> None:  # consent rules 7, 8
    for answers in ((), (BIG,), (BIG, CHOICE), (BIG, CHOICE, Confirm())):
        at = walk(OFFER, *answers, Refuse())
        assert (at.stage, at.outcome) == (StageKind.RESULT, Outcome.REFUSED)
        for more in (Confirm(), Continue(), Back(), BIG, Change(StageKind.FACTS), Refuse()):
            assert jn.step(OFFER, at, more) == (Fault.OVER,)
        with pytest.raises(UnfitError):
            jn.agreement(OFFER, at)


def test_a_journey_without_its_question_or_step_up_is_refused() -> None:
    bare = replace(POLICY.journeys["partner"], stages=POLICY.journeys["partner"].stages[:1])
    with pytest.raises(UnfitError):
        jn.offer(asked(), POLICY, bare)
    with pytest.raises(UnfitError):  # it connects an account, so it must ask for a passkey (consent rule 33)
        jn.offer(asked(institution="big"), POLICY, POLICY.journeys["partner"])
    relaxed = with_purpose(POLICY, TERMS.purpose, needs_sca=False)
    assert jn.offer(asked(institution="big"), relaxed, relaxed.journeys["partner"]).stages


_answers = st.one_of(
    st.sampled_from([BIG, LITTLE, Confirm(), SteppedUp(), Continue(), Refuse(), Back()]),
    st.builds(Change, st.sampled_from(StageKind)),
    st.builds(
        Choose,
        st.frozensets(st.sampled_from([BALANCES, RECENT, OLDER, HEALTH])),
        st.none() | st.sampled_from([1, 7, 180, 365, 366]),
        st.booleans(),
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_answers, max_size=14), st.booleans())
def test_no_path_agrees_to_what_was_not_offered_or_skips_a_page(answers: list[jn.Answer], partner: bool) -> None:
    offered = PARTNER_OFFER if partner else OFFER
    at, seen = jn.start(offered), []
    for answer in answers:
        after = jn.step(offered, at, answer)
        if isinstance(after, jn.Progress):
            seen.append(answer)
            assert jn.from_plain(jn.to_plain(after)) == after
            at = after
        else:
            assert after
    if at.outcome is Outcome.AGREED:
        agreed = jn.agreement(offered, at)
        assert agreed.period_days in offered.periods_days
        assert agreed.optional <= jn.listed(offered, at)[1]
        assert any(isinstance(answer, Confirm) for answer in seen)
        assert partner or (at.stepped_up and agreed.institution in offered.sources)


def test_a_spoiled_session_is_not_a_progress() -> None:
    plain = jn.to_plain(walk(PARTNER_OFFER, CHOICE))
    for spoiled in (plain | {"more": 1}, plain | {"stage": "moon"}, {}, plain | {"period_days": "180"}):
        with pytest.raises(UnfitError):
            jn.from_plain(spoiled)


def test_what_was_chosen_beside_a_fault_is_kept_and_leads_nowhere() -> None:  # consent rule 24
    at = walk(OFFER, BIG)
    faulty = Choose(frozenset({RECENT, HEALTH}), 7, attended_only=True)
    assert Fault.PERIOD_NOT_OFFERED in tuple(jn.step(OFFER, at, faulty) or ())  # type: ignore[arg-type]
    kept = jn.chosen(OFFER, at, faulty)
    assert kept == replace(at, optional=frozenset({RECENT}), period_days=None, attended_only=True)
    done = walk(OFFER, BIG, CHOICE)
    for where in (done, jn.start(OFFER), replace(at, outcome=Outcome.LAPSED)):
        assert jn.chosen(OFFER, where, faulty) == where, "on no other page"
    assert jn.chosen(OFFER, at, Refuse()) == at
