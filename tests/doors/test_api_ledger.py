"""The ledger's doors: witnesses over HTTP, what a cache may keep, how often one address may ask (ledger.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.ledger.bundle import About, Selection
from app.sdk.evidence import verify_bundle
from app.sdk.notes import Verifier, parse_note
from app.sdk.witness import Cosigned, HttpLedger, StateFile, WitnessError, WitnessSigner, cosign
from app.wiring.evidence import evidence
from tests.databases import sqlite_database
from tests.doors.api_house import ApiHouse, problem

WITNESS, OTHER = (WitnessSigner(f"witness.example/w{n}", bytes([n]) * 32) for n in (1, 2))
NOW = 1_790_000_000


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiHouse]:
    records, keys = (sqlite_database(tmp_path / f"{tree}.sqlite", tree) for tree in ("records", "keys"))
    monkeypatch.setattr("app.wiring.evidence.witnesses_of", lambda _settings: (WITNESS.verifier,))
    built = ApiHouse(tmp_path, records, keys, monkeypatch)
    yield built
    built.house.close()


def grow(at: ApiHouse, count: int = 3) -> int:
    """Record something, integrate it, return the size."""
    with at.house.units.writing() as unit:
        for _ in range(count):
            unit.journal.record("test.told", actor="a", controller=at.house.controller, subject=None, payload={})
        unit.commit()
    at.house.ledger.integrate()
    return int(at.web.get("/ledger/checkpoint").text.split("\n")[1])


class Outside(HttpLedger):
    """The witness' own client, with the service behind it."""

    def __init__(self, at: ApiHouse) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            path, kind = request.url.raw_path.decode(), request.headers.get("content-type")
            got = at.web.open(path, method=request.method, data=request.content, content_type=kind)
            return httpx.Response(got.status_code, headers=dict(got.headers), content=got.data)

        super().__init__("http://ledger.example", transport=httpx.MockTransport(answer))


def witnessed(at: ApiHouse, folder: Path, signer: WitnessSigner = WITNESS) -> Cosigned:
    key = Verifier.parse(at.house.ledger.verifier_key)
    return cosign(Outside(at), key, signer, StateFile(folder / f"{signer.verifier.name[-2:]}.json", key), NOW)


def test_a_witness_cosigns_over_http_and_the_verifier_names_it(at: ApiHouse, tmp_path: Path) -> None:
    for _ in range(2):  # the second time with a consistency proof
        size = grow(at)
        made = witnessed(at, tmp_path)
        told = Outside(at).submit(made)
        assert told == at.web.get("/ledger/checkpoint").text
        assert WITNESS.verifier.check(parse_note(told)) == NOW
    later = grow(at)
    assert at.web.get("/ledger/checkpoint").text.count("\n— ") == 1, "the newest one waits for its witness"
    assert at.web.get("/ledger/checkpoint?witnessed=true").text == told
    assert at.web.get(f"/ledger/checkpoint?size={size}").text == told
    assert later > size
    bundle = evidence(at.house, Selection(About.ALL), witnessed=True)
    report = verify_bundle(bundle, at.house.ledger.verifier_key, witnesses=[WITNESS.verifier.text()])
    assert (report.faults, report.witnesses, len(report.entries)) == ((), {"witness.example/w1": NOW}, size)
    unseen = verify_bundle(bundle, at.house.ledger.verifier_key, witnesses=[OTHER.verifier.text()])
    assert not unseen.ok


def test_a_rewritten_ledger_finds_no_witness(at: ApiHouse, tmp_path: Path) -> None:
    """Whoever has the ledger's key and its database can sign another past; whoever saw the first one says no."""
    grow(at)
    witnessed(at, tmp_path)
    with at.house.records.begin() as connection:
        for table in ("ledger_checkpoints", "ledger_nodes", "ledger_tree"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("UPDATE ledger_entries SET position = NULL"))
        connection.execute(text("UPDATE ledger_entries SET actor = 'b' WHERE arrival = 1"))
    grow(at)
    with pytest.raises(WitnessError, match="the ledger has forked"):
        witnessed(at, tmp_path)


def test_only_what_a_known_witness_signed_is_kept(at: ApiHouse, tmp_path: Path) -> None:
    size = grow(at)
    mine, strangers = witnessed(at, tmp_path), witnessed(at, tmp_path, OTHER)
    before = at.web.get("/ledger/checkpoint").text
    grow(at)
    newer = witnessed(at, tmp_path)

    def hand(**body: Any) -> Any:
        return at.web.post("/ledger/cosignatures", json=body)

    for line in (strangers.line(), newer.line(), "— nonsense\n", mine.line() * 2, mine.line().replace("w1", "w2")):
        problem(hand(size=size, line=line), 422, "ledger.witness_refused")
    problem(hand(size=size + 1, line=mine.line()), 404, "ledger.position_unknown")
    for body in ({}, {"size": "3", "line": mine.line()}, {"size": size}, {"size": size, "line": ""}, {"size": -1}):
        problem(hand(**body), 422, "body_invalid")
    problem(at.web.post("/ledger/cosignatures", data="x"), 415, "media_type_unsupported")
    assert at.web.get(f"/ledger/checkpoint?size={size}").text == before
    first = hand(size=size, line=mine.line())
    assert first.status_code == 200
    assert first.text.count("\n— ") == 2
    assert hand(size=size, line=mine.line()).text == first.text, "the same again changes nothing"


def test_without_a_cosignature_there_is_no_witnessed_checkpoint(at: ApiHouse) -> None:
    size = grow(at)
    problem(at.web.get("/ledger/checkpoint?witnessed=true"), 404, "ledger.position_unknown")
    problem(at.web.get(f"/ledger/checkpoint?size={size + 1}"), 404, "ledger.position_unknown")
    problem(at.web.get(f"/ledger/checkpoint?size={size}&witnessed=true"), 422, "body_invalid")
    problem(at.web.get("/ledger/checkpoint?size=x"), 422, "body_invalid")


def test_proofs_may_be_kept_for_ever_and_the_checkpoint_is_asked_for_again(at: ApiHouse) -> None:
    size = grow(at)
    for path in (f"/ledger/proof/inclusion?leaf=0&size={size}", f"/ledger/proof/consistency?old=1&new={size}"):
        assert at.web.get(path).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    problem(at.web.get(f"/ledger/proof/inclusion?leaf=0&size={size + 1}"), 404, "ledger.position_unknown")
    beyond = at.web.get(f"/ledger/proof/inclusion?leaf=0&size={size + 1}")
    assert "immutable" not in beyond.headers.get("Cache-Control", "")
    head = at.web.get("/ledger/checkpoint")
    assert head.headers["Cache-Control"] == "no-cache"
    unchanged = at.web.get("/ledger/checkpoint", headers={"If-None-Match": head.headers["ETag"]})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    grow(at)
    assert at.web.get("/ledger/checkpoint", headers={"If-None-Match": head.headers["ETag"]}).status_code == 200


def test_one_address_may_not_ask_without_end(at: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http.api.ledger.READS", 5)
    size = grow(at)
    for _ in range(4):
        assert at.web.get(f"/ledger/proof/inclusion?leaf=0&size={size}").status_code == 200
    refused = at.web.get("/ledger/checkpoint")
    problem(refused, 429, "too_many_tries")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert at.web.get("/ledger/checkpoint", environ_overrides=elsewhere).status_code == 200
    at.clock.forward(seconds=61)
    assert at.web.get("/ledger/checkpoint").status_code == 200


def test_cosignatures_have_a_limit_of_their_own(at: ApiHouse) -> None:
    body = json.dumps({"size": 1, "line": "— w x\n"})
    codes = [
        at.web.post("/ledger/cosignatures", data=body, content_type="application/json").status_code for _ in range(31)
    ]
    assert codes == [422] * 30 + [429]
    assert at.web.get("/ledger/checkpoint").status_code == 200
