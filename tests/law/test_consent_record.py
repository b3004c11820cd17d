"""A consent is the fold of its events: final states are never left, silence never renews (consent rules 35-49, 56)."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent import events as ev
from consent.errors import ActorRefusedError, BrokenChainError, MoveRefusedError, UnreadableEventError
from consent.events import Actor, ActorKind, AuthoriserRule, Authorisers, Channel, EndReason, SuspensionReason
from consent.record import FINAL, State, differences, fold, next_reminder, visible
from consent.vocabulary import ConsentId, LegalBasis, Locale
from tests.law.consent_desk import (
    ANNA,
    BALANCES,
    BRUNO,
    DAY,
    EVIDENCE,
    HERE,
    HOLDER,
    NOW,
    OLDER,
    OVERVIEW,
    PARTNER,
    PARTNER_ACTOR,
    RECENT,
    STAFF,
    SUBJECT,
    SYSTEM,
)

CONSENT = ConsentId("con_1")
TERMS = ev.Terms(
    controller=HERE,
    subject=ANNA,
    purpose=OVERVIEW,
    basis=LegalBasis.CONSENT,
    party=PARTNER,
    needed=frozenset({BALANCES}),
    optional=frozenset({RECENT, OLDER}),
    recipients=frozenset({HOLDER}),
    authorisers=Authorisers((ANNA,)),
    notice_version=1,
    longest_days=365,
    history_from=NOW.date(),
    frequency_per_day=2,
    attended_only=False,
    data_life_days=None,
    access_path=ev.AccessPath.POA_FEED,
    institution=None,
    connection=None,
    mandate=None,
    supersedes=None,
    offer_until=NOW + 30 * DAY,
    proffered_terms=ev.ProfferedTerms("a", "roster", NOW, accepted=True, digest="d"),  # consent rule 60
)
REQUESTED = ev.Requested(NOW, PARTNER_ACTOR, Channel.API, TERMS)
PAGE = ev.Shown("n", "t", "c", "p", "pd", Locale.FR, gpc=True)


def given_by(person=ANNA, categories=frozenset({BALANCES, RECENT}), days: int = 100, at=NOW) -> ev.Given:
    by = Actor(ActorKind.SUBJECT, person)
    return ev.Given(
        at, by, Channel.PAGE, person, categories, at + days * DAY, False, None, ev.AccessPath.POA_FEED, EVIDENCE
    )


ACTIVE = (REQUESTED, ev.PageShown(NOW, SUBJECT, Channel.PAGE, PAGE), given_by())
_moments = st.integers(0, 200).map(lambda days: NOW + days * DAY)
_actors = st.sampled_from([SUBJECT, PARTNER_ACTOR, STAFF, SYSTEM, Actor(ActorKind.HOLDER, "big")])


def _any_event() -> st.SearchStrategy[ev.Event]:
    common = (_moments, _actors, st.sampled_from(Channel))
    categories = st.frozensets(st.sampled_from([BALANCES, RECENT, OLDER]))
    reasons = st.sampled_from(SuspensionReason)
    return st.one_of(
        st.builds(ev.Requested, *common, st.just(TERMS)),
        st.builds(ev.PageShown, *common, st.just(PAGE)),
        st.builds(given_by, st.just(ANNA), categories, st.integers(1, 365), _moments),
        st.builds(ev.Refused, *common),
        st.builds(ev.Withdrawn, *common, st.sampled_from([None, ANNA]), st.booleans()),
        st.builds(ev.Replaced, *common, st.just(ConsentId("con_2"))),
        st.builds(ev.Suspended, *common, reasons),
        st.builds(ev.Resumed, *common, reasons),
        st.builds(ev.Expired, *common),
        st.builds(ev.EndedByController, *common, st.sampled_from(EndReason)),
        st.builds(ev.EndedAtHolder, *common),
        st.builds(ev.Invalidated, *common, st.sampled_from(EndReason)),
        st.builds(ev.Narrowed, *common, categories),
    )


def test_a_page_shown_after_agreeing_is_not_the_page_agreed_on() -> None:  # consent rule 58
    other = dataclasses.replace(PAGE, locale=Locale.EN, notice_digest="n2")
    record = fold(CONSENT, (*ACTIVE, ev.PageShown(NOW, SUBJECT, Channel.PAGE, other)))
    assert (record.page, record.parts[0].page) == (PAGE, PAGE)


@settings(max_examples=400, deadline=None)
@given(st.lists(_any_event(), max_size=12))
def test_whatever_comes_a_final_state_is_never_left_and_categories_never_grow(coming: list[ev.Event]) -> None:
    record = fold(CONSENT, ACTIVE)
    history = list(ACTIVE)
    for event in coming:
        before = record
        try:
            record = record.apply(event)
        except (MoveRefusedError, ActorRefusedError):
            continue
        history.append(event)
        assert before.state not in FINAL
        assert before.state_at(event.at) not in FINAL or type(event) is ev.Expired
        assert record.categories <= before.categories
        assert record.version == before.version + 1
        assert (record.end is not None) == (record.state in FINAL)
        assert (record.state is State.SUSPENDED) == bool(record.suspensions)
        assert record.due_at is None or record.state not in FINAL
    assert fold(CONSENT, history) == record


@settings(max_examples=200, deadline=None)
@given(_any_event())
def test_an_event_survives_storage_and_equal_events_have_equal_digests(event: ev.Event) -> None:
    back = ev.from_plain(ev.to_plain(event))
    assert back == event
    assert type(back) is type(event)
    assert ev.link("0", CONSENT, 1, back) == ev.link("0", CONSENT, 1, event)
    assert ev.link("0", ConsentId("con_2"), 1, event) != ev.link("0", CONSENT, 1, event)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain | {"kind": "consent.invented"},
        lambda plain: plain | {"schema": 2},
        lambda plain: plain | {"more": 1},
        lambda plain: {**plain, "body": {**plain["body"], "more": 1}},
        lambda plain: {**plain, "body": {k: v for k, v in plain["body"].items() if k != "at"}},
        lambda plain: {**plain, "body": {**plain["body"], "categories": "accounts.balances"}},
        lambda plain: {**plain, "body": {**plain["body"], "attended_only": 1}},
        lambda plain: {**plain, "body": {**plain["body"], "valid_until": None}},
    ],
)
def test_an_event_of_another_shape_is_not_guessed_at(spoil) -> None:
    with pytest.raises(UnreadableEventError):
        ev.from_plain(spoil(ev.to_plain(given_by())))


def _chain(events: tuple[ev.Event, ...]) -> tuple[list[tuple[int, str, ev.Event]], str]:
    entries, head = [], ev.FIRST
    for version, event in enumerate(events, start=1):
        head = ev.link(head, CONSENT, version, event)
        entries.append((version, head, event))
    return entries, head


def test_an_edited_removed_moved_or_cut_history_is_found() -> None:  # consent rule 56
    entries, head = _chain(ACTIVE)
    assert ev.verify(CONSENT, entries, head=head) == ACTIVE
    edited = [*entries[:2], (3, entries[2][1], given_by(days=300))]
    for broken in (edited, entries[:2], entries[1:], [entries[1], entries[0], entries[2]], []):
        with pytest.raises(BrokenChainError):
            ev.verify(CONSENT, broken, head=head)


def test_expiry_is_seen_at_read_time_and_nothing_but_its_record_follows() -> None:  # consent rule 48
    record = fold(CONSENT, ACTIVE)
    end = record.valid_until
    assert record.state_at(end - timedelta(microseconds=1)) is State.ACTIVE
    assert record.state_at(end) is State.EXPIRED
    with pytest.raises(MoveRefusedError):
        record.apply(ev.Suspended(end, SUBJECT, Channel.PAGE, SuspensionReason.PAUSED_BY_SUBJECT))
    with pytest.raises(MoveRefusedError):
        record.apply(ev.Expired(end - DAY, SYSTEM, Channel.SCHEDULE))
    assert record.apply(ev.Expired(end, SYSTEM, Channel.SCHEDULE)).state is State.EXPIRED


def test_an_unanswered_request_lapses() -> None:
    record = fold(CONSENT, (REQUESTED,))
    assert record.state_at(TERMS.offer_until) is State.EXPIRED
    with pytest.raises(MoveRefusedError):
        record.apply(given_by(at=TERMS.offer_until))


def test_only_the_subject_resumes_what_the_subject_paused() -> None:  # consent.md section 3
    paused = fold(CONSENT, (*ACTIVE, ev.Suspended(NOW, SUBJECT, Channel.PAGE, SuspensionReason.PAUSED_BY_SUBJECT)))
    for other in (STAFF, SYSTEM, PARTNER_ACTOR, Actor(ActorKind.SUBJECT, BRUNO)):
        with pytest.raises(ActorRefusedError):
            paused.apply(ev.Resumed(NOW, other, Channel.PAGE, SuspensionReason.PAUSED_BY_SUBJECT))
    both = paused.apply(ev.Suspended(NOW, SYSTEM, Channel.SCHEDULE, SuspensionReason.SCA_DUE))
    half = both.apply(ev.Resumed(NOW, SYSTEM, Channel.SCHEDULE, SuspensionReason.SCA_DUE))
    assert half.state is State.SUSPENDED
    assert half.apply(ev.Resumed(NOW, SUBJECT, Channel.PAGE, SuspensionReason.PAUSED_BY_SUBJECT)).state is State.ACTIVE
    with pytest.raises(MoveRefusedError):
        half.apply(ev.Resumed(NOW, SYSTEM, Channel.SCHEDULE, SuspensionReason.SCA_DUE))


def test_nobody_gives_for_another_and_what_is_needed_cannot_be_left_out() -> None:
    record = fold(CONSENT, (REQUESTED,))
    with pytest.raises(MoveRefusedError):
        record.apply(given_by(categories=frozenset({RECENT})))
    with pytest.raises(ActorRefusedError):
        record.apply(given_by(person=BRUNO))
    with pytest.raises(ActorRefusedError):
        record.apply(dataclasses.replace(given_by(), by=STAFF))


@pytest.mark.parametrize(
    ("rule", "n", "after_one", "after_two", "after_one_left"),
    [
        (AuthoriserRule.ALL, None, State.REQUESTED, State.ACTIVE, State.WITHDRAWN),
        (AuthoriserRule.ANY, None, State.ACTIVE, State.ACTIVE, State.ACTIVE),
        (AuthoriserRule.N_OF_M, 2, State.REQUESTED, State.ACTIVE, State.WITHDRAWN),
    ],
)
def test_several_authorisers_each_give_and_end_their_part(rule, n, after_one, after_two, after_one_left) -> None:
    people = Authorisers((ANNA, BRUNO), rule, n)
    request = dataclasses.replace(REQUESTED, terms=dataclasses.replace(TERMS, authorisers=people))
    one = fold(CONSENT, (request, given_by(ANNA)))
    assert one.state is after_one
    two = one.apply(given_by(BRUNO, frozenset({BALANCES, OLDER}), days=10))
    assert two.state is after_two
    assert two.categories == {BALANCES}  # what all live parts agree on
    assert two.valid_until == NOW + 10 * DAY
    with pytest.raises(MoveRefusedError):
        two.apply(given_by(BRUNO))
    leaves = ev.Withdrawn(NOW, Actor(ActorKind.SUBJECT, BRUNO), Channel.PAGE, BRUNO, False)
    assert two.apply(leaves).state is after_one_left
    with pytest.raises(ActorRefusedError):
        two.apply(dataclasses.replace(leaves, authoriser=ANNA))
    whole = ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, False)
    assert two.apply(whole).state is State.WITHDRAWN


def test_a_party_that_the_consent_does_not_name_ends_nothing() -> None:
    record = fold(CONSENT, ACTIVE)
    foreign = ev.Withdrawn(NOW, Actor(ActorKind.PARTY, "rival"), Channel.API, None, False)
    with pytest.raises(ActorRefusedError):
        record.apply(foreign)
    ended = record.apply(dataclasses.replace(foreign, by=PARTNER_ACTOR))
    assert (ended.end.by, ended.end.channel) == (PARTNER_ACTOR, Channel.API)  # who and how is part of the state


def test_narrowing_below_what_is_needed_ends_it() -> None:
    record = fold(CONSENT, ACTIVE)
    assert record.apply(ev.Narrowed(NOW, SUBJECT, Channel.PAGE, frozenset({BALANCES}))).categories == {BALANCES}
    gone = record.apply(ev.Narrowed(NOW, SUBJECT, Channel.PAGE, frozenset({RECENT})))
    assert gone.state is State.WITHDRAWN


def test_a_history_must_begin_with_a_request() -> None:
    for history in ((), (given_by(),), (REQUESTED, REQUESTED)):
        with pytest.raises(MoveRefusedError):
            fold(CONSENT, history)


def test_reminders_come_every_90_days_and_14_and_3_days_before_the_end() -> None:  # consent rules 48, 50
    record = fold(CONSENT, (REQUESTED, given_by(days=180)))
    due, after = [], NOW
    while (after := next_reminder(record, after, before_days=(14, 3), every_days=90)) is not None:
        due.append((after - NOW).days)
    assert due == [90, 166, 177]
    ended = record.apply(ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, False))
    assert next_reminder(ended, NOW, before_days=(14, 3), every_days=90) is None


def test_ended_consents_stay_visible_for_two_years() -> None:  # consent rule 43
    record = fold(CONSENT, (*ACTIVE, ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, False)))
    assert visible(record, NOW + 729 * DAY, 730)
    assert not visible(record, NOW + 730 * DAY, 730)


def test_a_renewal_marks_each_change() -> None:  # consent rule 49
    record = fold(CONSENT, ACTIVE)
    same = differences(record, dataclasses.replace(TERMS, optional=frozenset({RECENT})))
    assert same.same_scope
    wider = differences(record, dataclasses.replace(TERMS, longest_days=90, recipients=frozenset()))
    assert (wider.added, wider.gone_readers, wider.changed) == ({OLDER}, {HOLDER}, {"longest_days"})
    assert not wider.same_scope
