"""Reported reads: idempotent, strict, for one's own party and handles only (consent rule 51)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from werkzeug.test import Client as Visitor

from app.sdk.client import Authority
from app.sdk.gate import Deny, Gate, Permit
from app.sdk.scopes import Scope
from app.store.rows.base import RecordsBase
from app.tokens.minting import digest
from app.tokens.rfc7523 import ASSERTION_TYPE
from app.wiring import fast_lane
from tests.doors.api_house import BALANCES, HOLDER, ISSUER, PURPOSE, READER, RIVAL, Agreed, ApiHouse, problem

PATH = "/api/v1/disclosures"


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def read(at: ApiHouse, agreed: Agreed, ident: str = "r-1", **fields: Any) -> dict[str, Any]:
    return {
        "id": ident,
        "handle": at.handle(agreed, READER),
        "categories": [BALANCES],
        "records": 12,
        "purpose": PURPOSE,
        "consent": agreed.consent,
        "attended": False,
        "action": "read",
        "at": at.clock.now().isoformat(),
        **fields,
    }


def report(at: ApiHouse, *reads: Any, who: Any = None, **more: Any) -> Any:
    return at.post(PATH, who or at.reader, Scope.DISCLOSURES_WRITE, {"disclosures": list(reads)}, **more)


def test_reads_reach_the_person_s_log_once_however_often_they_are_sent(at: ApiHouse) -> None:
    ana, bea = at.agree(), at.agree("bea@example.org")
    batch = [read(at, ana), read(at, ana, "r-2", records=1), read(at, bea, "r-3")]
    assert report(at, *batch).json == {"written": 3, "known": 0}
    assert report(at, *batch, read(at, ana, "r-4")).json == {"written": 1, "known": 3}
    assert at.traces() == (4, ["disclosure.reported"] * 3)
    with at.house.units.reading() as unit:
        looks = unit.disclosures.of_subject(ana.subject)
    assert sorted(look.records for look in looks) == [1, 12, 12]
    assert {(look.party, look.component, look.consent) for look in looks} == {(READER, "reader", ana.consent)}


def test_the_same_id_twice_in_one_batch_is_one_read(at: ApiHouse) -> None:
    ana = at.agree()
    assert report(at, read(at, ana), read(at, ana)).json == {"written": 1, "known": 1}


def test_an_id_belongs_to_its_party(at: ApiHouse) -> None:
    """Nobody can take another party's id, or find out that it is taken."""
    ana = at.agree()
    assert report(at, read(at, ana)).json["written"] == 1
    own = read(at, ana, handle=at.handle(ana, HOLDER))
    assert report(at, own, who=at.holder).json == {"written": 1, "known": 0}


def test_another_party_s_handle_refuses_the_batch_and_names_the_place(at: ApiHouse) -> None:
    ana = at.agree()
    wrong = [at.handle(ana, HOLDER), "pw_nobody"]
    said = [problem(report(at, read(at, ana), read(at, ana, "r-2", handle=h)), 422, "body_invalid") for h in wrong]
    assert said[0] == said[1]
    assert said[0]["fields"] == ["disclosures.1.handle"]
    assert at.traces() == (0, [])


def test_a_forgotten_person_s_handle_is_unknown(at: ApiHouse) -> None:
    ana = at.agree()
    item = read(at, ana)
    at.erase(ana)
    assert problem(report(at, item), 422, "body_invalid")["fields"] == ["disclosures.0.handle"]
    assert at.traces() == (0, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("records", "12"),
        ("records", -1),
        ("records", True),
        ("attended", "no"),
        ("attended", 1),
        ("action", "peek"),
        ("at", "yesterday"),
        ("at", "2026-03-02T09:00:00"),
        ("at", "2026-03-02T09:05:00+00:00"),
        ("categories", []),
        ("categories", ["moods"]),
        ("purpose", "nothing"),
        ("consent", "con_none"),
        ("reader", "nobody"),
        ("reader", ""),
        ("reader", 1),
        ("id", ""),
        ("id", None),
        ("party", "nuage"),
        ("who", "somebody"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(at: ApiHouse, field: str, value: Any) -> None:
    ana = at.agree()
    said = problem(report(at, read(at, ana, "r-0"), {**read(at, ana), field: value}), 422, "body_invalid")
    assert said["fields"] == [f"disclosures.1.{field}"]
    assert at.traces() == (0, [])


def test_a_consent_that_does_not_name_the_party(at: ApiHouse) -> None:
    ana = at.agree()
    item = read(at, ana, handle=at.handle(ana, at.rival.record.party))
    assert problem(report(at, item, who=at.rival), 422, "body_invalid")["fields"] == ["disclosures.0.consent"]
    assert at.traces() == (0, [])


def test_the_reader_a_holder_names_is_who_looked(at: ApiHouse) -> None:
    """consent rule 51: who, not through whom."""
    ana = at.agree()
    item = read(at, ana, handle=at.handle(ana, HOLDER), reader="reader")
    assert report(at, item, who=at.holder).json == {"written": 1, "known": 0}
    with at.house.units.reading() as unit:
        (look,) = unit.disclosures.of_subject(ana.subject)
    assert (look.party, look.component) == (READER, "reader")


@pytest.mark.parametrize(("fields", "said"), [({}, "consent"), ({"consent": None}, "consent")])
def test_a_reader_the_agreement_does_not_name(at: ApiHouse, fields: dict[str, Any], said: str) -> None:
    """A holder cannot put a read on somebody whom the person never named, or on no agreement at all."""
    ana = at.agree()
    who = "rival" if not fields else "reader"
    item = read(at, ana, handle=at.handle(ana, HOLDER), reader=who, **fields)
    assert problem(report(at, item, who=at.holder), 422, "body_invalid")["fields"] == [f"disclosures.0.{said}"]
    assert at.traces() == (0, [])


@pytest.mark.parametrize("name", ["holder", "rival"])
def test_whatever_the_gate_permits_can_be_reported(at: ApiHouse, name: str) -> None:
    """consent rules 15, 51: a read that could not reach the person's log is never let through to begin with."""
    ana, holder = at.agree(), getattr(at, name)
    verdict = gated(at, holder, issued_for(at, ana, holder.record.resource))
    if name == "rival":  # the agreement does not name its party
        assert isinstance(verdict, Deny)
        return
    assert isinstance(verdict, Permit)
    item = read(at, ana, handle=verdict.subject, reader=verdict.client_id)
    assert report(at, item, who=holder).json == {"written": 1, "known": 0}


def test_no_token_is_issued_or_good_for_a_holder_the_agreement_does_not_name(at: ApiHouse) -> None:
    """RFC 8707 section 2; one issued before this was refused is good neither at the full door nor in the fast lane."""
    ana, there = at.agree(), at.rival.record.resource
    with pytest.raises(AssertionError, match="invalid_target"):
        at.token(ana, resource=there)
    token = issued_for(at, ana, there)
    said = {"client_assertion_type": ASSERTION_TYPE, "token": token}
    for door in (at.app, lane := fast_lane(at.house, at.app)):
        asked = {**said, "client_assertion": at.rival.assertion()}
        assert Visitor(door).post("/oauth/introspect", data=asked).get_json() == {"active": False}
    lane.close()
    assert RIVAL not in {row["party"] for row in at.rows("pairwise_handles")}  # nor did it get a name for the person


def issued_for(at: ApiHouse, agreed: Agreed, resource: str) -> str:
    """A token of the reader for `resource`, whether or not it would be issued today."""
    token = at.token(agreed)
    rows = RecordsBase.metadata.tables["oauth_access_tokens"]
    with at.house.records.begin() as connection:
        connection.execute(update(rows).where(rows.c.digest == digest(token)).values(audience=resource))
    return token


def gated(at: ApiHouse, holder: Any, token: str) -> Permit | Deny:
    """What the holder's own gate says to the reader's token."""
    http, url = httpx.Client(transport=httpx.WSGITransport(app=at.app)), holder.record.resource + "/balances"
    resource = holder.record.resource
    authority = Authority(ISSUER, holder.record.id, holder.key, resource=resource, http=http, clock=at.clock.now)
    proof = at.reader.prover.prove("GET", url, access_token=token)
    asked = httpx.Request("GET", url, headers={"Authorization": f"DPoP {token}", "DPoP": proof})
    return Gate(authority, resource).check(asked, PURPOSE, [BALANCES])


def test_batches_have_a_limit(at: ApiHouse) -> None:
    ana = at.agree()
    item = read(at, ana)
    many = [{**item, "id": f"r-{number}"} for number in range(501)]
    problem(report(at, *many), 422, "body_invalid")
    problem(report(at), 422, "body_invalid")
    assert at.traces() == (0, [])
    assert report(at, *many[:500]).json == {"written": 500, "known": 0}


def test_bodies_callers_and_scopes(at: ApiHouse) -> None:
    def send(data: bytes, kind: str = "application/json") -> Any:
        return at.post(PATH, at.reader, Scope.DISCLOSURES_WRITE, data=data, content_type=kind)

    problem(send(b'{"disclosures": ['), 400, "bad_request")
    problem(send(b"{}", "text/plain"), 415, "media_type_unsupported")
    problem(send(b'{"disclosures": ["' + b"x" * 1_100_000 + b'"]}'), 413, "body_too_large")
    problem(at.web.post(PATH, json={"disclosures": []}), 401, "token_invalid")
    problem(at.post(PATH, at.reader, Scope.KEYS_LEASE, {"disclosures": []}), 403, "scope_missing")
    assert at.traces() == (0, [])


def test_a_door_says_what_is_missing_and_hands_out_the_nonce(at: ApiHouse) -> None:
    """RFC 6750 section 3.1, RFC 9449 sections 7.1 and 9; tokens.md section 4."""
    secret, url = at.own_token(at.reader, Scope.DISCLOSURES_WRITE), ISSUER + PATH

    def ask(proof: str | None, token: str = secret) -> Any:
        headers = {} if proof is None else {"Authorization": f"DPoP {token}", "DPoP": proof}
        return at.web.post(PATH, json={"disclosures": [read(at, ana)]}, headers=headers)

    def prove(token: str = secret, **more: Any) -> str:
        return at.reader.prover.prove("POST", url, access_token=token, **more)

    ana = at.agree()
    answers = {
        None: ask(None),
        "invalid_token": ask(prove("rgt_none"), "rgt_none"),
        "invalid_dpop_proof": ask("bad"),
        "use_dpop_nonce": ask(prove(nonce="stale")),
    }
    for error, answer in answers.items():
        problem(answer, 401, "token_invalid")
        said = answer.headers["WWW-Authenticate"]
        assert said.startswith("DPoP ")
        assert "/.well-known/oauth-protected-resource" in said
        assert ("error=" in said, f'error="{error}"' in said) == (error is not None,) * 2, said
        assert ("DPoP-Nonce" in answer.headers) is (error == "use_dpop_nonce")
    nonce = answers["use_dpop_nonce"].headers["DPoP-Nonce"]
    assert ask(prove(nonce=nonce)).json == {"written": 1, "known": 0}


def test_a_suspended_component_reports_nothing(at: ApiHouse) -> None:
    ana = at.agree()
    item, secret = read(at, ana), at.own_token(at.reader, Scope.DISCLOSURES_WRITE)
    at.own_token = lambda *_: secret  # type: ignore[method-assign]
    with at.house.units.writing() as unit:
        unit.clients.suspend("reader", at.clock.now())
        unit.commit()
    problem(report(at, item), 401, "token_invalid")
    assert at.traces() == (0, [])
