"""Key leases over HTTP: both sides judged every time, written down before the key leaves (vault.md section 3)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sdk.client import Authority
from app.sdk.scopes import Scope
from app.sdk.sealed import Cipher
from app.vault.errors import ProviderUnavailable
from app.vault.keys import Target
from consent.vocabulary import PartyId
from tests.doors.api_house import (
    BALANCES,
    DETAILS,
    HOLDER,
    ISSUER,
    PURPOSE,
    READER,
    RIVAL,
    STORE,
    Agreed,
    ApiHouse,
    problem,
    unb64,
)

LEASE, SEAL, OPEN = "/api/v1/keys/lease", "/api/v1/keys/seal", "/api/v1/keys/open"


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def test_a_holder_gets_a_key_that_opens_what_the_service_sealed(at: ApiHouse) -> None:
    """consent rule 51: the look is on the person's log under the reader's name, and in the ledger, once."""
    ana = at.agree()
    token, handle = at.token(ana), at.handle(ana)
    body = {"presented_token": token, "category": BALANCES, "handle": handle}
    sealed = at.post(SEAL, at.holder, Scope.KEYS_LEASE, {**body, "record_id": "r1", "plaintext": "aGVsbG8"})
    assert sealed.status_code == 200, sealed.text
    record = unb64(sealed.json["sealed"])
    answer = at.lease(ana, token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    cipher = Cipher(unb64(answer.json["key_id"]), unb64(answer.json["key"]))
    assert cipher.open(record, subject=handle, category=BALANCES, record_id="r1") == b"hello"
    opened = at.post(OPEN, at.holder, Scope.KEYS_LEASE, {**body, "record_id": "r1", "sealed": sealed.json["sealed"]})
    assert unb64(opened.json["plaintext"]) == b"hello"
    assert at.traces() == (3, ["record.sealed", "key.leased", "record.opened"])
    look = next(row for row in at.rows("disclosures") if row["action"] == "read")
    assert (look["subject"], look["party"], look["component"]) == (ana.subject, READER, "reader")
    assert (look["categories"], look["consent"], look["attended"]) == (BALANCES, ana.consent, False)
    assert at.house.ledger.integrate() > 0
    assert at.house.ledger.audit() == []


def test_after_withdrawal_the_very_next_lease_is_refused_with_the_reason(at: ApiHouse) -> None:
    """consent rule 46: zero delay, the token itself untouched."""
    ana = at.agree()
    token = at.token(ana)
    assert at.lease(ana, token).status_code == 200
    before = at.traces()
    at.withdraw(ana)
    said = problem(at.lease(ana, token), 403, "access_refused")
    assert said["reason"] == "consent_withdrawn"
    assert at.traces() == before
    assert at.refusals(ana.subject) == [
        {
            "asked": "key.leased",
            "reason": "consent_withdrawn",
            "holder": HOLDER,
            "party": READER,
            "component": "reader",
            "consent": ana.consent,
            "purpose": PURPOSE,
            "category": BALANCES,
        }
    ]


def test_a_lease_ends_with_its_minute_and_with_its_token(at: ApiHouse) -> None:
    ana = at.agree()
    token = at.token(ana)
    ends = at.lease(ana, token, seconds=7).json
    assert ends["expires_at"] == (at.clock.now() + timedelta(seconds=7)).isoformat()
    at.clock.forward(seconds=280)
    left = datetime.fromisoformat(at.lease(ana, token, seconds=60).json["expires_at"]) - at.clock.now()
    assert left == timedelta(seconds=20)
    at.clock.forward(seconds=21)
    before = at.traces()
    problem(at.lease(ana, token), 403, "presented_token_refused")
    assert at.traces() == before


@pytest.mark.parametrize("seconds", [0, -1, 61, "30", 1.5, True])
def test_a_lease_is_a_minute_at_most(at: ApiHouse, seconds: Any) -> None:
    ana = at.agree()
    said = problem(at.lease(ana, at.token(ana), seconds=seconds), 422, "body_invalid")
    assert said["fields"] == ["seconds"]
    assert at.traces() == (0, [])


def test_a_token_for_another_holder_opens_nothing(at: ApiHouse) -> None:
    ana = at.agree()
    token = at.token(ana, at.reader, STORE)
    problem(at.lease(ana, token, at.rival), 403, "presented_token_refused")
    problem(at.lease(ana, token, at.reader), 403, "presented_token_refused")
    problem(at.lease(ana, "rgt_" + "x" * 43), 403, "presented_token_refused")
    assert at.traces() == (0, [])


def test_a_holder_without_a_grant_to_hold_is_refused_though_the_reader_may_read(at: ApiHouse) -> None:
    """dsar rule P1: whoever is not on the list for this has no access."""
    ana = at.agree()
    named = PartyId("connecteurs")  # the agreement names it, and it may read
    holder = at.component("connector", named, "https://connect.example")
    token = at.token(ana, at.reader, "https://connect.example")
    said = problem(at.lease(ana, token, holder, handle=at.handle(ana, named)), 403, "access_refused")
    assert said["reason"] == "not_granted"
    assert at.traces() == (0, [])


def test_another_party_s_handle_and_another_person_s_are_unknown_alike(at: ApiHouse) -> None:
    ana, bea = at.agree(), at.agree("bea@example.org")
    token = at.token(ana)
    wrong = [at.handle(ana, READER), at.handle(bea), "pw_nobody"]
    said = [problem(at.lease(ana, token, handle=each), 404, "handle_unknown") for each in wrong]
    assert said[0] == said[1] == said[2]
    assert at.traces() == (0, [])


def test_what_the_token_does_not_cover_is_refused(at: ApiHouse) -> None:
    ana = at.agree()
    token = at.token(ana, None, STORE, BALANCES)
    said = problem(at.lease(ana, token, category=DETAILS), 403, "access_refused")
    assert said["reason"] == "category_not_consented"
    said = problem(at.lease(ana, token, purpose="news_offers"), 403, "access_refused")
    assert said["reason"] == "consent_for_another_purpose"
    assert at.traces() == (0, [])


def test_erased_is_told_to_the_entitled_and_to_nobody_else(at: ApiHouse) -> None:
    """vault.md section 3: 410 with the date; the others cannot tell erased from unknown."""
    ana = at.agree()
    token, handle = at.token(ana), at.handle(ana)
    at.erase(ana)
    body = {"presented_token": token, "category": BALANCES, "handle": handle}
    said = problem(at.post(LEASE, at.holder, Scope.KEYS_LEASE, body), 410, "erased")
    assert said["erased_at"] == at.clock.now().isoformat()
    erased = at.post(LEASE, at.rival, Scope.KEYS_LEASE, body)
    unknown = at.post(LEASE, at.rival, Scope.KEYS_LEASE, {**body, "presented_token": "rgt_none", "handle": "pw_none"})
    assert problem(erased, 403, "presented_token_refused") == problem(unknown, 403, "presented_token_refused")
    assert at.traces() == (0, [])


def test_every_refusal_is_in_the_ledger_and_repeats_nothing_of_the_caller_s(at: ApiHouse) -> None:
    """ledger.md: token refused, key leased; dsar rule P1: unknown is refused and written down."""
    ana = at.agree()
    token = at.token(ana)
    at.lease(ana, "Jeanne Martin", category="jeanne@example.org")
    at.lease(ana, token, at.rival)
    at.lease(ana, token, handle="pw_jeanne")
    at.lease(ana, token, category="jeanne@example.org")
    at.lease(ana, token, key_id="A" * 22)
    at.post(OPEN, at.holder, Scope.KEYS_LEASE, {**asked(at, ana, token), "record_id": "r", "sealed": "AAAA"})
    unknown = [(one["holder"], one["reason"], one["category"], one["party"]) for one in at.refusals()]
    assert unknown == [
        (HOLDER, "presented_token_refused", None, None),
        (RIVAL, "presented_token_refused", BALANCES, None),
    ]
    about = [(one["asked"], one["reason"], one["category"]) for one in at.refusals(ana.subject)]
    assert about == [
        ("key.leased", "handle_unknown", BALANCES),
        ("key.leased", "category_not_consented", None),
        ("key.leased", "unknown_key", BALANCES),
        ("record.opened", "not_sealed", BALANCES),
    ]
    assert at.traces() == (0, [])
    assert at.house.ledger.integrate() > 0
    assert at.house.ledger.audit() == []


def asked(at: ApiHouse, agreed: Agreed, token: str) -> dict[str, Any]:
    return {"presented_token": token, "category": BALANCES, "handle": at.handle(agreed)}


def test_no_refusal_leaves_unwritten(at: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """ledger.md: no entry, no action."""
    ana = at.agree()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("disk full")

    own = at.own_token(at.holder, Scope.KEYS_LEASE)
    monkeypatch.setattr(at, "own_token", lambda *_: own)
    monkeypatch.setattr("app.store.leaves.SqlJournal.record", refuse)
    problem(at.lease(ana, "rgt_" + "x" * 43), 500, "internal_error")


def test_a_lease_says_how_long_it_lasts_and_a_clock_that_is_wrong_does_not_matter(at: ApiHouse) -> None:
    """vault.md section 3: 60 s at most, counted from the asking on."""
    ana = at.agree()
    token = at.token(ana)
    assert at.lease(ana, token, seconds=7).json["expires_in"] == 7
    for skew in (-20, 20):
        http = httpx.Client(transport=httpx.WSGITransport(app=at.app))

        def wrong(skew: int = skew) -> datetime:
            return at.clock.now() + timedelta(seconds=skew)

        line = Authority(ISSUER, "store", at.holder.key, resource=STORE, http=http, clock=wrong)
        assert line.lease(token, at.handle(ana), BALANCES).life == timedelta(seconds=60)


def test_shredded_keys_are_gone_at_once(at: ApiHouse) -> None:
    ana = at.agree()
    token = at.token(ana)
    assert at.lease(ana, token).status_code == 200
    before = at.traces()
    at.house.vault.shred("era_1", [Target(at.house.controller, ana.subject)])
    problem(at.lease(ana, token), 410, "erased")
    assert at.traces() == before


def test_without_the_key_provider_nothing_is_written_and_the_caller_waits(
    at: ApiHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = at.agree()
    token = at.token(ana)

    def down(*_: Any, **__: Any) -> Any:
        raise ProviderUnavailable

    monkeypatch.setattr(type(at.house.vault), "lease", down)
    answer = at.lease(ana, token)
    problem(answer, 503, "key_provider_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert at.traces() == (0, [])


def test_no_key_leaves_when_the_commit_fails(at: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """ledger.md: no entry, no action."""
    ana = at.agree()
    token = at.token(ana)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("disk full")

    own = at.own_token(at.holder, Scope.KEYS_LEASE)
    monkeypatch.setattr(at, "own_token", lambda *_: own)
    monkeypatch.setattr("app.store.leaves.SqlJournal.record", refuse)
    problem(at.lease(ana, token), 500, "internal_error")
    assert at.traces() == (0, [])


@pytest.mark.parametrize("path", [LEASE, SEAL, OPEN])
def test_bodies_are_read_strictly(at: ApiHouse, path: str) -> None:
    def send(data: bytes, kind: str = "application/json") -> Any:
        return at.post(path, at.holder, Scope.KEYS_LEASE, data=data, content_type=kind)

    problem(send(b"{"), 400, "bad_request")
    problem(send(b"[" * 100_000), 400, "bad_request")
    problem(send(b'{"seconds": NaN}'), 400, "bad_request")
    problem(send(b"\xff"), 400, "bad_request")
    problem(send(b"[]"), 422, "body_invalid")
    problem(send(b"a=b", "application/x-www-form-urlencoded"), 415, "media_type_unsupported")
    problem(send(b'{"record_id": "' + b"x" * 1_100_000 + b'"}'), 413, "body_too_large")
    said = problem(send(b'{"presented_token": 7, "category": [], "nobody": 1}'), 422, "body_invalid")
    assert {"nobody", "presented_token", "category"} <= set(said["fields"])
    assert at.traces() == (0, [])


def test_a_token_without_the_scope_and_none_at_all(at: ApiHouse) -> None:
    answer = at.post(LEASE, at.holder, Scope.DISCLOSURES_WRITE, {})
    assert problem(answer, 403, "scope_missing")["scope"] == "keys.lease"
    assert "keys.lease" in answer.headers["WWW-Authenticate"]
    problem(at.web.post(LEASE, json={}), 401, "token_invalid")


def test_a_record_of_another_place_does_not_open(at: ApiHouse) -> None:
    ana, bea = at.agree(), at.agree("bea@example.org")
    ask = {"presented_token": at.token(ana), "category": BALANCES, "handle": at.handle(ana), "record_id": "r1"}
    sealed = at.post(SEAL, at.holder, Scope.KEYS_LEASE, {**ask, "plaintext": "aGVsbG8"}).json["sealed"]
    before = at.traces()
    hers = {**ask, "presented_token": at.token(bea), "handle": at.handle(bea), "sealed": sealed}
    problem(at.post(OPEN, at.holder, Scope.KEYS_LEASE, hers), 404, "unknown_key")
    moved = {**ask, "record_id": "r2", "sealed": sealed}
    problem(at.post(OPEN, at.holder, Scope.KEYS_LEASE, moved), 422, "altered")
    noise = {**ask, "sealed": "aGVsbG8"}
    problem(at.post(OPEN, at.holder, Scope.KEYS_LEASE, noise), 422, "not_sealed")
    assert at.traces() == before
