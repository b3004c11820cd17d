"""DPoP proofs: making them (a component), checking them (a holder's gate, and the authority) (RFC 9449).

ES256 only, as everywhere in tokens.md. Remembering which `jti` was seen is the caller's: a component keeps them in
memory for the life of a proof, the authority keeps them in its database.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from .errors import BadProof

AHEAD = timedelta(seconds=30)
"""A clock up to 10 s ahead has to be accepted and over 60 s refused (FAPI 2.0 5.3.2.1); this is between the two."""
AGE = timedelta(seconds=60)
"""How old a proof may be."""
LONGEST = 8 * 1024
"""Characters; a longer proof is refused unread."""
_PUBLIC = frozenset({"kty", "crv", "x", "y", "kid", "use", "alg", "key_ops"})
_JTI = re.compile(r"[\x21-\x7e]{16,256}")
"""Long enough to be unique (RFC 9449 section 4.2), and nothing that a digest or a store could not take."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds: the key's thumbprint, and what the caller has to remember until `until`."""

    jkt: str
    jti: str
    until: datetime
    nonce: str | None


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> dict[str, str]:
    """Return the public half as a JWK with its four required members (RFC 7518 section 6.2.1)."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    numbers = public.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": b64url(numbers.x.to_bytes(32, "big")),
        "y": b64url(numbers.y.to_bytes(32, "big")),
    }


_REQUIRED = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x"), "oct": ("k", "kty")}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a JWK, base64url (RFC 7638); `KeyError` when a required member is missing."""
    members = {name: jwk[name] for name in _REQUIRED[jwk["kty"]]}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b64url(hashlib.sha256(canonical.encode()).digest())


def token_hash(access_token: str) -> str:
    """Return the `ath` of a token (RFC 9449 section 4.2)."""
    return b64url(hashlib.sha256(access_token.encode("ascii", "replace")).digest())


class Prover:
    """Makes proofs with one key; `clock` returns aware UTC."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, clock: Callable[[], datetime]) -> None:
        self._key = key
        self._clock = clock
        self._jwk = public_jwk(key)
        self.jkt = thumbprint(self._jwk)

    def prove(self, method: str, url: str, *, access_token: str | None = None, nonce: str | None = None) -> str:
        """Return the value of a `DPoP` header for one request."""
        claims: dict[str, object] = {
            "jti": secrets.token_urlsafe(24),
            "htm": method,
            "htu": _target(url),
            "iat": int(self._clock().timestamp()),
        }
        if access_token is not None:
            claims["ath"] = token_hash(access_token)
        if nonce is not None:
            claims["nonce"] = nonce
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": self._jwk})


def verify(proof: str, *, method: str, url: str, now: datetime, access_token: str | None = None) -> Proof:
    """Check a proof against the request it came with, all of RFC 9449 section 4.3 save replay and nonce.

    `access_token` is the token presented with it, if any. Raises `BadProof`.
    """
    if len(proof) > LONGEST:
        raise BadProof("too long")
    jwk, claims = _open(proof)
    _check_request(claims, method, url, access_token)
    issued = _moment(claims, now)
    nonce = claims.get("nonce")
    if nonce is not None and not isinstance(nonce, str):
        raise BadProof("nonce is not a string")
    return Proof(thumbprint(jwk), _jti(claims), issued + AGE + AHEAD, nonce)


def _open(proof: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        header = jwt.get_unverified_header(proof)
        jwk = _own_key(header)
        payload = jwt.PyJWS().decode_complete(proof, jwt.PyJWK(dict(jwk), "ES256").key, algorithms=["ES256"])["payload"]
        claims = json.loads(payload)
    except (jwt.PyJWTError, ValueError, KeyError, TypeError, RecursionError):
        raise BadProof("not a proof signed with its own ES256 key") from None
    if not isinstance(claims, dict):
        raise BadProof("no claims")
    return jwk, claims


def _own_key(header: Mapping[str, Any]) -> Mapping[str, Any]:
    if header.get("typ") != "dpop+jwt" or header.get("alg") != "ES256":
        raise BadProof("wrong typ or alg")
    jwk = header.get("jwk")
    if not isinstance(jwk, dict) or jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        raise BadProof("no P-256 key in the header")
    if not set(jwk) <= _PUBLIC:
        raise BadProof("the key in the header has members a public key has not")
    return jwk


def _check_request(claims: Mapping[str, Any], method: str, url: str, access_token: str | None) -> None:
    if claims.get("htm") != method:
        raise BadProof("htm is another method")
    stated = claims.get("htu")
    if not isinstance(stated, str) or _normal(stated) != _normal(url):
        raise BadProof("htu is another address")
    if access_token is not None and claims.get("ath") != token_hash(access_token):
        raise BadProof("ath is another token")


def _moment(claims: Mapping[str, Any], now: datetime) -> datetime:
    issued = claims.get("iat")
    if not isinstance(issued, int | float) or isinstance(issued, bool):
        raise BadProof("no iat")
    try:
        moment = datetime.fromtimestamp(issued, now.tzinfo)
    except (ValueError, OverflowError, OSError):
        raise BadProof("iat is no time") from None
    if moment > now + AHEAD:
        raise BadProof("iat is in the future")
    if moment < now - AGE:
        raise BadProof("stale")
    return moment


def _jti(claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise BadProof("no jti of 16 to 256 visible ASCII characters")
    return jti


def _target(url: str) -> str:
    """`htu` is the address without query and fragment (RFC 9449 section 4.2)."""
    return url.split("#", 1)[0].split("?", 1)[0]


def _normal(url: str) -> tuple[str, str, int | None, str]:
    """Scheme and host in lower case, default port dropped (RFC 3986 sections 6.2.2, 6.2.3)."""
    try:
        parts = urlsplit(_target(url))
        port = parts.port
    except ValueError:
        raise BadProof("htu is no address") from None
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme.lower(), (parts.hostname or "").lower(), None if port == default else port, parts.path or "/"
