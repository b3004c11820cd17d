"""ES256 signing keys: one active, one next, some retiring (tokens.md section 5; RFC 7515, 7517).

The next key is published at least twice the cache time of the key set before it signs, so that nobody meets a `kid`
they cannot look up; a retiring key stays published until the longest thing it signed has ended. Private keys rest
sealed; sealing and opening are handed in. Leaves out who may rotate and when: a command and a schedule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from app.sdk.dpop import new_key, public_jwk, thumbprint
from app.tokens.errors import NoSigningKey, TokenError
from app.tokens.records import KeyState, SigningKeyRows, StoredKey

CACHE: Final = timedelta(minutes=5)
"""How long a reader may cache the key set; said in `Cache-Control`."""
ALGORITHM: Final = "ES256"
_PUBLISHED = (KeyState.ACTIVE, KeyState.NEXT, KeyState.RETIRING)


class TooSoon(TokenError):
    """The next key has not been published for long enough to sign."""

    code = "signing_key_too_soon"
    status = 409


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did, by key id: for the ledger."""

    activated: str
    published: str
    retiring: str | None


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The signing keys over one unit of work's rows. `longest` is how long the longest-lived signed thing lasts."""

    rows: SigningKeyRows
    seal: Callable[[bytes], bytes]
    open: Callable[[bytes], bytes]
    longest: timedelta

    def prepare(self, now: datetime) -> None:
        """Make the first active key and the first next key where there are none; does nothing otherwise."""
        states = {key.state for key in self.rows.all()}
        for state in (KeyState.ACTIVE, KeyState.NEXT):
            if state not in states:
                self.rows.put(self._fresh(state, now))

    def rotate(self, now: datetime, *, compromised: bool = False) -> Rotation:
        """Let the next key sign, retire the active one, publish a new next one.

        Raises `TooSoon` before the next key was published for twice the cache time. `compromised` goes ahead at once
        and withdraws the old key from the set, so that nothing it signed is believed any more.
        """
        active, coming = self._one(KeyState.ACTIVE), self._one(KeyState.NEXT)
        if not compromised and now < coming.since + 2 * CACHE:
            raise TooSoon("the next key was not published for long enough")
        after = KeyState.RETIRED if compromised else KeyState.RETIRING
        sealed = b"" if compromised else active.sealed
        fresh = self._fresh(KeyState.NEXT, now)
        self.rows.put(replace(active, state=after, since=now, sealed=sealed))
        self.rows.put(replace(coming, state=KeyState.ACTIVE, since=now))
        self.rows.put(fresh)
        return Rotation(coming.kid, fresh.kid, None if compromised else active.kid)

    def retire(self, now: datetime) -> list[str]:
        """Take retiring keys out of the set once the longest-lived thing they signed has ended; return their ids."""
        done = [k for k in self.rows.all() if k.state is KeyState.RETIRING and now >= k.since + self.longest]
        for key in done:
            self.rows.put(replace(key, state=KeyState.RETIRED, since=now, sealed=b""))
        return [key.kid for key in done]

    def sign(self, claims: Mapping[str, Any], *, typ: str) -> str:
        """Return a compact JWS over the claims, with `typ`, `alg` ES256 and the active key's `kid`."""
        active = self._one(KeyState.ACTIVE)
        key = load_der_private_key(self.open(active.sealed), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise NoSigningKey("the active key is not an EC key")
        payload = json.dumps(claims, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        return jwt.PyJWS().encode(payload, key, ALGORITHM, headers={"typ": typ, "kid": active.kid})

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public key set (RFC 7517 section 5), the active key first."""
        shown = sorted((k for k in self.rows.all() if k.state in _PUBLISHED), key=lambda k: _PUBLISHED.index(k.state))
        return {"keys": [{**k.public, "kid": k.kid, "use": "sig", "alg": ALGORITHM} for k in shown]}

    def _one(self, state: KeyState) -> StoredKey:
        for key in self.rows.all():
            if key.state is state:
                return key
        raise NoSigningKey(f"no signing key is {state}")

    def _fresh(self, state: KeyState, now: datetime) -> StoredKey:
        key = new_key()
        public = public_jwk(key)
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return StoredKey(thumbprint(public), state, public, self.seal(private), now, now)


def verify(signed: str, jwks: Mapping[str, Any], *, typ: str) -> Mapping[str, Any]:
    """Check something `sign` made against a key set; return its claims; raises `jwt.PyJWTError`."""
    header = jwt.get_unverified_header(signed)
    if header.get("typ") != typ:
        raise jwt.InvalidTokenError("wrong typ")
    for jwk in jwks["keys"]:
        if jwk["kid"] == header.get("kid"):
            payload = jwt.PyJWS().decode_complete(signed, jwt.PyJWK(jwk, ALGORITHM).key, algorithms=[ALGORITHM])[
                "payload"
            ]
            claims: Mapping[str, Any] = json.loads(payload)
            return claims
    raise jwt.InvalidTokenError("unknown kid")
