"""`private_key_jwt`: a client proves who it is with a signed assertion (RFC 7523 section 3, FAPI 2.0 5.3.2.1).

ES256 alone, whatever the assertion's header wishes; the key is chosen by `kid` among the client's registered ones;
the audience is exactly the issuer, as one string, so that an assertion meant for another server is worth nothing here.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import jwt

from app.tokens.errors import InvalidClient
from app.tokens.records import Client

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AHEAD: Final = timedelta(seconds=30)
"""Up to 10 s ahead has to be accepted and over 60 s refused (FAPI 2.0 5.3.2.1); this is between the two."""
LONGEST_LIFE: Final = timedelta(minutes=5)
LONGEST: Final = 8 * 1024
_NAME: Final = re.compile(r"[\x21-\x7e]{1,64}")
"""What an id of a client can look like: nothing else is looked up."""
_JTI: Final = re.compile(r"[\x21-\x7e]{16,256}")
"""Nothing that a digest or a store could not take."""
_SIGNATURES: Final = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion that holds; the caller still has to spend its `jti`."""

    client: str
    jti: str
    until: datetime


def client_named(assertion: str) -> str:
    """Return the client id an assertion claims, unverified: only good for looking up whose keys to verify with."""
    if len(assertion) > LONGEST:
        raise InvalidClient("client assertion too long")
    parts = assertion.split(".")
    if len(parts) != 3:
        raise InvalidClient("malformed client assertion")
    subject = _read(parts[1]).get("sub")
    if not isinstance(subject, str) or not _NAME.fullmatch(subject):
        raise InvalidClient("malformed client assertion")
    return subject


def _read(part: str) -> Mapping[str, Any]:
    """Read one part of a compact JWS without believing it."""
    try:
        found = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise InvalidClient("malformed client assertion") from None
    if not isinstance(found, dict):
        raise InvalidClient("malformed client assertion")
    return found


def verify(assertion: str, client: Client, *, issuer: str, now: datetime) -> Assertion:
    """Check signature, names, audience and clock of an assertion; raises `InvalidClient`."""
    claims = _signed(assertion, client)
    if claims.get("iss") != client.id or claims.get("sub") != client.id:
        raise InvalidClient("iss and sub must both be the client")
    if claims.get("aud") != issuer:
        raise InvalidClient("aud must be exactly the issuer")
    expires = _check_times(claims, now)
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise InvalidClient("jti of 16 to 256 visible ASCII characters required")
    return Assertion(client.id, jti, expires)


def _signed(assertion: str, client: Client) -> Mapping[str, Any]:
    try:
        key = _key(_read(assertion.partition(".")[0]).get("kid"), client)
        # PyJWS checks header and signature only: the clock is ours (injected), not PyJWT's.
        payload = _SIGNATURES.decode_complete(assertion, key, algorithms=["ES256"])["payload"]
        claims = json.loads(payload)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidClient("the assertion is not signed with a registered ES256 key") from None
    if not isinstance(claims, dict):
        raise InvalidClient("malformed client assertion")
    return claims


def _key(kid: object, client: Client) -> Any:
    for jwk in client.jwks.get("keys", ()):
        if isinstance(kid, str) and jwk.get("kid") == kid:
            return _public(*(jwk.get(name) for name in ("kty", "crv", "x", "y")))
    raise InvalidClient("kid must name a registered key")


@lru_cache(maxsize=4096)
def _public(kty: str, crv: str, x: str, y: str) -> Any:
    """Return the key these members write; remembered, since checking a point costs more than looking it up."""
    return jwt.PyJWK({"kty": kty, "crv": crv, "x": x, "y": y}, "ES256").key


def _check_times(claims: Mapping[str, Any], now: datetime) -> datetime:
    expires = _moment(claims.get("exp"), now)
    if not now < expires <= now + LONGEST_LIFE + AHEAD:
        raise InvalidClient("exp must lie within the next five minutes")
    for name in ("iat", "nbf"):
        if name in claims and _moment(claims[name], now) > now + AHEAD:
            raise InvalidClient(f"{name} is in the future")
    return expires


def _moment(value: object, now: datetime) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidClient("exp, iat and nbf are numbers of seconds")
    try:
        return datetime.fromtimestamp(value, now.tzinfo)
    except (ValueError, OverflowError, OSError):
        raise InvalidClient("exp, iat and nbf are numbers of seconds") from None
