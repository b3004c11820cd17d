"""A party's consents over HTTP: own only, by its own handle, with entity tags; withdrawals passed on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from app.receipts import TYPE, said_in
from app.sdk.scopes import Scope
from app.vault.keys import Target
from consent import usecases
from consent.record import State
from tests.doors.api_house import HOLDER, ISSUER, READER, Agreed, ApiHouse, problem

READ, WITHDRAW = Scope.CONSENTS_READ, Scope.CONSENTS_WITHDRAW


class Straight:
    def run(self, name: str, effect: Callable[[], Any]) -> Any:
        return effect()


@pytest.fixture
def at(
    tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiHouse]:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def get(at: ApiHouse, path: str, who: Any = None, scope: Scope = READ, **headers: str) -> Any:
    who = who or at.reader
    secret = at.own_token(who, scope)
    proof = who.prover.prove("GET", ISSUER + path.split("?", maxsplit=1)[0], access_token=secret)
    return at.web.get(path, headers={"Authorization": f"DPoP {secret}", "DPoP": proof, **headers})


def withdraw(at: ApiHouse, agreed: Agreed, who: Any = None, body: Any = None, **headers: str) -> Any:
    path = f"/api/v1/consents/{agreed.consent}/withdraw"
    return at.post(path, who or at.reader, WITHDRAW, {} if body is None else body, headers=headers)


def issue(at: ApiHouse, agreed: Agreed) -> None:
    record = at.house.consentwork._now(agreed.consent)
    at.house.consentwork.handlers()[usecases.RECEIPT](f"{agreed.consent}/{record.version}", Straight())


def test_a_party_reads_its_consent_and_names_the_person_its_own_way(at: ApiHouse) -> None:
    """api.md: pairwise handles; no address, no name, no internal id."""
    agreed = at.agree()
    answer = get(at, f"/api/v1/consents/{agreed.consent}")
    assert answer.status_code == 200, answer.text
    said = answer.json
    assert (said["id"], said["state"], said["party"], said["version"]) == (agreed.consent, "active", READER, 3)
    assert said["sub"] == at.handle(agreed, READER)
    assert said["sub"] != at.handle(agreed, HOLDER)
    assert said["categories"] == sorted(said["needed"])
    assert HOLDER in said["recipients"]
    assert said["ended"] is None
    assert answer.headers["ETag"] == '"3.active"'
    assert answer.headers["Cache-Control"] == "no-store"
    for secret in (agreed.subject, "ana@", "Ana"):
        assert secret not in answer.text
    again = get(at, f"/api/v1/consents/{agreed.consent}", **{"If-None-Match": '"3.active"'})
    assert (again.status_code, again.data) == (304, b"")


def test_an_end_by_time_is_said_before_any_sweep(at: ApiHouse) -> None:
    agreed = at.agree()
    at.clock.forward(days=181)
    answer = get(at, f"/api/v1/consents/{agreed.consent}")
    assert (answer.json["state"], answer.json["ended"]["by"]) == ("expired", "system")
    assert answer.json["ended"]["at"] == answer.json["valid_until"]
    assert answer.headers["ETag"] == '"3.expired"'


def test_who_is_named_in_a_consent_may_read_it_and_others_find_none(at: ApiHouse) -> None:
    """Consent rule 15; 404 where 403 would reveal existence."""
    agreed = at.agree()
    named = get(at, f"/api/v1/consents/{agreed.consent}", at.holder)
    assert (named.status_code, named.json["sub"]) == (200, at.handle(agreed, HOLDER))
    for path in (agreed.consent, "con_nothing", "x" * 200, "a-b"):
        for end in ("", "/receipt"):
            problem(get(at, f"/api/v1/consents/{path}{end}", at.rival), 404, "consent_not_found")
    problem(get(at, "/api/v1/consents/%00", at.rival), 404, "not_found")
    problem(withdraw(at, agreed, at.rival), 404, "consent_not_found")
    problem(withdraw(at, replace(agreed, consent="con_nothing")), 404, "consent_not_found")
    assert state(at, agreed) is State.ACTIVE


def state(at: ApiHouse, agreed: Agreed) -> State:
    return at.house.consentwork._now(agreed.consent).state


def test_the_list_is_what_the_party_asked_for_a_page_at_a_time(at: ApiHouse) -> None:
    """Keyset paging: each once, by id."""
    mine = sorted(at.agree(f"p{number}@example.org").consent for number in range(5))
    other = at.agree("q@example.org", party=HOLDER)
    seen, path = [], "/api/v1/consents?limit=2"
    while path:
        answer = get(at, path)
        assert answer.status_code == 200, answer.text
        seen += [each["id"] for each in answer.json["consents"]]
        link = answer.headers.get("Link")
        path = link.split(">")[0][1:] if link else ""
        assert (answer.json["next"] is None) == (not path)
    assert seen == mine
    assert [each["id"] for each in get(at, "/api/v1/consents", at.holder).json["consents"]] == [other.consent]
    assert get(at, "/api/v1/consents", at.rival).json == {"consents": [], "next": None}
    subs = [each["sub"] for each in get(at, "/api/v1/consents").json["consents"]]
    assert len(set(subs)) == 5
    assert subs == [each["sub"] for each in get(at, "/api/v1/consents").json["consents"]], "a handle stays"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=101", ["limit"]),
        ("limit=x&state=active", ["limit", "state"]),
        ("after=" + "x" * 65, ["after"]),
    ],
)
def test_a_wrong_query_is_refused_by_name(at: ApiHouse, query: str, fields: list[str]) -> None:
    assert problem(get(at, f"/api/v1/consents?{query}"), 422, "body_invalid")["fields"] == fields


def test_a_control_character_in_the_query_is_refused(at: ApiHouse) -> None:
    problem(get(at, "/api/v1/consents?after=%00"), 400, "bad_request")


def test_a_withdrawal_passed_on_is_recorded_with_its_channel_and_holds_at_once(at: ApiHouse) -> None:
    """GDPR art. 7(3); consent rules 35, 46, 47."""
    agreed = at.agree()
    token = at.token(agreed)
    assert at.lease(agreed, token).status_code == 200
    answer = withdraw(at, agreed, body={"channel": "phone"}, **{"If-Match": '"3.active"'})
    assert answer.status_code == 200, answer.text
    assert answer.json["state"] == "withdrawn"
    ended = answer.json["ended"]
    assert (ended["by"], ended["channel"]) == ("party", "phone")
    assert answer.headers["ETag"] == '"4.withdrawn"'
    refused = at.lease(agreed, token)
    assert (refused.status_code, refused.json["reason"]) == (403, "consent_withdrawn")
    entry = [row for row in at.rows("ledger_entries") if row["kind"] == "consent.withdrawn"]
    assert [row["actor"] for row in entry] == [READER]


def test_saying_stop_twice_changes_nothing(at: ApiHouse) -> None:
    agreed = at.agree()
    first, second = withdraw(at, agreed), withdraw(at, agreed, **{"Idempotency-Key": "k"})
    assert (first.json, first.headers["ETag"]) == (second.json, second.headers["ETag"])
    assert [row["kind"] for row in at.rows("ledger_entries")].count("consent.withdrawn") == 1
    assert first.json["ended"]["channel"] == "api"


def test_a_recipient_may_pass_a_withdrawal_on(at: ApiHouse) -> None:
    agreed = at.agree()
    answer = withdraw(at, agreed, at.holder, {"channel": "mail"})
    assert (answer.status_code, answer.json["state"]) == (200, "withdrawn")
    assert answer.json["sub"] == at.handle(agreed, HOLDER)


@pytest.mark.parametrize("tag", ['"2.active"', '"3.withdrawn"', 'W/"3.active"', '"nonsense"'])
def test_a_stale_tag_stops_nothing(at: ApiHouse, tag: str) -> None:
    agreed = at.agree()
    problem(withdraw(at, agreed, **{"If-Match": tag}), 412, "precondition_failed")
    assert state(at, agreed) is State.ACTIVE
    assert withdraw(at, agreed, **{"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"channel": "signed_link"}, ["channel"]),
        ({"channel": "holder"}, ["channel"]),
        ({"channel": 5}, ["channel"]),
        ({"delete_data": True}, ["delete_data"]),
        ([], []),
    ],
)
def test_a_wrong_body_stops_nothing(at: ApiHouse, body: Any, fields: list[str]) -> None:
    agreed = at.agree()
    assert problem(withdraw(at, agreed, body=body), 422, "body_invalid").get("fields", []) == fields or not fields
    assert state(at, agreed) is State.ACTIVE


def test_malformed_oversize_and_wrong_types_stop_nothing(at: ApiHouse) -> None:
    agreed = at.agree()
    path = f"/api/v1/consents/{agreed.consent}/withdraw"

    def send(data: bytes, kind: str = "application/json") -> Any:
        return at.post(path, at.reader, WITHDRAW, data=data, content_type=kind)

    problem(send(b"{"), 400, "bad_request")
    problem(send(b"{}", "text/plain"), 415, "media_type_unsupported")
    problem(send(b" " * (1024 * 1024 + 1)), 413, "body_too_large")
    problem(get(at, path), 405, "method_not_allowed")
    assert state(at, agreed) is State.ACTIVE


def test_each_door_asks_for_its_own_scope(at: ApiHouse) -> None:
    agreed = at.agree()
    where = f"/api/v1/consents/{agreed.consent}"
    for path in ("/api/v1/consents", where, f"{where}/receipt"):
        said = problem(get(at, path, scope=WITHDRAW), 403, "scope_missing")
        assert said["scope"] == READ
        problem(at.web.get(path), 401, "token_invalid")
    problem(at.post(f"{where}/withdraw", at.reader, READ, {}), 403, "scope_missing")
    problem(at.web.post(f"{where}/withdraw", json={}), 401, "token_invalid")
    secret = at.own_token(at.reader, READ)
    proof = at.reader.prover.prove("GET", ISSUER + where, access_token=secret)
    at.clock.forward(seconds=301)
    stale = at.web.get(where, headers={"Authorization": f"DPoP {secret}", "DPoP": proof})
    problem(stale, 401, "token_invalid")
    assert state(at, agreed) is State.ACTIVE


def test_another_controllers_party_sees_nothing(at: ApiHouse) -> None:
    """Two controllers: none is ever found under another one's id."""
    agreed = at.agree()
    other = next(party for party in at.house.policy.parties.values() if party.controller != at.house.controller)
    who = at.component("foreign", other.id, controller=other.controller)
    problem(get(at, f"/api/v1/consents/{agreed.consent}", who), 404, "consent_not_found")
    problem(withdraw(at, agreed, who), 404, "consent_not_found")
    assert get(at, "/api/v1/consents", who).json["consents"] == []


# Receipts


def test_the_receipt_verifies_with_the_published_key(at: ApiHouse) -> None:
    """tokens.md section 5; consent rule 56."""
    agreed = at.agree()
    where = f"/api/v1/consents/{agreed.consent}/receipt"
    problem(get(at, where), 404, "not_found")
    issue(at, agreed)
    plain = get(at, where)
    assert plain.status_code == 200, plain.text
    assert (plain.mimetype, plain.headers["Cache-Control"]) == ("application/json", "no-store")
    signed = get(at, where, Accept="application/jose")
    assert signed.mimetype == "application/jose"
    assert signed.text == plain.json["jws"]
    header = jwt.get_unverified_header(signed.text)
    keys = {key["kid"]: key for key in at.web.get("/oauth/jwks").json["keys"]}
    body = jwt.PyJWS().decode(signed.text, jwt.PyJWK(keys[header["kid"]]).key, algorithms=["ES256"])
    assert header["typ"] == TYPE
    assert json.loads(body) == plain.json["receipt"] == said_in(signed.text)
    assert plain.json["receipt"]["record"]["header"]["pii_principal_id"] == at.handle(agreed, READER)
    assert "/stop/" not in signed.text
    assert "/stop/" not in plain.text
    for kind in ("application/pdf", "text/html"):
        problem(get(at, where, Accept=kind), 406, "not_acceptable")
    withdraw(at, agreed)
    issue(at, agreed)
    assert get(at, where).json["version"] == 4, "the newest"


def test_only_who_asked_gets_the_receipt(at: ApiHouse) -> None:
    """It holds what the asking party calls the person."""
    agreed = at.agree()
    issue(at, agreed)
    problem(get(at, f"/api/v1/consents/{agreed.consent}/receipt", at.holder), 404, "consent_not_found")


def test_after_the_erasure_receipt_and_handle_are_gone(at: ApiHouse) -> None:
    agreed = at.agree()
    issue(at, agreed)
    vault = at.house.vault
    vault.shred("era_1", [Target(at.house.controller, agreed.subject)])
    vault.erasures.acknowledge("era_1")
    vault.erasures.drive("era_1")
    at.erase(agreed)
    said = problem(get(at, f"/api/v1/consents/{agreed.consent}/receipt"), 410, "erased")
    assert said["erased_at"]
    assert get(at, f"/api/v1/consents/{agreed.consent}").json["sub"] is None


def test_a_receipt_of_long_ago_still_verifies(at: ApiHouse) -> None:
    """`LONGEST_SIGNED`: 400 days, over rotations of the key."""
    agreed = at.agree()
    issue(at, agreed)
    work = at.house.consentwork
    for _ in range(3):
        at.clock.forward(days=100)
        with at.house.units.writing() as unit:
            keys = work.signing(unit.signing_key_rows)
            keys.rotate(at.clock.now())
            keys.retire(at.clock.now())
            unit.commit()
    assert at.clock.now() - timedelta(days=300) > work._now(agreed.consent).requested_at - timedelta(seconds=1)
    signed = get(at, f"/api/v1/consents/{agreed.consent}/receipt", Accept="application/jose").text
    published = {key["kid"]: key for key in at.web.get("/oauth/jwks").json["keys"]}
    kid = jwt.get_unverified_header(signed)["kid"]
    assert jwt.PyJWS().decode(signed, jwt.PyJWK(published[kid]).key, algorithms=["ES256"])
