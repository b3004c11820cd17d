"""Signing in by e-mail and by passkey (consent rules 29-33; dsar rules 27, 30), tried as a mailbox thief would."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy import text

from app import letters
from app.http.doors import Limits
from app.http.onward import own_path
from app.http.passkeys import CODE_LETTERS
from app.http.places import CODE_DIGITS
from app.profiles import Profile
from consent.vocabulary import Locale
from tests.doors.pages_house import (
    MAILBOX,
    ORIGIN,
    Town,
    Visitor,
    code_in,
    enrol_passkey,
    link_in,
    options_in,
    token_in,
    use_passkey,
)
from tests.journeys.software_passkey import SoftwarePasskey


def test_looking_at_the_link_changes_nothing_pressing_once_opens(town: Town, visitor: Visitor) -> None:
    """Consent rule 29: two GETs, then the POST works once."""
    town.enrol()
    visitor.post("/sign-in", email=MAILBOX)
    link = link_in(town.letters[-1])
    for _ in range(2):
        assert visitor.get(link).status_code == 200
        assert visitor.get("/me").status_code == 303
    page = visitor.get(link).get_data(as_text=True)
    pressed = visitor.client.post(link, data={"form_token": token_in(page)})
    assert pressed.location == "/en/me"
    assert visitor.get("/me").status_code == 200
    again = Visitor(visitor.client.application)
    again.get("/sign-in")
    token = token_in(again.get("/sign-in").get_data(as_text=True))
    assert again.client.post(link, data={"form_token": token}).status_code == 410
    assert again.get(link).status_code == 410


def test_the_link_is_strong_and_rests_only_as_a_digest(town: Town, visitor: Visitor) -> None:
    """Consent rule 30: at least 128 bits, stored hashed; neither link nor code is anywhere in the file."""
    town.enrol()
    visitor.post("/sign-in", email=MAILBOX)
    letter = town.letters[-1]
    secret = link_in(letter).rsplit("/", 1)[1]
    assert len(secret) == 43, "256 bits in base64url"
    with town.unit() as unit:
        rows = unit.session.execute(text("SELECT * FROM sign_ins")).all()
    code = code_in(letter).replace(" ", "")
    assert len(rows) == 1
    assert secret not in str(rows)
    assert code not in str(rows)
    assert MAILBOX not in str(rows)


def test_the_mail_names_nobody_and_says_until_when(town: Town, visitor: Visitor) -> None:
    town.enrol()
    visitor.post("/sign-in", email=f"  {MAILBOX.upper()} ")
    (letter,) = town.letters
    assert letter.to == MAILBOX, "to the address on file, not the one typed (dsar rule 27)"
    assert "Ana" not in letter.text + letter.html + letter.subject
    assert MAILBOX not in letter.text + letter.html
    assert re.search(r"until \w+ \d+, \d{4} at \d+:\d\d\s[AP]M", letter.text)
    assert "<img" not in letter.html
    assert "http-equiv" not in letter.html
    assert link_in(letter) in letter.html


@pytest.mark.parametrize(
    ("locale", "subject"),
    [
        ("fr", "Votre lien de connexion à Ormelune"),
        ("en", "Your sign-in link for Ormelune"),
        ("es", "Su enlace de acceso a Ormelune"),
        ("pt", "A sua ligação de acesso a Ormelune"),
    ],
)
def test_the_mail_speaks_the_language_of_the_page(town: Town, locale: str, subject: str) -> None:
    town.enrol()
    Visitor(town.app(), locale).post("/sign-in", email=MAILBOX)
    assert town.letters[-1].subject == subject
    assert f"/{locale}/sign-in/link/" in town.letters[-1].text


def test_a_link_ends_after_fifteen_minutes(town: Town, visitor: Visitor) -> None:
    """Consent rule 30."""
    town.enrol()
    visitor.post("/sign-in", email=MAILBOX)
    town.clock.forward(minutes=15)
    assert visitor.get(link_in(town.letters[-1])).status_code == 410


def test_a_new_link_cancels_the_old(town: Town, visitor: Visitor) -> None:
    """Consent rule 30."""
    town.enrol()
    visitor.post("/sign-in", email=MAILBOX)
    visitor.post("/sign-in", email=MAILBOX)
    old, new = (link_in(letter) for letter in town.letters)
    assert visitor.get(old).status_code == 410
    assert visitor.post(new).status_code == 303


def test_the_code_opens_in_the_browser_that_asked_and_only_there(town: Town, visitor: Visitor) -> None:
    """Consent rule 30: a code that can be pasted, with or without its blank."""
    town.enrol()
    visitor.post("/sign-in", email=MAILBOX)
    code = code_in(town.letters[-1])
    thief = Visitor(visitor.client.application)
    assert thief.post("/sign-in/code", page="/sign-in/sent", code=code).status_code == 422
    assert visitor.post("/sign-in/code", page="/sign-in/sent", code=code).location == "/en/me"
    assert visitor.get("/me").status_code == 200


def test_a_code_dies_after_five_guesses(town: Town, visitor: Visitor) -> None:
    """dsar rule 30, brute force: the sixth try fails even with the right code."""
    town.enrol()
    visitor.post("/sign-in", email=MAILBOX)
    right = code_in(town.letters[-1]).replace(" ", "")
    for guess in range(5):
        wrong = f"{(int(right) + 1 + guess) % 10**8:08}"
        assert visitor.post("/sign-in/code", page="/sign-in/sent", code=wrong).status_code == 422
    assert visitor.post("/sign-in/code", page="/sign-in/sent", code=right).status_code == 422
    assert visitor.get("/me").status_code == 303


def test_known_and_unknown_addresses_look_the_same(town: Town, visitor: Visitor) -> None:
    """Consent rule 31: byte-equal bodies, equal status and headers but for the random ticket."""
    town.enrol()
    token = token_in(visitor.get("/sign-in").get_data(as_text=True))
    answers = []
    for email in (MAILBOX, "nobody@example.org"):
        first = visitor.client.post("/en/sign-in", data={"form_token": token, "email": email})
        then = visitor.get("/sign-in/sent")
        headers = {name: value for name, value in first.headers.items() if name != "Set-Cookie"}
        names = [cookie.split("=")[0] for cookie in first.headers.getlist("Set-Cookie")]
        lengths = [len(cookie) for cookie in first.headers.getlist("Set-Cookie")]
        answers.append((first.status_code, first.data, headers, names, lengths, then.data))
    assert answers[0] == answers[1]
    assert len(town.letters) == 1


def test_a_strangers_code_is_wrong_in_the_same_words(town: Town, visitor: Visitor) -> None:
    town.enrol()
    pages = []
    for email in (MAILBOX, "nobody@example.org"):
        visitor.post("/sign-in", email=email)
        answer = visitor.post("/sign-in/code", page="/sign-in/sent", code="00000000")
        pages.append((answer.status_code, answer.data))
    assert pages[0] == pages[1]


def test_tries_are_counted_per_address_and_per_ip_known_or_not(tmp_path: Path) -> None:
    """Consent rule 31: 429 with Retry-After; the counter outlives the process, and the window ends it."""
    town = Town(tmp_path / "house", limits=Limits(per_address=2, per_ip=5))
    town.enrol()
    for email in (MAILBOX, "nobody@example.org"):
        visitor = Visitor(town.app())
        assert [visitor.post("/sign-in", email=email).status_code for _ in range(3)] == [303, 303, 429]
    over = visitor.post("/sign-in", email="third@example.org")
    assert over.status_code == 429, "the IP's own limit"
    assert over.headers["Retry-After"] == "900"
    assert len(town.letters) == 2
    town.clock.forward(minutes=16)
    assert visitor.post("/sign-in", email=MAILBOX).status_code == 303
    with town.unit() as unit:
        kept = str(unit.session.execute(text("SELECT * FROM door_counters")).all())
    assert "example" not in kept
    assert "127.0.0.1" not in kept
    town.house.close()


@pytest.mark.parametrize("email", ["", "no at sign", "x" * 250 + "@example.org"])
def test_what_is_no_address_is_said_on_the_page(town: Town, visitor: Visitor, email: str) -> None:
    answer = visitor.post("/sign-in", email=email)
    assert answer.status_code == 422
    assert "Check the address" in answer.get_data(as_text=True)


def _in(page: Any, locale: str = "fr") -> str:
    """Where the page's own language link leads."""
    found = re.search(rf'<a href="([^"]+)" hreflang="{locale}"', page.get_data(as_text=True))
    assert found is not None
    return html.unescape(found.group(1))


def test_another_language_asks_for_the_same_question_at_the_same_firm(town: Town, visitor: Visitor) -> None:
    """Consent rule 24: after a wrong address, after a wrong code, and when a new link is asked for."""
    town.enrol()
    onward, firm = "/en/consent/jny_one?a=1&b=2", _another_firm(town)
    asked = {"next": onward, "at": firm}
    wrong = visitor.post("/sign-in", email="x", **asked)
    assert _asks(_in(wrong)) == ("/fr/sign-in", asked)
    form = re.findall(r'name="(next|at)" value="([^"]+)"', visitor.get(_in(wrong)).get_data(as_text=True))
    assert {name: html.unescape(value) for name, value in form} == asked
    sent = visitor.post("/sign-in", email=MAILBOX, **asked)
    assert _asks(sent.location) == ("/en/sign-in/sent", asked)
    page = visitor.get(sent.location)
    token = token_in(page.get_data(as_text=True))
    assert _asks(_in(page)) == ("/fr/sign-in/sent", asked)
    again = visitor.client.post("/en/sign-in/code", data={"form_token": token, "code": "1", **asked})
    assert (again.status_code, _asks(_in(again))) == (422, ("/fr/sign-in/sent", asked))
    for shown in (page, again):
        link = re.search(r'href="(/en/sign-in\?[^"]+)">Ask for a new link', shown.get_data(as_text=True))
        assert link is not None
        assert _asks(html.unescape(link.group(1))) == ("/en/sign-in", asked)
        assert dict(re.findall(r'name="(at)" value="([^"]+)"', shown.get_data(as_text=True))) == {"at": firm}
    elsewhere = visitor.post("/sign-in", email="x", next="https://evil.example/", at="nobody")
    assert _in(elsewhere) == "/fr/sign-in", "nothing of ours, nothing in the address"


def _another_firm(town: Town) -> str:
    return next(firm for firm in town.house.policy.controllers if firm != town.house.controller)


def _asks(address: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(address)
    return parts.path, dict(parse_qsl(parts.query))


def test_from_no_page_another_language_leads_where_nothing_is_shown(town: Town, visitor: Visitor) -> None:
    """Consent rule 24: what can only be sent has no page of its own, in any language: the page above it is shown."""
    town.enrol()
    visitor.sign_in(town)
    rules = [rule for rule in visitor.client.application.url_map.iter_rules() if "locale" in rule.arguments]
    shown = {rule.rule for rule in rules if "GET" in (rule.methods or ())}
    sent = [rule for rule in rules if rule.rule not in shown]
    assert len(sent) > 5
    for rule in sent:
        names = dict.fromkeys(rule.arguments - {"locale"}, "con_x")
        path = visitor.client.application.url_map.bind("").build(rule.endpoint, {**names, "locale": "en"})
        for answer in (visitor.client.post(path), visitor.client.get(path)):
            assert answer.status_code in {403, 405}, rule
            assert visitor.client.get(_in(answer)).status_code in {200, 303, 404}, rule


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/en/me", "/en/me"),
        ("/fr/consent/jny_x?a=1", "/fr/consent/jny_x?a=1"),
        ("/dpo/cases", "/dpo/cases"),
        ("https://evil.example/en/", None),
        ("//evil.example", None),
        ("/en//evil.example", None),
        ("/en/../../x", None),
        ("/en/me\r\nSet-Cookie: a=b", None),
        ("/api/v1/consents", None),
        ("/en\\evil", None),
        ("/en/" + "a" * 600, None),
        (None, None),
    ],
)
def test_nobody_is_sent_elsewhere(path: str | None, kept: str | None) -> None:
    """CWE-601."""
    assert own_path(path) == kept


def test_signing_in_changes_the_cookie_and_out_ends_it(town: Town, visitor: Visitor) -> None:
    town.enrol()
    planted = "x" * 43
    visitor.client.set_cookie("regard_session", planted)
    visitor.sign_in(town)
    cookie = visitor.client.get_cookie("regard_session")
    assert cookie is not None
    assert cookie.value != planted
    visitor.post("/sign-out", page="/me")
    visitor.client.set_cookie("regard_session", cookie.value)
    assert visitor.get("/me").status_code == 303


def test_a_session_rests_as_a_digest_and_idles_out(town: Town, visitor: Visitor) -> None:
    town.enrol()
    visitor.sign_in(town)
    cookie = visitor.client.get_cookie("regard_session")
    assert cookie is not None
    with town.unit() as unit:
        assert cookie.value not in str(unit.session.execute(text("SELECT * FROM sessions")).all())
    for _ in range(5):
        town.clock.forward(minutes=20)
        assert visitor.get("/me").status_code == 200, "used, it goes on"
    town.clock.forward(minutes=31)
    assert visitor.get("/me").status_code == 303


# passkeys


def test_a_mailbox_thief_gets_no_passkey(town: Town, visitor: Visitor) -> None:
    """consent.md section 6: the first passkey needs the printed code; guessing it is counted."""
    subject = town.enrol()
    other = town.enrol("bea@example.org", "Bea")
    code_of_another = town.printed_code("subject", other)
    visitor.sign_in(town)
    assert visitor.get("/me/security/add").status_code == 303, "without a code: to step up, which needs a passkey"
    assert visitor.post("/me/security/code", page="/me/security", code=code_of_another).status_code == 422
    code = town.printed_code("subject", subject)
    for letter in CODE_LETTERS[:9]:
        wrong = letter * 20 if letter * 20 != code.replace("-", "") else "A" * 20
        assert visitor.post("/me/security/code", page="/me/security", code=wrong).status_code == 422
    assert visitor.post("/me/security/code", page="/me/security", code=code).status_code == 429


def test_a_mistyped_printed_code_is_mended_where_it_was_typed(town: Town) -> None:
    """WCAG 3.3.1, 3.3.3: the same form, the error at its field, what was typed still in it, the right code next."""
    subject, words = town.enrol(), {"en": "on paper", "fr": "sur papier", "es": "en papel", "pt": "em papel"}
    code = town.printed_code("subject", subject)
    for locale, said in words.items():
        visitor = Visitor(town.app(), locale)
        visitor.sign_in(town)
        wrong = visitor.post("/me/security/code", page="/me/security", code="QQQQ-1234")
        shown = _told_at_the_field(wrong, said)
        assert 'value="QQQQ-1234"' in shown
    again = {"form_token": token_in(shown), "code": code}
    assert visitor.client.post("/pt/me/security/code", data=again).location == "/pt/me/security/add"


def test_a_colleague_s_mistyped_code_is_mended_too_and_costs_no_session(town: Town, visitor: Visitor) -> None:
    """WCAG 3.3.1: of a wrong code nothing stays but the counted try (consent rule 31)."""
    town.enrol()
    visitor.sign_in(town)
    code = town.printed_code("staff", town.staff("dpo"))
    shown = _told_at_the_field(visitor.post("/staff/enrol", code="QQQQ-1234"), "on paper")
    assert visitor.get("/me").status_code == 200, "still signed in"
    for _ in range(8):
        _told_at_the_field(visitor.post("/staff/enrol", code="<b>"), 'value="&lt;b&gt;"')
    right = {"form_token": token_in(shown), "code": code}
    assert visitor.client.post("/en/staff/enrol", data=right).location == "/en/staff/enrol/passkey"
    assert visitor.post("/staff/enrol", code=code).status_code == 429


def _told_at_the_field(answer: Any, said: str) -> str:
    page = str(answer.get_data(as_text=True))
    field = re.search(r'<input[^>]* id="code"[^>]*>', page)
    assert answer.status_code == 422
    assert field is not None
    assert 'aria-invalid="true"' in field.group()
    assert 'aria-describedby="code-error code-hint"' in field.group()
    assert 'id="code-error"' in page
    assert said in page
    return page


def test_a_first_passkey_and_the_notice_of_it(town: Town, visitor: Visitor) -> None:
    subject = town.enrol()
    visitor.sign_in(town)
    code = town.printed_code("subject", subject)
    enrol_passkey(visitor, code.lower().replace("-", " "))
    assert town.letters[-1].kind == "passkey-added"
    assert town.letters[-1].to == MAILBOX
    with town.unit() as unit:
        kinds = unit.session.execute(text("SELECT * FROM ledger_entries")).mappings().all()
    assert len(kinds) >= 1, "adding a passkey is in the ledger"
    assert "Passkey 1" in visitor.get("/me/security").get_data(as_text=True)
    again = Visitor(visitor.client.application)
    again.sign_in(town)
    spent = again.post("/me/security/code", page="/me/security", code=code)
    assert spent.status_code == 422, "a printed code serves once"


@pytest.mark.parametrize(("on_file", "page"), [(Locale.FR, "en"), (Locale.EN, "fr"), (Locale.PT, "pt")])
def test_the_notice_of_a_passkey_is_in_the_language_on_file(town: Town, on_file: Locale, page: str) -> None:
    """Consent rule 24: not in that of the page, which a thief may have chosen."""
    subject = town.house.profiles.enrol(town.house.controller, Profile("Ana", MAILBOX), on_file)
    visitor = Visitor(town.app(), page)
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject))
    _announced(town, "passkey-added", on_file)
    assert use_passkey(visitor, passkey).status_code == 303
    shown = visitor.get("/me/security").get_data(as_text=True)
    credential = re.findall(r'name="passkey" value="([^"]+)"', shown)[0]
    assert visitor.post("/me/security/remove", page="/me/security", passkey=credential).status_code == 303
    _announced(town, "passkey-removed", on_file)


def _announced(town: Town, kind: str, locale: Locale) -> None:
    letter, firm = town.letters[-1], town.house.policy.controllers[town.house.controller]
    assert (letter.kind, letter.locale) == (kind, locale.value)
    expected = letters.write(kind, firm, locale, link=f"{ORIGIN}/{locale.value}/me/security", at=town.clock.now())
    assert (letter.subject, letter.text) == (expected.subject, expected.text)


def test_a_second_passkey_needs_the_first(town: Town, visitor: Visitor) -> None:
    """Consent rule 33: adding a passkey needs a passkey."""
    subject = town.enrol()
    visitor.sign_in(town)
    first = enrol_passkey(visitor, town.printed_code("subject", subject))
    assert use_passkey(visitor, first).status_code == 303
    page = visitor.get("/me/security/add").get_data(as_text=True)
    second = SoftwarePasskey(ORIGIN)
    created = json.dumps(second.create(options_in(page)))
    visitor.client.post("/en/me/security/add", data={"form_token": token_in(page), "credential": created})
    assert "Passkey 2" in visitor.get("/me/security").get_data(as_text=True)
    credential = re.findall(r'name="passkey" value="([^"]+)"', visitor.get("/me/security").get_data(as_text=True))[0]
    assert visitor.post("/me/security/remove", page="/me/security", passkey=credential).status_code == 303
    assert town.letters[-1].kind == "passkey-removed"
    assert "Passkey 2" not in visitor.get("/me/security").get_data(as_text=True)


def test_removing_a_passkey_ends_every_other_session(town: Town, visitor: Visitor) -> None:
    """Whoever has the lost device may be signed in with it, and could add a passkey of their own from there."""
    subject = town.enrol()
    visitor.sign_in(town)
    lost = enrol_passkey(visitor, town.printed_code("subject", subject))
    use_passkey(visitor, lost)
    thief = Visitor(town.app())
    thief.sign_in(town)
    use_passkey(thief, lost)
    assert thief.get("/me").status_code == 200
    credential = re.findall(r'name="passkey" value="([^"]+)"', visitor.get("/me/security").get_data(as_text=True))[0]
    assert visitor.post("/me/security/remove", page="/me/security", passkey=credential).status_code == 303
    assert thief.get("/me").status_code == 303
    assert visitor.get("/me").status_code == 200, "who removed it stays"


def test_letters_that_look_alike_are_one_address(tmp_path: Path) -> None:
    """Full-width letters reach the same mailbox: they count as the same tries."""
    town = Town(tmp_path / "house", limits=Limits(per_address=2, per_ip=99))
    visitor = Visitor(town.app())
    spelt = ("ana@example.org", "ａna@example.org", "ANA@example.org")
    assert [visitor.post("/sign-in", email=email).status_code for email in spelt] == [303, 303, 429]


def test_signing_in_with_the_passkey_alone(town: Town, visitor: Visitor) -> None:
    subject = town.enrol()
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject))
    fresh = Visitor(visitor.client.application)
    assert use_passkey(fresh, passkey, "/sign-in/passkey").location == "/en/me"
    assert "Hello, Ana Exemplo" in fresh.get("/me").get_data(as_text=True)
    assert "Ana" not in visitor.get("/me").get_data(as_text=True), "at level 1 the name stays away"


def test_a_passkey_of_somebody_else_does_not_raise_this_session(town: Town) -> None:
    app = town.app()
    ana, bea = Visitor(app), Visitor(app)
    subjects = town.enrol(), town.enrol("bea@example.org", "Bea")
    ana.sign_in(town)
    bea.sign_in(town, "bea@example.org")
    enrol_passkey(ana, town.printed_code("subject", subjects[0]))
    hers = enrol_passkey(bea, town.printed_code("subject", subjects[1]))
    assert use_passkey(ana, hers).status_code == 403
    assert "Confirm with my passkey" in ana.get("/me").get_data(as_text=True)


def test_an_assertion_is_worth_nothing_twice(town: Town, visitor: Visitor) -> None:
    """The challenge is taken out before anything is verified."""
    subject = town.enrol()
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject))
    page = visitor.get("/me/step-up").get_data(as_text=True)
    answer = json.dumps(passkey.get(options_in(page)))
    wrong = {**json.loads(answer), "id": "AAAA", "rawId": "AAAA"}
    form = {"form_token": token_in(page)}
    assert visitor.client.post("/en/sign-in/passkey", data={**form, "credential": json.dumps(wrong)}).status_code == 403
    assert visitor.client.post("/en/sign-in/passkey", data={**form, "credential": answer}).status_code == 403
    assert use_passkey(visitor, passkey).status_code == 303


@pytest.mark.parametrize("answer", ["", "{}", "[]", "null", "{" * 10, '{"id": 5}', "x" * 20_000])
def test_nonsense_is_refused(town: Town, visitor: Visitor, answer: str) -> None:
    page = visitor.get("/sign-in/passkey").get_data(as_text=True)
    sent = visitor.client.post("/en/sign-in/passkey", data={"form_token": token_in(page), "credential": answer})
    assert sent.status_code == 403
    assert "The passkey was not accepted" in sent.get_data(as_text=True)


def test_another_origin_is_refused(town: Town, visitor: Visitor) -> None:
    """Phishing: a ceremony answered for another site."""
    subject = town.enrol()
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject))
    passkey.origin = "https://regard.evil.example"
    assert use_passkey(visitor, passkey).status_code == 403


def test_a_copied_passkey_is_noticed(town: Town, visitor: Visitor) -> None:
    """WebAuthn section 6.1.1: a counter that falls back means two copies of one key."""
    subject = town.enrol()
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject))
    assert use_passkey(visitor, passkey).status_code == 303
    passkey._uses -= 1
    assert use_passkey(visitor, passkey).status_code == 403


def test_after_a_recovery_a_passkey_cools(town: Town, visitor: Visitor) -> None:
    """consent.md section 6: a cooling period, after notice to the known channel."""
    subject = town.enrol()
    visitor.sign_in(town)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject, timedelta(hours=72)))
    assert "passkey-added" in {letter.kind for letter in town.letters}
    early = use_passkey(visitor, passkey)
    assert early.status_code == 403
    assert "too new" in early.get_data(as_text=True)
    town.clock.forward(hours=72)
    visitor.sign_in(town)
    assert use_passkey(visitor, passkey).status_code == 303


def test_the_secret_codes_are_derived_not_stored() -> None:
    assert CODE_DIGITS == 8
    assert len(set(CODE_LETTERS)) == 30
    assert not set("ILOU01") & set(CODE_LETTERS), "no letter is taken for another"
