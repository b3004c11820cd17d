"""Bad input at every page: the right status, a page in the person's language that says what to do, nothing changed.

Every rule for people is walked: malformed ids, another person's, forms that are forged or hold what nobody types, the
wrong session or none. One house a backend takes all of it, and is the same afterwards (issue 2, "Bad input, loss").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from app.factory import BODY_LIMIT
from app.http import guard
from app.http.guard import Anyone, Guard, StaffOnly, SubjectOnly
from app.http.locale import PREFIX
from app.http.problems import MACHINE_PATHS
from tests.doors.api_house import ISSUER
from tests.doors.bad_input_house import BadHouse, bad_house

HOSTILE = (
    *("%00", "%0a", "%7f", "a%00b", "x" * 300, "x" * 3000, "%F0%28%8C%28", "%ED%A0%80", "%2e%2e", "-1"),
    *("9" * 40, "'", "%27%20or%201=1--", "%C3%A9", "%25s", "*", "%3Cscript%3E", "con_zzzz", "case_zzzz"),
)
STRANGE = ("", "x" * 20_000, "<script>alert(1)</script>", "' or 1=1--", "-1", "\u4e2d\U0001f600", "{}", "[]", "null")
"""What a form may hold: refused, or of no effect."""
NEVER = ("\x00", "a\x00b", "\x1b[31m", "\x7f")
"""What no form may hold."""
EXCUSED = {
    "/static/<path:filename>": "files of the package",
    "/outbox": "the demonstration's mails: reads nothing",
    "/outbox/<mail_id>": "the demonstration's mails",
    f"{PREFIX}/sign-out": "any form of ours ends the session, which is what it is for",
    f"{PREFIX}/staff/enrol": "counts the try, whatever the code",
    f"{PREFIX}/sign-in/passkey": "opens a visitor's session to hold the challenge",
}
"""Walked only as far as their form token goes, or not at all."""


@dataclass(frozen=True)
class Rule:
    method: str
    rule: str
    guard: Guard

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in re.findall(r"<(?:[^<>:]+:)?([^<>]+)>", self.rule) if name != "locale")

    def path(self, locale: str, arguments: Mapping[str, str]) -> str:
        path = self.rule.replace("<any(fr,en,es,pt):locale>", locale)
        for name in self.names:
            path = re.sub(rf"<(?:[^<>:]+:)?{name}>", lambda _, n=name: arguments[n], path)
        return path

    @property
    def visitor(self) -> str | None:
        """Who may come here."""
        return {SubjectOnly: "ana", StaffOnly: "sam"}.get(type(self.guard))


HOUSES = [pytest.param(name, marks=pytest.mark.xdist_group(f"bad-pages {name}")) for name in ("sqlite", "postgresql")]
"""One house for each database, built by one process of a run."""


@pytest.fixture(scope="module", params=HOUSES)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadHouse]:
    with bad_house(tmp_path_factory.mktemp("bad"), request.param) as built:
        yield built


@pytest.fixture(autouse=True)
def unchanged(house: BadHouse) -> Iterator[None]:
    before = house.state()
    yield
    after = house.state()
    assert {name for name in after if after[name] != before[name]} == set()


def rules(house: BadHouse) -> list[Rule]:
    return [
        Rule(method, rule.rule, found)
        for rule, method, found in guard.guards(house.at.app)
        if not rule.rule.startswith(MACHINE_PATHS) and method != "HEAD" and found is not None
    ]


def arguments(house: BadHouse) -> dict[str, str]:
    """Something of Bea's, or of nobody's, for every part of an address; a new one has to be named here."""
    line = next(iter(_lines(house)))
    return {
        "consent": house.bea.consent,
        "case": house.cases["bea"],
        "line": line,
        "receipt": house.receipts["bea"],
        "journey": "jrn_zzzz",
        "kind": "pdf",
        "token": "t" * 43,
        "party": "nobody",
        "controller": house.at.house.controller,
        "seal": "0" * 64,
        "candidate": "cand_zzzz",
        "task": house.task("store", "bea"),
    }


def _lines(house: BadHouse) -> list[str]:
    with house.at.house.casework.unit() as unit:
        return [str(line) for line in unit.desk.cases.get(house.cases["bea"]).lines]


def page(answer: Any, locale: str, *statuses: int, why: object = "") -> str:
    """Assert a page of this language and one of these statuses, that reveals nothing."""
    assert answer.status_code in statuses, (why, answer.status_code, answer.get_data(as_text=True)[:300])
    text = str(answer.get_data(as_text=True))
    assert answer.mimetype == "text/html", why
    assert f'<html lang="{locale}">' in text, why
    assert "<h1" in text, why
    for secret in ("Bea", "bea@example.org", "Traceback", "sqlalchemy", "<script>alert"):
        assert secret not in text, (why, secret)
    return text


def visit(house: BadHouse, rule: Rule, locale: str, given: Mapping[str, str], **more: Any) -> Any:
    """Come as whoever may; a form goes with its token."""
    name = more.pop("name", rule.visitor)
    if rule.method == "POST" and "data" not in more:
        more["data"] = house.form(name or "ana")
    headers = {"Accept-Language": locale, **more.pop("headers", {})}
    return house.visit(rule.method, rule.path(locale, given), name or "ana", headers=headers, **more)


def test_every_part_of_an_address_is_known_here(house: BadHouse) -> None:
    known = arguments(house).keys()
    strange = {(one.rule, name) for one in rules(house) for name in one.names if name not in known}
    assert {rule for rule, _ in strange} <= EXCUSED.keys()
    assert len([one for one in rules(house) if one.names]) > 30


def test_an_id_that_is_none_leads_to_a_page_that_says_so(house: BadHouse) -> None:
    good, languages = arguments(house), ("fr", "en", "es", "pt")
    for place, rule in enumerate(rules(house)):
        if rule.rule in EXCUSED:
            continue
        for name in rule.names:
            for number, bad in enumerate(HOSTILE):
                locale = languages[(place + number) % 4]
                answer = visit(house, rule, locale, {**good, name: bad})
                page(answer, locale, 400, 403, 404, 409, 410, 422, 429, why=(rule.rule, name, bad[:30]))


def test_what_is_another_person_s_looks_like_what_is_nobody_s(house: BadHouse) -> None:
    """Status and words are the same: an id that exists reveals nothing (api.md)."""
    good = arguments(house)
    for rule in rules(house):
        if rule.visitor != "ana" or not {"consent", "case"} & set(rule.names):
            continue
        theirs = visit(house, rule, "pt", good)
        made_up = {**good, "consent": "con_zzzzzzzzzzzz", "case": "case_zzzzzzzzzzzz"}
        nobodys = visit(house, rule, "pt", made_up)
        said = [page(answer, "pt", 403, 404, why=rule.rule) for answer in (theirs, nobodys)]
        texts = [re.sub(r'(?s)<nav.*?</nav>|<footer.*?</footer>|href="[^"]*"', "", text) for text in said]
        assert theirs.status_code == nobodys.status_code, rule.rule
        assert texts[0] == texts[1], rule.rule


def test_a_form_that_is_not_ours_is_refused_everywhere(house: BadHouse) -> None:
    """No token, a made-up one, another person's, sent from elsewhere."""
    good = arguments(house)
    forged = ({}, {"form_token": "0" * 64}, {"form_token": "é"}, {"form_token": "\x00"}, house.form("bea"))
    for rule in rules(house):
        if rule.method != "POST":
            continue
        for data in forged:
            text = page(visit(house, rule, "fr", good, data=data), "fr", 403, why=rule.rule)
            assert "Ce formulaire n’est plus valable" in text or "form_expired" in text, rule.rule
        crossed = visit(house, rule, "fr", good, headers={"Sec-Fetch-Site": "cross-site"})
        page(crossed, "fr", 403, why=rule.rule)


def test_nobody_and_the_wrong_ones_are_kept_out(house: BadHouse) -> None:
    """A subject is no colleague, a colleague no subject, and a session nobody opened is none."""
    good = arguments(house)
    house.sessions["stranger"] = "session-that-nobody-opened"
    for rule in rules(house):
        if isinstance(rule.guard, Anyone):
            continue
        wrong = "sam" if rule.visitor == "ana" else "ana"
        for name in (None, wrong, "stranger"):
            path, headers = rule.path("es", good), {"Accept-Language": "es"}
            data = house.form(name) if name and rule.method == "POST" else None
            answer = house.visit(rule.method, path, name, headers=headers, data=data)
            if rule.method == "GET":
                assert answer.status_code == 303, (rule.rule, name)
                assert "/sign-in" in answer.location, (rule.rule, name)
            else:
                page(answer, "es", 401, why=(rule.rule, name))


FIELDS = (
    *("email", "code", "credential", "passkey", "next", "at", "answer", "version", "digest"),
    *("right", "text", "period"),
)


def test_a_form_that_holds_what_nobody_types_is_refused(house: BadHouse) -> None:
    """NUL and other control characters, in any field of any form, also in one that no page has."""
    good = arguments(house)
    for rule in rules(house):
        if rule.method != "POST":
            continue
        for field in (*FIELDS, "a\x00name"):
            data = {**house.form(rule.visitor or "ana"), field: NEVER[len(field) % len(NEVER)]}
            text = page(visit(house, rule, "en", good, data=data), "en", 422, why=(rule.rule, field))
            assert "Something in the form is missing" in text


def test_a_form_of_strange_values_is_refused_or_does_nothing(house: BadHouse) -> None:
    good = arguments(house)
    for rule in rules(house):
        if rule.method != "POST" or rule.rule in EXCUSED:
            continue
        for value in STRANGE:
            data = {**house.form(rule.visitor or "ana"), **dict.fromkeys(FIELDS, value)}
            answer = visit(house, rule, "pt", good, data=data)
            page(answer, "pt", 400, 401, 403, 404, 409, 410, 422, 429, why=(rule.rule, value[:20]))


def test_too_much_and_another_kind_of_form_are_refused(house: BadHouse) -> None:
    good = arguments(house)
    for rule in rules(house):
        if rule.method != "POST":
            continue
        large = {**house.form(rule.visitor or "ana"), "text": "x" * (BODY_LIMIT + 1)}
        page(visit(house, rule, "fr", good, data=large), "fr", 413, why=rule.rule)
        if rule.rule in EXCUSED:
            continue
        many = {**house.form(rule.visitor or "ana"), **{f"f{number}": "x" for number in range(2_000)}}
        assert visit(house, rule, "fr", {**good, "case": "case_zzzz"}, data=many).status_code < 500
        for kind, raw in (
            ("application/json", b'{"form_token": 1}'),
            ("text/plain", b"form_token=1"),
            ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\x00"),
            ("multipart/form-data", b""),
        ):
            answer = visit(house, rule, "fr", good, data=raw, content_type=kind)
            page(answer, "fr", 400, 403, 413, 415, why=(rule.rule, kind))


def test_queries_that_nobody_made_lead_somewhere_safe(house: BadHouse) -> None:
    """A page, a way to sign in, or a page that says what is wrong; never out of this house."""
    good = arguments(house)
    for rule in rules(house):
        if rule.method != "GET" or rule.names or rule.rule in EXCUSED or rule.rule.endswith(("/step-up", "/add")):
            continue  # the last two put a challenge into the session, as they should
        path, more = rule.path("pt", good), f"status={'x' * 900}&right=x&after=x"
        for onward in ("//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "-1"):
            query = f"next={onward}&{more}"
            answer = house.visit("GET", f"{path}?{query}", rule.visitor)
            assert answer.status_code < 500, (rule.rule, query)
            assert re.match(r"/(?![/\\])|$", answer.headers.get("Location", "")), (rule.rule, query)
        for query in ("next=%00", "status=%1f", "%00=1", "right=%7f", "after=%00"):
            answer = house.visit("GET", f"{path}?{query}", rule.visitor, headers={"Accept-Language": "pt"})
            text = page(answer, "pt", 400, why=(rule.rule, query))
            assert "Não conseguimos ler este endereço" in text


def test_a_page_there_is_none_of_is_said_in_four_languages(house: BadHouse) -> None:
    for locale in ("fr", "en", "es", "pt"):
        for path in (f"/{locale}/nothing", f"/{locale}/me/nothing", f"/{locale}/%00", f"/{locale}/{'x' * 3000}"):
            page(house.visit("GET", path, None), locale, 404, why=path[:40])
        page(house.visit("DELETE", f"/{locale}/me", "ana"), locale, 405)
    assert house.at.web.get("/xx/me", base_url=ISSUER).status_code == 404
