"""Receipts in the space, renewing before the end, and addresses written outside of a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
from flask import Flask

from app.http.pages.agreements import stop_path
from app.http.places import Places, link_for
from app.receipts import TYPE
from app.vault.keys import Target
from consent import usecases
from consent.decision import local_day
from consent.record import Consent, State
from consent.vocabulary import Locale, SubjectRef
from tests.doors.pages_house import ORIGIN, Town, Visitor
from tests.doors.test_pages_consent import FIRM, _agree, _one, _words, ana, app, partner, subject

__all__ = ["ana", "app", "partner", "subject"]


class Straight:
    def run(self, name: str, effect: Callable[[], Any]) -> Any:
        return effect()


def issue(town: Town, record: Consent, version: int = 0) -> str:
    """Have the receipt made as the worker does; returns its id."""
    town.house.work.migrate()
    ref = f"{record.id}/{version or record.version}"
    town.house.consentwork.handlers()[usecases.RECEIPT](ref, Straight())
    with town.unit() as unit:
        return unit.receipts.of_consent(FIRM, record.id)[0].id


@pytest.fixture
def agreed(town: Town, ana: Visitor, subject: SubjectRef) -> Consent:
    _agree(ana, optional="transactions.recent")
    return _one(town, subject)


def test_the_agreement_lists_its_receipts(town: Town, app: Flask, ana: Visitor, agreed: Consent) -> None:
    """Consent rule 41."""
    where = f"/me/consents/{agreed.id}"
    assert 'data-testid="receipts"' not in ana.get(where).get_data(as_text=True)
    receipt = issue(town, agreed)
    page = ana.get(where).get_data(as_text=True)
    assert f'href="/en{where}/receipts/{receipt}"' in page
    assert receipt in _words(page)


def test_a_receipt_is_read_in_words_with_level_one(town: Town, app: Flask, ana: Visitor, agreed: Consent) -> None:
    """Consent rules 10, 57; what the e-mail link opened is enough."""
    receipt = issue(town, agreed)
    weak = Visitor(app)
    weak.sign_in(town)
    page = _words(weak.get(f"/me/consents/{agreed.id}/receipts/{receipt}").get_data(as_text=True))
    for words in (
        "This is how your agreement stood on",
        "Status active",
        "Who asked Patrivue",
        "Transactions of the last 90 days",
        "Collecte",
        receipt,
    ):
        assert words in page, words
    french = Visitor(app, "fr")
    french.client = weak.client
    said = _words(french.get(f"/me/consents/{agreed.id}/receipts/{receipt}").get_data(as_text=True))
    purpose = town.house.policy.purposes[agreed.terms.purpose]
    assert purpose.why[Locale.FR] in said, "one language a page (consent rule 24), though the receipt is in English"
    assert purpose.why[Locale.EN] not in said


def test_the_signed_file_verifies_and_the_plain_one_says_the_same(town: Town, ana: Visitor, agreed: Consent) -> None:
    receipt = issue(town, agreed)
    where = f"/me/consents/{agreed.id}/receipts/{receipt}"
    signed, plain = ana.get(f"{where}.jws"), ana.get(f"{where}.json")
    assert signed.headers["Content-Type"] == "application/jose"
    assert signed.headers["Content-Disposition"] == f'attachment; filename="{receipt}.jws"'
    assert {signed.headers["Cache-Control"], plain.headers["Cache-Control"]} == {"no-store"}
    text = signed.get_data(as_text=True)
    with town.house.units.writing() as unit:
        keys = {key["kid"]: key for key in town.house.consentwork.signing(unit.signing_key_rows).jwks()["keys"]}
    header = jwt.get_unverified_header(text)
    body = jwt.PyJWS().decode(text, jwt.PyJWK(keys[header["kid"]]).key, algorithms=["ES256"])
    assert header["typ"] == TYPE
    assert json.loads(body) == plain.get_json()
    assert plain.headers["Content-Disposition"] == f'attachment; filename="{receipt}.json"'


@pytest.mark.parametrize("end", ["", ".jws", ".json"])
def test_nobody_elses_receipt_opens(town: Town, app: Flask, ana: Visitor, agreed: Consent, end: str) -> None:
    receipt = issue(town, agreed)
    where = f"/me/consents/{agreed.id}/receipts"
    town.enrol("bea@example.org", "Bea")
    bea, stranger = Visitor(app), Visitor(app)
    bea.sign_in(town, "bea@example.org")
    assert bea.get(f"{where}/{receipt}{end}").status_code == 404
    assert stranger.get(f"{where}/{receipt}{end}").status_code == 303
    for odd in ("rcp_nothing", "x" * 300, "..%2f..", "%00"):
        assert ana.get(f"{where}/{odd}{end}").status_code == 404
    assert ana.get(f"/me/consents/con_nothing/receipts/{receipt}{end}").status_code == 404
    assert ana.client.post(f"/en{where}/{receipt}{end}").status_code == 405


@pytest.mark.parametrize("end", ["", ".jws", ".json"])
def test_after_the_erasure_it_is_gone(town: Town, ana: Visitor, agreed: Consent, subject: SubjectRef, end: str) -> None:
    receipt = issue(town, agreed)
    vault = town.house.vault
    vault.shred("era_1", [Target(FIRM, subject)])
    vault.erasures.acknowledge("era_1")
    vault.erasures.drive("era_1")
    answer = ana.get(f"/me/consents/{agreed.id}/receipts/{receipt}{end}")
    assert answer.status_code == 410
    assert "patrivue" not in answer.get_data(as_text=True).lower()
    assert "This data was erased" in answer.get_data(as_text=True)


def test_what_was_destroyed_is_said_with_its_time(town: Town, ana: Visitor, agreed: Consent) -> None:
    """Consent rules 45, 46."""
    ana.post(f"/me/consents/{agreed.id}/withdraw", delete="yes")
    page = _words(ana.get(f"/me/consents/{agreed.id}").get_data(as_text=True))
    assert "Whoever asks us from now on is refused. What is no longer needed is being deleted" in page
    ended = usecases_version(town, agreed)
    town.house.work.migrate()
    town.house.consentwork.handlers()[usecases.ENDED](f"{agreed.id}/{ended}", Straight())
    page = _words(ana.get(f"/me/consents/{agreed.id}").get_data(as_text=True))
    assert "As you chose, the keys to what is no longer needed were destroyed on" in page


def usecases_version(town: Town, agreed: Consent) -> int:
    with town.unit() as unit:
        found = unit.consents.find(FIRM, agreed.id)
    assert found is not None
    return found.version


# Renewing


def test_renewing_is_offered_near_the_end_only(town: Town, ana: Visitor, agreed: Consent) -> None:
    """Consent rule 48."""
    assert agreed.valid_until is not None
    assert 'data-testid="renew"' not in ana.get(f"/me/consents/{agreed.id}").get_data(as_text=True)
    assert renew(ana, agreed).status_code == 404
    assert _one(town, agreed.terms.subject).id == agreed.id, "nothing was asked"


def renew(ana: Visitor, agreed: Consent, page: str | None = None) -> Any:
    return ana.post(f"/me/consents/{agreed.id}/renew", page=page or f"/me/consents/{agreed.id}/withdraw")


@pytest.fixture
def late(town: Town, app: Flask, agreed: Consent) -> Visitor:
    """Two weeks before the end; signed in anew, because sessions do not last that long."""
    assert agreed.valid_until is not None
    town.clock.at = agreed.valid_until - timedelta(days=13)
    again = Visitor(app)
    again.sign_in(town)
    return again


def test_renewing_asks_the_same_again_and_changes_nothing_by_itself(
    town: Town, late: Visitor, agreed: Consent, subject: SubjectRef
) -> None:
    """Consent rules 48, 49: the old one holds until the new one is given; asking twice is one question."""
    assert 'data-testid="renew"' in late.get(f"/me/consents/{agreed.id}").get_data(as_text=True)
    answer = late.post(f"/me/consents/{agreed.id}/renew", page=f"/me/consents/{agreed.id}")
    assert answer.status_code == 303
    assert "/en/consent/jny_" in answer.location
    asked = _one(town, subject)
    assert (asked.state, asked.terms.supersedes) == (State.REQUESTED, agreed.id)
    assert asked.terms.needed == agreed.terms.needed
    assert asked.terms.optional == agreed.terms.optional
    assert late.get(answer.location).status_code == 200
    again = late.post(f"/me/consents/{agreed.id}/renew", page=f"/me/consents/{agreed.id}")
    assert again.status_code == 303
    with town.unit() as unit:
        every = unit.consents.of_subject(FIRM, subject)
    assert [each.state_at(town.clock.now()) for each in every] == [State.REQUESTED, State.ACTIVE]


@pytest.fixture
def at(town: Town, request: pytest.FixtureRequest) -> datetime:
    """The moment everything begins; asked for before `ana`, whose strong sign-in is of then."""
    town.clock.at = datetime.fromisoformat(request.param)
    return town.clock.at


@pytest.mark.parametrize(
    ("at", "again"),
    [("2026-11-21T22:30Z", "2027-05-08T22:30Z"), ("2026-11-21T23:30Z", "2027-05-08T21:30Z")],
    ids=["past midnight in Paris when renewed", "past midnight in Paris when asked"],
    indirect=["at"],
)
def test_renewing_counts_the_history_in_days_of_the_controller(
    town: Town, at: datetime, app: Flask, agreed: Consent, again: str
) -> None:
    """Consent rule 49: as much history as before, no day more (refused as too long) and no day less."""
    town.clock.at = datetime.fromisoformat(again)
    late = Visitor(app)
    late.sign_in(town)
    assert renew(late, agreed, page=f"/me/consents/{agreed.id}").status_code == 303
    new = _one(town, agreed.terms.subject)
    assert new.terms.supersedes == agreed.id
    days = {local_day(town.house.policy, FIRM, each.requested_at) - each.terms.history_from for each in (agreed, new)}
    assert len(days) == 1


def test_nobody_else_renews_it(town: Town, app: Flask, agreed: Consent, late: Visitor) -> None:
    town.enrol("bea@example.org", "Bea")
    bea = Visitor(app)
    bea.sign_in(town, "bea@example.org")
    assert bea.post(f"/me/consents/{agreed.id}/renew", page="/me").status_code == 404
    assert late.client.post(f"/en/me/consents/{agreed.id}/renew").status_code == 403, "without the form's token"


# Addresses


def test_addresses_in_mails_are_those_of_the_pages(town: Town, app: Flask, agreed: Consent) -> None:
    places = Places(ORIGIN, town.doors.key)
    with app.test_request_context("/pt/"):
        from flask import url_for

        def page(endpoint: str, **values: str) -> str:
            return ORIGIN + url_for(endpoint, **values)

        assert places.agreement(agreed.id, Locale.PT) == page("agreements.shown", consent=agreed.id)
        assert places.withdraw(agreed.id, Locale.PT) == page("agreements.stop_page", consent=agreed.id)
        link = link_for(town.doors.key, "sgn_1")
        assert places.sign_in("sgn_1", Locale.PT) == page("signin.confirm", token=link)
        assert places.privacy(Locale.PT) == page("privacy.shown")
        mine = page("receipts.shown", consent=agreed.id, receipt="rcp_1")
        assert places.receipt(agreed.id, "rcp_1", Locale.PT) == mine
        assert places.stop(FIRM, agreed.id, Locale.PT) == ORIGIN + stop_path(FIRM, agreed.id)
    assert town.doors.key.reveal() not in repr(places)
