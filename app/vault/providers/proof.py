"""A mark of our own on what a remote service wraps, so that a service which returns another key is found out at once.

HMAC-SHA256 under the wrapped key itself, of the root and the name: 32 bytes before the service's blob. The wrapped key
is 32 random bytes, so the mark tells nothing about it; two wraps of one key under one name carry the same mark.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from app.vault.errors import KeyDamaged
from app.vault.wrapping import KEY_BYTES, named, wipe

_BYTES: Final = sha256().digest_size


def marked(key: bytearray, root: str, name: bytes, blob: bytes) -> bytes:
    """Return mark | blob."""
    return _mark(key, root, name) + blob


def blob_of(wrapped: bytes, longest: int) -> bytes:
    """Return the service's blob; raises `KeyDamaged` when there is none, or more than `longest` bytes of it."""
    if not _BYTES < len(wrapped) <= _BYTES + longest:
        raise KeyDamaged
    return wrapped[_BYTES:]


def proven(key: bytearray, root: str, name: bytes, wrapped: bytes) -> bytearray:
    """Return `key` when it is the one that was wrapped; otherwise wipes it and raises `KeyDamaged`."""
    if len(key) != KEY_BYTES or not hmac.compare_digest(wrapped[:_BYTES], _mark(key, root, name)):
        wipe(key)
        raise KeyDamaged
    return key


def _mark(key: bytearray, root: str, name: bytes) -> bytes:
    return hmac.digest(key, named("regard.wrapped", root, name), "sha256")
