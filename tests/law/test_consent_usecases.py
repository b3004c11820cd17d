"""Give, refuse, withdraw, renew, rest, lapse, judge: each one unit of work on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consent import usecases
from consent.decision import Component, Deny, Keep, Permit, Standing
from consent.errors import ActorRefusedError, AskedTooSoonError, MoveRefusedError, NoSuchConsentError, UnfitError
from consent.events import (
    AccessPath,
    Actor,
    ActorKind,
    AuthoriserRule,
    Authorisers,
    Channel,
    EndReason,
    SuspensionReason,
)
from consent.policy import Notice
from consent.proposal import page_names
from consent.reasons import Reason
from consent.record import State
from consent.vocabulary import CategoryId, ConsentId, Locale, PurposeId
from tests.law.consent_desk import (
    AGREEMENT,
    ANNA,
    AUDIT,
    BALANCES,
    BANK,
    BRUNO,
    DAY,
    EVIDENCE,
    FAR,
    FAR_PARTNER,
    HERE,
    HOLDER,
    NOW,
    OLDER,
    OVERVIEW,
    PARTNER,
    PARTNER_ACTOR,
    POLICY,
    PROVEN,
    QUESTION,
    RECENT,
    RIVAL,
    STAFF,
    SUBJECT,
    SYSTEM,
    TEAM,
    THERE,
    Desk,
    desk_on,
    with_party,
    with_purpose,
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_on(f"sqlite:///{tmp_path / 'records.sqlite'}") as ready:
        yield ready


def kinds(desk: Desk) -> list[str]:
    return [entry[0] for entry in desk.books.entries]


def work(desk: Desk) -> list[str]:
    return [entry[0] for entry in desk.books.work]


def test_from_the_question_to_the_first_permit(desk: Desk) -> None:
    asked = desk.propose()
    assert asked.state is State.REQUESTED
    assert asked.readers == {PARTNER, HOLDER, TEAM}  # every processor and team for this purpose is named (rule 15)
    assert desk.judge(QUESTION).reason is Reason.CONSENT_REQUESTED
    desk.show(asked.id, gpc=True)
    given = desk.give(asked.id)
    assert (given.state, given.version) == (State.ACTIVE, 3)
    assert given.categories == {BALANCES, RECENT}
    assert given.valid_until == NOW + 180 * DAY
    assert kinds(desk) == ["consent.requested", "consent.shown", "consent.given"]
    shown = desk.books.entries[1][3]
    assert shown["gpc"] is True  # consent rule 59: the signal is logged
    assert shown["notice"] == "overview-fr"
    assert desk.books.work == [
        ("consent.receipt", f"{given.id}/3", None),  # consent rule 57
        ("consent.reminder", f"{given.id}/{NOW + 90 * DAY:%Y-%m-%d}", NOW + 90 * DAY),  # consent rule 50
    ]
    answer = desk.judge(QUESTION)
    assert isinstance(answer, Permit)
    assert (answer.consent, answer.version) == (given.id, 3)


def test_the_next_question_after_a_withdrawal_is_denied(desk: Desk) -> None:  # dsar rule 7, consent rules 35, 46
    given = desk.active()
    assert isinstance(desk.judge(QUESTION), Permit)
    ended = desk.withdraw(given.id, channel=Channel.SIGNED_LINK, delete_data=True)  # no step-up, a link is enough
    assert (ended.state, ended.end.channel, ended.delete_data) == (State.WITHDRAWN, Channel.SIGNED_LINK, True)
    answer = desk.judge(QUESTION)
    assert isinstance(answer, Deny)
    assert answer.reason is Reason.CONSENT_WITHDRAWN
    assert kinds(desk)[-1] == "consent.withdrawn"
    assert work(desk)[-2:] == ["consent.ended", "consent.receipt"]
    count = len(desk.books.entries)
    assert desk.withdraw(given.id).version == ended.version  # saying stop twice is nobody's fault
    assert len(desk.books.entries) == count


def test_a_party_or_an_agent_on_the_phone_passes_a_withdrawal_on(desk: Desk) -> None:  # consent rule 47
    for by, channel in ((PARTNER_ACTOR, Channel.API), (STAFF, Channel.PHONE)):
        ended = desk.withdraw(desk.active().id, by=by, channel=channel)
        assert (ended.state, ended.end.by) == (State.WITHDRAWN, by)


def test_leaving_before_the_commit_means_nothing_happened(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    given = desk.active()
    unit = desk.unit()
    entries, jobs = list(desk.books.entries), list(desk.books.work)

    def breaks(kind: str, **_: object) -> str:
        raise ConnectionError("the ledger is away")

    monkeypatch.setattr(unit, "record", breaks)
    with pytest.raises(ConnectionError):
        usecases.withdraw(unit, controller=HERE, consent=given.id, by=SUBJECT, channel=Channel.PAGE, at=NOW)
    assert desk.find(given.id).state is State.ACTIVE  # no entry, no action
    assert (desk.books.entries, desk.books.work) == (entries, jobs)


def test_what_does_not_concern_the_asker_does_not_exist(desk: Desk) -> None:
    given = desk.active()
    for by in (Actor(ActorKind.SUBJECT, BRUNO), Actor(ActorKind.PARTY, RIVAL)):
        with pytest.raises(NoSuchConsentError):
            desk.withdraw(given.id, by=by)
        with desk.unit() as unit, pytest.raises(NoSuchConsentError):
            usecases.read(unit, controller=HERE, consent=given.id, by=by)
    with pytest.raises(NoSuchConsentError):
        desk.withdraw(given.id, controller=THERE)
    with pytest.raises(NoSuchConsentError):
        desk.withdraw(ConsentId("con_none"))
    with desk.unit() as unit:
        record, history = usecases.read(unit, controller=HERE, consent=given.id, by=PARTNER_ACTOR)
    assert (record, len(history)) == (given, 3)


def test_two_controllers_never_mix(desk: Desk) -> None:  # consent.md section 1
    here = desk.active()
    far = usecases.propose(
        desk.unit(),
        desk.policy,
        replace(
            usecases.Proposal(HERE, ANNA, OVERVIEW, PARTNER),
            controller=THERE,
            subject=FAR,
            purpose=PurposeId("elsewhere"),
            party=FAR_PARTNER,
        ),
        ids=desk.ids,
        by=Actor(ActorKind.PARTY, FAR_PARTNER),
        channel=Channel.API,
        at=NOW,
    )
    assert desk.find(here.id, THERE) is None
    assert desk.find(far.id, HERE) is None
    listed = usecases.list_for_subject(desk.unit(), desk.policy, controller=THERE, subject=ANNA, at=NOW)
    assert listed == ()
    faults = pytest.raises(UnfitError)
    with faults as refused:
        desk.propose(controller=THERE)
    assert refused.value.faults == ("purpose_unknown",)
    with faults as refused:
        desk.propose(subject=FAR)
    assert refused.value.faults == ("subject_unknown",)
    with faults as refused:
        desk.propose(party=FAR_PARTNER, by=SUBJECT)
    assert refused.value.faults == ("party_not_granted",)


def test_a_refused_question_is_not_put_again_for_six_months(desk: Desk) -> None:  # consent rule 8
    asked = desk.propose()
    refused = usecases.refuse(desk.unit(), controller=HERE, consent=asked.id, by=SUBJECT, channel=Channel.PAGE, at=NOW)
    assert refused.state is State.REFUSED
    assert work(desk) == []
    with pytest.raises(AskedTooSoonError) as soon:
        desk.propose(at=NOW + 100 * DAY)
    assert soon.value.until.isoformat() == "2026-09-05T09:00:00+00:00"
    assert desk.propose(at=NOW + 100 * DAY, by=SUBJECT).state is State.REQUESTED  # the person starts it
    assert desk.propose(at=soon.value.until).state is State.REQUESTED
    assert desk.propose(by=SYSTEM, party=RIVAL).state is State.REQUESTED  # another's question is another question


def test_a_no_answers_the_partys_other_open_questions_alike(desk: Desk) -> None:  # consent rule 8
    first, again = desk.propose(), desk.propose()
    own, rival = desk.propose(by=SUBJECT), desk.propose(by=SYSTEM, party=RIVAL)
    usecases.refuse(desk.unit(), controller=HERE, consent=first.id, by=SUBJECT, channel=Channel.PAGE, at=NOW)
    states = [found.state for each in (first, again, own, rival) if (found := desk.find(each.id)) is not None]
    assert states == [State.REFUSED, State.REFUSED, State.REQUESTED, State.REQUESTED]


def test_a_proposal_is_refused_with_every_fault(desk: Desk) -> None:
    with pytest.raises(UnfitError) as refused:
        desk.propose(
            party=BANK,
            recipients=frozenset({FAR_PARTNER}),
            categories=frozenset({CategoryId("tax.notices")}),
            frequency_per_day=5,
            period_days=0,
            history_from=(NOW - 91 * DAY).date(),
            data_life_days=0,
            institution="nowhere",
            authorisers=Authorisers((ANNA, ANNA), AuthoriserRule.N_OF_M, 3),
            supersedes=ConsentId("con_none"),
            offer_days=0,
            subject=FAR,
        )
    assert set(refused.value.faults) == {
        "party_not_asking",
        "party_not_granted",
        "recipient_not_granted",
        "category_outside_purpose",
        "frequency_too_high",
        "period_too_short",
        "history_too_long",
        "data_life_too_short",
        "institution_unknown",
        "authorisers_unfit",
        "superseded_unknown",
        "offer_days_out_of_range",
        "subject_unknown",
    }
    assert desk.books.entries == []


def test_whom_a_question_will_name_is_known_before_it_is_put(desk: Desk) -> None:  # consent rules 15, 51
    asked = {"controller": HERE, "party": PARTNER, "at": NOW}
    assert page_names(desk.policy, purpose=OVERVIEW, **asked) == desk.propose().readers
    assert page_names(desk.policy, purpose=PurposeId("unheard_of"), **asked) == {PARTNER}


def test_where_the_answer_changes_nothing_nobody_is_asked(desk: Desk) -> None:
    with pytest.raises(UnfitError) as refused:
        desk.propose(purpose=AUDIT, party=HOLDER, by=SYSTEM)
    assert refused.value.faults == ("purpose_not_agreed_to",)
    desk.policy = with_purpose(POLICY, OVERVIEW, sells_data=True)
    with pytest.raises(UnfitError) as refused:
        desk.propose()
    assert refused.value.faults == ("purpose_sells_data",)
    desk.policy = with_party(POLICY, PARTNER, contract_end=NOW.date())
    with pytest.raises(UnfitError) as refused:
        desk.propose()
    assert refused.value.faults == ("party_not_granted",)


def test_an_erased_subject_is_not_asked(desk: Desk) -> None:
    desk.books.standings[ANNA] = Standing(HERE, erased=True)
    with pytest.raises(UnfitError):
        desk.propose()


def test_nothing_is_given_that_was_not_shown_or_not_offered(desk: Desk) -> None:
    asked = desk.propose(categories=frozenset({RECENT}), period_days=200)
    with pytest.raises(UnfitError) as refused:
        desk.give(
            asked.id,
            replace(AGREEMENT, optional=frozenset({OLDER}), period_days=365),
            evidence=replace(EVIDENCE, level=0),
        )
    assert refused.value.faults == ("page_not_shown", "category_not_offered", "period_not_offered", "level_too_low")
    desk.show(asked.id)
    assert desk.give(asked.id).state is State.ACTIVE


def test_a_mailbox_alone_connects_no_account(desk: Desk) -> None:  # consent rule 33
    asked = desk.propose()
    desk.show(asked.id)
    connecting = replace(AGREEMENT, institution="big", access_path=AccessPath.POA_LOGIN)
    with pytest.raises(UnfitError) as refused:
        desk.give(asked.id, connecting)
    assert refused.value.faults == ("step_up_missing",)
    assert desk.give(asked.id, connecting, evidence=PROVEN).institution == "big"


def test_words_released_since_the_request_are_asked_anew(desk: Desk) -> None:  # consent rule 58, revision
    asked = desk.propose()
    desk.show(asked.id)
    newer = with_purpose(POLICY, OVERVIEW, notice_version=2)
    words = {(OVERVIEW, 2, locale): Notice(OVERVIEW, 2, locale, "new", f"new-{locale}") for locale in Locale}
    desk.policy = replace(newer, notices={**newer.notices, **words})
    with pytest.raises(UnfitError) as refused:
        desk.give(asked.id)
    assert refused.value.faults == ("notice_changed",)
    with pytest.raises(UnfitError):
        desk.show(asked.id)


def test_showing_the_page_to_who_has_agreed_records_nothing(desk: Desk) -> None:  # consent rule 58
    given = desk.active()
    assert desk.show(given.id, locale=Locale.EN) == given


def test_showing_the_same_page_again_records_nothing(desk: Desk) -> None:
    asked = desk.propose()
    first = desk.show(asked.id)
    assert desk.show(asked.id, at=NOW + DAY).version == first.version
    other = desk.show(asked.id, locale=Locale.EN)
    assert (other.version, other.page.notice_digest) == (first.version + 1, "overview-en")
    assert len({desk.show(asked.id, template_digest=name).page for name in ("a", "b")}) == 2


def test_the_processor_list_as_shown_is_part_of_the_record(desk: Desk) -> None:  # consent.md section 3
    before = desk.show(desk.propose().id).page.processors_digest
    desk.policy = with_party(POLICY, HOLDER, country="ES")
    assert desk.show(desk.propose().id).page.processors_digest != before


def test_a_renewal_holds_the_old_until_the_new_is_given(desk: Desk) -> None:  # consent rules 48, 49
    old = desk.active()
    proposal = usecases.Proposal(HERE, ANNA, OVERVIEW, PARTNER, categories=frozenset({RECENT}), supersedes=old.id)
    new, change = usecases.renew(
        desk.unit(), desk.policy, proposal, ids=desk.ids, by=PARTNER_ACTOR, channel=Channel.API, at=NOW + DAY
    )
    assert change.same_scope is False  # a day later the history starts a day later: it is said
    assert change.changed == {"history_from"}
    assert desk.find(old.id).state is State.ACTIVE
    desk.show(new.id, NOW + DAY)
    assert desk.judge(replace(QUESTION, at=NOW + DAY)).consent == old.id
    desk.give(new.id, at=NOW + 2 * DAY)
    replaced = desk.find(old.id)
    assert (replaced.state, replaced.superseded_by) == (State.REPLACED, new.id)
    assert desk.judge(replace(QUESTION, at=NOW + 3 * DAY)).consent == new.id
    assert desk.judge(replace(QUESTION, at=NOW + 3 * DAY, consent=old.id)).reason is Reason.CONSENT_REPLACED


def test_a_new_consent_for_the_same_access_ends_the_former_one_and_no_other(desk: Desk) -> None:
    first, other = desk.active(connection="cnx_1"), desk.active(connection="cnx_2")
    second = desk.active(connection="cnx_1")
    assert [desk.find(one.id).state for one in (first, other, second)] == [
        State.REPLACED,
        State.ACTIVE,
        State.ACTIVE,
    ]


def test_silence_ends_and_never_renews(desk: Desk) -> None:  # consent rule 48
    given, asked = desk.active(), desk.propose()
    end = given.valid_until
    assert desk.judge(replace(QUESTION, at=end)).reason is Reason.CONSENT_EXPIRED  # before any sweep
    assert usecases.lapse(desk.unit(), at=NOW + 29 * DAY) == 0
    assert usecases.lapse(desk.unit(), at=end, limit=1) == 1
    assert usecases.lapse(desk.unit(), at=end) == 1
    assert usecases.lapse(desk.unit(), at=end) == 0
    assert [desk.find(one.id).state for one in (given, asked)] == [State.EXPIRED, State.EXPIRED]
    assert kinds(desk).count("consent.expired") == 2
    # nobody had agreed to the unanswered one, so nobody is told and no receipt is due
    assert [ref for kind, ref, _ in desk.books.work if kind == "consent.ended"] == [f"{given.id}/4"]


def test_resting_and_resuming(desk: Desk) -> None:
    given = desk.active()
    common = {"controller": HERE, "consent": given.id, "channel": Channel.PAGE, "at": NOW}
    pause = SuspensionReason.PAUSED_BY_SUBJECT
    usecases.suspend(desk.unit(), reason=pause, by=SUBJECT, **common)
    assert desk.judge(QUESTION).reason is Reason.CONSENT_SUSPENDED
    with pytest.raises(ActorRefusedError):
        usecases.resume(desk.unit(), reason=pause, by=STAFF, **common)
    with pytest.raises(MoveRefusedError):
        usecases.resume(desk.unit(), reason=SuspensionReason.SCA_DUE, by=SYSTEM, **common)
    assert usecases.resume(desk.unit(), reason=pause, by=SUBJECT, **common).state is State.ACTIVE
    assert isinstance(desk.judge(QUESTION), Permit)
    assert work(desk)[-2:] == ["consent.changed", "consent.changed"]


def test_the_other_ends(desk: Desk) -> None:
    def common(by: Actor = STAFF) -> dict[str, object]:
        return {"controller": HERE, "consent": desk.active().id, "by": by, "channel": Channel.PAGE, "at": NOW}

    reason = EndReason.IDENTITY_FAULTY
    assert usecases.end_by_controller(desk.unit(), reason=reason, **common()).state is State.ENDED_BY_CONTROLLER
    assert usecases.invalidate(desk.unit(), reason=reason, **common()).state is State.INVALIDATED
    assert usecases.end_at_holder(desk.unit(), **common(SYSTEM)).state is State.ENDED_AT_HOLDER
    with pytest.raises(ActorRefusedError):
        usecases.invalidate(desk.unit(), reason=reason, **common(PARTNER_ACTOR))
    less = usecases.narrow(desk.unit(), categories=frozenset({BALANCES}), **common(SUBJECT))
    assert (less.state, less.categories) == (State.ACTIVE, {BALANCES})
    asked = replace(QUESTION, categories=frozenset({RECENT}), consent=less.id)
    assert desk.judge(asked).reason is Reason.CATEGORY_NOT_CONSENTED


def test_the_list_keeps_what_ended_for_two_years(desk: Desk) -> None:  # consent rule 43
    given = desk.active()
    desk.withdraw(given.id)

    def listed(days: int) -> int:
        at = NOW + days * DAY
        return len(usecases.list_for_subject(desk.unit(), desk.policy, controller=HERE, subject=ANNA, at=at))

    assert (listed(0), listed(729), listed(730)) == (1, 1, 0)


def test_the_facts_come_from_every_room(desk: Desk) -> None:
    desk.active()
    reader = desk.books.components[QUESTION.component]
    desk.books.components[QUESTION.component] = replace(reader, suspended=True)
    assert desk.judge(QUESTION).reason is Reason.COMPONENT_SUSPENDED
    desk.books.components.clear()
    assert desk.judge(QUESTION).reason is Reason.COMPONENT_UNKNOWN
    desk.books.components[QUESTION.component] = reader
    desk.books.reads = 2
    unattended = replace(QUESTION, attended=False, opens_read=True)
    assert desk.judge(unattended).reason is Reason.FREQUENCY_EXCEEDED
    assert isinstance(desk.judge(replace(unattended, opens_read=False)), Permit)
    desk.books.standings.clear()
    assert desk.judge(QUESTION).reason is Reason.SUBJECT_UNKNOWN
    assert desk.judge(replace(QUESTION, purpose=PurposeId("invented"))).all_reasons


def test_a_holder_named_on_the_page_may_hold_and_the_best_fitting_consent_speaks(desk: Desk) -> None:
    given = desk.active()
    desk.propose()  # a newer, unanswered question does not shadow the consent in force
    desk.books.components[QUESTION.component] = Component(QUESTION.component, HOLDER, False, "NL", frozenset(Keep))
    answer = desk.judge(replace(QUESTION, party=HOLDER))
    assert isinstance(answer, Permit)
    assert answer.consent == given.id


def test_several_authorisers_over_the_use_cases(desk: Desk) -> None:
    asked = desk.propose(authorisers=Authorisers((ANNA, BRUNO)))
    desk.show(asked.id)
    assert desk.give(asked.id).state is State.REQUESTED
    assert work(desk) == []
    bruno = Actor(ActorKind.SUBJECT, BRUNO)
    assert desk.give(asked.id, by=bruno).state is State.ACTIVE
    assert desk.withdraw(asked.id, by=bruno).state is State.WITHDRAWN
