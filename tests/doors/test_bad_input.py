"""Bad input at every door for machines: a problem with a stable code, nothing changed, nothing leaked (issue 2).

Every rule of the real application is either walked here or excused by name; fields and their types come from the
OpenAPI document. One house a backend takes all of it, and is the same afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt
import pytest
from jwt.api_jws import PyJWS

from app.factory import BODY_LIMIT
from app.http import guard
from app.http.guard import ByProtocol, ClientOnly
from app.http.problems import MACHINE_PATHS
from app.sdk import parts
from app.sdk.dpop import Prover, new_key
from app.sdk.scopes import Scope
from app.tokens.rfc7523 import ASSERTION_TYPE
from consent.vocabulary import PartyId
from tests.doors.api_house import BALANCES, ISSUER, PURPOSE, STORE
from tests.doors.bad_input_house import BadHouse, bad_house

MARK = "zq7-leak-zq7"
"""Stands in everything that is sent and in nothing that may be answered."""
CONTROL = ("\x00", "\x1f", "\x7f", "\ud800")


@dataclass(frozen=True)
class Door:
    """One method of one rule: who may call it, how, and what it takes."""

    method: str
    rule: str
    who: str = "holder"
    arguments: Mapping[str, str] = field(default_factory=dict)
    """What is there and is the caller's own."""
    others: Mapping[str, str] = field(default_factory=dict)
    """What is there and is somebody else's."""
    body: Any = None
    queries: tuple[str, ...] = ()
    lenient: bool = False
    """AuthZEN: ignores what it does not know, and answers a broken question with no."""

    def path(self, arguments: Mapping[str, str] | None = None) -> str:
        path = self.rule
        for name, value in (self.arguments if arguments is None else arguments).items():
            path = path.replace(f"<{name}>", value).replace(f"<int:{name}>", value)
        return path


HOUSES = [pytest.param(name, marks=pytest.mark.xdist_group(f"bad-input {name}")) for name in ("sqlite", "postgresql")]
"""One house for each database, built by one process of a run."""


@pytest.fixture(scope="module", params=HOUSES)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadHouse]:
    with bad_house(tmp_path_factory.mktemp("bad"), request.param) as built:
        yield built


@pytest.fixture(autouse=True)
def unchanged(house: BadHouse) -> Iterator[None]:
    """Whatever a test sends: both databases and the sealed files are what they were."""
    before = house.state()
    yield
    after = house.state()
    assert {name for name in after if after[name] != before[name]} == set()


def client_doors(house: BadHouse) -> list[Door]:
    """Every door that asks for a token, with a body that would do if its token did."""
    ask = {"presented_token": "rat_x", "category": BALANCES, "handle": "pw_x"}
    read = {
        "id": "r-1",
        "handle": "pw_x",
        "categories": [BALANCES],
        "records": 1,
        "purpose": PURPOSE,
        "attended": False,
        "at": house.at.clock.now().isoformat(),
    }
    question = {
        "subject": {"type": "component", "id": "reader"},
        "action": {"name": "read"},
        "resource": {"type": "category", "id": BALANCES, "properties": {"handle": "pw_x"}},
        "context": {"purpose": PURPOSE},
    }
    own, foreign = {"consent": house.ana.consent}, {"consent": house.ana.consent}
    task = {"task": house.task("store")}
    other_task = {"task": house.task("rival")}
    result = {"status": "found", "categories": [{"category": "no.such", "status": "found", "count": 1}]}
    return [
        Door("POST", "/api/v1/keys/lease", body=ask),
        Door("POST", "/api/v1/keys/seal", body={**ask, "record_id": "r1", "plaintext": "aGVsbG8"}),
        Door("POST", "/api/v1/keys/open", body={**ask, "record_id": "r1", "sealed": "aGVsbG8"}),
        Door("POST", "/api/v1/disclosures", "reader", body={"disclosures": [read]}),
        Door("POST", "/access/v1/evaluation", body=question, lenient=True),
        Door("POST", "/access/v1/evaluations", body={**question, "evaluations": [{}]}, lenient=True),
        Door("GET", "/api/v1/consents", "reader", queries=("limit", "after")),
        Door("GET", "/api/v1/consents/<consent>", "reader", own, foreign),
        Door("GET", "/api/v1/consents/<consent>/receipt", "reader", own, foreign),
        Door("POST", "/api/v1/consents/<consent>/withdraw", "reader", own, foreign, body={"channel": "signed_link"}),
        Door("POST", "/api/v1/holder/heartbeat", body={}),
        Door("GET", "/api/v1/holder/tasks", queries=("limit",)),
        Door("PUT", "/api/v1/holder/tasks/<task>/parts/<int:number>", "holder", {**task, "number": "1"}, other_task),
        Door("POST", "/api/v1/holder/tasks/<task>/result", "holder", task, other_task, body=result),
    ]


OPEN = {
    "/api/v1/processors": ("limit", "after"),
    "/api/v1/processors/<party>": (),
    "/ledger/checkpoint": (),
    "/ledger/proof/inclusion": ("leaf", "size"),
    "/ledger/proof/consistency": ("from", "to"),
}
"""Doors of anyone, and what they can be asked."""
FORMS = ("/oauth/token", "/oauth/par", "/oauth/introspect", "/oauth/revoke")
SIGNED = "/ledger/cosignatures"
"""A door of whoever has signed what is handed in."""
CONSTANT = {
    "/.well-known/gpc.json",
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
    "/oauth/jwks",
    "/health/live",
    "/health/ready",
    "/api/openapi.json",
    "/api/docs",
}
"""Documents that read nothing of what is sent."""
ELSEWHERE = {"/oauth/authorize"}
"""Has a test of its own below."""


def test_every_door_for_machines_is_walked_or_excused(house: BadHouse) -> None:
    rules = {
        (method, rule.rule): found
        for rule, method, found in guard.guards(house.at.app)
        if rule.rule.startswith(MACHINE_PATHS) and method != "HEAD"
    }
    walked = {(door.method, door.rule) for door in client_doors(house)}
    assert {key for key, found in rules.items() if isinstance(found, ClientOnly)} == walked
    assert {rule for (_, rule), found in rules.items() if isinstance(found, ByProtocol)} == {*FORMS, SIGNED}
    said = (
        walked
        | {("POST", rule) for rule in (*FORMS, SIGNED)}
        | {("GET", rule) for rule in {*OPEN, *CONSTANT, *ELSEWHERE}}
    )
    assert set(rules) == said


COSIGNATURES: dict[str, object] = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": [],
    "a field missing": {"size": 1},
    "an unknown field": {"size": 1, "line": "\u2014 w AAAA", "more": 1},
    "a size of another type": {"size": "one", "line": "\u2014 w AAAA"},
    "a size below none": {"size": -1, "line": "\u2014 w AAAA"},
    "a size beyond any": {"size": 10**30, "line": "\u2014 w AAAA"},
    "a line that is none": {"size": 1, "line": "x"},
    "a line without end": {"size": 1, "line": "\u2014 w " + "A" * 100_000},
    "a control character": {"size": 1, "line": "\u2014 w\u0000 AAAA"},
    "nobody's signature": {"size": 1, "line": "\u2014 w " + "A" * 96},
}


@pytest.mark.parametrize("what", COSIGNATURES)
def test_no_cosignature_is_taken_in_but_a_true_one(house: BadHouse, what: str) -> None:
    sent = COSIGNATURES[what]
    raw = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    client = house.at.app.test_client()
    before = client.get("/ledger/checkpoint").text
    refused(house, client.post(SIGNED, data=raw, content_type="application/json"), why=what)
    assert client.get("/ledger/checkpoint").text == before


# --- what an answer may be


def refused(house: BadHouse, answer: Any, *statuses: int, why: object = "") -> Any:
    """Assert a problem of one of these statuses (any 4xx without), that it says nothing back and leaks nothing."""
    assert 400 <= answer.status_code < 500, (why, answer.status_code, answer.text)
    assert not statuses or answer.status_code in statuses, (why, answer.status_code, answer.text)
    assert answer.mimetype == "application/problem+json", (why, answer.text)
    said = answer.json
    assert (said["status"], said["type"]) == (answer.status_code, f"urn:regard:problem:{said['code']}")
    assert said["code"] not in ("internal_error", "door_error"), why
    quiet(house, answer, why)
    return said


def oauth_refused(house: BadHouse, answer: Any, why: object = "") -> str:
    """Assert RFC 6749 section 5.2's shape."""
    assert 400 <= answer.status_code < 500, (why, answer.status_code, answer.text)
    assert answer.mimetype == "application/json", (why, answer.text)
    assert set(answer.json) <= {"error", "error_description"}, why
    quiet(house, answer, why)
    return str(answer.json["error"])


def quiet(house: BadHouse, answer: Any, why: object = "") -> None:
    for secret in (MARK, *house.secrets()):
        assert secret not in answer.text, (why, answer.text)
        assert all(secret not in value for value in answer.headers.values()), why


def told(house: BadHouse, door: Door, answer: Any, why: object) -> None:
    """Refused, or, at a lenient door, a plain no."""
    if door.lenient and answer.status_code == 200:
        said = answer.json.get("evaluations", [answer.json])
        assert all(one["decision"] is False for one in said), why
        quiet(house, answer, why)
    else:
        refused(house, answer, why=(door.rule, why))


def send(house: BadHouse, door: Door, **more: Any) -> Any:
    who = getattr(house.at, more.pop("who", door.who))
    path = more.pop("path", door.path()) + more.pop("query", "")
    if door.body is not None and not {"data", "json"} & more.keys():
        more["json"] = door.body
    return house.call(door.method, path, who, scope_of(house, door), **more)


def scope_of(house: BadHouse, door: Door) -> Scope:
    return next(
        found.scope
        for rule, method, found in guard.guards(house.at.app)
        if (method, rule.rule) == (door.method, door.rule) and isinstance(found, ClientOnly)
    )


# --- tokens


@pytest.fixture(scope="module")
def dead(house: BadHouse) -> Mapping[tuple[str, Scope], list[str]]:
    """Tokens that have ended, by who and what for: run out, and revoked."""
    now = house.at.clock.now()
    ways = ({"expires_at": now - timedelta(seconds=1)}, {"revoked_at": now})
    keys = {(door.who, scope_of(house, door)) for door in client_doors(house)}
    return {
        (who, scope): [house.dead_token(getattr(house.at, who), scope, **way) for way in ways] for who, scope in keys
    }


def test_without_a_good_token_every_door_is_shut(house: BadHouse, dead: Mapping[Any, list[str]]) -> None:
    """Tokens.md section 1: none, made up, run out, revoked, another client's, without its proof, with another's."""
    for door in client_doors(house):
        scope, path = scope_of(house, door), door.path()
        who = getattr(house.at, door.who)
        body = {} if door.body is None else {"json": door.body}
        bare = house.at.web.open(path, method=door.method, base_url=ISSUER, **body)
        assert refused(house, bare, 401, why=door.rule)["code"] == "token_invalid"
        for headers in (
            {"Authorization": f"Bearer {house.token(who, scope)}"},
            {"Authorization": f"DPoP {house.token(who, scope)}"},
            {"Authorization": f"DPoP {MARK}", "DPoP": MARK},
            {"Authorization": "DPoP"},
            {"Authorization": "x" * 5000},
        ):
            answer = house.at.web.open(path, method=door.method, base_url=ISSUER, headers=headers, **body)
            assert refused(house, answer, 401, why=(door.rule, headers))["code"] == "token_invalid"
            assert answer.headers["WWW-Authenticate"].startswith("DPoP")
        for secret in (*dead[door.who, scope], house.token(house.at.rival, scope), f"rat_{MARK}"):
            assert refused(house, send(house, door, secret=secret), 401, why=door.rule)["code"] == "token_invalid"
        stolen = Prover(new_key(), house.at.clock.now)
        for proof in (
            stolen.prove(door.method, ISSUER + path, access_token=house.token(who, scope)),
            who.prover.prove("DELETE", ISSUER + path, access_token=house.token(who, scope)),
            who.prover.prove(door.method, ISSUER + "/elsewhere", access_token=house.token(who, scope)),
            who.prover.prove(door.method, ISSUER + path, access_token="another"),
        ):
            assert refused(house, send(house, door, proof=proof), 401, why=door.rule)["code"] == "token_invalid"


def test_a_proof_opens_one_door_once(house: BadHouse) -> None:
    """RFC 9449 section 11.1."""
    door = next(one for one in client_doors(house) if one.rule == "/api/v1/keys/lease")
    who = house.at.holder
    proof = who.prover.prove("POST", ISSUER + door.path(), access_token=house.token(who, Scope.KEYS_LEASE))
    assert refused(house, send(house, door, proof=proof), 403)["code"] == "presented_token_refused"
    assert refused(house, send(house, door, proof=proof), 401)["code"] == "token_invalid"


def test_a_token_for_something_else_is_refused_with_the_scope_that_is_missing(house: BadHouse) -> None:
    for door in client_doors(house):
        scope = scope_of(house, door)
        other = Scope.KEYS_LEASE if scope is not Scope.KEYS_LEASE else Scope.DISCLOSURES_WRITE
        secret = house.token(getattr(house.at, door.who), other)
        said = refused(house, send(house, door, secret=secret), 403, why=door.rule)
        assert (said["code"], said["scope"]) == ("scope_missing", scope)


# --- bodies


def test_a_body_that_is_no_json_object_is_refused(house: BadHouse) -> None:
    """RFC 8259; api.md: 413, 415, 422 for bad input."""
    bodies = (
        *(b"", b"{", b"[1", b"{'a': 1}", b"NaN", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5_000),
        *(b"[]", b"null", b"1", b'"x"', b"true", b'{"a": "\x00"}', b'{"a": "\\u0000"}', b'{"\\ud800": 1}'),
    )
    for door in client_doors(house):
        if door.body is None:
            continue
        for raw in bodies:
            answer = send(house, door, data=raw, content_type="application/json")
            refused(house, answer, 400, 422, why=(door.rule, raw[:20]))


def test_another_content_type_and_too_much_are_refused(house: BadHouse) -> None:
    for door in client_doors(house):
        if door.body is None:
            continue
        raw = json.dumps(door.body)
        for kind in ("text/plain", "application/xml", "multipart/form-data; boundary=x", "", "application/jsonx"):
            answer = send(house, door, data=raw, content_type=kind)
            refused(house, answer, *((400,) if door.lenient else (415,)), why=(door.rule, kind))
        large = send(house, door, data=b" " * (BODY_LIMIT + 1), content_type="application/json")
        assert refused(house, large, 413, why=door.rule)["code"] == "body_too_large"


def test_a_field_that_is_unknown_missing_or_of_another_type_is_refused(house: BadHouse) -> None:
    """Each field of each body, from the OpenAPI document: every other JSON type, and what no text may hold."""
    document = house.at.web.get("/api/openapi.json").json
    schemas = document["components"]["schemas"]
    tried = 0
    for door in client_doors(house):
        if door.body is None:
            continue
        unknown = send(house, door, json={**door.body, f"{MARK[:3]}": MARK})
        told(house, door, unknown, "unknown field")
        rule = door.rule.replace("<", "{").replace(">", "}")
        content = document["paths"][rule][door.method.lower()]["requestBody"]["content"]["application/json"]
        for place, body in wrong_bodies(schemas, content["schema"], door.body):
            told(house, door, send(house, door, json=body), place)
            tried += 1
    assert tried > 400


def wrong_bodies(schemas: Any, schema: Any, good: Any) -> Iterator[tuple[str, Any]]:
    """Yield (what is wrong, a body with that one fault) for every field below `schema`."""
    schema = resolved(schemas, schema)
    if isinstance(good, list):
        for place, wrong in wrong_bodies(schemas, schema["items"], good[0]):
            yield f"0.{place}", [wrong]
        return
    if not isinstance(good, dict):
        return
    for name in schema.get("required", ()):
        yield f"{name} missing", {key: value for key, value in good.items() if key != name}
    for name, below in schema.get("properties", {}).items():
        for wrong in wrong_values(resolved(schemas, below)):
            yield f"{name}={str(wrong)[:20]!r}", {**good, name: wrong}
        if name in good:
            for place, inner in wrong_bodies(schemas, below, good[name]):
                yield f"{name}.{place}", {**good, name: inner}


def resolved(schemas: Any, schema: Any) -> Any:
    found = schema.get("$ref") or next((one["$ref"] for one in schema.get("allOf", ()) if "$ref" in one), None)
    return schemas[found.rpartition("/")[2]] if found else schema


_EXAMPLES: Mapping[str, tuple[Any, ...]] = {
    "string": (*(f"{MARK}{one}" for one in CONTROL), MARK * 1500),
    "integer": (-1, 10**30, 1.5),
    "boolean": (),
    "array": ([None], [[]], [{}], [MARK * 1500]),
    "object": (),
    "null": (),
}
"""Of the right type, and still wrong."""
_OTHERS: Mapping[str, Any] = {
    "string": MARK,
    "integer": 7,
    "boolean": True,
    "array": [],
    "object": {MARK[:3]: MARK},
    "null": None,
}


def wrong_values(schema: Any) -> Iterator[Any]:
    kinds = schema.get("type", "string")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    for kind, example in _OTHERS.items():
        if kind not in kinds:
            yield example
    for kind in kinds:
        yield from _EXAMPLES[kind]


# --- ids, queries, headers


HOSTILE = (
    *("%00", "%0a", "%1f", "%7f", "a%00b", "x" * 300, "x" * 2000, "%F0%28%8C%28", "%ED%A0%80", "%2e%2e"),
    *("-1", "0", "9" * 40, "1e9", "'", "%27%20or%201=1--", "con_", "task_zzzz", "%C3%A9", "%25s", "*"),
)


def test_an_id_that_is_none_leads_nowhere(house: BadHouse) -> None:
    """404, or what the guard says first; never a fault of ours, whatever the database thinks of the characters."""
    for door in client_doors(house):
        for name in door.arguments:
            for bad in HOSTILE:
                if name == "number" and bad == "0":
                    continue  # is a number; refused with 409 like every part out of order
                path = door.path({**door.arguments, name: bad})
                answer = send(house, door, path=path)
                refused(house, answer, 404, 409, 415, 422, why=path[:80])
    for bad in HOSTILE:
        answer = house.at.web.get(f"/api/v1/processors/{bad}", base_url=ISSUER)
        refused(house, answer, 404, why=bad[:40])


def test_what_is_somebody_else_s_does_not_exist(house: BadHouse) -> None:
    """404 where saying 403 would reveal existence (api.md): another party's consent, another component's task."""
    for door in client_doors(house):
        if not door.others:
            continue
        foreign = "rival" if door.who == "reader" else door.who
        body = {} if door.body is None or door.rule.endswith("result") else {"json": {}}
        theirs = send(house, door, who=foreign, path=door.path({**door.arguments, **door.others}), **body)
        made_up = {name: f"{value[:4]}zzzzzzzzzzzzzzzzzzzzzz" for name, value in door.others.items()}
        nobodys = send(house, door, who=foreign, path=door.path({**door.arguments, **made_up}), **body)
        assert refused(house, theirs, 404, why=door.rule) == refused(house, nobodys, 404, why=door.rule)


def test_another_person_s_handle_is_nobody_s(house: BadHouse) -> None:
    """A holder's own words: Ana's token with Bea's handle, another party's handle, the internal id itself."""
    at = house.at
    with at.house.units.reading() as unit:
        rival = unit.subjects.handle_of(house.ana.subject, PartyId("collecte"))
        bea = unit.subjects.handle_of(house.bea.subject, PartyId("nuage"))
    for handle in (rival, bea, house.ana.subject, "pw_zzzz"):
        body = {"presented_token": f"rat_{MARK}", "category": BALANCES, "handle": handle}
        for door in ("lease", "seal", "open"):
            more = {"lease": {}, "seal": {"plaintext": ""}, "open": {"sealed": ""}}[door]
            sent = {**body, **more, **({"record_id": "r"} if more else {})}
            answer = house.call("POST", f"/api/v1/keys/{door}", at.holder, Scope.KEYS_LEASE, json=sent)
            assert refused(house, answer, 403)["code"] == "presented_token_refused"


def test_queries_are_read_strictly(house: BadHouse) -> None:
    values = ("-1", "x", "1e3", "9" * 40, "1.5", "%00", "%1f", "x" * 5000)
    asked = [(door.path(), door) for door in client_doors(house) if door.queries]
    for path, door in asked:
        for name in door.queries:
            for value in values:
                if name == "after" and value in ("x", "1e3", "9" * 40):
                    continue  # could be an id; nothing comes after it
                refused(house, send(house, door, query=f"?{name}={value}"), 400, 422, why=(path, name, value[:20]))
        refused(house, send(house, door, query=f"?{MARK[:3]}=1"), 422, why=path)
    for path, names in OPEN.items():
        for name in names:
            for value in values:
                if name == "after" and value in ("-1", "x", "1e3", "9" * 40, "1.5", "x" * 5000):
                    continue
                query = "&".join(f"{one}={value if one == name else 1}" for one in names)
                answer = house.at.web.get(f"{path}?{query}", base_url=ISSUER)
                refused(house, answer, 400, 404, 422, why=(path, name, value[:20]))


def test_headers_nobody_sends_are_no_fault_of_ours(house: BadHouse) -> None:
    for door in client_doors(house):
        if door.rule.endswith("/heartbeat"):
            continue  # takes nothing but its token: it would be done
        for headers in (
            {"If-Match": MARK * 500},
            {"Accept": f"{MARK}/;;q=x"},
            {"Accept-Language": f"{MARK};q=9"},
            {"X-Request-ID": f"{MARK}\u00ff"},
            {"Content-Encoding": MARK},
            {"Cookie": f"regard_session={MARK}"},
            {"X-Forwarded-Host": MARK},
        ):
            path = door.path({name: f"{value[:4]}zzzz" for name, value in door.arguments.items() if name != "number"})
            path = path.replace("<int:number>", "1")
            answer = send(house, door, path=path, headers=headers)
            assert answer.status_code < 500, (door.rule, headers, answer.text)
            if "X-Request-ID" not in headers:
                quiet(house, answer, (door.rule, headers))


def test_a_path_or_a_method_there_is_none_of(house: BadHouse) -> None:
    for prefix in MACHINE_PATHS:
        answer = house.at.web.get(f"{prefix.rstrip('/')}/{MARK}", base_url=ISSUER)
        assert refused(house, answer, 404)["code"] == "not_found"
    for door in client_doors(house):
        for method in ("DELETE", "PATCH"):
            answer = house.at.web.open(door.path(), method=method, base_url=ISSUER)
            assert refused(house, answer, 405)["code"] == "method_not_allowed"


# --- the authorization server


def test_forms_of_the_authorization_server(house: BadHouse) -> None:
    """RFC 6749 section 5.2: repeated, oversized, malformed, of another type, without proof of who asks."""
    at = house.at
    for path in FORMS:
        post = at.web.post
        kind = "application/x-www-form-urlencoded"
        assert oauth_refused(house, post(path, json={"grant_type": MARK}, base_url=ISSUER), path) == "invalid_request"
        for raw in (
            b"",
            b"%00=%00",
            b"grant_type=a&grant_type=b",
            b"x=" + b"y" * 70_000,
            b"\xff\xfe=%zz",
            b"&" * 2_000,
        ):
            oauth_refused(house, post(path, data=raw, content_type=kind, base_url=ISSUER), (path, raw[:20]))
        for form in _strangers(at):
            assert oauth_refused(house, post(path, data=form, base_url=ISSUER), (path, list(form))) in {
                "invalid_client",
                "invalid_request",
            }


def _strangers(at: Any) -> Iterator[dict[str, str]]:
    """Callers who do not prove who they are (RFC 7523)."""
    who, now = at.reader, int(at.clock.now().timestamp())
    base = {"grant_type": "client_credentials", "token": MARK}
    yield {**base, "client_id": "reader"}
    yield {**base, "client_id": "reader", "client_secret": MARK}
    assertions = [
        MARK,
        "e30.e30.e30",
        who.assertion(key=at.rival.key),
        who.assertion(aud="https://elsewhere.example"),
        who.assertion(exp=now - 1),
        who.assertion(exp=now + 10**9),
        who.assertion(jti=None),
        who.assertion(sub="rival"),
        who.assertion(headers={"kid": "none"}),
        who.assertion(jti="\ud800" * 16),
    ]
    claims = {"iss": "reader", "sub": "reader", "aud": ISSUER, "iat": now, "exp": now + 60}
    strange = ("nobody", "", "\x00", "a\x00b", "\ud800", "x" * 5000, 7.5, True, [], ["reader"], {})
    for place, hostile in enumerate(strange):
        own = {**claims, "jti": f"an-id-of-the-test-{place}"}
        assertions.append(signed(who, {**own, "iss": hostile, "sub": hostile}))
        times = () if hostile == 7.5 else ("iat", "nbf")  # half past seven seconds after 1970 is a moment
        assertions += [signed(who, {**own, name: hostile}) for name in ("jti", "aud", "exp", *times)]
    for assertion in assertions:
        yield {**base, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    yield {**base, "client_assertion_type": MARK, "client_assertion": who.assertion()}


def signed(who: Any, claims: Any) -> str:
    """A JWS over whatever is said, which no library would make of such claims."""
    headers = {"kid": who.kid, "typ": "JWT"}
    return PyJWS().encode(json.dumps(claims).encode(), who.key, algorithm="ES256", headers=headers)


def authenticated(house: BadHouse, path: str, who: Any = None, **form: str) -> Any:
    """A form with a good assertion and a good proof."""
    who = who or house.at.reader
    said = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": who.assertion(), **form}
    return house.at.web.post(path, data=said, headers={"DPoP": who.proof(path)}, base_url=ISSUER)


def test_a_proof_that_says_anything_else_is_none(house: BadHouse) -> None:
    """RFC 9449 section 4.3, with claims of every type; a `nonce` nobody asked for has to be ours all the same."""
    for name in ("jti", "htm", "htu", "iat", "ath", "nonce"):
        for hostile in ("", "\x00", "\ud800", "x" * 9000, 7, -1, 10**30, 1.5, True, [], {}):
            headers = proven(house, {name: hostile})
            answer = house.at.web.get("/api/v1/consents", headers=headers, base_url=ISSUER)
            refused(house, answer, 401, why=(name, str(hostile)[:20]))


def test_whoever_has_no_good_token_makes_us_remember_nothing(house: BadHouse) -> None:
    """RFC 9449 section 11.1: ids of proofs are kept, so a proof costs a row only with a token that stands behind it."""
    thief, own = Prover(new_key(), house.at.clock.now), house.token(house.at.reader, Scope.CONSENTS_READ)
    spent = len(house.at.rows("oauth_spent_ids"))
    for secret in (MARK, own):  # a token that never was; a good one under a key that is not its own
        for method, path in (("GET", "/api/v1/consents"), ("POST", "/oauth/introspect")):
            proof = thief.prove(method, ISSUER + path, access_token=secret)
            headers = {"Authorization": f"DPoP {secret}", "DPoP": proof}
            data = {"token": MARK} if method == "POST" else None
            answer = house.at.web.open(path, method=method, data=data, headers=headers, base_url=ISSUER)
            assert answer.status_code == 401, (secret, path)
    assert len(house.at.rows("oauth_spent_ids")) == spent


HOSTILE: Mapping[str, Mapping[str, Any] | bytes] = {
    "an id of lone surrogates": {"jti": "\ud800" * 16},
    "an id of NULs": {"jti": "\x00" * 16},
    "depth": b"[" * 5000,
    "depth of one claim": b'{"jti": ' + b"[" * 5000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_key_of_ones_own_has_signed_is_refused_as_a_bad_proof(house: BadHouse, what: str) -> None:
    """RFC 9449 section 4.3: anybody can make a key and sign what no store could take and no reader get through."""
    answer = house.at.web.get("/api/v1/consents", headers=proven(house, HOSTILE[what]), base_url=ISSUER)
    refused(house, answer, 401, why=what)
    headers = proven(house, HOSTILE[what], "POST", "/oauth/introspect")
    answer = house.at.web.post("/oauth/introspect", data={"token": MARK}, headers=headers, base_url=ISSUER)
    assert oauth_refused(house, answer, what) == "invalid_dpop_proof"


def proven(
    house: BadHouse, said: Mapping[str, Any] | bytes, method: str = "GET", path: str = "/api/v1/consents"
) -> dict[str, str]:
    """Headers with a proof signed with the component's own key, some of its claims replaced, or all it says."""
    who = house.at.reader
    secret = house.token(who, Scope.CONSENTS_READ)
    good = who.prover.prove(method, ISSUER + path, access_token=secret)
    header = jwt.get_unverified_header(good)
    if not isinstance(said, bytes):
        said = json.dumps({**jwt.decode(good, options={"verify_signature": False}), **said}).encode()
    proof = PyJWS().encode(said, who.prover._key, algorithm="ES256", headers=header)
    return {"Authorization": f"DPoP {secret}", "DPoP": proof}


def test_a_known_client_s_bad_requests(house: BadHouse) -> None:
    """RFC 6749, 9126, 9396: each parameter malformed, over a good assertion and a good proof."""
    detail = {
        "type": "aggregation_consent",
        "consent_id": house.ana.consent,
        "actions": ["read"],
        "categories": [BALANCES],
    }
    for value in (
        MARK,
        "\x01",
        "x" * 9000,
        "%00",
        "[]",
        "{",
        "null",
        "\ufffd",
        "../..",
        "https://elsewhere.example",
        "-1",
    ):
        for form in (
            {"grant_type": value},
            {"grant_type": "client_credentials", "scope": value},
            {"grant_type": "client_credentials", "resource": value, "authorization_details": json.dumps([detail])},
            {"grant_type": "client_credentials", "resource": STORE, "authorization_details": value},
            {"grant_type": "authorization_code", "code": value, "code_verifier": value, "redirect_uri": value},
            {"grant_type": "refresh_token", "refresh_token": value},
        ):
            oauth_refused(house, authenticated(house, "/oauth/token", **form), (value[:20], form))
        for name in ("response_type", "redirect_uri", "scope", "code_challenge", "authorization_details", "state"):
            form = {"response_type": "code", "code_challenge": "c" * 43, "code_challenge_method": "S256", name: value}
            oauth_refused(house, authenticated(house, "/oauth/par", **form), (name, value[:20]))
    for wrong in details(detail):
        said = {"resource": STORE, "authorization_details": json.dumps(wrong)}
        form = {"grant_type": "client_credentials", **said}
        oauth_refused(house, authenticated(house, "/oauth/token", **form), str(wrong)[:80])


def details(good: Mapping[str, Any]) -> Iterator[Any]:
    """RFC 9396: each member of each wrong type, unknown members, nobody's consent."""
    yield from ({}, [], [[]], [None], "x", 1, [good, good], [{**good, "unknown": MARK}])
    for name in good:
        for wrong in (7, True, {}, "", "\x00", "\ud800", MARK * 500, ["\x00"], [7], [[]]):
            yield [{**good, name: wrong}]
    yield [{**good, "consent_id": "con_zzzz"}]


def test_a_token_of_somebody_else_is_inactive_and_not_theirs_to_give_back(house: BadHouse) -> None:
    """RFC 7662 section 4, RFC 7009 section 2.1."""
    rival, token = house.at.rival, house.token(house.at.reader, Scope.CONSENTS_READ)
    for value in (token, MARK, "x" * 9000, "\ufffd", "rat_"):
        answer = authenticated(house, "/oauth/introspect", rival, token=value)
        assert (answer.status_code, answer.json) == (200, {"active": False}), value[:20]
    oauth_refused(house, authenticated(house, "/oauth/introspect", rival, token="\x00"))
    assert oauth_refused(house, authenticated(house, "/oauth/revoke", rival, token=token)) == "invalid_grant"
    assert authenticated(house, "/oauth/revoke", rival, token=MARK).status_code == 200


def test_the_authorization_door_takes_a_pushed_request_and_nothing_else(house: BadHouse) -> None:
    """RFC 9126 section 4: whoever comes with anything else is sent nowhere."""
    urn = "urn:ietf:params:oauth:request_uri:"
    for query in (
        *("", "client_id=reader", f"client_id=reader&request_uri={MARK}", f"client_id=reader&request_uri={urn}"),
        *(f"client_id=reader&request_uri={urn}{MARK}", f"client_id=%00&request_uri={urn}x", "client_id=a&client_id=b"),
        *(f"client_id=reader&request_uri={urn}x&redirect_uri=https://elsewhere.example", "response_type=code&%00=1"),
        f"client_id={'x' * 5000}&request_uri={urn}{'x' * 5000}",
    ):
        answer = house.at.web.get(f"/oauth/authorize?{query}", base_url=ISSUER)
        assert 400 <= answer.status_code < 500, (query, answer.text)
        assert "Location" not in answer.headers
        assert answer.mimetype in ("application/json", "application/problem+json")
        assert answer.json.get("error") or answer.json["code"]
        quiet(house, answer, query)


# --- uploads


def test_a_part_that_is_no_part_is_refused(house: BadHouse) -> None:
    door = next(one for one in client_doors(house) if one.method == "PUT")
    strange = b'{"category": "\\u0000"}\n'
    for raw in (b"", b"{}", b"\x00", b"{}\n" * 10, strange, b"\xff\n", b"[" * 50_000 + b"\n"):
        refused(house, send(house, door, data=raw, content_type=parts.MEDIA_TYPE), 400, 422, why=raw[:20])
    for kind in ("application/json", "text/plain", ""):
        refused(house, send(house, door, data=b"{}\n", content_type=kind), 415, why=kind)
    large = send(house, door, data=b" " * (parts.MOST_BYTES + 1), content_type=parts.MEDIA_TYPE)
    assert refused(house, large, 413)["code"] == "body_too_large"
    for number in ("0", "2", "99999999999"):
        path = door.path({**door.arguments, "number": number})
        refused(house, send(house, door, path=path, data=b"{}\n", content_type=parts.MEDIA_TYPE), why=number)


def test_what_no_text_may_hold_is_named_by_its_place(house: BadHouse) -> None:
    """A reporter sets such lines aside by their place and sends the rest (consent rule 51); the values stay out."""
    door = next(one for one in client_doors(house) if one.rule == "/api/v1/disclosures")
    (read,) = door.body["disclosures"]
    batch = {"disclosures": [read, {**read, "id": f"{MARK}\x00"}, read]}
    said = refused(house, send(house, door, json=batch), 422)
    assert (said["code"], said["fields"]) == ("body_invalid", ["disclosures.1.id"])
    said = refused(house, send(house, door, json={"disclosures": [{**read, f"{MARK}\ud800": 1}]}), 422)
    assert said["fields"] == ["disclosures.0"]
