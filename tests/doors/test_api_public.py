"""What anyone may read as JSON: the processor list, the ledger's checkpoint and proofs, the description."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from app.http.guard import Anyone, ByProtocol, ClientOnly, guards
from app.sdk.merkle import verify_consistency, verify_inclusion
from app.sdk.notes import Verifier, parse_checkpoint, parse_note
from consent.parties import Active
from tests.doors.api_house import START, ApiHouse, problem


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def test_the_list_is_the_one_the_decision_reads(at: ApiHouse) -> None:
    """dsar rule P1, consent rule 52: every party, every grant with its written reason, whether it is in force."""
    said = {each["id"]: each for each in at.web.get("/api/v1/processors").json["processors"]}
    policy = at.house.policy
    assert said.keys() == policy.parties.keys()
    for party, entry in said.items():
        standing = policy.standing(party, START.date())
        assert entry["in_force"] is isinstance(standing, Active)
        assert entry["reason"] == (None if isinstance(standing, Active) else standing.reason.value)
        listed = {(g.purpose, g.category, g.action.value, g.justification["en"]) for g in policy.parties[party].grants}
        assert {(g["purpose"], g["category"], g["action"], g["justification"]) for g in entry["grants"]} == listed
        assert all(grant["live"] for grant in entry["grants"]) or not entry["in_force"]


def test_a_party_out_of_force_says_why_and_has_no_live_grant(at: ApiHouse) -> None:
    at.clock.forward(days=-800)
    said = at.web.get("/api/v1/processors/collecte").json
    assert (said["in_force"], said["reason"]) == (False, "contract_not_begun")
    assert not any(grant["live"] for grant in said["grants"])


def test_it_speaks_the_reader_s_language_and_says_when_it_changed(at: ApiHouse) -> None:
    answers = {
        code: at.web.get("/api/v1/processors/collecte", headers={"Accept-Language": code})
        for code in ("fr", "en", "es", "pt")
    }
    party = at.house.policy.parties["collecte"]
    for code, answer in answers.items():
        assert answer.json["does"] == party.does[code]
        assert answer.headers["Content-Language"] == code
        assert answer.headers["Vary"].find("Accept-Language") >= 0
        assert at.house.policy.digest in answer.headers["ETag"]
    assert len({answer.headers["ETag"] for answer in answers.values()}) == 4
    again = at.web.get(
        "/api/v1/processors/collecte", headers={"Accept-Language": "fr", "If-None-Match": answers["fr"].headers["ETag"]}
    )
    assert (again.status_code, again.data) == (304, b"")


def test_no_mail_address_travels(at: ApiHouse) -> None:
    assert "@" not in at.web.get("/api/v1/processors?limit=100").text


def test_paging_meets_each_party_once(at: ApiHouse) -> None:
    seen, path = [], "/api/v1/processors?limit=5"
    while path:
        answer = at.web.get(path)
        seen += [each["id"] for each in answer.json["processors"]]
        link = answer.headers.get("Link")
        path = link.split(">")[0][1:] if link else ""
    assert seen == sorted(at.house.policy.parties)


def test_wrong_queries_and_unknown_parties(at: ApiHouse) -> None:
    assert problem(at.web.get("/api/v1/processors?limit=0"), 422, "body_invalid")["fields"] == ["limit"]
    assert problem(at.web.get("/api/v1/processors?limit=x&page=2"), 422, "body_invalid")["fields"] == ["limit", "page"]
    problem(at.web.get("/api/v1/processors/nobody"), 404, "not_found")
    problem(at.web.post("/api/v1/processors"), 405, "method_not_allowed")


def test_checkpoint_and_proofs_verify_with_the_public_key_alone(at: ApiHouse) -> None:
    """ledger.md: an auditor needs neither the service nor its database."""
    at.agree()
    old = at.house.ledger.integrate()
    first = _head(at)
    at.agree("bea@example.org")
    size = old + at.house.ledger.integrate()
    newer = _head(at)
    assert (first.size, newer.size) == (old, size)
    for leaf in range(size):
        said = at.web.get(f"/ledger/proof/inclusion?leaf={leaf}&size={size}").json
        hashed = at.house.ledger.entry(leaf).envelope.leaf_hash()
        verify_inclusion(hashed, leaf, size, [b64decode(each) for each in said["hashes"]], newer.root)
    said = at.web.get(f"/ledger/proof/consistency?old={old}&new={size}").json
    verify_consistency(old, first.root, size, newer.root, [b64decode(each) for each in said["hashes"]])


def _head(at: ApiHouse) -> Any:
    answer = at.web.get("/ledger/checkpoint")
    assert answer.mimetype == "text/plain"
    note = parse_note(answer.get_data(as_text=True))
    Verifier.parse(at.house.ledger.verifier_key).check(note)
    return parse_checkpoint(note)


def test_proofs_of_what_is_not_there(at: ApiHouse) -> None:
    at.agree()
    size = at.house.ledger.integrate()
    for query in (f"leaf={size}&size={size}", f"leaf=0&size={size + 1}"):
        problem(at.web.get(f"/ledger/proof/inclusion?{query}"), 404, "ledger.position_unknown")
    problem(at.web.get(f"/ledger/proof/consistency?old={size}&new=1"), 404, "ledger.position_unknown")
    for query in ("leaf=-1&size=1", "leaf=x&size=1", "size=1", f"leaf=0&size={1 << 60}"):
        problem(at.web.get(f"/ledger/proof/inclusion?{query}"), 422, "body_invalid")


def test_the_description_names_every_json_door_and_its_problems(at: ApiHouse) -> None:
    said = at.web.get("/api/openapi.json").json
    assert said["openapi"] == "3.1.0"
    ours = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule, method, guard in guards(at.app)
        if rule.endpoint.startswith("api_") and isinstance(guard, Anyone | ByProtocol | ClientOnly) and method != "HEAD"
    }
    ours.discard(("/api/docs", "get"))
    described = {(path, method) for path, each in said["paths"].items() for method in each if method != "parameters"}
    assert {(path, method) for path, method in described if path.startswith(("/api", "/access", "/ledger"))} == ours
    lease = said["paths"]["/api/v1/keys/lease"]["post"]["responses"]
    assert {"200", "403", "410", "422", "503"} <= lease.keys()
    assert "application/problem+json" in lease["403"]["content"]
