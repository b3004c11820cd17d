"""The description of the JSON doors, as a document and as a page: complete, and true of the doors it describes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser

from app.http.api.described import status_of_code
from app.http.api.examples import EXCHANGES, PRESENTED
from app.http.guard import Anyone, ByProtocol, ClientOnly, guards
from app.sdk.scopes import Scope
from consent.events import Channel
from tests.doors.api_house import ApiHouse, problem
from tests.doors.browsing import DARK, FORCED, NARROW, Eyes, Server, window
from tests.doors.looks import Look

MACHINES = ("/api/", "/access/", "/ledger/", "/oauth/", "/.well-known/", "/health/")
PAGE = "/api/docs"


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


@pytest.fixture
def said(application: Flask) -> Any:
    return application.test_client().get("/api/openapi.json").json


def _operations(said: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield method, path, operation


def _rules(app: Flask) -> Iterator[tuple[tuple[str, str], Any]]:
    for rule, method, guard in guards(app):
        if rule.rule.startswith(MACHINES) and rule.rule != PAGE and method != "HEAD":
            yield (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)), guard


# the document


def test_every_json_rule_is_described_with_its_guard(application: Flask, said: Any) -> None:
    """api.md: the document is complete. A new route without its lines fails here."""
    there = dict(_rules(application))
    described = {(method, path): operation for method, path, operation in _operations(said)}
    assert described.keys() == there.keys()
    for door, operation in described.items():
        match there[door]:
            case ClientOnly(scope=scope):
                assert operation["security"] == [{"token": [scope.value]}], door
            case ByProtocol():
                named = "C2SP tlog-cosignature" if door[1].startswith("/ledger/") else "private_key_jwt"
                assert named in operation["x-authentication"], door
            case Anyone():
                assert operation["security"] == [], door
            case _:
                pytest.fail(f"{door} has another guard")


def test_every_door_of_the_rooms_has_an_exchange_and_none_is_left_over(said: Any) -> None:
    rooms = {(method, path) for method, path, each in _operations(said) if each["tags"][0].startswith("api_")}
    assert rooms == EXCHANGES.keys()


def test_every_operation_says_what_it_does_and_shows_an_example(said: Any) -> None:
    for method, path, operation in _operations(said):
        good = {status: each for status, each in operation["responses"].items() if status[0] in "23"}
        assert operation["summary"], path
        assert good, path
        for response in good.values():
            assert all("example" in each for media, each in response.get("content", {}).items() if "json" in media), (
                path
            )
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in content, (method, path)


def test_every_example_fits_the_schema_of_its_door(said: Any) -> None:
    seen = 0
    for _, path, operation in _operations(said):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media, content in ((m, c) for body in bodies for m, c in body.get("content", {}).items()):
            values = [content["example"]] if "example" in content else []
            values += [each["value"] for each in content.get("examples", {}).values()]
            for value in values:
                if media != "application/x-ndjson":
                    assert not list(_faults(said, content["schema"], value)), (path, value)
                    seen += 1
    assert seen > 2 * len(EXCHANGES)


def test_the_check_of_examples_finds_what_does_not_fit(said: Any) -> None:
    lease = said["paths"]["/api/v1/keys/lease"]["post"]["requestBody"]["content"]["application/json"]
    good = lease["example"]
    for bad in ({**good, "seconds": 61}, {**good, "stranger": 1}, {**good, "handle": 5}, {"handle": "pw"}):
        assert list(_faults(said, lease["schema"], bad)), bad


def _faults(said: Any, schema: Any, value: Any, way: str = "") -> Iterator[str]:
    """As much of JSON Schema as the document uses."""
    if "$ref" in schema:
        yield from _faults(said, said["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], value, way)
        return
    if "anyOf" in schema:
        if all(list(_faults(said, each, value, way)) for each in schema["anyOf"]):
            yield f"{way}: none of them"
        return
    kinds = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list, "null": type(None)}
    names = schema.get("type", [])
    wanted = [names] if isinstance(names, str) else names
    if wanted and not any(type(value) is kinds[name] for name in wanted):
        yield f"{way}: {value!r} is no {wanted}"
        return
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{way}: {value!r} is not offered"
    if isinstance(value, str) and not re.search(schema.get("pattern", "").replace(r"\Z", "$"), value):
        yield f"{way}: {value!r} does not match"
    size = value if type(value) is int else len(value) if isinstance(value, str | list) else 0
    least = max(schema.get(name, 0) for name in ("minimum", "minLength", "minItems"))
    if size < least or size > min(schema.get(name, size) for name in ("maximum", "maxLength", "maxItems")):
        yield f"{way}: {size} is out of bounds"
    yield from _inside(said, schema, value, way)


def _inside(said: Any, schema: Any, value: Any, way: str) -> Iterator[str]:
    if isinstance(value, list) and "items" in schema:
        for place, each in enumerate(value):
            yield from _faults(said, schema["items"], each, f"{way}[{place}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (f"{way}.{name}: missing" for name in schema.get("required", ()) if name not in value)
        if schema.get("additionalProperties") is False:
            yield from (f"{way}.{name}: unknown" for name in value if name not in known)
        for name in known.keys() & value.keys():
            yield from _faults(said, known[name], value[name], f"{way}.{name}")


def test_every_code_comes_with_its_status_and_a_sentence(said: Any) -> None:
    """The codes are those of the one error mapping; a misspelt or moved one fails here."""
    for _, path, operation in _operations(said):
        for status, response in operation["responses"].items():
            if status[0] not in "45" or path.startswith(("/oauth", "/health")):
                continue
            examples = response["content"]["application/problem+json"]["examples"]
            assert examples, (path, status)
            for code, each in examples.items():
                assert int(status) in status_of_code(code), (path, status, code)
                assert each["value"]["code"] == code
                assert each["summary"], code


def test_a_code_nobody_answers_with_has_no_status() -> None:
    assert status_of_code("no_such_code") == frozenset()


# the doors themselves


def test_the_doors_read_the_bodies_that_the_examples_show(at: ApiHouse) -> None:
    """Each example gets past the reading of its body: what is refused then is the invented token, handle or id."""
    scopes = {door: guard.scope for door, guard in _rules(at.app) if isinstance(guard, ClientOnly)}
    for (method, path), shown in EXCHANGES.items():
        if (method, path) in scopes and method == "post":
            answer = at.post(path.format(**shown.path), at.holder, scopes[method, path], shown.asked)
            expected = {"/api/v1/disclosures": 422, "/api/v1/keys": 403}
            found = next((status for start, status in expected.items() if path.startswith(start)), 0)
            assert answer.status_code == (found or answer.status_code), (path, answer.text)
            assert answer.status_code in (200, 204, 404, found), (path, answer.text)
    cosigned = at.web.post("/ledger/cosignatures", json=_example("post", "/ledger/cosignatures"))
    problem(cosigned, 422, "ledger.witness_refused")  # well formed, of a witness nobody knows
    refused = at.post(
        "/api/v1/disclosures", at.holder, Scope.DISCLOSURES_WRITE, _example("post", "/api/v1/disclosures")
    )
    assert all(name.rsplit(".", 1)[1] in ("handle", "reader", "consent", "at") for name in refused.json["fields"])


def _example(method: str, path: str) -> Any:
    return EXCHANGES[method, path].asked


def test_real_problems_look_like_the_documented_ones(at: ApiHouse) -> None:
    said = at.web.get("/api/openapi.json").json["paths"]["/api/v1/keys/lease"]["post"]["responses"]
    body = {"presented_token": PRESENTED, "category": "accounts.balances", "handle": "pw_x"}
    agreed = at.agree()
    token = at.token(agreed)
    at.withdraw(agreed)
    met = {
        "scope_missing": at.post("/api/v1/keys/lease", at.holder, Scope.CONSENTS_READ, body),
        "body_invalid": at.post("/api/v1/keys/lease", at.holder, Scope.KEYS_LEASE, {**body, "seconds": 61}),
        "presented_token_refused": at.post("/api/v1/keys/lease", at.holder, Scope.KEYS_LEASE, body),
        "access_refused": at.lease(agreed, token),
        "token_invalid": at.web.post("/api/v1/keys/lease", json=body),
    }
    for code, answer in met.items():
        real = problem(answer, answer.status_code, code)
        shown = said[str(answer.status_code)]["content"]["application/problem+json"]["examples"][code]["value"]
        assert real.keys() - {"detail"} == shown.keys(), code
        assert {name: real[name] for name in ("type", "title", "status")} == {
            name: shown[name] for name in ("type", "title", "status")
        }


def test_what_anyone_may_read_fits_what_is_described(application: Flask, said: Any) -> None:
    web, seen = application.test_client(), 0
    for method, path, operation in _operations(said):
        if method == "get" and operation["security"] == [] and path != "/oauth/authorize":
            shown = EXCHANGES.get((method, path))
            answer = web.get(
                path.format(**shown.path if shown else {}), query_string=dict(shown.query if shown else {})
            )
            if path.startswith("/ledger/proof"):  # an empty ledger has nothing to prove
                assert answer.status_code == 404
                continue
            content = operation["responses"][str(answer.status_code)]["content"]
            real = answer.json if answer.is_json else answer.get_data(as_text=True)
            assert not list(_faults(said, content[answer.mimetype]["schema"], real)), path
            seen += 1
    assert seen >= 9


def test_a_withdrawal_takes_the_channels_that_are_described_and_no_other(at: ApiHouse) -> None:
    body = at.web.get("/api/openapi.json").json["components"]["schemas"]["Withdrawal"]["properties"]["channel"]["enum"]
    consent = at.agree().consent
    taken = {
        channel.value
        for channel in Channel
        if at.post(
            f"/api/v1/consents/{consent}/withdraw", at.reader, Scope.CONSENTS_WITHDRAW, {"channel": channel}
        ).status_code
        == 200
    }
    assert taken == set(body)


# the page


def test_the_page_shows_every_door_its_scope_and_its_codes(application: Flask, said: Any) -> None:
    page = application.test_client().get(PAGE)
    assert page.status_code == 200
    text = page.get_data(as_text=True)
    assert '<html lang="en">' in text
    assert "<script" not in text
    assert "style=" not in text
    for method, path, operation in _operations(said):
        assert f"<code>{method.upper()} {path}</code>" in text
        for need in operation.get("security", ()):
            assert all(f"<code>{scope}</code>" in text for scope in need["token"])
    for code in ("consent_not_found", "upload_differs", "altered", "invalid_dpop_proof"):
        assert f"<code>{code}</code>" in text
    assert text.count('class="wire"') >= 2 * len(EXCHANGES) - 5
    anchors = re.findall(r'id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(anchors)


def test_the_page_takes_no_form_and_no_session(application: Flask) -> None:
    web = application.test_client()
    problem(web.post(PAGE), 405, "method_not_allowed")
    assert "Set-Cookie" not in web.get(PAGE).headers


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_axe_finds_nothing_on_the_page_down_to_320_px(application: Flask, browser: Browser) -> None:
    look = Look("api_description.docs", PAGE)
    with Server() as server, window(browser, server.origin, locale="en", reduced_motion="reduce") as view:
        server.show(application)
        eyes = Eyes(view)
        for scheme in (DARK, FORCED):
            assert eyes.judge(server.origin + PAGE, look, "en", scheme) == []
        view.page.set_viewport_size(NARROW)
        assert view.page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]
        assert view.said == []
