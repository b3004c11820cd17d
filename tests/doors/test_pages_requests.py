"""Requests in the person's space: asked, followed, taken back, the copy fetched, the erasure certified."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.http import casewords
from app.store.certificates import CertificateLink
from consent.vocabulary import Locale, SubjectRef
from dsar import usecases
from dsar.case import State
from dsar.clock import ExtensionReason
from dsar.errors import CaseChanged
from dsar.rights import RIGHTS
from dsar.vocabulary import (
    REQUIRED_PARTS,
    Actor,
    CaseId,
    Ground,
    MessageKind,
    Method,
    Outcome,
    Right,
)
from tests.doors.pages_house import MAILBOX, Town, Visitor, token_in, use_passkey
from tests.doors.request_house import CHECK, Work, ask, send, strong

OTHER = "bo.other@example.org"
AGENT = Actor("stf_agent", human=True)


@pytest.fixture
def work(town: Town) -> Work:
    return Work(town)


@pytest.fixture
def ana(town: Town, visitor: Visitor) -> tuple[Visitor, SubjectRef, Any]:
    """Somebody signed in with a passkey."""
    subject = town.enrol()
    return visitor, subject, strong(town, visitor, subject)


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True)))


def fresh(town: Town, visitor: Visitor, passkey: Any) -> None:
    assert use_passkey(visitor, passkey).status_code == 303


# Asking


def test_all_nine_rights_are_offered_each_saying_what_it_does_and_does_not(town: Town, visitor: Visitor) -> None:
    """Dsar rules 1-3: no motive, several at once, every right."""
    town.enrol()
    visitor.sign_in(town)
    page = visitor.get("/me/requests/new").get_data(as_text=True)
    assert re.findall(r'name="right" value="(\w+)"', page)[:2] == ["access", "erasure"]
    assert set(re.findall(r'name="right" value="(\w+)"', page)) == {right.value for right in Right}
    with town.app().test_request_context("/en/"):
        for right in Right:
            assert all(str(sentence) in page.replace("&#39;", "'") for sentence in casewords.right_meaning(right))
    assert "required" not in page


def test_a_request_opens_with_a_passkey_and_says_its_date(town: Town, ana: Any, work: Work) -> None:
    """Dsar rules 1, 3, 21, 25: one case, one clock, one line a right; the passkey is the proof, nothing else asked."""
    visitor, subject, _ = ana
    case = ask(visitor, "access", "erasure", text="Everything since 2020 <b>please</b>")
    found = work.case(case)
    assert (found.subject, found.controller) == (subject, town.house.controller)
    assert [line.right for line in found.lines.values()] == [Right.ACCESS, Right.ERASURE]
    assert [proof.method for proof in found.proofs] == [Method.PASSKEY]
    assert found.state is State.VERIFIED
    page = visitor.get(f"/me/requests/{case}")
    with work.desk() as desk:
        due = usecases.dates_of(desk, found).due_strict
    with town.app().test_request_context("/en/"):
        from app.http.locale import day

        assert day(due) in text(page)
        assert day(due) in text(visitor.get("/me/requests"))
    assert "Everything since 2020 &lt;b&gt;please&lt;/b&gt;" in page.get_data(as_text=True)
    assert case in text(page)
    entries = [each.entry for each in work_history(work, case)]
    assert entries, "every event has its ledger entry"
    assert all(entries)


def work_history(work: Work, case: CaseId) -> Any:
    with work.desk() as desk:
        return usecases.timeline(desk, case)


def test_an_erasure_says_what_is_kept_and_why_before_it_is_sent(town: Town, ana: Any) -> None:
    """Dsar rules 48, 49: every retention of this controller's purposes, with reason and text of law."""
    visitor, _, _ = ana
    page = text(visitor.get(f"{CHECK}?right=erasure")).replace("&#39;", "'")
    policy = town.house.policy
    kept = [
        rule
        for rule in policy.retentions
        if rule.on_erasure == "retain" and policy.purposes[rule.purpose].controller == town.house.controller
    ]
    assert kept
    assert all(rule.reason[Locale.EN] in page and rule.legal_ref in page for rule in kept)
    assert "What serves only against money laundering" in page  # rule 42: said to everyone, of nobody
    assert "You get your copy first" not in page
    both = text(visitor.get(f"{CHECK}?right=erasure&right=access"))
    assert "You get your copy first" in both
    assert kept[0].reason[Locale.EN] not in text(visitor.get(f"{CHECK}?right=access"))


@pytest.mark.parametrize("query", ["", "right=", "right=everything", "right=access&right=nonsense"])
def test_no_right_or_an_unknown_one_opens_nothing(town: Town, ana: Any, query: str) -> None:
    visitor, _, _ = ana
    answer = visitor.get(f"{CHECK}?{query}")
    assert answer.status_code == 422
    assert "Choose at least one" in text(answer)
    token = token_in(visitor.get(f"{CHECK}?right=access").get_data(as_text=True))
    sent = visitor.client.post(f"/en{CHECK}", data={"form_token": token, "right": query.rpartition("=")[2]})
    assert sent.status_code == 422
    assert "You have not asked for anything yet." in text(visitor.get("/me/requests"))


def test_a_text_too_long_is_kept_for_the_person_and_sent_nowhere(ana: Any) -> None:
    visitor, _, _ = ana
    answer = send(visitor, "access", text="a" * 4001)
    assert answer.status_code == 422
    assert "a" * 4001 in answer.get_data(as_text=True)
    assert "You have not asked for anything yet." in text(visitor.get("/me/requests"))


def test_what_was_written_is_sealed(town: Town, ana: Any, work: Work) -> None:
    """Dsar rule 59: the log keeps facts; the words are sealed under the person's own key."""
    visitor, _, _ = ana
    ask(visitor, "access", text="a sentence nobody else may read")
    files = [path for path in town.house.settings.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if b"a sentence nobody" in path.read_bytes()]


def test_the_same_again_is_linked_not_opened(town: Town, ana: Any, work: Work) -> None:
    """Dsar rule 9: the first one's date, no new clock, no silent drop; a form sent twice opens one case."""
    visitor, subject, passkey = ana
    case = ask(visitor, "access")
    town.clock.forward(days=3)
    visitor.sign_in(town)
    fresh(town, visitor, passkey)
    again = send(visitor, "access")
    assert again.status_code == 200
    assert "You already asked for this" in text(again)
    assert case in again.get_data(as_text=True)
    mixed = send(visitor, "access", "erasure")
    assert mixed.status_code == 200
    assert "Your request was sent" in text(mixed)
    with work.desk() as desk:
        found = desk.cases.of_subject(town.house.controller, subject)
        dates = {one.case: usecases.dates_of(desk, desk.cases.get(one.case)).due_strict for one in found}
    assert len(found) == 2
    with town.app().test_request_context("/en/"):
        from app.http.locale import day

        assert day(dates[case]) in text(again)
    assert "You asked again." in text(visitor.get(f"/me/requests/{case}"))


def test_two_equal_forms_that_race_end_as_one_case(
    town: Town, ana: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loser of the race reads again and is told of the winner's case (dsar rule 9)."""
    from app.http import cases

    visitor, subject, _ = ana
    won: list[CaseId] = []
    real = cases._open

    def losing(rights: Any, words: str) -> Any:
        opened = real(rights, words)
        if not won:
            won.append(opened.case)
            raise CaseChanged("another one was first")
        return opened

    monkeypatch.setattr(cases, "_open", losing)
    answer = send(visitor, "access")
    assert "You already asked for this" in text(answer)
    assert won[0] in answer.get_data(as_text=True)
    with work.desk() as desk:
        assert len(desk.cases.of_subject(town.house.controller, subject)) == 1


# Levels


@pytest.mark.parametrize("right", [right.value for right in Right])
def test_only_what_needs_more_than_the_mailbox_asks_for_the_passkey(
    town: Town, visitor: Visitor, work: Work, right: str
) -> None:
    """Dsar rules 7, 8, 26 and section 1.3: never more proof than the right needs, never less."""
    town.enrol()
    town.clock.forward(days=31)  # an address known for less proves less (dsar rule 27)
    visitor.sign_in(town)
    answer = visitor.get(f"{CHECK}?right={right}")
    if right in {"marketing_objection", "withdrawal", "restriction"}:
        assert answer.status_code == 200
        found = work.case(ask(visitor, right))
        assert [proof.method for proof in found.proofs] == [Method.EMAIL_LINK]
    else:
        assert answer.status_code == 303
        assert answer.location.startswith("/en/me/step-up?next=/en/me/requests/new/check")


def test_an_address_known_for_days_asks_for_the_passkey_instead_of_waiting_in_silence(
    town: Town, visitor: Visitor, work: Work
) -> None:
    """Dsar rules 26, 27, 51: it proves one level less; said before anything is sent, and with a passkey it binds."""
    subject = town.enrol()
    passkey = strong(town, visitor, subject)
    visitor.post("/sign-out", page="/me")
    town.clock.forward(days=3)
    visitor.sign_in(town)
    needed = re.split(r"<li>", visitor.get("/me/requests/new").get_data(as_text=True))
    assert [("Needs your passkey." in each) for each in needed if 'value="restriction"' in each] == [True]
    assert [("Needs your passkey." in each) for each in needed if 'value="withdrawal"' in each] == [False]
    asked = visitor.get(f"{CHECK}?right=restriction")
    assert (asked.status_code, send(visitor, "restriction", at=f"{CHECK}?right=withdrawal").status_code) == (303, 403)
    with work.desk() as desk:
        assert desk.cases.of_subject(town.house.controller, subject) == []
    fresh(town, visitor, passkey)
    assert work.case(ask(visitor, "restriction")).state is State.VERIFIED
    with work.desk() as desk:
        assert len(desk.agreements.limits.restrictions(town.house.controller, subject)) == 1


def test_a_form_from_an_e_mail_session_opens_nothing(town: Town, visitor: Visitor, work: Work) -> None:
    """Consent.md section 6: a stolen mailbox yields no copy and no erasure."""
    subject = town.enrol()
    visitor.sign_in(town)
    answer = send(visitor, "erasure", at=f"{CHECK}?right=withdrawal")
    assert answer.status_code == 403
    assert "Your passkey is needed here" in text(answer)
    with work.desk() as desk:
        assert desk.cases.of_subject(town.house.controller, subject) == []


def test_the_way_through_the_step_up_comes_back_with_the_choice(town: Town, visitor: Visitor) -> None:
    subject = town.enrol()
    passkey = strong(town, visitor, subject)
    visitor.post("/sign-out", page="/me")
    visitor.sign_in(town)
    asked = visitor.get(f"{CHECK}?right=access&right=erasure")
    back = use_passkey(visitor, passkey, asked.location, next=f"/en{CHECK}?right=access&right=erasure")
    assert back.location == f"/en{CHECK}?right=access&right=erasure"
    assert visitor.get(back.location).status_code == 200


@pytest.mark.parametrize("path", ["/me/requests", "/me/requests/new", f"{CHECK}?right=access", "/me/requests/case_x"])
def test_nobody_looks_in_without_signing_in(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 303
    assert "/sign-in?next=" in answer.location


def test_an_e_mail_session_sees_where_it_stands_and_not_what_was_written(town: Town, ana: Any, work: Work) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "access", text="my secret words")
    weak = Visitor(town.app())
    weak.sign_in(town)
    page = weak.get(f"/me/requests/{case}")
    assert page.status_code == 200
    assert "my secret words" not in page.get_data(as_text=True)
    assert "my secret words" in text(visitor.get(f"/me/requests/{case}"))


# Other people's, malformed


@pytest.mark.parametrize("tail", ["", "/take-back", "/copy", "/copy/files", "/certificate.json"])
def test_somebody_elses_request_is_unknown(town: Town, ana: Any, work: Work, tail: str) -> None:
    """404 where saying 403 would reveal existence."""
    visitor, _, _ = ana
    case = ask(visitor, "access")
    work.hand_over(case)
    stranger = Visitor(town.app())
    strong(town, stranger, town.enrol(OTHER, "Bo Other"), OTHER)
    before = len(work_history(work, case))
    answer, unknown = stranger.get(f"/me/requests/{case}{tail}"), stranger.get(f"/me/requests/case_none{tail}")
    assert answer.status_code == unknown.status_code == 404
    assert text(answer).replace(case, "") == text(unknown).replace("case_none", "")
    token = token_in(stranger.get("/me").get_data(as_text=True))
    taken = stranger.client.post(f"/en/me/requests/{case}/take-back", data={"form_token": token})
    assert taken.status_code == 404
    assert len(work_history(work, case)) == before


@pytest.mark.parametrize("ident", ["x", "case_", "case_%00", "..%2f..%2fetc", "case_" + "a" * 300, "ça"])
def test_a_malformed_id_is_not_found(ana: Any, ident: str) -> None:
    visitor, _, _ = ana
    assert visitor.get(f"/me/requests/{ident}").status_code == 404
    assert visitor.get(f"/me/requests/{ident}/copy").status_code == 404


# Taking back


def test_a_request_is_taken_back_while_nothing_is_decided(ana: Any, work: Work) -> None:
    """Dsar rule 60: it ends with a notice, not in silence."""
    visitor, _, _ = ana
    case = ask(visitor, "access")
    assert "Take the request back" in text(visitor.get(f"/me/requests/{case}"))
    done = visitor.post(f"/me/requests/{case}/take-back")
    assert done.status_code == 303
    work.post(case)
    found = work.case(case)
    assert [line.outcome for line in found.lines.values()] == [Outcome.WITHDRAWN_BY_SUBJECT]
    assert [message.kind for message in found.messages.values()] == [MessageKind.END_NOTICE]
    page = text(visitor.get(f"/me/requests/{case}"))
    assert "You took the request back." in page
    assert "Your request is taken back" in page


def test_what_is_decided_cannot_be_taken_back(ana: Any, work: Work) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "access")
    token = token_in(visitor.get(f"/me/requests/{case}/take-back").get_data(as_text=True))
    work.hand_over(case)
    before = len(work_history(work, case))
    answer = visitor.client.post(f"/en/me/requests/{case}/take-back", data={"form_token": token})
    assert answer.status_code == 409
    assert "This is no longer possible" in text(answer)
    assert "cannot be taken back" in text(visitor.get(f"/me/requests/{case}/take-back"))
    assert len(work_history(work, case)) == before


def test_a_mailbox_alone_takes_no_erasure_back(town: Town, ana: Any, work: Work) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "erasure")
    weak = Visitor(town.app())
    weak.sign_in(town)
    assert weak.get(f"/me/requests/{case}/take-back").location.startswith("/en/me/step-up")
    token = token_in(weak.get("/me").get_data(as_text=True))
    assert weak.client.post(f"/en/me/requests/{case}/take-back", data={"form_token": token}).status_code == 403
    assert work.case(case).state is State.VERIFIED


# The copy


def test_a_copy_is_nobodys_before_its_answer_has_left(town: Town, ana: Any, work: Work) -> None:
    """Sealed, even approved, is not handed over: the reply comes first."""
    visitor, _, passkey = ana
    case = ask(visitor, "access")
    work.acknowledge(case)
    work.search(case)
    work.seal(case)
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 404
    work.decide(case, Right.ACCESS)
    work.approve(case)
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 404
    assert "Granted." not in text(visitor.get(f"/me/requests/{case}"))
    work.reply(case, Right.ACCESS)
    fresh(town, visitor, passkey)
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 200
    assert "Granted." in text(visitor.get(f"/me/requests/{case}"))


def test_a_copy_is_handed_over_counted_and_kept_by_nobody(town: Town, ana: Any, work: Work) -> None:
    """Dsar rule 58: portal, re-authentication, counted; the first download moves the case on."""
    visitor, subject, _ = ana
    case = ask(visitor, "access")
    package = work.hand_over(case)
    assert "Your copy is ready." in text(visitor.get(f"/me/requests/{case}"))
    listed = visitor.get(f"/me/requests/{case}/copy/files")
    assert "data.json" in text(listed)
    assert "copy.pdf" in text(listed)
    assert not work.case(case).fetched, "looking at the list is no download"
    assert visitor.client.head(f"/en/me/requests/{case}/copy").status_code == 200
    assert not work.case(case).fetched
    got = visitor.get(f"/me/requests/{case}/copy")
    assert (got.status_code, got.mimetype) == (200, "application/zip")
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["Content-Disposition"] == f'attachment; filename="{case}.zip"'
    assert got.data[:2] == b"PK"
    assert work.case(case).fetched == {package}
    recorded = [each for each in work_history(work, case) if type(each.event).__name__ == "CopyFetched"]
    assert [each.event.by for each in recorded] == [subject]
    assert all(each.entry for each in recorded)
    assert "You downloaded the copy." in text(visitor.get(f"/me/requests/{case}"))


def test_each_download_is_in_the_ledger(town: Town, ana: Any, work: Work) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "access")
    work.hand_over(case)
    before = town.house.ledger.waiting()
    for _ in range(3):
        assert visitor.get(f"/me/requests/{case}/copy").status_code == 200
    assert town.house.ledger.waiting() == before + 3


@pytest.mark.parametrize("tail", ["/copy", "/copy/files"])
def test_a_copy_needs_the_passkey_within_five_minutes(town: Town, ana: Any, work: Work, tail: str) -> None:
    visitor, _, passkey = ana
    case = ask(visitor, "access")
    work.hand_over(case)
    town.clock.forward(minutes=5, seconds=1)
    answer = visitor.get(f"/me/requests/{case}{tail}")
    assert answer.status_code == 303
    assert answer.location == f"/en/me/step-up?next=/en/me/requests/{case}{tail}"
    assert not work.case(case).fetched
    weak = Visitor(town.app())
    weak.sign_in(town)
    assert weak.get(f"/me/requests/{case}{tail}").location.startswith("/en/me/step-up")
    fresh(town, visitor, passkey)
    assert visitor.get(f"/me/requests/{case}{tail}").status_code == 200


def test_a_copy_ends_on_its_day(town: Town, ana: Any, work: Work) -> None:
    """Dsar rule 58: 30 days in the pack."""
    visitor, _, passkey = ana
    case = ask(visitor, "access")
    package = work.hand_over(case)
    with work.desk() as desk:
        ends = desk.cases.package(package).expires_at
    town.clock.at = ends - timedelta(seconds=1)
    visitor.sign_in(town)
    fresh(town, visitor, passkey)
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 200
    town.clock.at = ends
    for purge in (False, True):
        if purge:
            with work.desk() as desk:
                usecases.expire_copy(desk, package)
        answer = visitor.get(f"/me/requests/{case}/copy")
        assert answer.status_code == 410
        assert "This copy is no longer here" in text(answer)
        assert "Your copy was here until" in text(visitor.get(f"/me/requests/{case}")), "purged or not yet (rule 59)"


def test_a_revoked_copy_is_gone_and_says_so(town: Town, ana: Any, work: Work) -> None:
    """Dsar rule 53: an old link returns 410."""
    visitor, _, _ = ana
    case = ask(visitor, "access")
    package = work.hand_over(case)
    with work.desk() as desk:
        desk.cases.revoke_package(package, desk.clock.now())
    for tail in ("/copy", "/copy/files"):
        answer = visitor.get(f"/me/requests/{case}{tail}")
        assert answer.status_code == 410
        assert "This copy was destroyed" in text(answer)
    assert "Your copy was destroyed on" in text(visitor.get(f"/me/requests/{case}"))


def test_a_copy_of_another_line_or_none_is_not_found(ana: Any, work: Work) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "access", "erasure")
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 404
    work.acknowledge(case)
    gone = work.line(case, Right.ERASURE)
    assert visitor.get(f"/me/requests/{case}/copy/{gone}").status_code == 404
    assert visitor.get(f"/me/requests/{case}/copy/line_none").status_code == 404


# What we say


def test_every_message_says_what_its_kind_has_to(town: Town, ana: Any, work: Work) -> None:
    """Dsar rules 42, 57: the parts each kind of letter owes, in the page a person reads."""
    visitor, _, _ = ana
    case = ask(visitor, "access", "erasure")
    work.acknowledge(case)
    with work.desk() as desk:
        usecases.extend(desk, case, ExtensionReason.VOLUME, 1, AGENT)
    work.post(case)
    work.search(case)
    work.seal(case)
    work.decide(case, Right.ACCESS)
    work.decide(case, Right.ERASURE, Outcome.REFUSED, Ground.NO_ERASURE_GROUND)
    work.approve(case)
    work.reply(case, Right.ACCESS)
    work.reply(case, Right.ERASURE)
    page = visitor.get(f"/me/requests/{case}").get_data(as_text=True)
    letters = re.findall(r'data-testid="letter" data-kind="(\w+)">(.*?)</section>', page, re.DOTALL)
    assert {kind for kind, _ in letters} == {"acknowledgement", "extension_notice", "reply", "refusal"}
    for kind, body in letters:
        parts = set(re.findall(r'data-part="(\w+)"', body))
        assert {part.value for part in REQUIRED_PARTS[MessageKind(kind)]} <= parts, kind
    refusal = dict(letters)["refusal"]
    assert "None of the reasons the law gives for erasing applies." in refusal
    assert "court" in refusal
    amls = set(re.findall(r'data-part="aml_indirect_access"[^>]*>(.*?)</p>', page))
    assert len(amls) == 1, "the same sentence in every reply (dsar rule 42)"


def test_questions_wait_for_the_passkey_to_be_read(town: Town, ana: Any, work: Work) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "access")
    with work.desk() as desk:
        usecases.ask_clarification(desk, case, text="Which of your accounts, please?", by=AGENT)
    work.post(case)
    strong_page, weak = text(visitor.get(f"/me/requests/{case}")), Visitor(town.app())
    weak.sign_in(town)
    weak_page = text(weak.get(f"/me/requests/{case}"))
    assert "Which of your accounts, please?" in strong_page
    assert "Which of your accounts" not in weak_page
    assert "Confirm with your passkey to read it." in weak_page
    assert "waiting for you" in weak_page


def test_nothing_staff_have_not_sent_is_shown(ana: Any, work: Work) -> None:
    """A decision under review is nobody's answer yet."""
    visitor, _, _ = ana
    case = ask(visitor, "access", "erasure")
    work.acknowledge(case)
    work.search(case)
    work.seal(case)
    work.decide(case, Right.ACCESS)
    work.decide(case, Right.ERASURE, Outcome.REFUSED, Ground.NO_ERASURE_GROUND)
    page = text(visitor.get(f"/me/requests/{case}"))
    assert "Refused." not in page
    assert "Granted." not in page
    assert "None of the reasons" not in page


@pytest.mark.parametrize("locale", [locale.value for locale in Locale])
def test_every_code_has_words_in_every_language(town: Town, locale: str) -> None:
    with town.app().test_request_context(f"/{locale}/"):
        said = [casewords.ground(ground) for ground in Ground]
        said += [casewords.outcome(outcome) for outcome in Outcome]
        said += [casewords.message(kind) for kind in MessageKind]
        said += [casewords.extension(reason) for reason in ExtensionReason]
        said += [word for state in State for word in casewords.state(state)]
        said += [word for right in RIGHTS for word in (casewords.right_name(right), *casewords.right_meaning(right))]
    assert all(said)


@pytest.mark.parametrize("locale", [locale.value for locale in Locale])
def test_the_pages_speak_four_languages(town: Town, ana: Any, work: Work, locale: str) -> None:
    visitor, _, _ = ana
    case = ask(visitor, "access")
    work.hand_over(case)
    for path in ("", "/new", "/new/check?right=erasure", f"/{case}", f"/{case}/take-back", f"/{case}/copy/files"):
        page = visitor.get(f"/{locale}/me/requests{path}")
        assert page.status_code == 200, path
        assert f'<html lang="{locale}">' in page.get_data(as_text=True)


def test_the_space_leads_to_the_requests(ana: Any) -> None:
    visitor, _, _ = ana
    home = visitor.get("/me").get_data(as_text=True)
    assert home.count('href="/en/me/requests"') == 2, "in the menu and as a room"


# After an erasure


@pytest.fixture
def erased(town: Town, ana: Any, work: Work) -> tuple[CaseId, str, str]:
    """An erasure carried out; returns case, erasure and the token of its link."""
    visitor, _, _ = ana
    case = ask(visitor, "erasure")
    work.acknowledge(case)
    work.search(case)
    work.decide(case, Right.ERASURE, Outcome.PARTLY_GRANTED, Ground.LEGAL_OBLIGATION)
    work.approve(case)
    erasure = work.erase(case)
    work.reply(case, Right.ERASURE)
    token = "t" * 43
    with town.unit() as unit:
        link = CertificateLink(town.house.controller, case, erasure, town.clock.now())
        unit.certificate_links.add(hashlib.sha256(token.encode()).digest(), link)
        unit.commit()
    return case, erasure, token


def test_the_certificate_is_read_by_whoever_has_its_link(town: Town, erased: tuple[CaseId, str, str]) -> None:
    """Dsar rules 49, 54: what was destroyed, when, what is kept until when and why; it names nobody."""
    _, erasure, token = erased
    anyone = Visitor(town.app())
    page = anyone.get(f"/certificates/{token}")
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    said = text(page).replace("&#39;", "'")
    assert erasure in said
    assert "anonym" not in said.lower()
    policy = town.house.policy
    rule = next(
        rule for rule in policy.retentions if (rule.category, rule.purpose) == ("identity.papers", "aml_duties")
    )
    assert rule.reason[Locale.EN] in said
    assert rule.legal_ref in said
    assert policy.categories[rule.category].names[Locale.EN] in said
    assert MAILBOX not in said
    assert "Ana" not in said


def test_the_signed_certificate_and_its_page_can_be_taken_away(town: Town, erased: tuple[CaseId, str, str]) -> None:
    _, erasure, token = erased
    anyone = Visitor(town.app(), "fr")
    data = anyone.get(f"/certificates/{token}/certificate.json")
    assert (data.status_code, data.mimetype) == (200, "application/json")
    assert json.loads(data.data) == json.loads(json.dumps(town.house.vault.erasures.certificates(erasure)[0]))
    assert 'filename="certificate.json"' in data.headers["Content-Disposition"]
    printed = anyone.get(f"/certificates/{token}/certificate.pdf")
    assert (printed.status_code, printed.mimetype) == (200, "application/pdf")
    assert printed.data.startswith(b"%PDF")
    assert anyone.get(f"/certificates/{token}/certificate.exe").status_code == 404


@pytest.mark.parametrize("token", ["x", "u" * 43, "t" * 42, "%00", "t" * 5000])
def test_another_token_opens_nothing(town: Town, erased: tuple[CaseId, str, str], token: str) -> None:
    anyone = Visitor(town.app())
    for tail in ("", "/certificate.json", "/certificate.pdf"):
        assert anyone.get(f"/certificates/{token}{tail}").status_code == 404


def test_guessing_tokens_is_slowed_down(tmp_path: Path) -> None:
    """Dsar rule 30."""
    from app.http.doors import Limits

    town = Town(tmp_path / "house", limits=Limits(per_ip=3))
    anyone = Visitor(town.app())
    tries = [anyone.get(f"/certificates/guess{number}").status_code for number in range(5)]
    assert tries == [404, 404, 404, 429, 429]
    town.house.close()


def test_a_link_whose_erasure_is_not_certified_looks_like_none(town: Town) -> None:
    with town.unit() as unit:
        link = CertificateLink(town.house.controller, CaseId("case_x"), "era_line_x", town.clock.now())
        unit.certificate_links.add(hashlib.sha256(b"early").digest(), link)
        unit.commit()
    assert Visitor(town.app()).get("/certificates/early").status_code == 404


def test_the_request_shows_its_erasure_to_somebody_who_can_still_sign_in(
    town: Town, ana: Any, erased: tuple[CaseId, str, str]
) -> None:
    visitor, _, _ = ana
    case, erasure, _ = erased
    page = text(visitor.get(f"/me/requests/{case}"))
    assert "What was erased" in page
    assert erasure in page
    data = visitor.get(f"/me/requests/{case}/certificate.json")
    assert json.loads(data.data)["erasure"] == erasure
    assert "A law makes us keep it for a time." in page
    other = ask(visitor, "objection")
    assert visitor.get(f"/me/requests/{other}/certificate.json").status_code == 404


# Destroying a copy


def test_a_person_has_a_copy_destroyed(town: Town, ana: Any, work: Work) -> None:
    """Dsar rule 58: revocable, by its person too; the bytes go, other data stays, twice changes nothing."""
    visitor, _, _ = ana
    case = ask(visitor, "access")
    work.hand_over(case)
    line = work.line(case, Right.ACCESS)
    folder = town.house.settings.data_dir / "sealed"
    assert (folder / line).exists()
    path = f"/me/requests/{case}/copy/{line}/destroy"
    assert "Your erasure is waiting." not in text(visitor.get(path))
    assert visitor.post(path).status_code == 303
    assert not (folder / line).exists()
    before = len(work_history(work, case))
    assert "A copy was destroyed." in text(visitor.get(f"/me/requests/{case}"))
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 410
    assert visitor.post(path).status_code == 303
    assert len(work_history(work, case)) == before
    assert send(visitor, "access").status_code == 200, "still open: linked"


def test_destroying_a_copy_needs_a_fresh_passkey_and_the_right_person(town: Town, ana: Any, work: Work) -> None:
    visitor, _, passkey = ana
    case = ask(visitor, "access", "erasure")
    work.acknowledge(case)
    work.search(case)
    work.seal(case)
    work.decide(case, Right.ACCESS)
    work.decide(case, Right.ERASURE, Outcome.PARTLY_GRANTED, Ground.LEGAL_OBLIGATION)
    work.approve(case)
    work.reply(case, Right.ACCESS)
    line = work.line(case, Right.ACCESS)
    path = f"/me/requests/{case}/copy/{line}/destroy"
    shown = visitor.get(path)
    assert "Your erasure is waiting." in text(shown)
    assert "The erasure begins once you have downloaded it" in text(visitor.get(f"/me/requests/{case}"))
    stranger = Visitor(town.app())
    strong(town, stranger, town.enrol(OTHER, "Bo Other"), OTHER)
    assert stranger.get(path).status_code == 404
    town.clock.forward(minutes=6)
    token = token_in(shown.get_data(as_text=True))
    assert visitor.client.post(f"/en{path}", data={"form_token": token}).status_code == 403
    assert visitor.get(path).status_code == 303
    fresh(town, visitor, passkey)
    assert visitor.get(f"/me/requests/{case}/copy").status_code == 200
