"""Secrets: 256 random bits, of which only the SHA-256 is kept (tokens.md section 1).

A plain hash is enough, and a slow one useless: 256 random bits cannot be guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from app.sdk.dpop import b64url

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh secret: the text goes to its holder once, the digest is stored."""

    text: str = field(repr=False)
    digest: bytes


def mint(prefix: str, random: Callable[[int], bytes]) -> Minted:
    """Mint `prefix` + 43 base64url characters; the prefix lets secret scanners find a leaked one."""
    text = prefix + b64url(random(SECRET_BYTES))
    return Minted(text, digest(text))


def digest(text: str) -> bytes:
    """Return the 32 bytes under which a presented secret is looked up."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
