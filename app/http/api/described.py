"""The description made whole: what flask-smorest reads from the schemas, plus guards, examples, codes, other rooms.

Guards are read from the URL map, so that what is written is what is enforced; the sentence of a code is the first line
of its error's docstring. Pure data in, pure data out, apart from walking the map.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask

from app.http.api import protocols
from app.http.api.examples import EXCHANGES, USUAL, Codes, Exchange
from app.http.guard import Anyone, ByProtocol, ClientOnly, Guard, guards
from app.http.problems import CODES, STATUS, status_of
from app.sdk.scopes import SENTENCES

PROBLEM: Final = "application/problem+json"
_ABOUT: Final = """Regard's doors for machines. They speak JSON; times are UTC (RFC 3339); unknown fields are refused.

Tokens come from `/oauth/token`: a client proves itself with `private_key_jwt` and binds the token to a key with DPoP.
Each call carries `Authorization: DPoP <token>` and a fresh proof in `DPoP`. A person is named by a handle that only the
caller's own party knows. A scope opens a door; whether data may be read is decided at each call.

Errors are problem details (RFC 9457) with a stable `code`. Any door can also answer 405 `method_not_allowed`, 503
`unavailable` with `Retry-After` (nothing was changed), and 500 `internal_error` with a reference to quote."""
_EXTRA: Final[Mapping[str, Mapping[str, Any]]] = {
    "scope_missing": {"scope": "keys.lease"},
    "body_invalid": {"fields": ["category"]},
    "access_refused": {"reason": "consent_withdrawn"},
    "erased": {"erased_at": "2026-11-02T09:30:00+00:00"},
}
"""The members some problems have beyond the common ones."""
_REPEATABLE: Final[Codes] = {
    400: ("idempotency_key_invalid",),
    409: ("idempotency_in_progress",),
    422: ("idempotency_key_reused",),
}
"""What a door answers with besides, where it takes an `Idempotency-Key`."""
_NARROWER: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("Withdrawal", "channel"): ("api", "page", "mail", "phone")
}
"""(schema, field) -> what is taken, where the field's type knows more words than its door does."""
_VARIABLE: Final = re.compile(r"<(?:\w+:)?(\w+)>")


def complete(app: Flask, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole document from what was written from the schemas. Leaves `written` alone."""
    theirs = {path: _detached(methods) for path, methods in protocols.PATHS.items()}
    document = {**written, "paths": {**_detached(written["paths"]), **theirs}}
    document["info"] = {**written["info"], "description": _ABOUT}
    document["tags"] = [*written["tags"], *protocols.TAGS]
    document["components"] = _components(written["components"])
    known, said = dict(_guards(app)), dict(_sentences())
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                _guarded(operation, known.get((method, path)))
                _exchanged(operation, methods.get("parameters", ()), EXCHANGES.get((method, path)), said)
    return document


def _detached(part: Any) -> Any:
    """Copy plain data."""
    if isinstance(part, Mapping):
        return {name: _detached(value) for name, value in part.items()}
    return [_detached(each) for each in part] if isinstance(part, list | tuple) else part


def _components(written: Mapping[str, Any]) -> dict[str, Any]:
    schemas = _detached({name: one for name, one in written["schemas"].items() if name != "PaginationMetadata"})
    for (schema, field), words in _NARROWER.items():
        schemas[schema]["properties"][field]["enum"] = list(words)
    scopes = {scope.value: SENTENCES[scope]["en"] for scope in SENTENCES}
    flow = {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": scopes}}
    any_other = {"description": "Any other problem", "content": _problem_content({})}
    return {
        **written,
        "schemas": {**schemas, "OAuthError": dict(protocols.ERROR)},
        "responses": {**written.get("responses", {}), "DEFAULT_ERROR": any_other},
        "securitySchemes": {"token": {"type": "oauth2", "flows": flow}},
    }


def _guards(app: Flask) -> Iterator[tuple[tuple[str, str], Guard | None]]:
    for rule, method, guard in guards(app):
        yield (method.lower(), _VARIABLE.sub(r"{\1}", rule.rule)), guard


def _guarded(operation: dict[str, Any], guard: Guard | None) -> None:
    match guard:
        case ClientOnly():
            operation["security"] = [{"token": [guard.scope.value]}]
        case Anyone():
            operation["security"] = []
        case ByProtocol():
            operation["security"] = []
            oauth = guard.text.startswith("RFC 7523")
            operation["x-authentication"] = f"private_key_jwt ({guard.text})" if oauth else guard.text
        case _:
            return


def _sentences() -> Iterator[tuple[str, str]]:
    """Yield each known code and what it means; the framework's own by their status phrase."""
    for status, code in CODES.items():
        yield code, f"{HTTPStatus(status).phrase}."
    for kind in STATUS:
        for each in _below(kind):
            yield str(getattr(each, "code", "")), (each.__doc__ or "").split("\n")[0]


def _below(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _below(each)


def status_of_code(code: str) -> frozenset[int]:
    """Return the statuses a code can come with; none for a code nobody answers with."""
    framework = {status for status, word in CODES.items() if word == code}
    named = (each for kind in STATUS for each in _below(kind) if getattr(each, "code", None) == code)
    return frozenset(framework | {status_of(each.__new__(each)) for each in named})


def _exchanged(operation: dict[str, Any], path: Any, found: Exchange | None, said: Mapping[str, str]) -> None:
    """Write one exchange into its operation, and a problem for each code of each status."""
    if found is None:
        return
    if found.more:
        operation["description"] = found.more
    _asked(operation, found)
    for parameter in (*operation.get("parameters", ()), *path):
        known = found.query if parameter["in"] == "query" else found.path
        if parameter["name"] in known:
            parameter["example"] = known[parameter["name"]]
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            _answered(response, found)
        elif status != "default":
            codes = _codes(int(status), found) + (_REPEATABLE.get(int(status), ()) if _repeatable(operation) else ())
            response["content"] = _problem_content({code: _problem(int(status), code, said) for code in codes})


def _repeatable(operation: Mapping[str, Any]) -> bool:
    return any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))


def _asked(operation: dict[str, Any], found: Exchange) -> None:
    if found.asked is None:
        return
    body = operation.setdefault(
        "requestBody", {"required": True, "content": {found.media: {"schema": {"type": "string"}}}}
    )
    body["content"][found.media]["example"] = found.asked


def _answered(response: dict[str, Any], found: Exchange) -> None:
    for media, content in response.get("content", {}).items():
        if media == "application/json" or isinstance(found.answer, str):
            content["example"] = found.answer


def _codes(status: int, found: Exchange) -> tuple[str, ...]:
    """404 has nothing usual where a door names its own; 403 and 422 are usual beside a door's own."""
    own = found.codes.get(status, ())
    usual = (USUAL[status],) if status in USUAL and not (own and status == HTTPStatus.NOT_FOUND) else ()
    return (*usual, *own)


def _problem(status: int, code: str, said: Mapping[str, str]) -> dict[str, Any]:
    value = {"type": f"urn:regard:problem:{code}", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    return {"summary": said.get(code, ""), "value": {**value, **_EXTRA.get(code, {})}}


def _problem_content(examples: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {PROBLEM: {"schema": schema, **({"examples": dict(examples)} if examples else {})}}
