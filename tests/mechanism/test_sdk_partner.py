"""A partner's side of the authorization code: against the real authorization server, and against forged answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from app.sdk.client import Authority
from app.sdk.dpop import new_key
from app.sdk.errors import KeyFileUnfit, Malformed, NotTheAnswer, Refused, TurnedDown, Unreachable
from app.sdk.keyfile import read_key, write_key
from app.sdk.partner import Partner, Pushed
from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from tests.doors.oauth_house import CALLBACK, HOLDER, ISSUER, SUBJECT, House

BALANCES = "accounts.balances"


@pytest.fixture
def house(tmp_path: Path) -> Any:
    engine = open_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
    RecordsBase.metadata.create_all(engine)
    yield House(engine)
    engine.dispose()


def app_of(house: House, **more: Any) -> Partner:
    http = httpx.Client(transport=httpx.WSGITransport(app=house.web.application))
    who = house.partner
    return Partner(Authority(ISSUER, who.record.id, who.key, http=http, clock=house.clock.now, **more), CALLBACK)


def push(partner: Partner, **more: Any) -> Pushed:
    said = {"purpose": "budget", "categories": [BALANCES, "loans"], "scopes": ["consents.read"], "resource": HOLDER}
    return partner.push(**(said | more))


def journey(house: House, partner: Partner, pushed: Pushed) -> str:
    """What a browser does with the address: it ends on the consent page."""
    parts = urlsplit(partner.authorize_url(pushed))
    assert f"{parts.scheme}://{parts.netloc}" == ISSUER
    opened = house.web.get(f"{parts.path}?{parts.query}")
    assert opened.status_code == 303, opened.text
    return str(opened.location.rsplit("/", 1)[1])


def agreeing(house: House, partner: Partner, pushed: Pushed) -> str:
    said = house.complete(journey(house, partner, pushed))
    return f"{CALLBACK}?{urlencode(said)}"


def test_from_the_question_to_a_renewed_token(house: House) -> None:
    partner = app_of(house)
    pushed = push(partner, locale="pt")
    assert house.clock.now() < pushed.expires_at
    agreed = partner.exchange(pushed, agreeing(house, partner, pushed))
    assert agreed.consent_id == house.consent
    assert agreed.subject == house.facts.handle(SUBJECT, "aggregator")  # its own party's handle, nobody else's
    assert agreed.categories == {BALANCES}  # asked for loans as well; the person agreed to less
    seen = house.introspect(agreed.token.secret)
    assert (seen["active"], seen["sub"]) == (True, house.facts.handle(SUBJECT, "vault-firm"))
    for _ in range(2):
        fresh = partner.renew(agreed.refresh)
        assert fresh.secret != agreed.token.secret
        assert (fresh.subject, fresh.detail) == (agreed.subject, agreed.token.detail)
        assert house.introspect(fresh.secret)["active"] is True
    for text in (repr(agreed), repr(pushed), repr(fresh)):
        for secret in (agreed.refresh, agreed.token.secret, pushed.verifier, pushed.state, fresh.secret):
            assert secret not in text


def test_each_request_is_its_own(house: House) -> None:
    partner = app_of(house)
    one, two = push(partner), push(partner)
    assert {one.state, one.verifier, one.request_uri}.isdisjoint({two.state, two.verifier, two.request_uri})
    back = agreeing(house, partner, one)
    with pytest.raises(NotTheAnswer):
        partner.exchange(two, back)
    with pytest.raises(Refused) as refused:
        partner.exchange(replace(one, verifier=two.verifier), back)
    assert (refused.value.status, refused.value.error) == (400, "invalid_grant")
    assert partner.exchange(one, back).consent_id == house.consent


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"state": "another"}, NotTheAnswer),
        ({"state": None}, NotTheAnswer),
        ({"state": "é"}, NotTheAnswer),
        ({"iss": "https://elsewhere.example"}, NotTheAnswer),
        ({"iss": None}, NotTheAnswer),
        ({"code": None}, Malformed),
        ({"code": ""}, Malformed),
        ({"error": "access_denied"}, TurnedDown),
        ({"code": "rgc_made_up"}, Refused),
    ],
)
def test_a_forged_answer_is_not_believed(house: House, changes: dict[str, str | None], error: type[Exception]) -> None:
    """RFC 9207 section 2.4, RFC 9700 section 4.4: state and issuer before anything else."""
    partner = app_of(house)
    pushed = push(partner)
    said = parse_qs(urlsplit(agreeing(house, partner, pushed)).query)
    whole = {name: values[0] for name, values in said.items()} | changes
    query = urlencode({name: value for name, value in whole.items() if value is not None})
    with pytest.raises(error):
        partner.exchange(pushed, f"{CALLBACK}?{query}")


def test_an_answer_that_says_something_twice_is_nobody_s(house: House) -> None:
    partner = app_of(house)
    pushed = push(partner)
    back = agreeing(house, partner, pushed)
    with pytest.raises(NotTheAnswer):
        partner.exchange(pushed, back + "&state=other")
    with pytest.raises(NotTheAnswer):
        partner.exchange(pushed, back + "&iss=https%3A%2F%2Felsewhere.example")


def test_a_no_says_so(house: House) -> None:
    partner = app_of(house)
    pushed = push(partner)
    with house.unit() as unit:
        back = house.authorizations.refuse(unit, journey(house, partner, pushed))
        unit.commit()
    with pytest.raises(TurnedDown) as no:
        partner.exchange(pushed, back)
    assert no.value.error == "access_denied"


def test_after_a_withdrawal_nothing_is_renewed(house: House) -> None:
    """consent rule 46."""
    partner = app_of(house)
    pushed = push(partner)
    agreed = partner.exchange(pushed, agreeing(house, partner, pushed))
    house.facts.withdraw(house.consent)
    with pytest.raises(Refused) as refused:
        partner.renew(agreed.refresh)
    assert (refused.value.error, refused.value.reason) == ("invalid_grant", "consent_withdrawn")
    assert house.introspect(agreed.token.secret) == {"active": False}


def test_giving_back_the_refresh_token_ends_all(house: House) -> None:
    partner = app_of(house)
    pushed = push(partner)
    agreed = partner.exchange(pushed, agreeing(house, partner, pushed))
    partner.give_back(agreed.token.secret)
    assert house.introspect(agreed.token.secret)["active"] is False
    fresh = partner.renew(agreed.refresh)
    partner.give_back(agreed.refresh)
    assert house.introspect(fresh.secret)["active"] is False
    with pytest.raises(Refused):
        partner.renew(agreed.refresh)
    partner.give_back("rgr_nobody_s")  # RFC 7009 section 2.2: an unknown token is as good as revoked


def test_a_refresh_token_works_with_its_key_alone(house: House) -> None:
    binding = new_key()
    partner = app_of(house, binding=binding)
    pushed = push(partner)
    agreed = partner.exchange(pushed, agreeing(house, partner, pushed))
    with pytest.raises(Refused) as refused:
        app_of(house).renew(agreed.refresh)
    assert refused.value.error == "invalid_dpop_proof"
    assert app_of(house, binding=binding).renew(agreed.refresh).subject == agreed.subject


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"categories": []}, "invalid_authorization_details"),
        ({"resource": "https://nobody.example"}, "invalid_target"),
        ({"scopes": ["ledger.read"]}, "invalid_scope"),
    ],
)
def test_what_the_authority_refuses_is_named(house: House, wish: dict[str, Any], error: str) -> None:
    with pytest.raises(Refused) as refused:
        push(app_of(house), **wish)
    assert refused.value.error == error


def test_a_scope_that_does_not_exist_is_not_even_sent(house: House) -> None:
    with pytest.raises(ValueError, match="everything"):
        push(app_of(house), scopes=["everything"])


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/oauth/par", {"request_uri": "urn:x"}, Malformed),
        ("/oauth/par", {"expires_in": 90}, Malformed),
        ("/oauth/par", [], Malformed),
        ("/oauth/token", {"access_token": "t", "expires_in": 300}, Malformed),
        ("/oauth/token", None, Unreachable),
    ],
)
def test_half_an_answer_is_none(house: House, path: str, body: Any, error: type[Exception]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != path:
            return httpx.Response(201, json={"request_uri": "urn:y", "expires_in": 90})
        return httpx.Response(503) if body is None else httpx.Response(200, content=json.dumps(body))

    http = httpx.Client(transport=httpx.MockTransport(answer))
    partner = Partner(Authority(ISSUER, "p", new_key(), http=http, clock=house.clock.now), CALLBACK)
    with pytest.raises(error):
        _go_the_whole_way(partner)


def _go_the_whole_way(partner: Partner) -> None:
    pushed = push(partner)
    said = urlencode({"code": "c", "state": pushed.state, "iss": ISSUER})
    partner.exchange(pushed, f"{CALLBACK}?{said}")


def test_a_key_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "component.pem"
    made = write_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path).private_numbers() == made.private_numbers()
    with pytest.raises(FileExistsError):
        write_key(path)
    assert read_key(path).private_numbers() == made.private_numbers()
    path.chmod(0o640)
    with pytest.raises(KeyFileUnfit, match="chmod"):
        read_key(path)


def test_a_key_file_is_named_in_words_or_as_a_path(tmp_path: Path) -> None:
    name = str(tmp_path / "component.pem")
    made = write_key(name)
    assert read_key(name).private_numbers() == read_key(Path(name)).private_numbers() == made.private_numbers()


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "component.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileUnfit):
        read_key(path)


def test_a_key_of_another_curve_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "component.pem"
    other = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(KeyFileUnfit, match="P-256"):
        read_key(path)
