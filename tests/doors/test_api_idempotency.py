"""`Idempotency-Key`: a change asked for twice happens once, on both databases; keys and plaintexts are never kept."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.http.api.idempotency import REPLAYED, Repeats, repeats_of
from app.sdk.scopes import Scope
from app.store.disclosures import SqlDisclosures
from app.store.idempotency import SqlKeyedRequests
from app.store.rows.idempotency import KeyedRequestRow
from app.vault.errors import ProviderUnavailable
from app.wiring.house import OwnSeals
from app.wiring.idempotency import KeyedRequests
from app.wiring.sweeping import sweeps
from tests.doors.api_house import BALANCES, HOLDER, PURPOSE, READER, Agreed, ApiHouse, problem

READS, HEARTBEAT = "/api/v1/disclosures", "/api/v1/holder/heartbeat"
KEY = "one key of Ana"  # refused: a blank is not visible
GOOD = "ana.exemplo@example.org"
"""Somebody will put an address into their keys."""


@pytest.fixture
def at(
    tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiHouse]:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def batch(at: ApiHouse, agreed: Agreed, ident: str = "r-1", party: Any = READER) -> dict[str, Any]:
    read = {
        "id": ident,
        "handle": at.handle(agreed, party),
        "categories": [BALANCES],
        "records": 12,
        "purpose": PURPOSE,
        "consent": agreed.consent,
        "attended": False,
        "at": at.clock.now().isoformat(),
    }
    return {"disclosures": [read]}


def report(at: ApiHouse, body: Any, key: str | None = GOOD, who: Any = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return at.post(READS, who or at.reader, Scope.DISCLOSURES_WRITE, body, headers=headers)


def kept(at: ApiHouse) -> list[Any]:
    with at.house.records.connect() as connection:
        return list(connection.execute(select(KeyedRequestRow.__table__)))


def test_every_post_that_changes_something_says_what_it_does_with_the_header(at: ApiHouse) -> None:
    """api.md: honoured on every POST that changes anything, not on `/oauth/*`."""
    said = {
        rule.rule: repeats_of(at.app.view_functions[rule.endpoint])
        for rule in at.app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and rule.rule.startswith("/api/v1/")
    }
    refused = {rule for rule, how in said.items() if how is Repeats.REFUSED}
    assert refused == {"/api/v1/keys/lease", "/api/v1/keys/open", "/api/v1/keys/seal"}
    assert {rule for rule, how in said.items() if how is None} == set()
    document = at.web.get("/api/openapi.json").json["paths"]
    for rule in said.keys() - refused:
        described = document[rule.replace("<", "{").replace(">", "}")]["post"]
        assert "Idempotency-Key" in [one["name"] for one in described["parameters"]], rule
        assert "409" in described["responses"], rule


def test_the_same_request_gets_the_same_answer_and_happens_once(at: ApiHouse) -> None:
    ana = at.agree()
    body = batch(at, ana)
    first = report(at, body)
    before = at.traces()
    again = report(at, body)
    assert (first.status_code, first.json) == (again.status_code, again.json) == (200, {"written": 1, "known": 0})
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert at.traces() == before == (1, ["disclosure.reported"])
    assert report(at, body, key=None).json == {"written": 0, "known": 1}, "without the header it is decided anew"


def test_a_withdrawal_is_answered_again_with_its_entity_tag(at: ApiHouse) -> None:
    """Consent rule 35: whatever happens to the answer, the person's stop is recorded once."""
    ana = at.agree()
    path, headers = f"/api/v1/consents/{ana.consent}/withdraw", {"Idempotency-Key": GOOD}
    first = at.post(path, at.reader, Scope.CONSENTS_WITHDRAW, {}, headers=headers)
    assert (first.status_code, first.json["state"]) == (200, "withdrawn")
    at.clock.forward(minutes=5)
    again = at.post(path, at.reader, Scope.CONSENTS_WITHDRAW, {}, headers=headers)
    assert (again.get_data(), again.headers["ETag"]) == (first.get_data(), first.headers["ETag"])
    kinds = [row["kind"] for row in at.rows("ledger_entries")]
    assert kinds.count("consent.withdrawn") == 1
    with at.house.units.reading() as unit:
        record = unit.consents.find(at.house.controller, ana.consent)
    assert record is not None
    assert record.version == first.json["version"]


def test_an_answer_without_a_body_is_repeated_as_such(at: ApiHouse) -> None:
    headers = {"Idempotency-Key": GOOD}
    first, again = (at.post(HEARTBEAT, at.holder, Scope.CASES_FULFIL, {}, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.get_data()) == (204, 204, b"")
    assert again.headers[REPLAYED] == "true"
    assert again.headers.get("Content-Type") == first.headers.get("Content-Type")


def test_the_key_belongs_to_its_client(at: ApiHouse) -> None:
    ana = at.agree()
    assert report(at, batch(at, ana)).json["written"] == 1
    other = report(at, batch(at, ana, party=HOLDER), who=at.holder)
    assert (other.json, REPLAYED in other.headers) == ({"written": 1, "known": 0}, False)


def test_another_request_under_the_same_key_is_refused(at: ApiHouse) -> None:
    ana = at.agree()
    assert report(at, batch(at, ana)).status_code == 200
    problem(report(at, batch(at, ana, "r-2")), 422, "idempotency_key_reused")
    elsewhere = at.post(HEARTBEAT, at.reader, Scope.CASES_FULFIL, {}, headers={"Idempotency-Key": GOOD})
    problem(elsewhere, 422, "idempotency_key_reused")
    assert len(at.rows("disclosures")) == 1
    assert at.rows("holder_heartbeats") == []


def test_a_refusal_is_not_kept_and_leaves_the_key_free(at: ApiHouse) -> None:
    ana = at.agree()
    wrong = batch(at, ana)
    wrong["disclosures"][0]["handle"] = "pw_nobody"
    problem(report(at, wrong), 422, "body_invalid")
    assert kept(at) == []
    assert report(at, batch(at, ana)).json == {"written": 1, "known": 0}


@pytest.mark.parametrize("key", [KEY, "", "x" * 256, "café", "tab\there"])
def test_a_key_is_visible_ascii(at: ApiHouse, key: str) -> None:
    ana = at.agree()
    answer = report(at, batch(at, ana), key=key)
    problem(answer, 400, "idempotency_key_invalid")
    assert not key or key not in answer.text
    assert at.rows("disclosures") == []


@pytest.mark.parametrize("door", ["lease", "seal", "open"])
def test_the_doors_to_keys_refuse_the_header(at: ApiHouse, door: str) -> None:
    """vault.md: a kept answer would be a key at rest, and a key after the person said stop."""
    ana = at.agree()
    body = {"presented_token": at.token(ana), "category": BALANCES, "handle": at.handle(ana)}
    named: dict[str, Any] = {"lease": {}, "seal": {"plaintext": "aGVsbG8"}, "open": {"sealed": "AA"}}[door]
    body |= {"record_id": "r1", **named} if named else {}
    headers = {"Idempotency-Key": GOOD}
    answer = at.post(f"/api/v1/keys/{door}", at.holder, Scope.KEYS_LEASE, body, headers=headers)
    problem(answer, 400, "idempotency_not_offered")
    assert at.traces() == (0, [])
    assert kept(at) == []


def test_what_is_kept_is_sealed_and_names_nobody(at: ApiHouse) -> None:
    ana = at.agree()
    path, headers = f"/api/v1/consents/{ana.consent}/withdraw", {"Idempotency-Key": GOOD}
    answer = at.post(path, at.reader, Scope.CONSENTS_WITHDRAW, {}, headers=headers)
    (row,) = kept(at)
    stored = b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
    for said in (answer.json["sub"], ana.consent, ana.subject, GOOD, "withdrawn", "reader"):
        assert said.encode() not in stored
    assert hashlib.sha256(f"reader\0{GOOD}".encode()).digest() not in stored, "a plain digest would confirm a guess"


def test_a_day_later_the_key_is_new_and_the_sweep_has_removed_it(at: ApiHouse) -> None:
    ana = at.agree()
    body = batch(at, ana)
    assert report(at, body).json["written"] == 1
    swept = sweeps(at.house.units)["answers"]
    at.clock.forward(hours=23, minutes=59)
    assert swept() == 0
    assert report(at, body).headers[REPLAYED] == "true"
    at.clock.forward(minutes=2)
    anew = report(at, body)
    assert (anew.json, REPLAYED in anew.headers) == ({"written": 0, "known": 1}, False)
    at.clock.forward(days=2)
    assert swept() == 1
    assert kept(at) == []


def test_the_change_and_its_answer_are_one_commit(at: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing the answer comes last: when it fails, the change is not there either."""
    ana = at.agree()
    body = batch(at, ana)

    def away(*_: Any) -> bytes:
        with at.house.units.reading() as unit:
            assert unit.disclosures.of_subject(ana.subject) == [], "nobody else sees what is not committed"
        raise ProviderUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(OwnSeals, "answer", away)
        down = report(at, body)
    problem(down, 503, "key_provider_unavailable")
    assert down.headers["Retry-After"]
    assert (at.rows("disclosures"), at.traces(), kept(at)) == ([], (0, []), [])
    assert report(at, body).json == {"written": 1, "known": 0}


def test_a_dead_claimant_keeps_others_out_for_a_minute(at: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies leaves its claim and nothing else; the same request takes it over, another one never."""
    ana = at.agree()
    body, other = batch(at, ana), batch(at, ana, "r-2")

    def killed(*_: Any) -> bool:
        raise ProviderUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(SqlKeyedRequests, "finish", killed)
        patch.setattr(KeyedRequests, "release", lambda *_: None)
        assert report(at, body).status_code == 503
    assert [row.sealed for row in kept(at)] == [None]
    busy = report(at, body)
    problem(busy, 409, "idempotency_in_progress")
    assert busy.headers["Retry-After"] == "1"
    at.clock.forward(seconds=61)
    problem(report(at, other), 422, "idempotency_key_reused")
    assert at.rows("disclosures") == []
    assert report(at, body).json == {"written": 1, "known": 0}
    assert report(at, body).headers[REPLAYED] == "true"


def test_whoever_was_taken_for_dead_changes_nothing(at: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower than a minute: by the time the first one would finish, a second has its claim."""
    ana = at.agree()
    body = batch(at, ana)
    write = SqlDisclosures.add

    def slow(self: SqlDisclosures, look: Any) -> bool:
        done = write(self, look)
        claim = KeyedRequestRow.__table__.update().values(claim="clm_another")
        self._session.execute(claim)  # as if the other's commit had come in between
        return done

    with monkeypatch.context() as patch:
        patch.setattr(SqlDisclosures, "add", slow)
        problem(report(at, body), 409, "idempotency_in_progress")
    assert at.rows("disclosures") == []
    assert report(at, body).json == {"written": 1, "known": 0}


def test_claims_pass_from_the_dead_to_the_living(at: ApiHouse) -> None:
    name, said = b"n" * 32, b"r" * 32

    def claim(who: str) -> bool:
        with at.house.units.writing() as unit:
            given = unit.keyed_requests.claim(name, controller="ormelune", request=said, claim=who, now=at.clock.now())
            unit.commit()
        return given

    def finish(who: str) -> bool:
        with at.house.units.writing() as unit:
            done = unit.keyed_requests.finish(name, who, b"sealed")
            unit.commit()
        return done

    assert (claim("a"), claim("b")) == (True, False)
    at.clock.forward(seconds=60)
    assert (claim("b"), claim("c")) == (True, False)
    assert (finish("a"), finish("b")) == (False, True)
    at.clock.forward(seconds=61)
    assert claim("d") is False, "what is answered is nobody's to take over"


def test_many_at_once_are_one(at: ApiHouse) -> None:
    ana = at.agree()
    body = batch(at, ana)
    answers: list[Any] = []
    start = threading.Barrier(4)

    def send() -> None:
        start.wait()
        answers.append(report(at, body))

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    taken = [answer for answer in answers if answer.status_code == 200]
    assert taken
    assert all(answer.json == {"written": 1, "known": 0} for answer in taken)
    assert len([answer for answer in taken if REPLAYED not in answer.headers]) == 1
    for answer in answers:
        if answer not in taken:
            problem(answer, 409, "idempotency_in_progress")
    assert len(at.rows("disclosures")) == 1
    assert report(at, body).headers[REPLAYED] == "true"
