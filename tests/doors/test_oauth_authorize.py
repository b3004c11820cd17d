"""Pushed request, consent page, code, refresh: RFCs 9126, 7636, 9207, 6749, with the negative tests of FAPI 2.0."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from app.http.oauth import ConsentView
from app.sdk.claims import AggregationConsent
from app.sdk.client import Authority
from app.sdk.dpop import Prover, new_key
from app.sdk.errors import Refused
from app.sdk.keyfile import read_key
from app.sdk.partner import Partner
from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from app.tokens.errors import InvalidRequestUri, InvalidTarget
from consent.vocabulary import ConsentId, PartyId, SubjectRef
from tests.doors.demo_house import CALLBACK as DEMO_CALLBACK
from tests.doors.demo_house import DemoHouse, through
from tests.doors.oauth_house import CALLBACK, HOLDER, ISSUER, SUBJECT, House


@pytest.fixture
def house(records_engine: Engine) -> House:
    return House(records_engine)


@pytest.fixture
def light(tmp_path: Path) -> Iterator[House]:
    """The house on SQLite alone, for inputs that never reach the store."""
    engine = open_engine(f"sqlite:///{tmp_path / 'light.sqlite'}")
    RecordsBase.metadata.create_all(engine)
    yield House(engine)
    engine.dispose()


def refused(answer: Any, error: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json["error"]) == (status, error), answer.text


def test_the_whole_way_from_the_pushed_request_to_the_refreshed_token(house: House) -> None:
    pushed = house.push()
    assert pushed.status_code == 201
    assert pushed.json["expires_in"] == 300
    opened = house.open(pushed.json["request_uri"])
    assert opened.status_code == 303
    assert opened.location.startswith("/pt/consent/jrn_")
    assert house.open(pushed.json["request_uri"]).location == opened.location  # a reload works
    journey = opened.location.rsplit("/", 1)[1]
    with house.unit() as unit:
        pending = house.authorizations.pending(unit, journey)
    assert (pending.client, pending.party, pending.proposal.purpose) == ("partner", "aggregator", "budget")
    back = house.complete(journey)
    assert (back["iss"], back["state"]) == (ISSUER, "st-1")  # RFC 9207
    answer = house.redeem(back["code"])
    assert answer.status_code == 200, answer.text
    # asked: balances and loans; agreed: balances and transactions; granted: what both say
    assert answer.json["authorization_details"][0]["categories"] == ["accounts.balances"]
    assert answer.json["authorization_details"][0]["consent_id"] == house.consent
    assert answer.json["scope"] == "consents.read"
    seen = house.introspect(answer.json["access_token"])
    assert (seen["active"], seen["attended"], seen["aud"]) == (True, True, HOLDER)
    for _ in range(2):  # not rotated: a lost answer is repeatable (FAPI 2.0 5.3.2.1-9)
        fresh = refresh(house, answer.json["refresh_token"])
        assert fresh.status_code == 200, fresh.text
        assert "refresh_token" not in fresh.json
        assert house.introspect(fresh.json["access_token"])["attended"] is False


def refresh(house: House, token: str, **more: Any) -> Any:
    who = more.pop("who", house.partner)
    return house.post("/oauth/token", who, grant_type="refresh_token", refresh_token=token, **more)


def test_a_refusal_of_the_person_goes_back_with_issuer_and_state(house: House) -> None:
    journey = house.journey()
    with house.unit() as unit:
        url = house.authorizations.refuse(unit, journey)
        unit.commit()
    assert url.startswith(CALLBACK)
    assert "error=access_denied" in url
    assert "state=st-1" in url
    assert "iss=https%3A%2F%2Fregard.example" in url
    with pytest.raises(InvalidRequestUri):
        house.complete(journey)


def test_a_request_is_over_once_completed(house: House) -> None:
    pushed = house.push().json["request_uri"]
    journey = house.open(pushed).location.rsplit("/", 1)[1]
    house.complete(journey)
    refused(house.open(pushed), "invalid_request_uri")
    with pytest.raises(InvalidRequestUri):
        house.complete(journey)


def test_a_request_waits_five_minutes_to_be_opened_and_an_hour_to_be_answered(house: House) -> None:
    late = house.push().json["request_uri"]
    house.clock.forward(seconds=300)
    refused(house.open(late), "invalid_request_uri")
    journey = house.journey()
    house.clock.forward(minutes=59)
    assert house.complete(journey)["code"]
    journey = house.journey()
    house.clock.forward(minutes=60)
    with pytest.raises(InvalidRequestUri):
        house.complete(journey)


def test_a_request_nobody_opened_cannot_be_completed(house: House) -> None:
    house.push()
    with house.unit() as unit:
        journey = house.snapshot()["oauth_requests"][0]
        found = journey[journey.index("jrn_") :].split("'")[0]
        with pytest.raises(InvalidRequestUri):
            house.authorizations.complete(unit, found, ConsentId(house.consent), SUBJECT)


def test_completing_needs_this_subject_s_own_consent(house: House) -> None:
    journey = house.journey()
    with house.unit() as unit, pytest.raises(InvalidRequestUri):
        house.authorizations.complete(unit, journey, ConsentId(house.consent), SubjectRef("sub_two"))
    with house.unit() as unit, pytest.raises(InvalidRequestUri):
        house.authorizations.complete(unit, journey, ConsentId("con_none"), SUBJECT)
    assert house.complete(journey)["code"]  # left without commit: nothing had happened


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"redirect_uri": "https://evil.example/back"}, "invalid_request"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_request"),
        ({"redirect_uri": CALLBACK + '?"x'}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "exports.read"}, "invalid_scope"),
        ({"scope": "root"}, "invalid_scope"),
        ({"resource": "https://nowhere.example"}, "invalid_target"),
        ({"authorization_details": None}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type":"aggregation_consent"}]'}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type":"aggregation_consent","odd":1}]'}, "invalid_authorization_details"),
        ({"request_uri": "urn:x"}, "invalid_request"),
        ({"request": "e30.e30.e30"}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        ({"dpop_jkt": "x" * 44}, "invalid_request"),
        ({"dpop_jkt": "x" * 42 + "="}, "invalid_request"),
        ({"dpop_jkt": "x" * 43 + "\n"}, "invalid_request"),
        ({"state": "s" * 20_000}, "invalid_request"),
        ({"state": "s" * 70_000}, "invalid_request"),
    ],
)
def test_a_bad_request_is_refused_before_any_browser_sees_it(light: House, form: dict[str, Any], error: str) -> None:
    before = light.snapshot()
    answer = light.push(**form)
    refused(answer, error)
    assert answer.location is None
    assert light.snapshot() == before


def test_a_client_cannot_push_in_another_s_name(house: House) -> None:
    refused(house.push(client_id="holder"), "invalid_client", 401)
    refused(house.push(who=house.collector), "invalid_request")  # has no such address


def test_only_client_and_reference_are_read_from_the_browser(house: House) -> None:
    """RFC 9126 section 5: what the browser adds could be an attacker's."""
    uri = house.push().json["request_uri"]
    refused(house.open(uri, redirect_uri="https://evil.example"), "invalid_request")
    refused(house.open(uri, scope="keys.lease"), "invalid_request")
    refused(house.open(uri, client="holder"), "invalid_request_uri")
    refused(house.open("urn:ietf:params:oauth:request_uri:unknown"), "invalid_request_uri")
    refused(house.web.get("/oauth/authorize?client_id=partner&response_type=code"), "invalid_request")
    refused(house.web.get("/oauth/authorize"), "invalid_request")
    assert house.open(uri).status_code == 303


def test_a_code_lives_sixty_seconds(house: House) -> None:
    code = house.code()
    house.clock.forward(seconds=60)
    refused(house.redeem(code), "invalid_grant")


def test_a_code_used_twice_ends_what_it_gave(house: House) -> None:
    """RFC 6749 section 4.1.2."""
    code = house.code()
    first = house.redeem(code).json
    assert house.introspect(first["access_token"])["active"] is True
    refused(house.redeem(code), "invalid_grant")
    assert house.introspect(first["access_token"]) == {"active": False}
    refused(refresh(house, first["refresh_token"]), "invalid_grant")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code": None}, "invalid_request"),
        ({"code": "rgc_unknown"}, "invalid_grant"),
        ({"redirect_uri": "https://evil.example/back"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"resource": ISSUER}, "invalid_target"),
        ({"proof": None}, "invalid_dpop_proof"),
    ],
)
def test_a_bad_redemption_is_refused_and_leaves_the_code_as_it_was(
    light: House, form: dict[str, Any], error: str
) -> None:
    code = light.code()
    before = light.snapshot()
    refused(light.redeem(code, **form), error)
    assert light.snapshot() == before
    assert light.redeem(code).status_code == 200


def test_a_code_is_worth_nothing_to_another_client(house: House) -> None:
    code = house.code()
    refused(house.redeem(code, who=house.collector), "invalid_grant")
    assert house.redeem(code).status_code == 200


def test_a_code_bound_to_a_key_needs_that_key(house: House) -> None:
    """RFC 9449 section 10."""
    thief = Prover(new_key(), house.clock.now)
    for bound in ({"dpop_jkt": house.partner.prover.jkt}, {"proof": house.partner.proof("/oauth/par")}):
        code = house.code(**bound)
        refused(house.redeem(code, proof=thief.prove("POST", ISSUER + "/oauth/token")), "invalid_dpop_proof")
        assert house.redeem(code).status_code == 200
    refused(house.push(proof=house.partner.proof("/oauth/par"), dpop_jkt=thief.jkt), "invalid_dpop_proof")


def test_a_refresh_token_is_bound_to_client_and_key_and_stays_inside_the_grant(house: House) -> None:
    token = house.redeem(house.code()).json["refresh_token"]
    thief = Prover(new_key(), house.clock.now)
    refused(refresh(house, token, who=house.collector), "invalid_grant")
    refused(refresh(house, token, proof=thief.prove("POST", ISSUER + "/oauth/token")), "invalid_dpop_proof")
    refused(refresh(house, token, scope="keys.lease"), "invalid_scope")
    refused(refresh(house, token, resource=ISSUER), "invalid_target")
    refused(refresh(house, "rgr_unknown"), "invalid_grant")
    assert refresh(house, token).status_code == 200


def test_after_a_withdrawal_neither_code_nor_refresh_token_opens_anything(house: House) -> None:
    token, code = house.redeem(house.code()).json["refresh_token"], house.code()
    house.facts.withdraw(house.consent)
    for answer in (refresh(house, token), house.redeem(code)):
        refused(answer, "invalid_grant")
        assert "consent_withdrawn" in answer.json["error_description"]


def test_revoking_the_refresh_token_ends_the_grant(house: House) -> None:
    given = house.redeem(house.code()).json
    answer = house.post("/oauth/revoke", house.partner, proof=None, token=given["refresh_token"])
    assert answer.status_code == 200
    refused(refresh(house, given["refresh_token"]), "invalid_grant")
    assert house.introspect(given["access_token"]) == {"active": False}


def test_a_token_issued_while_its_grant_is_revoked_does_not_outlive_it(house: House) -> None:
    """RFC 7009 section 2.1: all tokens of the grant end, the one that is on its way too."""
    token = house.redeem(house.code()).json["refresh_token"]
    revoked: list[int] = []

    def revoke(other: House) -> None:
        revoked.append(other.post("/oauth/revoke", other.partner, proof=None, token=token).status_code)

    thread = meanwhile(house, revoke)
    fresh = refresh(house, token)
    thread.join()
    assert revoked == [200]
    assert fresh.status_code == 400 or house.introspect(fresh.json["access_token"]) == {"active": False}
    refused(refresh(house, token), "invalid_grant")


def test_of_two_that_race_with_one_code_neither_keeps_a_token(house: House) -> None:
    """RFC 6749 section 4.1.2."""
    code, answers = house.code(), []
    thread = meanwhile(house, lambda other: answers.append(other.redeem(code)))
    answers.append(house.redeem(code))
    thread.join()
    given, late = sorted(answers, key=lambda answer: int(answer.status_code))
    refused(late, "invalid_grant")
    assert given.status_code == 200
    assert house.introspect(given.json["access_token"]) == {"active": False}
    refused(refresh(house, given.json["refresh_token"]), "invalid_grant")


def meanwhile(house: House, act: Callable[[House], None]) -> threading.Thread:
    """Let a rival act once the token door has read the grant; the door goes on when it is done, or has to wait."""
    rival, view = copy(house), house.facts.view
    rival.web = house.web.application.test_client()
    thread = threading.Thread(target=act, args=(rival,))

    def look(consent: ConsentId) -> ConsentView | None:
        house.facts.view = view  # type: ignore[method-assign]
        thread.start()
        thread.join(0.5)
        return view(consent)

    house.facts.view = look  # type: ignore[method-assign]
    return thread


def test_an_existing_consent_may_be_named_in_a_request_if_it_is_one_s_own(house: House) -> None:
    own = json.dumps([{"type": "aggregation_consent", "consent_id": house.consent}])
    assert house.push(authorization_details=own).status_code == 201
    other = json.dumps([{"type": "aggregation_consent", "consent_id": "con_none"}])
    refused(house.push(authorization_details=other), "invalid_authorization_details")


def test_a_holder_the_consent_does_not_name_gets_neither_code_nor_token(house: House) -> None:
    """consent rules 15, 51; RFC 8707 section 2."""
    there = "https://other.example"
    house.component("other", "elsewhere", resource=there)
    own = json.dumps([{"type": "aggregation_consent", "consent_id": house.consent}])
    refused(house.push(authorization_details=own, resource=there), "invalid_target")
    refused(house.push(resource=there), "invalid_target")  # nor would the page of a new one
    house.facts.on_the_page.add(PartyId("elsewhere"))
    with pytest.raises(InvalidTarget):
        house.complete(house.journey(resource=there))
    view = house.facts.consents[house.consent]
    house.facts.consents[house.consent] = replace(view, parties=view.parties | {PartyId("elsewhere")})
    given, code = house.redeem(house.code(resource=there)).json, house.code(resource=there)
    house.facts.consents[house.consent] = view
    refused(refresh(house, given["refresh_token"]), "invalid_target")
    refused(house.redeem(code), "invalid_target")


def test_a_client_suspended_meanwhile_gets_no_code(house: House) -> None:
    journey = house.journey()
    house.facts.suspended_parties.add("aggregator")
    with pytest.raises(InvalidRequestUri):
        house.complete(journey)


def test_what_the_pack_does_not_let_the_client_ask_is_refused_before_any_browser(light: House) -> None:
    """RFC 9396 section 5: the partner hears it at once, and nobody signs in for a page of errors."""
    light.facts.unfit_purposes.add("budget")
    before = light.snapshot()
    answer = light.push()
    refused(answer, "invalid_authorization_details")
    assert answer.json["error_description"] == "aggregator may not ask for budget"
    assert light.snapshot() == before
    light.facts.unfit_purposes.clear()
    assert light.push().status_code == 201


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHouse]:
    """The wired house with the shipped pack, where `app` is Patrivue's."""
    with pytest.MonkeyPatch.context() as patch:
        at = DemoHouse(tmp_path_factory.mktemp("wired"), patch)
        yield at
        at.house.close()


@pytest.mark.parametrize(
    ("purpose", "categories", "words"),
    [
        ("budget", ["accounts.balances"], "the policy pack has no purpose budget"),
        ('Ana "Silva', ["accounts.balances"], "the policy pack has no purpose of that name"),
        ("wealth_overview", ["accounts.cents"], "the policy pack has no category accounts.cents"),
        ("wealth_overview", ["accounts"], "the policy pack has no category accounts"),
        ("wealth_overview", ["Ana Silva"], "the policy pack has no category of that name"),
        # consent rule 11
        (
            "wealth_overview",
            ["accounts.balances", "income.payslips"],
            "the category income.payslips is outside the purpose wealth_overview",
        ),
        # dsar rule P5: in the purpose, and not granted to this party
        (
            "wealth_overview",
            ["accounts.balances", "loans.running"],
            "the category loans.running is not granted to patrivue for wealth_overview",
        ),
        ("news_offers", ["contact.details"], "the purpose news_offers is not granted to patrivue"),
        # another controller's purpose is none here
        ("client_advice", ["accounts.balances"], "the policy pack has no purpose client_advice"),
    ],
)
def test_the_shipped_pack_says_which_word_of_a_proposal_is_wrong(
    wired: DemoHouse, purpose: str, categories: list[str], words: str
) -> None:
    answer = pushed_to(wired, purpose, categories)
    said = answer.json()
    assert (answer.status_code, said["error"]) == (400, "invalid_authorization_details")
    assert said["error_description"] == words
    assert wired.rows("oauth_requests") == []


@pytest.mark.parametrize(
    ("path", "words"),
    [("by_magic", "there is no access path by_magic"), ('Ana "Silva', "there is no access path of that name")],
)
def test_a_way_to_the_data_that_nobody_has_is_refused_when_it_is_pushed(
    wired: DemoHouse, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    """RFC 9396 section 5; the SDK's own partner sends none, another client may send anything."""
    plain = AggregationConsent.to_json
    monkeypatch.setattr(AggregationConsent, "to_json", lambda asked: {**plain(asked), "access_path": path})
    said = pushed_to(wired, "wealth_overview", ["accounts.balances"]).json()
    assert (said["error"], said["error_description"]) == ("invalid_authorization_details", words)
    assert wired.rows("oauth_requests") == []


def test_the_shipped_pack_has_no_holder_that_the_page_would_not_name(wired: DemoHouse) -> None:
    """Consent rules 15, 51; RFC 8707 section 2: refused when it is pushed, not once the person has agreed."""
    elsewhere = "https://fauvette.example"
    wired.register("fauvette", party=PartyId("assurances_fauvette"), grants=("client_credentials",), resource=elsewhere)
    answer = pushed_to(wired, "wealth_overview", ["accounts.balances"], resource=elsewhere)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    assert wired.rows("oauth_requests") == []


def pushed_to(at: DemoHouse, purpose: str, categories: list[str], **more: str) -> httpx.Response:
    """Push a proposal to a wired house as Patrivue's app does, and return the bare answer: a refusal."""
    heard: list[httpx.Response] = []

    def line(sent: httpx.Request) -> httpx.Response:
        heard.append(through(at.app, sent))
        return heard[-1]

    http = httpx.Client(transport=httpx.MockTransport(line))
    authority = Authority(ISSUER, "app", read_key(at.key("app")), http=http, clock=at.clock.now)
    with pytest.raises(Refused):
        Partner(authority, DEMO_CALLBACK).push(purpose=purpose, categories=categories, **more)
    return heard[-1]
