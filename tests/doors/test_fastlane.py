"""The fast lane says what the full door says, word for word, or hands the request on (tokens.md section 7).

Each request is put to both: as the lane serves it, and as the Flask application serves it alone. Assertions are used
once, so each side gets its own, alike but for the `jti`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, func, select, text
from werkzeug.test import Client as Visitor
from werkzeug.test import create_environ, run_wsgi_app

from app.http.fastlane import PATH, FastLane
from app.sdk.dpop import new_key
from app.sdk.scopes import Scope
from app.settings import read_settings
from app.store.fastlane import HotReads, RecordsUnreachable
from app.store.rows.subjects import ContactPointRow
from app.store.rows.tokens import SpentIdRow
from app.store.standings import BESIDE
from app.tokens.rfc7523 import ASSERTION_TYPE
from app.wiring import application, fast_lane, serving
from consent import usecases
from consent.events import Actor, ActorKind, Channel, SuspensionReason
from tests.databases import sqlite_database
from tests.doors.api_house import ISSUER, PURPOSE, READER, START, Agreed, ApiHouse
from tests.doors.oauth_house import Component
from tests.waiting import PATIENCE

FORM = "application/x-www-form-urlencoded"


@dataclass
class Both:
    """A house, its full door, and its lane, with a count of what the lane hands on."""

    at: ApiHouse
    handed_on: int = 0
    lane: FastLane = field(init=False)

    def __post_init__(self) -> None:
        self.rebuild()

    def rebuild(self) -> None:
        """Put both doors before the house as it is now."""
        self.full = application(self.at.house)
        self.lane = fast_lane(self.at.house, self._beyond)

    def _beyond(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.handed_on += 1
        return self.full(environ, start)

    def ask(self, door: Any, data: bytes | str, **envelope: Any) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one request to one door."""
        said: dict[str, Any] = {"method": "POST", "path": PATH, "content_type": FORM, "data": data, **envelope}
        answer = Visitor(door, use_cookies=False).open(**said)
        return answer.status_code, dict(answer.headers), answer.get_data()

    def compare(self, form: Callable[[], bytes | str], **envelope: Any) -> tuple[int, bytes, bool]:
        """Put like requests to both doors; return the status, the body and whether the lane served it alone."""
        before = self.handed_on
        quick = self.ask(self.lane, form(), **envelope)
        alone = self.handed_on == before
        assert quick == self.ask(self.full, form(), **envelope)
        return quick[0], quick[2], alone

    def form(self, who: Component, token: str, *, said: dict[str, str] | None = None, **claims: Any) -> bytes:
        """The form of `who` asking about a token."""
        return urlencode(
            {
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": who.assertion(**claims),
                "token": token,
                **(said or {}),
            }
        ).encode()

    def introspect(self, token: str, who: Component | None = None) -> tuple[int, bytes, bool]:
        return self.compare(lambda: self.form(who or self.at.holder, token))

    def spent(self) -> int:
        with self.at.house.records.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(SpentIdRow)).scalar_one())


@pytest.fixture
def both(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    built = Both(ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch))
    yield built
    built.lane.close()
    built.at.house.close()


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """On SQLite alone, for what never reaches the store or reads it alike."""
    records = sqlite_database(tmp_path / "light-records.sqlite", "records")
    keys = sqlite_database(tmp_path / "light-keys.sqlite", "keys")
    built = Both(ApiHouse(tmp_path, records, keys, monkeypatch))
    yield built
    built.lane.close()
    built.at.house.close()


def active(both: Both) -> tuple[Agreed, str]:
    """A person, and a token under their consent that the holder has asked about once."""
    ana = both.at.agree()
    token = both.at.token(ana)
    assert b'"active": true' in both.ask(both.full, both.form(both.at.holder, token))[2]
    return ana, token


INACTIVE = (200, b'{"active": false}', True)


def test_an_active_token_is_described_alike_and_the_lane_serves_it(both: Both) -> None:
    _, token = active(both)
    status, body, alone = both.introspect(token)
    assert (status, alone) == (200, True)
    assert b'"active": true' in body
    assert b'"obligations"' in body
    assert b'"sub": "pw_' in body


def test_the_first_time_a_party_asks_the_full_door_makes_its_handle(both: Both) -> None:
    token = both.at.token(both.at.agree())
    assert both.introspect(token)[2] is False
    assert both.introspect(token)[2] is True


def revoked(both: Both, ana: Agreed, token: str) -> None:
    answer = both.at.web.post(
        "/oauth/revoke",
        data={
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": both.at.reader.assertion(),
            "token": token,
        },
    )
    assert answer.status_code == 200


def expired(both: Both, ana: Agreed, token: str) -> None:
    both.at.clock.forward(seconds=300)


def withdrawn(both: Both, ana: Agreed, token: str) -> None:
    both.at.withdraw(ana)


def of_an_earlier_version(both: Both, ana: Agreed, token: str) -> None:
    """Suspended and resumed: live again, and no longer what the token was issued under."""
    house = both.at.house
    said: Any = {
        "controller": house.controller,
        "consent": ana.consent,
        "reason": SuspensionReason.PAUSED_BY_SUBJECT,
        "by": Actor(ActorKind.SUBJECT, ana.subject),
        "channel": Channel.PAGE,
        "at": both.at.clock.now(),
    }
    usecases.suspend(house.units.writing(), **said)
    usecases.resume(house.units.writing(), **said)


def party_out_of_force(both: Both, ana: Agreed, token: str) -> None:
    policy = both.at.house.policy
    over = replace(policy.parties[READER], contract_end=START.date() - timedelta(days=1))
    both.at.house = replace(both.at.house, policy=replace(policy, parties={**policy.parties, READER: over}))
    both.rebuild()


def client_suspended(both: Both, ana: Agreed, token: str) -> None:
    with both.at.house.units.writing() as unit:
        assert unit.clients.suspend("reader", both.at.clock.now())
        unit.commit()


def erased(both: Both, ana: Agreed, token: str) -> None:
    both.at.erase(ana)


@pytest.mark.parametrize(
    "over",
    [revoked, expired, withdrawn, of_an_earlier_version, party_out_of_force, client_suspended, erased],
    ids=lambda over: str(over.__name__),
)
def test_what_ends_a_token_ends_it_at_the_very_next_call(both: Both, over: Callable[..., None]) -> None:
    """consent rule 46: nothing remembered outlives what it was read from."""
    ana, token = active(both)
    assert b'"active": true' in both.introspect(token)[1]
    over(both, ana, token)
    assert both.introspect(token) == INACTIVE


def test_only_the_audience_learns_anything(both: Both) -> None:
    _, token = active(both)
    assert both.introspect(token, both.at.rival) == INACTIVE
    assert both.introspect(token, both.at.reader) == INACTIVE  # a component that holds nothing
    assert both.introspect("rgt_" + "x" * 43) == INACTIVE
    assert both.introspect(both.at.own_token(both.at.reader, Scope.KEYS_LEASE)) == INACTIVE


def test_a_suspended_caller_is_refused_by_the_full_door(both: Both) -> None:
    _, token = active(both)
    with both.at.house.units.writing() as unit:
        unit.clients.suspend("store", both.at.clock.now())
        unit.commit()
    status, body, alone = both.introspect(token)
    assert (status, alone) == (401, False)
    assert b"invalid_client" in body


def test_an_assertion_is_used_once_whichever_door_it_came_through(both: Both) -> None:
    _, token = active(both)
    doors = {"lane": both.lane, "full": both.full}
    for first in doors:
        for second in doors:
            form = both.form(both.at.holder, token)
            spent = both.spent()
            assert both.ask(doors[first], form)[0] == 200
            assert both.spent() == spent + 1
            assert both.ask(doors[second], form)[0] == 401, (first, second)
            assert both.spent() == spent + 1


def test_a_replayed_assertion_races_to_one_answer_only(both: Both) -> None:
    """Callers that share a commit are told apart all the same; different ids all succeed."""
    _, token = active(both)
    same = both.form(both.at.holder, token)
    forms = [same] * 6 + [both.form(both.at.holder, token) for _ in range(6)]
    got: list[int] = []
    threads = [threading.Thread(target=lambda form=form: got.append(both.ask(both.lane, form)[0])) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [200] * 7 + [401] * 5


def _none(who: Component) -> str:
    claims = {"iss": who.record.id, "sub": who.record.id, "aud": ISSUER, "jti": "x" * 20}
    return jwt.encode(claims, None, algorithm="none")


def _deep(who: Component) -> str:
    """Signed by its own key, and deeper than anybody reads."""
    return jwt.PyJWS().encode(b"[" * 5000, who.key, algorithm="ES256", headers={"kid": who.kid})


BAD: dict[str, Callable[[Component], str]] = {
    "alg none": _none,
    "alg HS256": lambda who: jwt.encode({"sub": who.record.id}, "x" * 32, algorithm="HS256", headers={"kid": who.kid}),
    "another key": lambda who: who.assertion(key=new_key()),
    "another kid": lambda who: who.assertion(headers={"kid": "other"}),
    "no kid": lambda who: who.assertion(headers={}),
    "audience is the endpoint": lambda who: who.assertion(aud=ISSUER + PATH),
    "audience is a list": lambda who: who.assertion(aud=[ISSUER]),
    "ended": lambda who: who.assertion(exp=int(START.timestamp()) - 1),
    "ends too late": lambda who: who.assertion(exp=int(START.timestamp()) + 3600),
    "from the future": lambda who: who.assertion(iat=int(START.timestamp()) + 61),
    "no jti": lambda who: who.assertion(jti=None),
    "a jti of lone surrogates": lambda who: who.assertion(jti="\ud800" * 16),
    "a jti of NULs": lambda who: who.assertion(jti="\x00" * 16),
    "claims of great depth": _deep,
    "issuer is another": lambda who: who.assertion(iss="reader"),
    "unknown client": lambda who: who.assertion(iss="nobody", sub="nobody"),
    "sub is a number": lambda who: who.assertion(sub=7),
    "four parts": lambda who: who.assertion() + ".e30",
    "not a token": lambda who: "a.b.c",
    "too long": lambda who: who.assertion(more="x" * 9000),
    "empty": lambda who: "",
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_assertion_is_refused_alike_and_spends_nothing(light: Both, fault: str) -> None:
    _, token = active(light)
    spent = light.spent()
    holder = light.at.holder
    status, body, alone = light.compare(
        lambda: light.form(holder, token, said={"client_assertion": BAD[fault](holder)})
    )
    assert (status, alone) == (401, False)
    assert b"invalid_client" in body
    assert light.spent() == spent


def _proof(both: Both) -> dict[str, Any]:
    """The component's own token and its proof, beside the assertion or instead of it."""
    secret = both.at.own_token(both.at.holder, Scope.KEYS_LEASE)
    proof = both.at.holder.proof(PATH, access_token=secret)
    return {"headers": {"Authorization": f"DPoP {secret}", "DPoP": proof}}


ENVELOPES: dict[str, Callable[[Both], dict[str, Any]]] = {
    "a query": lambda both: {"query_string": "token=other"},
    "another method": lambda both: {"method": "PUT"},
    "GET": lambda both: {"method": "GET"},
    "another path": lambda both: {"path": PATH + "/"},
    "a charset": lambda both: {"content_type": FORM + "; charset=utf-8"},
    "JSON": lambda both: {"content_type": "application/json"},
    "no type": lambda both: {"content_type": None},
    "a signed answer": lambda both: {"headers": {"Accept": "application/token-introspection+jwt"}},
    "a cookie": lambda both: {"headers": {"Cookie": "session=x"}},
    "a proof": _proof,
    "a nonce game": lambda both: {"headers": {"DPoP": both.at.holder.proof(PATH, nonce="made-up")}},
    "basic": lambda both: {"headers": {"Authorization": "Basic eDp5"}},
    "an unknown header": lambda both: {"headers": {"X-Surprise": "1"}},
    "a coding": lambda both: {"headers": {"Content-Encoding": "gzip"}},
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_it_has_not_learnt_is_handed_on_untouched(light: Both, name: str) -> None:
    _, token = active(light)
    quick, slow = ENVELOPES[name](light), ENVELOPES[name](light)
    before = light.handed_on
    got = light.ask(light.lane, light.form(light.at.holder, token), **quick)
    assert light.handed_on == before + 1
    assert got == light.ask(light.full, light.form(light.at.holder, token), **slow)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "client_id that fits": lambda good: good + b"&client_id=store",
    "client_id of another": lambda good: good + b"&client_id=reader",
    "a hint": lambda good: good + b"&token_type_hint=access_token",
    "an unknown parameter": lambda good: good + b"&more=1",
    "a repeated parameter": lambda good: good + b"&token=again",
    "no token": lambda good: good.replace(b"&token=", b"&other="),
    "an empty token": lambda good: good.split(b"&token=")[0] + b"&token=",
    "a plus": lambda good: good + b"+x",
    "a percent": lambda good: good + b"%41",
    "a broken percent": lambda good: good + b"%4",
    "no ASCII": lambda good: good + quote("é").encode(),
    "no UTF-8": lambda good: good + b"%ff",
    "a NUL": lambda good: good + b"%00",
    "a control character": lambda good: good + b"%01",
    "a delete": lambda good: good + b"\x7f",
    "an end of line": lambda good: good + b"%0a",
    "raw bytes": lambda good: good + b"\xff\x00",
    "a semicolon": lambda good: good + b";x=1",
    "an empty pair": lambda good: good + b"&",
    "another type of assertion": lambda good: good.replace(b"jwt-bearer", b"saml2-bearer"),
    "a name in percents": lambda good: good.replace(b"&token=", b"&%74oken="),
    "large": lambda good: good + b"x" * 13_000,
    "too large": lambda good: good + b"x" * 70_000,
    "nothing": lambda good: b"",
    "nonsense": lambda good: b"\x00\x01=&&==",
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_it_has_not_learnt_gets_the_full_doors_answer(light: Both, name: str) -> None:
    _, token = active(light)
    light.compare(lambda: FORMS[name](light.form(light.at.holder, token)))


PIECES = st.sampled_from(
    [b"token", b"client_assertion", b"client_assertion_type", b"client_id", b"token_type_hint", b"x", b""]
)
VALUES = st.one_of(st.binary(max_size=24), st.sampled_from([b"TOKEN", b"ASSERTION", ASSERTION_TYPE.encode(), b"store"]))


@pytest.fixture
def asked(light: Both) -> tuple[Both, str]:
    return light, active(light)[1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(more=st.text(st.characters(max_codepoint=0x9F), min_size=1, max_size=4), place=st.integers(0, 8))
def test_a_token_of_any_characters_gets_the_same_answer(asked: tuple[Both, str], more: str, place: int) -> None:
    """An otherwise good form: what the full door takes for no text (`app.http.characters`) the lane answers neither."""
    both, token = asked
    both.introspect(token[:place] + more + token[place:])


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pairs=st.lists(st.tuples(PIECES, VALUES), max_size=5), tail=st.binary(max_size=4))
def test_any_form_at_all_gets_the_same_answer(
    asked: tuple[Both, str], pairs: list[tuple[bytes, bytes]], tail: bytes
) -> None:
    both, token = asked

    def form() -> bytes:
        made = {b"TOKEN": token.encode(), b"ASSERTION": both.at.holder.assertion().encode()}
        return b"&".join(name + b"=" + made.get(value, value) for name, value in pairs) + tail

    both.compare(form)


def test_a_form_in_another_order_is_still_known_by_heart(light: Both) -> None:
    _, token = active(light)
    status, _, alone = light.compare(lambda: b"&".join(reversed(light.form(light.at.holder, token).split(b"&"))))
    assert (status, alone) == (200, True)


def test_the_lane_stands_before_the_full_doors_own_address(light: Both) -> None:
    rules = [rule for rule in light.full.url_map.iter_rules() if rule.endpoint == "oauth.introspection"]
    assert [rule.rule for rule in rules] == [PATH]


def test_every_table_a_standing_is_read_from_is_known_to_the_lane(both: Both) -> None:
    """Restrictions (dsar rule 51) and objections (dsar rule 52) must reach the lane by being named in `BESIDE`."""
    ana = both.at.agree()
    read: list[str] = []
    listen = ("before_cursor_execute", lambda _c, _u, statement, *_more: read.append(statement))
    event.listen(both.at.house.records, *listen)
    with both.at.house.units.reading() as unit:
        unit.standings.standing(ana.subject, PURPOSE, both.at.clock.now())
    event.remove(both.at.house.records, *listen)
    tables = {name for statement in read for name in re.findall(r"(?:FROM|JOIN) (\w+)", statement)}
    assert "subjects" in tables
    assert tables <= {"subjects", *(column.table.name for column in BESIDE)}  # type: ignore[attr-defined]


def test_a_subject_with_more_to_read_is_left_to_the_full_door(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = active(both)
    monkeypatch.setattr("app.store.fastlane.BESIDE", (ContactPointRow.subject,))
    both.rebuild()
    status, body, alone = both.introspect(token)
    assert (status, alone) == (200, False)
    assert b'"active": true' in body


def test_an_edited_history_is_found_by_the_lane_too(both: Both) -> None:
    """consent rule 56: the lane folds no broken chain; the full door answers, and tells nobody anything."""
    _, token = active(both)
    with both.at.house.records.begin() as connection:
        connection.execute(text("UPDATE consent_events SET body = replace(body, '2026', '2036') WHERE version = 3"))
    before = both.handed_on
    status, _, body = both.ask(both.lane, both.form(both.at.holder, token))
    assert (status, both.handed_on) == (500, before + 1)
    assert b"active" not in body


def test_the_lane_remembers_nothing_that_a_later_row_contradicts(both: Both) -> None:
    """Two consents, asked in turn, one withdrawn: each answer is of its own consent."""
    _, first = active(both)
    bob = both.at.agree("bob@example.org")
    second = both.at.token(bob)
    both.introspect(second)
    both.at.withdraw(bob)
    for _ in range(2):
        assert b'"active": true' in both.introspect(first)[1]
        assert both.introspect(second) == INACTIVE


def test_a_database_that_is_gone_is_the_full_doors_to_report(both: Both) -> None:
    reads = HotReads(both.at.house.records)
    assert reads.look("store", "x") is not None
    with both.at.house.records.begin() as connection:
        connection.execute(text("ALTER TABLE oauth_clients RENAME TO elsewhere"))
    with pytest.raises(RecordsUnreachable) as fault:
        reads.look("store", "x")
    assert str(fault.value) == ""  # a driver's words may quote what was asked
    assert fault.value.__cause__ is None
    with both.at.house.records.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO oauth_clients"))
    assert reads.look("store", "x") is not None
    reads.close()


def test_the_lane_is_a_setting_and_on_by_default(light: Both) -> None:
    assert read_settings({}).fast_lane is True
    off = read_settings({"REGARD_FAST_LANE": "no"})
    assert isinstance(serving(light.at.house), FastLane)
    closed = replace(light.at.house, settings=replace(light.at.house.settings, fast_lane=off.fast_lane))
    assert not isinstance(serving(closed), FastLane)


class _Slow(BytesIO):
    """A body that keeps coming: whoever reads waits until the test says that the sender went on."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.asked, self.sent = threading.Event(), threading.Event()

    def _come(self) -> None:
        self.asked.set()
        assert self.sent.wait(PATIENCE)

    def read(self, size: int | None = -1, /) -> bytes:
        self._come()
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self._come()
        return super().readinto(buffer)


@pytest.mark.parametrize("door", ["lane", "full"])
@pytest.mark.parametrize("path", [PATH, "/oauth/token", "/oauth/par", "/oauth/revoke"])
def test_whoever_sends_slowly_keeps_nobody_else_from_writing(light: Both, path: str, door: str) -> None:
    """On SQLite an open unit is the one writer: none may be open while a body is still on its way."""
    ana, token = active(light)
    form = light.form(light.at.holder, token)
    slow, got = _Slow(form), list[int]()
    environ = create_environ(method="POST", path=path, content_type=FORM)
    environ |= {"wsgi.input": slow, "CONTENT_LENGTH": str(len(form))}
    door_of: Any = light.lane if door == "lane" else light.full
    sender = threading.Thread(target=lambda: got.append(int(run_wsgi_app(door_of, environ)[1].split()[0])))
    sender.start()
    assert slow.asked.wait(PATIENCE)
    light.at.withdraw(ana)  # a write, which waits for nobody
    assert not got
    slow.sent.set()
    sender.join()
    assert got
