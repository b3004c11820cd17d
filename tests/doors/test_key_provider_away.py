"""The key provider away, over HTTP on both databases: what is cached serves five minutes, then nothing opens (503).

The provider is the real file keyring, its file moved aside; the clock is the test's. What an erasure does meanwhile is
proven where it runs durably (`tests/contract/test_case_provider_away.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.sdk.scopes import Scope
from app.vault.keys import Target
from app.wiring import House
from app.workflows.signins import WRITE
from tests.doors.api_house import BALANCES, HOLDER, ISSUER, PURPOSE, READER, unb64
from tests.doors.bad_input_house import BadHouse, Straight, bad_house

AWAY = "key_provider_unavailable"


@pytest.fixture
def house(backend: str, tmp_path: Path) -> Iterator[BadHouse]:
    with bad_house(tmp_path, backend) as built:
        yield built


class Scene:
    """Something sealed, tokens in hand, and a keyring that comes and goes."""

    def __init__(self, house: BadHouse) -> None:
        at = house.at
        self.house = house
        self.keyring = at.house.settings.data_dir / "keyring"
        self.handle = at.handle(house.ana)
        self.read = at.handle(house.ana, READER)
        first = at.token(house.ana)
        self.record = self.ask("seal", first, record_id="r1", plaintext="aGVsbG8").json["sealed"]
        assert self.ask("lease", first).status_code == 200
        at.clock.forward(minutes=4, seconds=30)
        house.tokens.clear()  # they last five minutes: new ones, while what is in memory still serves
        self.token = at.token(house.ana)
        for who, scope in (
            *((at.holder, Scope.KEYS_LEASE), (at.reader, Scope.DISCLOSURES_WRITE)),
            *((at.reader, Scope.CONSENTS_READ), (at.reader, Scope.CONSENTS_WITHDRAW)),
        ):
            house.token(who, scope)

    def ask(self, door: str, presented: str, **more: Any) -> Any:
        body = {"presented_token": presented, "category": BALANCES, "handle": self.handle, **more}
        return self.house.call("POST", f"/api/v1/keys/{door}", self.house.at.holder, Scope.KEYS_LEASE, json=body)

    def leave(self) -> None:
        self.keyring.rename(self.keyring.with_name("away"))

    def come_back(self) -> None:
        self.keyring.with_name("away").rename(self.keyring)

    def forget(self) -> None:
        """Let what is in memory run out (vault.md section 6: five minutes at most)."""
        self.house.at.clock.forward(seconds=40)

    def ready(self) -> Any:
        return self.house.at.web.get("/health/ready", base_url=ISSUER)


@pytest.fixture
def scene(house: BadHouse) -> Scene:
    house.at.house.restoring.before_serving()
    return Scene(house)


def report(scene: Scene) -> Any:
    read = {
        "id": "r-1",
        "handle": scene.read,
        "categories": [BALANCES],
        "records": 1,
        "purpose": PURPOSE,
        "consent": scene.house.ana.consent,
        "attended": False,
        "at": scene.house.at.clock.now().isoformat(),
    }
    who = scene.house.at.reader
    return scene.house.call("POST", "/api/v1/disclosures", who, Scope.DISCLOSURES_WRITE, json={"disclosures": [read]})


def away(answer: Any) -> None:
    """503 with when to come back, and nothing of why inside."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert (answer.mimetype, answer.json["code"]) == ("application/problem+json", AWAY)
    assert "keyring" not in answer.text
    assert "reference" not in answer.json, "nothing is broken here"


def test_what_is_in_memory_serves_for_five_minutes_and_not_longer(scene: Scene) -> None:
    scene.leave()
    assert scene.ask("lease", scene.token).status_code == 200
    assert unb64(scene.ask("open", scene.token, record_id="r1", sealed=scene.record).json["plaintext"]) == b"hello"
    assert scene.ready().status_code == 200, "it does serve"
    scene.forget()
    before = scene.house.state()
    away(scene.ask("lease", scene.token))
    away(scene.ask("open", scene.token, record_id="r1", sealed=scene.record))
    away(scene.ask("seal", scene.token, record_id="r2", plaintext="aGVsbG8"))
    assert scene.house.state() == before, "no lease, no look and no ledger entry of one that was not given"
    scene.come_back()
    assert unb64(scene.ask("open", scene.token, record_id="r1", sealed=scene.record).json["plaintext"]) == b"hello"


def test_whatever_has_to_go_into_the_ledger_waits(scene: Scene) -> None:
    """ledger.md: no entry, no action. Tokens, reports and withdrawals are asked for again; reading is impossible."""
    scene.leave()
    scene.forget()
    house, path = scene.house, f"/api/v1/consents/{scene.house.ana.consent}/withdraw"
    before = house.state()
    away(report(scene))
    for headers in ({}, {"Idempotency-Key": "a-key"}):
        away(house.call("POST", path, house.at.reader, Scope.CONSENTS_WITHDRAW, json={}, headers=headers))
    receipt = f"/api/v1/consents/{house.ana.consent}/receipt"
    away(house.call("GET", receipt, house.at.reader, Scope.CONSENTS_READ))
    assert house.state() == before
    scene.come_back()
    assert report(scene).status_code == 200
    again = house.call(
        "POST", path, house.at.reader, Scope.CONSENTS_WITHDRAW, json={}, headers={"Idempotency-Key": "a-key"}
    )
    assert (again.status_code, again.json["state"]) == (200, "withdrawn")


def test_no_token_is_issued(scene: Scene) -> None:
    scene.leave()
    scene.forget()
    before = scene.house.state()
    who = scene.house.at.reader
    form = {"grant_type": "client_credentials", "scope": Scope.CONSENTS_READ.value}
    said = {**form, "client_assertion_type": _TYPE, "client_assertion": who.assertion()}
    away(scene.house.at.web.post("/oauth/token", data=said, headers={"DPoP": who.proof("/oauth/token")}))
    assert scene.house.state() == before


_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("fr", "Indisponible pour le moment"),
        ("en", "Not available for the moment"),
        ("es", "No disponible por el momento"),
        ("pt", "Indisponível de momento"),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_pages_that_open_a_profile_say_so_in_the_person_s_language(scene: Scene, locale: str, words: str) -> None:
    scene.leave()
    scene.forget()
    house = scene.house
    before = house.state()
    receipt = f"/{locale}/me/consents/{house.ana.consent}/receipts/{house.receipts['ana']}"
    withdraw = f"/{locale}/me/consents/{house.ana.consent}/withdraw"
    answers = [house.visit("GET", path, "ana") for path in (f"/{locale}/me", receipt)]
    answers.append(house.visit("POST", withdraw, "ana", data=house.form("ana")))
    for answer in answers:
        page = answer.get_data(as_text=True)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert f'<html lang="{locale}">' in page
        assert words in page
        assert "Ana" not in page
    assert house.state() == before
    scene.come_back()
    assert house.visit("GET", f"/{locale}/me", "ana").status_code == 200
    assert house.visit("POST", withdraw, "ana", data=house.form("ana")).status_code == 303


def test_signing_in_by_mail_tells_nobody_who_is_known(scene: Scene) -> None:
    """Consent rule 31: the same answer for every address, at the same cost; an outage delays the mail, no more."""
    house, at = scene.house, scene.house.at.house
    scene.forget()
    house.at.clock.forward(minutes=6)  # no person's key is in memory any more
    house.visit("POST", "/en/sign-in", "sam", data=house.form("sam", email="first@example.org"))  # the index key is
    scene.leave()
    asked = ("nobody@example.org", "ana@example.org", "else@example.org")
    answers = [house.visit("POST", "/en/sign-in", "sam", data=house.form("sam", email=email)) for email in asked]
    assert [(one.status_code, one.location) for one in answers] == [(303, "/en/sign-in/sent")] * 3
    assert len({one.data for one in answers}) == 1
    work = _sign_in_work(at)
    assert len(work) == 4, "for every address alike"
    writing = at.work._handlers[WRITE]
    for ref in work:
        writing(ref, Straight())
    assert _sign_in_mail(at) == 0, "nothing opens"
    again = sorted(set(_sign_in_work(at)) - set(work))
    assert [ref.rpartition("/")[2] for ref in again] == ["2"], "the known one is tried again"
    scene.come_back()
    writing(again[0], Straight())
    assert _sign_in_mail(at) == 1


def _sign_in_work(at: House) -> list[str]:
    with at.records.connect() as connection:
        schema = "dbos." if connection.dialect.name == "postgresql" else ""
        found = connection.exec_driver_sql(f"SELECT workflow_uuid FROM {schema}workflow_status").scalars().all()
    return sorted(one.removeprefix(f"{WRITE}:") for one in found if one.startswith(f"{WRITE}:"))


def _sign_in_mail(at: House) -> int:
    with at.records.connect() as connection:
        return list(connection.exec_driver_sql("SELECT kind FROM queued_mail").scalars()).count("sign-in")


def test_what_needs_no_key_goes_on(scene: Scene) -> None:
    """The list of processors, the ledger's face, a consent's state: what is not sealed stays to be looked at."""
    scene.leave()
    scene.forget()
    house = scene.house
    for path in ("/api/v1/processors", "/ledger/checkpoint", "/en/processors", "/en/privacy", "/health/live"):
        assert house.visit("GET", path, None).status_code == 200, path
    state = house.call("GET", f"/api/v1/consents/{house.ana.consent}", house.at.reader, Scope.CONSENTS_READ)
    assert (state.status_code, state.json["state"]) == (200, "active")


def test_readiness_says_which_part_is_away(scene: Scene) -> None:
    assert scene.ready().json["checks"]["key_provider"] is True
    scene.leave()
    scene.forget()
    found = scene.ready()
    assert (found.status_code, found.json["ready"]) == (503, False)
    assert {name for name, sound in found.json["checks"].items() if not sound} == {"key_provider"}
    scene.come_back()
    assert scene.ready().status_code == 200


def test_an_erasure_is_taken_down_at_once_and_carried_out_later(scene: Scene) -> None:
    """Vault.md section 6: erasures queue, and nothing of the person opens from the moment it was asked for."""
    house, vault = scene.house, scene.house.at.house.vault
    scene.leave()
    scene.forget()
    vault.shred("era_1", [Target(house.at.house.controller, house.ana.subject)])
    assert vault.erasures.pending() == ("era_1",)
    assert vault.erasures.certificates("era_1") == ()
    scene.come_back()
    answer = scene.ask("open", scene.token, record_id="r1", sealed=scene.record)
    assert (answer.status_code, answer.json["code"]) == (410, "erased")
    house.at.clock.forward(minutes=2)  # the last lease has ended
    vault.erasures.drive("era_1")
    (certificate,) = vault.erasures.certificates("era_1")
    assert certificate["statement"] == "keys destroyed"
    with house.at.house.units.reading() as unit:
        assert unit.subjects.named(scene.handle, HOLDER) == house.ana.subject  # type: ignore[arg-type]
