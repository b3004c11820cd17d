"""Gate and client against the real authorization server: yes, every no, and no answer at all (tokens.md section 6)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from jwt.api_jws import PyJWS

from app.sdk import scopes
from app.sdk.client import Authority
from app.sdk.dpop import Prover, new_key, public_jwk
from app.sdk.errors import Malformed, Refused, Unreachable
from app.sdk.gate import Deny, Gate, Permit, Reason
from app.sdk.scopes import SENTENCES, Scope
from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from tests.doors.oauth_house import HOLDER, House
from tests.mechanism.sdk_house import Doors, Wire, authority, outage

URL = HOLDER + "/records"
BALANCES = "accounts.balances"


@pytest.fixture
def house(tmp_path: Path) -> House:
    engine = open_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
    RecordsBase.metadata.create_all(engine)
    return House(engine)


@pytest.fixture
def doors(house: House) -> Doors:
    return Doors(house)


@pytest.fixture
def reader(house: House, doors: Doors) -> Authority:
    return authority(house, house.collector)


@pytest.fixture
def gate(house: House, doors: Doors) -> Gate:
    return Gate(authority(house, house.holder, resource=HOLDER), HOLDER)


def presented(reader: Authority, house: House, *categories: str, url: str = URL, method: str = "GET") -> Wire:
    token = reader.token(house.consent, HOLDER, categories)
    return Wire(method, url, reader.headers(token, method, url))


def denied(verdict: Permit | Deny, reason: Reason) -> None:
    assert isinstance(verdict, Deny)
    assert verdict.reason is reason


def test_a_good_token_is_permitted_with_what_it_binds_to(house: House, reader: Authority, gate: Gate) -> None:
    verdict = gate.check(presented(reader, house), "budget", [BALANCES], subject="pw_vault-firm_sub_one")
    assert isinstance(verdict, Permit)
    assert (verdict.party, verdict.client_id, verdict.consent) == ("aggregator", "collector", "con_one")
    assert (verdict.subject, verdict.attended) == ("pw_vault-firm_sub_one", False)
    assert verdict.obligations["keep"] == "call"
    assert "rgt_" not in repr(verdict)


def test_after_a_withdrawal_the_next_check_is_a_no(house: House, reader: Authority, gate: Gate) -> None:
    token = reader.token(house.consent, HOLDER)

    def check() -> Permit | Deny:
        return gate.check(Wire("GET", URL, reader.headers(token, "GET", URL)), "budget", [BALANCES])

    assert isinstance(check(), Permit)
    house.facts.withdraw(house.consent)
    denied(check(), Reason.INACTIVE)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"purpose": "marketing"}, Reason.OTHER_PURPOSE),
        ({"categories": ["accounts.transactions"]}, Reason.OTHER_CATEGORY),
        ({"categories": [BALANCES, "loans"]}, Reason.OTHER_CATEGORY),
        ({"categories": []}, Reason.OTHER_CATEGORY),
        ({"action": "transmit"}, Reason.OTHER_ACTION),
        ({"subject": "pw_somebody_else"}, Reason.OTHER_SUBJECT),
        ({"attended": True}, Reason.NOT_ATTENDED),
    ],
)
def test_a_token_opens_no_more_than_its_consent(
    house: House, reader: Authority, gate: Gate, asked: dict[str, Any], reason: Reason
) -> None:
    said: dict[str, Any] = {"purpose": "budget", "categories": [BALANCES], **asked}
    verdict = gate.check(presented(reader, house, BALANCES), **said)
    denied(verdict, reason)
    assert isinstance(verdict, Deny)
    assert verdict.status == 403


def test_without_token_or_with_another_scheme(house: House, reader: Authority, gate: Gate) -> None:
    token = reader.token(house.consent, HOLDER)
    for headers in ({}, {"Authorization": f"Bearer {token.secret}"}, {"Authorization": "DPoP"}):
        denied(gate.check(Wire("GET", URL, headers), "budget", [BALANCES]), Reason.NO_TOKEN)


def test_a_stolen_token_or_a_replayed_proof_opens_nothing(house: House, reader: Authority, gate: Gate) -> None:
    token = reader.token(house.consent, HOLDER)
    thief = Prover(new_key(), house.clock.now)
    stolen = {"Authorization": f"DPoP {token.secret}", "DPoP": thief.prove("GET", URL, access_token=token.secret)}
    denied(gate.check(Wire("GET", URL, stolen), "budget", [BALANCES]), Reason.OTHER_KEY)
    bare = {"Authorization": f"DPoP {token.secret}"}
    denied(gate.check(Wire("GET", URL, bare), "budget", [BALANCES]), Reason.BAD_PROOF)
    header = {"typ": "dpop+jwt", "jwk": public_jwk(thief._key)}
    deep = PyJWS().encode(b"[" * 5000, thief._key, algorithm="ES256", headers=header)
    denied(gate.check(Wire("GET", URL, {**bare, "DPoP": deep}), "budget", [BALANCES]), Reason.BAD_PROOF)
    good = Wire("GET", URL, reader.headers(token, "GET", URL))
    assert isinstance(gate.check(good, "budget", [BALANCES]), Permit)
    denied(gate.check(good, "budget", [BALANCES]), Reason.REPLAYED)
    house.clock.forward(seconds=61)
    denied(gate.check(good, "budget", [BALANCES]), Reason.BAD_PROOF)
    for method, url in (("POST", URL), ("GET", URL + "/other"), ("GET", "https://evil.example/records")):
        other = Wire("GET", URL, reader.headers(token, method, url))
        denied(gate.check(other, "budget", [BALANCES]), Reason.BAD_PROOF)


def test_a_token_for_another_holder_is_inactive_here(house: House, reader: Authority, gate: Gate) -> None:
    house.component("second", "vault-firm", resource="https://second.example")
    token = reader.token(house.consent, "https://second.example")
    request = Wire("GET", URL, reader.headers(token, "GET", URL))
    denied(gate.check(request, "budget", [BALANCES]), Reason.INACTIVE)


def test_no_answer_is_a_no(house: House, reader: Authority, gate: Gate, doors: Doors) -> None:
    request = presented(reader, house)
    with outage(doors):
        verdict = gate.check(request, "budget", [BALANCES])
    denied(verdict, Reason.UNREACHABLE)
    assert isinstance(verdict, Deny)
    assert verdict.status == 503
    request = presented(reader, house)
    house.facts.suspended_parties.add("vault-firm")
    denied(gate.check(request, "budget", [BALANCES]), Reason.NOT_ANSWERED)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"active": "yes"}),
        httpx.Response(200, json={"active": True}),
        httpx.Response(200, json={"active": True, "client_id": "c", "party": "p", "aud": HOLDER, "cnf": {"jkt": "x"}}),
        httpx.Response(302, headers={"Location": "https://evil.example"}),
        httpx.Response(500),
        httpx.Response(429),
    ],
)
def test_a_strange_answer_is_a_no(house: House, reader: Authority, answer: httpx.Response) -> None:
    request = presented(reader, house)
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    odd = Authority("https://odd.example", "holder", new_key(), resource=HOLDER, http=http, clock=house.clock.now)
    assert isinstance(Gate(odd, HOLDER).check(request, "budget", [BALANCES]), Deny)


def test_a_silent_authority_is_unreachable(house: House) -> None:
    def silence(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("no answer", request=request)

    http = httpx.Client(transport=httpx.MockTransport(silence))
    lost = Authority("https://lost.example", "holder", new_key(), resource=HOLDER, http=http)
    with pytest.raises(Unreachable):
        lost.introspect("rgt_x")


def test_a_flask_view_runs_only_on_a_yes(house: House, reader: Authority, gate: Gate, doors: Doors) -> None:
    web = Flask("holder")

    @web.get("/records/<whose>")
    @gate.flask("budget", [BALANCES], subject="whose")
    def records(whose: str, permit: Permit) -> dict[str, str]:
        return {"subject": permit.subject, "whose": whose}

    client = web.test_client()
    path = "/records/pw_vault-firm_sub_one"
    bare = client.get(path)
    assert (bare.status_code, bare.json) == (401, {"code": "no_token"})
    assert bare.headers["WWW-Authenticate"].startswith("DPoP")
    good = presented(reader, house, url=HOLDER + path)
    assert client.get(path, headers=dict(good.headers)).json["subject"] == "pw_vault-firm_sub_one"
    other = "/records/pw_vault-firm_sub_two"
    wrong = presented(reader, house, url=HOLDER + other)
    assert client.get(other, headers=dict(wrong.headers)).status_code == 403
    late = presented(reader, house, url=HOLDER + path)
    with outage(doors):
        away = client.get(path, headers=dict(late.headers))
    assert (away.status_code, away.headers["Retry-After"]) == (503, "5")


def test_an_own_token_is_kept_and_replaced_in_time(house: House, reader: Authority) -> None:
    first = reader.own_token(Scope.KEYS_LEASE)
    house.clock.forward(seconds=270)
    assert reader.own_token(Scope.KEYS_LEASE) is first
    house.clock.forward(seconds=15)
    second = reader.own_token(Scope.KEYS_LEASE)
    assert second.secret != first.secret
    assert second.expires_at == house.clock.now() + timedelta(seconds=300)
    assert second.secret not in repr(second)


def test_an_own_token_ended_early_is_replaced_once(house: House, reader: Authority, doors: Doors) -> None:
    token = reader.own_token(Scope.DISCLOSURES_WRITE)
    house.post("/oauth/revoke", house.collector, proof=None, token=token.secret)
    answer = reader.call("POST", "/api/v1/disclosures", Scope.DISCLOSURES_WRITE, {"disclosures": []})
    assert answer == {"written": 0, "known": 0}


def test_refusals_carry_the_stable_code(house: House, reader: Authority) -> None:
    with pytest.raises(Refused) as refusal:
        reader.token("con_unknown", HOLDER)
    assert (refusal.value.status, refusal.value.error) == (400, "invalid_authorization_details")
    with pytest.raises(Refused):
        reader.own_token(Scope.EXPORTS_READ)


def test_a_required_nonce_is_learnt_by_itself(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
    RecordsBase.metadata.create_all(engine)
    house = House(engine, nonce=True)
    reader = authority(house, house.collector)
    assert reader.token(house.consent, HOLDER).secret


def test_plain_http_is_for_the_loopback_alone() -> None:
    Authority("http://127.0.0.1:8000", "c", new_key())
    for issuer in ("http://regard.example", "ftp://localhost", "regard.example"):
        with pytest.raises(ValueError, match="https"):
            Authority(issuer, "c", new_key())
    with pytest.raises(ValueError, match="resource"):
        Gate(Authority("https://regard.example", "c", new_key()), HOLDER)


def test_every_scope_has_its_sentence_in_four_languages() -> None:
    assert SENTENCES.keys() == set(Scope)
    for sentences in SENTENCES.values():
        assert set(sentences) == {"fr", "en", "es", "pt"}
        assert all(sentences.values())
        assert len(set(sentences.values())) == 4
    assert scopes.join(scopes.parse("keys.lease consents.read")) == "consents.read keys.lease"
    with pytest.raises(Malformed):
        scopes.parse("keys.lease root")
