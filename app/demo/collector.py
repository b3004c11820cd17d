"""The reference component: fetches a person's records at their bank and brings them to the safe (design, step 3).

It has no right of its own: for each fetch it asks the authority for a token of that one consent at that one holder
(`client_credentials`, `private_key_jwt`, DPoP), takes what the token names and nothing else, and presents it to the
safe. It keeps nothing. "The bank" is a folder of files, one for each connection; how a person connects their bank, with
strong authentication, is left out. Uses nothing of the project but the SDK.

    python -m app.demo.collector --issuer http://localhost:8000 --client-id collector --key collector.pem
        --safe http://127.0.0.1:8101 --bank var/bank --port 8102

    POST /fetch {"consent_id", "connection"}    a fresh token; fetch and store; answers how many of each category
    POST /read  {"consent_id", "category"}      presents the token it still has, a fresh one otherwise; answers how many

The collector does not know what the safe calls the person, and need not: the token says whose data it is about.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

import httpx
from flask import Flask, Response, jsonify, request
from regard_sdk import Authority, SdkError, Token
from regard_sdk.keyfile import read_key

from app.demo.serving import ComponentError, NotAsAgreed, answer_errors, problem, refusal_of, serve

BATCH: Final = 500
PATIENCE: Final = 30.0
"""Seconds the safe may take for a batch: it seals every record."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CATEGORY = re.compile(r"[a-z][a-z0-9_.]{0,63}")


class ConnectionUnknown(ComponentError):
    """No such connection to a bank."""

    code: ClassVar[str] = "connection_unknown"
    status = 404


class Turned(ComponentError):
    """The safe, or the authority, said no on the way; `stored` is what was brought to the safe before."""

    def __init__(self, status: int, code: str, reason: str | None, said_by: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.reason, self.said_by = status, reason, said_by
        self.its_code = code
        self.stored: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch did: records stored by category, and categories the bank has that the person did not agree to."""

    stored: Mapping[str, int]
    not_agreed: Sequence[str]


class Bank:
    """Connections as files `NAME.json`: `{"records": [{"category", "record_id", "content" or "document"}]}`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def records(self, connection: str) -> dict[str, list[dict[str, Any]]]:
        """Return a connection's records by category. Raises `ConnectionUnknown`."""
        if not _NAME.fullmatch(connection):
            raise ConnectionUnknown
        try:
            said = json.loads((self._folder / f"{connection}.json").read_bytes())
        except FileNotFoundError:
            raise ConnectionUnknown from None
        sorted_in: dict[str, list[dict[str, Any]]] = {}
        for record in said["records"]:
            sorted_in.setdefault(record.pop("category"), []).append(record)
        return sorted_in


class Collector:
    """Fetches and reads for one safe. Safe to share between threads."""

    def __init__(self, authority: Authority, safe: str, bank: Bank, http: httpx.Client) -> None:
        self._authority = authority
        self._safe = safe.rstrip("/")
        self._bank = bank
        self._http = http
        self._held: dict[str, Token] = {}
        self._lock = threading.Lock()

    def fetch(self, consent: str, connection: str) -> Fetched:
        """Fetch all that was agreed to and bring it to the safe. Raises `Turned`, `ConnectionUnknown`."""
        found, token = self._bank.records(connection), self._fresh(consent)
        agreed = token.detail.categories if token.detail is not None else frozenset()
        stored: Counter[str] = Counter()
        try:
            for category in sorted(found.keys() & agreed):
                for batch in _batches(found[category]):
                    stored[category] += self._present(token, "POST", category, {"records": batch})["stored"]
        except Turned as turned:
            turned.stored = stored
            raise
        return Fetched(stored, sorted(found.keys() - agreed))

    def read(self, consent: str, category: str) -> int:
        """Read one category at the safe and return how many records it has. Raises `Turned`."""
        with self._lock:
            token = self._held.get(consent)
        if token is None or token.expires_at <= self._authority.clock():
            token = self._fresh(consent)
        return len(self._present(token, "GET", category)["records"])

    def _fresh(self, consent: str) -> Token:
        """Each token issued while the person is away counts as a read (tokens.md section 3)."""
        try:
            token = self._authority.token(consent, self._safe)
        except SdkError as fault:
            raise Turned(*refusal_of(fault), said_by="authority") from None
        with self._lock:
            self._held[consent] = token
        return token

    def _present(self, token: Token, method: str, category: str, body: Mapping[str, Any] | None = None) -> Any:
        purpose = token.detail.purpose if token.detail is not None else None
        url = f"{self._safe}/records/subject/{category}?{urlencode({'purpose': purpose or ''})}"
        headers = self._authority.headers(token, method, url)
        try:
            response = self._http.request(method, url, headers=headers, json=body)
        except httpx.HTTPError:
            raise Turned(503, "safe_unreachable", None, "safe") from None
        said = _json(response)
        if not response.is_success:
            raise Turned(response.status_code, said.get("code", "refused"), said.get("reason"), "safe")
        return said


def _json(response: httpx.Response) -> dict[str, Any]:
    """Return the object answered. Raises `Turned` for anything else: half an answer is none."""
    try:
        said = response.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Turned(503, "safe_did_not_answer", None, "safe")
    return said


def _batches(records: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]


def create_app(collector: Collector) -> Flask:
    """Return the collector's doors: for its operator, on the loopback."""
    app = Flask("collector")
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024
    answer_errors(app)

    @app.post("/fetch")
    def fetch() -> Response:
        """Fetch one connection under one consent."""
        done = collector.fetch(_said("consent_id", _NAME), _said("connection", _NAME))
        return jsonify(stored=done.stored, not_agreed=done.not_agreed)

    @app.post("/read")
    def read() -> Response:
        """Read one category under one consent."""
        return jsonify(records=collector.read(_said("consent_id", _NAME), _said("category", _CATEGORY)))

    @app.errorhandler(Turned)
    def turned(said: Turned) -> Response:
        """Pass on who said no, and why."""
        return problem(said.status, said.its_code, said.reason, said_by=said.said_by, stored=said.stored)

    @app.get("/health")
    def health() -> Response:
        """Say that the collector is there."""
        return jsonify(status="ok")

    return app


def _said(name: str, shape: re.Pattern[str]) -> str:
    body = request.get_json(silent=True)
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise NotAsAgreed
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the collector until it is told to stop."""
    said = _arguments(arguments)
    authority = Authority(said.issuer, said.client_id, read_key(said.key))
    http = httpx.Client(timeout=PATIENCE, follow_redirects=False)
    print(f"the collector listens on http://{said.host}:{said.port}", flush=True)
    serve(create_app(Collector(authority, said.safe, Bank(said.bank), http)), said.host, said.port, http.close)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    reader = argparse.ArgumentParser(prog="python -m app.demo.collector", description="The reference component.")
    reader.add_argument("--issuer", required=True, help="address of the authority")
    reader.add_argument("--client-id", required=True)
    reader.add_argument("--key", required=True, type=Path, help="its registered key, a PEM file of mode 0600")
    reader.add_argument("--safe", required=True, help="address of the safe")
    reader.add_argument("--bank", required=True, type=Path, help="folder of connections")
    reader.add_argument("--host", default="127.0.0.1")
    reader.add_argument("--port", required=True, type=int)
    return reader.parse_args(arguments)


if __name__ == "__main__":
    main()
