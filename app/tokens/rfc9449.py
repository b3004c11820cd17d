"""DPoP on the server's side: proof, replay, nonce, binding (RFC 9449). The proof itself is read by `app.sdk.dpop`."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import Final

from app.sdk import dpop
from app.sdk.errors import BadProof
from app.tokens.errors import InvalidDpopProof, UseDpopNonce
from app.tokens.records import Replays

NONCE_LIFE: Final = timedelta(minutes=5)
_MAC_BYTES: Final = 16


class Nonces:
    """Server-chosen nonces (section 8) without a table: a time and its MAC under the server's key."""

    def __init__(self, key: bytes, *, required: bool) -> None:
        self._key = key
        self.required = required

    def fresh(self, now: datetime) -> str:
        """Return a nonce good for five minutes."""
        stamp = int(now.timestamp()).to_bytes(8, "big")
        return dpop.b64url(stamp + self._mac(stamp))

    def check(self, nonce: str | None, now: datetime) -> None:
        """Refuse a missing nonce where one is required, and any nonce that is not ours or too old."""
        if nonce is None and not self.required:
            return
        issued = self._issued(nonce or "")
        if issued is None or not now - NONCE_LIFE <= issued <= now + dpop.AHEAD:
            raise UseDpopNonce("use the nonce given")

    def _issued(self, nonce: str) -> datetime | None:
        try:
            raw = urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            return None
        stamp, mac = raw[:8], raw[8:]
        if len(stamp) != 8 or not hmac.compare_digest(mac, self._mac(stamp)):
            return None
        return datetime.fromtimestamp(int.from_bytes(stamp, "big"), UTC)

    def _mac(self, stamp: bytes) -> bytes:
        return hmac.new(self._key, b"dpop nonce" + stamp, hashlib.sha256).digest()[:_MAC_BYTES]


def check(
    proof: str | None, *, method: str, url: str, now: datetime, nonces: Nonces, access_token: str | None = None
) -> dpop.Proof:
    """Check a proof completely but for replay; the caller `spend`s it, once it knows that somebody stands behind it.

    Raises `InvalidDpopProof`, or `UseDpopNonce` for a proof that is good but for its nonce.
    """
    if not proof:
        raise InvalidDpopProof("a DPoP proof is required")
    try:
        good = dpop.verify(proof, method=method, url=url, now=now, access_token=access_token)
    except BadProof as fault:
        raise InvalidDpopProof(fault.reason) from None
    nonces.check(good.nonce, now)
    return good


def spend(proof: dpop.Proof, replays: Replays) -> None:
    """Spend the `jti` of a proof that holds; raises `InvalidDpopProof` when it was spent before."""
    if not replays.spend("dpop", proof.jkt, proof.jti, proof.until):
        raise InvalidDpopProof("jti was used before")
