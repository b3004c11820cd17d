"""Proof Key for Code Exchange, S256 alone (RFC 7636); `plain` does not exist here (RFC 9700 section 2.1.1)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from app.sdk.dpop import b64url
from app.tokens.errors import InvalidGrant, InvalidRequest

METHOD: Final = "S256"
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (section 4.2)."""
    return b64url(hashlib.sha256(verifier.encode("ascii")).digest())


def check_challenge(challenge: str | None, method: str | None) -> None:
    """Refuse a request without an S256 challenge of 43 characters: no downgrade (section 7.2)."""
    if method != METHOD or not challenge or not _CHALLENGE.fullmatch(challenge):
        raise InvalidRequest("a code_challenge with method S256 is required")


def check_verifier(verifier: str | None, challenge: str) -> None:
    """Refuse a verifier that does not hash to the challenge (section 4.6)."""
    if not verifier or not _VERIFIER.fullmatch(verifier):
        raise InvalidGrant("code_verifier is missing or malformed")
    if not hmac.compare_digest(challenge_of(verifier), challenge):
        raise InvalidGrant("code_verifier does not match")
