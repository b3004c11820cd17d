"""The consent question on pages (consent rules 1-28, 59) and the agreements afterwards (rules 35, 40-46, 51)."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask

from app.factory import create_app
from app.http import asking
from app.http.doors import PendingFacts
from app.http.pages.agreements import stop_path
from app.sdk.claims import AggregationConsent
from app.store.disclosures import Disclosure
from app.tokens.errors import InvalidRequestUri
from consent import usecases
from consent.events import Actor, ActorKind, Channel, Given, PageShown, Withdrawn
from consent.proposal import Proposal
from consent.receipt import Links, receipt
from consent.record import Consent, State
from consent.vocabulary import CategoryId, ConsentId, ControllerId, Locale, PartyId, PurposeId, SubjectRef
from tests.doors.pages_house import MAILBOX, Town, Visitor, carried_by, enrol_passkey, use_passkey

FIRM, PARTNER = ControllerId("ormelune"), PartyId("patrivue")
FACTS = ("who", "data", "why", "period", "history", "frequency", "recipients", "withdraw")


class Pending:
    def __init__(self, proposal: AggregationConsent) -> None:
        self.controller: str = FIRM
        self.party: str = PARTNER
        self.proposal = proposal


class Partner:
    """The authorization server's end: one request by journey, answered once."""

    def __init__(self, **requests: AggregationConsent) -> None:
        self.requests = requests
        self.answers: list[str] = []

    def pending(self, journey: str) -> PendingFacts:
        if journey not in self.requests:
            raise InvalidRequestUri("the request is unknown, over, or already answered")
        return Pending(self.requests[journey])

    def complete(self, journey: str, consent: ConsentId, subject: SubjectRef) -> str:
        self.pending(journey)
        self.requests.pop(journey)
        self.answers.append(consent)
        return "https://partner.example/back?code=c"

    def refuse(self, journey: str) -> str:
        self.pending(journey)
        self.requests.pop(journey)
        self.answers.append("refused")
        return "https://partner.example/back?error=access_denied"


WEALTH = AggregationConsent(purpose="wealth_overview")


@pytest.fixture
def partner() -> Partner:
    return Partner(jny_one=WEALTH)


@pytest.fixture
def app(town: Town, partner: Partner) -> Flask:
    return create_app(replace(town.doors, authorizations=partner))


@pytest.fixture
def subject(town: Town) -> SubjectRef:
    return town.enrol()


@pytest.fixture
def ana(town: Town, app: Flask, subject: SubjectRef) -> Visitor:
    """Signed in with a passkey, as the law asks before an account is opened (consent rule 33)."""
    visitor = Visitor(app)
    visitor.sign_in(town)
    use_passkey(visitor, enrol_passkey(visitor, town.printed_code("subject", subject)))
    return visitor


def _one(town: Town, subject: SubjectRef) -> Consent:
    with town.unit() as unit:
        return unit.consents.of_subject(FIRM, subject)[0]


def _words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def _fact(page: str, name: str) -> str:
    found = re.search(rf'<dd data-testid="fact-{name}">(.*?)</dd>', page, re.DOTALL)
    return _words(found.group(1)) if found else ""


def _agree(ana: Visitor, journey: str = "jny_one", **choice: Any) -> Any:
    """Answer the facts and the check page."""
    ana.post(f"/consent/{journey}", answer="agree", period="180", **choice)
    return ana.post(f"/consent/{journey}", answer="agree")


def test_the_eight_facts_are_above_the_buttons(ana: Visitor) -> None:
    """Consent rule 9."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    assert all(len(_fact(page, name)) > 10 for name in FACTS), {name: _fact(page, name) for name in FACTS}
    buttons = page.index('data-testid="equal"')
    assert all(page.index(f'data-testid="fact-{name}"') < buttons for name in FACTS)
    assert "Patrivue SAS" in _fact(page, "who")
    assert "ORIAS" in _fact(page, "who")
    assert "Ormelune SAS" in _fact(page, "who")
    assert "up to 4 times a day" in _fact(page, "frequency"), "the scheduler's number (consent rule 14)"


def test_the_stage_is_named_and_counted(ana: Visitor) -> None:
    """Consent rule 1."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    assert "Step 1 of 3: What, why, how long, who" in _words(page)
    ana.post("/consent/jny_one", answer="agree", period="180")
    assert "Step 2 of 3: Check your answers" in _words(ana.get("/consent/jny_one").get_data(as_text=True))


def test_nothing_is_chosen_beforehand(ana: Visitor) -> None:
    """Consent rules 5 and 6."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    inputs = re.findall(r"<input [^>]*type=\"(?:radio|checkbox)\"[^>]*>", page)
    assert len(inputs) > 5
    assert not [each for each in inputs if " checked" in each or " disabled" in each]


def test_accepting_and_refusing_are_the_same_element(ana: Visitor) -> None:
    """Consent rule 7: same tag, same form; the browser test measures them."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    assert (
        '<button name="answer" value="agree">I agree</button><button name="answer" value="refuse">I refuse</button>'
        in page
    )


def test_data_is_named_in_clusters_that_open(town: Town, ana: Visitor) -> None:
    """Consent rules 10 and 11: the pack's own words, only what the purpose may use."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    policy = town.house.policy
    purpose = policy.purposes[PurposeId("wealth_overview")]
    offered = set(re.findall(r'name="optional" value="([^"]+)"', page))
    assert offered == purpose.optional
    for category in purpose.needed:
        assert policy.categories[category].names[Locale.EN] in _fact(page, "data")
    assert "<details><summary>Your accounts</summary>" in page


def test_every_recipient_is_named_with_role_country_and_its_own_rules(town: Town, ana: Visitor) -> None:
    """Consent rules 15 and 16."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    told = _fact(page, "recipients")
    for name, country in (("Collecte", "France"), ("Nimbelle", "Netherlands"), ("Pasarelas", "Spain")):
        assert f"{name} ({country})" in told
    assert "Receives data and decides for itself" in told
    assert "You can complain to them" in told
    assert town.house.policy.parties[PARTNER].notice_url in page  # type: ignore[operator]


TWO_DAYS = datetime(2027, 1, 15, 23, 30, tzinfo=UTC)
"""When it is the 15th in universal time and the 16th for a controller in Paris."""


@pytest.fixture(params=[TWO_DAYS, TWO_DAYS.replace(hour=12)], ids=["past midnight in Paris", "noon"])
def at(town: Town, request: pytest.FixtureRequest) -> datetime:
    """The moment of the visit; asked for before `ana`, whose sign-in is of then."""
    town.clock.at = request.param
    return town.clock.at


def test_three_dates_stand_apart(town: Town, at: datetime, ana: Visitor) -> None:
    """Consent rule 12: end, next check at the bank, start of the history; each a day of the controller's."""
    page = _words(ana.get("/consent/jny_one").get_data(as_text=True))
    assert f"180 days, until {_english(at + timedelta(days=180))}" in page
    assert f"by {_english(at + timedelta(days=180))} at the latest" in page
    assert re.search(r"Data since \w+ \d+, \d{4}\.", page)


def _english(at: datetime) -> str:
    day = at.astimezone(ZoneInfo("Europe/Paris"))
    return f"{day:%B} {day.day}, {day.year}"


@pytest.mark.parametrize("period", ["", "367", "3650", "-1", "x", "99999999999999999999"])
def test_a_period_not_on_the_list_is_refused_with_what_was_chosen(ana: Visitor, town: Town, period: str) -> None:
    """Consent rule 13; answers survive the fault (rule 24)."""
    answer = ana.post("/consent/jny_one", answer="agree", period=period, optional="transactions.recent", attended="yes")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert "Something is missing" in page
    assert 'value="transactions.recent" checked' in page
    assert 'name="attended" value="yes" checked' in page


def test_another_language_after_a_fault_shows_what_was_chosen(ana: Visitor) -> None:
    """Consent rule 24: without scripts, by the page's own link; and the fault is the same however often it is sent."""
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    form = {**carried_by(page), "answer": "agree", "optional": "transactions.recent", "attended": "yes"}
    for _ in range(2):
        refused = ana.client.post("/en/consent/jny_one", data=form)
        assert refused.status_code == 422
        assert "Choose for how long." in refused.get_data(as_text=True)
    for locale in ("fr", "es", "pt", "en"):
        shown = ana.get(_in(refused.get_data(as_text=True), locale)) if locale != "en" else ana.get("/consent/jny_one")
        ticked = re.findall(r'name="(\w+)" value="([^"]+)" checked', shown.get_data(as_text=True))
        assert ticked == [("optional", "transactions.recent"), ("attended", "yes")], locale
    assert ana.post("/consent/jny_one", answer="agree").status_code == 422, "and nothing of it is an answer"


def _in(page: str, locale: str) -> str:
    """Where the page's own language link leads."""
    found = re.search(rf'<a href="([^"]+)" hreflang="{locale}"', page)
    assert found is not None
    return html.unescape(found.group(1))


def test_a_category_that_was_not_offered_is_refused(ana: Visitor, town: Town, subject: SubjectRef) -> None:
    answer = ana.post("/consent/jny_one", answer="agree", period="180", optional="identity.papers")
    assert answer.status_code == 422
    assert _one(town, subject).state is State.REQUESTED


def test_answers_survive_another_language(town: Town, ana: Visitor) -> None:
    """Consent rule 24."""
    ana.post("/consent/jny_one", answer="agree", period="180", optional="transactions.recent")
    french = _words(ana.client.get("/fr/consent/jny_one").get_data(as_text=True))
    assert "Vérifiez vos réponses" in french
    assert "180 jours" in french
    assert town.house.policy.categories[CategoryId("transactions.recent")].names[Locale.FR] in french


def test_the_check_page_repeats_every_choice_with_a_way_to_change_it(ana: Visitor) -> None:
    """Consent rule 25: nothing is sent before it is confirmed."""
    ana.post("/consent/jny_one", answer="agree", period="180", attended="yes")
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    for name in ("data", "period", "attended"):
        row = re.search(rf'<dd data-testid="check-{name}">(.*?)</dd>', page, re.DOTALL)
        assert row
        assert 'value="change"' in row.group(1)
    assert "Only while you are there" in page
    ana.post("/consent/jny_one", answer="change", stage="facts")
    again = ana.get("/consent/jny_one").get_data(as_text=True)
    assert 'name="period" value="180" checked' in again, "one's own answers come back, the first time nothing is ticked"


def _question(town: Town, ana: Visitor, subject: SubjectRef) -> str:
    """Open the partner's question, then go to it from the space; return its page."""
    ana.get("/consent/jny_one")
    where = f"/me/consents/{_one(town, subject).id}"
    return str(ana.post(f"{where}/answer", page=where).location)


def test_the_partner_is_told_what_was_answered_in_the_space(
    town: Town, ana: Visitor, subject: SubjectRef, partner: Partner
) -> None:
    """Consent rule 1: one question is one question, by whatever way the person comes to it."""
    page = _question(town, ana, subject)
    ana.post(page, answer="agree", period="180")
    ana.post(page, answer="agree")
    (back,) = re.findall(r'data-testid="return" href="([^"]+)"', ana.get(page).get_data(as_text=True))
    assert ana.get(back).location == "https://partner.example/back?code=c"
    assert partner.answers == [_one(town, subject).id]
    assert 'data-testid="return"' not in ana.get(page).get_data(as_text=True), "nobody waits any more"


def test_what_was_agreed_on_another_page_is_not_asked_again(
    town: Town, ana: Visitor, subject: SubjectRef, partner: Partner
) -> None:
    """Consent rule 58: nor is the page it was agreed on any other by that."""
    ana.get("/consent/jny_one")
    record = _one(town, subject)
    twin = _second_journey(town, record)
    _agree(ana, twin)
    agreed = _one(town, subject)
    assert agreed.state is State.ACTIVE
    page = ana.client.get("/fr/consent/jny_one").get_data(as_text=True)
    assert 'name="period"' not in page
    assert 'data-testid="return"' in page
    assert _one(town, subject) == agreed
    assert ana.post("/consent/jny_one", page="/me", answer="refuse").status_code == 422
    assert ana.get("/consent/jny_one/return").location == "https://partner.example/back?code=c"


def _second_journey(town: Town, record: Consent) -> str:
    """A page of the same question that was made before one under way was taken up again."""
    with town.unit() as unit:
        first = unit.journeys.find("jny_one")
        assert first is not None
        unit.journeys.begin(
            "jny_twin",
            controller=FIRM,
            subject=first.subject,
            consent=record.id,
            script=first.script,
            progress=first.progress,
            onward=False,
            now=town.clock.now(),
        )
        unit.commit()
    return "jny_twin"


def test_what_was_refused_in_the_space_is_not_asked_again(
    town: Town, ana: Visitor, subject: SubjectRef, partner: Partner
) -> None:
    """Consent rule 8."""
    ana.get("/consent/jny_one")
    ana.post(f"/me/consents/{_one(town, subject).id}/withdraw")
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    assert "You refused" in page
    assert 'name="answer"' not in page
    assert ana.get("/consent/jny_one/return").location == "https://partner.example/back?error=access_denied"
    assert partner.answers == ["refused"]


def test_one_no_answers_the_same_question_put_twice(ana: Visitor, partner: Partner) -> None:
    """Consent rule 8."""
    partner.requests["jny_two"] = WEALTH
    for journey in ("jny_one", "jny_two"):
        ana.get(f"/consent/{journey}")
    ana.post("/consent/jny_one", answer="refuse")
    assert "You refused" in ana.get("/consent/jny_two").get_data(as_text=True)
    assert ana.get("/consent/jny_two/return").location == "https://partner.example/back?error=access_denied"


@pytest.mark.parametrize("answer", ["refuse", "agree"])
def test_a_question_whose_time_ran_out_says_so(
    town: Town, app: Flask, ana: Visitor, subject: SubjectRef, answer: str
) -> None:
    """Consent rule 26: whatever is answered too late, the person has a way back, and the partner is told no."""
    form = {**_form(ana), "answer": answer, "period": "180"}
    town.clock.forward(days=31)
    late = Visitor(app)
    late.sign_in(town)
    form["form_token"] = carried_by(late.get("/me/security").get_data(as_text=True))["form_token"]
    assert late.client.post("/en/consent/jny_one", data=form).status_code == 303
    page = late.get("/consent/jny_one").get_data(as_text=True)
    assert "This question is over" in page
    assert 'name="answer"' not in page
    assert late.get("/consent/jny_one/return").location == "https://partner.example/back?error=access_denied"


def test_an_agreement_stopped_since_is_not_told_as_live(
    town: Town, ana: Visitor, subject: SubjectRef, partner: Partner
) -> None:
    """GDPR art. 7(3): whoever stops it before going back leaves nothing for the partner to use."""
    _agree(ana)
    ana.post(f"/me/consents/{_one(town, subject).id}/withdraw")
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    assert "may now read" not in page
    assert ana.get("/consent/jny_one/return").location == "https://partner.example/back?error=access_denied"


def _form(ana: Visitor, path: str = "/consent/jny_one") -> dict[str, str]:
    return carried_by(ana.get(path).get_data(as_text=True))


def test_a_double_click_does_not_answer_the_page_that_came_between(
    town: Town, ana: Visitor, subject: SubjectRef
) -> None:
    """Consent rules 7, 25; GDPR art. 4(11): the second click never saw the check page."""
    form = {**_form(ana), "answer": "agree", "period": "180"}
    first, second = (ana.client.post("/en/consent/jny_one", data=form) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 422)
    assert "Check your answers" in second.get_data(as_text=True)
    assert _one(town, subject).state is State.REQUESTED


def test_a_page_agrees_to_its_own_answers_only(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """GDPR art. 4(11): in a second tab other answers were given since."""
    facts = _form(ana)
    asked = {"answer": "agree", "period": "365", "optional": "transactions.recent"}
    ana.client.post("/en/consent/jny_one", data={**facts, **asked})
    one_tab = _form(ana)
    ana.post("/consent/jny_one", answer="change", stage="facts")
    assert ana.client.post("/en/consent/jny_one", data={**one_tab, "answer": "agree"}).status_code == 422
    ana.post("/consent/jny_one", answer="agree", period="180", attended="yes")
    for late in ({**one_tab, "answer": "agree"}, {**facts, **asked}, {**one_tab, "answer": "back"}):
        stale = ana.client.post("/en/consent/jny_one", data=late)
        assert stale.status_code == 422
        assert "180 days, until" in _words(stale.get_data(as_text=True))
        assert _one(town, subject).state is State.REQUESTED
    ana.post("/consent/jny_one", answer="agree")
    agreed = _one(town, subject)
    assert (agreed.state, agreed.attended_only, agreed.categories) == (State.ACTIVE, True, agreed.terms.needed)


def test_a_form_that_does_not_say_its_page_agrees_to_nothing(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    ana.post("/consent/jny_one", answer="agree", period="180")
    for seen in ("", "check", "check.", "nowhere.00", "\x00"):
        assert ana.post("/consent/jny_one", answer="agree", seen=seen).status_code == 422
    assert _one(town, subject).state is State.REQUESTED


def test_saying_no_holds_from_every_page_left_open(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 7: no answer is needed to refuse, so none can be out of date."""
    facts = _form(ana)
    ana.post("/consent/jny_one", answer="agree", period="180")
    assert ana.client.post("/en/consent/jny_one", data={**facts, "answer": "refuse"}).status_code == 303
    assert _one(town, subject).state is State.REFUSED


def _first(monkeypatch: pytest.MonkeyPatch, other: Callable[[], Any]) -> None:
    """Let another answer be taken between the reading of the next one and its taking."""
    take = asking.take

    def late(*given: Any) -> Any:
        monkeypatch.setattr(asking, "take", take)
        other()
        return take(*given)

    monkeypatch.setattr(asking, "take", late)


def test_agreeing_twice_at_once_is_agreeing(
    town: Town, app: Flask, ana: Visitor, subject: SubjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consent rule 28: the person did agree, and both clicks lead to the page that says so."""
    ana.post("/consent/jny_one", answer="agree", period="180")
    form = {**_form(ana), "answer": "agree"}
    codes = []
    _first(monkeypatch, lambda: codes.append(_twin(app, ana).post("/en/consent/jny_one", data=form).status_code))
    codes.append(ana.client.post("/en/consent/jny_one", data=form).status_code)
    codes.append(ana.client.post("/en/consent/jny_one", data=form).status_code)
    assert codes == [303, 303, 303]
    record = _one(town, subject)
    with town.unit() as unit:
        events = unit.consents.events(FIRM, record.id)
    assert len([event for event in events if isinstance(event, Given)]) == 1


def _twin(app: Flask, ana: Visitor) -> Any:
    """The same browser, with a second request under way."""
    twin, cookie = app.test_client(), ana.client.get_cookie("regard_session")
    assert cookie is not None
    twin.set_cookie("regard_session", cookie.value)
    return twin


@pytest.mark.parametrize("late", [{"answer": "back"}, {"answer": "change", "stage": "facts"}, {"answer": "refuse"}])
def test_what_was_agreed_is_not_asked_again(
    app: Flask, partner: Partner, ana: Visitor, monkeypatch: pytest.MonkeyPatch, late: dict[str, str]
) -> None:
    """Consent rule 28: an answer on its way while another one ended the question changes nothing."""
    ana.post("/consent/jny_one", answer="agree", period="180")
    form, agree = _form(ana), {"answer": "agree"}
    _first(monkeypatch, lambda: _twin(app, ana).post("/en/consent/jny_one", data={**form, **agree}))
    told = ana.client.post("/en/consent/jny_one", data={**form, **late})
    assert told.status_code == 422
    assert "You have answered already. Your answer stands." in told.get_data(as_text=True)
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    assert "You have agreed" in page
    assert 'name="period"' not in page
    assert ana.get("/consent/jny_one/return").location == "https://partner.example/back?code=c"
    assert partner.answers not in ([], ["refused"])


def test_other_answers_than_those_agreed_to_are_not_taken_for_them(town: Town, ana: Visitor) -> None:
    """GDPR art. 4(11): a tab left open says something else than what was agreed since."""
    ana.post("/consent/jny_one", answer="agree", period="365")
    year = _form(ana)
    ana.post("/consent/jny_one", answer="back")
    _agree(ana)
    told = ana.client.post("/en/consent/jny_one", data={**year, "answer": "agree"})
    assert told.status_code == 422
    assert "Your answer stands" in told.get_data(as_text=True)


def test_saying_no_twice_is_nobodys_fault(ana: Visitor) -> None:
    form = {**_form(ana), "answer": "refuse"}
    assert [ana.client.post("/en/consent/jny_one", data=form).status_code for _ in range(2)] == [303, 303]


def test_the_facts_are_recorded_as_shown_when_a_late_answer_shows_them(
    town: Town, app: Flask, ana: Visitor, subject: SubjectRef
) -> None:
    """Consent rule 58: a double click on the bank leads to the facts without a page of their own."""
    record, journey = _put(town, app, subject, "account_information", "collecte")
    page = ana.get(f"/consent/{journey}").get_data(as_text=True)
    source = re.findall(r'name="source" value="([^"]+)"', page)[0]
    form = {**carried_by(page), "answer": "agree", "source": source}
    for status in (303, 422):
        answer = ana.client.post(f"/en/consent/{journey}", data=form)
        assert answer.status_code == status
    assert 'data-testid="fact-who"' in answer.get_data(as_text=True)
    assert " checked" not in answer.get_data(as_text=True)
    with town.unit() as unit:
        shown = unit.consents.find(FIRM, record.id)
    assert shown is not None
    assert shown.page is not None


def test_agreeing_is_recorded_with_its_proof(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rules 28, 33, 58: reference, evidence, the exact page."""
    _agree(ana, optional="transactions.recent")
    page = ana.get("/consent/jny_one").get_data(as_text=True)
    record = _one(town, subject)
    assert record.state is State.ACTIVE
    assert f'data-testid="reference">{record.id}' in page
    assert 'href="/en/consent/jny_one/return"' in page
    with town.unit() as unit:
        events = unit.consents.events(FIRM, record.id)
    (shown,) = [event for event in events if isinstance(event, PageShown)]
    (given,) = [event for event in events if isinstance(event, Given)]
    assert given.categories == record.terms.needed | {CategoryId("transactions.recent")}
    assert (given.evidence.level, given.evidence.step_up) == (3, "passkey")
    assert given.evidence.credential_digest is not None
    assert given.valid_until - given.at == timedelta(days=180)
    assert (shown.page.locale, shown.page.gpc) == (Locale.EN, False)
    notice = town.house.policy.notices[PurposeId("wealth_overview"), 1, Locale.EN]
    assert shown.page.notice_digest == notice.digest
    assert len({shown.page.template_digest, shown.page.catalogue_digest, shown.page.processors_digest}) == 3


def test_the_notice_of_the_record_is_on_the_page(town: Town, ana: Visitor) -> None:
    """Consent rule 58: what is digested is what is read."""
    for locale in Locale:
        page = ana.client.get(f"/{locale.value}/consent/jny_one").get_data(as_text=True)
        notice = town.house.policy.notices[PurposeId("wealth_overview"), 1, locale]
        assert " ".join(notice.body.split()) in _words(page)


def test_the_signal_of_the_browser_is_kept(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 59."""
    ana.get("/consent/jny_one", headers={"Sec-GPC": "1"})
    page = _one(town, subject).page
    assert page is not None
    assert page.gpc is True
    assert ana.client.get("/.well-known/gpc.json").get_json() == {"gpc": True, "lastUpdate": "2026-01-01"}


def test_refusing_takes_one_click_and_is_the_end_of_it(
    town: Town, app: Flask, subject: SubjectRef, partner: Partner
) -> None:
    """Consent rules 7, 8, 35: an e-mail session is enough, no second ask, a page that says what still works."""
    visitor = Visitor(app)
    visitor.sign_in(town)
    assert visitor.post("/consent/jny_one", answer="refuse").status_code == 303
    page = _words(visitor.get("/consent/jny_one").get_data(as_text=True))
    assert "You refused" in page
    assert "Everything else works as before" in page
    assert "I agree" not in page
    assert _one(town, subject).state is State.REFUSED
    assert visitor.post("/consent/jny_one", page="/me", answer="agree").status_code == 422
    assert visitor.get("/consent/jny_one/return").location == "https://partner.example/back?error=access_denied"
    partner.requests["jny_two"] = WEALTH
    again = visitor.get("/consent/jny_two")
    assert again.status_code == 409
    assert "You already said no to this" in again.get_data(as_text=True)
    (back,) = re.findall(r'data-testid="return" href="([^"]+)"', again.get_data(as_text=True))
    assert visitor.get(back).location == "https://partner.example/back?error=access_denied", "nobody is stranded"
    assert partner.answers == ["refused", "refused"]
    assert visitor.get(back).status_code == 400


def test_without_a_passkey_the_answer_waits_for_one(town: Town, app: Flask, subject: SubjectRef) -> None:
    """Consent rule 33: e-mail possession does not open an account."""
    visitor = Visitor(app)
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject))
    waiting = _agree(visitor)
    assert waiting.location == "/en/me/step-up?next=/en/consent/jny_one"
    assert _one(town, subject).state is State.REQUESTED
    assert use_passkey(visitor, passkey, waiting.location, next="/en/consent/jny_one").location == "/en/consent/jny_one"
    visitor.post("/consent/jny_one", answer="agree")
    assert _one(town, subject).state is State.ACTIVE


def test_the_way_back_is_followed_once(ana: Visitor, town: Town, subject: SubjectRef, partner: Partner) -> None:
    assert ana.get("/consent/jny_one/return").status_code == 404, "nothing is answered yet"
    _agree(ana)
    assert ana.get("/consent/jny_one/return").location == "https://partner.example/back?code=c"
    assert partner.answers == [_one(town, subject).id]
    assert ana.get("/consent/jny_one").status_code == 200, "the result can still be read"
    over = ana.get("/consent/jny_one/return")
    assert over.status_code == 400
    assert "This request is over" in over.get_data(as_text=True)


def test_a_request_is_nobody_elses(town: Town, app: Flask, ana: Visitor) -> None:
    """404 where 403 would reveal existence."""
    ana.get("/consent/jny_one")
    town.enrol("bea@example.org", "Bea")
    bea = Visitor(app)
    bea.sign_in(town, "bea@example.org")
    assert bea.get("/consent/jny_one").status_code == 404
    assert bea.post("/consent/jny_one", page="/me", answer="refuse").status_code == 404
    assert bea.get("/consent/jny_one/return").status_code == 404


def test_a_request_that_is_over_says_so(ana: Visitor) -> None:
    answer = ana.get("/consent/jny_unknown")
    assert answer.status_code == 400
    assert "This request is over" in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (AggregationConsent(purpose="wealth_overview", accounts=frozenset({"FR76"})), 422),
        (AggregationConsent(purpose="wealth_overview", access_path="by_magic"), 422),
        (AggregationConsent(purpose="wealth_overview", categories=frozenset({"identity.papers"})), 422),
        (AggregationConsent(purpose="aml_duties"), 422),
        (AggregationConsent(purpose="client_reporting"), 422),
        (AggregationConsent(purpose="no_such_purpose"), 422),
        (AggregationConsent(consent_id="con_unknown"), 404),
    ],
)
def test_what_the_law_does_not_allow_is_not_asked(
    *, ana: Visitor, town: Town, subject: SubjectRef, partner: Partner, asked: AggregationConsent, status: int
) -> None:
    partner.requests["jny_bad"] = asked
    assert ana.get("/consent/jny_bad").status_code == status
    with town.unit() as unit:
        assert unit.consents.of_subject(FIRM, subject) == ()


def test_a_partners_wishes_are_ceilings(ana: Visitor, town: Town, subject: SubjectRef, partner: Partner) -> None:
    """Consent rules 13 and 14: a shorter period and fewer reads are shown as asked."""
    today = town.clock.now().date()
    partner.requests["jny_small"] = AggregationConsent(
        purpose="wealth_overview",
        categories=frozenset({"accounts.details", "accounts.balances", "transactions.recent"}),
        period_until=today + timedelta(days=200),
        frequency_per_day=1,
    )
    page = ana.get("/consent/jny_small").get_data(as_text=True)
    assert set(re.findall(r'name="period" value="(\d+)"', page)) == {"1", "180"}
    assert set(re.findall(r'name="optional" value="([^"]+)"', page)) == {"transactions.recent"}
    assert "up to 1 time a day" in _fact(page, "frequency")


@pytest.mark.parametrize("form", [{}, {"answer": "maybe"}, {"answer": "change", "stage": "nowhere"}])
def test_an_unknown_button_changes_nothing(ana: Visitor, form: dict[str, str]) -> None:
    assert ana.post("/consent/jny_one", **form).status_code == 422
    assert "Step 1 of" in _words(ana.get("/consent/jny_one").get_data(as_text=True))


def _put(town: Town, app: Flask, subject: SubjectRef, purpose: str, party: str) -> tuple[Consent, str]:
    record = usecases.propose(
        town.unit(),
        town.house.policy,
        Proposal(FIRM, subject, PurposeId(purpose), PartyId(party)),
        ids=town.doors.ids,
        by=Actor(ActorKind.PARTY, party),
        channel=Channel.API,
        at=town.clock.now(),
    )
    with app.test_request_context("/en/"):
        return record, asking.put_on_page(record)


def test_the_whole_aggregation_journey(town: Town, app: Flask, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rules 1, 2, 26, 28: bank first, then the question, then leaving on a page of its own, then the result."""
    record, journey = _put(town, app, subject, "account_information", "collecte")
    path, seen = f"/consent/{journey}", []

    def page() -> str:
        text = ana.get(path).get_data(as_text=True)
        found = re.search(r"Step (\d+) of (\d+): ([^<]+)<", text)
        seen.append(found.groups() if found else None)
        return text

    first = page()
    source = re.findall(r'name="source" value="([^"]+)"', first)[0]
    assert ana.post(path, answer="agree", source="x|nowhere").status_code == 422
    empty = ana.post(path, answer="agree")
    assert empty.status_code == 422
    assert "Choose one of the banks on the page." in empty.text  # consent rule 24: the page again, not an error page
    assert source in empty.text
    assert ana.post(path, answer="agree", source="unknown|own_credentials").status_code == 422
    ana.post(path, answer="agree", source=source)
    assert 'data-testid="fact-who"' in page()
    ana.post(path, answer="agree", period="180")
    assert "Your bank" in page()
    ana.post(path, answer="agree")
    page()
    assert _state(town, record) is State.REQUESTED
    ana.post(path, answer="agree")
    leaving = page()
    assert _state(town, record) is State.ACTIVE
    assert "We never need and never see your bank password" in leaving
    assert not re.search(r"forgot", leaving, re.IGNORECASE), "consent rule 32"
    going_on = {**carried_by(leaving), "answer": "continue"}
    assert [ana.client.post(f"/en{path}", data=going_on).status_code for _ in range(2)] == [303, 303]
    assert record.id in page()
    assert [place[0] for place in seen if place] == ["1", "2", "3", "4", "5", "6"]


def _state(town: Town, record: Consent) -> State:
    with town.unit() as unit:
        found = unit.consents.find(FIRM, record.id)
    assert found is not None
    return found.state


def test_one_page_back_keeps_the_answers(town: Town, ana: Visitor) -> None:
    ana.post("/consent/jny_one", answer="agree", period="180")
    ana.post("/consent/jny_one", answer="back")
    assert 'value="180" checked' in ana.get("/consent/jny_one").get_data(as_text=True)


# the agreements


def test_stopping_takes_two_clicks_from_the_list(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rules 35, 45, 46: no step-up, the consequence and what is kept are said, the effect is at once."""
    _agree(ana)
    weak = Visitor(ana.client.application)
    weak.sign_in(town)
    listed = weak.get("/me/consents").get_data(as_text=True)
    (link,) = re.findall(r'data-testid="stop" href="([^"]+)"', listed)
    page = weak.get(link).get_data(as_text=True)
    purpose = town.house.policy.purposes[PurposeId("wealth_overview")]
    assert purpose.consequence[Locale.EN] in _words(page)
    assert 'data-testid="kept"' in page
    assert "checked" not in page
    assert ">Keep it</a><button>Stop it</button>" in page
    stopped = weak.post(link, delete="yes")
    assert stopped.status_code == 303
    record = _one(town, subject)
    assert (record.state, record.delete_data) == (State.WITHDRAWN, True)
    assert ("consent.ended", f"{record.id}/{record.version}") in town.jobs
    shown = _words(weak.get(stopped.location).get_data(as_text=True))
    assert "withdrawn You stopped it" in shown
    assert "From this moment nobody can read under it" in shown
    assert weak.post(link, page="/me").status_code == 303, "saying stop twice is nobody's fault"


def test_an_agreement_shows_all_there_is_to_know(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 41."""
    _agree(ana, optional="transactions.recent")
    record = _one(town, subject)
    _look(town, subject, record.id)
    page = _words(ana.get(f"/me/consents/{record.id}").get_data(as_text=True))
    given, until = record.given_at, record.valid_until
    assert given is not None
    assert until is not None
    for words in (
        "active Data may be read",
        "Patrivue (Patrivue SAS)",
        "Transactions of the last 90 days",
        _english(until),
        "Next check at your bank",
        "1 reading, the last on",
        "Collecte (Works on our behalf, France)",
        "Version 1",
        record.id,
        "You agreed.",
    ):
        assert words in page, words


def test_the_list_filters_without_scripts(town: Town, app: Flask, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 44."""
    _agree(ana)
    _put(town, app, subject, "account_information", "collecte")
    everything = ana.get("/me/consents").get_data(as_text=True)
    assert everything.count('data-testid="agreement"') == 2
    assert ana.get("/me/consents?status=active").get_data(as_text=True).count('data-testid="agreement"') == 1
    some = ana.get("/me/consents?purpose=account_information").get_data(as_text=True)
    assert some.count('data-testid="agreement"') == 1
    assert "There is nothing here" in ana.get("/me/consents?status=expired").get_data(as_text=True)


def test_a_question_not_answered_yet_is_answered_not_stopped(
    town: Town, app: Flask, ana: Visitor, subject: SubjectRef
) -> None:
    """Consent rules 1, 8: there is nothing to stop; yes and no are one click each."""
    record, _ = _put(town, app, subject, "account_information", "collecte")
    where = f"/me/consents/{record.id}"
    listed = ana.get("/me/consents").get_data(as_text=True)
    assert ('data-testid="answer"' in listed, 'data-testid="stop"' in listed) == (True, False)
    page = ana.get(where).get_data(as_text=True)
    assert "Answer the question" in page
    assert "Stop this agreement" not in page
    asked = ana.post(f"{where}/answer", page=where)
    assert asked.status_code == 303
    assert "Step 1 of" in _words(ana.get(asked.location.removeprefix("/en")).get_data(as_text=True))
    assert _one(town, subject).state is State.REQUESTED
    page = ana.get(f"{where}/withdraw").get_data(as_text=True)
    assert "Say no to this question" in page
    assert "Stop" not in _words(page.partition("<main")[2])
    assert ">Go back</a><button>I refuse</button>" in page
    assert ana.post(f"{where}/withdraw").status_code == 303
    assert _one(town, subject).state is State.REFUSED
    page = ana.get(where).get_data(as_text=True)
    assert "You said no. Nothing was read." in page
    assert ana.post(f"{where}/answer", page="/me").status_code == 404
    assert ana.post(f"{where}/withdraw", page="/me").status_code == 303
    assert _one(town, subject).state is State.REFUSED


def test_the_question_of_somebody_else_is_nobodys_to_answer(
    town: Town, app: Flask, ana: Visitor, subject: SubjectRef
) -> None:
    record, _ = _put(town, app, subject, "account_information", "collecte")
    town.enrol("bea@example.org", "Bea")
    bea = Visitor(app)
    bea.sign_in(town, "bea@example.org")
    assert bea.post(f"/me/consents/{record.id}/answer", page="/me").status_code == 404
    assert ana.post(f"/me/consents/{record.id}/answer", page="/me").status_code == 303


def test_another_persons_agreement_does_not_exist(town: Town, app: Flask, ana: Visitor, subject: SubjectRef) -> None:
    _agree(ana)
    record = _one(town, subject)
    town.enrol("bea@example.org", "Bea")
    bea = Visitor(app)
    bea.sign_in(town, "bea@example.org")
    for path in (f"/me/consents/{record.id}", f"/me/consents/{record.id}/withdraw", "/me/consents/con_nothing"):
        assert bea.get(path).status_code == 404
    assert bea.post(f"/me/consents/{record.id}/withdraw", page="/me").status_code == 404
    assert _one(town, subject).state is State.ACTIVE


def test_the_receipts_link_stops_that_agreement_and_nothing_else(
    town: Town, app: Flask, ana: Visitor, subject: SubjectRef
) -> None:
    """Consent rule 35: a signed one-purpose link; a GET changes nothing."""
    _agree(ana)
    record = _one(town, subject)
    with app.test_request_context("/en/"):
        link = stop_path(FIRM, record.id)
    stranger = Visitor(app)
    assert stranger.get(link[:-1] + ("a" if link[-1] != "a" else "b")).status_code == 404
    assert stranger.get(link.replace(record.id, "con_other")).status_code == 404
    for _ in range(2):
        page = stranger.get(link).get_data(as_text=True)
    assert "Ana" not in page
    assert MAILBOX not in page
    assert _one(town, subject).state is State.ACTIVE
    assert "It is stopped" in stranger.post(link).get_data(as_text=True)
    ended = _one(town, subject)
    assert ended.state is State.WITHDRAWN
    with town.unit() as unit:
        last = unit.consents.events(FIRM, record.id)[-1]
    assert isinstance(last, Withdrawn)
    assert last.channel is Channel.SIGNED_LINK
    assert stranger.get("/me").status_code == 303, "the link signs nobody in"


def _look(
    town: Town,
    subject: SubjectRef,
    consent: str | None = None,
    ident: str = "dis_1",
    *,
    records: int = 42,
    action: str = "read",
    at: datetime | None = None,
) -> None:
    with town.unit() as unit:
        unit.disclosures.add(
            Disclosure(
                id=ident,
                controller=FIRM,
                subject=subject,
                party=PARTNER,
                component="cmp_1",
                actor_role=None,
                categories=(CategoryId("accounts.balances"),),
                records=records,
                purpose=PurposeId("wealth_overview"),
                consent=consent,
                attended=False,
                action=action,
                at=at or town.clock.now(),
            )
        )
        unit.commit()


def test_who_looked_is_ones_own_and_can_be_taken_away(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 51."""
    bea = town.enrol("bea@example.org", "Bea")
    _look(town, bea, ident="dis_bea")
    assert "Nobody has looked yet" in ana.get("/me/access-log").get_data(as_text=True)
    _look(town, subject)
    page = _words(ana.get("/me/access-log").get_data(as_text=True))
    for words in ("Patrivue", "read, automatic", "Your accounts: Balances", "42 records", "Overview of your wealth"):
        assert words in page
    (row,) = csv.DictReader(io.StringIO(ana.get("/me/access-log.csv").get_data(as_text=True)))
    assert (row["party"], row["records"], row["person_present"]) == ("Patrivue SAS", "42", "False")
    (plain,) = ana.get("/me/access-log.json").get_json()
    assert (plain["party"], plain["data"], plain["records"]) == ("Patrivue SAS", "Balances", 42)
    assert subject not in str(plain)


def test_a_look_stands_under_the_day_its_time_is_of(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 51: half past midnight in Paris is under the day that has begun there."""
    _look(town, subject, at=TWO_DAYS)
    page = _words(ana.get("/me/access-log").get_data(as_text=True))
    assert "Looks on January 16, 2027" in page
    assert "12:30 AM" in page


LENT = {
    "en": (
        "was lent for a moment, to store it.",
        "was lent for a moment, to read it.",
        "No reading has been reported yet",
    ),
    "fr": ("prêtée un instant, pour les garder.", "prêtée un instant, pour les lire.", "Aucune lecture n’est encore"),
    "es": ("se prestó un momento, para guardarlos.", "se prestó un momento, para leerlos.", "ninguna lectura"),
    "pt": ("por um momento, para os guardar.", "por um momento, para os ler.", "nenhuma leitura"),
}


def test_a_key_lent_is_told_as_such_and_is_no_reading(town: Town, ana: Visitor, subject: SubjectRef) -> None:
    """Consent rule 51: nobody counted a record; what was lent to read with is still not passed over."""
    _agree(ana)
    record = _one(town, subject)
    agreement = f"me/consents/{record.id}"
    _look(town, subject, record.id, ident="dis_hold", records=0, action="hold")
    assert "Nobody has read anything under it." in _words(ana.get(f"/en/{agreement}").get_data(as_text=True))
    _look(town, subject, record.id, ident="dis_lent", records=0)
    for locale, (stored, read, unreported) in LENT.items():
        page = _words(ana.get(f"/{locale}/me/access-log").get_data(as_text=True))
        assert stored in page
        assert read in page
        assert not re.search(r"\b0 (record|élément|dato|registo|registro)", page)
        assert unreported in _words(ana.get(f"/{locale}/{agreement}").get_data(as_text=True))
    _look(town, subject, record.id)
    page = _words(ana.get(f"/en/{agreement}").get_data(as_text=True))
    assert "1 reading, the last on" in page
    assert "No reading has been reported" not in page


def test_the_space_is_one_click_away_everywhere(ana: Visitor) -> None:
    """Consent rule 40: same place, same words."""
    for path in ("/", "/processors", "/privacy", "/consent/jny_one", "/me/security"):
        assert '<a href="/en/me">My space</a>' in ana.get(path).get_data(as_text=True), path


@pytest.mark.parametrize("path", ["/", "/processors", "/processors/patrivue", "/privacy", "/sign-in", "/nothing"])
def test_whom_to_turn_to_is_at_the_foot_of_every_page(visitor: Visitor, path: str) -> None:
    """Consent rule 55: DPO, then authority, then how to complain, always in this order."""
    page = visitor.get(path).get_data(as_text=True)
    foot = page[page.index("<footer") :]
    assert foot.index("mailto:dpo@ormelune.example") < foot.index("CNIL") < foot.index("How we protect your data")


def test_every_party_is_on_the_list_with_every_grant_and_its_reason(town: Town, visitor: Visitor) -> None:
    """Consent rule 52, rule P5: the page is the list the decision reads."""
    listed = visitor.get("/processors").get_data(as_text=True)
    for party in town.house.policy.parties.values():
        page = _words(visitor.get(f"/processors/{party.id}").get_data(as_text=True))
        if party.controller == FIRM:
            assert f'href="/en/processors/{party.id}"' in listed
        for grant in party.grants:
            assert grant.justification[Locale.EN] in page
    assert visitor.get("/processors/nobody").status_code == 404


def test_a_contract_begins_with_the_controllers_day(town: Town) -> None:
    """Rule P1: past midnight in Paris, a contract of that day is in force, whatever day it is elsewhere."""
    policy = town.house.policy
    begun = replace(policy.parties[PARTNER], contract_start=date(2027, 1, 16))
    listed = replace(policy, parties={**policy.parties, PARTNER: begun})
    visitor = Visitor(create_app(replace(town.doors, policy=listed)))
    for hour, barred in ((22, True), (23, False)):
        town.clock.at = TWO_DAYS.replace(hour=hour, minute=30)
        assert ("has no access now" in visitor.get(f"/processors/{PARTNER}").get_data(as_text=True)) is barred
        assert ("no access now" in visitor.get("/processors").get_data(as_text=True)) is barred


def test_another_firms_request_is_signed_in_to_in_its_own_name(town: Town, tmp_path: Path) -> None:
    """Two controllers: a person known to one is not thereby known to the other."""

    class Valombree(Partner):
        def pending(self, journey: str) -> PendingFacts:
            found = Pending(AggregationConsent(purpose="client_reporting"))
            found.controller, found.party = "valombree", "valombree_conseil"
            return found

    app = create_app(replace(town.doors, authorizations=Valombree()))
    town.enrol()
    visitor = Visitor(app)
    visitor.sign_in(town)
    sent = visitor.get("/consent/jny_v")
    assert sent.location == "/en/sign-in?next=/en/consent/jny_v", "signed in at Ormelune is not signed in at Valombrée"
    page = visitor.get(sent.location).get_data(as_text=True)
    assert "The one Valombrée already knows." in page
    visitor.post(sent.location, email=MAILBOX, next="/en/consent/jny_v", at="valombree")
    assert len(town.letters) == 1, "Valombrée does not know her"


@pytest.mark.parametrize("left", ["purposes", "parties"])
def test_what_left_the_pack_can_still_be_read_and_stopped(
    *, town: Town, app: Flask, ana: Visitor, subject: SubjectRef, left: str
) -> None:
    """GDPR art. 7(3): stopping is as easy as agreeing was, whatever a newer pack lists."""
    _agree(ana)
    record, policy = _one(town, subject), town.house.policy
    gone = {"purposes": record.terms.purpose, "parties": record.terms.party}[left]
    listed = {name: one for name, one in getattr(policy, left).items() if name != gone}
    newer = Visitor(create_app(replace(town.doors, policy=replace(policy, **{left: listed}))))
    session = ana.client.get_cookie("regard_session")
    newer.client.set_cookie("regard_session", session.value)
    own = f"/me/consents/{record.id}"
    for path in ("/me/consents", own, f"{own}/withdraw"):
        assert gone in newer.get(path).get_data(as_text=True), path
    with app.test_request_context("/en/"):
        link = stop_path(FIRM, record.id)
    assert newer.client.get(link).status_code == 200
    assert newer.post(f"{own}/withdraw").status_code == 303
    stopped = _one(town, subject)
    assert stopped.state is State.WITHDRAWN
    assert newer.get("/me/consents").status_code == 200
    with town.unit() as unit:
        history = unit.consents.events(FIRM, record.id)
    links = Links("review", "withdraw", "complain")
    known = {"receipt_id": "rcp_1", "at": town.clock.now(), "subject_handle": "h", "head": "0", "links": links}
    made = receipt(stopped, history, replace(policy, **{left: listed}), **known)
    assert made["record"]["processing"]["purpose"]["id"] == record.terms.purpose


@pytest.mark.parametrize("left", ["purposes", "parties", "journeys"])
def test_a_question_that_left_the_pack_says_so_and_leads_back(
    *, town: Town, ana: Visitor, subject: SubjectRef, partner: Partner, left: str
) -> None:
    """An open page of the day before: it is no fault of ours or hers, and saying no stays possible (consent rule 7)."""
    stale = {**carried_by(ana.get("/consent/jny_one").get_data(as_text=True)), "answer": "agree", "period": "180"}
    record, policy = _one(town, subject), town.house.policy
    gone = {"purposes": record.terms.purpose, "parties": record.terms.party, "journeys": "partner_request"}[left]
    listed = {name: one for name, one in getattr(policy, left).items() if name != gone}
    newer = Visitor(create_app(replace(town.doors, policy=replace(policy, **{left: listed}), authorizations=partner)))
    newer.client.set_cookie("regard_session", ana.client.get_cookie("regard_session").value)
    for answer in (newer.get("/consent/jny_one"), newer.client.post("/en/consent/jny_one", data=stale)):
        assert answer.status_code == 410
        assert "This question is no longer asked" in answer.get_data(as_text=True)
        assert 'href="/en/me/consents"' in answer.get_data(as_text=True)
    (back,) = re.findall(r'data-testid="return" href="([^"]+)"', answer.get_data(as_text=True))
    assert newer.get(back).location == "https://partner.example/back?error=access_denied"
    assert _one(town, subject).state is State.REQUESTED, "nobody answered for her"
    assert newer.post(f"/me/consents/{record.id}/withdraw").status_code == 303
    assert _one(town, subject).state is State.REFUSED


def test_a_waiting_question_that_left_the_pack_is_not_put_from_the_space(
    *, town: Town, ana: Visitor, subject: SubjectRef
) -> None:
    record = usecases.propose(
        town.unit(),
        town.house.policy,
        Proposal(FIRM, subject, PurposeId("wealth_overview"), PARTNER),
        ids=town.doors.ids,
        by=Actor(ActorKind.PARTY, PARTNER),
        channel=Channel.API,
        at=town.clock.now(),
    )
    policy = town.house.policy
    listed = {name: one for name, one in policy.purposes.items() if name != record.terms.purpose}
    newer = Visitor(create_app(replace(town.doors, policy=replace(policy, purposes=listed))))
    newer.client.set_cookie("regard_session", ana.client.get_cookie("regard_session").value)
    asked = newer.post(f"/me/consents/{record.id}/answer", page=f"/me/consents/{record.id}")
    assert asked.status_code == 410
    assert 'data-testid="return"' not in asked.get_data(as_text=True), "nobody waits"
