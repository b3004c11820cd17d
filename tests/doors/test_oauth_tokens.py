"""The token and introspection doors: what is given, what is refused, and that a refusal changes nothing.

FAPI 2.0 Security Profile 5.3.2 and RFC 9700, positive and negative (tokens.md section 4); consent rule 14 on counting.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Engine

from app.http.errors import ClientUnknown
from app.sdk.dpop import Prover, new_key
from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from consent.reasons import Reason
from consent.vocabulary import PartyId
from tests.doors.oauth_house import HOLDER, ISSUER, START, Component, House


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
    assert "token" not in str(answer.json.get("access_token", ""))
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_component_gets_a_token_bound_to_the_consent_and_its_audience_sees_it(house: House) -> None:
    answer = house.token(authorization_details=house.details(categories=["accounts.balances"]))
    assert answer.status_code == 200, answer.text
    assert answer.json["token_type"] == "DPoP"
    assert answer.json["expires_in"] == 300
    assert "refresh_token" not in answer.json
    assert len(base64.urlsafe_b64decode(answer.json["access_token"][4:] + "=")) == 32
    seen = house.introspect(answer.json["access_token"])
    assert seen["active"] is True
    assert seen["cnf"] == {"jkt": house.collector.prover.jkt}
    assert (seen["aud"], seen["iss"], seen["client_id"], seen["party"]) == (HOLDER, ISSUER, "collector", "aggregator")
    assert seen["sub"] == "pw_vault-firm_sub_one"
    assert seen["authorization_details"] == answer.json["authorization_details"]
    assert seen["authorization_details"][0]["categories"] == ["accounts.balances"]
    assert (seen["consent_version"], seen["attended"], seen["obligations"]["keep"]) == (3, False, "call")


def test_only_the_hash_of_a_token_is_stored(house: House) -> None:
    token = house.token().json["access_token"]
    assert token not in repr(house.snapshot())


def test_introspection_answers_the_audience_alone(house: House) -> None:
    token = house.token().json["access_token"]
    assert house.introspect(token, house.stranger) == {"active": False}
    assert house.introspect(token, house.collector) == {"active": False}
    assert house.introspect("rgt_" + "x" * 43) == {"active": False}
    assert house.introspect(token)["active"] is True


def test_after_a_withdrawal_the_very_next_introspection_and_issue_are_refused(house: House) -> None:
    token = house.token().json["access_token"]
    assert house.introspect(token)["active"] is True
    house.facts.withdraw(house.consent)
    assert house.introspect(token) == {"active": False}
    answer = house.token()
    refused(answer, "access_denied")
    assert "consent_withdrawn" in answer.json["error_description"]
    assert house.entries[-1][0] == "token.refused"


def test_a_token_of_an_earlier_version_is_over_even_if_the_consent_is_live(house: House) -> None:
    token = house.token().json["access_token"]
    view = house.facts.consents[house.consent]
    house.facts.consents[house.consent] = replace(view, version=view.version + 1)
    assert house.introspect(token) == {"active": False}


def test_the_judge_is_asked_each_time_and_counts_only_at_issue(house: House) -> None:
    token = house.token().json["access_token"]
    house.introspect(token)
    house.introspect(token)
    assert [question.opens_read for question in house.facts.questions] == [True, False, False]


def test_a_token_ends_after_its_life_and_with_its_consent(house: House) -> None:
    token = house.token().json["access_token"]
    house.clock.forward(seconds=299)
    assert house.introspect(token)["active"] is True
    house.clock.forward(seconds=1)
    assert house.introspect(token) == {"active": False}
    house.consent = house.agree("con_short", until=house.clock.now() - START)
    house.facts.consents["con_short"] = replace(
        house.facts.consents["con_short"], valid_until=house.clock.now() + (house.clock.now() - START) / 10
    )
    assert house.token().json["expires_in"] == 30


def test_a_component_may_introspect_with_its_own_token_bound_to_its_key(house: House) -> None:
    own = house.post("/oauth/token", house.holder, grant_type="client_credentials", scope="keys.lease").json
    token = house.token().json["access_token"]

    def ask(proof: str, secret: str) -> Any:
        headers = {"Authorization": f"DPoP {secret}", "DPoP": proof}
        return house.web.post("/oauth/introspect", data={"token": token}, headers=headers)

    good = house.holder.proof("/oauth/introspect", access_token=own["access_token"])
    assert ask(good, own["access_token"]).json["active"] is True
    refused(ask(good, own["access_token"]), "invalid_dpop_proof")  # replayed
    thief = Prover(new_key(), house.clock.now)
    stolen = thief.prove("POST", ISSUER + "/oauth/introspect", access_token=own["access_token"])
    refused(ask(stolen, own["access_token"]), "invalid_token", 401)


def test_four_unattended_reads_in_24_hours_and_attended_ones_uncounted(house: House) -> None:
    """RTS art. 36(5)(b), consent rule 14: counted at issue, rolling."""
    for _ in range(4):
        assert house.token().status_code == 200
        house.clock.forward(hours=1)
    answer = house.token()
    refused(answer, "access_denied")
    assert "frequency_exceeded" in answer.json["error_description"]
    house.facts.present.add(house.consent)
    assert house.token().status_code == 200
    house.facts.present.clear()
    refused(house.token(), "access_denied")
    house.clock.forward(hours=20, seconds=1)
    assert house.token().status_code == 200
    refused(house.token(), "access_denied")


def test_two_issues_at_once_cannot_both_be_the_last_one_allowed(house: House) -> None:
    house.consent = house.agree("con_rare", reads_per_day=1)
    asks: list[Callable[[], Any]] = []
    for _ in range(4):
        form = {
            "grant_type": "client_credentials",
            "resource": HOLDER,
            "authorization_details": house.details(),
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": house.collector.assertion(),
        }
        headers = {"DPoP": house.collector.proof("/oauth/token")}
        web = house.web.application.test_client()
        asks.append(lambda web=web, form=form, headers=headers: web.post("/oauth/token", data=form, headers=headers))
    codes: list[int] = []
    threads = [threading.Thread(target=lambda ask=ask: codes.append(ask().status_code)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 400, 400, 400]


def test_a_replayed_assertion_races_to_one_token_only(house: House) -> None:
    assertion = house.collector.assertion()
    codes: list[int] = []

    def ask(proof: str) -> None:
        web = house.web.application.test_client()
        form = {
            "grant_type": "client_credentials",
            "scope": "keys.lease",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        codes.append(web.post("/oauth/token", data=form, headers={"DPoP": proof}).status_code)

    threads = [threading.Thread(target=ask, args=(house.collector.proof("/oauth/token"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 401, 401, 401]


def test_a_clock_ten_seconds_ahead_is_accepted_and_over_sixty_refused(house: House) -> None:
    """FAPI 2.0 5.3.2.1."""
    now = int(house.clock.now().timestamp())
    ahead = house.collector.assertion(iat=now + 10, nbf=now + 10)
    assert house.token(assertion=ahead, proof=_proof(house, 10)).status_code == 200
    refused(house.token(assertion=house.collector.assertion(iat=now + 61)), "invalid_client", 401)
    refused(house.token(assertion=house.collector.assertion(nbf=now + 61)), "invalid_client", 401)
    refused(house.token(proof=_proof(house, 61)), "invalid_dpop_proof")


def _proof(house: House, seconds: int, **more: Any) -> str:
    """A proof made by a clock that is `seconds` ahead."""
    from datetime import timedelta

    prover = house.collector.prover
    keep, prover._clock = prover._clock, lambda: house.clock.now() + timedelta(seconds=seconds)
    try:
        return prover.prove("POST", ISSUER + "/oauth/token", **more)
    finally:
        prover._clock = keep


def _unsigned(who: Component) -> str:
    return jwt.encode(
        {"iss": who.record.id, "sub": who.record.id, "aud": ISSUER, "jti": "x" * 20}, None, algorithm="none"
    )


def _confused(who: Component) -> str:
    """HS256 under the bytes of the registered public key."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": who.kid}).encode()).rstrip(b"=")
    claims = who.assertion().split(".")[1].encode()
    import hashlib
    import hmac

    pem = who.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    tag = hmac.new(pem, header + b"." + claims, hashlib.sha256).digest()
    return b".".join((header, claims, base64.urlsafe_b64encode(tag).rstrip(b"="))).decode()


BAD_ASSERTIONS: dict[str, Callable[[Component], str]] = {
    "audience is the token endpoint": lambda who: who.assertion(aud=ISSUER + "/oauth/token"),
    "audience is a list": lambda who: who.assertion(aud=[ISSUER]),
    "audience is another server": lambda who: who.assertion(aud="https://other.example"),
    "no audience": lambda who: who.assertion(aud=None),
    "no kid": lambda who: who.assertion(headers={}),
    "another kid": lambda who: who.assertion(headers={"kid": "other"}),
    "somebody else's key": lambda who: who.assertion(key=new_key()),
    "alg none": _unsigned,
    "alg HS256 with the public key": _confused,
    "expired": lambda who: who.assertion(exp=int(START.timestamp()) - 1),
    "no end": lambda who: who.assertion(exp=None),
    "ends in an hour": lambda who: who.assertion(exp=int(START.timestamp()) + 3600),
    "end is text": lambda who: who.assertion(exp="soon"),
    "no jti": lambda who: who.assertion(jti=None),
    "short jti": lambda who: who.assertion(jti="a"),
    "issuer is another": lambda who: who.assertion(iss="holder"),
    "unknown client": lambda who: who.assertion(iss="nobody", sub="nobody"),
    "subject is a number": lambda who: who.assertion(sub=5),
    "not a token": lambda who: "a.b.c",
    "too long": lambda who: who.assertion(more="x" * 10_000),
    "deep JSON": lambda who: base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.e30",
}


@pytest.mark.parametrize("fault", BAD_ASSERTIONS)
def test_a_bad_assertion_is_refused_and_nothing_changes(light: House, fault: str) -> None:
    before = light.snapshot()
    refused(light.token(assertion=BAD_ASSERTIONS[fault](light.collector)), "invalid_client", 401)
    assert light.snapshot() == before
    assert light.token().status_code == 200


def _other_key_in_header(house: House) -> str:
    good = house.collector.proof("/oauth/token")
    _, claims, signature = good.split(".")
    header = jwt.get_unverified_header(house.holder.proof("/oauth/token"))
    coded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{coded}.{claims}.{signature}"


def _private_key_in_header(house: House) -> str:
    key = new_key()
    jwk = {**jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)}
    claims = {"jti": "j" * 20, "htm": "POST", "htu": ISSUER + "/oauth/token", "iat": int(START.timestamp())}
    return jwt.encode(claims, key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": jwk})


BAD_PROOFS: dict[str, Callable[[House], str | None]] = {
    "none": lambda house: None,
    "stale": lambda house: _proof(house, -61),
    "another address": lambda house: house.collector.proof("/oauth/introspect"),
    "another host": lambda house: house.collector.prover.prove("POST", "https://evil.example/oauth/token"),
    "another method": lambda house: house.collector.prover.prove("GET", ISSUER + "/oauth/token"),
    "header of another key": _other_key_in_header,
    "private key in the header": _private_key_in_header,
    "an assertion instead": lambda house: house.collector.assertion(),
    "not a token": lambda house: "nonsense",
    "too long": lambda house: "x" * 9000,
}


@pytest.mark.parametrize("fault", BAD_PROOFS)
def test_a_bad_proof_is_refused_and_nothing_changes(light: House, fault: str) -> None:
    before = light.snapshot()
    refused(light.token(proof=BAD_PROOFS[fault](light)), "invalid_dpop_proof")
    assert light.snapshot() == before


def test_a_replayed_proof_or_assertion_is_refused_even_after_a_failed_request(house: House) -> None:
    proof, assertion = house.collector.proof("/oauth/token"), house.collector.assertion()
    refused(house.token(proof=proof, assertion=assertion, resource="https://nowhere.example"), "invalid_target")
    refused(house.token(proof=proof), "invalid_dpop_proof")
    refused(house.token(assertion=assertion), "invalid_client", 401)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"}, "unsupported_grant_type"),
        ({"grant_type": None}, "unsupported_grant_type"),
        ({"scope": "root"}, "invalid_scope"),
        ({"scope": "exports.read"}, "invalid_scope"),
        ({"resource": "https://nowhere.example"}, "invalid_target"),
        ({"authorization_details": None}, "invalid_authorization_details"),
        ({"authorization_details": "{"}, "invalid_authorization_details"),
        ({"authorization_details": "[" * 5000}, "invalid_authorization_details"),
        ({"authorization_details": "[]"}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type":"payment"}]'}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type":"aggregation_consent"}]'}, "invalid_authorization_details"),
        ({"authorization_details": "x" * 70_000}, "invalid_request"),
        ({"authorization_details": "x" * 17_000}, "invalid_request"),
    ],
)
def test_bad_input_is_an_rfc_error_and_nothing_changes(light: House, form: dict[str, Any], error: str) -> None:
    before = light.snapshot()
    refused(light.token(**form), error)
    assert light.snapshot() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"surprise": 1},
        {"actions": ["write"]},
        {"consent_id": "con_of_somebody_else"},
        {"purpose": "marketing"},
        {"categories": ["loans"]},
        {"party": "patrivue"},
        {"access_path": "xyz"},
        {"period": {"from": "2027-01-01", "until": "2099-12-31"}},
        {"categories": "accounts.balances"},
        {"frequency_per_day": 5},
        {"period": {"from": "2026-05-01", "until": "2026-04-01"}},
    ],
)
def test_details_outside_the_agreement_or_unknown_are_refused(light: House, fields: dict[str, Any]) -> None:
    """RFC 9396 section 5; widening needs a new consent (tokens.md section 3)."""
    refused(light.token(authorization_details=light.details(**fields)), "invalid_authorization_details")


def test_what_is_granted_is_narrowed_and_echoed(house: House) -> None:
    answer = house.token(authorization_details=house.details(categories=["accounts.balances", "loans"]))
    assert answer.json["authorization_details"][0]["categories"] == ["accounts.balances"]


def test_days_and_reads_are_granted_no_further_than_the_agreement_goes(house: House) -> None:
    """tokens.md section 3; a shorter history than agreed binds the holder of this token."""
    wide = {"history_from": "1990-01-01", "period": {"until": "2099-12-31"}, "frequency_per_day": 4}
    house.consent = house.agree("con_two", reads_per_day=2)
    detail = house.token(authorization_details=house.details(**wide)).json["authorization_details"][0]
    assert (detail["history_from"], detail["period"], detail["frequency_per_day"]) == (
        "2025-03-02",
        {"until": "2026-05-31"},
        2,
    )
    short = house.token(authorization_details=house.details(history_from="2026-01-15")).json["access_token"]
    seen = house.introspect(short)
    assert seen["authorization_details"][0]["history_from"] == seen["obligations"]["history_from"] == "2026-01-15"


def test_a_consent_of_others_looks_like_none(house: House) -> None:
    unknown = house.token(authorization_details=house.details(consent_id="con_none"))
    others = house.token(house.stranger)
    assert unknown.json == others.json


def test_a_holder_not_named_in_the_consent_is_no_audience(house: House) -> None:
    """consent rules 15, 51; RFC 8707 section 2: nobody reads where the person was never told that it is read."""
    other = house.component("other", "elsewhere", resource="https://other.example")
    refused(house.token(resource="https://other.example"), "invalid_target")
    assert not [kind for kind, _ in house.entries if kind == "token.issued"]
    view = house.facts.consents[house.consent]
    house.facts.consents[house.consent] = replace(view, parties=view.parties | {PartyId("elsewhere")})
    issued = house.token(resource="https://other.example").json["access_token"]
    assert house.introspect(issued, other)["active"] is True
    house.facts.consents[house.consent] = view
    assert house.introspect(issued, other) == {"active": False}  # one that was issued before is over too


def test_suspended_clients_and_parties_get_nothing(house: House) -> None:
    token = house.token().json["access_token"]
    house.facts.suspended_parties.add("aggregator")
    refused(house.token(), "invalid_client", 401)
    assert house.introspect(token) == {"active": False}
    house.facts.suspended_parties.clear()
    with house.unit() as unit:
        assert unit.clients.suspend("collector", house.clock.now())
        unit.commit()
    refused(house.token(), "invalid_client", 401)
    assert house.introspect(token) == {"active": False}


def test_repeated_parameters_and_other_encodings_are_refused(house: House) -> None:
    twice = house.web.post("/oauth/token", data={"grant_type": ["client_credentials", "refresh_token"]})
    refused(twice, "invalid_request")
    refused(house.web.post("/oauth/token", json={"grant_type": "client_credentials"}), "invalid_request")


def test_shared_secrets_do_not_exist(house: House) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(b"collector:secret").decode()}
    form = {"grant_type": "client_credentials", "scope": "keys.lease"}
    answer = house.web.post("/oauth/token", data=form, headers=basic)
    assert answer.json["error"] == "invalid_client"
    answer = house.web.post("/oauth/token", data={**form, "client_id": "collector", "client_secret": "secret"})
    refused(answer, "invalid_client", 401)


def test_an_own_token_opens_this_service_and_no_holder(house: House) -> None:
    own = house.token(resource=None, authorization_details=None, scope="keys.lease disclosures.write")
    assert own.json["scope"] == "keys.lease disclosures.write"
    secret = own.json["access_token"]
    assert house.introspect(secret) == {"active": False}
    url = ISSUER + "/api/v1/keys/lease"

    def present(proof: str) -> Any:
        return house.presented.present({"Authorization": f"DPoP {secret}", "DPoP": proof}, "POST", url + "?a=1")

    good = house.collector.prover.prove("POST", url, access_token=secret)
    actor = present(good)
    assert (actor.client, actor.party, actor.consent) == ("collector", "aggregator", None)
    assert "keys.lease" in actor.scopes
    again, stranger = good, house.holder.prover.prove("POST", url, access_token=secret)
    no_ath = house.collector.prover.prove("POST", url)
    other_ath = house.collector.prover.prove("POST", url, access_token="other")
    for proof, error in (
        (again, "invalid_dpop_proof"),
        (no_ath, "invalid_dpop_proof"),
        (other_ath, "invalid_dpop_proof"),
        (stranger, "invalid_token"),
    ):
        with pytest.raises(ClientUnknown) as unknown:
            present(proof)
        assert f'error="{error}"' in unknown.value.challenge
    refused(house.token(resource=None, authorization_details=None), "invalid_scope")


def test_a_consent_token_is_not_for_this_service(house: House) -> None:
    secret = house.token().json["access_token"]
    proof = house.collector.prover.prove("GET", ISSUER + "/api/v1/consents", access_token=secret)
    headers = {"Authorization": f"DPoP {secret}", "DPoP": proof}
    with pytest.raises(ClientUnknown):
        house.presented.present(headers, "GET", ISSUER + "/api/v1/consents")


def test_revocation_ends_ones_own_token_only(house: House) -> None:
    token = house.token().json["access_token"]
    refused(house.post("/oauth/revoke", house.stranger, proof=None, token=token), "invalid_grant")
    assert house.introspect(token)["active"] is True
    for hint in ("access_token", "odd"):
        answer = house.post("/oauth/revoke", house.collector, proof=None, token=token, token_type_hint=hint)
        assert answer.status_code == 200
    assert house.introspect(token) == {"active": False}
    assert house.post("/oauth/revoke", house.collector, proof=None, token="unknown").status_code == 200


def test_a_required_nonce_is_handed_out_and_accepted_once_known(records_engine: Engine) -> None:
    """RFC 9449 section 8."""
    house = House(records_engine, nonce=True)
    answer = house.token()
    refused(answer, "use_dpop_nonce")
    nonce = answer.headers["DPoP-Nonce"]
    assert house.token(proof=house.collector.proof("/oauth/token", nonce=nonce)).status_code == 200
    forged = house.collector.proof("/oauth/token", nonce="x" + nonce[1:])
    refused(house.token(proof=forged), "use_dpop_nonce")
    house.clock.forward(minutes=6)
    refused(house.token(proof=house.collector.proof("/oauth/token", nonce=nonce)), "use_dpop_nonce")


def test_every_issue_and_refusal_is_in_the_ledger(house: House) -> None:
    house.token()
    house.facts.denied[house.consent] = Reason.RESTRICTED
    house.token()
    assert [kind for kind, _ in house.entries] == ["token.issued", "token.refused"]
    assert house.entries[0][1]["consent"] == house.consent
    assert house.entries[1][1]["reason"] == "restricted"


def test_the_documents_say_where_everything_is(house: House) -> None:
    about = house.web.get("/.well-known/oauth-authorization-server").json
    rules = {rule.rule for rule in house.web.application.url_map.iter_rules()}
    ends = [value for name, value in about.items() if name.endswith("_endpoint") or name == "jwks_uri"]
    assert len(ends) == 6
    assert {end.removeprefix(ISSUER) for end in ends} <= rules
    assert about["issuer"] == ISSUER
    resource = house.web.get("/.well-known/oauth-protected-resource").json
    assert resource["dpop_bound_access_tokens_required"] is True
    keys = house.web.get("/oauth/jwks").json["keys"]
    assert len(keys) == 2
    assert all("d" not in key and key["alg"] == "ES256" for key in keys)
