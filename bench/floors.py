"""The floors of introspection: what a server does that does next to nothing, as WSGI applications.

- `flask_post`: a Flask view that reads the form and writes a JSON of the same size; no look-up, nobody authenticated.
- `wsgi_lookup`: a bare callable that hashes the token and joins it to its consent in SQLite; nobody authenticated.
- `wsgi_checked`: the same, and the caller's `private_key_jwt` verified (one ES256 signature), its `jti` durably spent.

`REGARD_BENCH_DATABASE` names a copy of the records database.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import jwt
from flask import Flask, request

Start = Callable[..., Any]
_LOOK = """
SELECT t.client, t.party, t.audience, t.scopes, t.jkt, t.detail, t.issued_at, t.expires_at, t.revoked_at,
       t.consent_version = c.version AND c.state = 'active' AND c.valid_until > datetime('now')
FROM oauth_access_tokens t JOIN consents c ON c.id = t.consent WHERE t.digest = ?
"""
_local = threading.local()


def _connection() -> sqlite3.Connection:
    if not hasattr(_local, "connection"):
        _local.connection = sqlite3.connect(os.environ["REGARD_BENCH_DATABASE"], isolation_level=None, timeout=15)
        _local.connection.execute("PRAGMA synchronous=FULL")
    return _local.connection  # type: ignore[no-any-return]


def _look(token: str) -> bytes:
    found = _connection().execute(_LOOK, (hashlib.sha256(token.encode()).digest(),)).fetchall()
    if not found or found[0][8] is not None or not found[0][9]:
        return b'{"active": false}'
    client, party, audience, scopes, jkt, detail, issued, expires = found[0][:8]
    said = {"active": True, "client_id": client, "party": party, "aud": audience, "scope": scopes, "cnf": {"jkt": jkt}}
    said |= {"authorization_details": [json.loads(detail)], "iat": issued, "exp": expires}
    return json.dumps(said).encode()


def _form(environ: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())


def _answer(start: Start, body: bytes) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def wsgi_lookup(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    return _answer(start, _look(_form(environ)["token"][0]))


_key: list[Any] = []


def _caller() -> Any:
    if not _key:
        stored = _connection().execute("SELECT jwks FROM oauth_clients WHERE id = 'bench-holder'").fetchall()[0][0]
        _key.append(jwt.PyJWK(json.loads(stored)["keys"][0], "ES256").key)
    return _key[0]


def wsgi_checked(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    form = _form(environ)
    claims = jwt.PyJWS().decode_complete(form["client_assertion"][0], _caller(), algorithms=["ES256"])["payload"]
    said = json.loads(claims)
    digest = hashlib.sha256(said["jti"].encode()).digest()
    _connection().execute("INSERT INTO oauth_spent_ids (digest, until) VALUES (?, ?)", (digest, str(said["exp"])))
    return _answer(start, _look(form["token"][0]))


flask_post = Flask("floor")


@flask_post.post("/oauth/introspect")
def _post() -> Any:
    said = {"active": bool(request.form["token"]), "padding": "x" * 600}
    return flask_post.response_class(json.dumps(said), mimetype="application/json")
