"""The reference component and holder against the real doors: steps 3 to 5 of the main job, every way to be refused."""

from __future__ import annotations

import ast
import json
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from regard_sdk import Change, Partner, Permit, Pushed, Task
from regard_sdk.errors import Refused, Unreachable
from regard_sdk.holder import Kind

from app.demo.collector import BATCH
from app.demo.generator import records
from app.http.oauth import Authorizations
from app.sdk.dpop import Prover, new_key
from app.wiring.application import authorization_services
from consent.vocabulary import ConsentId
from tests.doors.api_house import ISSUER, PURPOSE, Agreed
from tests.doors.demo_house import APP_PARTY, BALANCES, CALLBACK, DETAILS, PARTY, RECENT, SAFE, DemoHouse, Pair

ROOT = Path(__file__).resolve().parents[2]
AT = f"?purpose={PURPOSE}"


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoHouse]:
    built = DemoHouse(tmp_path, monkeypatch)
    yield built
    built.house.close()


@pytest.fixture
def pair(at: DemoHouse) -> Iterator[Pair]:
    built = Pair(at)
    yield built
    built.safe.close()


def refused(answer: Any, status: int, code: str, reason: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert (answer.json["code"], answer.json.get("reason")) == (code, reason), answer.json
    for secret in ("rgt_", "sub_", "pw_", "eyJ"):
        assert secret not in answer.text


def fetched(pair: Pair, agreed: Agreed) -> Counter[str]:
    """Fetch the generated person's records; return how many of each category the bank has."""
    connection, person = pair.at.connect()
    answer = pair.fetch(agreed, connection)
    assert answer.status_code == 200, answer.text
    at_the_bank = Counter(record.category for record in records(person))
    agreed_to = {name: at_the_bank[name] for name in (BALANCES, DETAILS)}
    assert answer.json["stored"] == agreed_to
    assert set(answer.json["not_agreed"]) == at_the_bank.keys() - agreed_to.keys()
    return at_the_bank


def counted(at: DemoHouse) -> list[Any]:
    """The reads that the safe reported: it alone knows how many records there were."""
    return [row for row in at.rows("disclosures") if row["records"]]


def permit(pair: Pair, agreed: Agreed, category: str = BALANCES) -> Permit:
    token = pair.collecting.token(agreed.consent, SAFE)
    url = f"{SAFE}/records/subject/{category}"
    sent = httpx.Request("GET", url, headers=pair.collecting.headers(token, "GET", url))
    verdict = pair.safe.gate.check(sent, PURPOSE, [category])
    assert isinstance(verdict, Permit)
    return verdict


def completed(at: DemoHouse, partner: Partner, pushed: Pushed, agreed: Agreed) -> str:
    """Open the partner's address, and return where the person comes back to once they have agreed."""
    opened = at.web.get(partner.authorize_url(pushed).removeprefix(ISSUER))
    journey = opened.location.rsplit("/", 1)[1]
    services = authorization_services(at.house)
    with services.units() as unit:
        address = Authorizations(services).complete(unit, journey, ConsentId(agreed.consent), agreed.subject)
        unit.commit()
    return address


# steps 3 and 4


def test_what_the_collector_brings_rests_sealed_and_each_read_is_seen(pair: Pair) -> None:
    """consent rule 51: who looked, when, at what."""
    at, ana = pair.at, pair.at.agree()
    counts = fetched(pair, ana)
    _, person = at.connect()
    at_rest = pair.bytes_at_rest()
    for plain in [account.iban for account in person.accounts] + [person.family_name, "balance_cents", "institution"]:
        assert plain.encode() not in at_rest, "plaintext in the safe's own files"
    assert pair.read(ana).json == {"records": counts[BALANCES]}
    assert pair.safe.disclosures.pending() == 1
    pair.safe.disclosures.flush()
    looks = counted(at)
    assert [(row["party"], row["categories"], row["records"], row["action"]) for row in looks] == [
        (PARTY, BALANCES, counts[BALANCES], "read")
    ]
    assert looks[0]["subject"] == ana.subject
    assert looks[0]["consent"] == ana.consent
    # each key that was lent is in the person's log as well, in the reader's name (vault.md section 3)
    assert {row["component"] for row in at.rows("disclosures")} == {"collector"}


def test_what_comes_out_is_what_went_in(pair: Pair) -> None:
    ana = pair.at.agree()
    fetched(pair, ana)
    _, person = pair.at.connect()
    went_in = {record.id: record.content for record in records(person) if record.category == DETAILS}
    token = pair.collecting.token(ana.consent, SAFE)
    answer = pair.ask(pair.collecting, token, "GET", f"/records/subject/{DETAILS}{AT}")
    assert {one["record_id"]: one["content"] for one in answer.json["records"]} == went_in
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_record_is_stored_alone_and_replaced(pair: Pair) -> None:
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE)
    path = f"/records/subject/{BALANCES}/bal_1{AT}"
    for amount in (1, 2):
        assert pair.ask(pair.collecting, token, "PUT", path, json={"cents": amount}).json == {"stored": 1}
    answer = pair.ask(pair.collecting, token, "GET", f"/records/subject/{BALANCES}{AT}")
    assert [one["content"] for one in answer.json["records"]] == [{"cents": 2}]


def test_a_document_comes_out_byte_for_byte(pair: Pair) -> None:
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE)
    document = next(r.content for r in records(pair.at.connect()[1]) if r.media_type == "application/pdf")
    path = f"/records/subject/{BALANCES}/doc_1{AT}"
    stored = pair.ask(pair.collecting, token, "PUT", path, data=document, content_type="application/pdf")
    assert stored.json == {"stored": 1}
    assert b"%PDF" not in pair.bytes_at_rest()
    answer = pair.ask(pair.collecting, token, "GET", f"/records/subject/{BALANCES}{AT}")
    assert [b64decode(one["document"]) for one in answer.json["records"]] == [document]


def test_two_years_of_transactions_go_in_many_at_a_time(pair: Pair) -> None:
    optional = ("transactions.recent", "transactions.older", "investments.positions", "wealth.summary")
    ana = pair.at.agree_to(PURPOSE, *optional)
    connection, person = pair.at.connect()
    bank = Counter(record.category for record in records(person))
    stored = pair.fetch(ana, connection).json["stored"]
    assert stored == {name: bank[name] for name in (BALANCES, DETAILS, *optional)}
    assert stored["transactions.older"] > BATCH, "more than one batch"
    assert pair.read(ana, "transactions.older").json == {"records": bank["transactions.older"]}


def test_a_loan_file_is_read_while_the_person_is_there_and_not_otherwise(pair: Pair) -> None:
    """consent rule 14: a purpose without unattended reads; its papers come with a token of the person's own visit."""
    at, purpose, payslips = pair.at, "mortgage_brokerage", "income.payslips"
    grants = ("authorization_code", "refresh_token")
    at.register("desk", party=PARTY, grants=grants, redirect_uris=("https://collecte.example/back",))
    partner = Partner(at.authority("desk"), "https://collecte.example/back")
    pushed = partner.push(purpose=purpose, categories=["identity.civil", payslips], resource=SAFE)
    ana = at.agree_to(purpose, payslips)
    agreed = partner.exchange(pushed, completed(at, partner, pushed, ana))
    papers = [record for record in records(at.connect()[1]) if record.category == payslips]
    for paper in papers:
        path = f"/records/subject/{payslips}/{paper.id}?purpose={purpose}"
        sent = {"data": paper.content, "content_type": "application/pdf"}
        assert pair.ask(partner._authority, agreed.token, "PUT", path, **sent).json == {"stored": 1}
    path = f"/records/subject/{payslips}?purpose={purpose}"
    read = pair.ask(partner._authority, agreed.token, "GET", path).json["records"]
    assert [b64decode(one["document"]) for one in read] == [
        paper.content for paper in sorted(papers, key=lambda p: p.id)
    ]
    pair.safe.disclosures.flush()
    assert [(row["attended"], row["records"]) for row in counted(at)] == [(True, len(papers))]
    refused(pair.fetch(ana, at.connect()[0]), 400, "access_denied", "frequency_exceeded")


# step 5


def test_after_the_withdrawal_the_next_presentation_and_the_next_lease_are_refused(pair: Pair) -> None:
    """consent rule 46; tokens.md section 1: delay zero."""
    at, ana = pair.at, pair.at.agree()
    counts = fetched(pair, ana)
    token = pair.collecting.token(ana.consent, SAFE)
    assert pair.read(ana).json == {"records": counts[BALANCES]}
    given = permit(pair, ana)
    at.withdraw(ana)
    refused(pair.read(ana), 401, "token_inactive")
    refused(pair.ask(pair.collecting, token, "GET", f"/records/subject/{BALANCES}{AT}"), 401, "token_inactive")
    connection, _ = at.connect()
    refused(pair.fetch(ana, connection), 400, "access_denied", "consent_withdrawn")
    with pytest.raises(Refused) as no:
        pair.safe.authority.lease(given.token, given.subject, BALANCES)
    assert (no.value.status, no.value.error, no.value.reason) == (403, "access_refused", "consent_withdrawn")
    pair.safe.sealer.evict()
    with pytest.raises(Refused):
        pair.safe.open(given, BALANCES)


def test_without_the_authority_nothing_opens(pair: Pair) -> None:
    """tokens.md section 6: fails closed everywhere."""
    at, ana = pair.at, pair.at.agree()
    fetched(pair, ana)
    given, before = permit(pair, ana), pair.safe.shelf.count()
    pair.safe.sealer.evict()
    at.down = True
    refused(pair.read(ana), 503, "authority_unreachable")
    with pytest.raises(Unreachable):
        pair.safe.open(given, BALANCES)
    connection, _ = at.connect()
    refused(pair.fetch(ana, connection), 503, "authority_unreachable")
    pair.safe.round()  # says so in the log, and goes on
    assert pair.safe.shelf.count() == before
    at.down = False
    assert pair.read(ana).status_code == 200


def test_a_read_that_could_not_be_reported_is_reported_later(pair: Pair) -> None:
    at, ana = pair.at, pair.at.agree()
    fetched(pair, ana)
    pair.read(ana)
    at.down = True
    pair.safe.round()
    assert pair.safe.disclosures.pending() == 1
    at.down = False
    pair.safe.round()
    assert pair.safe.disclosures.pending() == 0
    assert [row["component"] for row in counted(at)] == ["collector"]


# every other way to be refused


OUTSIDE = (
    (f"/records/subject/{BALANCES}?purpose=mortgage_brokerage", 403, "other_purpose"),
    (f"/records/subject/{RECENT}{AT}", 403, "other_category"),
    (f"/records/pw_somebody/{BALANCES}{AT}", 403, "other_subject"),
    (f"/records/subject/{BALANCES}", 422, "request_malformed"),
    (f"/records/subject/BALANCES{AT}", 422, "request_malformed"),
    (f"/records/a b/{BALANCES}{AT}", 422, "request_malformed"),
    (f"/nothing{AT}", 404, "not_found"),
)


def test_outside_the_agreement_the_gate_says_why(pair: Pair) -> None:
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE, [BALANCES])
    before = pair.at.traces()
    for path, status, code in OUTSIDE:
        for method, more in (("GET", {}), ("POST", {"json": {"records": [{"record_id": "r", "content": 1}]}})):
            refused(pair.ask(pair.collecting, token, method, path, **more), status, code)
    assert pair.at.traces() == before
    assert pair.safe.shelf.count() == 0


def test_the_right_handle_opens_as_well_as_the_word(pair: Pair) -> None:
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE)
    path = f"/records/{pair.at.handle(ana, PARTY)}/{BALANCES}{AT}"
    assert pair.ask(pair.collecting, token, "GET", path).json == {"records": []}


def test_a_category_nobody_asked_for_needs_no_key_to_be_refused(pair: Pair) -> None:
    """The token covers it, the list does not let this party hold it: no lease (dsar rule P1)."""
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE)
    assert token.detail is not None
    outside = "wealth.summary"
    assert outside not in token.detail.categories
    with pytest.raises(Refused) as no:
        pair.safe.authority.lease(token.secret, pair.at.handle(ana, PARTY), outside)
    assert no.value.reason == "category_not_consented"


def test_a_token_is_good_for_its_own_key_once_and_here(pair: Pair) -> None:
    ana, path = pair.at.agree(), f"/records/subject/{BALANCES}{AT}"
    token, url = pair.collecting.token(ana.consent, SAFE), f"{SAFE}/records/subject/{BALANCES}"
    web = pair.web.test_client()
    refused(web.get(SAFE + path), 401, "no_token")
    refused(web.get(SAFE + path, headers={"Authorization": f"Bearer {token.secret}"}), 401, "no_token")
    refused(web.get(SAFE + path, headers={"Authorization": f"DPoP {token.secret}"}), 401, "bad_proof")
    thief = Prover(new_key(), pair.at.clock.now).prove("GET", url, access_token=token.secret)
    refused(
        web.get(SAFE + path, headers={"Authorization": f"DPoP {token.secret}", "DPoP": thief}),
        401,
        "token_of_another_key",
    )
    headers = pair.collecting.headers(token, "GET", url)
    assert web.get(SAFE + path, headers=headers).status_code == 200
    refused(web.get(SAFE + path, headers=headers), 401, "replayed")
    elsewhere = pair.collecting.token(ana.consent, "https://store.example")
    refused(pair.ask(pair.collecting, elsewhere, "GET", path), 401, "token_inactive")


def test_another_party_gets_no_token_and_cannot_use_one(pair: Pair) -> None:
    ana, stranger = pair.at.agree(), pair.at.authority("stranger")
    with pytest.raises(Refused) as no:
        stranger.token(ana.consent, SAFE)
    assert (no.value.error, no.value.reason) == ("invalid_authorization_details", None)
    stolen = pair.collecting.token(ana.consent, SAFE)
    answer = pair.ask(stranger, stolen, "GET", f"/records/subject/{BALANCES}{AT}")
    refused(answer, 401, "token_of_another_key")


def test_a_suspended_component_gets_nothing_and_its_tokens_open_nothing(pair: Pair) -> None:
    from app.wiring import registrations

    ana = pair.at.agree()
    fetched(pair, ana)
    registrations.suspend(pair.at.house, "collector", by="operator")
    refused(pair.read(ana), 401, "token_inactive")
    refused(pair.fetch(ana, pair.at.connect()[0]), 503, "authority_did_not_answer_us")
    registrations.resume(pair.at.house, "collector", by="operator")
    assert pair.read(ana).status_code == 200


BODIES: tuple[Any, ...] = (
    None,
    [],
    {},
    {"records": []},
    {"records": "x"},
    {"records": [{}]},
    {"records": [{"record_id": "r"}]},
    {"records": [{"record_id": "../r", "content": 1}]},
    {"records": [{"record_id": 1, "content": 1}]},
    {"records": [{"record_id": "r", "content": 1, "more": 2}]},
    {"records": [{"record_id": "r", "document": "?"}]},
    {"records": [{"record_id": "r", "document": "aGVsbG8="}]},
    {"records": [{"record_id": "r", "content": 1}], "more": 1},
    {"records": [{"record_id": "r", "content": 1}] * 1001},
)
SINGLES = (
    ("r", b"{", "application/json"),
    ("r", b"{}", "text/plain"),
    ("r", b"{}", "application/pdf"),
    ("a%20b", b"{}", "application/json"),
    ("r" * 129, b"{}", "application/json"),
    ("r", b"[" * 200_000, "application/json"),
)


def test_records_of_another_shape_are_not_stored(pair: Pair) -> None:
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE)
    for body in BODIES:
        answer = pair.ask(pair.collecting, token, "POST", f"/records/subject/{BALANCES}{AT}", json=body)
        refused(answer, 422, "request_malformed")
    for name, data, media_type in SINGLES:
        path = f"/records/subject/{BALANCES}/{name}{AT}"
        answer = pair.ask(pair.collecting, token, "PUT", path, data=data, content_type=media_type)
        refused(answer, 422, "request_malformed")
    assert pair.safe.shelf.count() == 0


def test_too_much_at_once_is_refused(pair: Pair) -> None:
    ana = pair.at.agree()
    token = pair.collecting.token(ana.consent, SAFE)
    path = f"/records/subject/{BALANCES}/r{AT}"
    answer = pair.ask(
        pair.collecting, token, "PUT", path, data=b"1" * (16 * 1024 * 1024 + 1), content_type="application/json"
    )
    refused(answer, 413, "body_too_large")


def test_the_collector_takes_what_it_documents(pair: Pair) -> None:
    for body in (None, [], {}, {"consent_id": "c"}, {"consent_id": 1, "connection": "x"}):
        refused(pair.collector.post("/fetch", json=body), 422, "request_malformed")
        refused(pair.collector.post("/read", json=body), 422, "request_malformed")
    ana = pair.at.agree()
    refused(pair.fetch(ana, "nobody"), 404, "connection_unknown")
    for name in ("../safe/safe", "x" * 65):
        refused(pair.fetch(ana, name), 422, "request_malformed")
    assert pair.at.traces()[0] == 0


# the partner's app, and what it may read


def test_a_partner_s_app_asks_and_reads_what_was_agreed(pair: Pair) -> None:
    at = pair.at
    partner = Partner(at.authority("app"), CALLBACK)
    pushed = partner.push(purpose=PURPOSE, categories=[BALANCES, DETAILS], scopes=["consents.read"], resource=SAFE)
    ana = at.agree(party=APP_PARTY)
    agreed = partner.exchange(pushed, completed(at, partner, pushed, ana))
    assert (agreed.consent_id, agreed.subject) == (ana.consent, at.handle(ana, APP_PARTY))
    assert agreed.subject != at.handle(ana, PARTY), "the app and the safe call her by different names"
    counts = fetched(pair, ana)  # the collector is a processor named in the same agreement (consent rule 15)
    reading = partner._authority
    answer = pair.ask(reading, agreed.token, "GET", f"/records/subject/{BALANCES}{AT}")
    assert len(answer.json["records"]) == counts[BALANCES]
    assert agreed.subject not in answer.text
    assert pair.safe.disclosures.flush().refused == 0
    assert [(row["party"], row["component"]) for row in counted(at)] == [(APP_PARTY, "app")], "who, not through whom"
    fresh = partner.renew(agreed.refresh)
    assert pair.ask(reading, fresh, "GET", f"/records/subject/{BALANCES}{AT}").status_code == 200
    at.withdraw(ana)
    refused(pair.ask(reading, fresh, "GET", f"/records/subject/{BALANCES}{AT}"), 401, "token_inactive")
    with pytest.raises(Refused) as no:
        partner.renew(agreed.refresh)
    assert no.value.reason == "consent_withdrawn"


# what persons ask of the holder


def task(pair: Pair, agreed: Agreed, kind: Kind, **more: Any) -> Task:
    return Task("tsk_1", kind, pair.at.handle(agreed, PARTY), **more)


def test_the_safe_finds_and_erases_from_its_database(pair: Pair) -> None:
    """dsar rules 40, 53: found as it lies, erased, and gone from the file."""
    ana, ben = pair.at.agree(), pair.at.agree("ben@example.org")
    counts = fetched(pair, ana)
    connection, _ = pair.at.connect(8)
    assert pair.fetch(ben, connection).status_code == 200
    hers = pair.safe.shelf.all_of(pair.at.handle(ana, PARTY))
    assert Counter(found.category for found in hers) == {name: counts[name] for name in (BALANCES, DETAILS)}
    left = pair.safe.shelf.count() - counts[BALANCES]
    assert pair.safe.shelf.erase(pair.at.handle(ana, PARTY), BALANCES) == counts[BALANCES]
    assert pair.safe.shelf.erase(pair.at.handle(ana, PARTY), BALANCES) == 0
    assert pair.safe.shelf.count() == left
    gone = [found.sealed for found in hers if found.category == BALANCES]
    assert all(sealed not in pair.bytes_at_rest() for sealed in gone), "the file still holds what was erased"
    assert pair.safe.shelf.all_of("pw_nobody") == []


def test_a_corrected_record_takes_the_old_one_s_place(pair: Pair) -> None:
    """dsar rule 45."""
    ana = pair.at.agree()
    fetched(pair, ana)
    given, handle = permit(pair, ana), pair.at.handle(ana, PARTY)
    right = pair.safe.sealer.seal_json(given, BALANCES, "bal_0007_1", {"balance_cents": 12})
    assert pair.safe.shelf.replace(handle, Change(BALANCES, "bal_0007_1", right)) == 1
    assert pair.safe.shelf.replace(handle, Change(BALANCES, "bal_none", right)) == 0
    items = {item.id: item.content for item in pair.safe.open(given, BALANCES)}
    assert json.loads(items["bal_0007_1"]) == {"balance_cents": 12}


def test_a_record_put_in_another_one_s_place_does_not_open(pair: Pair) -> None:
    ana = pair.at.agree()
    fetched(pair, ana)
    given, handle = permit(pair, ana), pair.at.handle(ana, PARTY)
    wrong = pair.safe.sealer.seal_json(given, BALANCES, "bal_0007_2", {"balance_cents": 12})
    pair.safe.shelf.replace(handle, Change(BALANCES, "bal_0007_1", wrong))
    token = pair.collecting.token(ana.consent, SAFE)
    refused(pair.ask(pair.collecting, token, "GET", f"/records/subject/{BALANCES}{AT}"), 500, "record_unreadable")
    assert pair.safe.disclosures.pending() == 0


def test_restricted_data_is_stored_and_nothing_else(pair: Pair) -> None:
    """GDPR art. 18, dsar rule 51."""
    ana = pair.at.agree()
    counts = fetched(pair, ana)
    on = task(pair, ana, Kind.RESTRICT)
    assert pair.safe._restrict(on) == counts[BALANCES] + counts[DETAILS]
    refused(pair.read(ana), 403, "restricted")
    assert pair.safe.disclosures.pending() == 0
    assert pair.safe._restrict(task(pair, ana, Kind.RESTRICT, restricted=False)) == counts[BALANCES] + counts[DETAILS]
    assert pair.read(ana).status_code == 200


def test_what_may_be_kept_until_a_day_is_gone_after_it(pair: Pair) -> None:
    from dataclasses import replace
    from datetime import timedelta

    at, ana = pair.at, pair.at.agree()
    ends = at.clock.now() + timedelta(days=30)
    given = replace(permit(pair, ana), obligations={"keep": "until", "keep_until": ends.isoformat()})
    from app.demo.safe import Item

    assert pair.safe.keep(given, BALANCES, [Item("r", "application/json", b"1")]) == 1
    assert pair.safe.shelf.sweep(ends - timedelta(seconds=1)) == 0
    assert pair.safe.shelf.sweep(ends) == 1
    assert pair.safe.shelf.count() == 0


# the wheel and nothing else


@pytest.mark.parametrize("name", ["safe", "collector", "serving"])
def test_the_components_import_the_wheel_and_nothing_else_of_ours(name: str) -> None:
    """The issue: the reference component and holder use nothing else than the SDK."""
    allowed = {*sys.stdlib_module_names, "flask", "werkzeug", "httpx", "regard_sdk"}
    tree = ast.parse((ROOT / "app" / "demo" / f"{name}.py").read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module for module in named if module.split(".")[0] not in allowed} <= {"app.demo.serving"}
