"""The fast lane: introspection as a bare WSGI callable in front of the Flask application (tokens.md section 7).

The Flask door stays canonical and complete. The lane knows one request by heart: a small form of exactly a token and a
`private_key_jwt` assertion, without cookie, proof or any other header it has not learnt; it answers that one where
everything is in order, active or not, by the same checks: `rfc7523.verify`, `standing`, the law's judge. Whatever else
comes, and every refusal, goes to the Flask door untouched, before anything was written.

Leaves out every other door, and callers with a token of their own (their proof's checks are the full door's).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from app.http.errors import Unavailable
from app.http.headers import constant_headers
from app.http.oauth.introspected import INACTIVE, described
from app.http.oauth.services import Joined, OAuthServices
from app.http.oauth.validity import live_client, standing
from app.tokens import rfc7523
from app.tokens.errors import TokenError
from app.tokens.records import Client
from consent.errors import ConsentError
from consent.vocabulary import PairwiseHandle

Environ = dict[str, Any]
Start = Callable[..., Any]
Wsgi = Callable[[Environ, Start], Iterable[bytes]]
Answered = Callable[[str, str, int], None]

PATH: Final = "/oauth/introspect"
_FORM: Final = "application/x-www-form-urlencoded"
_MOST_BYTES: Final = 12 * 1024
_FIELDS: Final = frozenset({"token", "client_assertion", "client_assertion_type"})
_LEARNT: Final = frozenset(
    f"HTTP_{name}"
    for name in (
        *("HOST", "USER_AGENT", "ACCEPT", "ACCEPT_ENCODING", "ACCEPT_LANGUAGE", "CONNECTION", "KEEP_ALIVE", "PRIORITY"),
        *("FORWARDED", "VIA", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PORT", "X_FORWARDED_PROTO"),
        *("X_REAL_IP", "X_REQUEST_ID", "TRACEPARENT", "TRACESTATE"),
    )
)
"""Headers that change nothing in the answer; any other sends the request to the full door."""
_ACCEPTED: Final = frozenset({"*/*", "application/json"})
"""Anything else may ask for a signed answer (RFC 9701)."""


class Looked(Joined, Protocol):
    """What one look at the records says of a token and of the component that asks about it."""

    @property
    def caller(self) -> Client: ...
    @property
    def handle(self) -> PairwiseHandle | None:
        """What the caller's party calls the subject; None as long as it never asked."""
        ...

    @property
    def complicated(self) -> bool:
        """Whether more bears on the subject than one look shows."""
        ...


class HotReads(Protocol):
    """The lane's way to the records. Both raise `Unavailable` when they do not answer."""

    def look(self, caller: str, secret: str) -> Looked | None:
        """Return what is known of a token now; None when there is no such caller."""
        ...

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        """Spend an id, durably; False when it was spent before."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


class FastLane:
    """Answers what it knows by heart; hands everything else to `beyond`."""

    def __init__(self, beyond: Wsgi, services: OAuthServices, reads: HotReads, answered: Answered) -> None:
        """`answered` is told of each request the lane serves itself: route, method, status."""
        self._answered = answered
        self._beyond = beyond
        self._services = services
        self._reads = reads
        self._headers = [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("Pragma", "no-cache"),
            *constant_headers(services.issuer),
        ]

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        if environ["PATH_INFO"] != PATH or not _known_by_heart(environ):
            return self._beyond(environ, start)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        said = self._introspect(_form(body))
        if said is None:
            environ["wsgi.input"] = BytesIO(body)
            return self._beyond(environ, start)
        answer = json.dumps(said).encode()
        self._answered(PATH, "POST", 200)
        start("200 OK", [*self._headers, ("Content-Length", str(len(answer)))])
        return [answer]

    def close(self) -> None:
        """Let go of the lane's own connections; the doors beyond keep theirs."""
        self._reads.close()

    def _introspect(self, form: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Return the answer; None for the full door, which then says why."""
        if form.keys() != _FIELDS or form["client_assertion_type"] != rfc7523.ASSERTION_TYPE:
            return None
        try:
            return self._answer(form["client_assertion"], form["token"])
        except (TokenError, ConsentError, Unavailable):
            return None

    def _answer(self, assertion: str, secret: str) -> Mapping[str, Any] | None:
        caller = rfc7523.client_named(assertion)
        looked = self._reads.look(caller, secret)
        if looked is None or looked.complicated or live_client(self._services, looked, caller) is None:
            return None
        proven = rfc7523.verify(assertion, looked.caller, issuer=self._services.issuer, now=self._services.clock.now())
        said = self._described(looked, secret)
        # last, because what is spent here cannot be given back to the full door
        if said is None or not self._reads.spend("assertion", proven.client, proven.jti, proven.until):
            return None
        return said

    def _described(self, looked: Looked, secret: str) -> Mapping[str, Any] | None:
        audience, party = looked.caller.resource, looked.caller.party
        found = standing(self._services, looked, secret, audience, party) if audience is not None else None
        if found is None:
            return INACTIVE
        if found.consent is not None and looked.handle is None:
            return None  # the first time a party asks, the full door makes its handle
        return described(found, self._services.issuer, looked.handle)


def _known_by_heart(environ: Environ) -> bool:
    """Whether the request's envelope is one the lane has learnt; says nothing of its content."""
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ.get("CONTENT_TYPE") == _FORM
        and not environ.get("QUERY_STRING")
        and not environ.get("SCRIPT_NAME")
        and environ.get("HTTP_ACCEPT", "*/*") in _ACCEPTED
        and _small(environ.get("CONTENT_LENGTH", ""))
        and all(name in _LEARNT for name in environ if name.startswith("HTTP_"))
    )


def _small(length: str) -> bool:
    return length.isascii() and length.isdecimal() and len(length) <= 5 and int(length) <= _MOST_BYTES


def _form(body: bytes) -> dict[str, str]:
    """Read a form of printable ASCII values, each name once; whatever is anything else reads as no form at all."""
    form: dict[str, str] = {}
    for pair in body.split(b"&"):
        name, _, value = pair.partition(b"=")
        plain = unquote_to_bytes(value) if b"%" in value else value
        said, known = plain.decode("latin-1"), name.decode("latin-1")
        if b"+" in value or not (said.isascii() and said.isprintable()) or not said or known in form:
            return {}
        form[known] = said
    return form
