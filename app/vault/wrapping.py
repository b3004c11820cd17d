"""Wrapping one key under another: AES-256-GCM, the wrapped key's whole name as associated data.

A wrapped key is nonce 12 | ciphertext 32 | tag 16 = 60 bytes. Naming what is wrapped stops a wrapped key from being
moved to another row. Keys are bytearrays and are overwritten, best effort: the library and Python may keep copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.vault.errors import KeyDamaged
from app.vault.ports import DataKey, SubjectKey

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
WRAPPED_BYTES: Final = 60

Random = Callable[[int], bytes]


def named(*parts: str | bytes | int) -> bytes:
    """Return an unambiguous name: each part length-prefixed."""
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join([len(part).to_bytes(4, "big") + part for part in raw])


def fresh(random: Random) -> bytearray:
    """Return a new random 32-byte key."""
    return bytearray(random(KEY_BYTES))


def wipe(*keys: bytearray) -> None:
    """Overwrite keys in memory."""
    for key in keys:
        key[:] = bytes(len(key))


class Wrapper:
    """Wraps and unwraps under one key, made ready once."""

    __slots__ = ("_aead", "_random")

    def __init__(self, key: bytearray, random: Random) -> None:
        self._aead = AESGCM(key)
        self._random = random

    def __repr__(self) -> str:
        return "Wrapper(...)"

    def wrap(self, key: bytearray, name: bytes) -> bytes:
        """Return the 60-byte wrapped form of `key`."""
        nonce = self._random(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, key, name)

    def unwrap(self, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `KeyDamaged` when it was made under another key or name."""
        key = bytearray(KEY_BYTES)
        if len(wrapped) != WRAPPED_BYTES:
            raise KeyDamaged
        try:
            self._aead.decrypt_into(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], name, key)
        except InvalidTag:
            raise KeyDamaged from None
        return key


def epoch_name(key_class: str, partition: int, generation: int) -> bytes:
    """The name of a partition's epoch key."""
    return named("regard.epoch", key_class, partition, generation)


def subject_key_name(key: SubjectKey) -> bytes:
    """The name of a subject key, whose it is in it: relabelled it does not open. The same through every re-wrap."""
    return named("regard.subject", key.id, key.controller, key.subject, key.key_class)


def data_key_name(key: DataKey, subject_key_id: bytes) -> bytes:
    """The name of a data key under its subject key, all that it is for in it: relabelled it does not open."""
    scope = key.scope
    whose = (scope.controller, scope.subject, scope.key_class)
    return named("regard.data", key.id, subject_key_id, *whose, scope.holder, scope.category, scope.basis, scope.life)


def index_key_name(key_id: bytes) -> bytes:
    """The name of a blind-index key."""
    return named("regard.index", key_id)
