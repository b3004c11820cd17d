"""A component's line to the authority: its identity, its tokens, and the calls the other modules make.

`private_key_jwt` (RFC 7523) and DPoP (RFC 9449), ES256. Every failure is an `SdkError`: `Refused` when the authority
said no, `Unreachable` when nothing usable came back. Leaves out deciding anything: see `gate`.
"""

from __future__ import annotations

import json
import secrets
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from .claims import AggregationConsent, Presented
from .dpop import Prover, b64url, new_key, public_jwk, thumbprint
from .errors import Malformed, Refused, Unreachable
from .scopes import Scope, join, parse

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SECONDS: Final = 5.0
"""How long a call may take; after that the answer is no."""
_EARLY: Final = timedelta(seconds=20)
"""An own token this close to its end is replaced rather than presented."""
LONGEST_LEASE: Final = 60
"""Seconds (vault.md section 3)."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Token:
    """An access token of this component; `secret` shows in no repr."""

    secret: str = field(repr=False)
    expires_at: datetime
    scopes: frozenset[Scope]
    detail: AggregationConsent | None
    subject: str | None = None
    """What this component's own party calls the person; None for a token about nobody."""


@dataclass(frozen=True, slots=True)
class LeasedKey:
    """A data key on loan: 16-byte id, 32-byte key, how long from the asking on, how many messages it may seal."""

    key_id: bytes
    key: bytearray = field(repr=False)
    life: timedelta
    messages: int


def utc_now() -> datetime:
    """Return the time, aware UTC."""
    return datetime.now(UTC)


class Authority:
    """The authority as one component sees it. Safe to share between threads.

    `key` is the registered P-256 key; `issuer` an https address (plain http on the loopback only, `ValueError`
    otherwise); `resource` the address under which this component is an audience, if it holds data. `binding` is the
    P-256 key its tokens are bound to: a new one for each process, unless refresh tokens have to outlive it.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        resource: str | None = None,
        binding: ec.EllipticCurvePrivateKey | None = None,
        http: httpx.Client | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.issuer = _checked(issuer)
        self.client_id = client_id
        self.resource = resource
        self.clock = clock
        self._key = key
        self._kid = thumbprint(public_jwk(key))
        self._prover = Prover(binding or new_key(), clock)
        self._http = http or httpx.Client(timeout=SECONDS, follow_redirects=False)
        self._nonce: str | None = None
        self._own: dict[Scope, Token] = {}
        self._lock = threading.Lock()

    # --- tokens -------------------------------------------------------------------------------------------------

    def token(self, consent_id: str, resource: str, categories: Sequence[str] = ()) -> Token:
        """Get a token for one consent at one holder. Each one issued while the subject is away counts as a read."""
        detail = AggregationConsent(consent_id=consent_id, categories=frozenset(categories))
        details = json.dumps([detail.to_json()])
        return self._issue({"authorization_details": details, "resource": resource})

    def own_token(self, scope: Scope) -> Token:
        """Get this component's token for the authority's own doors; kept until shortly before its end."""
        with self._lock:
            kept = self._own.get(scope)
            if kept is None or kept.expires_at - _EARLY <= self.clock():
                kept = self._own[scope] = self._issue({"scope": join([scope])})
            return kept

    def introspect(self, secret: str) -> Presented | None:
        """Ask what a presented token is worth right now; None when it opens nothing (RFC 7662). Never cached."""
        return Presented.from_json(self.form("/oauth/introspect", {"token": secret}))

    def headers(self, token: Token, method: str, url: str) -> dict[str, str]:
        """Return the headers with which this component presents a token to a holder."""
        return {
            "Authorization": f"DPoP {token.secret}",
            "DPoP": self._prover.prove(method, url, access_token=token.secret),
        }

    def _issue(self, form: Mapping[str, str]) -> Token:
        asked = self.clock()
        return read_token(self.form("/oauth/token", {"grant_type": "client_credentials", **form}), asked)

    # --- the authority's own doors ------------------------------------------------------------------------------

    def lease(
        self,
        secret: str,
        handle: str,
        category: str,
        *,
        key_id: bytes | None = None,
        seconds: int = LONGEST_LEASE,
    ) -> LeasedKey:
        """Borrow the data key of one category for the subject of a presented token, whom this holder calls `handle`.

        `key_id` names an older key, found in a sealed record; without it the present one is lent. `seconds`: 1 to 60;
        an erasure waits for the longest lease that is out.
        """
        body = {"presented_token": secret, "handle": handle, "category": category, "seconds": seconds}
        if key_id is not None:
            body["key_id"] = b64url(key_id)
        asked = self.clock()
        answer = self.call("POST", "/api/v1/keys/lease", Scope.KEYS_LEASE, body)
        try:
            life = min(_life(answer, asked), seconds)  # whatever our clock makes of the end that was answered
            key = bytearray(_unb64(answer["key"]))
            return LeasedKey(_unb64(answer["key_id"]), key, timedelta(seconds=life), int(answer["messages"]))
        except (KeyError, TypeError, ValueError):
            raise Malformed("a lease answer lacks the key") from None

    def call(
        self, method: str, path: str, scope: Scope, body: Any = None, *, idempotency_key: str | None = None
    ) -> Any:
        """Call one of the authority's API doors as this component; return the JSON answered, None for none."""
        content = None if body is None else json.dumps(body).encode()
        return self.send(method, path, scope, content, "application/json", idempotency_key=idempotency_key)

    def send(
        self,
        method: str,
        path: str,
        scope: Scope,
        content: bytes | None,
        media_type: str,
        *,
        idempotency_key: str | None = None,
    ) -> Any:
        """Call an API door with raw bytes. A token ended early (a restart, a rotation) is replaced once."""
        extra = {"Content-Type": media_type} if content is not None else {}
        if idempotency_key is not None:
            extra["Idempotency-Key"] = idempotency_key
        token = self.own_token(scope)
        response = self._presenting(token, method, path, content, extra)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            with self._lock:
                self._own.pop(scope, None)
            response = self._presenting(self.own_token(scope), method, path, content, extra)
        return _answer(response)

    def _presenting(
        self, token: Token, method: str, path: str, content: bytes | None, extra: Mapping[str, str]
    ) -> httpx.Response:
        def headers() -> dict[str, str]:
            proof = self._prover.prove(method, self.issuer + path, access_token=token.secret, nonce=self._nonce)
            return {**extra, "Authorization": f"DPoP {token.secret}", "DPoP": proof}

        return self._exchange(method, path, headers, lambda: content)

    # --- the wire -----------------------------------------------------------------------------------------------

    def form(self, path: str, form: Mapping[str, str]) -> dict[str, Any]:
        """POST a form as this client; each try has a fresh assertion and a fresh proof. An empty answer is `{}`."""

        def headers() -> dict[str, str]:
            proof = self._prover.prove("POST", self.issuer + path, nonce=self._nonce)
            return {"Content-Type": "application/x-www-form-urlencoded", "DPoP": proof}

        def content() -> bytes:
            signed = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self._assertion()}
            return str(httpx.QueryParams({**form, **signed})).encode()

        response = self._exchange("POST", path, headers, content)
        if response.is_success and not response.content:
            return {}  # RFC 7009 section 2.2
        answer = _answer(response)
        if not isinstance(answer, dict):
            raise Malformed("the authority did not answer with an object")
        return answer

    def _exchange(
        self, method: str, path: str, headers: Callable[[], dict[str, str]], content: Callable[[], bytes | None]
    ) -> httpx.Response:
        """Send once, and once more if the authority wants its nonce in the proof (RFC 9449 section 8)."""
        response = self._once(method, path, headers(), content())
        nonce = response.headers.get("DPoP-Nonce")
        if nonce is None or nonce == self._nonce:
            return response
        self._nonce = nonce
        if response.status_code not in (httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED):
            return response
        return self._once(method, path, headers(), content())

    def _once(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Response:
        try:
            return self._http.request(method, self.issuer + path, headers=headers, content=content)
        except httpx.HTTPError:
            raise Unreachable("the authority did not answer") from None

    def _assertion(self) -> str:
        now = int(self.clock().timestamp())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "jti": secrets.token_urlsafe(24),
            "iat": now,
            "exp": now + 60,
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._kid})


def read_token(answer: Mapping[str, Any], asked: datetime) -> Token:
    """Read the answer of a token endpoint (RFC 6749 section 5.1), asked for at `asked`. Raises `Malformed`."""
    try:
        details, subject = answer.get("authorization_details"), answer.get("sub")
        return Token(
            secret=str(answer["access_token"]),
            expires_at=asked + timedelta(seconds=int(answer["expires_in"])),
            scopes=parse(answer.get("scope", "")),
            detail=AggregationConsent.from_json(details[0]) if details else None,
            subject=subject if isinstance(subject, str) else None,
        )
    except (KeyError, TypeError, ValueError, IndexError):
        raise Malformed("a token answer lacks what RFC 6749 asks for") from None


def _life(answer: Mapping[str, Any], asked: datetime) -> float:
    """Seconds from the asking on: as the authority counts them, or, where it only names the end, by our own clock."""
    if "expires_in" in answer:
        return float(int(answer["expires_in"]))
    return (datetime.fromisoformat(answer["expires_at"]) - asked).total_seconds()


def path_segment(text: str) -> str:
    """Return an identifier safe to stand in a path."""
    return quote(text, safe="")


def _checked(issuer: str) -> str:
    parts = urlsplit(issuer)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("the issuer must be an https address")
    return issuer.rstrip("/")


def _unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _answer(response: httpx.Response) -> Any:
    """Return the JSON of a good answer. Raises `Unreachable` for 5xx and 429, `Refused` for the other refusals."""
    status = response.status_code
    if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
        raise Unreachable(f"the authority answered {status}")
    if status == httpx.codes.NO_CONTENT:
        return None
    try:
        body = response.json()
    except ValueError:
        body = None
    if status >= 300:
        raise Refused(status, _code(body), _fields(body), _reason(body))
    if body is None:
        raise Malformed("the authority did not answer with JSON")
    return body


def _code(body: object) -> str:
    """The stable code of an answer: RFC 9457 `code`, else RFC 6749 `error`."""
    said = body if isinstance(body, dict) else {}
    code = said.get("code", said.get("error"))
    return code if isinstance(code, str) else "refused"


_DENIED = "refused: "


def _reason(body: object) -> str | None:
    """Why the decision was no: RFC 9457 `reason`, else what follows `refused:` in RFC 6749 `error_description`."""
    said = body if isinstance(body, dict) else {}
    reason, description = said.get("reason"), said.get("error_description")
    if isinstance(reason, str):
        return reason
    denied = isinstance(description, str) and description.startswith(_DENIED)
    return str(description).removeprefix(_DENIED) if denied else None


def _fields(body: object) -> tuple[str, ...]:
    """The members of what was sent that do not fit, where the answer names them."""
    named = body.get("fields") if isinstance(body, dict) else None
    return tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else ()
